/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>

#include "base/log.h"
#include "base/secret.h"
#include "proxy/server.h"

#define WHY_MAX 4096

static int refuse(int status, const char *why)
{
    fprintf(stderr, "etcd-envelope: %s\n", why);
    return status;
}

/* The rule set of the files as they are now. */
static enum err load_rules(const struct settings *o, struct ruleset **out, char *why,
                           size_t why_len)
{
    const struct enc_options enc = {.allow_kms_v1 = false,
                                    .is_reload = o->encryption_provider_config_automatic_reload};
    const struct key_rules_opts keys = {.etcd_prefix = o->etcd_prefix,
                                        .resource_prefixes = o->resource_prefixes,
                                        .resource_prefix_count = o->resource_prefix_count,
                                        .protect_prefixes = o->protect_prefixes,
                                        .protect_prefix_count = o->protect_prefix_count};
    const struct ruleset_opts set = {.allow_identity_writes = o->allow_identity_writes};
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

static int serve_with(const struct settings *o)
{
    char why[WHY_MAX] = "";
    struct ruleset *rules;
    int status;

    if (secret_init() != ERR_OK)
        return refuse(CLI_ERROR, "cannot lock memory for keys: raise RLIMIT_MEMLOCK (ulimit -l, "
                                 "LimitMEMLOCK=) to at least 8 MiB");
    if (o->encryption_provider_config == NULL)
        return refuse(CLI_USAGE,
                      "--encryption-provider-config is needed: without it nothing would be "
                      "encrypted");
    if (load_rules(o, &rules, why, sizeof why) != ERR_OK) {
        fprintf(stderr, "etcd-envelope: %s: %s\n", o->encryption_provider_config, why);
        return CLI_ERROR;
    }
    if (log_start(o->log_level, o->log_format) != ERR_OK)
        return refuse(CLI_ERROR, "cannot start the log");
    status = server_run(o, rules, why, sizeof why);
    log_stop();
    return status == 0 ? CLI_OK : refuse(status, why);
}

int cli_serve(int argc, char *const argv[])
{
    char why[WHY_MAX] = "";
    struct settings *o;
    int status;

    if (settings_parse(argc, argv, &o, why, sizeof why) != ERR_OK)
        return refuse(CLI_USAGE, why);
    if (o->help) {
        fputs(settings_help(), stdout);
        status = CLI_OK;
    } else if (o->print_config) {
        settings_print(o);
        status = CLI_OK;
    } else {
        status = serve_with(o);
    }
    settings_free(o);
    return status;
}
