/* SPDX-License-Identifier: Apache-2.0 */
/* encrypt and decrypt. Happy path: flags and settings; the rule set as serve makes it; the value
 * from standard input; sealed or opened by tools/crypt.c; the result to standard output. Nothing is
 * written before all of it has worked. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "policy/load.h"
#include "tools/crypt.h"
#include "tools/snapshot.h"
#include "tools/value.h"

struct tool {
    const char *key;
    const char *encoding;
    const char *snapshot; /* the value is in this file; NULL: on standard input */
    bool skip_hash;
    struct settings *settings;
    struct ruleset *rules;
    struct tools_crypt crypt;
    enum err (*run)(struct tools_crypt *c); /* tools_encrypt or tools_decrypt */
    char why[CLI__WHY_MAX];
};

#define SHARED_HELP                                                                                \
    "Flags (the same as those of serve, with the same environment and --config-file):\n"           \
    "  --encryption-provider-config FILE\n"                                                        \
    "      kube-apiserver's EncryptionConfiguration, YAML or JSON\n"                               \
    "  --etcd-prefix PREFIX\n"                                                                     \
    "      the prefix of kube-apiserver's keys (default /registry)\n"                              \
    "  --resource-prefix RESOURCE=PREFIX, --protect-prefix PREFIX=RESOURCE\n"                      \
    "      what else is protected, and where it lies\n"                                            \
    "  --allow-identity-writes\n"                                                                  \
    "      allow a list that begins with identity, also one of nothing else\n"                     \
    "  --allow-unlocked-memory\n"                                                                  \
    "      go on where memory for keys can't be locked\n"                                          \
    "  --log-level LEVEL, --log-format FORMAT, --config-file FILE, --help\n"

static const char encrypt_help[] =
    "usage: etcd-envelope encrypt --key ETCD-KEY --encryption-provider-config FILE [flags]\n"
    "\n"
    "Reads a plaintext from standard input and writes to standard output what etcd would store\n"
    "under the key. A KMS plugin is asked where the key's first provider is one.\n"
    "\n"
    "  --key ETCD-KEY\n"
    "      the whole key, such as /registry/secrets/default/db-password\n"
    "\n" SHARED_HELP "\n"
    "Exit status: 0 done; 1 error, or the key is not protected; 2 used wrongly; 75 the KMS plugin\n"
    "is not reachable.\n";

static const char decrypt_help[] =
    "usage: etcd-envelope decrypt --key ETCD-KEY --encryption-provider-config FILE [flags]\n"
    "\n"
    "Reads a stored value from standard input and writes its plaintext to standard output. What\n"
    "etcdctl get --print-value-only prints has a line feed too many; better is\n"
    "  etcdctl get KEY -w json | jq -r '.kvs[0].value' | etcd-envelope decrypt --input base64 ...\n"
    "\n"
    "  --key ETCD-KEY\n"
    "      the whole key that the value lies under\n"
    "  --input raw|base64|hex\n"
    "      how the value is written (default raw)\n"
    "  --snapshot FILE\n" CLI__SNAPSHOT_HELP "\n" SHARED_HELP "\n"
    "Exit status: 0 done; 1 error, or the key is not protected, or not in the file; 2 used "
    "wrongly;\n"
    "4 the value does not open; 75 the KMS plugin is not reachable.\n";

/* --- the run ---------------------------------------------------------------------------------- */

/* A DEK that the plugin refuses is an unreadable value to decrypt, an error to encrypt. */
static int status_of(const struct tool *t, enum err e)
{
    if (err_scope(e) == SCOPE_DEK)
        return CLI_UNREACHABLE;
    return t->run == tools_decrypt && err_is_of_value(e) ? CLI_UNREADABLE : CLI_ERROR;
}

static int load(struct tool *t)
{
    const struct settings *o = t->settings;
    char key[LOG_KEY_MAX];

    if (o->encryption_provider_config == NULL)
        return cli__refuse(CLI_USAGE, "--encryption-provider-config is needed");
    if (policy_load(o, &t->rules, t->why, sizeof t->why) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s: %s", o->encryption_provider_config, t->why);
    if (tools_crypt_init(&t->crypt, t->rules, t->key) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot set up the crypto library");
    if (t->crypt.list == NULL)
        return cli__refuse(CLI_ERROR,
                           "key %s is not protected: no provider of %s applies to it, its values "
                           "are stored as they are",
                           log_key(t->key, strlen(t->key), key), o->encryption_provider_config);
    return CLI_OK;
}

static int read_snapshot(struct tool *t)
{
    const struct tools_snapshot_ask ask = {.path = t->snapshot,
                                           .skip_hash = t->skip_hash,
                                           .rules = t->rules,
                                           .key = t->key,
                                           .place = t->settings->converge_key};
    struct tools_snapshot s;
    struct slice value;
    enum err e;

    if (t->encoding != NULL)
        return cli__refuse(CLI_USAGE, "--input is of no use with --snapshot");
    e = tools_snapshot_open(&s, &ask, t->why, sizeof t->why);
    if (e == ERR_OK) {
        e = tools_snapshot_value(&s, &t->crypt.pool, &value, t->why, sizeof t->why);
        tools_snapshot_close(&s);
    }
    if (e == ERR_OK)
        e = chain_push(&t->crypt.in, &value);
    return e == ERR_OK ? CLI_OK : cli__refuse(CLI_ERROR, "%s", t->why);
}

static int read_input(struct tool *t)
{
    enum tools_encoding encoding;
    struct slice value;

    if (t->snapshot != NULL)
        return read_snapshot(t);
    if (!tools_encoding_parse(t->encoding, &encoding))
        return cli__refuse(CLI_USAGE, "--input: \"%.40s\" is not raw, base64 or hex", t->encoding);
    if (tools_value_read(STDIN_FILENO, encoding, &t->crypt.pool, &value, t->why, sizeof t->why) !=
            ERR_OK ||
        chain_push(&t->crypt.in, &value) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", t->why);
    return CLI_OK;
}

static int work(struct tool *t)
{
    enum err e = t->run(&t->crypt);

    if (e != ERR_OK)
        return cli__refuse(status_of(t, e), "%s", t->crypt.why);
    if (tools_value_write(STDOUT_FILENO, slice_bytes(t->crypt.out), t->why, sizeof t->why) !=
        ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", t->why);
    return CLI_OK;
}

static int run(struct tool *t)
{
    enum log_level level = t->settings->log_level;
    int status;

    if (t->key == NULL || t->key[0] == '\0')
        return cli__refuse(CLI_USAGE, "--key is needed: the key in etcd that the value belongs to");
    status = cli__lock_memory(t->settings);
    /* Without INFO: that the plugin is healthy is no news for a tool. */
    if (status == CLI_OK)
        status = cli__begin(t->settings, level == LOG_INFO ? LOG_WARN : level);
    if (status != CLI_OK)
        return status;
    cli__warn();
    signal(SIGPIPE, SIG_IGN);
    status = load(t);
    if (status == CLI_OK)
        status = read_input(t);
    if (status == CLI_OK)
        status = work(t);
    tools_crypt_fini(&t->crypt);
    ruleset_drop(t->rules);
    log_stop();
    return status;
}

/* --- exported --------------------------------------------------------------------------------- */

/* decrypt writes no values, so the flags that allow certain writers don't matter to it. */
static void allow_any_writer(struct settings *o)
{
    o->allow_identity_writes = true;
    o->allow_kms_v1_writes = true;
}

static int tool_main(int argc, char *const argv[], const char *help, bool has_input,
                     enum err (*fn)(struct tools_crypt *c))
{
    struct tool t = {.run = fn};
    const struct cli__flag flags[] = {{.name = "key", .value = &t.key},
                                      {.name = "input", .value = &t.encoding},
                                      {.name = "snapshot", .value = &t.snapshot},
                                      {.name = "skip-hash-check", .is_on = &t.skip_hash}};
    struct cli__args args;
    int status;

    if (cli__args_take(argc, argv, flags, has_input ? ARRAY_LEN(flags) : 1, &args, t.why,
                       sizeof t.why) != ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", t.why);
    if (args.wants_help) {
        fputs(help, stdout);
        status = CLI_OK;
    } else if (settings_parse(args.rest_count, args.rest, &t.settings, t.why, sizeof t.why) !=
               ERR_OK) {
        status = cli__refuse(CLI_USAGE, "%s", t.why);
    } else {
        if (fn == tools_decrypt)
            allow_any_writer(t.settings);
        status = run(&t);
    }
    settings_free(t.settings);
    free(args.rest);
    return status;
}

int cli_encrypt(int argc, char *const argv[])
{
    return tool_main(argc, argv, encrypt_help, false, tools_encrypt);
}

int cli_decrypt(int argc, char *const argv[])
{
    return tool_main(argc, argv, decrypt_help, true, tools_decrypt);
}
