/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: envelope_seal, envelope_identify, envelope_open, envelope_open_scratch for
 * aesgcm, aescbc, secretbox and kms v1, with several keys of which the names begin alike.
 * What is sealed opens to itself. What was damaged opens to nothing else by a provider that
 * authenticates; in place and into scratch give the same.
 *
 * Input: options, seed, damage, length of the key, key, value. Options: 1 seals the value first; 2
 * takes the first provider alone, else all follow; bits 4 and 8 choose the first; the top bits are
 * the number of damages. */
#include "fuzz.h"

#include <string.h>

#define KINDS 4
#define KEYS 3

static struct {
    struct provider providers[KINDS];
    struct local_key keys[KINDS][KEYS];
    const struct provider *v[2 * KINDS]; /* twice, so that a list can begin anywhere */
    struct dek *v1;
} all;

static void keys_make(unsigned kind)
{
    static const char *const names[KEYS] = {"k:", "k:2:", "k:"};
    uint8_t key[32];

    for (unsigned i = 0; i < KEYS; i++) {
        memset(key, (int)(16 * kind + i + 1), sizeof key);
        all.keys[kind][i].prefix = bytes_str(names[i]);
        CHECK(dek_new_local(all.providers[kind].kind, bytes_of(key, sizeof key),
                            &all.keys[kind][i].dek) == ERR_OK);
    }
    all.providers[kind].keys = all.keys[kind];
    all.providers[kind].key_count = KEYS;
}

static void all_make(void)
{
    struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = BYTES_LIT("wrapped")};

    all.providers[0] = (struct provider){
        .kind = PROVIDER_KMS_V1, .name = "old", .prefix = BYTES_LIT("k8s:enc:kms:v1:old:")};
    all.providers[1] = (struct provider){
        .kind = PROVIDER_AESGCM, .name = "", .prefix = BYTES_LIT("k8s:enc:aesgcm:v1:")};
    all.providers[2] = (struct provider){
        .kind = PROVIDER_AESCBC, .name = "", .prefix = BYTES_LIT("k8s:enc:aescbc:v1:")};
    all.providers[3] = (struct provider){
        .kind = PROVIDER_SECRETBOX, .name = "", .prefix = BYTES_LIT("k8s:enc:secretbox:v1:")};
    for (unsigned i = 0; i < 2 * KINDS; i++)
        all.v[i] = &all.providers[i % KINDS];
    CHECK(dek_new(&id, BYTES_LIT("0123456789abcdef0123456789abcdef"), &all.v1) == ERR_OK);
    for (unsigned kind = 1; kind < KINDS; kind++)
        keys_make(kind);
}

static struct buf seal(struct kit *k, const struct provider *p, struct bytes key,
                       struct bytes plain)
{
    struct chain in;
    struct buf b = {0};

    kit_chain(k, plain, 1 + kit_random(k, 5), &in);
    CHECK(envelope_sealed_len(p, all.v1, plain.n, &b.n) == ERR_OK);
    b.p = malloc(b.n);
    CHECK(b.p != NULL);
    CHECK(envelope_seal(k->ctx, p, all.v1, key, chain_begin(&in), plain.n, b.p) == ERR_OK);
    chain_fini(&in);
    return b;
}

static bool chain_is(const struct chain *c, size_t at, struct bytes what)
{
    struct chain_pos pos = chain_seek(c, at);

    for (size_t i = 0; i < what.n; i++) {
        if (chain_next(&pos) != what.p[i])
            return false;
    }
    return true;
}

/* plain: what an authentic value may hold; whole: nothing was damaged. */
static void open_both(struct kit *k, const struct provider_list *list,
                      const struct envelope_value *v, struct bytes key, struct chain *in,
                      struct bytes plain, bool is_whole)
{
    struct dek *dek = v->needs_dek ? all.v1 : NULL;
    struct envelope_opened opened;
    struct slice out;
    size_t at;
    enum err a =
        envelope_open_scratch(k->ctx, list, v, dek, key, in, 0, in->len, &k->pool, &out, &opened);
    enum err b;

    CHECK(!is_whole || a == ERR_OK);
    if (a == ERR_OK && (is_whole || opened.authentic)) {
        CHECK(bytes_eq(slice_bytes(out), plain));
        fuzz_deep();
    }
    if (v->form == ENVELOPE_IN_PLACE) {
        CHECK(a != ERR_OK || opened.authentic);
        b = fuzz_open_in_place(k->ctx, v, dek, key, in, &at);
        CHECK(a == b);
        CHECK(b != ERR_OK || (v->plain_len == plain.n && chain_is(in, at, plain)));
    }
    slice_drop(&out);
}

static void run(struct kit *k, const struct provider_list *list, struct bytes key,
                struct bytes stored, struct bytes plain, bool is_whole)
{
    struct arena arena = {0};
    struct envelope_value v;
    struct chain in;
    enum err e;

    kit_chain(k, stored, 1 + kit_random(k, 10), &in);
    e = envelope_identify(list, chain_begin(&in), in.len, &arena, NULL, &v);
    CHECK(!is_whole || e == ERR_OK);
    if (e == ERR_OK) {
        CHECK(v.form == ENVELOPE_IN_PLACE || v.form == ENVELOPE_SCRATCH);
        if (!v.needs_dek || dek_id_eq(&v.id, &all.v1->id))
            open_both(k, list, &v, key, &in, plain, is_whole);
    }
    chain_fini(&in);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size), key;
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u16(&in));
    struct fuzz_damage damage = fuzz_damage_take(&in, options >> 6);
    unsigned first = options >> 2 & 3;
    struct provider_list list = {all.v + first, (options & 2) != 0 ? 1 : KINDS, "secrets"};
    bool is_sealed = (options & 1) != 0;
    struct buf stored;

    if (all.v1 == NULL)
        all_make();
    key = fuzz_take(&in, fuzz_u8(&in));
    stored = is_sealed ? seal(k, all.v[first], key, in) : buf_of(in);
    fuzz_damage_do(&damage, &stored);
    /* What nobody sealed can only open to nothing. */
    run(k, &list, key, buf_bytes(&stored), is_sealed ? in : BYTES_LIT("nobody sealed this"),
        is_sealed && damage.count == 0);
    buf_free(&stored);
    kit_done(k);
    return 0;
}
