/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of an EncryptionConfiguration to its entries.
 *
 * Happy path: read a tree (yaml.c, json.c), check its shape (schema.c), check kube-apiserver's
 * rules (validate.c), then copy out what is known to be good; the tree and its secrets are wiped.
 *
 * Failure modes: each step reports all that it finds and ends the way there; a failed allocation
 * frees what was built. Nothing is half valid. */
#include "config/config_int.h"
#include "config/digest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/secret.h"

#define KMS_DEFAULT_TIMEOUT_MS 3000u
#define KMS_DEFAULT_CACHE_SIZE 1000

/* --- building, from a tree that is valid --- */

static enum err copy_text(const char *text, char **out)
{
    *out = strdup(text);
    return *out == NULL ? ERR_NOMEM : ERR_OK;
}

static uint64_t timeout_ms(const struct node *timeout)
{
    int64_t ns = 0;

    if (timeout == NULL || config__duration(timeout->text, &ns) != NULL)
        return KMS_DEFAULT_TIMEOUT_MS;
    return ((uint64_t)ns + 999999) / 1000000; /* rounded up: 1ns is legal and must not become 0 */
}

static enum err build_kms(const struct node *kms, struct enc_provider *p)
{
    const struct node *cache_size = config__get(kms, "cachesize");
    char scheme[CONFIG_SCHEME_MAX];

    p->kind = ENC_KMS;
    p->kms_version = strcmp(config__get_text(kms, "apiVersion"), "v2") == 0 ? 2 : 1;
    p->timeout_ms = timeout_ms(config__get(kms, "timeout"));
    if (p->kms_version == 1)
        p->cache_size = cache_size == NULL ? KMS_DEFAULT_CACHE_SIZE : (int)cache_size->number;
    TRY(copy_text(config__get_text(kms, "name"), &p->name));
    TRY(copy_text(config__get_text(kms, "endpoint"), &p->endpoint));
    p->socket_path = calloc(1, strlen(p->endpoint) + 1);
    if (p->socket_path == NULL)
        return ERR_NOMEM;
    return config__endpoint(p->endpoint, scheme, p->socket_path) == NULL ? ERR_OK : ERR_CONFIG;
}

static enum err build_key(const struct node *node, struct enc_key *key)
{
    const struct node *secret = config__get(node, "secret");
    size_t len;

    TRY(copy_text(config__get_text(node, "name"), &key->name));
    if (!config__base64(secret->text, secret->text_len, NULL, &len))
        return ERR_CONFIG;
    key->secret = secret_alloc(len);
    if (key->secret == NULL)
        return ERR_NOMEM;
    key->secret_len = len;
    return config__base64(secret->text, secret->text_len, key->secret, &len) ? ERR_OK : ERR_CONFIG;
}

static enum err build_local(const struct node *local, enum enc_provider_kind kind,
                            struct enc_provider *p)
{
    size_t count = config__get_count(local, "keys");

    p->kind = kind;
    p->keys = calloc(count, sizeof(*p->keys));
    if (p->keys == NULL)
        return ERR_NOMEM;
    p->key_count = count;
    for (size_t i = 0; i < count; i++)
        TRY(build_key(config__get(local, "keys")->items[i], &p->keys[i]));
    return ERR_OK;
}

static enum err build_provider(const struct node *node, struct enc_provider *p)
{
    static const struct {
        const char *name;
        enum enc_provider_kind kind;
    } locals[] = {{"aesgcm", ENC_AESGCM}, {"aescbc", ENC_AESCBC}, {"secretbox", ENC_SECRETBOX}};

    if (config__get(node, "kms") != NULL)
        return build_kms(config__get(node, "kms"), p);
    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (config__get(node, locals[i].name) != NULL)
            return build_local(config__get(node, locals[i].name), locals[i].kind, p);
    if (config__get(node, "identity") == NULL)
        return ERR_CONFIG;
    p->kind = ENC_IDENTITY;
    return ERR_OK;
}

static enum err build_entry(const struct node *node, struct enc_entry *entry)
{
    const struct node *names = config__get(node, "resources");
    const struct node *providers = config__get(node, "providers");

    entry->resources = calloc(names->count, sizeof(*entry->resources));
    entry->providers = calloc(providers->count, sizeof(*entry->providers));
    if (entry->resources == NULL || entry->providers == NULL)
        return ERR_NOMEM;
    entry->resource_count = names->count;
    entry->provider_count = providers->count;
    for (size_t i = 0; i < names->count; i++) {
        const struct node *name = names->items[i];

        TRY(copy_text(name->kind == NODE_STRING ? name->text : "", &entry->resources[i]));
    }
    for (size_t i = 0; i < providers->count; i++)
        TRY(build_provider(providers->items[i], &entry->providers[i]));
    return ERR_OK;
}

static enum err build(struct bytes text, const struct tree *t, struct enc_config **out)
{
    const struct node *entries = config__get(t->root, "resources");
    struct enc_config *c = calloc(1, sizeof(*c));
    enum err e;

    if (c == NULL)
        return ERR_NOMEM;
    c->has_more_documents = t->has_more;
    c->entries = calloc(entries->count, sizeof(*c->entries));
    if (c->entries == NULL) {
        free(c);
        return ERR_NOMEM;
    }
    c->entry_count = entries->count;
    e = digest_text(text, c->hash);
    for (size_t i = 0; i < entries->count && e == ERR_OK; i++)
        e = build_entry(entries->items[i], &c->entries[i]);
    if (e != ERR_OK) {
        enc_config_free(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

/* --- parsing --- */

static enum err check(const struct tree *t, const struct enc_options *o, struct report *r)
{
    if (t->root == NULL || t->root->kind == NODE_NULL) {
        config__report(r, "", "the encryption configuration is empty");
        return ERR_CONFIG;
    }
    config__check_schema(r, t->root);
    TRY(config__report_result(r));
    config__validate(r, t->root, o);
    return config__report_result(r);
}

enum err enc_config_parse(struct bytes text, const struct enc_options *o, struct enc_config **out,
                          char *why, size_t why_len)
{
    struct report r;
    struct tree t;
    enum err e;

    *out = NULL;
    config__report_init(&r, why, why_len);
    e = config__read(text, &t);
    if (e == ERR_CONFIG)
        config__report(&r, "", "couldn't get version/kind; parse error: %s", t.problem);
    if (e == ERR_OK)
        e = check(&t, o, &r);
    if (e == ERR_OK)
        e = build(text, &t, out);
    if (e != ERR_OK && r.count == 0)
        config__report(&r, "", "%s", err_reason(e));
    config__tree_fini(&t);
    return e;
}

static void free_provider(struct enc_provider *p)
{
    for (size_t i = 0; i < p->key_count; i++) {
        free(p->keys[i].name);
        secret_free(p->keys[i].secret, p->keys[i].secret_len);
    }
    free(p->keys);
    free(p->name);
    free(p->endpoint);
    free(p->socket_path);
}

void enc_config_free(struct enc_config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->entry_count; i++) {
        struct enc_entry *e = &c->entries[i];

        for (size_t k = 0; k < e->resource_count; k++)
            free(e->resources[k]);
        for (size_t k = 0; k < e->provider_count; k++)
            free_provider(&e->providers[k]);
        free(e->resources);
        free(e->providers);
    }
    free(c->entries);
    free(c);
}

enum err enc_config_load(const char *path, const struct enc_options *o, struct enc_config **out,
                         char *why, size_t why_len)
{
    char reason[128];
    uint8_t *text;
    size_t len;
    enum err e;

    *out = NULL;
    e = config__read_file(path, o->is_serving ? CONFIG_PIPES_REFUSED : CONFIG_PIPES_WAIT, &text,
                          &len, reason, sizeof(reason));
    if (e != ERR_OK) {
        snprintf(why, why_len, "encryption provider configuration file \"%s\" %s", path, reason);
        return e;
    }
    e = enc_config_parse(bytes_of(text, len), o, out, why, why_len);
    if (e == ERR_OK)
        (*out)->open_mode = file_open_mode(path);
    secret_wipe(text, len);
    free(text);
    return e;
}
