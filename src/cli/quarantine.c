/* SPDX-License-Identifier: Apache-2.0 */
/* quarantine: values that do not open are moved out of the way, and back. tools/quarantine.c does
 * it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/digit.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "tools/quarantine.h"
#include "tools/quarantine_list.h"

#define DEFAULT_PREFIX "/etcd-envelope/quarantine"
#define DEFAULT_MAX 10u
#define DEFAULT_PERCENT 1u

static const char quarantine_help[] =
    "usage: etcd-envelope quarantine --encryption-provider-config FILE --key KEY... [flags]\n"
    "       etcd-envelope quarantine --encryption-provider-config FILE --list [flags]\n"
    "\n"
    "One value that does not open breaks every list of its kind. This moves such values out of "
    "the\n"
    "way: each is copied as it is, sealed, to a key that kube-apiserver does not look at, and its\n"
    "original deleted, both in one transaction, while nobody else has written it. Without --yes "
    "it\n"
    "says what it would do.\n"
    "\n"
    "For kube-apiserver the object is then deleted: its garbage collector deletes what names the\n"
    "object as its owner. An apiserver that decrypts by itself has another way, the feature gate\n"
    "AllowUnsafeMalformedObjectDeletion, which keeps no copy.\n"
    "\n"
    "Only values are moved that are proven to be wrong: not where the configuration lacks the key, "
    "a\n"
    "plugin is away or refuses; and nothing at all when one of the named ones may not be moved, "
    "or\n"
    "when so many values of its kind do not open that rather the configuration is wrong.\n"
    "\n"
    "  --key KEY\n"
    "      the whole key, as verify --list unreadable writes it; may be repeated\n"
    "  --yes\n"
    "      do it\n"
    "  --restore\n"
    "      back: the copies of these keys, where the keys are not there (any more)\n"
    "  --list\n"
    "      which copies there are, and whether their keys are there again\n"
    "  --discard\n"
    "      delete the copies of these keys, where the keys are there again and open\n"
    "  --max N\n"
    "      at most so many keys in one run (default 10)\n"
    "  --unreadable-limit PERCENT\n"
    "      of a kind, beyond which nothing is moved (default 1)\n"
    "  --include-plaintext\n"
    "      also plaintext that is refused only for identity is not in its list; its copy is "
    "plaintext\n"
    "  --allow-unreadable\n"
    "      with --restore: also what still does not open, so that lists break again\n"
    "  --quarantine-prefix PREFIX\n"
    "      copies are put under PREFIX and their key (default " DEFAULT_PREFIX ")\n"
    "  --output text|json\n"
    "      how the result is written to standard output (default text)\n"
    "\n" CLI__CLUSTER_HELP "\n"
    "Exit status: 0 all were moved; 3 nothing was moved, for --yes is missing or one may not be, "
    "or\n"
    "some were not, for somebody was quicker; 1 error; 2 used wrongly, or the server is a proxy;\n"
    "75 etcd or a KMS plugin that is needed is not reachable.\n";

struct quarantine_tool {
    bool is_yes, is_restore, is_discard, is_list, has_plaintext, has_unreadable;
    const char *max, *percent, *prefix, *output;
    struct cli__texts keys;
    char **decoded; /* of keys.count */
    char *root;     /* the prefix of copies without a slash at its end */
    struct tools_quarantine_opts opts;
};

static unsigned wants(void *arg)
{
    const struct quarantine_tool *t = arg;

    return (t->is_list ? 0 : TOOLS_WANTS_KEYS) | TOOLS_WANTS_ETCD;
}

static int number(const char *flag, const char *text, unsigned max, unsigned *out)
{
    unsigned long v;
    char *end;

    if (text == NULL)
        return CLI_OK;
    errno = 0;
    v = strtoul(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || v > max)
        return cli__refuse(CLI_USAGE, "--%s: \"%.40s\" is not a number from 0 to %u", flag, text,
                           max);
    *out = (unsigned)v;
    return CLI_OK;
}

/* The byte that "%XX" stands for; below 1: it is malformed, or a zero, which argv can't have. */
static int decode_byte(const char *text)
{
    int high = digit_hex((uint8_t)text[1]);
    int low = high < 0 ? -1 : digit_hex((uint8_t)text[2]);

    return low < 0 ? -1 : high << 4 | low;
}

/* A key as verify --list has written it. NULL: malformed. */
static char *decode(const char *text)
{
    char *out = base_xcalloc(strlen(text) + 1, 1);
    size_t n = 0;

    while (*text != '\0') {
        int byte = *text == '%' ? decode_byte(text) : (uint8_t)*text;

        if (byte < 1) {
            free(out);
            return NULL;
        }
        text += *text == '%' ? 3 : 1;
        out[n++] = (char)byte;
    }
    return out;
}

/* A copy has to lie where no rule and no kube-apiserver looks for values. */
static int check_copy(const struct quarantine_tool *t, const char *key, const struct ruleset *rules)
{
    size_t n = strlen(t->root), root_len = strlen(rules->key_rules->root);
    char *copy = base_xcalloc(n + strlen(key) + 1, 1);
    bool is_inside, is_protected;

    memcpy(copy, t->root, n);
    memcpy(copy + n, key, strlen(key));
    is_protected = etcd_rules_find(rules->rules, bytes_str(copy)) != NULL;
    is_inside = root_len > 0 && strncmp(copy, rules->key_rules->root, root_len) == 0 &&
                copy[root_len] == '/';
    free(copy);
    if (is_protected || is_inside)
        return cli__refuse(CLI_USAGE,
                           "--quarantine-prefix: %.200s lies under %s, where "
                           "kube-apiserver or the configuration looks for values",
                           t->root, is_inside ? "--etcd-prefix" : "a protected prefix");
    return CLI_OK;
}

static int check_key(struct quarantine_tool *t, size_t i, const struct ruleset *rules)
{
    t->decoded[i] = decode(t->keys.v[i]);
    if (t->decoded[i] == NULL || t->decoded[i][0] == '\0')
        return cli__refuse(CLI_USAGE, "--key: \"%.200s\" is no key", t->keys.v[i]);
    for (size_t k = 0; k < i; k++)
        if (strcmp(t->decoded[k], t->decoded[i]) == 0)
            return cli__refuse(CLI_USAGE, "--key: %.200s is given twice", t->keys.v[i]);
    if (etcd_rules_find(rules->rules, bytes_str(t->decoded[i])) == NULL)
        return cli__refuse(CLI_USAGE, "--key: %.200s is not protected by this configuration",
                           t->keys.v[i]);
    return check_copy(t, t->decoded[i], rules);
}

static int check_keys(struct quarantine_tool *t, const struct ruleset *rules)
{
    unsigned max = DEFAULT_MAX;
    int status = number("max", t->max, 100000, &max);

    if (status != CLI_OK)
        return status;
    if (t->keys.count == 0)
        return cli__refuse(CLI_USAGE, "--key is needed: verify --list unreadable names the keys of "
                                      "values that don't open, quarantine --list those of copies");
    if (t->keys.count > max)
        return cli__refuse(CLI_USAGE, "%zu keys are more than --max (%u)", t->keys.count, max);
    t->decoded = base_xcalloc(t->keys.count, sizeof *t->decoded);
    for (size_t i = 0; status == CLI_OK && i < t->keys.count; i++)
        status = check_key(t, i, rules);
    return status;
}

static int check_prefix(struct quarantine_tool *t)
{
    const char *prefix = t->prefix != NULL ? t->prefix : DEFAULT_PREFIX;
    size_t n = strlen(prefix);

    while (n > 0 && prefix[n - 1] == '/')
        n--;
    if (n == 0 || prefix[0] != '/')
        return cli__refuse(CLI_USAGE,
                           "--quarantine-prefix: \"%.200s\" is no prefix such as " DEFAULT_PREFIX,
                           prefix);
    t->root = base_xcalloc(n + 1, 1);
    memcpy(t->root, prefix, n);
    return CLI_OK;
}

/* What goes together. */
static int check_modes(const struct quarantine_tool *t)
{
    if (t->is_list && (t->keys.count > 0 || t->is_yes || t->is_restore || t->is_discard))
        return cli__refuse(CLI_USAGE, "--list stands alone: it changes nothing, and names all");
    if (t->is_restore && t->is_discard)
        return cli__refuse(CLI_USAGE, "--restore and --discard are two things");
    if (t->has_unreadable && !t->is_restore)
        return cli__refuse(CLI_USAGE, "--allow-unreadable goes with --restore");
    return CLI_OK;
}

static int check(void *arg, const struct settings *o, const struct ruleset *rules,
                 const struct sweep_filter *filter)
{
    struct quarantine_tool *t = arg;
    unsigned percent = DEFAULT_PERCENT;
    bool is_json = t->output != NULL && strcmp(t->output, "json") == 0;
    int status = check_modes(t);

    (void)o;
    (void)filter;
    if (status == CLI_OK)
        status = check_prefix(t);
    if (status == CLI_OK && !t->is_list)
        status = check_keys(t, rules);
    if (status == CLI_OK)
        status = number("unreadable-limit", t->percent, 100, &percent);
    if (status != CLI_OK)
        return status;
    if (t->output != NULL && !is_json && strcmp(t->output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", t->output);
    t->opts = (struct tools_quarantine_opts){.keys = (const char *const *)t->decoded,
                                             .key_count = t->keys.count,
                                             .prefix = t->root,
                                             .is_restore = t->is_restore,
                                             .is_discard = t->is_discard,
                                             .is_yes = t->is_yes,
                                             .has_plaintext = t->has_plaintext,
                                             .has_unreadable = t->has_unreadable,
                                             .percent = percent,
                                             .is_json = is_json,
                                             .out = stdout};
    return CLI_OK;
}

static int run(void *arg, struct tools_cluster *c, const struct sweep_filter *filter)
{
    struct quarantine_tool *t = arg;
    enum tools_quarantine_result result;

    (void)filter;
    if (!t->is_list)
        result = tools_quarantine(c, &t->opts);
    else
        result = tools_quarantine_list(c, t->root, t->opts.is_json, stdout)
                     ? TOOLS_QUARANTINE_GOOD
                     : TOOLS_QUARANTINE_FAILED;
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli__refuse(CLI_ERROR, "cannot write the report");
    if (result == TOOLS_QUARANTINE_FAILED)
        return cli__cluster_failed(c);
    return result == TOOLS_QUARANTINE_GOOD ? CLI_OK : CLI_NOT_AS_WANTED;
}

int cli_quarantine(int argc, char *const argv[])
{
    struct quarantine_tool t = {0};
    const struct cli__flag flags[] = {{.name = "yes", .is_on = &t.is_yes},
                                      {.name = "restore", .is_on = &t.is_restore},
                                      {.name = "discard", .is_on = &t.is_discard},
                                      {.name = "list", .is_on = &t.is_list},
                                      {.name = "include-plaintext", .is_on = &t.has_plaintext},
                                      {.name = "allow-unreadable", .is_on = &t.has_unreadable},
                                      {.name = "max", .value = &t.max},
                                      {.name = "unreadable-limit", .value = &t.percent},
                                      {.name = "quarantine-prefix", .value = &t.prefix},
                                      {.name = "output", .value = &t.output},
                                      {.name = "key", .texts = &t.keys}};
    const struct cli__cluster_tool tool = {.help = quarantine_help,
                                           .flags = flags,
                                           .flag_count = ARRAY_LEN(flags),
                                           .wants = wants,
                                           .check = check,
                                           .run = run,
                                           .arg = &t};
    int status = cli__cluster_main(&tool, argc, argv);

    for (size_t i = 0; t.decoded != NULL && i < t.keys.count; i++)
        free(t.decoded[i]);
    free(t.decoded);
    free(t.root);
    free(t.keys.v);
    return status;
}
