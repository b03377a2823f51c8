/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ruleset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The provider's bytes before every stored value: "k8s:enc:kms:v2:NAME:". */
static enum err provider_prefix(const char *kind, const char *name, struct bytes *out)
{
    size_t n = strlen(ENVELOPE_MARK) + strlen(kind) + strlen(name) + 2;
    char *text = malloc(n);

    if (text == NULL)
        return ERR_NOMEM;
    snprintf(text, n, "%s%s%s:", ENVELOPE_MARK, kind, name);
    *out = bytes_of(text, n - 1);
    return ERR_OK;
}

static enum err provider_make(struct ruleset *r, const struct enc_provider *from,
                              struct provider *p, char *why, size_t why_len)
{
    static const char *const names[] = {"none", "identity", "kms", "aesgcm", "aescbc", "secretbox"};

    p->name = "";
    if (from->kind == ENC_IDENTITY) {
        p->kind = PROVIDER_IDENTITY;
        return ERR_OK;
    }
    if (from->kind != ENC_KMS || from->kms_version != 2) {
        snprintf(why, why_len, "provider %s%s is not supported yet: use kms with apiVersion v2",
                 names[from->kind], from->kind == ENC_KMS ? " v1" : "");
        return ERR_CONFIG;
    }
    p->kind = PROVIDER_KMS_V2;
    p->name = from->name;
    p->slot = (uint32_t)r->plugin_count;
    TRY(provider_prefix("kms:v2:", from->name, &p->prefix));
    r->plugins[r->plugin_count++] = (struct kms_plugin_opts){
        .provider = p, .endpoint = from->endpoint, .timeout_ms = from->timeout_ms};
    return ERR_OK;
}

static enum err make_providers(struct ruleset *r, char *why, size_t why_len)
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
            TRY(provider_make(r, &e->providers[j], &r->providers[at++], why, why_len));
            r->provider_count++;
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
            has_sealing |= v[list->count]->kind != PROVIDER_IDENTITY;
            list->count++;
        }
    }
    if (!has_sealing) { /* identity alone excludes the resource */
        list->count = 0;
        return ERR_OK;
    }
    if (v[0]->kind == PROVIDER_IDENTITY && !o->allow_identity_writes) {
        snprintf(
            why, why_len,
            "resource %s: identity is first, so plaintext would be written; if that is meant (a "
            "migration away from encryption) give --allow-identity-writes",
            rule->resource);
        return ERR_CONFIG;
    }
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
    e = make_providers(r, why, why_len);
    if (e == ERR_OK)
        e = make_rules(r, o, why, why_len);
    if (e == ERR_OK && r->protected_count == 0) {
        snprintf(why, why_len, "the encryption configuration protects nothing");
        e = ERR_CONFIG;
    }
    if (e != ERR_OK) {
        ruleset_drop(r);
        return e;
    }
    *out = r;
    return ERR_OK;
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
        free((void *)(uintptr_t)r->providers[i].prefix.p);
    free(r->providers);
    free(r->plugins);
    key_rules_free(r->key_rules);
    enc_config_free(r->config);
    free(r);
}
