/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: what a stored value says of itself. tools/facts.c gathers that, tools/explain.c shows
 * it. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "tools/explain.h"
#include "tools/value.h"

static const char inspect_help[] =
    "usage: etcd-envelope inspect [--input raw|base64|hex] [--output text|json]\n"
    "\n"
    "Reads a stored value from standard input and explains it. No key, no configuration and no\n"
    "plugin is needed, and nothing is opened: whether the value is authentic cannot be told.\n"
    "\n"
    "  --input raw|base64|hex\n"
    "      how the value is written (default raw). For etcdctl:\n"
    "      etcdctl get KEY -w json | jq -r '.kvs[0].value' | etcd-envelope inspect --input base64\n"
    "  --output text|json\n"
    "      lines to read, or one JSON object (default text)\n"
    "\n"
    "Exit status: 0 a well-formed envelope; 3 plaintext; 4 a malformed envelope; 1 error; 2 used\n"
    "wrongly.\n";

int cli__inspect(struct slice value, FILE *f, bool is_json)
{
    static const int statuses[] = {[TOOLS_MALFORMED] = CLI_UNREADABLE,
                                   [TOOLS_PLAINTEXT] = CLI_NOT_AS_WANTED,
                                   [TOOLS_ENVELOPE] = CLI_OK};
    struct tools_facts facts;
    enum err e = tools_facts_gather(slice_bytes(value), &facts);
    int status;

    if (e == ERR_OK)
        tools_explain(&facts, f, is_json);
    tools_facts_fini(&facts);
    if (e != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot look at the value: %s", err_reason(e));
    status = statuses[facts.verdict];
    return fflush(f) == 0 && !ferror(f) ? status
                                        : cli__refuse(CLI_ERROR, "cannot write the report");
}

/* --- the subcommand --------------------------------------------------------------------------- */

static int run(enum tools_encoding encoding, bool is_json)
{
    struct slab_pool pool;
    struct slice value;
    char why[CLI__WHY_MAX];
    int status;

    /* The value may be plaintext, so core files are off. No key is held: memory need not be
     * locked. */
    if (secret_init() != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot switch core files off");
    slab_pool_init(&pool, 0);
    if (tools_value_read(STDIN_FILENO, encoding, &pool, &value, why, sizeof why) == ERR_OK)
        status = cli__inspect(value, stdout, is_json);
    else
        status = cli__refuse(CLI_ERROR, "%s", why);
    slice_drop(&value);
    slab_pool_fini(&pool);
    return status;
}

static int run_with(const struct cli__args *args, const char *input, const char *output)
{
    enum tools_encoding encoding;
    bool is_json = output != NULL && strcmp(output, "json") == 0;

    if (args->wants_help) {
        fputs(inspect_help, stdout);
        return CLI_OK;
    }
    if (args->rest_count > 0)
        return cli__refuse(CLI_USAGE, "inspect: unexpected \"%.100s\"; it takes --input, --output",
                           args->rest[0]);
    if (!tools_encoding_parse(input, &encoding))
        return cli__refuse(CLI_USAGE, "--input: \"%.40s\" is not raw, base64 or hex", input);
    if (output != NULL && !is_json && strcmp(output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", output);
    return run(encoding, is_json);
}

int cli_inspect(int argc, char *const argv[])
{
    const char *input = NULL, *output = NULL;
    const struct cli__flag flags[] = {{.name = "input", .value = &input},
                                      {.name = "output", .value = &output}};
    struct cli__args args;
    char why[256];
    int status;

    if (cli__args_take(argc, argv, flags, ARRAY_LEN(flags), &args, why, sizeof why) != ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", why);
    status = run_with(&args, input, output);
    free(args.rest);
    return status;
}
