/* SPDX-License-Identifier: Apache-2.0 */
/* serve: settings, memory for keys, the rule set, the log, the admin pages; then server/ runs until
 * a signal ends it. What is missing or wrong ends the start with a reason on standard error. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/fips.h"
#include "base/log.h"
#include "cli/cli_int.h"
#include "contain/contain.h"
#include "contain/opener.h"
#include "loop/preflight.h"
#include "net/inherit.h"
#include "policy/load.h"
#include "pages/pages.h"
#include "server/server.h"

#define WHY_MAX 4096

static int refuse(int status, const char *why)
{
    fprintf(stderr, "etcd-envelope: %s\n", why);
    return status;
}

/* Before anything of the configuration is in memory. */
static enum err start_opener(const struct settings *o)
{
    const char *const files[] = {o->encryption_provider_config,
                                 o->cert_file,
                                 o->key_file,
                                 o->trusted_ca_file,
                                 o->client_crl_file,
                                 o->etcd_cafile,
                                 o->etcd_certfile,
                                 o->etcd_keyfile,
                                 o->etcd_password_file};

    if (!o->drop_privileges && !o->landlock && o->user == NULL)
        return ERR_OK;
    return opener_start(files, ARRAY_LEN(files));
}

static int serve_with(const struct settings *o)
{
    static const struct server_source source = {.load = policy_reload};
    char why[WHY_MAX] = "";
    static struct pages *admin; /* after a failed start the control loop still points to it */
    struct server_hooks hooks;
    struct ruleset *rules;
    int status;

    contain_prepare(o->seccomp);
    if (start_opener(o) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot make the process that opens files: %s%s",
                           strerror(errno), errno == EAGAIN ? ": raise " LOOP_PIDS_LIMITS : "");
    status = cli__lock_memory(o);
    if (status != CLI_OK)
        return status;
    if (o->encryption_provider_config == NULL)
        return refuse(CLI_USAGE, CLI__NO_CONFIG);
    if (net_inherit(why, sizeof why) != ERR_OK)
        return refuse(CLI_USAGE, why);
    if (!pages_check(o, why, sizeof why))
        return refuse(CLI_USAGE, why);
    if (policy_load(o, &rules, why, sizeof why) != ERR_OK) {
        fprintf(stderr, "etcd-envelope: %s: %s\n", o->encryption_provider_config, why);
        return CLI_ERROR;
    }
    if (log_open(o->log_level, o->log_format) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot start the log: %s", strerror(errno));
    cli__warn();
    fips_log();
    if (o->encryption_provider_config_automatic_reload &&
        file_is_read_once(o->encryption_provider_config))
        LOG(WARN,
            "no automatic reload: the configuration is a pipe or a descriptor, which can be read "
            "only "
            "once",
            "file=\"%s\"", o->encryption_provider_config);
    admin = pages_new(o);
    hooks = pages_hooks(admin);
    status = server_run(o, &source, &hooks, rules, why, sizeof why);
    if (status == 0)
        pages_free(admin);
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
