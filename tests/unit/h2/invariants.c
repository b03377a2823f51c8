/* SPDX-License-Identifier: Apache-2.0 */
#include "invariants.h"

#include "kit.h"

static bool has_work(const struct h2_stream *s)
{
    if (s->is_end_pending) /* a client's stream may then wait for the other side's end */
        return s->c->opts.is_server;
    if (s->state == H2__IDLE)
        return true;
    if (h2__is_local_over(s))
        return false;
    return s->out.len == 0 ? s->is_end_queued : s->send_left > 0;
}

static size_t check_sharer(struct h2_conn *c, struct h2__sharer *sh, size_t *queued)
{
    size_t turns = 0;

    for (unsigned q = 0; q < H2__QUEUE_COUNT; q++) {
        assert_int_equal(list_is_empty(&sh->turn[q].node), list_is_empty(&sh->turn[q].streams));
        turns += !list_is_empty(&sh->turn[q].node);
        LIST_FOREACH(it, &sh->turn[q].streams) {
            const struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, send_node);

            assert_ptr_equal(s->sharer, sh);
            assert_ptr_equal(s->c, c);
            assert_int_equal(s->queue, q);
            assert_false(s->is_reset);
            assert_int_equal(s->state == H2__IDLE, q == H2__WAITING);
            assert_int_equal(s->is_end_pending, q == H2__ENDING);
            ++*queued;
        }
    }
    return turns;
}

static void check_queues(struct h2_conn *c)
{
    size_t queued = 0, turns = check_sharer(c, &c->nobody, &queued), found = 0, streams = 0;

    for (size_t i = 0; c->sharers != NULL && i < 32; i++)
        LIST_FOREACH(it, &c->sharers[i]) {
            struct h2__sharer *sh = LIST_ENTRY(it, struct h2__sharer, bucket);

            assert_true(sh->streams > 0 || c->idle_sharer == sh);
            turns += check_sharer(c, sh, &queued);
            streams += sh->streams;
        }
    for (unsigned q = 0; q < H2__QUEUE_COUNT; q++)
        LIST_FOREACH(it, &c->queue[q])
            found++;
    assert_int_equal(found, turns);
    LIST_FOREACH(it, &c->streams) {
        const struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, node);

        queued -= !list_is_empty(&s->send_node);
        streams -= s->sharer != &c->nobody;
    }
    LIST_FOREACH(it, &c->dead)
        streams -= LIST_ENTRY(it, struct h2_stream, node)->sharer != &c->nobody;
    assert_int_equal(queued, 0);
    assert_int_equal(streams, 0);
}

static void check_streams(struct h2_conn *c)
{
    size_t count = 0, in_table = 0;
    uint32_t id = 0;

    LIST_FOREACH(it, &c->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, node);

        count++;
        assert_false(s->is_reset);
        assert_int_equal(s->is_in_table, s->state != H2__IDLE);
        in_table += s->is_in_table;
        if (s->is_in_table) {
            assert_ptr_equal(h2__stream_of(c, s->id), s);
            assert_true(s->id > id);
            id = s->id;
        }
        if (has_work(s) && !h2__is_stopped(c))
            assert_false(list_is_empty(&s->send_node));
    }
    assert_int_equal(c->stream_count, count);
    assert_int_equal(c->table.count, in_table);
    LIST_FOREACH(it, &c->dead) {
        const struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, node);

        assert_true(s->is_reset && !s->is_in_table && list_is_empty(&s->send_node));
    }
}

void h2_check(struct h2_conn *c)
{
    check_streams(c);
    check_queues(c);
}
