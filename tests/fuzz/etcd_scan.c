/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_scan_request, etcd_apply_request, etcd_passthrough.
 * Whatever a request looks like, what goes on to etcd shows no marker beside a key of which values
 * are sealed. What was edited is what protobuf-c understands, and says what the request said.
 *
 * Input: content, options, seed, damage, the request. Options: 1 puts the marker into every value
 * that is to be sealed; the top bits are the number of damages. */
#include "oracle.h"

#include <string.h>

static const struct bytes marker = BYTES_LIT("PLAINTEXT-MARKER");
static const enum etcd_content contents[] = {ETCD_PUT,          ETCD_TXN,   ETCD_RANGE,
                                             ETCD_DELETE_RANGE, ETCD_WATCH, ETCD_RANGE_STREAM};

struct marking {
    const struct kit *k;
    size_t marked;
    bool is_elsewhere; /* the marker stands where nothing is sealed */
};

static void mark_put(ProtobufCMessage *m, void *arg)
{
    struct marking *g = arg;
    Etcdserverpb__PutRequest *put = (Etcdserverpb__PutRequest *)m;

    if (m->descriptor != &etcdserverpb__put_request__descriptor)
        return;
    if (kit_is_sealing(g->k, oracle_bytes(put->key)) && !put->ignore_value) {
        oracle_set(&put->value, buf_of(marker));
        g->marked++;
    }
}

/* Puts the marker in. False: there is no place, or the request holds it elsewhere. */
static bool mark(const struct kit *k, const ProtobufCMessageDescriptor *d, struct buf *req)
{
    struct marking g = {.k = k};
    ProtobufCMessage *m;

    if (bytes_contain(buf_bytes(req), marker))
        return false;
    m = oracle_unpack(d, buf_bytes(req));
    if (m == NULL)
        return false;
    oracle_walk(m, mark_put, &g);
    buf_free(req);
    *req = oracle_pack(m);
    oracle_free(m);
    return g.marked > 0;
}

struct opening {
    struct kit *k;
    bool is_output;
};

/* Opens what is sealed. In the output that is everything that has to be. */
static void open_put(ProtobufCMessage *m, void *arg)
{
    const struct opening *o = arg;
    Etcdserverpb__PutRequest *put = (Etcdserverpb__PutRequest *)m;
    struct bytes value;
    struct buf plain;

    if (m->descriptor != &etcdserverpb__put_request__descriptor || put->ignore_value)
        return;
    value = oracle_bytes(put->value);
    if (kit_open(o->k, oracle_bytes(put->key), value, &plain))
        oracle_set(&put->value, plain);
    else if (o->is_output)
        CHECK(!kit_is_sealing(o->k, oracle_bytes(put->key)));
}

static struct buf opened(struct kit *k, const ProtobufCMessageDescriptor *d, struct bytes in,
                         bool is_output)
{
    struct opening o = {k, is_output};
    ProtobufCMessage *m = oracle_unpack(d, in);
    struct buf b;

    CHECK(m != NULL); /* an edited request has no secrets from protobuf-c */
    oracle_walk(m, open_put, &o);
    b = oracle_pack(m);
    oracle_free(m);
    return b;
}

static void check_edited(struct kit *k, const ProtobufCMessageDescriptor *d, struct bytes in,
                         struct bytes out)
{
    struct buf want = opened(k, d, in, false), got = opened(k, d, out, true);

    CHECK(bytes_eq(buf_bytes(&want), buf_bytes(&got)));
    buf_free(&want);
    buf_free(&got);
    fuzz_deep();
}

static void run(struct kit *k, enum etcd_content content, const struct buf *req, bool is_marked)
{
    struct etcd_plan p = {0};
    struct etcd_ask ask = {0};
    struct sealed_msg sealed = {0};
    enum etcd_verdict verdict;
    struct chain msg, bytes = {0};
    struct buf out;

    kit_chain(k, buf_bytes(req), 1 + kit_random(k, 8), &msg);
    verdict = etcd_scan_request(&p, content, k->rules, &msg, &ask);
    if (verdict == ETCD_EDIT) {
        kit_resolve(k, &p);
        if (etcd_apply_request(&p, k->ctx, &k->pool, &msg, &sealed) != ERR_OK)
            verdict = ETCD_REJECT;
        CHECK(msg.len == 0);
    } else if (verdict == ETCD_AS_IS) {
        CHECK(etcd_passthrough(verdict, &msg, &sealed) == ERR_OK);
    }
    CHECK((verdict == ETCD_REJECT) == (p.err != ERR_OK));
    CHECK(verdict != ETCD_REJECT || sealed_msg_len(&sealed) == 0);
    sealed_msg_release(&sealed, &bytes);
    out = buf_chain(&bytes);
    chain_fini(&bytes);
    CHECK(!oracle_leaks(k, content, buf_bytes(&out), marker));
    CHECK(!is_marked || !bytes_contain(buf_bytes(&out), marker));
    CHECK(verdict != ETCD_AS_IS || bytes_eq(buf_bytes(&out), buf_bytes(req)));
    if (verdict == ETCD_EDIT)
        check_edited(k, oracle_request(content), buf_bytes(req), buf_bytes(&out));
    buf_free(&out);
    chain_fini(&msg);
    etcd_plan_fini(&p);
    etcd_ask_fini(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    enum etcd_content content = contents[fuzz_u8(&in) % ARRAY_LEN(contents)];
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u16(&in));
    struct fuzz_damage damage = fuzz_damage_take(&in, options >> 6);
    struct buf req = buf_of(in);
    bool is_marked = (options & 1) != 0 && mark(k, oracle_request(content), &req);

    fuzz_damage_do(&damage, &req);
    /* A damage can turn a protected key into another one, which may show the marker. */
    run(k, content, &req, is_marked && damage.count == 0);
    buf_free(&req);
    kit_done(k);
    return 0;
}
