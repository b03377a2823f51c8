/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/load.h"

static enum err load(const struct settings *o, bool is_serving, struct ruleset **out, char *why,
                     size_t why_len)
{
    const struct enc_options enc = {.is_reload = o->encryption_provider_config_automatic_reload,
                                    .is_serving = is_serving};
    const struct key_rules_opts keys = {.etcd_prefix = o->etcd_prefix,
                                        .resource_prefixes = o->resource_prefixes,
                                        .resource_prefix_count = o->resource_prefix_count,
                                        .protect_prefixes = o->protect_prefixes,
                                        .protect_prefix_count = o->protect_prefix_count};
    const struct ruleset_opts set = {.allow_identity_writes = o->allow_identity_writes,
                                     .allow_kms_v1_writes = o->allow_kms_v1_writes,
                                     .kms_v1_cbc_reads = o->kms_v1_cbc_reads};
    struct enc_config *config;
    struct key_rules *rules;
    enum err e;

    TRY(enc_config_load(o->encryption_provider_config, &enc, &config, why, why_len));
    e = key_rules_build(config, &keys, &rules, why, why_len);
    if (e != ERR_OK) {
        enc_config_free(config);
        return e;
    }
    return ruleset_new(config, rules, &set, out, why, why_len);
}

enum err policy_load(const struct settings *o, struct ruleset **out, char *why, size_t why_len)
{
    return load(o, false, out, why, why_len);
}

enum err policy_reload(const struct settings *o, struct ruleset **out, char *why, size_t why_len)
{
    return load(o, true, out, why, why_len);
}
