/* SPDX-License-Identifier: Apache-2.0 */
/* The deframer: a message taken out of what has arrived, in one piece and cut into frames. */
#include <stdlib.h>

#include "grpc/grpc.h"
#include "micro.h"

struct frames {
    struct micro *m;
    size_t len, piece;
    uint8_t *bytes;
    struct chain in[MICRO_BATCH];
};

static void prepare(void *arg, size_t i)
{
    struct frames *f = arg;

    chain_clear(&f->in[i]);
    for (size_t at = 0; at < f->len; at += f->piece) {
        size_t n = f->len - at < f->piece ? f->len - at : f->piece;

        /* A slab of its own, so that pieces stay pieces. */
        slab_pool_settle(&f->m->pool);
        micro_must(chain_push_copy(&f->in[i], &f->m->pool, f->bytes + at, n, 0));
    }
}

static void deframe(void *arg, size_t i)
{
    struct frames *f = arg;
    struct grpc_prefix prefix;
    struct chain msg = {0};

    if (!grpc_prefix_peek(&f->in[i], &prefix) || prefix.flag != 0 ||
        f->in[i].len - GRPC_PREFIX_LEN != prefix.length)
        micro_must(ERR_PROTOBUF);
    chain_consume(&f->in[i], GRPC_PREFIX_LEN);
    micro_must(chain_move(&msg, &f->in[i], prefix.length));
    chain_fini(&msg);
}

static void measure(struct micro *m, const char *name, size_t len, size_t piece)
{
    static struct frames f;

    f = (struct frames){.m = m, .len = len + GRPC_PREFIX_LEN, .piece = piece};
    f.bytes = calloc(1, f.len);
    if (f.bytes == NULL)
        micro_must(ERR_NOMEM);
    grpc_prefix_put(f.bytes, (uint32_t)len);
    micro_measure(&(struct micro_case){"grpc", name, len, &f, prepare, deframe});
    for (size_t i = 0; i < MICRO_BATCH; i++)
        chain_fini(&f.in[i]);
    free(f.bytes);
}

int main(void)
{
    static struct micro m;

    micro_init(&m);
    measure(&m, "deframe, one piece", 1024, 16384);
    measure(&m, "deframe, prefix cut", 1024, 3);
    measure(&m, "deframe, frames of 16 KiB", 1048576, 16384);
    return 0;
}
