/* SPDX-License-Identifier: Apache-2.0 */
#include "ask_like.h"

#include "pb/pb.h"

static void txn_like(struct etcd_ask *ask, uint32_t txn, struct bytes answer,
                     const struct etcd_range *r, unsigned depth);

static void op_like(struct etcd_ask *ask, uint32_t op, struct bytes response,
                    const struct etcd_range *r, unsigned depth)
{
    struct pb_span f;

    do {
        if (pb_span_next(&response, &f) != PB_FIELD)
            return;
    } while (f.wire != PB_LEN || f.number > ETCD_ASKED_TXN);
    if (f.number == ETCD_ASKED_TXN) {
        CHECK(etcd_ask_set(ask, op, ETCD_ASKED_TXN, NULL) == ERR_OK);
        txn_like(ask, op, f.value, r, depth + 1);
    } else {
        CHECK(etcd_ask_set(ask, op, (enum etcd_asked)f.number, r) == ERR_OK);
    }
}

static void txn_like(struct etcd_ask *ask, uint32_t txn, struct bytes answer,
                     const struct etcd_range *r, unsigned depth)
{
    for (int branch = 0; branch < 2 && depth <= LIMIT_DEPTH; branch++) {
        struct bytes left = answer;
        struct pb_span f;
        uint32_t op;

        while (pb_span_next(&left, &f) == PB_FIELD) {
            if (f.number != 3 || f.wire != PB_LEN)
                continue;
            CHECK(etcd_ask_op(ask, txn, branch == 1, &op) == ERR_OK);
            op_like(ask, op, f.value, r, depth);
        }
    }
}

void ask_like(struct etcd_ask *ask, enum etcd_content content, struct bytes answer,
              const struct etcd_range *r, int64_t watch_id)
{
    if (content == ETCD_WATCH) {
        CHECK(etcd_ask_create(ask, 0, r) == ERR_OK);
        CHECK(etcd_ask_created(ask, watch_id, false) == ERR_OK);
    } else if (content == ETCD_TXN) {
        CHECK(etcd_ask_txn(ask) == ERR_OK);
        txn_like(ask, 0, answer, r, 0);
    } else {
        CHECK(etcd_ask_add(ask, ETCD_ASKED_RANGE, r) == ERR_OK);
    }
}
