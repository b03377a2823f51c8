/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: tools_decode, tools_object_look.
 * What a tool is handed: text is decoded into no more bytes than it has, hex as its definition
 * says; of an object whatever is shown lies within it, and one that the reader of stored values
 * takes is whole and says the same.
 *
 * Input: what it is (0 raw, 1 base64, 2 hex; else an object), the bytes. */
#include "tools/value.h"

#include <string.h>

#include "fuzz.h"
#include "tools/object.h"

static void check_within(struct bytes all, struct bytes part)
{
    if (part.n > 0)
        CHECK(part.p >= all.p && part.n <= all.n && part.p + part.n <= all.p + all.n);
}

static void decode(enum tools_encoding encoding, struct bytes in)
{
    struct buf b = buf_of(in);
    size_t n = b.n;

    if (tools_decode(encoding, b.p, &n)) {
        CHECK(n <= b.n && (encoding != TOOLS_RAW || n == b.n));
        CHECK(encoding != TOOLS_HEX || n <= b.n / 2);
        CHECK(encoding != TOOLS_BASE64 || n <= b.n / 4 * 3);
        fuzz_deep();
    }
    buf_free(&b);
}

/* What the reader of stored values takes is whole, and says the same. */
static void check_judged(const struct tools_object *o, struct bytes in)
{
    struct kit *k = kit_get(1);
    size_t prefix = sizeof KIT_PREFIX - 1;
    struct buf stored = {malloc(prefix + in.n), prefix + in.n};
    struct envelope_value v;
    struct arena arena = {0};
    struct chain c;

    CHECK(stored.p != NULL);
    memcpy(stored.p, KIT_PREFIX, prefix);
    if (in.n > 0)
        memcpy(stored.p + prefix, in.p, in.n);
    kit_chain(k, buf_bytes(&stored), 1, &c);
    if (envelope_identify(&k->secrets, chain_begin(&c), c.len, &arena, NULL, &v) == ERR_OK) {
        CHECK(o->is_whole && o->data.n == v.data_len && o->id.type == v.id.type);
        CHECK(bytes_eq(o->id.key_id, v.id.key_id) && bytes_eq(o->id.wrapped, v.id.wrapped));
    }
    chain_fini(&c);
    arena_fini(&arena);
    kit_done(k);
    buf_free(&stored);
}

static void look(struct bytes in)
{
    struct tools_object o;

    CHECK(tools_object_look(in, &o) == ERR_OK);
    check_within(in, o.data);
    check_within(in, o.id.key_id);
    check_within(in, o.id.wrapped);
    for (uint32_t i = 0; i < o.id.annotation_count; i++) {
        check_within(in, o.id.annotations[i].key);
        check_within(in, o.id.annotations[i].value);
    }
    check_judged(&o, in);
    tools_object_fini(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t which = fuzz_u8(&in);
    struct buf copy = buf_of(in);

    if (which <= TOOLS_HEX)
        decode((enum tools_encoding)which, buf_bytes(&copy));
    else
        look(buf_bytes(&copy));
    buf_free(&copy);
    return 0;
}
