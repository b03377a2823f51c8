/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: what a stored value says of itself, without any key. First the facts are gathered, then
 * shown. Whether an envelope is valid is asked of envelope_identify, with a provider made from the
 * value's own prefix: so the verdict is that of every reader. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "kms/text.h"

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

struct kind {
    const char *prefix; /* behind "k8s:enc:" */
    const char *provider, *version;
    enum provider_kind kind;
    size_t nonce_len, tag_len;
};

static const struct kind kinds[] = {
    {"kms:v2:", "kms", "v2", PROVIDER_KMS_V2, 12, 16},
    {"kms:v1:", "kms", "v1", PROVIDER_KMS_V1, 12, 16},
    {"aesgcm:v1:", "aesgcm", "v1", PROVIDER_AESGCM, 12, 16},
    {"aescbc:v1:", "aescbc", "v1", PROVIDER_AESCBC, 16, 0},
    {"secretbox:v1:", "secretbox", "v1", PROVIDER_SECRETBOX, 24, 16},
};

#define INFO_LEN 32u
#define BLOCK_LEN 16u
#define NAME_MAX_LEN 1024u /* our own bound: no name is that long */

enum verdict { MALFORMED = 0, PLAINTEXT, ENVELOPE };

struct remark {
    const char *class, *text;
};

#define REMARKS_MAX 8

struct facts {
    struct bytes value;
    enum verdict verdict;
    const struct kind *kind; /* NULL: plaintext, or of no known provider */
    bool has_name;
    struct bytes name;         /* of the KMS provider or of the local key */
    struct bytes body;         /* behind the name */
    struct cli__object object; /* kms v2 */
    struct bytes wrapped;      /* kms v1 */
    size_t data_len;           /* info, nonce, ciphertext and tag */
    size_t info_len, text_len; /* text: the ciphertext */
    bool has_parts;            /* data_len is enough for all of them */
    size_t plain_min, plain_max;
    struct remark problems[REMARKS_MAX], notes[REMARKS_MAX];
    size_t problem_count, note_count;
};

/* Each class once. */
static void problem(struct facts *f, const char *class, const char *text)
{
    for (size_t i = 0; i < f->problem_count; i++)
        if (strcmp(f->problems[i].class, class) == 0)
            return;
    CHECK(f->problem_count < REMARKS_MAX);
    f->problems[f->problem_count++] = (struct remark){class, text};
}

static void problem_err(struct facts *f, enum err e)
{
    if (e != ERR_OK)
        problem(f, err_reason(e), cli__words(e));
}

static void note(struct facts *f, const char *class, const char *text)
{
    CHECK(f->note_count < REMARKS_MAX);
    f->notes[f->note_count++] = (struct remark){class, text};
}

/* --- facts ------------------------------------------------------------------------------------ */

/* What a reader with this provider says of the value without a key. */
static enum err judge(const struct facts *f, size_t len)
{
    size_t head = strlen(ENVELOPE_MARK) + strlen(f->kind->prefix);
    bool is_kms = f->kind->kind == PROVIDER_KMS_V2 || f->kind->kind == PROVIDER_KMS_V1;
    const struct local_key key = {.prefix = bytes_of(f->name.p, f->name.n + 1)};
    const struct provider provider = {
        .kind = f->kind->kind,
        .name = "",
        .prefix = bytes_of(f->value.p, is_kms ? head + f->name.n + 1 : head),
        .keys = &key,
        .key_count = is_kms ? 0 : 1};
    const struct provider *const one[] = {&provider};
    const struct provider_list list = {one, 1, ""};
    struct slab slab;
    struct slice slice = slice_static(&slab, f->value.p, (uint32_t)len);
    struct chain chain = {0};
    struct arena arena = {0};
    struct envelope_value v;
    enum err e = chain_push(&chain, &slice);

    if (e == ERR_OK)
        e = envelope_identify(&list, &chain, 0, len, &arena, &v);
    arena_fini(&arena);
    chain_fini(&chain);
    return e;
}

/* The name ends at the ':' at place n. */
static void set_name(struct facts *f, struct bytes from, size_t n)
{
    f->name = bytes_of(from.p, n);
    f->body = bytes_of(from.p + n + 1, from.n - n - 1);
    f->has_name = true;
}

/* A kms v2 name holds no ':'. A kms v1 name may, but then what follows its first part is no length
 * that fits: the first place where one stands ends it. */
static bool find_name(struct facts *f, struct bytes from)
{
    size_t max = from.n < NAME_MAX_LEN ? from.n : NAME_MAX_LEN;
    const uint8_t *first = memchr(from.p, ':', max);

    if (first == NULL)
        return false;
    for (size_t n = (size_t)(first - from.p); n < max && from.p[n] >= 0x20; n++) {
        if (from.p[n] != ':')
            continue;
        set_name(f, from, n);
        if (f->kind->kind != PROVIDER_KMS_V1 || judge(f, f->value.n) == ERR_OK)
            return true;
    }
    set_name(f, from, (size_t)(first - from.p));
    return true;
}

static void look_at_name_end(struct facts *f)
{
    size_t n = 0;

    while (n < f->body.n && f->body.p[n] > 0x20 && f->body.p[n] < 0x7f && f->body.p[n] != ':')
        n++;
    if (n < f->body.n && f->body.p[n] == ':')
        note(f, "name_ambiguous", "key names may contain ':', so the name may be longer");
}

/* Divides data_len bytes; plaintext of the kinds that authenticate has the ciphertext's length. */
static void divide(struct facts *f)
{
    size_t overhead = f->info_len + f->kind->nonce_len + f->kind->tag_len;

    if (f->data_len < overhead)
        return;
    f->text_len = f->data_len - overhead;
    f->has_parts = true;
    f->plain_min = f->plain_max = f->text_len;
    if (f->kind->kind != PROVIDER_AESCBC)
        return;
    f->has_parts = f->text_len >= BLOCK_LEN && f->text_len % BLOCK_LEN == 0;
    f->plain_min = f->has_parts ? f->text_len - BLOCK_LEN : 0;
    f->plain_max = f->has_parts ? f->text_len - 1 : 0;
}

static enum err look_at_object(struct facts *f)
{
    TRY(cli__object_look(f->body, &f->object));
    f->data_len = f->object.data.n;
    f->info_len = f->object.id.type == DEK_HKDF_SEED ? INFO_LEN : 0;
    if (f->object.unknown_count > 0)
        note(f, "unknown_fields", "there are fields that no Kubernetes version writes");
    if (f->object.doubled_count > 0)
        note(f, "doubled_fields", "a field is there twice: the last one counts");
    if (f->object.is_whole && f->object.id.type == DEK_AES_GCM_KEY)
        note(f, "old_source_type",
             "source type 0 is of Kubernetes before v1.29: due for a rewrite");
    return ERR_OK;
}

/* LENGTH(2, big-endian) WRAPPED PAYLOAD. */
static void look_at_kms_v1(struct facts *f)
{
    size_t n = f->body.n < 2 ? 0 : (size_t)f->body.p[0] << 8 | f->body.p[1];

    if (f->body.n < 2 || n > f->body.n - 2)
        return;
    f->wrapped = bytes_of(f->body.p + 2, n);
    f->data_len = f->body.n - 2 - n;
    note(f, "kms_v1", "servers before v1.25 wrote AES-CBC payloads, which look the same");
}

static enum err look_at_body(struct facts *f)
{
    f->data_len = f->body.n;
    switch (f->kind->kind) {
    case PROVIDER_KMS_V2:
        TRY(look_at_object(f));
        break;
    case PROVIDER_KMS_V1:
        f->data_len = 0;
        look_at_kms_v1(f);
        break;
    case PROVIDER_AESCBC:
        note(f, "not_authenticated", "AES-CBC proves nothing: damage may go unseen");
        look_at_name_end(f);
        break;
    case PROVIDER_SECRETBOX:
        note(f, "not_bound", "secretbox does not bind a value to its etcd key");
        look_at_name_end(f);
        break;
    default:
        look_at_name_end(f);
        break;
    }
    divide(f);
    return ERR_OK;
}

/* A reader stops at the first rule that is broken; here all of them are named. */
static void look_at_rules(struct facts *f)
{
    struct dek_id id = f->object.id;

    if (id.type != DEK_AES_GCM_KEY && id.type != DEK_HKDF_SEED)
        problem_err(f, ERR_UNKNOWN_DEK_SOURCE_TYPE);
    if (f->object.data.n == 0)
        problem_err(f, ERR_ENCRYPTED_DATA_EMPTY);
    if (id.wrapped.n == 0 || id.wrapped.n > LIMIT_WRAPPED_DEK)
        problem_err(f, id.wrapped.n == 0 ? ERR_DEK_SOURCE_EMPTY : ERR_DEK_SOURCE_TOO_LONG);
    problem_err(f, dek_key_id_validate(id.key_id));
    id.type = DEK_HKDF_SEED;
    id.wrapped = id.key_id = BYTES_LIT("good");
    problem_err(f, dek_id_validate(&id)); /* the annotations alone */
}

/* Data that is too short is told by the length alone, whatever a reader's cipher calls it. */
static void look_for_problems(struct facts *f, enum err e)
{
    bool is_short = !f->has_parts && f->kind->kind != PROVIDER_AESCBC &&
                    (e == ERR_OK || e == ERR_AUTH_FAILED || f->data_len > 0);

    if (e == ERR_OK && !is_short) {
        f->verdict = ENVELOPE;
        return;
    }
    if (e != ERR_AUTH_FAILED)
        problem_err(f, e);
    if (f->kind->kind == PROVIDER_KMS_V2 && f->object.is_whole)
        look_at_rules(f);
    if (is_short)
        problem_err(f, ERR_TOO_SHORT);
    if (f->kind->kind == PROVIDER_KMS_V2 && f->value.p[f->value.n - 1] == '\n' &&
        judge(f, f->value.n - 1) == ERR_OK)
        note(f, "line_feed",
             "without the line feed at its end it is well formed: etcdctl get --print-value-only "
             "adds one");
}

static const struct kind *find_kind(struct bytes behind_mark)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (bytes_has_prefix(behind_mark, bytes_str(kinds[i].prefix)))
            return &kinds[i];
    return NULL;
}

static enum err gather(struct facts *f)
{
    size_t mark = strlen(ENVELOPE_MARK);
    struct bytes rest;
    enum err e;

    if (!bytes_has_prefix(f->value, BYTES_LIT(ENVELOPE_MARK))) {
        f->verdict = PLAINTEXT;
        f->plain_min = f->plain_max = f->value.n;
        return ERR_OK;
    }
    rest = bytes_of(f->value.p + mark, f->value.n - mark);
    f->kind = find_kind(rest);
    if (f->kind == NULL) {
        problem(f, "unknown_provider",
                "it begins with " ENVELOPE_MARK ", but with no provider and version that is known");
        return ERR_OK;
    }
    mark = strlen(f->kind->prefix);
    if (!find_name(f, bytes_of(rest.p + mark, rest.n - mark))) {
        problem(f, "no_name", "the name behind the provider's prefix does not end with ':'");
        return ERR_OK;
    }
    TRY(look_at_body(f));
    e = judge(f, f->value.n);
    if (e == ERR_NOMEM)
        return e;
    look_for_problems(f, e);
    return ERR_OK;
}

/* --- the report ------------------------------------------------------------------------------- */

static const char *looks_like(struct bytes v)
{
    size_t at = 0;

    if (v.n == 0)
        return "empty";
    if (bytes_has_prefix(v, bytes_of("k8s", 4))) /* with its NUL */
        return "Kubernetes protobuf";
    while (at < v.n && (v.p[at] == ' ' || v.p[at] == '\n' || v.p[at] == '\t' || v.p[at] == '\r'))
        at++;
    return at < v.n && (v.p[at] == '{' || v.p[at] == '[') ? "JSON" : "unknown";
}

static void show_object(const struct facts *f, struct cli__report *r)
{
    const struct dek_id *id = &f->object.id;
    char hash[KMS_HASH_TEXT], type[64];

    cli__report_bytes(r, "key_id", "key id", id->key_id);
    cli__report_text(r, "key_id_hash", "key id hash", kms_hash_text(id->key_id, hash));
    if (id->type == DEK_HKDF_SEED)
        snprintf(type, sizeof type, "HKDF_SHA256_XNONCE_AES_GCM_SEED");
    else if (id->type == DEK_AES_GCM_KEY)
        snprintf(type, sizeof type, "AES_GCM_KEY");
    else
        snprintf(type, sizeof type, "unknown (%d)", (int)id->type);
    cli__report_text(r, "source_type", "source type", type);
    cli__report_size(r, "wrapped_dek_length", "wrapped DEK", id->wrapped.n);
    cli__report_list_begin(r, "annotations");
    for (uint32_t i = 0; i < id->annotation_count; i++)
        cli__report_item_size(r, "annotation", id->annotations[i].key, id->annotations[i].value.n);
    cli__report_list_end(r);
}

static void show_plaintext_len(const struct facts *f, struct cli__report *r)
{
    if (f->plain_min == f->plain_max) {
        cli__report_size(r, "plaintext_length", "plaintext", f->plain_min);
        return;
    }
    cli__report_size(r, "plaintext_length_min", "plaintext from", f->plain_min);
    cli__report_size(r, "plaintext_length_max", "plaintext to", f->plain_max);
}

static void show_parts(const struct facts *f, struct cli__report *r)
{
    cli__report_size(r, "encrypted_data_length", "encrypted data", f->data_len);
    if (!f->has_parts)
        return;
    if (f->info_len > 0)
        cli__report_size(r, "info_length", "  info", f->info_len);
    cli__report_size(r, "nonce_length", f->kind->tag_len > 0 ? "  nonce" : "  IV",
                     f->kind->nonce_len);
    cli__report_size(r, "ciphertext_length", "  ciphertext", f->text_len);
    if (f->kind->tag_len > 0)
        cli__report_size(r, "tag_length", "  tag", f->kind->tag_len);
    show_plaintext_len(f, r);
}

static void show_envelope(const struct facts *f, struct cli__report *r)
{
    bool is_kms = f->kind->kind == PROVIDER_KMS_V2 || f->kind->kind == PROVIDER_KMS_V1;
    char provider[32];

    if (r->is_json) {
        cli__report_text(r, "provider", "", f->kind->provider);
        cli__report_text(r, "version", "", f->kind->version);
    } else {
        snprintf(provider, sizeof provider, "%s %s", f->kind->provider, f->kind->version);
        cli__report_text(r, "", "provider", provider);
    }
    if (!f->has_name)
        return;
    cli__report_bytes(r, is_kms ? "name" : "key_name", is_kms ? "name" : "key name", f->name);
    if (f->kind->kind == PROVIDER_KMS_V2)
        show_object(f, r);
    if (f->kind->kind == PROVIDER_KMS_V1)
        cli__report_size(r, "wrapped_dek_length", "wrapped DEK", f->wrapped.n);
    show_parts(f, r);
}

static void show_remarks(struct cli__report *r, const char *name, const char *label,
                         const struct remark *v, size_t count)
{
    cli__report_list_begin(r, name);
    for (size_t i = 0; i < count; i++)
        cli__report_item_text(r, label, v[i].class, v[i].text);
    cli__report_list_end(r);
}

static void show(const struct facts *f, FILE *out, bool is_json)
{
    static const char *const words[] = {[MALFORMED] = "malformed envelope",
                                        [PLAINTEXT] = "plaintext, not sealed",
                                        [ENVELOPE] = "well-formed envelope"};
    static const char *const names[] = {
        [MALFORMED] = "malformed", [PLAINTEXT] = "plaintext", [ENVELOPE] = "envelope"};
    struct cli__report r;

    cli__report_begin(&r, out, is_json);
    cli__report_text(&r, "form", "form", is_json ? names[f->verdict] : words[f->verdict]);
    cli__report_size(&r, "length", "stored value", f->value.n);
    if (f->kind != NULL)
        show_envelope(f, &r);
    if (f->verdict == PLAINTEXT) {
        cli__report_text(&r, "looks_like", "looks like", looks_like(f->value));
        cli__report_size(&r, "plaintext_length", "plaintext", f->plain_min);
    }
    show_remarks(&r, "problems", "problem", f->problems, f->problem_count);
    show_remarks(&r, "notes", "note", f->notes, f->note_count);
    cli__report_end(&r);
}

int cli__inspect(struct slice value, FILE *f, bool is_json)
{
    static const int statuses[] = {
        [MALFORMED] = CLI_UNREADABLE, [PLAINTEXT] = CLI_NOT_AS_WANTED, [ENVELOPE] = CLI_OK};
    struct facts facts = {.value = slice_bytes(value)};
    enum err e = gather(&facts);
    int status;

    if (e == ERR_OK)
        show(&facts, f, is_json);
    cli__object_fini(&facts.object);
    if (e != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot look at the value: %s", err_reason(e));
    status = statuses[facts.verdict];
    return fflush(f) == 0 && !ferror(f) ? status
                                        : cli__refuse(CLI_ERROR, "cannot write the report");
}

/* --- the subcommand --------------------------------------------------------------------------- */

static int run(enum cli__encoding encoding, bool is_json)
{
    struct slab_pool pool;
    struct slice value;
    char why[CLI__WHY_MAX];
    int status;

    /* The value may be plaintext: no core file of it. */
    if (secret_init() != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot lock memory: raise RLIMIT_MEMLOCK (ulimit -l) to at "
                                      "least 8 MiB");
    slab_pool_init(&pool, 0);
    if (cli__value_read(STDIN_FILENO, encoding, &pool, &value, why, sizeof why) == ERR_OK)
        status = cli__inspect(value, stdout, is_json);
    else
        status = cli__refuse(CLI_ERROR, "%s", why);
    slice_drop(&value);
    slab_pool_fini(&pool);
    return status;
}

static int run_with(const struct cli__args *args, const char *input, const char *output)
{
    enum cli__encoding encoding;
    bool is_json = output != NULL && strcmp(output, "json") == 0;

    if (args->wants_help) {
        fputs(inspect_help, stdout);
        return CLI_OK;
    }
    if (args->rest_count > 0)
        return cli__refuse(CLI_USAGE, "inspect: unexpected \"%.100s\"; it takes --input, --output",
                           args->rest[0]);
    if (!cli__encoding_parse(input, &encoding))
        return cli__refuse(CLI_USAGE, "--input: \"%.40s\" is not raw, base64 or hex", input);
    if (output != NULL && !is_json && strcmp(output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", output);
    return run(encoding, is_json);
}

int cli_inspect(int argc, char *const argv[])
{
    const char *input = NULL, *output = NULL;
    const struct cli__flag flags[] = {{"input", &input}, {"output", &output}};
    struct cli__args args;
    char why[256];
    int status;

    if (cli__args_take(argc, argv, flags, ARRAY_LEN(flags), &args, why, sizeof why) != ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", why);
    status = run_with(&args, input, output);
    free(args.rest);
    return status;
}
