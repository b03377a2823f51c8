/* SPDX-License-Identifier: Apache-2.0 */
#include "large_kit.h"

#include <stdio.h>

struct fix fix;

int kit_setup(void **state)
{
    (void)state;
    fix_init(&fix);
    return 0;
}

int kit_teardown(void **state)
{
    (void)state;
    fix_fini(&fix);
    return 0;
}

/* --- building -------------------------------------------------------------------------------- */

void kit_add_kv(struct buf *b, uint32_t number, int i, size_t value_len, bool is_stored,
                int64_t revision)
{
    char key[64];
    bool is_open = i % 5 == 4;
    struct buf kv = {0}, value = {calloc(1, value_len + 1), value_len, 0};

    (void)snprintf(key, sizeof key, "%s%04d", is_open ? "/registry/open/" : SECRET, i);
    memset(value.p, 'a' + i % 26, value_len);
    buf_str(&kv, 1, key);
    buf_varint(&kv, 3, (uint64_t)revision);
    if (is_stored && !is_open) {
        struct buf sealed = fix_seal(&fix, (size_t)i % FIX_DEKS, key, value.p, value_len);

        buf_field(&kv, 5, sealed.p, sealed.n);
        buf_free(&sealed);
    } else if (value_len > 0) {
        buf_field(&kv, 5, value.p, value_len);
    }
    buf_free(&value);
    buf_sub(b, number, &kv);
}

void kit_add_header(struct buf *b)
{
    buf_str(b, 1, "\x08\x05\x18\x63");
}

struct buf kit_range(int n, size_t value_len, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    for (int i = 0; i < n; i++)
        kit_add_kv(&b, 2, i, value_len, is_stored, 100 + i);
    buf_varint(&b, 3, 1);
    buf_varint(&b, 4, 12345);
    return b;
}

struct buf kit_put(bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    kit_add_kv(&b, 2, 1, 40, is_stored, 5);
    return b;
}

struct buf kit_delete_range(int n, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 3);
    for (int i = 0; i < n; i++)
        kit_add_kv(&b, 3, i, 33, is_stored, 5);
    return b;
}

void kit_add_response(struct buf *b, uint32_t member, struct buf sub)
{
    struct buf op = {0};

    buf_sub(&op, member, &sub);
    buf_sub(b, 3, &op);
}

struct buf kit_txn(unsigned depth, bool is_stored)
{
    struct buf b = {0};

    kit_add_header(&b);
    buf_varint(&b, 2, 1);
    kit_add_response(&b, 1, kit_range(3, 20, is_stored));
    kit_add_response(&b, 2, kit_put(is_stored));
    if (depth > 0)
        kit_add_response(&b, 4, kit_txn(depth - 1, is_stored));
    kit_add_response(&b, 3, kit_delete_range(2, is_stored));
    kit_add_response(&b, 1, (struct buf){0});
    return b;
}

/* --- feeding --------------------------------------------------------------------------------- */

void feed_init_batch(struct feed *f, enum etcd_content content, const struct buf *like,
                     size_t announced, size_t batch_max)
{
    struct etcd_range all = {bytes_str("/registry/"), bytes_str("/registry0"), false};

    memset(f, 0, sizeof *f);
    ask_like(&f->ask, content, bytes_of(like->p, like->n), &all, 7);
    assert_int_equal(
        etcd_large_new(content, fix.rules, &f->ask, (uint32_t)announced, batch_max, &f->large),
        ERR_OK);
}

void feed_init(struct feed *f, enum etcd_content content, const struct buf *like)
{
    feed_init_batch(f, content, like, like->n, LIMIT_LANE_TURN);
}

void feed_fini(struct feed *f)
{
    etcd_large_free(f->large);
    etcd_plan_fini(&f->plan);
    etcd_ask_fini(&f->ask);
    chain_fini(&f->in);
    chain_fini(&f->out);
}

static void feed_note(struct feed *f, enum err e)
{
    f->err = e;
    (void)snprintf(f->bad_key, sizeof f->bad_key, "%.*s", (int)f->plan.bad_key.n,
                   (const char *)f->plan.bad_key.p);
}

static void feed_apply(struct feed *f, struct chain *batch)
{
    size_t len = f->out.len;
    enum err e;

    fix_resolve(&fix, &f->plan);
    f->plan.apply_max = fix_apply_max();
    do
        e = etcd_large_apply(f->large, &f->plan, fix.ctx, &fix.pool, batch, &f->out);
    while (e == ERR_AGAIN);
    assert_int_equal(batch->len, 0);
    if (e != ERR_OK)
        feed_note(f, e);
    if (f->on_piece != NULL && f->out.len > len) {
        struct buf piece = buf_chain(&f->out);

        f->on_piece(f->arg, &piece);
        buf_free(&piece);
    }
    f->batches++;
}

/* Runs until nothing more is to be had. */
void feed_run(struct feed *f)
{
    while (f->err == ERR_OK && !f->is_done) {
        struct chain batch = {0};
        size_t left = etcd_large_left(f->large);
        enum etcd_large_step step = etcd_large_next(f->large, &f->in, &f->plan, &batch);

        f->ops_most = f->plan.op_count > f->ops_most ? f->plan.op_count : f->ops_most;
        f->turns += step == ETCD_LARGE_AGAIN;
        if (step == ETCD_LARGE_BATCH)
            feed_apply(f, &batch);
        if (step == ETCD_LARGE_BAD)
            feed_note(f, f->plan.err);
        if (step == ETCD_LARGE_DONE)
            f->is_done = true;
        assert_true(etcd_large_left(f->large) <= left);
        chain_fini(&batch);
        if (step == ETCD_LARGE_MORE ||
            (step == ETCD_LARGE_AGAIN && f->may_stop && fix_random(&fix, 2) == 0))
            return;
    }
}

void feed_bytes(struct feed *f, const uint8_t *p, size_t n)
{
    struct chain piece;

    fix_chain(&fix, p, n, NULL, 0, &piece);
    assert_int_equal(chain_append(&f->in, &piece), ERR_OK);
    chain_fini(&piece);
    f->fed += n;
    feed_run(f);
}

/* max: pieces of 1..max bytes. */
void feed_all(struct feed *f, const struct buf *in, size_t upto, size_t max)
{
    f->may_stop = true;
    while (f->fed < upto && f->err == ERR_OK) {
        size_t n = 1 + fix_random(&fix, (uint32_t)max);

        n = n < upto - f->fed ? n : upto - f->fed;
        feed_bytes(f, in->p + f->fed, n);
    }
    f->may_stop = false;
    feed_run(f);
}

/* --- oracles --------------------------------------------------------------------------------- */

const ProtobufCMessageDescriptor *kit_type_of(enum etcd_content content)
{
    switch (content) {
    case ETCD_RANGE:
        return &etcdserverpb__range_response__descriptor;
    case ETCD_PUT:
        return &etcdserverpb__put_response__descriptor;
    case ETCD_DELETE_RANGE:
        return &etcdserverpb__delete_range_response__descriptor;
    case ETCD_TXN:
        return &etcdserverpb__txn_response__descriptor;
    case ETCD_RANGE_STREAM:
        return &etcdserverpb__range_stream_response__descriptor;
    default:
        return &etcdserverpb__watch_response__descriptor;
    }
}

/* Drops unknown fields at every level; they must be of the numbers that filler has. */
static void strip(ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->n_unknown_fields; i++) {
        assert_true(m->unknown_fields[i].tag == 19999 || m->unknown_fields[i].tag == 15);
        free(m->unknown_fields[i].data);
    }
    free(m->unknown_fields);
    m->unknown_fields = NULL;
    m->n_unknown_fields = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *fd = &m->descriptor->fields[i];
        uint8_t *at = (uint8_t *)m + fd->offset;

        if (fd->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (fd->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = *(size_t *)(void *)((uint8_t *)m + fd->quantifier_offset);

            for (size_t j = 0; j < n; j++)
                strip((*(ProtobufCMessage ***)(void *)at)[j]);
        } else if (!(fd->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
                   *(uint32_t *)(void *)((uint8_t *)m + fd->quantifier_offset) == fd->id) {
            ProtobufCMessage *sub = *(ProtobufCMessage **)(void *)at;

            if (sub != NULL)
                strip(sub);
        }
    }
}

/* The canonical form of a message without fillers. */
struct buf kit_canonical(enum etcd_content content, const struct buf *in)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(kit_type_of(content), NULL, in->n, in->p);
    struct buf b = {0};

    assert_non_null(m);
    strip(m);
    b.p = malloc(protobuf_c_message_get_packed_size(m) + 1);
    b.n = protobuf_c_message_pack(m, b.p);
    protobuf_c_message_free_unpacked(m, NULL);
    return b;
}

void assert_buf_equal(const struct buf *a, const struct buf *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->p, b->p, a->n);
}
