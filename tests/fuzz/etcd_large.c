/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_large_next, etcd_large_direct, etcd_large_apply, etcd_large_fill,
 * etcd_large_header, etcd_large_left. A large answer that arrives in pieces of any size becomes
 * what it would have become as a whole. A message of which the length was announced has that
 * length, also when it is given up anywhere, and is well formed (unless etcd lied: a length of 1
 * holds no field). A value is let out only if it was sealed for its key.
 *
 * Input: content, options, seed, largest piece, damage, the answer with values in clear.
 * Options: 1 seals them first, 2 announces another length, 4 gives up on the way, 8 has ended
 * watch 1 already, 16 opens at once what can be; the top bits are the number of damages. */
#include "ask_like.h"
#include "oracle.h"

#include "etcd/direct.h"

enum { SEALED = 1, LIE = 2, GIVE_UP = 4, SWALLOW = 8, DIRECT = 16 };

static const enum etcd_content contents[] = {ETCD_RANGE,        ETCD_PUT,   ETCD_TXN,
                                             ETCD_DELETE_RANGE, ETCD_WATCH, ETCD_RANGE_STREAM};

struct run {
    struct kit *k;
    const ProtobufCMessageDescriptor *d;
    struct etcd_large *large;
    struct etcd_plan plan;
    struct chain in, out;
    struct oracle_kvs plain;
    bool is_fill, is_over, has_failed, was_swallowed;
    bool is_direct;
    bool is_honest; /* the lengths are true: what is left of them can always be filled */
};

static void check_kvs(struct run *r, struct bytes out)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(r->d, NULL, out.n, out.p);

    if (m == NULL)
        return;
    oracle_check_kvs(r->k, m, &r->plain);
    oracle_free(m);
}

/* What came out since from: a whole message of a split answer. */
static void check_piece(struct run *r, size_t from)
{
    struct chain piece = {0};
    struct buf b;

    CHECK(chain_share(&piece, &r->out, from, r->out.len - from) == ERR_OK);
    b = buf_chain(&piece);
    CHECK(!r->is_honest || oracle_well_formed(r->d, buf_bytes(&b)));
    check_kvs(r, buf_bytes(&b));
    buf_free(&b);
    chain_fini(&piece);
}

static void batch_apply(struct run *r, struct chain *batch)
{
    size_t from = r->out.len;
    struct chain drop = {0};
    enum err e;

    kit_resolve(r->k, &r->plan);
    e = etcd_large_apply(r->large, &r->plan, r->k->ctx, &r->k->pool, batch,
                         r->plan.watch.is_swallowed ? &drop : &r->out);
    r->was_swallowed = r->was_swallowed || r->plan.watch.is_swallowed;
    CHECK(batch->len == 0);
    CHECK(e == ERR_OK || !r->is_fill || r->out.len == from);
    r->has_failed = e != ERR_OK;
    if (!r->is_fill)
        check_piece(r, from);
    chain_fini(&drop);
}

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    const struct kit *k = user;

    CHECK(provider == &k->kms);
    if (id != NULL)
        return kit_dek(k, id);
    return bytes_eq(k->deks[0]->tail, tail) ? k->deks[0] : NULL;
}

/* True: a batch took no plan. */
static bool open_batch(struct run *r)
{
    const struct etcd_direct with = {r->k->ctx, &r->k->pool, find, r->k};
    size_t from = r->out.len;
    enum etcd_direct_step step;

    if (!r->is_direct)
        return false;
    step = etcd_large_direct(r->large, &r->in, &r->plan, &with, &r->out);
    CHECK(step != ETCD_DIRECT_BAD);
    CHECK((step == ETCD_DIRECT_BATCH) == (r->out.len > from));
    if (step == ETCD_DIRECT_BATCH && !r->is_fill)
        check_piece(r, from);
    return step == ETCD_DIRECT_BATCH;
}

static void run_what_is_there(struct run *r)
{
    while (!r->is_over && !r->has_failed) {
        struct chain batch = {0};
        size_t left = etcd_large_left(r->large);
        enum etcd_large_step step;

        if (open_batch(r))
            continue;
        step = etcd_large_next(r->large, &r->in, &r->plan, &batch);
        CHECK(etcd_large_left(r->large) <= left);
        if (step == ETCD_LARGE_BATCH)
            batch_apply(r, &batch);
        CHECK(batch.len == 0);
        chain_fini(&batch);
        r->is_over = step == ETCD_LARGE_DONE;
        r->has_failed = r->has_failed || step == ETCD_LARGE_BAD;
        CHECK(step != ETCD_LARGE_BAD || r->plan.err != ERR_OK);
        if (step == ETCD_LARGE_MORE)
            return;
    }
}

static void feed(struct run *r, struct bytes in, uint32_t piece_max, size_t until)
{
    struct bytes left = bytes_of(in.p, in.n < until ? in.n : until);

    run_what_is_there(r);
    while (left.n > 0 && !r->is_over && !r->has_failed) {
        struct bytes piece = fuzz_take(&left, 1 + kit_random(r->k, piece_max));
        struct chain c;

        kit_chain(r->k, piece, 1, &c);
        CHECK(chain_append(&r->in, &c) == ERR_OK);
        chain_fini(&c);
        run_what_is_there(r);
    }
}

/* Completes the message, in any number of steps. */
static enum err fill(struct run *r)
{
    size_t todo = etcd_large_left(r->large);
    enum err e;

    do {
        todo -= kit_random(r->k, (uint32_t)todo + 1);
        e = etcd_large_fill(r->large, &r->k->pool, todo, &r->out);
    } while (e == ERR_OK && !etcd_large_is_filled(r->large));
    return e;
}

/* The whole output. clear: what it has to say, empty when nothing is known. */
static void check_end(struct run *r, size_t announced, struct bytes clear)
{
    bool is_complete = r->is_over && !r->has_failed;
    struct buf out, said;

    if (r->is_fill && !is_complete)
        CHECK(fill(r) == ERR_OK);
    CHECK(!r->is_fill || r->out.len == announced);
    out = buf_chain(&r->out);
    /* The pieces of a split answer are one message when they are read as one. */
    CHECK(!r->is_honest || oracle_well_formed(r->d, buf_bytes(&out)));
    if (r->is_fill)
        check_kvs(r, buf_bytes(&out));
    if (clear.p != NULL) {
        said = oracle_canonical(r->d, buf_bytes(&out));
        CHECK(said.p != NULL);
        CHECK(!is_complete || r->was_swallowed || bytes_eq(buf_bytes(&said), clear));
        buf_free(&said);
        if (is_complete)
            fuzz_deep();
    }
    buf_free(&out);
}

static void ask_all(struct etcd_ask *ask, enum etcd_content content, struct bytes answer,
                    uint8_t options)
{
    struct etcd_range all = {BYTES_LIT("\0"), BYTES_LIT("\0"), false};

    ask_like(ask, content, answer, &all, 0);
    if (content != ETCD_WATCH)
        return;
    for (int64_t id = 1; id < 3; id++) {
        CHECK(etcd_ask_create(ask, 0, &all) == ERR_OK);
        CHECK(id == 2 || etcd_ask_created(ask, id, false) == ERR_OK);
    }
    if ((options & SWALLOW) != 0)
        etcd_ask_watch(ask, 1)->state = ETCD_WATCH_SWALLOW;
}

/* Seals the values of the answer; clear gets what it said before. */
static bool store(struct run *r, struct buf *answer, struct buf *clear)
{
    ProtobufCMessage *m = oracle_unpack(r->d, buf_bytes(answer));

    if (m == NULL)
        return false;
    *clear = oracle_pack(m);
    oracle_seal(r->k, m, &r->plain);
    buf_free(answer);
    *answer = oracle_pack(m);
    oracle_free(m);
    return true;
}

static void run(struct run *r, enum etcd_content content, uint8_t options, uint32_t piece_max,
                const struct buf *answer, struct bytes clear)
{
    struct etcd_ask ask = {0};
    size_t announced = answer->n, until = answer->n, batch_max;

    r->is_honest = (options & LIE) == 0 && oracle_well_formed(r->d, buf_bytes(answer));
    if ((options & LIE) != 0) {
        announced = kit_random(r->k, (uint32_t)answer->n * 2 + 1);
        until = until < announced ? until : announced;
        clear = bytes_of(NULL, 0);
    }
    if ((options & GIVE_UP) != 0)
        until = kit_random(r->k, (uint32_t)until + 1);
    ask_all(&ask, content, buf_bytes(answer), options);
    batch_max = 1 + kit_random(r->k, (uint32_t)answer->n + 1);
    CHECK(etcd_large_new(content, r->k->rules, &ask, (uint32_t)announced, batch_max, &r->large) ==
          ERR_OK);
    feed(r, buf_bytes(answer), piece_max, until);
    check_end(r, announced, clear);
    etcd_large_free(r->large);
    etcd_ask_fini(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    enum etcd_content content = contents[fuzz_u8(&in) % ARRAY_LEN(contents)];
    uint8_t options = fuzz_u8(&in);
    struct run r = {.k = kit_get(fuzz_u16(&in)), .d = oracle_answer(content)};
    uint32_t piece_max = 1 + (uint32_t)fuzz_u8(&in) * 4;
    struct fuzz_damage damage = fuzz_damage_take(&in, options >> 6);
    struct buf answer = buf_of(in), clear = {0};

    r.is_direct = (options & DIRECT) != 0;
    r.is_fill = content != ETCD_WATCH && content != ETCD_RANGE_STREAM;
    if ((options & SEALED) == 0 || store(&r, &answer, &clear)) {
        fuzz_damage_do(&damage, &answer);
        run(&r, content, options, piece_max, &answer,
            damage.count == 0 ? buf_bytes(&clear) : bytes_of(NULL, 0));
    }
    chain_fini(&r.in);
    chain_fini(&r.out);
    etcd_plan_fini(&r.plan);
    oracle_kvs_free(&r.plain);
    buf_free(&answer);
    buf_free(&clear);
    kit_done(r.k);
    return 0;
}
