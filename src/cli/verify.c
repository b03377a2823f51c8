/* SPDX-License-Identifier: Apache-2.0 */
/* verify: how the values that lie in etcd are sealed. tools/verify.c looks at them. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_int.h"
#include "tools/verify.h"

static const char verify_help[] =
    "usage: etcd-envelope verify --encryption-provider-config FILE [flags]\n"
    "\n"
    "Looks at every value of the protected resources in etcd, opens it, and counts: sealed with "
    "the\n"
    "current key, with older keys, with other providers, plaintext, unreadable; and which keys "
    "are\n"
    "in use, so which have to be kept for what lies in etcd. Nothing is changed. With a FILE that\n"
    "is not in force yet it says which values that configuration could not open.\n"
    "\n"
    "  --no-open\n"
    "      look at envelopes alone: needs no key and no plugin, proves nothing. It\n"
    "      cannot tell a KMS's present key from older ones: \"write provider\" counts all\n"
    "  --list unreadable|plaintext|stale\n"
    "      write the keys of such values to standard output, a line each, with the reason; the\n"
    "      report then goes to standard error. stale: sealed, but not with the current key\n"
    "  --export DIR\n"
    "      with --list unreadable: also write the raw bytes of each sealed value that does not "
    "open\n"
    "      to a file of its own in DIR (mode 0600, named by the SHA-256 of its key), and a list "
    "of\n"
    "      them to DIR/index.jsonl. Nothing that is there is overwritten\n"
    "  --resource RESOURCE\n"
    "      only this one, named as the configuration names it; may be repeated\n"
    "  --output text|json\n"
    "      a table, or one JSON object with all counts, revision, time and versions (default "
    "text)\n"
    "  --snapshot FILE\n" CLI__SNAPSHOT_HELP "\n" CLI__CLUSTER_HELP "\n"
    "Exit status: 0 all values are sealed with the current key and open; 3 some are not sealed "
    "with\n"
    "it, or plaintext, or the configuration protects nothing, or kube-apiserver's keys lie "
    "elsewhere\n"
    "than under --etcd-prefix; 4 some do "
    "not\n"
    "open; 1 error; 2 used wrongly, or the server is a proxy; 75 etcd or a KMS plugin that is "
    "needed\n"
    "is not reachable. SIGINT and SIGTERM end it with what was counted so far, and 128 and their\n"
    "number (130, 143). 3 is as it should be from the first sealed value on until reencrypt, or\n"
    "serve --converge, has rewritten all, and in the same way after each new key.\n";

struct verify_tool {
    bool is_no_open, skip_hash;
    const char *list, *output, *snapshot_path, *export_path;
    struct cli__texts resources;
    struct tools_verify_opts opts;
    struct tools_snapshot snapshot;
    struct tools_export export;
};

static unsigned wants(void *arg)
{
    const struct verify_tool *t = arg;

    return (t->is_no_open ? 0 : TOOLS_WANTS_KEYS) |
           (t->snapshot_path != NULL ? 0 : TOOLS_WANTS_ETCD);
}

static bool parse_list(const char *text, enum tools_list *out)
{
    static const char *const names[] = {[TOOLS_LIST_UNREADABLE] = "unreadable",
                                        [TOOLS_LIST_PLAINTEXT] = "plaintext",
                                        [TOOLS_LIST_STALE] = "stale"};

    *out = TOOLS_LIST_NONE;
    for (size_t i = TOOLS_LIST_UNREADABLE; text != NULL && i < ARRAY_LEN(names); i++)
        if (strcmp(text, names[i]) == 0)
            *out = (enum tools_list)i;
    return text == NULL || *out != TOOLS_LIST_NONE;
}

/* Before anything is set up that would have to wait for it: a large file takes seconds. */
static int open_snapshot(struct verify_tool *t, const struct settings *o,
                         const struct ruleset *rules, const struct sweep_filter *filter)
{
    const struct tools_snapshot_ask ask = {.path = t->snapshot_path,
                                           .skip_hash = t->skip_hash,
                                           .rules = rules,
                                           .filter = filter,
                                           .place = o->converge_key};
    char why[CLI__WHY_MAX];

    if (tools_snapshot_open(&t->snapshot, &ask, why, sizeof why) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", why);
    t->opts.snapshot = &t->snapshot;
    return CLI_OK;
}

static int check_files(const struct verify_tool *t)
{
    if (t->export_path != NULL && t->opts.list != TOOLS_LIST_UNREADABLE)
        return cli__refuse(CLI_USAGE, "--export goes with --list unreadable");
    if (t->skip_hash && t->snapshot_path == NULL)
        return cli__refuse(CLI_USAGE, "--skip-hash-check goes with --snapshot");
    return CLI_OK;
}

static int open_files(struct verify_tool *t, const struct settings *o, const struct ruleset *rules,
                      const struct sweep_filter *filter)
{
    int status = check_files(t);

    if (status == CLI_OK && t->snapshot_path != NULL)
        status = open_snapshot(t, o, rules, filter);
    if (status != CLI_OK || t->export_path == NULL)
        return status;
    if (tools_export_open(&t->export, t->export_path) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", t->export.why);
    t->opts.export = &t->export;
    return CLI_OK;
}

static int check(void *arg, const struct settings *o, const struct ruleset *rules,
                 const struct sweep_filter *filter)
{
    struct verify_tool *t = arg;

    t->opts =
        (struct tools_verify_opts){.is_open = !t->is_no_open,
                                   .version = ENVELOPE_VERSION,
                                   .out = stdout,
                                   .beside = stderr,
                                   .is_json = t->output != NULL && strcmp(t->output, "json") == 0};
    if (!parse_list(t->list, &t->opts.list))
        return cli__refuse(CLI_USAGE, "--list: \"%.40s\" is not unreadable, plaintext or stale",
                           t->list);
    if (t->output != NULL && !t->opts.is_json && strcmp(t->output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", t->output);
    return open_files(t, o, rules, filter);
}

static int run(void *arg, struct tools_cluster *c, const struct sweep_filter *filter)
{
    static const int statuses[] = {[TOOLS_VERIFY_UNREADABLE] = CLI_UNREADABLE,
                                   [TOOLS_VERIFY_DUE] = CLI_NOT_AS_WANTED,
                                   [TOOLS_VERIFY_NOTHING] = CLI_NOT_AS_WANTED,
                                   [TOOLS_VERIFY_GOOD] = CLI_OK};
    struct verify_tool *t = arg;
    enum tools_verify_result result;

    t->opts.filter = *filter;
    result = tools_verify(c, &t->opts);
    if (tools_export_close(&t->export) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", t->export.why);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli__refuse(CLI_ERROR, "cannot write the report");
    return result == TOOLS_VERIFY_FAILED ? cli__cluster_failed(c) : statuses[result];
}

int cli_verify(int argc, char *const argv[])
{
    struct verify_tool v = {0};
    const struct cli__flag flags[] = {{.name = "no-open", .is_on = &v.is_no_open},
                                      {.name = "list", .value = &v.list},
                                      {.name = "output", .value = &v.output},
                                      {.name = "snapshot", .value = &v.snapshot_path},
                                      {.name = "skip-hash-check", .is_on = &v.skip_hash},
                                      {.name = "export", .value = &v.export_path},
                                      {.name = "resource", .texts = &v.resources}};
    const struct cli__cluster_tool tool = {.help = verify_help,
                                           .flags = flags,
                                           .flag_count = ARRAY_LEN(flags),
                                           .resources = &v.resources,
                                           .wants = wants,
                                           .check = check,
                                           .run = run,
                                           .arg = &v};
    int status = cli__cluster_main(&tool, argc, argv);

    tools_snapshot_close(&v.snapshot);
    free(v.resources.v);
    return status;
}
