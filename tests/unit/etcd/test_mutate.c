/* SPDX-License-Identifier: Apache-2.0 */
/* Can plaintext leak? Requests with a marker as the value of a protected key, made wrong in every
 * way that we can think of: doubled, unknown and reordered fields, wrong wire types, groups,
 * over-long varints, wrong nesting, flipped, inserted and deleted bytes. What goes on to etcd may
 * hold the marker only if no parser, however it reads the bytes, finds it beside a protected key.
 *
 * The judge is no parser of ours: a lenient decoder that stops at nothing, merges whatever is
 * doubled, cuts field numbers off at 32 bits (as Go's old decoder does), and calls it a leak if any
 * occurrence of a PutRequest's key is protected and any of its values holds the marker. */
#include "fixture.h"

#include "etcd_rpc.pb-c.h"
#include "pb/pb.h"

#define MARKER "PLAINTEXT-MARKER"
#define SECRET "/registry/secrets/default/a"
#define ROUNDS 6000
#define SEEDS 10

static struct fix fix;

static int setup(void **state)
{
    (void)state;
    fix_init(&fix);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fix_fini(&fix);
    return 0;
}

/* --- the judge ------------------------------------------------------------------------------- */

/* A decoder of its own, as lenient as can be: 0 at the end or where nothing fits. */
static uint64_t lenient_varint(struct bytes *in)
{
    uint64_t v = 0;

    for (unsigned shift = 0; in->n > 0; shift += 7) {
        uint8_t c = *in->p;

        *in = bytes_of(in->p + 1, in->n - 1);
        if (shift < 64)
            v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            break;
    }
    return v;
}

enum level { IN_TXN, IN_OP, IN_PUT, IN_COMPARE, IN_NOTHING };

static enum level level_of(enum level in, uint32_t number)
{
    if (in == IN_TXN && number >= 1 && number <= 3)
        return number == 1 ? IN_COMPARE : IN_OP;
    if (in == IN_OP && (number == 2 || number == 4))
        return number == 2 ? IN_PUT : IN_TXN;
    return IN_NOTHING;
}

/* The next length-delimited field; everything else is skipped, groups are entered. */
static bool lenient_next(struct bytes *in, uint32_t *number, struct bytes *value)
{
    while (in->n > 0) {
        uint64_t tag = lenient_varint(in), n = 0;

        *number = (uint32_t)(tag >> 3);
        switch (tag & 7) {
        case 0:
            (void)lenient_varint(in);
            break;
        case 1:
        case 5:
            n = (tag & 7) == 1 ? 8 : 4;
            break;
        case 2:
            n = lenient_varint(in);
            break;
        default:
            break;
        }
        n = n < in->n ? n : in->n;
        *value = bytes_of(in->p, (size_t)n);
        *in = bytes_of(in->p + n, in->n - (size_t)n);
        if ((tag & 7) == 2)
            return true;
    }
    return false;
}

static bool leaks(struct bytes in, enum level level)
{
    uint32_t number, key_number = level == IN_PUT ? 1 : 3, value_number = level == IN_PUT ? 2 : 7;
    bool has_key = false, has_marker = false;
    struct bytes value;

    while (lenient_next(&in, &number, &value)) {
        enum level below = level_of(level, number);

        if (below != IN_NOTHING && leaks(value, below))
            return true;
        if (level != IN_PUT && level != IN_COMPARE)
            continue;
        if (number == key_number && etcd_rules_find(fix.rules, value) != NULL)
            has_key = true;
        if (number == value_number && bytes_contain(value.p, value.n, MARKER))
            has_marker = true;
    }
    return has_key && has_marker;
}

static bool request_leaks(enum etcd_content content, const struct buf *b)
{
    return leaks(bytes_of(b->p, b->n), content == ETCD_PUT ? IN_PUT : IN_TXN);
}

/* --- the generator --------------------------------------------------------------------------- */

static bool chance(uint32_t percent)
{
    return fix_random(&fix, 100) < percent;
}

static void raw_varint(struct buf *b, uint64_t v)
{
    uint8_t t[PB_VARINT_MAX + 8];
    size_t n = pb_put_varint(t, v);

    if (chance(5) && n + 3 <= PB_VARINT_MAX) { /* over-long */
        t[n - 1] |= 0x80;
        t[n++] = 0x80;
        t[n++] = 0;
    }
    buf_add(b, t, n);
}

/* A field, sometimes of the wrong wire type. */
static void gen_field(struct buf *b, uint32_t number, const void *p, size_t n)
{
    if (chance(2)) {
        buf_varint(b, number, fix_random(&fix, 300));
        return;
    }
    raw_varint(b, pb_tag(number, PB_LEN));
    raw_varint(b, n);
    buf_add(b, p, n);
}

static void gen_number(struct buf *b, uint32_t number, uint64_t v)
{
    if (chance(2)) {
        buf_str(b, number, "wrong");
        return;
    }
    raw_varint(b, pb_tag(number, PB_VARINT));
    raw_varint(b, v);
}

static void gen_noise(struct buf *b)
{
    static const uint8_t group[] = {0x0b, 0x12, 0x03, 'a', 'b', 'c', 0x0c};

    if (chance(3))
        buf_str(b, 7 + fix_random(&fix, 100), MARKER);
    if (chance(2))
        buf_add(b, group, sizeof group);
}

static const char *gen_key(void)
{
    static const char *const keys[] = {
        SECRET, SECRET, SECRET, "/registry/configmaps/c", "/elsewhere/x", "/registry/open/y", ""};

    return keys[fix_random(&fix, chance(80) ? 3 : (uint32_t)ARRAY_LEN(keys))];
}

static struct buf gen_put(const char *key)
{
    struct buf b = {0};
    unsigned values = chance(4) ? 2 : 1, keys = chance(4) ? 2 : 1;

    gen_noise(&b);
    while (values + keys > 0) {
        bool is_key = keys > 0 && (values == 0 || chance(60));

        if (is_key) {
            const char *k = key != NULL ? key : gen_key();

            gen_field(&b, 1, k, strlen(k));
            keys--;
        } else {
            gen_field(&b, 2, MARKER, strlen(MARKER));
            values--;
        }
        gen_noise(&b);
    }
    for (uint32_t number = 3; number <= 6; number++) {
        if (chance(15))
            gen_number(&b, number, number == 5 ? fix_random(&fix, 3) / 2 : 1);
    }
    gen_noise(&b);
    return b;
}

static struct buf gen_txn(const char *key, unsigned depth);

static void gen_sub(struct buf *b, uint32_t number, struct buf sub)
{
    gen_field(b, number, sub.p, sub.n);
    buf_free(&sub);
}

static struct buf gen_op(const char *key, unsigned depth)
{
    struct buf b = {0}, range = {0};

    gen_noise(&b);
    do {
        switch (fix_random(&fix, 5)) {
        case 0:
            buf_str(&range, 1, "/registry/");
            gen_sub(&b, chance(50) ? 1 : 3, range);
            range = (struct buf){0};
            break;
        case 1:
            if (depth < 10)
                gen_sub(&b, 4, gen_txn(key, depth + 1));
            break;
        default:
            gen_sub(&b, 2, gen_put(key));
        }
    } while (chance(3));
    gen_noise(&b);
    return b;
}

static struct buf gen_txn(const char *key, unsigned depth)
{
    struct buf b = {0};

    gen_noise(&b);
    for (uint32_t n = fix_random(&fix, 3); n > 0; n--) {
        struct buf c = {0};

        buf_str(&c, 3, chance(80) ? SECRET : "/elsewhere/x");
        gen_number(&c, 2, chance(2) ? 3 : 2);
        if (chance(3))
            gen_field(&c, 7, MARKER, strlen(MARKER));
        gen_number(&c, 6, 4);
        gen_sub(&b, 1, c);
    }
    for (uint32_t n = 1 + fix_random(&fix, 2); n > 0; n--)
        gen_sub(&b, 2 + fix_random(&fix, 2), gen_op(key, depth));
    gen_noise(&b);
    return b;
}

static void flip_bytes(struct buf *b)
{
    if (b->n == 0)
        return;
    for (uint32_t i = 0; i <= fix_random(&fix, 2); i++) {
        size_t at = fix_random(&fix, (uint32_t)b->n), n = 1 + fix_random(&fix, 4);

        switch (fix_random(&fix, 4)) {
        case 0:
            b->p[at] ^= (uint8_t)(1u << fix_random(&fix, 8));
            break;
        case 1:
            n = n < b->n - at ? n : b->n - at;
            memmove(b->p + at, b->p + at + n, b->n - at - n);
            b->n -= n;
            break;
        case 2: { /* a piece twice */
            struct buf copy = buf_of(b->p, b->n);

            n = fix_random(&fix, (uint32_t)(copy.n - at) + 1);
            b->n = at + n;
            buf_add(b, copy.p + at, copy.n - at);
            buf_free(&copy);
            break;
        }
        default:
            b->p[at] = (uint8_t)fix_random(&fix, 256);
        }
        if (b->n == 0)
            return;
    }
}

/* --- */

static void fail_leak(const struct buf *out, enum etcd_verdict verdict)
{
    for (size_t i = 0; i < out->n; i++)
        print_error("%02x", out->p[i]);
    fail_msg("leak, verdict %d", verdict);
}

struct counts {
    size_t edits, as_is, rejects, markers;
};

static void one(enum etcd_content content, const struct buf *in, struct counts *c)
{
    struct chain msg;
    struct run r;

    fix_chain_random(&fix, in->p, in->n, fix_random(&fix, 4), &msg);
    fix_request(&fix, content, &msg, NULL, &r);
    c->edits += r.verdict == ETCD_EDIT;
    c->as_is += r.verdict == ETCD_AS_IS;
    c->rejects += r.verdict == ETCD_REJECT;
    c->markers += bytes_contain(r.out.p, r.out.n, MARKER);
    if (r.err != ERR_OK)
        assert_int_equal(r.out.n, 0);
    if (request_leaks(content, &r.out))
        fail_leak(&r.out, r.verdict);
    /* An edited message is what every parser understands. */
    if (r.verdict == ETCD_EDIT && r.err == ERR_OK) {
        ProtobufCMessage *m =
            protobuf_c_message_unpack(content == ETCD_PUT ? &etcdserverpb__put_request__descriptor
                                                          : &etcdserverpb__txn_request__descriptor,
                                      NULL, r.out.n, r.out.p);

        assert_non_null(m);
        assert_int_equal(m->n_unknown_fields, 0);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    run_free(&r);
}

static void test_no_leak(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct counts c = {0};
        size_t would_leak = 0;

        fix.random = seed;
        for (int i = 0; i < ROUNDS; i++) {
            enum etcd_content content = chance(40) ? ETCD_PUT : ETCD_TXN;
            struct buf in = content == ETCD_PUT ? gen_put(NULL) : gen_txn(NULL, 0);

            if (chance(30))
                flip_bytes(&in);
            would_leak += request_leaks(content, &in);
            one(content, &in, &c);
            buf_free(&in);
        }
        /* The generator is worth something only if all of this happens a lot. */
        assert_true(would_leak > ROUNDS / 4);
        assert_true(c.edits > ROUNDS / 8);
        assert_true(c.rejects > ROUNDS / 8);
        assert_true(c.as_is > ROUNDS / 50);
    }
}

/* Every single bit flip, deletion and doubling of a byte of one Txn. */
static void test_every_flip(void **state)
{
    struct buf put = {0}, op = {0}, txn = {0};
    struct counts c = {0};

    (void)state;
    buf_str(&put, 1, SECRET);
    buf_str(&put, 2, MARKER);
    buf_varint(&put, 3, 7);
    buf_sub(&op, 2, &put);
    buf_sub(&txn, 2, &op);
    assert_true(request_leaks(ETCD_TXN, &txn));
    for (size_t i = 0; i < txn.n; i++) {
        struct buf cut = buf_of(txn.p, i), twice = buf_of(txn.p, i);

        for (unsigned bit = 0; bit < 8; bit++) {
            txn.p[i] ^= (uint8_t)(1u << bit);
            one(ETCD_TXN, &txn, &c);
            txn.p[i] ^= (uint8_t)(1u << bit);
        }
        buf_add(&cut, txn.p + i + 1, txn.n - i - 1);
        one(ETCD_TXN, &cut, &c);
        buf_add(&twice, txn.p + i, 1);
        buf_add(&twice, txn.p + i, txn.n - i);
        one(ETCD_TXN, &twice, &c);
        buf_free(&cut);
        buf_free(&twice);
    }
    assert_true(c.edits > 10 && c.rejects > 10);
    buf_free(&txn);
}

/* The control: beside a key that is not protected the marker does go through, and the judge sees a
 * leak where there is one. */
static void test_control(void **state)
{
    struct counts c = {0};
    struct buf naked = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct buf in = gen_put("/elsewhere/x");

        one(ETCD_PUT, &in, &c);
        buf_free(&in);
    }
    assert_true(c.markers > 700);
    assert_int_equal(c.edits, 0);
    buf_str(&naked, 2, MARKER);
    buf_str(&naked, 1, SECRET);
    assert_true(request_leaks(ETCD_PUT, &naked));
    naked.p[0] ^= 8; /* the marker is in field 3 */
    assert_false(request_leaks(ETCD_PUT, &naked));
    buf_free(&naked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_leak),
        cmocka_unit_test(test_every_flip),
        cmocka_unit_test(test_control),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
