/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: envelope_identify, envelope_open, envelope_open_scratch.
 * A stored value opens only to what was sealed for its key, in place and into scratch alike, and
 * into scratch without changing a byte of the input.
 *
 * Input: options, seed, damage, length of the key, key, value. Options: 1 seals the value first; 2
 * with another key; the lists go by bits 4 and 8; the top bits are the number of damages. The
 * values of the corpus that are sealed already (type 0, which we only read) all hold kept_text. */
#include "fuzz.h"

static const struct bytes kept_text = BYTES_LIT("type 0 plaintext");

struct opened {
    enum err err;
    struct buf plain;
};

static struct opened open_in_place(struct kit *k, const struct envelope_value *v, struct dek *dek,
                                   struct bytes key, struct chain *in)
{
    struct opened o = {.err = ERR_OK};
    struct chain part = {0};
    size_t at;

    o.err = fuzz_open_in_place(k->ctx, v, dek, key, in, &at);
    if (o.err != ERR_OK)
        return o;
    CHECK(at <= in->len && v->plain_len <= in->len - at);
    CHECK(chain_share(&part, in, at, v->plain_len) == ERR_OK);
    o.plain = buf_chain(&part);
    chain_fini(&part);
    return o;
}

static struct opened open_scratch(struct kit *k, const struct provider_list *list,
                                  const struct envelope_value *v, struct dek *dek, struct bytes key,
                                  const struct chain *in)
{
    struct buf before = buf_chain(in), after;
    struct opened o = {.err = ERR_OK};
    struct slice out = SLICE_EMPTY;
    struct envelope_opened opened = {0};

    o.err =
        envelope_open_scratch(k->ctx, list, v, dek, key, in, 0, in->len, &k->pool, &out, &opened);
    if (o.err == ERR_OK) {
        CHECK(opened.authentic);
        o.plain = buf_of(slice_bytes(out));
    }
    slice_drop(&out);
    after = buf_chain(in);
    CHECK(bytes_eq(buf_bytes(&before), buf_bytes(&after)));
    buf_free(&before);
    buf_free(&after);
    return o;
}

/* plain: what may come out. */
static void run(struct kit *k, const struct provider_list *list, struct bytes key,
                struct bytes stored, struct bytes plain)
{
    struct arena arena = {0};
    struct envelope_value v;
    struct opened a, b;
    struct chain in;
    struct dek *dek;

    kit_chain(k, stored, 1 + kit_random(k, 10), &in);
    if (envelope_identify(list, chain_begin(&in), in.len, &arena, NULL, &v) == ERR_OK) {
        CHECK(v.form != ENVELOPE_NONE);
        dek = v.needs_dek ? kit_dek(k, &v.id) : NULL;
        CHECK(v.form != ENVELOPE_PLAIN || list != &k->secrets);
        if (v.form != ENVELOPE_PLAIN && dek != NULL) {
            a = open_scratch(k, list, &v, dek, key, &in);
            CHECK(a.err != ERR_OK || bytes_eq(buf_bytes(&a.plain), plain));
            if (v.form == ENVELOPE_IN_PLACE) {
                b = open_in_place(k, &v, dek, key, &in);
                CHECK(a.err == b.err && bytes_eq(buf_bytes(&a.plain), buf_bytes(&b.plain)));
                buf_free(&b.plain);
            }
            if (a.err == ERR_OK)
                fuzz_deep();
            buf_free(&a.plain);
        }
    }
    chain_fini(&in);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u16(&in));
    struct fuzz_damage damage = fuzz_damage_take(&in, options >> 6);
    const struct provider_list *lists[] = {&k->secrets, &k->configmaps, &k->moving, &k->secrets};
    struct bytes key = fuzz_take(&in, fuzz_u8(&in)), other = BYTES_LIT("another key");
    struct buf stored = (options & 1) != 0 ? kit_seal(k, k->deks[kit_random(k, KIT_DEKS - 1)],
                                                      (options & 2) != 0 ? other : key, in)
                                           : buf_of(in);

    fuzz_damage_do(&damage, &stored);
    run(k, lists[options >> 2 & 3], key, buf_bytes(&stored),
        (options & 1) != 0 && ((options & 2) == 0 || bytes_eq(key, other)) ? in : kept_text);
    buf_free(&stored);
    kit_done(k);
    return 0;
}
