/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors that the genuine Kubernetes code made (tests/golden/README.md). Each stored value is
 * read whole, in single bytes, and cut in two at every place (large ones: at some), both into
 * scratch and, where that applies, in place; all must end as the vector says. The configurations
 * are read by our own reader. */
#include "golden.h"

#include "config/encryption.h"

#define EVERY_CUT_BELOW 600u

static struct envelope_ctx *ctx;

/* --- provider lists -------------------------------------------------------------------------- */

#define LIST_MAX 8

#define KEYS_MAX 4

struct list_of {
    struct provider p[LIST_MAX];
    const struct provider *v[LIST_MAX];
    struct local_key keys[LIST_MAX][KEYS_MAX];
    char names[LIST_MAX][80], prefixes[LIST_MAX][128], key_prefixes[LIST_MAX][KEYS_MAX][80];
    struct provider_list list;
};

static void list_add_keys(struct list_of *l, uint32_t i, const struct enc_provider *from)
{
    struct provider *p = &l->p[i];

    assert_in_range(from->key_count, 1, KEYS_MAX);
    p->keys = l->keys[i];
    p->key_count = (uint32_t)from->key_count;
    for (size_t k = 0; k < from->key_count; k++) {
        const struct enc_key *key = &from->keys[k];

        snprintf(l->key_prefixes[i][k], sizeof l->key_prefixes[i][k], "%s:", key->name);
        l->keys[i][k].prefix = bytes_str(l->key_prefixes[i][k]);
        assert_int_equal(
            dek_new_local(p->kind, bytes_of(key->secret, key->secret_len), &l->keys[i][k].dek),
            ERR_OK);
    }
}

static void list_add(struct list_of *l, const struct enc_provider *from, bool cbc_reads)
{
    static const struct {
        enum provider_kind kind;
        const char *prefix;
    } locals[] = {
        [ENC_AESGCM] = {PROVIDER_AESGCM, "k8s:enc:aesgcm:v1:"},
        [ENC_AESCBC] = {PROVIDER_AESCBC, "k8s:enc:aescbc:v1:"},
        [ENC_SECRETBOX] = {PROVIDER_SECRETBOX, "k8s:enc:secretbox:v1:"},
    };
    uint32_t i = l->list.count++;
    struct provider *p = &l->p[i];

    assert_in_range(i, 0, LIST_MAX - 1);
    l->v[i] = p;
    *p = (struct provider){.kind = PROVIDER_IDENTITY, .name = l->names[i]};
    if (from->kind == ENC_KMS) {
        p->kind = from->kms_version == 1 ? PROVIDER_KMS_V1 : PROVIDER_KMS_V2;
        p->cbc_reads = cbc_reads;
        snprintf(l->names[i], sizeof l->names[i], "%s", from->name);
        snprintf(l->prefixes[i], sizeof l->prefixes[i], "k8s:enc:kms:v%d:%s:", from->kms_version,
                 from->name);
    } else if (from->kind != ENC_IDENTITY) {
        p->kind = locals[from->kind].kind;
        snprintf(l->prefixes[i], sizeof l->prefixes[i], "%s", locals[from->kind].prefix);
        list_add_keys(l, i, from);
    }
    p->prefix = bytes_str(l->prefixes[i]);
}

static bool is_configured(const struct enc_entry *entry, const char *resource)
{
    for (size_t i = 0; i < entry->resource_count; i++)
        if (strcmp(entry->resources[i], resource) == 0)
            return true;
    return false;
}

/* The configuration is the vector's own or the file's; those of the vectors have one entry. A
 * resource that isn't in it has identity. */
static void list_for(struct list_of *l, const json_t *file, const json_t *vector, bool cbc_reads)
{
    const struct enc_options o = {.is_reload = false};
    const json_t *detail = json_object_get(vector, "detail");
    const json_t *yaml = json_object_get(detail, "encryption_configuration");
    struct enc_provider identity = {.kind = ENC_IDENTITY};
    const struct enc_entry unconfigured = {.providers = &identity, .provider_count = 1};
    const struct enc_entry *entry;
    struct enc_config *config;
    char why[512];

    if (yaml == NULL)
        yaml = json_object_get(file, "encryption_configuration");
    assert_non_null(yaml);
    if (enc_config_parse(bytes_str(json_string_value(yaml)), &o, &config, why, sizeof why) !=
        ERR_OK)
        fail_msg("%s: %s", text(vector, "id"), why);
    assert_int_equal(config->entry_count, 1);
    *l = (struct list_of){.list = {.v = l->v, .resource = "secrets"}};
    entry = &config->entries[0];
    if (!is_configured(entry, text(vector, "resource")))
        entry = &unconfigured;
    for (size_t i = 0; i < entry->provider_count; i++)
        list_add(l, &entry->providers[i], cbc_reads);
    enc_config_free(config);
}

static void list_free(struct list_of *l)
{
    for (uint32_t i = 0; i < l->list.count; i++)
        for (uint32_t k = 0; k < l->p[i].key_count; k++)
            dek_drop(l->keys[i][k].dek);
}

/* The key id that the plugin of provider wraps with at present. */
static struct bytes status_key_id(const json_t *file, const json_t *vector,
                                  const struct provider *provider)
{
    const json_t *detail = json_object_get(vector, "detail");
    const json_t *plugin;
    size_t i;

    if (json_object_get(detail, "status_key_id") != NULL)
        return text_bytes(detail, "status_key_id");
    json_array_foreach(json_object_get(file, "kms_plugins"), i, plugin)
        if (strcmp(text(plugin, "provider"), provider->name) == 0)
            return text_bytes(plugin, "status_key_id");
    return bytes_of(NULL, 0);
}

/* --- reading --------------------------------------------------------------------------------- */

struct expected {
    const char *answer; /* "ok" or the class */
    bool is_stale;
    struct bytes plaintext;
};

struct reading {
    const json_t *file, *vector;
    const struct provider_list *list;
    struct bytes aad, stored;
    const struct expected *want;
    struct dek *dek; /* unwrapped once per vector */
    enum err dek_err;
    bool asked;
};

static void check_plaintext(const struct chain *c, size_t at, size_t n, struct bytes want)
{
    struct buf got = buf_new(n);

    assert_int_equal(n, want.n);
    chain_copy(c, at, n, got.p);
    assert_memory_equal(got.p, want.p, n);
    free(got.p);
}

static void need_dek(struct reading *r, const struct dek_id *id)
{
    struct buf secret;

    if (r->asked)
        return;
    r->asked = true;
    r->dek_err = unwrap(r->vector, id, &secret);
    if (r->dek_err != ERR_OK)
        return;
    r->dek_err = dek_new(id, view(secret), &r->dek);
    if (r->dek_err == ERR_OK)
        assert_true(dek_id_eq(&r->dek->id, id));
    free(secret.p);
}

/* stale: as far as the module tells. */
static bool is_stale(const struct reading *r, const struct envelope_value *v, bool stale)
{
    struct dek_id write_id = {.type = DEK_HKDF_SEED};

    if (!v->needs_dek || v->provider->kind == PROVIDER_KMS_V1)
        return stale;
    if (strcmp(v->provider->name, "u0visible") == 0) /* made by a server that writes type 0 */
        write_id.type = DEK_AES_GCM_KEY;
    write_id.key_id = status_key_id(r->file, r->vector, v->provider);
    return stale || dek_id_is_stale(&v->id, &write_id);
}

/* Whether what opened the value has proved it. */
static bool is_proved(const struct envelope_value *v, bool stale)
{
    if (v->provider->kind == PROVIDER_KMS_V1) /* of these lists always the first provider */
        return !stale;
    return v->provider->kind != PROVIDER_AESCBC;
}

/* Scratch first, since it leaves the input as it is. */
static enum err open_both(const struct reading *r, const struct envelope_value *v, struct chain *c,
                          bool *stale)
{
    struct chain opened = {0};
    struct envelope_opened o;
    struct slice s;
    size_t at = 0;
    enum err e =
        envelope_open_scratch(ctx, r->list, v, r->dek, r->aad, c, 0, c->len, &test_pool, &s, &o);

    check_plaintext(c, 0, c->len, r->stored);
    if (e == ERR_OK) {
        assert_int_equal(o.authentic, is_proved(v, o.stale));
        assert_int_equal(chain_push(&opened, &s), ERR_OK);
        check_plaintext(&opened, 0, opened.len, r->want->plaintext);
        chain_fini(&opened);
    } else {
        assert_false(o.authentic || o.stale);
        assert_null(s.slab);
    }
    *stale = o.stale;
    if (v->form == ENVELOPE_SCRATCH)
        return e;
    assert_int_equal(v->form, ENVELOPE_IN_PLACE);
    assert_int_equal(test_open_in_place(ctx, v, r->dek, r->aad, c, &at), e);
    if (e == ERR_OK) {
        assert_true(o.authentic);
        assert_int_equal(v->is_stale, o.stale);
        check_plaintext(c, at, v->plain_len, r->want->plaintext);
    }
    return e;
}

static enum err read_chain(struct reading *r, struct chain *c)
{
    struct arena arena = {0};
    struct envelope_value v;
    bool stale = false;
    enum err e = envelope_identify(r->list, chain_begin(c), c->len, &arena, NULL, &v);

    if (e != ERR_OK) {
        assert_int_equal(v.form, ENVELOPE_NONE);
    } else if (v.form == ENVELOPE_PLAIN) {
        assert_false(v.needs_dek);
        check_plaintext(c, v.data_at, v.plain_len, r->want->plaintext);
        stale = v.is_stale;
    } else {
        if (v.needs_dek)
            need_dek(r, &v.id);
        e = r->dek_err != ERR_OK ? r->dek_err : open_both(r, &v, c, &stale);
    }
    if (e == ERR_OK && is_stale(r, &v, stale) != r->want->is_stale)
        fail_msg("%s: stale should be %d", text(r->vector, "id"), r->want->is_stale);
    arena_fini(&arena);
    return e;
}

static void check_chain(struct reading *r, struct chain *c)
{
    enum err e = read_chain(r, c);

    if (strcmp(err_reason(e), r->want->answer) != 0)
        fail_msg("%s: got %s, want %s", text(r->vector, "id"), err_reason(e), r->want->answer);
    chain_fini(c);
}

static void check_reading(struct reading *r)
{
    size_t step = r->stored.n < EVERY_CUT_BELOW ? 1 : r->stored.n / 13;
    struct chain c = {0};

    for (size_t at = 0; at <= r->stored.n; at += step) {
        test_cut(&c, r->stored, at);
        check_chain(r, &c);
    }
    test_slice_up(&c, r->stored, r->stored.n < EVERY_CUT_BELOW ? 1 : 777);
    check_chain(r, &c);
    dek_drop(r->dek);
}

static const json_t *find(const json_t *file, const char *id)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(file, "vectors"), i, v)
        if (strcmp(text(v, "id"), id) == 0)
            return v;
    fail_msg("no vector %s", id);
    return NULL;
}

/* Values above 4096 bytes are in the file as head, tail and hash. Those of the read files are the
 * value "SET-ok" with one more annotation, "big.example" with so many 'v' that the length fits, in
 * front of the type. */
static struct buf stored_rebuilt(const json_t *file, const json_t *vector, size_t len)
{
    static const uint8_t key[] = "\x0a\x0b"
                                 "big.example\x12";
    const char *id = text(vector, "id");
    bool is_seed = strncmp(id, "kmsv2-seed", 10) == 0;
    struct buf base =
        hex_of(json_object_get(find(file, is_seed ? "kmsv2-seed-ok" : "kmsv2-gcmkey-ok"), "stored"),
               "hex");
    size_t type_len = is_seed ? 2 : 0, key_len = sizeof key - 1;
    size_t fill = len - base.n - (1 + 3 + key_len + 3); /* both lengths have 3 bytes */
    size_t entry = key_len + 3 + fill;
    struct buf b = buf_new(len);
    uint8_t *p = b.p;

    memcpy(p, base.p, base.n - type_len);
    p += base.n - type_len;
    *p++ = 0x22;
    *p++ = (uint8_t)(entry | 0x80), *p++ = (uint8_t)(entry >> 7 | 0x80),
    *p++ = (uint8_t)(entry >> 14);
    memcpy(p, key, key_len);
    p += key_len;
    *p++ = (uint8_t)(fill | 0x80), *p++ = (uint8_t)(fill >> 7 | 0x80), *p++ = (uint8_t)(fill >> 14);
    memset(p, 'v', fill);
    p += fill;
    memcpy(p, base.p + base.n - type_len, type_len);
    assert_ptr_equal(p + type_len, b.p + b.n);
    free(base.p);
    return b;
}

static struct buf stored_of(const json_t *file, const json_t *vector)
{
    const json_t *stored = json_object_get(vector, "stored");
    size_t len = (size_t)json_integer_value(json_object_get(stored, "len"));
    struct buf b;

    b = json_object_get(stored, "hex") != NULL ? hex_of(stored, "hex")
                                               : stored_rebuilt(file, vector, len);
    assert_int_equal(b.n, len);
    check_sha256(view(b), text(stored, "sha256"));
    return b;
}

/* Our own answer where it is listed, else NULL. */
static const char *our_answer(const char *name, const json_t *vector)
{
    char key[130];

    snprintf(key, sizeof key, "%s %s", name, text(vector, "id"));
    return json_string_value(json_object_get(differences, key));
}

static const char *genuine_answer(const json_t *vector)
{
    const json_t *expect = json_object_get(vector, "expect");

    return json_is_true(json_object_get(expect, "ok")) ? "ok" : text(expect, "class");
}

/* name: of the file's lines in DIFFERENCES. */
static void run_decrypt(const char *name, const json_t *file, const json_t *vector, bool cbc_reads)
{
    const json_t *expect = json_object_get(vector, "expect");
    struct buf stored = stored_of(file, vector), aad = hex_of(vector, "etcd_key_hex");
    struct buf plain = {0};
    const char *ours = our_answer(name, vector);
    struct expected want = {.answer = ours != NULL ? ours : genuine_answer(vector)};
    struct reading r = {
        .file = file, .vector = vector, .aad = view(aad), .stored = view(stored), .want = &want};
    struct list_of l;

    if (json_object_get(expect, "plaintext_hex") != NULL) {
        plain = hex_of(expect, "plaintext_hex");
        check_sha256(view(plain), text(expect, "plaintext_sha256"));
        want.plaintext = view(plain);
        want.is_stale = json_is_true(json_object_get(expect, "stale"));
    } else if (strcmp(want.answer, "ok") == 0) { /* only ours: a value like rotated-key-id's */
        plain = hex_of(json_object_get(find(file, "rotated-key-id"), "expect"), "plaintext_hex");
        want.plaintext = view(plain);
        want.is_stale = true; /* there is no present key id to be equal to */
    }
    list_for(&l, file, vector, cbc_reads);
    r.list = &l.list;
    check_reading(&r);
    list_free(&l);
    if (ours != NULL) /* or it has no place in the list */
        assert_string_not_equal(ours, genuine_answer(vector));
    if (ours == NULL) /* the plugin is asked exactly when the genuine code asked it */
        assert_int_equal(r.asked, json_object_get(vector, "kms_decrypt_calls") != NULL);
    free(stored.p);
    free(aad.p);
    free(plain.p);
}

static uint32_t run_file_as(const char *file_name, const char *name, bool cbc_reads)
{
    json_t *file = load(file_name);
    const json_t *v;
    uint32_t count = 0;
    size_t i;

    json_array_foreach(json_object_get(file, "vectors"), i, v) {
        if (strcmp(text(v, "op"), "decrypt") != 0)
            continue;
        run_decrypt(name, file, v, cbc_reads);
        count++;
    }
    json_decref(file);
    return count;
}

static uint32_t run_file(const char *name)
{
    return run_file_as(name, name, false);
}

static void reads(void **state)
{
    (void)state;
    assert_int_equal(run_file("kmsv2-read-seed"), 258);
    assert_int_equal(run_file("kmsv2-read-gcmkey"), 246);
    assert_int_equal(run_file("identity"), 10);
    assert_int_equal(run_file("union-stale"), 59);
}

static void reads_local_keys(void **state)
{
    (void)state;
    assert_int_equal(run_file("aescbc"), 98);
    assert_int_equal(run_file("aescbc-rotated"), 4);
    assert_int_equal(run_file("aescbc-overlap"), 24);
    assert_int_equal(run_file("aesgcm"), 84);
    assert_int_equal(run_file("aesgcm-rotated"), 4);
    assert_int_equal(run_file("aesgcm-overlap"), 24);
    assert_int_equal(run_file("secretbox"), 101);
    assert_int_equal(run_file("secretbox-rotated"), 4);
    assert_int_equal(run_file("secretbox-overlap"), 24);
}

/* Without and with the fallback to AES-CBC. */
static void reads_kms_v1(void **state)
{
    (void)state;
    assert_int_equal(run_file_as("kmsv1", "kmsv1", false), 88);
    assert_int_equal(run_file_as("kmsv1", "kmsv1-cbc", true), 88);
}

/* --- writing --------------------------------------------------------------------------------- */

static struct buf plaintext_of(const json_t *vector)
{
    const json_t *p = json_object_get(vector, "plaintext");
    size_t mul, add;
    struct buf b;

    if (json_object_get(p, "hex") != NULL)
        return hex_of(p, "hex");
    b = buf_new((size_t)json_integer_value(json_object_get(p, "len")));
    mul = (size_t)json_integer_value(json_object_get(p, "mul"));
    add = (size_t)json_integer_value(json_object_get(p, "add"));
    for (size_t i = 0; i < b.n; i++)
        b.p[i] = (uint8_t)(i * mul + add);
    check_sha256(view(b), text(vector, "plaintext_sha256"));
    return b;
}

/* One field 4 in wire form; all lengths of the vectors are below 128 or, for values, below 16384.
 */
static size_t annotation_put(uint8_t *out, const struct dek_annotation *a)
{
    uint8_t *p = out, *len_at;
    size_t n = 2 + a->key.n + 2 + (a->value.n >= 128) + a->value.n;

    *p++ = 0x22;
    len_at = p;
    p += n >= 128 ? 2 : 1;
    *len_at = (uint8_t)(n >= 128 ? n | 0x80 : n);
    if (n >= 128)
        len_at[1] = (uint8_t)(n >> 7);
    *p++ = 0x0a;
    *p++ = (uint8_t)a->key.n;
    memcpy(p, a->key.p, a->key.n);
    p += a->key.n;
    *p++ = 0x12;
    *p++ = (uint8_t)(a->value.n >= 128 ? a->value.n | 0x80 : a->value.n);
    if (a->value.n >= 128)
        *p++ = (uint8_t)(a->value.n >> 7);
    if (a->value.n > 0)
        memcpy(p, a->value.p, a->value.n);
    return (size_t)(p + a->value.n - out);
}

struct dek_parts {
    struct buf values[8], wrapped, secret;
    struct dek_annotation wire[8], sorted[8];
    struct dek_id id;
};

static void dek_parts_of(const json_t *detail, const char *secret_name, struct dek_parts *d)
{
    const json_t *a;
    size_t i;
    uint32_t count = 0;

    *d = (struct dek_parts){0};
    json_array_foreach(json_object_get(detail, "annotations_wire_order"), i, a) {
        d->values[count] = hex_of(a, "value_hex");
        d->wire[count] = (struct dek_annotation){text_bytes(a, "key"), view(d->values[count])};
        d->sorted[count] = d->wire[count];
        count++;
    }
    d->id.annotation_count = count;
    d->id.annotations = d->sorted;
    assert_int_equal(dek_annotations_sort(d->sorted, &d->id.annotation_count), ERR_OK);
    assert_int_equal(d->id.annotation_count, count);
    d->wrapped = hex_of(detail, "wrapped_dek_hex");
    d->secret = hex_of(detail, secret_name);
    d->id.wrapped = view(d->wrapped);
    d->id.key_id = text_bytes(detail, "key_id");
    d->id.type = (uint32_t)json_integer_value(json_object_get(detail, "encrypted_dek_source_type"));
}

static void dek_parts_free(struct dek_parts *d)
{
    for (size_t i = 0; i < ARRAY_LEN(d->values); i++)
        free(d->values[i].p);
    free(d->wrapped.p);
    free(d->secret.p);
}

/* Go puts two or more annotations in random order, we sort: exchanges the one for the other. The
 * annotations stand before the last tail_len bytes (the type). Returns whether anything changed. */
static bool resort(struct buf stored, const struct dek_parts *d, size_t tail_len)
{
    uint8_t wire[8192], sorted[8192];
    size_t n = 0, m = 0;
    uint8_t *at;

    for (uint32_t i = 0; i < d->id.annotation_count; i++) {
        n += annotation_put(wire + n, &d->wire[i]);
        m += annotation_put(sorted + m, &d->sorted[i]);
    }
    assert_int_equal(n, m);
    at = stored.p + stored.n - tail_len - n;
    assert_memory_equal(at, wire, n);
    memcpy(at, sorted, n);
    return memcmp(wire, sorted, n) != 0;
}

static struct buf seal_cut(const struct provider *p, const struct dek *dek, struct bytes aad,
                           struct bytes plain, size_t step, struct bytes random)
{
    struct chain c = {0};
    struct buf out;
    size_t len;

    test_slice_up(&c, plain, step);
    assert_int_equal(envelope_sealed_len(p, dek, plain.n, &len), ERR_OK);
    out = buf_new(len);
    test_random_left = random;
    assert_int_equal(envelope_seal(ctx, p, dek, aad, chain_begin(&c), plain.n, out.p), ERR_OK);
    assert_int_equal(test_random_left.n, 0);
    chain_fini(&c);
    return out;
}

static void check_reopens(const json_t *file, const json_t *vector, const struct provider *p,
                          struct bytes aad, struct bytes stored, struct bytes plain, bool is_stale_)
{
    const struct provider *v[] = {p};
    const struct provider_list list = {.v = v, .count = 1, .resource = "secrets"};
    const struct expected want = {.answer = "ok", .is_stale = is_stale_, .plaintext = plain};
    struct reading r = {
        .file = file, .vector = vector, .list = &list, .aad = aad, .stored = stored, .want = &want};

    check_reading(&r);
}

static struct provider provider_of(const json_t *detail)
{
    return test_kmsv2(text(detail, "provider"), text(detail, "prefix"));
}

/* Returns whether the annotations had to be sorted to compare. */
static bool run_seal(const json_t *file, const json_t *vector)
{
    const json_t *detail = json_object_get(vector, "detail");
    const json_t *stored = json_object_get(vector, "stored");
    struct provider p = provider_of(detail);
    struct buf aad = hex_of(vector, "etcd_key_hex"), plain = plaintext_of(vector);
    struct buf info = hex_of(detail, "info_hex"), nonce = hex_of(detail, "nonce_hex"), out;
    struct dek_parts d;
    uint8_t random[44];
    struct dek *dek;
    bool is_resorted = false;

    memcpy(random, info.p, 32);
    memcpy(random + 32, nonce.p, 12);
    dek_parts_of(detail, "seed_hex", &d);
    assert_int_equal(dek_new(&d.id, view(d.secret), &dek), ERR_OK);
    out = seal_cut(&p, dek, view(aad), view(plain), plain.n < 100 ? 7 : 1000,
                   bytes_of(random, sizeof random));
    assert_int_equal(out.n, json_integer_value(json_object_get(stored, "len")));
    if (json_object_get(stored, "hex") != NULL) {
        struct buf want = hex_of(stored, "hex");

        is_resorted = resort(want, &d, 2);
        assert_memory_equal(out.p, want.p, out.n);
        free(want.p);
    } else {
        assert_in_range(d.id.annotation_count, 0, 1); /* else the hash says nothing */
        check_sha256(view(out), text(stored, "sha256"));
    }
    check_reopens(file, vector, &p, view(aad), view(out), view(plain), false);
    dek_drop(dek);
    dek_parts_free(&d);
    free(out.p), free(aad.p), free(plain.p), free(info.p), free(nonce.p);
    return is_resorted;
}

static void seals_the_same_bytes(void **state)
{
    json_t *file = load("kmsv2-seed");
    const json_t *v;
    uint32_t resorted = 0;
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(file, "vectors")), 24);
    json_array_foreach(json_object_get(file, "vectors"), i, v)
        resorted += run_seal(file, v);
    assert_in_range(resorted, 1, 12); /* as many have two annotations or more */
    json_decref(file);
}

/* Type 0 is read, never written: a vector of a large value is made here to be read. */
static struct buf seal_type_0(const json_t *detail, struct bytes aad, struct bytes plain,
                              size_t len)
{
    struct buf out = buf_new(len), nonce = hex_of(detail, "nonce_hex");
    const char *prefix = text(detail, "prefix");
    size_t data_len = 28 + plain.n;
    struct dek_parts d;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *p = out.p;
    int n;

    dek_parts_of(detail, "dek_hex", &d);
    memcpy(p, prefix, strlen(prefix));
    p += strlen(prefix);
    *p++ = 0x0a;
    for (; data_len >= 128; data_len >>= 7)
        *p++ = (uint8_t)(data_len | 0x80);
    *p++ = (uint8_t)data_len;
    memcpy(p, nonce.p, 12);
    p += 12;
    EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, d.secret.p, nonce.p);
    EVP_EncryptUpdate(c, NULL, &n, aad.p, (int)aad.n);
    EVP_EncryptUpdate(c, p, &n, plain.p, (int)plain.n);
    EVP_EncryptFinal_ex(c, p + plain.n, &n);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, p + plain.n);
    EVP_CIPHER_CTX_free(c);
    p += plain.n + 16;
    *p++ = 0x12, *p++ = (uint8_t)d.id.key_id.n;
    memcpy(p, d.id.key_id.p, d.id.key_id.n);
    p += d.id.key_id.n;
    *p++ = 0x1a, *p++ = (uint8_t)d.wrapped.n;
    memcpy(p, d.wrapped.p, d.wrapped.n);
    p += d.wrapped.n;
    for (uint32_t i = 0; i < d.id.annotation_count; i++)
        p += annotation_put(p, &d.wire[i]);
    assert_ptr_equal(p, out.p + len);
    dek_parts_free(&d);
    free(nonce.p);
    return out;
}

static void reads_what_old_servers_wrote(void **state)
{
    json_t *file = load("kmsv2-gcmkey");
    const json_t *v;
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(file, "vectors")), 24);
    json_array_foreach(json_object_get(file, "vectors"), i, v) {
        const json_t *detail = json_object_get(v, "detail"), *s = json_object_get(v, "stored");
        struct provider p = provider_of(detail);
        struct buf aad = hex_of(v, "etcd_key_hex"), plain = plaintext_of(v), stored;
        size_t len = (size_t)json_integer_value(json_object_get(s, "len"));

        stored = json_object_get(s, "hex") != NULL
                     ? hex_of(s, "hex")
                     : seal_type_0(detail, view(aad), view(plain), len);
        check_sha256(view(stored), text(s, "sha256"));
        check_reopens(file, v, &p, view(aad), view(stored), view(plain), true);
        free(aad.p), free(plain.p), free(stored.p);
    }
    json_decref(file);
}

/* Identity stores the plaintext itself: there is nothing to call, and sealing with it is refused.
 */
static void identity_writes(void **state)
{
    json_t *file = load("identity");
    const json_t *v;
    uint32_t count = 0;
    size_t i, len;

    (void)state;
    json_array_foreach(json_object_get(file, "vectors"), i, v) {
        if (strcmp(text(v, "op"), "encrypt") != 0)
            continue;
        assert_string_equal(text(json_object_get(v, "plaintext"), "hex"),
                            text(json_object_get(v, "stored"), "hex"));
        count++;
    }
    assert_int_equal(count, 2);
    assert_int_equal(envelope_sealed_len(&test_identity, NULL, 1, &len), ERR_CONFIG);
    json_decref(file);
}

static void check_sealed(const json_t *vector, struct buf out)
{
    const json_t *stored = json_object_get(vector, "stored");

    assert_int_equal(out.n, json_integer_value(json_object_get(stored, "len")));
    check_sha256(view(out), text(stored, "sha256"));
}

/* The stored value that the vector's list writes with the vector's nonce. dek: kms v1. Then it is
 * read back by the same list. */
static void run_seal_by_list(const json_t *file, const json_t *vector, const struct dek *dek,
                             const char *nonce_name)
{
    struct buf aad = hex_of(vector, "etcd_key_hex"), plain = plaintext_of(vector);
    struct buf nonce = hex_of(json_object_get(vector, "detail"), nonce_name), out;
    const struct expected want = {.answer = "ok", .plaintext = view(plain)};
    struct reading r = {.file = file, .vector = vector, .aad = view(aad), .want = &want};
    struct list_of l;

    list_for(&l, file, vector, false);
    out = seal_cut(l.v[0], dek, view(aad), view(plain), plain.n < 100 ? 7 : 1000, view(nonce));
    check_sealed(vector, out);
    r.list = &l.list;
    r.stored = view(out);
    check_reading(&r);
    list_free(&l);
    free(out.p), free(aad.p), free(plain.p), free(nonce.p);
}

/* Every write of a file. */
static uint32_t seal_file(const char *name)
{
    json_t *file = load(name);
    const json_t *v;
    uint32_t count = 0;
    size_t i;

    json_array_foreach(json_object_get(file, "vectors"), i, v) {
        const json_t *detail = json_object_get(v, "detail");

        if (strcmp(text(v, "op"), "encrypt") != 0 ||
            json_object_get(detail, "iv_or_nonce_hex") == NULL)
            continue;
        run_seal_by_list(file, v, NULL, "iv_or_nonce_hex");
        count++;
    }
    json_decref(file);
    return count;
}

static void seals_with_local_keys(void **state)
{
    static const char *const kinds[] = {"aescbc", "aesgcm", "secretbox"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char name[40];

        assert_int_equal(seal_file(kinds[i]), 10);
        snprintf(name, sizeof name, "%s-names", kinds[i]);
        assert_int_equal(seal_file(name), 7);
        snprintf(name, sizeof name, "%s-rotated", kinds[i]);
        assert_int_equal(seal_file(name), 1);
    }
}

/* With the DEK that the genuine code had made and the plugin had wrapped. */
static void seals_kms_v1(void **state)
{
    json_t *file = load("kmsv1");
    const json_t *v;
    uint32_t count = 0;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(file, "vectors"), i, v) {
        const json_t *detail = json_object_get(v, "detail");
        struct buf wrapped, secret;
        struct dek_id id = {.type = DEK_KMS_V1_KEY};
        struct dek *dek;

        if (strcmp(text(v, "op"), "encrypt") != 0)
            continue;
        wrapped = hex_of(detail, "wrapped_dek_hex");
        secret = hex_of(detail, "dek_hex");
        id.wrapped = view(wrapped);
        assert_int_equal(dek_new(&id, view(secret), &dek), ERR_OK);
        run_seal_by_list(file, v, dek, "nonce_hex");
        dek_drop(dek);
        free(wrapped.p), free(secret.p);
        count++;
    }
    assert_int_equal(count, 10);
    json_decref(file);
}

static int setup(void **state)
{
    load_differences();
    return test_setup(state) == 0 && envelope_ctx_new(test_random, NULL, &ctx) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    json_decref(differences);
    envelope_ctx_free(ctx);
    return test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(reads_local_keys),
        cmocka_unit_test(reads_kms_v1),
        cmocka_unit_test(seals_the_same_bytes),
        cmocka_unit_test(seals_with_local_keys),
        cmocka_unit_test(seals_kms_v1),
        cmocka_unit_test(reads_what_old_servers_wrote),
        cmocka_unit_test(identity_writes),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
