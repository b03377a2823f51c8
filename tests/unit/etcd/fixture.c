/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/secret.h"
#include "pb/pb.h"

static enum err random_fn(void *arg, void *out, size_t n)
{
    uint8_t *p = out;

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)fix_random(arg, 256);
    return ERR_OK;
}

uint32_t fix_random(struct fix *f, uint32_t below)
{
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(f->random >> 33) % below;
}

static struct dek *make_dek(size_t i)
{
    uint8_t secret[32], wrapped[40];
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = bytes_str("key-1"),
                        .wrapped = bytes_of(wrapped, sizeof wrapped)};
    struct dek *dek;

    memset(secret, (int)(i + 1), sizeof secret);
    memset(wrapped, (int)(i + 0x41), sizeof wrapped);
    assert_int_equal(dek_new(&id, bytes_of(secret, sizeof secret), &dek), ERR_OK);
    return dek;
}

void fix_init(struct fix *f)
{
    static bool has_secrets;

    memset(f, 0, sizeof *f);
    f->random = 42;
    if (!has_secrets)
        assert_int_equal(secret_init(), ERR_OK);
    has_secrets = true;
    slab_pool_init(&f->pool, 256);
    assert_int_equal(envelope_ctx_new(random_fn, f, &f->ctx), ERR_OK);
    for (size_t i = 0; i < FIX_DEKS; i++)
        f->deks[i] = make_dek(i);
    f->kms = (struct provider){
        .kind = PROVIDER_KMS_V2, .name = "one", .prefix = BYTES_LIT("k8s:enc:kms:v2:one:")};
    f->identity = (struct provider){.kind = PROVIDER_IDENTITY, .name = ""};
    f->kms_only[0] = f->kms_identity[0] = f->identity_kms[1] = &f->kms;
    f->kms_identity[1] = f->identity_kms[0] = &f->identity;
    assert_int_equal(dek_new_local(PROVIDER_AESCBC,
                                   bytes_of("0123456789abcdef0123456789abcdef", 32),
                                   &f->cbc_key.dek),
                     ERR_OK);
    f->cbc_key.prefix = BYTES_LIT("k1:");
    f->cbc = (struct provider){.kind = PROVIDER_AESCBC,
                               .name = "",
                               .prefix = BYTES_LIT("k8s:enc:aescbc:v1:"),
                               .keys = &f->cbc_key,
                               .key_count = 1};
    f->identity_kms[2] = f->cbc_only[0] = f->kms_cbc[1] = &f->cbc;
    f->kms_cbc[0] = &f->kms;
    f->local = (struct provider_list){f->cbc_only, 1, "cbc"};
    f->fromcbc = (struct provider_list){f->kms_cbc, 2, "fromcbc"};
    f->secrets = (struct provider_list){f->kms_only, 1, "secrets"};
    f->configmaps = (struct provider_list){f->kms_identity, 2, "configmaps"};
    f->moving = (struct provider_list){f->identity_kms, 3, "moving"};
    const struct etcd_rule rules[] = {
        {BYTES_LIT("/registry/secrets"), false, &f->secrets},
        {BYTES_LIT("/registry/configmaps"), false, &f->configmaps},
        {BYTES_LIT("/registry/moving"), false, &f->moving},
        {BYTES_LIT("/registry/cbc"), false, &f->local},
        {BYTES_LIT("/registry/fromcbc"), false, &f->fromcbc},
        {BYTES_LIT("/registry/open"), false, NULL},
        {BYTES_LIT("/registry"), false, &f->secrets},
    };
    assert_int_equal(etcd_rules_new(rules, ARRAY_LEN(rules), &f->rules), ERR_OK);
}

void fix_fini(struct fix *f)
{
    etcd_rules_free(f->rules);
    for (size_t i = 0; i < FIX_DEKS; i++)
        dek_drop(f->deks[i]);
    dek_drop(f->cbc_key.dek);
    envelope_ctx_free(f->ctx);
    slab_pool_fini(&f->pool);
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    if (b->n + n + 1 > b->cap) {
        b->cap = (b->n + n + 1) * 2;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    if (n > 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

struct buf buf_of(const void *p, size_t n)
{
    struct buf b = {0};

    buf_add(&b, p, n);
    return b;
}

struct buf buf_chain(struct chain *c)
{
    struct buf b = {malloc(c->len + 1), c->len, 0};

    assert_non_null(b.p);
    chain_copy(c, 0, c->len, b.p);
    chain_fini(c);
    return b;
}

void buf_varint(struct buf *b, uint32_t number, uint64_t v)
{
    uint8_t t[2 * PB_VARINT_MAX];
    size_t n = pb_put_varint(t, pb_tag(number, PB_VARINT));

    n += pb_put_varint(t + n, v);
    buf_add(b, t, n);
}

void buf_field(struct buf *b, uint32_t number, const void *p, size_t len)
{
    uint8_t t[2 * PB_VARINT_MAX];
    size_t n = pb_put_varint(t, pb_tag(number, PB_LEN));

    n += pb_put_varint(t + n, len);
    buf_add(b, t, n);
    buf_add(b, p, len);
}

void buf_str(struct buf *b, uint32_t number, const char *s)
{
    buf_field(b, number, s, strlen(s));
}

void buf_sub(struct buf *b, uint32_t number, struct buf *sub)
{
    buf_field(b, number, sub->p, sub->n);
    buf_free(sub);
}

void fix_chain(struct fix *f, const void *p, size_t n, const size_t *cuts, size_t count,
               struct chain *out)
{
    size_t from = 0;

    *out = (struct chain){0};
    for (size_t i = 0; i <= count; i++) {
        size_t to = i < count ? cuts[i] : n;
        struct slab *slab;
        struct slice s;

        if (to == from)
            continue;
        slab = slab_new(&f->pool, to - from, 0);
        assert_non_null(slab);
        memcpy(slab->data, (const uint8_t *)p + from, to - from);
        slab->fill = (uint32_t)(to - from);
        s = (struct slice){slab, 0, slab->fill};
        assert_int_equal(chain_push(out, &s), ERR_OK);
        from = to;
    }
}

static int size_cmp(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

void fix_chain_random(struct fix *f, const void *p, size_t n, size_t count, struct chain *out)
{
    size_t *cuts = calloc(count + 1, sizeof *cuts);

    assert_non_null(cuts);
    for (size_t i = 0; i < count; i++)
        cuts[i] = fix_random(f, (uint32_t)n + 1);
    qsort(cuts, count, sizeof *cuts, size_cmp);
    fix_chain(f, p, n, cuts, count, out);
    free(cuts);
}

void fix_resolve(struct fix *f, struct etcd_plan *p)
{
    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];

        assert_ptr_equal(need->provider, &f->kms);
        if (need->dek != NULL) { /* it was at hand when a part was opened */
            assert_true(dek_id_eq(&need->id, &need->dek->id));
            continue;
        }
        if (need->is_write)
            need->dek = dek_ref(f->deks[0]);
        for (size_t d = 0; d < FIX_DEKS && need->dek == NULL; d++) {
            if (dek_id_eq(&need->id, &f->deks[d]->id))
                need->dek = dek_ref(f->deks[d]);
        }
        if (need->dek == NULL)
            need->err = ERR_KMS_ERROR;
    }
}

static struct buf seal(struct fix *f, const struct provider *p, const struct dek *dek,
                       const char *key, const void *value, size_t n)
{
    struct chain in;
    struct buf b = {0};

    fix_chain(f, value, n, NULL, 0, &in);
    assert_int_equal(envelope_sealed_len(p, dek, n, &b.n), ERR_OK);
    b.p = malloc(b.n);
    assert_non_null(b.p);
    assert_int_equal(envelope_seal(f->ctx, p, dek, bytes_str(key), chain_begin(&in), n, b.p),
                     ERR_OK);
    chain_fini(&in);
    return b;
}

struct buf fix_seal(struct fix *f, size_t dek, const char *key, const void *value, size_t n)
{
    return seal(f, &f->kms, f->deks[dek], key, value, n);
}

struct buf fix_seal_cbc(struct fix *f, const char *key, const void *value, size_t n)
{
    return seal(f, &f->cbc, f->cbc_key.dek, key, value, n);
}

struct buf fix_open(struct fix *f, const char *key, const void *value, size_t n)
{
    struct arena arena = {0};
    struct envelope_value v;
    struct slice plain;
    struct chain in;
    struct buf b;
    struct envelope_opened opened;

    fix_chain(f, value, n, NULL, 0, &in);
    assert_int_equal(envelope_identify(&f->secrets, chain_begin(&in), n, &arena, NULL, &v), ERR_OK);
    assert_true(v.needs_dek);
    assert_true(dek_id_eq(&v.id, &f->deks[0]->id));
    assert_int_equal(envelope_open_scratch(f->ctx, &f->secrets, &v, f->deks[0], bytes_str(key), &in,
                                           0, n, &f->pool, &plain, &opened),
                     ERR_OK);
    b = buf_of(slice_data(plain), plain.len);
    slice_drop(&plain);
    chain_fini(&in);
    arena_fini(&arena);
    return b;
}

void run_free(struct run *r)
{
    buf_free(&r->out);
}

static void run_note(struct run *r, const struct etcd_plan *p)
{
    size_t n = p->bad_key.n < sizeof r->bad_key - 1 ? p->bad_key.n : sizeof r->bad_key - 1;

    r->err = p->err;
    r->bad_field = p->bad_field;
    r->needs = p->need_count;
    r->sealed = p->sealed;
    r->opened = p->opened;
    r->plain = p->plain;
    r->watch = p->watch;
    if (n > 0)
        memcpy(r->bad_key, p->bad_key.p, n);
    r->bad_key[n] = 0;
}

size_t fix_apply_max(void)
{
    static const size_t max[] = {0, 1, 9000};
    static unsigned turn;

    return max[turn++ % ARRAY_LEN(max)];
}

void fix_request(struct fix *f, enum etcd_content content, struct chain *msg, struct etcd_ask *ask,
                 struct run *r)
{
    struct etcd_plan p = {0};
    struct sealed_msg out = {0};
    struct etcd_ask own = {0};
    struct chain bytes = {0};
    enum err e;

    memset(r, 0, sizeof *r);
    r->verdict = etcd_scan_request(&p, content, f->rules, msg, ask != NULL ? ask : &own);
    if (r->verdict == ETCD_EDIT) {
        fix_resolve(f, &p);
        p.apply_max = fix_apply_max();
        do
            e = etcd_apply_request(&p, f->ctx, &f->pool, msg, &out);
        while (e == ERR_AGAIN);
        assert_int_equal(e, p.err);
        assert_true(e == ERR_OK || sealed_msg_len(&out) == 0);
        assert_int_equal(msg->len, 0);
    } else if (r->verdict == ETCD_AS_IS) {
        assert_int_equal(p.err, ERR_OK);
        assert_int_equal(etcd_passthrough(r->verdict, msg, &out), ERR_OK);
    } else {
        assert_int_not_equal(p.err, ERR_OK);
    }
    run_note(r, &p);
    sealed_msg_release(&out, &bytes);
    r->out = buf_chain(&bytes);
    chain_fini(msg);
    etcd_plan_fini(&p);
    etcd_ask_fini(&own);
}

void fix_answer(struct fix *f, enum etcd_content content, struct chain *msg, struct etcd_ask *ask,
                struct run *r)
{
    struct etcd_plan p = {0};
    struct chain out = {0};
    enum err e;

    memset(r, 0, sizeof *r);
    r->verdict = etcd_scan_answer(&p, content, f->rules, msg, ask);
    if (r->verdict == ETCD_EDIT) {
        fix_resolve(f, &p);
        p.apply_max = fix_apply_max();
        do
            e = etcd_apply_answer(&p, f->ctx, &f->pool, msg, &out);
        while (e == ERR_AGAIN);
        assert_int_equal(e, p.err);
        assert_int_equal(msg->len, 0);
    } else if (r->verdict == ETCD_AS_IS) {
        assert_int_equal(p.err, ERR_OK);
        assert_int_equal(chain_append(&out, msg), ERR_OK);
    } else {
        assert_int_not_equal(p.err, ERR_OK);
    }
    run_note(r, &p);
    r->out = buf_chain(&out);
    chain_fini(msg);
    etcd_plan_fini(&p);
}

void fix_ask(struct etcd_ask *ask, const char *key, const char *end, bool keys_only)
{
    struct etcd_range r = {bytes_str(key), end == NULL ? bytes_of(NULL, 0) : bytes_str(end),
                           keys_only};

    assert_int_equal(etcd_ask_add(ask, ETCD_ASKED_RANGE, &r), ERR_OK);
}

bool bytes_contain(const void *p, size_t n, const char *what)
{
    return memmem(p, n, what, strlen(what)) != NULL;
}
