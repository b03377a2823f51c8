/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: the lane's scan and apply of both directions, against protobuf-c: decode, edit, encode.
 * Where the input is canonical the lane's bytes are protobuf-c's, byte for byte.
 *
 * Input: content, seed, the message with values in clear. */
#include "ask_like.h"
#include "oracle.h"

static const enum etcd_content contents[] = {ETCD_RANGE,        ETCD_PUT,   ETCD_TXN,
                                             ETCD_DELETE_RANGE, ETCD_WATCH, ETCD_RANGE_STREAM};

/* --- requests: sealed by the lane, opened by the slow way --- */

static void open_put(ProtobufCMessage *m, void *arg)
{
    Etcdserverpb__PutRequest *put = (Etcdserverpb__PutRequest *)m;
    struct buf plain;

    if (m->descriptor != &etcdserverpb__put_request__descriptor || put->ignore_value ||
        !kit_is_sealing(arg, oracle_bytes(put->key)))
        return;
    CHECK(kit_open(arg, oracle_bytes(put->key), oracle_bytes(put->value), &plain));
    oracle_set(&put->value, plain);
}

static void check_sealed(struct kit *k, const ProtobufCMessageDescriptor *d, struct bytes clear,
                         struct bytes sealed)
{
    ProtobufCMessage *m = oracle_unpack(d, sealed);
    struct buf again;

    CHECK(m != NULL);
    again = oracle_pack(m);
    CHECK(bytes_eq(buf_bytes(&again), sealed)); /* the lane's output is canonical, too */
    buf_free(&again);
    oracle_walk(m, open_put, k);
    again = oracle_pack(m);
    CHECK(bytes_eq(buf_bytes(&again), clear));
    buf_free(&again);
    oracle_free(m);
}

static void request(struct kit *k, enum etcd_content content, struct bytes in)
{
    const ProtobufCMessageDescriptor *d = oracle_request(content);
    struct buf clear = oracle_canonical(d, in), got;
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct sealed_msg sealed = {0};
    struct chain msg = {0}, bytes = {0};

    /* A value that arrives sealed is another matter: see etcd_scan.c. */
    if (clear.p != NULL && !bytes_contain(buf_bytes(&clear), BYTES_LIT(ENVELOPE_MARK))) {
        kit_chain(k, buf_bytes(&clear), 1 + kit_random(k, 8), &msg);
        if (etcd_scan_request(&p, content, k->rules, &msg, &ask) == ETCD_EDIT) {
            kit_resolve(k, &p);
            CHECK(etcd_apply_request(&p, k->ctx, &k->pool, &msg, &sealed) == ERR_OK);
            sealed_msg_release(&sealed, &bytes);
            got = buf_chain(&bytes);
            chain_fini(&bytes);
            check_sealed(k, d, buf_bytes(&clear), buf_bytes(&got));
            buf_free(&got);
            fuzz_deep();
        }
    }
    chain_fini(&msg);
    sealed_msg_fini(&sealed);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
    buf_free(&clear);
}

/* --- answers: sealed by the slow way, opened by the lane --- */

static void ask_all(struct etcd_ask *ask, enum etcd_content content, struct bytes clear)
{
    struct etcd_range all = {BYTES_LIT("\0"), BYTES_LIT("\0"), true};

    ask_like(ask, content, clear, &all, 0);
    if (content == ETCD_WATCH)
        CHECK(etcd_ask_create(ask, 0, &all) == ERR_OK);
}

static void open_all(struct kit *k, enum etcd_content content, struct chain *msg,
                     struct bytes clear)
{
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct chain out = {0};
    struct buf got;

    ask_all(&ask, content, clear);
    if (etcd_scan_answer(&p, content, k->rules, msg, &ask) == ETCD_EDIT) {
        enum err e;

        kit_resolve(k, &p);
        e = etcd_apply_answer(&p, k->ctx, &k->pool, msg, &out);
        /* A Watch that is wrong in a later revision still gets the earlier ones. */
        CHECK(e == ERR_OK || content == ETCD_WATCH);
        got = buf_chain(&out);
        CHECK(e != ERR_OK || bytes_eq(buf_bytes(&got), clear));
        buf_free(&got);
        fuzz_deep();
    }
    chain_fini(&out);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
}

static void answer(struct kit *k, enum etcd_content content, struct bytes in)
{
    const ProtobufCMessageDescriptor *d = oracle_answer(content);
    struct buf clear = oracle_canonical(d, in), stored;
    struct oracle_kvs plain = {.count = 0};
    ProtobufCMessage *m;
    struct chain msg;

    /* What is in clear and looks sealed would be tried to be opened. */
    if (clear.p != NULL && !bytes_contain(buf_bytes(&clear), BYTES_LIT(ENVELOPE_MARK))) {
        m = oracle_unpack(d, buf_bytes(&clear));
        CHECK(m != NULL);
        oracle_seal(k, m, &plain);
        stored = oracle_pack(m);
        oracle_free(m);
        kit_chain(k, buf_bytes(&stored), 1 + kit_random(k, 8), &msg);
        open_all(k, content, &msg, buf_bytes(&clear));
        chain_fini(&msg);
        buf_free(&stored);
    }
    oracle_kvs_free(&plain);
    buf_free(&clear);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t which = fuzz_u8(&in);
    enum etcd_content content = contents[which / 2 % ARRAY_LEN(contents)];
    struct kit *k = kit_get(fuzz_u16(&in));

    if (which % 2 == 0)
        request(k, content, in);
    else
        answer(k, content, in);
    kit_done(k);
    return 0;
}
