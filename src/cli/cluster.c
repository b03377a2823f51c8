/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of the tools that work on a whole cluster: flags and settings, memory for keys, the
 * rule set as serve makes it, the log, etcd and the plugins; then the tool's own run. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "policy/load.h"
#include "tools/cluster.h"

struct frame {
    const struct cli__cluster_tool *t;
    struct settings *settings;
    struct ruleset *rules;
    struct sweep_filter filter;
    struct cli__user user;
    char why[CLI__WHY_MAX];
};

int cli__cluster_status(const struct tools_cluster *c)
{
    if (tools_cluster_signal(c) != 0)
        return 128 + tools_cluster_signal(c); /* as shells have it */
    if (c->err == ERR_UPSTREAM_AWAY || err_scope(c->err) == SCOPE_DEK)
        return CLI_UNREACHABLE;
    return c->err == ERR_CONFIG ? CLI_USAGE : CLI_ERROR;
}

int cli__cluster_failed(const struct tools_cluster *c)
{
    return cli__refuse(cli__cluster_status(c), "%s", c->why);
}

static bool is_protected(const struct ruleset *rules, const char *resource)
{
    for (size_t i = 0; i < rules->key_rules->count; i++)
        if (rules->lists[i].count > 0 && strcmp(rules->key_rules->v[i].resource, resource) == 0)
            return true;
    return false;
}

/* A resource that is mistyped would look like one that holds nothing. */
static int check_resources(struct frame *f)
{
    const struct cli__texts *r = f->t->resources, *n = f->t->namespaces;

    if (r != NULL)
        f->filter = (struct sweep_filter){.resources = r->v, .resource_count = r->count};
    if (n != NULL) {
        f->filter.namespaces = n->v;
        f->filter.namespace_count = n->count;
    }
    for (size_t i = 0; i < f->filter.namespace_count; i++)
        if (n->v[i][0] == '\0' || strchr(n->v[i], '/') != NULL)
            return cli__refuse(CLI_USAGE, "--namespace: \"%.100s\" is not a name", n->v[i]);
    for (size_t i = 0; i < f->filter.resource_count; i++)
        if (!is_protected(f->rules, f->filter.resources[i]))
            return cli__refuse(CLI_USAGE,
                               "--resource: \"%.100s\" is no resource that %s protects; "
                               "etcd-envelope check --offline shows which there are",
                               f->filter.resources[i], f->settings->encryption_provider_config);
    return CLI_OK;
}

static int load(struct frame *f)
{
    struct settings *o = f->settings;

    if (o->encryption_provider_config == NULL)
        return cli__refuse(CLI_USAGE, "--encryption-provider-config is needed");
    /* Who writes nothing may look at every configuration. What reencrypt writes it decides by flags
     * of its own. */
    o->allow_identity_writes = true;
    o->allow_kms_v1_writes |= !f->t->writes;
    if (policy_load(o, &f->rules, f->why, sizeof f->why) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s: %s", o->encryption_provider_config, f->why);
    return check_resources(f);
}

static int run_cluster(struct frame *f)
{
    const struct sweep_user user = {f->user.name, f->user.password};
    struct tools_cluster c;
    int status;

    if (tools_cluster_init(&c, f->settings, f->rules, f->t->wants(f->t->arg), &user) != ERR_OK)
        status = cli__refuse(c.err == ERR_CONFIG ? CLI_USAGE : CLI_ERROR, "%s", c.why);
    else
        status = f->t->run(f->t->arg, &c, &f->filter);
    tools_cluster_fini(&c);
    return status;
}

static int run(struct frame *f)
{
    int status = cli__begin(f->settings, f->settings->log_level);

    if (status != CLI_OK)
        return status;
    cli__warn();
    signal(SIGPIPE, SIG_IGN);
    status = load(f);
    if (status == CLI_OK)
        status = f->t->check(f->t->arg, f->settings, f->rules, &f->filter);
    if (status == CLI_OK)
        status = run_cluster(f);
    ruleset_drop(f->rules);
    log_stop();
    return status;
}

enum err cli__cluster_args(int argc, char *const argv[], const struct cli__flag *flags,
                           size_t flag_count, const char **user, struct cli__args *out, char *why,
                           size_t why_len)
{
    const char *name = NULL;
    const struct cli__flag common[] = {{.name = "etcd-user", .value = &name}};
    struct cli__args rest;
    enum err e;

    TRY(cli__args_take(argc, argv, flags, flag_count, &rest, why, why_len));
    e = cli__args_take(rest.rest_count, rest.rest, common, ARRAY_LEN(common), out, why, why_len);
    free(rest.rest);
    out->wants_help |= rest.wants_help;
    *user = name;
    return e;
}

int cli__cluster_main(const struct cli__cluster_tool *t, int argc, char *const argv[])
{
    struct frame f = {.t = t};
    struct cli__args args;
    const char *user;
    int status;

    if (cli__cluster_args(argc, argv, t->flags, t->flag_count, &user, &args, f.why, sizeof f.why) !=
        ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", f.why);
    if (args.wants_help) {
        fputs(t->help, stdout);
        status = CLI_OK;
    } else if (cli__settings(args.rest_count, args.rest, &f.settings, f.why, sizeof f.why) !=
               ERR_OK) {
        status = cli__refuse(CLI_USAGE, "%s", f.why);
    } else {
        status = cli__lock_memory(f.settings);
        if (status == CLI_OK)
            status = cli__user_take(user, f.settings, &f.user);
        if (status == CLI_OK)
            status = run(&f);
    }
    cli__user_free(&f.user);
    settings_free(f.settings);
    free(args.rest);
    return status;
}
