/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_message_read_range, etcd_message_next_kv, etcd_message_read_replace,
 * etcd_message_read_move, etcd_message_read_status, etcd_lease_read.
 * Whatever an etcd answers to the requests of our own: what is read lies within the answer, as many
 * KeyValues come one by one as are counted, and protobuf-c agrees on keys and values.
 *
 * Input: the answer. */
#include "etcd/message.h"

#include "etcd/lease.h"
#include "oracle.h"

static void check_within(struct bytes all, struct bytes part)
{
    if (part.n > 0)
        CHECK(part.p >= all.p && part.n <= all.n && part.p + part.n <= all.p + all.n);
}

static void check_kvs(struct bytes in)
{
    Etcdserverpb__RangeResponse *m;
    struct etcd_range_answer answer;
    struct bytes rest = in;
    struct etcd_kv kv;
    size_t count = 0;
    bool has = true;

    if (etcd_message_read_range(in, &answer) != ERR_OK)
        return;
    m = etcdserverpb__range_response__unpack(NULL, in.n, in.p);
    while (has) {
        if (etcd_message_next_kv(&rest, &kv, &has) != ERR_OK) {
            has = true;
            break;
        }
        if (!has)
            break;
        check_within(in, kv.key);
        check_within(in, kv.value);
        CHECK(kv.key.n > 0);
        if (m != NULL && count < m->n_kvs) {
            CHECK(bytes_eq(kv.key, bytes_of(m->kvs[count]->key.data, m->kvs[count]->key.len)));
            CHECK(
                bytes_eq(kv.value, bytes_of(m->kvs[count]->value.data, m->kvs[count]->value.len)));
            CHECK(kv.lease == m->kvs[count]->lease);
            fuzz_deep();
        }
        count++;
    }
    CHECK(has ? count <= answer.kv_count : count == answer.kv_count);
    if (m != NULL)
        etcdserverpb__range_response__free_unpacked(m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    struct etcd_replace_answer replace;
    struct etcd_move_answer move;
    struct etcd_lease lease;
    struct etcd_status status;

    check_kvs(in);
    if (etcd_message_read_replace(in, &replace) == ERR_OK)
        check_within(in, replace.read);
    if (etcd_message_read_move(in, &move) == ERR_OK) {
        check_within(in, move.from);
        check_within(in, move.to);
    }
    if (etcd_message_read_status(in, &status) == ERR_OK)
        CHECK(memchr(status.version, '\0', sizeof status.version) != NULL);
    (void)!etcd_lease_read(in, &lease);
    return 0;
}
