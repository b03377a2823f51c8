/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: what a stored value says of itself. The facts are gathered (facts.c), then shown. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/facts.h"
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

static void show_object(const struct cli__facts *f, struct cli__report *r)
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

static void show_plaintext_len(const struct cli__facts *f, struct cli__report *r)
{
    if (f->plain_min == f->plain_max) {
        cli__report_size(r, "plaintext_length", "plaintext", f->plain_min);
        return;
    }
    cli__report_size(r, "plaintext_length_min", "plaintext from", f->plain_min);
    cli__report_size(r, "plaintext_length_max", "plaintext to", f->plain_max);
}

static void show_parts(const struct cli__facts *f, struct cli__report *r)
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

static void show_envelope(const struct cli__facts *f, struct cli__report *r)
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
                         const struct cli__remark *v, size_t count)
{
    cli__report_list_begin(r, name);
    for (size_t i = 0; i < count; i++)
        cli__report_item_text(r, label, v[i].class, v[i].text);
    cli__report_list_end(r);
}

static void show(const struct cli__facts *f, FILE *out, bool is_json)
{
    static const char *const words[] = {[CLI__MALFORMED] = "malformed envelope",
                                        [CLI__PLAINTEXT] = "plaintext, not sealed",
                                        [CLI__ENVELOPE] = "well-formed envelope"};
    static const char *const names[] = {[CLI__MALFORMED] = "malformed",
                                        [CLI__PLAINTEXT] = "plaintext",
                                        [CLI__ENVELOPE] = "envelope"};
    struct cli__report r;

    cli__report_begin(&r, out, is_json);
    cli__report_text(&r, "form", "form", is_json ? names[f->verdict] : words[f->verdict]);
    cli__report_size(&r, "length", "stored value", f->value.n);
    if (f->kind != NULL)
        show_envelope(f, &r);
    if (f->verdict == CLI__PLAINTEXT) {
        cli__report_text(&r, "looks_like", "looks like", looks_like(f->value));
        cli__report_size(&r, "plaintext_length", "plaintext", f->plain_min);
    }
    show_remarks(&r, "problems", "problem", f->problems, f->problem_count);
    show_remarks(&r, "notes", "note", f->notes, f->note_count);
    cli__report_end(&r);
}

int cli__inspect(struct slice value, FILE *f, bool is_json)
{
    static const int statuses[] = {[CLI__MALFORMED] = CLI_UNREADABLE,
                                   [CLI__PLAINTEXT] = CLI_NOT_AS_WANTED,
                                   [CLI__ENVELOPE] = CLI_OK};
    struct cli__facts facts;
    enum err e = cli__facts_gather(slice_bytes(value), &facts);
    int status;

    if (e == ERR_OK)
        show(&facts, f, is_json);
    cli__facts_fini(&facts);
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

    /* The value may be plaintext: no core file of it. No key is held, so nothing has to be locked.
     */
    if (secret_init_any() != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot switch core files off");
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
