/* SPDX-License-Identifier: Apache-2.0 */
/* What a stored value says of itself, as a report: the facts are those of facts.c. */
#include "tools/explain.h"

#include "base/fips.h"
#include "kms/text.h"
#include "tools/report.h"

static const char *looks_like(struct bytes v)
{
    size_t at = 0;

    if (v.n == 0)
        return "empty";
    if (bytes_has_prefix(v,
                         bytes_of("k8s", 4))) /* with its NUL: what protobuf objects begin with */
        return "Kubernetes protobuf";
    while (at < v.n && (v.p[at] == ' ' || v.p[at] == '\n' || v.p[at] == '\t' || v.p[at] == '\r'))
        at++;
    return at < v.n && (v.p[at] == '{' || v.p[at] == '[') ? "JSON" : "unknown";
}

static void show_object(const struct tools_facts *f, struct tools_report *r)
{
    const struct dek_id *id = &f->object.id;
    char hash[KMS_HASH_TEXT], type[64];

    tools_report_bytes(r, "key_id", "key id", id->key_id);
    tools_report_text(r, "key_id_hash", "key id hash", kms_hash_text(id->key_id, hash));
    if (id->type == DEK_HKDF_SEED)
        snprintf(type, sizeof type, "HKDF_SHA256_XNONCE_AES_GCM_SEED");
    else if (id->type == DEK_AES_GCM_KEY)
        snprintf(type, sizeof type, "AES_GCM_KEY");
    else
        snprintf(type, sizeof type, "unknown (%d)", (int)id->type);
    tools_report_text(r, "source_type", "source type", type);
    tools_report_size(r, "wrapped_dek_length", "wrapped DEK", id->wrapped.n);
    tools_report_list_begin(r, "annotations");
    for (uint32_t i = 0; i < id->annotation_count; i++)
        tools_report_item_size(r, "annotation", id->annotations[i].key, id->annotations[i].value.n);
    tools_report_list_end(r);
}

static void show_plaintext_len(const struct tools_facts *f, struct tools_report *r)
{
    if (f->plain_min == f->plain_max) {
        tools_report_size(r, "plaintext_length", "plaintext", f->plain_min);
        return;
    }
    tools_report_size(r, "plaintext_length_min", "plaintext from", f->plain_min);
    tools_report_size(r, "plaintext_length_max", "plaintext to", f->plain_max);
}

static void show_parts(const struct tools_facts *f, struct tools_report *r)
{
    tools_report_size(r, "encrypted_data_length", "encrypted data", f->data_len);
    if (!f->has_parts)
        return;
    if (f->info_len > 0)
        tools_report_size(r, "info_length", "  info", f->info_len);
    tools_report_size(r, "nonce_length", f->kind->tag_len > 0 ? "  nonce" : "  IV",
                      f->kind->nonce_len);
    tools_report_size(r, "ciphertext_length", "  ciphertext", f->text_len);
    if (f->kind->tag_len > 0)
        tools_report_size(r, "tag_length", "  tag", f->kind->tag_len);
    show_plaintext_len(f, r);
}

static void show_envelope(const struct tools_facts *f, struct tools_report *r)
{
    bool is_kms = f->kind->is_kms;
    char provider[32];

    if (r->is_json) {
        tools_report_text(r, "provider", "", f->kind->name);
        tools_report_text(r, "version", "", f->kind->version);
    } else {
        snprintf(provider, sizeof provider, "%s %s", f->kind->name, f->kind->version);
        tools_report_text(r, "", "provider", provider);
    }
    if (!f->has_name)
        return;
    tools_report_bytes(r, is_kms ? "name" : "key_name", is_kms ? "name" : "key name", f->name);
    if (f->kind->body == PROVIDER_BODY_OBJECT)
        show_object(f, r);
    if (f->kind->body == PROVIDER_BODY_WRAPPED)
        tools_report_size(r, "wrapped_dek_length", "wrapped DEK", f->wrapped.n);
    show_parts(f, r);
}

static void show_remarks(struct tools_report *r, const char *name, const char *label,
                         const struct tools_remark *v, size_t count)
{
    tools_report_list_begin(r, name);
    for (size_t i = 0; i < count; i++)
        tools_report_item_text(r, label, v[i].class, v[i].text);
    tools_report_list_end(r);
}

void tools_explain(const struct tools_facts *f, FILE *out, bool is_json)
{
    static const char *const words[] = {[TOOLS_MALFORMED] = "malformed envelope",
                                        [TOOLS_PLAINTEXT] = "plaintext, not sealed",
                                        [TOOLS_ENVELOPE] = "well-formed envelope"};
    static const char *const names[] = {[TOOLS_MALFORMED] = "malformed",
                                        [TOOLS_PLAINTEXT] = "plaintext",
                                        [TOOLS_ENVELOPE] = "envelope"};
    char provider[FIPS_PROVIDER_TEXT];
    struct tools_report r;

    tools_report_begin(&r, out, is_json);
    if (fips_is_on())
        tools_report_text(&r, "fips_provider", "FIPS provider", fips_provider(provider));
    tools_report_text(&r, "form", "form", is_json ? names[f->verdict] : words[f->verdict]);
    tools_report_size(&r, "length", "stored value", f->value.n);
    if (f->kind != NULL)
        show_envelope(f, &r);
    if (f->verdict == TOOLS_PLAINTEXT) {
        tools_report_text(&r, "looks_like", "looks like", looks_like(f->value));
        tools_report_size(&r, "plaintext_length", "plaintext", f->plain_min);
    }
    show_remarks(&r, "problems", "problem", f->problems, f->problem_count);
    show_remarks(&r, "notes", "note", f->notes, f->note_count);
    tools_report_end(&r);
}
