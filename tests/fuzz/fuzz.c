/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <string.h>
#include <sys/prctl.h>

#include "base/secret.h"

static size_t deep_count;

void fuzz_deep(void)
{
    deep_count++;
}

size_t fuzz_deep_count(void)
{
    return deep_count;
}

/* --- the input ------------------------------------------------------------------------------- */

uint8_t fuzz_u8(struct bytes *in)
{
    uint8_t b;

    if (in->n == 0)
        return 0;
    b = *in->p;
    *in = bytes_of(in->p + 1, in->n - 1);
    return b;
}

uint16_t fuzz_u16(struct bytes *in)
{
    unsigned low = fuzz_u8(in);

    return (uint16_t)(low | (unsigned)fuzz_u8(in) << 8);
}

struct bytes fuzz_take(struct bytes *in, size_t n)
{
    struct bytes b = bytes_of(in->p, n < in->n ? n : in->n);

    if (b.n > 0)
        *in = bytes_of(in->p + b.n, in->n - b.n);
    return b;
}

static void *must(void *p)
{
    CHECK(p != NULL);
    return p;
}

struct buf buf_of(struct bytes b)
{
    struct buf out = {must(malloc(b.n > 0 ? b.n : 1)), b.n};

    if (b.n > 0)
        memcpy(out.p, b.p, b.n);
    return out;
}

struct buf buf_chain(const struct chain *c)
{
    struct buf out = {must(malloc(c->len > 0 ? c->len : 1)), c->len};

    chain_copy(c, 0, c->len, out.p);
    return out;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

bool bytes_contain(struct bytes b, struct bytes what)
{
    return b.n > 0 && memmem(b.p, b.n, what.p, what.n) != NULL;
}

struct fuzz_damage fuzz_damage_take(struct bytes *in, unsigned count)
{
    struct fuzz_damage d = {.count = count < ARRAY_LEN(d.v) ? count : ARRAY_LEN(d.v)};

    for (unsigned i = 0; i < d.count; i++) {
        d.v[i].at = fuzz_u16(in);
        d.v[i].what = fuzz_u8(in);
    }
    return d;
}

void fuzz_damage_do(const struct fuzz_damage *d, struct buf *b)
{
    for (unsigned i = 0; i < d->count && b->n > 0; i++) {
        size_t at = d->v[i].at % b->n;

        if (d->v[i].what == 0)
            b->n = at;
        else
            b->p[at] ^= d->v[i].what;
    }
}

/* --- the kit --------------------------------------------------------------------------------- */

uint32_t kit_random(struct kit *k, uint32_t below)
{
    k->random = k->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(k->random >> 33) % below;
}

static enum err random_fn(void *arg, void *out, size_t n)
{
    uint8_t *p = out;

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)kit_random(arg, 256);
    return ERR_OK;
}

static struct dek *dek_make(unsigned i)
{
    uint8_t secret[32], wrapped[40];
    struct dek_id id = {.type = i == KIT_DEKS - 1 ? DEK_AES_GCM_KEY : DEK_HKDF_SEED,
                        .key_id = BYTES_LIT("key-1")};
    struct dek *dek;

    memset(secret, (int)(i + 1), sizeof secret);
    memset(wrapped, (int)(i + 0x41), sizeof wrapped);
    id.wrapped = bytes_of(wrapped, sizeof wrapped);
    CHECK(dek_new(&id, bytes_of(secret, sizeof secret), &dek) == ERR_OK);
    return dek;
}

static void rules_make(struct kit *k)
{
    const struct etcd_rule rules[] = {
        {BYTES_LIT("/registry/secrets"), false, &k->secrets},
        {BYTES_LIT("/registry/configmaps"), false, &k->configmaps},
        {BYTES_LIT("/registry/moving"), false, &k->moving},
        {BYTES_LIT("/registry/open"), false, NULL},
        {BYTES_LIT("/registry"), false, &k->secrets},
    };

    CHECK(etcd_rules_new(rules, ARRAY_LEN(rules), &k->rules) == ERR_OK);
}

static void kit_init(struct kit *k)
{
    CHECK(secret_init() == ERR_OK);
    /* Not the program: a leak checker has to be able to trace this process. */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    slab_pool_init(&k->pool, 64);
    CHECK(envelope_ctx_new(random_fn, k, &k->ctx) == ERR_OK);
    for (unsigned i = 0; i < KIT_DEKS; i++)
        k->deks[i] = dek_make(i);
    k->kms =
        (struct provider){.kind = PROVIDER_KMS_V2, .name = "one", .prefix = BYTES_LIT(KIT_PREFIX)};
    k->identity = (struct provider){.kind = PROVIDER_IDENTITY, .name = ""};
    k->kms_only[0] = k->kms_identity[0] = k->identity_kms[1] = &k->kms;
    k->kms_identity[1] = k->identity_kms[0] = &k->identity;
    k->secrets = (struct provider_list){k->kms_only, 1, "secrets"};
    k->configmaps = (struct provider_list){k->kms_identity, 2, "configmaps"};
    k->moving = (struct provider_list){k->identity_kms, 2, "moving"};
    rules_make(k);
}

struct kit *kit_get(uint16_t seed)
{
    static struct kit kit;

    if (kit.ctx == NULL)
        kit_init(&kit);
    kit.random = seed;
    return &kit;
}

void kit_done(struct kit *k)
{
    slab_pool_settle(&k->pool);
    CHECK(k->pool.live_bytes == 0);
}

static int cut_cmp(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

static void push_piece(struct kit *k, struct bytes b, struct chain *out)
{
    struct slab *slab;
    struct slice s;

    if (b.n == 0)
        return;
    slab = must(slab_new(&k->pool, b.n, 0));
    slab->fill = slab->cap;
    s = (struct slice){slab, slab->cap - (uint32_t)b.n, (uint32_t)b.n};
    memcpy(slice_data(s), b.p, b.n);
    CHECK(chain_push(out, &s) == ERR_OK);
}

void kit_chain(struct kit *k, struct bytes b, uint32_t pieces, struct chain *out)
{
    size_t cuts[64], from = 0, count = pieces > 0 ? pieces - 1 : 0;

    *out = (struct chain){0};
    count = count < ARRAY_LEN(cuts) ? count : ARRAY_LEN(cuts);
    for (size_t i = 0; i < count; i++)
        cuts[i] = kit_random(k, (uint32_t)b.n + 1);
    qsort(cuts, count, sizeof *cuts, cut_cmp);
    for (size_t i = 0; i <= count; i++) {
        size_t to = i < count ? cuts[i] : b.n;

        if (to > from)
            push_piece(k, bytes_of(b.p + from, to - from), out);
        from = to;
    }
}

struct dek *kit_dek(const struct kit *k, const struct dek_id *id)
{
    for (unsigned i = 0; i < KIT_DEKS; i++) {
        if (dek_id_eq(id, &k->deks[i]->id))
            return k->deks[i];
    }
    return NULL;
}

void kit_resolve(struct kit *k, struct etcd_plan *p)
{
    for (size_t i = 0; i < p->need_count; i++) {
        struct etcd_need *need = &p->needs[i];
        struct dek *dek = need->is_write ? k->deks[0] : kit_dek(k, &need->id);

        CHECK(need->provider == &k->kms);
        if (need->dek != NULL) /* it was at hand when a part was opened */
            CHECK(need->dek == dek);
        else if (dek != NULL)
            need->dek = dek_ref(dek);
        else
            need->err = ERR_KMS_ERROR;
    }
}

struct buf kit_seal(struct kit *k, const struct dek *dek, struct bytes key, struct bytes plain)
{
    struct chain in;
    struct buf b = {0};

    kit_chain(k, plain, 1, &in);
    CHECK(envelope_sealed_len(&k->kms, dek, plain.n, &b.n) == ERR_OK);
    b.p = must(malloc(b.n));
    CHECK(envelope_seal(k->ctx, &k->kms, dek, key, chain_begin(&in), plain.n, b.p) == ERR_OK);
    chain_fini(&in);
    return b;
}

static bool open_chain(struct kit *k, struct bytes key, const struct chain *in, struct arena *arena,
                       struct buf *plain)
{
    const struct provider_list *list = etcd_rules_find(k->rules, key);
    struct envelope_value v;
    struct slice out;
    struct envelope_opened opened;

    if (list == NULL ||
        envelope_identify(list, chain_begin(in), in->len, arena, NULL, &v) != ERR_OK)
        return false;
    if (v.form == ENVELOPE_PLAIN)
        return false;
    if (envelope_open_scratch(k->ctx, list, &v, kit_dek(k, &v.id), key, in, 0, in->len, &k->pool,
                              &out, &opened) != ERR_OK)
        return false;
    *plain = buf_of(slice_bytes(out));
    slice_drop(&out);
    return true;
}

bool kit_open(struct kit *k, struct bytes key, struct bytes stored, struct buf *plain)
{
    struct arena arena = {0};
    struct chain in;
    bool is_open;

    if (!bytes_has_prefix(stored, BYTES_LIT(KIT_PREFIX)))
        return false;
    kit_chain(k, stored, 1, &in);
    is_open = open_chain(k, key, &in, &arena, plain);
    chain_fini(&in);
    arena_fini(&arena);
    return is_open;
}

bool kit_is_strict(const struct kit *k, struct bytes key)
{
    return etcd_rules_find(k->rules, key) == &k->secrets;
}

bool kit_is_sealing(const struct kit *k, struct bytes key)
{
    const struct provider_list *list = etcd_rules_find(k->rules, key);

    return list != NULL && list->v[0]->kind == PROVIDER_KMS_V2;
}
