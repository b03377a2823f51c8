/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_direct_answer, etcd_large_direct.
 * An answer that is opened in one pass, as far as that goes, becomes what scan and apply make of
 * it: the same bytes, the same error for the same key, the same counts. So does a large one, in
 * whatever pieces it arrives.
 *
 * Input: content, options, seed, the DEKs that are at hand (a bit each), damage, the answer with
 * values in clear. Options: 1 asks for all keys, 2 is a large answer, 4 has ended watch 1 already,
 * 8 leaves the values in clear, 16 asks for keys only; the top bits are the number of damages. */
#include "ask_like.h"
#include "counts.h"
#include "oracle.h"

#include "etcd/direct.h"

enum { ALL_KEYS = 1, LARGE = 2, SWALLOW = 4, CLEAR = 8, KEYS_ONLY = 16 };

static const enum etcd_content contents[] = {ETCD_RANGE,        ETCD_WATCH, ETCD_RANGE,
                                             ETCD_WATCH,        ETCD_TXN,   ETCD_RANGE_STREAM,
                                             ETCD_DELETE_RANGE, ETCD_PUT};

struct way {
    struct kit *k;
    enum etcd_content content;
    uint8_t options, at_hand;
    struct etcd_ask ask;
    struct etcd_plan plan;
    struct chain out;
    struct counts counts;
    enum err err;
    struct buf bad_key;
    uint32_t bad_field;
    bool was_opened; /* without a plan */
};

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    struct way *w = user;

    CHECK(provider == &w->k->kms);
    for (size_t i = 0; i < KIT_DEKS; i++) {
        struct dek *dek = w->k->deks[i];

        if ((w->at_hand >> i & 1) != 0 &&
            (id != NULL ? dek_id_eq(&dek->id, id) : bytes_eq(dek->tail, tail)))
            return dek;
    }
    return NULL;
}

static void note(struct way *w, enum err e)
{
    counts_take(&w->counts, &w->plan);
    w->err = e;
    if (e == ERR_OK)
        return;
    buf_free(&w->bad_key);
    w->bad_key = buf_of(w->plan.bad_key);
    w->bad_field = w->plan.bad_field;
}

static void ask_fill(struct way *w, struct bytes answer)
{
    struct etcd_range all = {BYTES_LIT("\0"), BYTES_LIT("\0"), (w->options & KEYS_ONLY) != 0};
    struct etcd_range some = {BYTES_LIT("/registry/"), BYTES_LIT("/registry0"), false};
    const struct etcd_range *r = (w->options & ALL_KEYS) != 0 ? &all : &some;

    ask_like(&w->ask, w->content, answer, r, 0);
    for (int64_t id = 1; w->content == ETCD_WATCH && id < 3; id++) {
        CHECK(etcd_ask_create(&w->ask, 0, r) == ERR_OK);
        CHECK(id == 2 || etcd_ask_created(&w->ask, id, false) == ERR_OK);
    }
    if ((w->options & SWALLOW) != 0 && w->content == ETCD_WATCH)
        etcd_ask_watch(&w->ask, 1)->state = ETCD_WATCH_SWALLOW;
}

/* --- whole answers --------------------------------------------------------------------------- */

static void run_whole(struct way *w, struct bytes answer, bool is_direct)
{
    const struct etcd_direct with = {w->k->ctx, &w->k->pool, find, w};
    enum etcd_verdict verdict;
    struct chain msg;

    kit_chain(w->k, answer, 1 + kit_random(w->k, 12), &msg);
    if (is_direct)
        verdict =
            etcd_direct_answer(&w->plan, w->content, w->k->rules, &msg, &w->ask, &with, &w->out);
    else
        verdict = etcd_scan_answer(&w->plan, w->content, w->k->rules, &msg, &w->ask);
    w->was_opened = verdict == ETCD_OPENED || (is_direct && w->plan.part.opened > 0);
    CHECK(verdict == ETCD_EDIT || verdict == ETCD_OPENED || w->out.len == 0);
    if (verdict == ETCD_EDIT) {
        kit_resolve(w->k, &w->plan);
        note(w, etcd_apply_answer(&w->plan, w->k->ctx, &w->k->pool, &msg, &w->out));
    } else {
        note(w, w->plan.err);
        CHECK((verdict == ETCD_REJECT) == (w->err != ERR_OK));
    }
    if (verdict == ETCD_AS_IS)
        CHECK(chain_append(&w->out, &msg) == ERR_OK);
    chain_fini(&msg);
}

static void compare(const struct way *a, const struct way *b)
{
    CHECK(a->err == b->err);
    CHECK(a->bad_field == b->bad_field);
    CHECK(bytes_eq(buf_bytes(&a->bad_key), buf_bytes(&b->bad_key)));
    CHECK(counts_same(&a->counts, &b->counts));
}

static void compare_out(const struct way *a, const struct way *b)
{
    struct buf x = buf_chain(&a->out), y = buf_chain(&b->out);

    CHECK(bytes_eq(buf_bytes(&x), buf_bytes(&y)));
    buf_free(&x);
    buf_free(&y);
}

static void compare_watch(const struct way *a, const struct way *b)
{
    const struct etcd_watch_info *x = &a->plan.watch, *y = &b->plan.watch;

    CHECK(x->watch_id == y->watch_id && x->created == y->created && x->canceled == y->canceled &&
          x->has_events == y->has_events && x->has_header == y->has_header &&
          x->is_fragment == y->is_fragment && x->is_swallowed == y->is_swallowed &&
          x->header_at == y->header_at && x->header_len == y->header_len);
    CHECK(a->ask.watch_count == b->ask.watch_count && a->ask.create_count == b->ask.create_count);
}

/* --- large answers --------------------------------------------------------------------------- */

/* One step; false: more has to arrive, or it is over. */
static bool step_large(struct way *w, struct etcd_large *st, struct chain *in, bool is_direct)
{
    const struct etcd_direct with = {w->k->ctx, &w->k->pool, find, w};
    enum etcd_direct_step said = ETCD_DIRECT_NONE;
    enum etcd_large_step step;
    struct chain batch = {0}, drop = {0};
    size_t before = w->out.len;

    if (is_direct)
        said = etcd_large_direct(st, in, &w->plan, &with, &w->out);
    CHECK(said != ETCD_DIRECT_BAD);
    CHECK((said == ETCD_DIRECT_BATCH) == (w->out.len > before));
    if (said == ETCD_DIRECT_BATCH) {
        w->was_opened = true;
        note(w, ERR_OK);
        return true;
    }
    do {
        step = etcd_large_next(st, in, &w->plan, &batch);
    } while (step == ETCD_LARGE_AGAIN);
    CHECK(said == ETCD_DIRECT_NONE || step == ETCD_LARGE_MORE);
    if (step == ETCD_LARGE_BATCH) {
        kit_resolve(w->k, &w->plan);
        w->err = etcd_large_apply(st, &w->plan, w->k->ctx, &w->k->pool, &batch,
                                  w->plan.watch.is_swallowed ? &drop : &w->out);
    } else if (step == ETCD_LARGE_BAD) {
        w->err = w->plan.err;
    }
    note(w, w->err);
    chain_fini(&batch);
    chain_fini(&drop);
    return step == ETCD_LARGE_BATCH && w->err == ERR_OK;
}

static void run_large(struct way *w, struct bytes answer, bool is_direct)
{
    size_t batch_max = 1 + kit_random(w->k, (uint32_t)answer.n + 1);
    struct etcd_large *st;
    struct chain in = {0};

    CHECK(etcd_large_new(w->content, w->k->rules, &w->ask, (uint32_t)answer.n, batch_max, &st) ==
          ERR_OK);
    do {
        struct bytes piece = fuzz_take(&answer, 1 + kit_random(w->k, (uint32_t)answer.n + 1));
        struct chain c;

        kit_chain(w->k, piece, 3, &c);
        CHECK(chain_append(&in, &c) == ERR_OK);
        chain_fini(&c);
        while (step_large(w, st, &in, is_direct))
            ;
    } while (answer.n > 0 && w->err == ERR_OK);
    etcd_large_free(st);
    chain_fini(&in);
}

/* Pieces of a split answer are cut elsewhere, so it counts what they say together. Batches end
 * elsewhere, too: which of several errors is met first is not told. */
static void compare_large(const struct way *a, const struct way *b)
{
    const ProtobufCMessageDescriptor *d = oracle_answer(a->content);
    bool is_fill = a->content != ETCD_RANGE_STREAM && a->content != ETCD_WATCH;
    struct buf x = buf_chain(&a->out), y = buf_chain(&b->out), cx, cy;

    CHECK((a->err == ERR_OK) == (b->err == ERR_OK));
    if (a->err == ERR_OK && is_fill)
        CHECK(bytes_eq(buf_bytes(&x), buf_bytes(&y)));
    if (a->err == ERR_OK) {
        cx = oracle_canonical(d, buf_bytes(&x));
        cy = oracle_canonical(d, buf_bytes(&y));
        CHECK(bytes_eq(buf_bytes(&cx), buf_bytes(&cy)));
        CHECK(counts_same(&a->counts, &b->counts));
        buf_free(&cx);
        buf_free(&cy);
    }
    buf_free(&x);
    buf_free(&y);
}

/* --- */

/* Seals what etcd would hold sealed. False: not an answer that etcd could have made. */
static bool store(struct kit *k, const ProtobufCMessageDescriptor *d, struct buf *answer)
{
    struct oracle_kvs plain = {.count = 0};
    ProtobufCMessage *m = oracle_unpack(d, buf_bytes(answer));

    if (m == NULL)
        return false;
    oracle_seal(k, m, &plain);
    buf_free(answer);
    *answer = oracle_pack(m);
    oracle_free(m);
    oracle_kvs_free(&plain);
    return true;
}

static void run(struct way *w, struct bytes answer, bool is_direct)
{
    ask_fill(w, answer);
    if ((w->options & LARGE) != 0)
        run_large(w, answer, is_direct);
    else
        run_whole(w, answer, is_direct);
}

static void way_free(struct way *w)
{
    etcd_ask_fini(&w->ask);
    etcd_plan_fini(&w->plan);
    chain_fini(&w->out);
    buf_free(&w->bad_key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    enum etcd_content content = contents[fuzz_u8(&in) % ARRAY_LEN(contents)];
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u16(&in));
    struct way plan = {.k = k, .content = content, .options = options};
    struct way direct = plan;
    struct fuzz_damage damage;
    struct buf answer;

    direct.at_hand = fuzz_u8(&in);
    damage = fuzz_damage_take(&in, options >> 6);
    answer = buf_of(in);
    if ((options & CLEAR) != 0 || store(k, oracle_answer(content), &answer)) {
        fuzz_damage_do(&damage, &answer);
        run(&plan, buf_bytes(&answer), false);
        run(&direct, buf_bytes(&answer), true);
        if ((options & LARGE) != 0) {
            compare_large(&plan, &direct);
        } else {
            compare(&plan, &direct);
            compare_out(&plan, &direct);
            compare_watch(&plan, &direct);
        }
        if (direct.was_opened)
            fuzz_deep();
    }
    way_free(&plan);
    way_free(&direct);
    buf_free(&answer);
    kit_done(k);
    return 0;
}
