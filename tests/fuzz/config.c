/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: enc_config_parse (YAML, JSON, base64, validation), enc_config_select, key_rules_build.
 * What is refused says why; what is taken gives rules that protect every resource that it names.
 *
 * Input: options (1: kms v1 is allowed, 2: a reload), the text. */
#include "config/encryption.h"

#include <string.h>

#include "config/resources.h"
#include "fuzz.h"

static const char *const prefixes[] = {"/registry", "registry/", "/", "/a//b/../c"};

static void check_rules(const struct enc_config *c, const struct key_rules *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct key_rule *rule = &r->v[i];
        size_t n = strlen(rule->prefix);

        CHECK(n == 0 || (rule->prefix[0] == '/' && rule->prefix[n - 1] != '/'));
        CHECK(rule->entry_count == 0 || rule->resource[0] != '\0');
        for (size_t j = 0; j < rule->entry_count; j++) {
            CHECK(rule->entry_indexes[j] < c->entry_count);
            CHECK(j == 0 || rule->entry_indexes[j - 1] < rule->entry_indexes[j]);
        }
    }
}

/* A resource that an entry names is given that entry. */
static void check_select(const struct enc_config *c, size_t entry)
{
    size_t indexes[8];

    for (size_t i = 0; i < c->entries[entry].resource_count; i++) {
        const char *resource = c->entries[entry].resources[i];
        size_t n;

        if (strchr(resource, '*') != NULL)
            continue;
        n = enc_config_select(c, resource, indexes, ARRAY_LEN(indexes));
        CHECK(n > 0);
        for (size_t j = 0; j < n && j < ARRAY_LEN(indexes); j++)
            CHECK(indexes[j] < c->entry_count);
    }
}

static void build(const struct enc_config *c, const char *prefix)
{
    struct key_rules_opts o = {.etcd_prefix = prefix};
    struct key_rules *r = NULL;
    char why[256] = "";

    if (key_rules_build(c, &o, &r, why, sizeof why) != ERR_OK) {
        CHECK(why[0] != '\0');
        return;
    }
    check_rules(c, r);
    key_rules_free(r);
    fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t options = fuzz_u8(&in);
    struct enc_options o = {.is_reload = (options & 2) != 0};
    struct enc_config *c = NULL;
    char why[512] = "";

    (void)kit_get(0); /* for the memory of secrets */
    if (enc_config_parse(in, &o, &c, why, sizeof why) != ERR_OK) {
        CHECK(why[0] != '\0' && strlen(why) < sizeof why);
        return 0;
    }
    for (size_t i = 0; i < c->entry_count; i++)
        check_select(c, i);
    build(c, prefixes[options >> 2 & 3]);
    enc_config_free(c);
    return 0;
}
