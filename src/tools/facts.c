/* SPDX-License-Identifier: Apache-2.0 */
/* How a value is taken apart: "k8s:enc:", the provider, the name behind it, then the rest in the
 * form that this provider has. Whether the envelope is valid is decided by envelope_identify, with
 * a provider made from the value's own prefix: so the verdict is that of every reader. */
#include "tools/facts.h"

#include "base/fips.h"
#include "tools/words.h"

#define INFO_LEN 32u
#define NAME_MAX_LEN 1024u /* our own bound: no name is that long */

/* Notes a problem, unless one of its class is noted already. */
static void problem(struct tools_facts *f, const char *class, const char *text)
{
    for (size_t i = 0; i < f->problem_count; i++)
        if (strcmp(f->problems[i].class, class) == 0)
            return;
    CHECK(f->problem_count < TOOLS_REMARKS_MAX);
    f->problems[f->problem_count++] = (struct tools_remark){class, text};
}

static void problem_err(struct tools_facts *f, enum err e)
{
    if (e != ERR_OK)
        problem(f, err_reason(e), tools_words(e));
}

static void note(struct tools_facts *f, const char *class, const char *text)
{
    CHECK(f->note_count < TOOLS_REMARKS_MAX);
    f->notes[f->note_count++] = (struct tools_remark){class, text};
}

static void note_caution(struct tools_facts *f)
{
    if (f->kind->caution != NULL)
        note(f, f->kind->caution, f->kind->caution_text);
    if (!f->kind->is_fips && fips_is_on())
        note(f, "not_fips", FIPS_NO_SECRETBOX);
}

/* What a reader with this provider says of the value without a key. */
static enum err judge(const struct tools_facts *f, size_t len)
{
    size_t head = strlen(ENVELOPE_MARK) + strlen(f->kind->prefix);
    bool is_kms = f->kind->is_kms;
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
        e = envelope_identify(&list, chain_begin(&chain), len, &arena, NULL, &v);
    arena_fini(&arena);
    chain_fini(&chain);
    return e;
}

/* The name is the first n bytes, up to a ':'. */
static void set_name(struct tools_facts *f, struct bytes from, size_t n)
{
    f->name = bytes_of(from.p, n);
    f->body = bytes_of(from.p + n + 1, from.n - n - 1);
    f->has_name = true;
}

/* A kms v2 name holds no ':'. A kms v1 name may: it ends at the first ':' behind which the rest
 * makes a well-formed envelope, or, if there is none, at the very first ':'. */
static bool find_name(struct tools_facts *f, struct bytes from)
{
    size_t max = from.n < NAME_MAX_LEN ? from.n : NAME_MAX_LEN;
    const uint8_t *first = memchr(from.p, ':', max);

    if (first == NULL)
        return false;
    for (size_t n = (size_t)(first - from.p); n < max && from.p[n] >= 0x20; n++) {
        if (from.p[n] != ':')
            continue;
        set_name(f, from, n);
        if (f->kind->body != PROVIDER_BODY_WRAPPED || judge(f, f->value.n) == ERR_OK)
            return true;
    }
    set_name(f, from, (size_t)(first - from.p));
    return true;
}

static void look_at_name_end(struct tools_facts *f)
{
    size_t n = 0;

    while (n < f->body.n && f->body.p[n] > 0x20 && f->body.p[n] < 0x7f && f->body.p[n] != ':')
        n++;
    if (n < f->body.n && f->body.p[n] == ':')
        note(f, "name_ambiguous", "key names may contain ':', so the name may be longer");
}

/* Divides the data_len bytes into their parts. The plaintext is as long as the ciphertext, except
 * where it is padded: how much only a key can tell. */
static void divide(struct tools_facts *f)
{
    size_t overhead = f->info_len + f->kind->nonce_len + f->kind->tag_len;
    size_t block = f->kind->block_len;

    if (f->data_len < overhead)
        return;
    f->text_len = f->data_len - overhead;
    f->has_parts = true;
    f->plain_min = f->plain_max = f->text_len;
    if (block == 0)
        return;
    f->has_parts = f->text_len >= block && f->text_len % block == 0;
    f->plain_min = f->has_parts ? f->text_len - block : 0;
    f->plain_max = f->has_parts ? f->text_len - 1 : 0;
}

static enum err look_at_object(struct tools_facts *f)
{
    TRY(tools_object_look(f->body, &f->object));
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
static void look_at_wrapped(struct tools_facts *f)
{
    size_t n = f->body.n < 2 ? 0 : (size_t)f->body.p[0] << 8 | f->body.p[1];

    if (f->body.n < 2 || n > f->body.n - 2)
        return;
    f->wrapped = bytes_of(f->body.p + 2, n);
    f->data_len = f->body.n - 2 - n;
    note_caution(f);
}

static enum err look_at_body(struct tools_facts *f)
{
    f->data_len = f->body.n;
    switch (f->kind->body) {
    case PROVIDER_BODY_OBJECT:
        TRY(look_at_object(f));
        break;
    case PROVIDER_BODY_WRAPPED:
        f->data_len = 0;
        look_at_wrapped(f);
        break;
    case PROVIDER_BODY_DATA:
        note_caution(f);
        look_at_name_end(f);
        break;
    }
    divide(f);
    return ERR_OK;
}

/* A reader stops at the first rule that is broken; here all of them are named. */
static void look_at_rules(struct tools_facts *f)
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

/* Data that is too short is named as that; a reader's cipher may call it by another error. */
static void look_for_problems(struct tools_facts *f, enum err e)
{
    bool is_short = !f->has_parts && f->kind->block_len == 0 &&
                    (e == ERR_OK || e == ERR_AUTH_FAILED || f->data_len > 0);

    if (e == ERR_OK && !is_short) {
        f->verdict = TOOLS_ENVELOPE;
        return;
    }
    if (e != ERR_AUTH_FAILED)
        problem_err(f, e);
    if (f->kind->body == PROVIDER_BODY_OBJECT && f->object.is_whole)
        look_at_rules(f);
    if (is_short)
        problem_err(f, ERR_TOO_SHORT);
    if (f->kind->body == PROVIDER_BODY_OBJECT && f->value.p[f->value.n - 1] == '\n' &&
        judge(f, f->value.n - 1) == ERR_OK)
        note(f, "line_feed",
             "without the line feed at its end it is well formed: etcdctl get --print-value-only "
             "adds one");
}

enum err tools_facts_gather(struct bytes value, struct tools_facts *f)
{
    size_t mark = strlen(ENVELOPE_MARK);
    struct bytes rest;
    enum err e;

    *f = (struct tools_facts){.value = value};
    if (!bytes_has_prefix(f->value, BYTES_LIT(ENVELOPE_MARK))) {
        f->verdict = TOOLS_PLAINTEXT;
        f->plain_min = f->plain_max = f->value.n;
        return ERR_OK;
    }
    rest = bytes_of(f->value.p + mark, f->value.n - mark);
    f->kind = provider_traits_find(rest);
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

void tools_facts_fini(struct tools_facts *f)
{
    tools_object_fini(&f->object);
}
