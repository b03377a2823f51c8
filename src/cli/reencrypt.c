/* SPDX-License-Identifier: Apache-2.0 */
/* reencrypt: rewrites what is not sealed as it would be now. tools/reencrypt.c does it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_int.h"
#include "tools/reencrypt.h"

static const char reencrypt_help[] =
    "usage: etcd-envelope reencrypt --encryption-provider-config FILE [flags]\n"
    "\n"
    "Rewrites every value of the protected resources in etcd that is plaintext, or sealed with\n"
    "another key than the one that is written with now. Each is replaced only while nobody else\n"
    "has written it; it keeps its lease. Safe to stop at any time: run again it goes on where "
    "work\n"
    "is left. Every rewrite is one MODIFIED event for whoever watches the object.\n"
    "\n"
    "  --dry-run\n"
    "      change nothing; exit status 3 when there is work\n"
    "  --rate N\n"
    "      at most N values a second; 0: no limit (default 100)\n"
    "  --byte-rate SIZE\n"
    "      at most so many bytes a second; 0: no limit (default 0)\n"
    "  --parallel N\n"
    "      values on their way to etcd at a time, 1 to 1000 (default 32)\n"
    "  --resource RESOURCE, --namespace NAMESPACE\n"
    "      only these resources, or what lies in these namespaces; each may be repeated\n"
    "  --include-leased\n"
    "      values with a lease, too: left out, for they end by themselves\n"
    "  --max-db-size SIZE\n"
    "      stop when etcd's database is as large (default 80 % of etcd's quota)\n"
    "  --to-identity\n"
    "      write everything back to plaintext; identity has to be first in the configuration, and\n"
    "      --yes has to be given, too\n"
    "  --output text|json\n"
    "      how the result is written to standard output (default text)\n"
    "\n" CLI__CLUSTER_HELP "  --allow-kms-v1-writes\n"
    "      allow a KMS v1 plugin to seal\n"
    "\n"
    "Exit status: 0 done, all is sealed with the current key; 3 done, but values with a lease or\n"
    "too large ones are left, or in a dry run there is work; 4 done, but values that do not open "
    "are\n"
    "left; 1 error, or etcd is full; 2 used wrongly, or the server is a proxy; 75 etcd or the KMS\n"
    "plugin is not reachable. SIGINT and SIGTERM end it with a line on what was rewritten, and "
    "128\n"
    "and their number (130, 143).\n";

#define ODD_MAX 1024 /* names of resources, in an error; what is longer is cut */

struct reencrypt_tool {
    bool is_dry_run, has_leased, is_to_identity, is_yes;
    const char *rate, *byte_rate, *parallel, *max_db_size, *output;
    struct cli__texts resources, namespaces;
    struct tools_reencrypt_opts opts;
};

static unsigned wants(void *arg)
{
    (void)arg;
    return TOOLS_WANTS_KEYS | TOOLS_WANTS_ETCD;
}

static int number(const char *flag, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;

    if (text == NULL)
        return CLI_OK;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || *out < min || *out > max)
        return cli__refuse(CLI_USAGE, "--%s: \"%.40s\" is not a number from %llu to %llu", flag,
                           text, (unsigned long long)min, (unsigned long long)max);
    return CLI_OK;
}

static int size(const char *flag, const char *text, uint64_t *out)
{
    if (text == NULL || settings_parse_size(text, out))
        return CLI_OK;
    return cli__refuse(CLI_USAGE, "--%s: \"%.40s\" is not a size, such as 16MiB", flag, text);
}

static int check_numbers(struct reencrypt_tool *t)
{
    uint64_t parallel = 32;
    int status;

    t->opts.rate = 100;
    status = number("rate", t->rate, 0, 1000000000, &t->opts.rate);
    if (status == CLI_OK)
        status = number("parallel", t->parallel, 1, 1000, &parallel);
    if (status == CLI_OK)
        status = size("byte-rate", t->byte_rate, &t->opts.byte_rate);
    if (status == CLI_OK)
        status = size("max-db-size", t->max_db_size, &t->opts.max_db_size);
    t->opts.parallel = (unsigned)parallel;
    return status;
}

/* Is the list one that is to be rewritten, but not as it would be written now? */
static bool is_odd(const struct reencrypt_tool *t, const struct provider_list *list)
{
    const struct sweep_filter wanted = {.resources = t->resources.v,
                                        .resource_count = t->resources.count};

    return list->count > 0 && sweep_wants_resource(&wanted, list->resource) &&
           provider_traits(list->v[0])->is_identity != t->is_to_identity;
}

/* The resources of all such lists, each once: "secrets, configmaps"; "": there is none. */
static void name_odd(const struct reencrypt_tool *t, const struct ruleset *rules,
                     char out[static ODD_MAX])
{
    const struct provider_list *lists = rules->lists;
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < rules->key_rules->count && at < ODD_MAX; i++) {
        bool is_named = !is_odd(t, &lists[i]);

        for (size_t k = 0; k < i && !is_named; k++)
            is_named = is_odd(t, &lists[k]) && strcmp(lists[k].resource, lists[i].resource) == 0;
        if (!is_named)
            at += (size_t)snprintf(out + at, ODD_MAX - at, "%s%s", at > 0 ? ", " : "",
                                   lists[i].resource);
    }
}

/* Plaintext is written only by who says so, and only where the proxies write it, too: else they
 * would go on sealing what is unsealed here. */
static int check_identity(const struct reencrypt_tool *t, const struct settings *o,
                          const struct ruleset *rules)
{
    char odd[ODD_MAX];

    if (t->is_to_identity && !t->is_yes && !t->is_dry_run)
        return cli__refuse(CLI_USAGE, "--to-identity writes everything back to plaintext: give "
                                      "--yes, too, if that is meant");
    if (rules->protected_count == 0)
        return cli__refuse(CLI_USAGE,
                           "%s protects nothing (identity is alone in each list), so there is "
                           "nothing to rewrite; to write sealed values back to plaintext put "
                           "behind identity what sealed them, and give --to-identity",
                           o->encryption_provider_config);
    name_odd(t, rules, odd);
    if (odd[0] == '\0')
        return CLI_OK;
    if (!t->is_to_identity)
        return cli__refuse(CLI_USAGE,
                           "%s: identity is first in %s, so plaintext would be written; if that is "
                           "meant give --to-identity",
                           odd, o->encryption_provider_config);
    return cli__refuse(CLI_USAGE,
                       "%s: identity is not first in %s, so proxies go on sealing; put it first in "
                       "the lists of these, what sealed the values behind it, have all proxies "
                       "take that over (those that run without --allow-identity-writes have to be "
                       "restarted with it), and run this again",
                       odd, o->encryption_provider_config);
}

static int check(void *arg, const struct settings *o, const struct ruleset *rules,
                 const struct sweep_filter *filter)
{
    struct reencrypt_tool *t = arg;
    int status;

    (void)filter;
    t->opts = (struct tools_reencrypt_opts){.is_dry_run = t->is_dry_run,
                                            .has_leased = t->has_leased,
                                            .is_json =
                                                t->output != NULL && strcmp(t->output, "json") == 0,
                                            .out = stdout};
    if (t->output != NULL && !t->opts.is_json && strcmp(t->output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", t->output);
    status = check_numbers(t);
    return status == CLI_OK ? check_identity(t, o, rules) : status;
}

static int run(void *arg, struct tools_cluster *c, const struct sweep_filter *filter)
{
    static const int statuses[] = {[TOOLS_REENCRYPT_UNREADABLE] = CLI_UNREADABLE,
                                   [TOOLS_REENCRYPT_LEFT] = CLI_NOT_AS_WANTED,
                                   [TOOLS_REENCRYPT_GOOD] = CLI_OK};
    struct reencrypt_tool *t = arg;
    enum tools_reencrypt_result result;

    t->opts.filter = *filter;
    result = tools_reencrypt(c, &t->opts);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli__refuse(CLI_ERROR, "cannot write the report");
    return result == TOOLS_REENCRYPT_FAILED ? cli__cluster_failed(c) : statuses[result];
}

int cli_reencrypt(int argc, char *const argv[])
{
    struct reencrypt_tool r = {0};
    const struct cli__flag flags[] = {{.name = "dry-run", .is_on = &r.is_dry_run},
                                      {.name = "include-leased", .is_on = &r.has_leased},
                                      {.name = "to-identity", .is_on = &r.is_to_identity},
                                      {.name = "yes", .is_on = &r.is_yes},
                                      {.name = "rate", .value = &r.rate},
                                      {.name = "byte-rate", .value = &r.byte_rate},
                                      {.name = "parallel", .value = &r.parallel},
                                      {.name = "max-db-size", .value = &r.max_db_size},
                                      {.name = "output", .value = &r.output},
                                      {.name = "resource", .texts = &r.resources},
                                      {.name = "namespace", .texts = &r.namespaces}};
    const struct cli__cluster_tool tool = {.help = reencrypt_help,
                                           .flags = flags,
                                           .flag_count = ARRAY_LEN(flags),
                                           .resources = &r.resources,
                                           .namespaces = &r.namespaces,
                                           .wants = wants,
                                           .check = check,
                                           .run = run,
                                           .writes = true,
                                           .arg = &r};
    int status = cli__cluster_main(&tool, argc, argv);

    free(r.resources.v);
    free(r.namespaces.v);
    return status;
}
