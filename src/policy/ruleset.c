/* SPDX-License-Identifier: Apache-2.0 */
/* How the parts of a rule set hang together:
 *
 *   the file's entries       entry 0: [kms a, identity]      entry 1: [aesgcm]
 *   providers                         kms a, identity,                aesgcm       all in one array
 *   lists, one a key rule    lists[i].v points to the providers of the rule's entries, in order
 *   rules (etcd/rules.h)     key prefix -> &lists[i], or NULL: not protected
 *   plugins                  one a KMS provider, whose slot is the index
 *
 * Failure modes: what would write plaintext or KMS v1 without the flag that allows it, or would
 * protect nothing, or has two KMS v1 plugins of one name in a list, is ERR_CONFIG; what was made
 * until then is dropped. */
#include "policy/ruleset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The provider's bytes before every stored value: "k8s:enc:kms:v2:NAME:", "k8s:enc:aesgcm:v1:". */
static enum err prefix_make(struct provider *p)
{
    const struct provider_traits *t = provider_traits(p);
    size_t n = strlen(ENVELOPE_MARK) + strlen(t->prefix) + strlen(p->name) + 2;
    char *text = malloc(n);

    if (text == NULL)
        return ERR_NOMEM;
    snprintf(text, n, "%s%s%s%s", ENVELOPE_MARK, t->prefix, p->name, t->is_kms ? ":" : "");
    p->prefix = bytes_str(text);
    return ERR_OK;
}

static enum err key_make(enum provider_kind kind, const struct enc_key *from, struct local_key *key)
{
    size_t n = strlen(from->name) + 2;
    char *text = malloc(n);

    if (text == NULL)
        return ERR_NOMEM;
    snprintf(text, n, "%s:", from->name);
    key->prefix = bytes_of(text, n - 1);
    return dek_new_local(kind, bytes_of(from->secret, from->secret_len), &key->dek);
}

/* The keys of a local provider, in file order. The secrets are copied into their DEKs. */
static enum err local_make(const struct enc_provider *from, struct provider *p, char *why,
                           size_t why_len)
{
    const struct provider_traits *t = provider_traits(p);
    struct local_key *keys = calloc(from->key_count + 1, sizeof *keys);

    if (keys == NULL)
        return ERR_NOMEM;
    p->keys = keys;
    TRY(prefix_make(p));
    for (size_t i = 0; i < from->key_count; i++) {
        enum err e = key_make(p->kind, &from->keys[i], &keys[p->key_count++]);

        if (e == ERR_BAD_DEK_SIZE)
            snprintf(why, why_len, "key %s of %s:%s has the wrong length", from->keys[i].name,
                     t->name, t->version);
        TRY(e);
    }
    return ERR_OK;
}

static enum err kms_make(struct ruleset *r, const struct enc_provider *from,
                         const struct ruleset_opts *o, struct provider *p)
{
    p->name = from->name;
    p->slot = (uint32_t)r->plugin_count;
    p->cbc_reads = provider_traits(p)->has_cbc_past && o->kms_v1_cbc_reads;
    p->cache_size = from->cache_size > 0 ? (uint32_t)from->cache_size : 0;
    TRY(prefix_make(p));
    r->plugins[r->plugin_count++] = (struct kms_plugin_opts){
        .provider = p, .endpoint = from->endpoint, .timeout_ms = from->timeout_ms};
    return ERR_OK;
}

/* The kind that the configuration means. */
static enum provider_kind kind_of(const struct enc_provider *from)
{
    switch (from->kind) {
    case ENC_IDENTITY:
        return PROVIDER_IDENTITY;
    case ENC_KMS:
        return from->kms_version == 1 ? PROVIDER_KMS_V1 : PROVIDER_KMS_V2;
    case ENC_AESGCM:
        return PROVIDER_AESGCM;
    case ENC_AESCBC:
        return PROVIDER_AESCBC;
    case ENC_SECRETBOX:
        return PROVIDER_SECRETBOX;
    default:
        return PROVIDER_NONE;
    }
}

static enum err provider_make(struct ruleset *r, const struct enc_provider *from,
                              const struct ruleset_opts *o, struct provider *p, char *why,
                              size_t why_len)
{
    const struct provider_traits *t = provider_kind_traits(kind_of(from));

    p->kind = t->kind;
    p->name = "";
    if (t->is_kms)
        return kms_make(r, from, o, p);
    if (t->local_key_min > 0)
        return local_make(from, p, why, why_len);
    if (t->is_identity)
        return ERR_OK;
    snprintf(why, why_len, "a provider of no kind");
    return ERR_CONFIG;
}

static enum err make_providers(struct ruleset *r, const struct ruleset_opts *o, char *why,
                               size_t why_len)
{
    size_t count = 0, at = 0;

    for (size_t i = 0; i < r->config->entry_count; i++)
        count += r->config->entries[i].provider_count;
    r->providers = calloc(count + 1, sizeof *r->providers);
    r->plugins = calloc(count + 1, sizeof *r->plugins);
    if (r->providers == NULL || r->plugins == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < r->config->entry_count; i++) {
        const struct enc_entry *e = &r->config->entries[i];

        for (size_t j = 0; j < e->provider_count; j++) {
            r->provider_count++; /* first, so that a half-made provider is dropped, too */
            TRY(provider_make(r, &e->providers[j], o, &r->providers[at++], why, why_len));
        }
    }
    return ERR_OK;
}

/* Providers of entry e begin at this index of r->providers. */
static size_t entry_base(const struct ruleset *r, size_t e)
{
    size_t base = 0;

    for (size_t i = 0; i < e; i++)
        base += r->config->entries[i].provider_count;
    return base;
}

/* A kms v1 value tells its plugin's name, and one plugin is asked for its key. kube-apiserver asks
 * all of that name; here the second one's values would seem to be lost. */
static enum err check_v1_names(const struct ruleset *r, const struct provider_list *list, char *why,
                               size_t why_len)
{
    for (uint32_t i = 1; i < list->count; i++)
        for (uint32_t k = 0; k < i; k++) {
            const struct provider *p = list->v[i], *q = list->v[k];

            if (!provider_traits(p)->has_dek_per_value || !provider_traits(q)->has_dek_per_value ||
                strcmp(p->name, q->name) != 0 ||
                strcmp(r->plugins[p->slot].endpoint, r->plugins[q->slot].endpoint) == 0)
                continue;
            snprintf(why, why_len,
                     "resource %s: two KMS v1 providers have the name %.100s and different "
                     "endpoints, and only the first would be asked for keys: leave the second "
                     "out, once kube-apiserver has rewritten what it sealed",
                     list->resource, p->name);
            return ERR_CONFIG;
        }
    return ERR_OK;
}

static enum err make_list(struct ruleset *r, const struct key_rule *rule,
                          struct provider_list *list, const struct ruleset_opts *o, char *why,
                          size_t why_len)
{
    const struct provider **v;
    bool has_sealing = false;
    uint32_t n = 0;

    for (size_t i = 0; i < rule->entry_count; i++)
        n += (uint32_t)r->config->entries[rule->entry_indexes[i]].provider_count;
    v = calloc(n + 1, sizeof *v);
    if (v == NULL)
        return ERR_NOMEM;
    list->v = v;
    list->resource = rule->resource;
    for (size_t i = 0; i < rule->entry_count; i++) {
        size_t e = rule->entry_indexes[i];

        for (size_t j = 0; j < r->config->entries[e].provider_count; j++) {
            v[list->count] = &r->providers[entry_base(r, e) + j];
            has_sealing |= !provider_traits(v[list->count])->is_identity;
            list->count++;
        }
    }
    if (!has_sealing) { /* identity alone excludes the resource */
        list->count = 0;
        return ERR_OK;
    }
    if (provider_traits(v[0])->is_identity && !o->allow_identity_writes) {
        snprintf(
            why, why_len,
            "resource %s: identity is first, so plaintext would be written; if that is meant (a "
            "migration away from encryption) give --allow-identity-writes",
            rule->resource);
        return ERR_CONFIG;
    }
    if (provider_traits(v[0])->has_dek_per_value && !o->allow_kms_v1_writes) {
        snprintf(
            why, why_len,
            "resource %s: KMS v1 is first, so it would seal new values, with a call of the "
            "plugin for each; it is deprecated: put a KMS v2 provider (apiVersion: v2; without "
            "apiVersion it is v1) before it, or give --allow-kms-v1-writes",
            rule->resource);
        return ERR_CONFIG;
    }
    TRY(check_v1_names(r, list, why, why_len));
    r->protected_count++;
    return ERR_OK;
}

static enum err make_rules(struct ruleset *r, const struct ruleset_opts *o, char *why,
                           size_t why_len)
{
    size_t count = r->key_rules->count;
    struct etcd_rule *rules = calloc(count + 1, sizeof *rules);
    enum err e = ERR_NOMEM;

    r->lists = calloc(count + 1, sizeof *r->lists);
    if (rules == NULL || r->lists == NULL)
        goto out;
    for (size_t i = 0; i < count; i++) {
        const struct key_rule *k = &r->key_rules->v[i];

        e = make_list(r, k, &r->lists[i], o, why, why_len);
        if (e != ERR_OK)
            goto out;
        rules[i] = (struct etcd_rule){.prefix = bytes_str(k->prefix),
                                      .is_dotless = k->kind == KEY_RULE_DOTLESS,
                                      .list = r->lists[i].count > 0 ? &r->lists[i] : NULL};
    }
    e = etcd_rules_new(rules, count, &r->rules);
out:
    free(rules);
    return e;
}

static bool has_identity_alone(const struct ruleset *r)
{
    for (size_t i = 0; i < r->provider_count; i++)
        if (!provider_traits(&r->providers[i])->is_identity)
            return false;
    return true;
}

/* Identity alone for every resource is the last step of a migration to plaintext. */
static enum err check_unprotected(const struct ruleset *r, const struct ruleset_opts *o, char *why,
                                  size_t why_len)
{
    if (!has_identity_alone(r)) {
        snprintf(why, why_len, "the encryption configuration protects nothing");
        return ERR_CONFIG;
    }
    if (o->allow_identity_writes)
        return ERR_OK;
    snprintf(why, why_len,
             "the encryption configuration protects nothing: it has identity alone, so plaintext "
             "would be written; if that is meant (the last step of a migration away from "
             "encryption) give --allow-identity-writes");
    return ERR_CONFIG;
}

enum err ruleset_new(struct enc_config *config, struct key_rules *key_rules,
                     const struct ruleset_opts *o, struct ruleset **out, char *why, size_t why_len)
{
    struct ruleset *r = calloc(1, sizeof *r);
    enum err e;

    if (r == NULL) {
        enc_config_free(config);
        key_rules_free(key_rules);
        return ERR_NOMEM;
    }
    refcount_init(&r->refs);
    r->config = config;
    r->key_rules = key_rules;
    snprintf(why, why_len, "out of memory");
    e = make_providers(r, o, why, why_len);
    if (e == ERR_OK)
        e = make_rules(r, o, why, why_len);
    if (e == ERR_OK && r->protected_count == 0)
        e = check_unprotected(r, o, why, why_len);
    if (e != ERR_OK) {
        ruleset_drop(r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

static void provider_fini(struct provider *p)
{
    for (uint32_t i = 0; i < p->key_count; i++) {
        free((void *)(uintptr_t)p->keys[i].prefix.p);
        dek_drop(p->keys[i].dek);
    }
    free((void *)(uintptr_t)p->keys);
    free((void *)(uintptr_t)p->prefix.p);
}

struct ruleset *ruleset_ref(struct ruleset *r)
{
    refcount_ref(&r->refs);
    return r;
}

void ruleset_drop(struct ruleset *r)
{
    if (r == NULL || !refcount_drop(&r->refs))
        return;
    if (r->rules != NULL)
        etcd_rules_free(r->rules);
    for (size_t i = 0; r->lists != NULL && i < r->key_rules->count; i++)
        free((void *)(uintptr_t)r->lists[i].v);
    free(r->lists);
    for (size_t i = 0; r->providers != NULL && i < r->provider_count; i++)
        provider_fini(&r->providers[i]);
    free(r->providers);
    free(r->plugins);
    key_rules_free(r->key_rules);
    enc_config_free(r->config);
    free(r);
}
