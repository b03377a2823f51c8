/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_scan_answer, etcd_apply_answer.
 * Whatever etcd answers, a client sees no value under a key without identity but one that was
 * sealed for this very key; what is edited is well formed.
 *
 * Input: content, options, seed, damage, the answer with values in clear. Options: 1 seals them
 * first (what lies in etcd), 2 asks for all keys, 4 has ended watch 1 already; the top bits are the
 * number of damages. */
#include "ask_like.h"
#include "oracle.h"

static const enum etcd_content contents[] = {ETCD_RANGE,        ETCD_PUT,   ETCD_TXN,
                                             ETCD_DELETE_RANGE, ETCD_WATCH, ETCD_RANGE_STREAM};

static void ask_fill(struct etcd_ask *ask, enum etcd_content content, struct bytes answer,
                     bool is_all)
{
    struct etcd_range all = {BYTES_LIT("\0"), BYTES_LIT("\0"), false};
    struct etcd_range some = {BYTES_LIT("/registry/"), BYTES_LIT("/registry0"), false};

    ask_like(ask, content, answer, is_all ? &all : &some, 0);
    for (int64_t id = 1; content == ETCD_WATCH && id < 3; id++) {
        CHECK(etcd_ask_create(ask, 0, is_all ? &all : &some) == ERR_OK);
        CHECK(id == 2 || etcd_ask_created(ask, id, false) == ERR_OK);
    }
}

/* Seals what etcd would hold sealed. False: not an answer that etcd could have made. */
static bool store(struct kit *k, const ProtobufCMessageDescriptor *d, struct buf *answer,
                  struct oracle_kvs *plain)
{
    ProtobufCMessage *m = oracle_unpack(d, buf_bytes(answer));

    if (m == NULL)
        return false;
    oracle_seal(k, m, plain);
    buf_free(answer);
    *answer = oracle_pack(m);
    oracle_free(m);
    return true;
}

static void check_out(struct kit *k, const ProtobufCMessageDescriptor *d, struct bytes out,
                      const struct oracle_kvs *plain)
{
    ProtobufCMessage *m;

    CHECK(oracle_well_formed(d, out));
    m = protobuf_c_message_unpack(d, NULL, out.n, out.p);
    if (m == NULL)
        return;
    oracle_check_kvs(k, m, plain);
    oracle_free(m);
}

static void run(struct kit *k, enum etcd_content content, const struct buf *answer,
                struct etcd_ask *ask, const struct oracle_kvs *plain)
{
    struct etcd_plan p = {0};
    struct chain msg, out = {0};
    enum etcd_verdict verdict;
    struct buf got;

    kit_chain(k, buf_bytes(answer), 1 + kit_random(k, 8), &msg);
    verdict = etcd_scan_answer(&p, content, k->rules, &msg, ask);
    CHECK((verdict == ETCD_REJECT) == (p.err != ERR_OK));
    if (verdict == ETCD_EDIT) {
        enum err e;

        kit_resolve(k, &p);
        e = etcd_apply_answer(&p, k->ctx, &k->pool, &msg, &out);
        CHECK(e == p.err && msg.len == 0);
        CHECK(e == ERR_OK || content == ETCD_WATCH || out.len == 0);
        if (e == ERR_OK && p.opened > 0)
            fuzz_deep();
    } else if (verdict == ETCD_AS_IS) {
        CHECK(chain_append(&out, &msg) == ERR_OK);
    }
    if (p.watch.is_swallowed) /* the caller drops it */
        chain_clear(&out);
    got = buf_chain(&out);
    check_out(k, oracle_answer(content), buf_bytes(&got), plain);
    buf_free(&got);
    chain_fini(&out);
    chain_fini(&msg);
    etcd_plan_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    enum etcd_content content = contents[fuzz_u8(&in) % ARRAY_LEN(contents)];
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u16(&in));
    struct fuzz_damage damage = fuzz_damage_take(&in, options >> 6);
    struct buf answer = buf_of(in);
    struct oracle_kvs plain = {.count = 0};
    struct etcd_ask ask = {0};

    if ((options & 1) == 0 || store(k, oracle_answer(content), &answer, &plain)) {
        ask_fill(&ask, content, buf_bytes(&answer), (options & 2) != 0);
        fuzz_damage_do(&damage, &answer);
        if ((options & 4) != 0 && content == ETCD_WATCH)
            etcd_ask_watch(&ask, 1)->state = ETCD_WATCH_SWALLOW;
        run(k, content, &answer, &ask, &plain);
    }
    etcd_ask_fini(&ask);
    oracle_kvs_free(&plain);
    buf_free(&answer);
    kit_done(k);
    return 0;
}
