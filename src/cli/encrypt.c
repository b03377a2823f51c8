/* SPDX-License-Identifier: Apache-2.0 */
/* encrypt and decrypt. Happy path: flags and settings; the rule set as serve makes it; the provider
 * list of --key; the value from standard input; its DEK, from a plugin where the provider has one;
 * the result to standard output. Nothing is written before all of it has worked. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/randpool.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "cli/rules.h"

struct tool {
    const char *key;
    const char *encoding;
    struct settings *settings;
    struct ruleset *rules;
    const struct provider_list *list; /* of key */
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct chain in;
    struct slice out;
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
    "\n" SHARED_HELP "\n"
    "Exit status: 0 done; 1 error, or the key is not protected; 2 used wrongly; 4 the value does\n"
    "not open; 75 the KMS plugin is not reachable.\n";

/* --- the common part -------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

static int status_of(enum err e)
{
    switch (e) {
    case ERR_NO_STATE:
    case ERR_KMS_AWAY:
    case ERR_NO_WRITE_KEY:
    case ERR_DEK_SOURCE_EXPOSED:
        return CLI_UNREACHABLE;
    default:
        return err_status(e) == GRPC_DATA_LOSS ? CLI_UNREADABLE : CLI_ERROR;
    }
}

static int load(struct tool *t)
{
    const struct settings *o = t->settings;
    char key[LOG_KEY_MAX];

    if (o->encryption_provider_config == NULL)
        return cli__refuse(CLI_USAGE, "--encryption-provider-config is needed");
    if (cli_rules_load(o, &t->rules, t->why, sizeof t->why) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s: %s", o->encryption_provider_config, t->why);
    t->list = etcd_rules_find(t->rules->rules, bytes_str(t->key));
    if (t->list == NULL)
        return cli__refuse(CLI_ERROR,
                           "key %s is not protected: no provider of %s applies to it, its values "
                           "are stored as they are",
                           log_key(t->key, strlen(t->key), key), o->encryption_provider_config);
    if (envelope_ctx_new(random_bytes, NULL, &t->ctx) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot set up the crypto library");
    return CLI_OK;
}

static int read_input(struct tool *t)
{
    enum cli__encoding encoding;
    struct slice value;

    if (!cli__encoding_parse(t->encoding, &encoding))
        return cli__refuse(CLI_USAGE, "--input: \"%.40s\" is not raw, base64 or hex", t->encoding);
    if (cli__value_read(STDIN_FILENO, encoding, &t->pool, &value, t->why, sizeof t->why) !=
            ERR_OK ||
        chain_push(&t->in, &value) != ERR_OK)
        return cli__refuse(CLI_ERROR, "%s", t->why);
    return CLI_OK;
}

static int write_output(struct tool *t, struct bytes value)
{
    return cli__value_write(STDOUT_FILENO, value, t->why, sizeof t->why) == ERR_OK
               ? CLI_OK
               : cli__refuse(CLI_ERROR, "%s", t->why);
}

/* The input as it is, which is in one slice. */
static struct bytes input_bytes(const struct tool *t)
{
    return t->in.count == 0 ? bytes_of(NULL, 0) : slice_bytes(*chain_at(&t->in, 0));
}

static void tool_fini(struct tool *t)
{
    slice_drop(&t->out);
    chain_fini(&t->in);
    slab_pool_settle(&t->pool);
    slab_pool_fini(&t->pool);
    if (t->ctx != NULL) {
        envelope_ctx_wipe(t->ctx);
        envelope_ctx_free(t->ctx);
    }
    ruleset_drop(t->rules);
}

static bool is_kms(const struct provider *p)
{
    return p->kind == PROVIDER_KMS_V2 || p->kind == PROVIDER_KMS_V1;
}

/* --- encrypt ---------------------------------------------------------------------------------- */

static enum err seal(struct tool *t, const struct provider *p, const struct dek *dek)
{
    struct slab *slab;
    size_t n;

    TRY(envelope_sealed_len(p, dek, t->in.len, &n));
    slab = slab_new(&t->pool, n, 0);
    if (slab == NULL)
        return ERR_NOMEM;
    slab->fill = (uint32_t)n;
    t->out = (struct slice){slab, 0, (uint32_t)n};
    return envelope_seal(t->ctx, p, dek, bytes_str(t->key), chain_begin(&t->in), t->in.len,
                         slab->data);
}

static int encrypt(struct tool *t)
{
    const struct provider *p = t->list->v[0];
    struct dek *dek = NULL;
    enum err e = ERR_OK;

    /* Whoever read it would get an envelope for an object. As plaintext it would be taken for an
     * envelope. */
    if (bytes_has_prefix(input_bytes(t), BYTES_LIT(ENVELOPE_MARK)))
        return cli__refuse(CLI_ERROR, "the input is sealed already: it begins with " ENVELOPE_MARK);
    if (p->kind == PROVIDER_IDENTITY)
        return write_output(t, input_bytes(t));
    if (is_kms(p))
        e = cli__fetch_dek(t->rules, p, NULL, &dek, t->why, sizeof t->why);
    if (e != ERR_OK)
        return cli__refuse(err_status(e) == GRPC_DATA_LOSS ? CLI_ERROR : status_of(e), "%s",
                           t->why);
    e = seal(t, p, dek);
    dek_drop(dek);
    if (e != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot seal the value: %s", err_reason(e));
    return write_output(t, slice_bytes(t->out));
}

/* --- decrypt ---------------------------------------------------------------------------------- */

static int does_not_open(enum err e)
{
    if (status_of(e) != CLI_UNREADABLE)
        return cli__refuse(status_of(e), "cannot open the value: %s", err_reason(e));
    return cli__refuse(CLI_UNREADABLE, "the value does not open: %s: %s", err_reason(e),
                       cli__words(e));
}

static int open_sealed(struct tool *t, const struct envelope_value *v)
{
    struct envelope_opened opened;
    struct dek *dek = NULL;
    enum err e = ERR_OK;

    if (v->needs_dek && !is_kms(v->provider))
        return cli__refuse(CLI_ERROR, "values of %s cannot be opened here",
                           (const char *)v->provider->prefix.p);
    if (v->needs_dek)
        e = cli__fetch_dek(t->rules, v->provider, &v->id, &dek, t->why, sizeof t->why);
    if (e != ERR_OK)
        return cli__refuse(status_of(e), "%s%s",
                           status_of(e) == CLI_UNREADABLE ? "the value does not open: " : "",
                           t->why);
    e = envelope_open_scratch(t->ctx, t->list, v, dek, bytes_str(t->key), &t->in, 0, t->in.len,
                              &t->pool, &t->out, &opened);
    dek_drop(dek);
    if (e != ERR_OK)
        return does_not_open(e);
    return write_output(t, slice_bytes(t->out));
}

static int decrypt(struct tool *t)
{
    struct arena arena = {0};
    struct envelope_value v;
    enum err e = envelope_identify(t->list, chain_begin(&t->in), t->in.len, &arena, NULL, &v);
    int status;

    if (e != ERR_OK)
        status = does_not_open(e);
    else if (v.form == ENVELOPE_PLAIN)
        status = write_output(t, input_bytes(t));
    else
        status = open_sealed(t, &v);
    arena_fini(&arena);
    return status;
}

/* --- exported --------------------------------------------------------------------------------- */

static int run(struct tool *t, int (*fn)(struct tool *t))
{
    enum log_level level = t->settings->log_level;
    int status;

    if (t->key == NULL || t->key[0] == '\0')
        return cli__refuse(CLI_USAGE, "--key is needed: the key in etcd that the value belongs to");
    status = cli__lock_memory(t->settings);
    if (status != CLI_OK)
        return status;
    /* The plugin's good health is no news here. */
    if (log_start(level == LOG_INFO ? LOG_WARN : level, t->settings->log_format) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot start the log");
    cli__warn_unlocked();
    signal(SIGPIPE, SIG_IGN);
    slab_pool_init(&t->pool, 0);
    status = load(t);
    if (status == CLI_OK)
        status = read_input(t);
    if (status == CLI_OK)
        status = fn(t);
    tool_fini(t);
    log_stop();
    return status;
}

/* decrypt writes nothing: what must be allowed before values are written so is no matter to it. */
static void allow_any_writer(struct settings *o)
{
    o->allow_identity_writes = true;
    o->allow_kms_v1_writes = true;
}

static int tool_main(int argc, char *const argv[], const char *help, bool has_input,
                     int (*fn)(struct tool *t))
{
    struct tool t = {0};
    const struct cli__flag flags[] = {{"key", &t.key}, {"input", &t.encoding}};
    struct cli__args args;
    int status;

    if (cli__args_take(argc, argv, flags, has_input ? 2 : 1, &args, t.why, sizeof t.why) != ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", t.why);
    if (args.wants_help) {
        fputs(help, stdout);
        status = CLI_OK;
    } else if (settings_parse(args.rest_count, args.rest, &t.settings, t.why, sizeof t.why) !=
               ERR_OK) {
        status = cli__refuse(CLI_USAGE, "%s", t.why);
    } else {
        if (fn == decrypt)
            allow_any_writer(t.settings);
        status = run(&t, fn);
    }
    settings_free(t.settings);
    free(args.rest);
    return status;
}

int cli_encrypt(int argc, char *const argv[])
{
    return tool_main(argc, argv, encrypt_help, false, encrypt);
}

int cli_decrypt(int argc, char *const argv[])
{
    return tool_main(argc, argv, decrypt_help, true, decrypt);
}
