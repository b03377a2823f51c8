/* SPDX-License-Identifier: Apache-2.0 */
/* Which stream sends next, and what the frames look like that leave. */
#include "base/metrics.h"
#include "h2/h2_int.h"
#include "duo.h"

#define MANY 7u

/* As wide as windows get. */
static void open_wide(struct duo *d)
{
    assert_true(raw_frame(&d->raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    assert_true(raw_frame(&d->raw, F_WINDOW, 0, 0, "\x70\0\0\0", 4));
}

static void open_requests(struct duo *d, struct rec *r[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        duo_open(d, 2 * i + 1, FLAG_END_STREAM);
        KIT_UNTIL(&d->k, d->e.recs_count == i + 1);
        r[i] = d->e.last;
        assert_int_equal(h2_respond(r[i]->s, kit_response, false), ERR_OK);
    }
}

/* Turns until cond, reading what comes. */
#define DUO_UNTIL(d, cond) KIT_UNTIL(&(d)->k, (raw_read(&(d)->raw), (cond)))

/* The next frame of the type that comes; the stream's id. */
static uint32_t next_id(struct duo *d, uint8_t type)
{
    return raw_await(&d->raw, type).id;
}

/* One frame each in turns, also when some have more to say than others. */
static void test_turns(void **state)
{
    struct duo d;
    struct rec *r[MANY];
    uint32_t left[MANY], turn = 0;

    (void)state;
    duo_server(&d, NULL);
    open_wide(&d);
    open_requests(&d, r, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        left[i] = 1 + i % 3;
        rec_send(r[i], 0, left[i] * 16384, 65536, false);
    }
    for (;;) {
        uint32_t tried = 0;

        while (tried < MANY && left[turn % MANY] == 0) {
            turn++;
            tried++;
        }
        if (tried == MANY)
            break;
        assert_int_equal(next_id(&d, F_DATA), 2 * (turn % MANY) + 1);
        left[turn++ % MANY]--;
    }
    duo_stop(&d);
}

static void send_more(struct rec *r)
{
    size_t *total = r->end->arg;

    if (r->drained >= *total || h2_stream_queued(r->s) > 0)
        return;
    /* In two calls: the second finds the stream in the queue already. */
    rec_send(r, r->drained, 300, 300, false);
    rec_send(r, r->drained + 300, 20000, 700, false);
}

/* An owner that sends the next part when the last one has drained, from inside on_drained: every
 * byte comes once and in order, and the streams still take turns. */
static void test_drained_sends_more(void **state)
{
    struct duo d;
    struct rec *r[MANY];
    size_t total = 20 * 20300, got[MANY] = {0}, all = 0;

    (void)state;
    duo_server(&d, NULL);
    open_wide(&d);
    open_requests(&d, r, MANY);
    d.e.arg = &total;
    d.e.on_drained = send_more;
    for (uint32_t i = 0; i < MANY; i++)
        rec_send(r[i], 0, 0 + 20300, 700, false);
    while (all < MANY * total) {
        struct raw_frame f = raw_await(&d.raw, F_DATA);
        uint32_t i = f.id / 2;

        assert_true(kit_is_pattern(f.p, got[i], f.len));
        got[i] += f.len;
        all += f.len;
        for (uint32_t k = 0; k < MANY; k++)
            assert_true(got[i] <= got[k] + 2 * 20300 || got[k] >= total);
    }
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(got[i], total);
    duo_stop(&d);
}

static void reset_another(struct rec *r)
{
    struct rec *other = r->end->arg;

    if (other != NULL && other->s != NULL)
        h2_stream_reset(other->s, H2_CANCEL);
    r->end->arg = NULL;
}

/* on_drained of one stream resets another that is in the queue, or itself. */
static void test_drained_resets(void **state)
{
    (void)state;
    for (uint32_t victim = 0; victim < MANY; victim++) {
        struct duo d;
        struct rec *r[MANY];

        duo_server(&d, NULL);
        open_wide(&d);
        open_requests(&d, r, MANY);
        d.e.arg = r[victim];
        d.e.on_drained = reset_another;
        for (uint32_t i = 0; i < MANY; i++) {
            rec_send(r[i], 0, 100000, 65536, false);
            assert_int_equal(h2_stream_trailers(r[i]->s, kit_trailers), ERR_OK);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            DUO_UNTIL(&d, r[i]->close_count == 1);
            assert_int_equal(r[i]->how, i == victim ? H2_END_RESET : H2_END_COMPLETE);
            assert_int_equal(r[i]->drained, i != victim ? 100000 : victim == 0 ? 16384 : 0);
        }
        duo_stop(&d);
    }
}

/* The connection's window opens a little at a time: the streams that wait for it share it. */
static void test_connection_window_is_shared(void **state)
{
    struct duo d;
    struct rec *r[MANY];
    size_t got[MANY] = {0};

    (void)state;
    duo_server(&d, NULL);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    open_requests(&d, r, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        rec_send(r[i], 0, 200000, 65536, false);
    for (int step = 0; step < 200; step++) {
        struct raw_frame f;

        kit_turn(&d.k);
        raw_read(&d.raw);
        while (raw_next(&d.raw, &f))
            if (f.type == F_DATA)
                got[f.id / 2] += f.len;
        for (uint32_t i = 0; i < MANY; i++)
            for (uint32_t k = 0; k < MANY; k++)
                assert_true(got[i] <= got[k] + 2 * 16384);
        assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, "\0\0\x13\x88", 4));
    }
    duo_stop(&d);
}

static struct h2_stream *first_stalled(const struct h2_conn *c)
{
    return LIST_FIRST(&c->nobody.turn[H2__STALLED].streams, struct h2_stream, send_node);
}

/* A connection's window that opens by a byte is for the stream that waits longest; it is no reason
 * to look at those behind. */
static void test_small_window_is_for_one(void **state)
{
    struct h2_stream decoy = {.state = H2__CLOSED, .is_reset = true};
    struct duo d;
    struct rec *r[MANY];
    struct raw_frame f;

    (void)state;
    duo_server(&d, NULL);
    open_requests(&d, r, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        rec_send(r[i], 0, 40000, 65536, false);
    DUO_UNTIL(&d, d.e.c->send_left == 0 && h2__queue_is_empty(d.e.c, H2__READY));
    decoy.c = d.e.c; /* who gives it a turn drops it */
    decoy.sharer = &d.e.c->nobody;
    h2__queue_push(&decoy, H2__STALLED);
    while (raw_next(&d.raw, &f))
        ;
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t id = first_stalled(d.e.c)->id;

        if (id == 0) /* all that were in front have had their byte */
            break;
        assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, "\0\0\0\1", 4));
        f = raw_await(&d.raw, F_DATA);
        assert_int_equal(f.len, 1);
        assert_int_equal(f.id, id);
        assert_false(list_is_empty(&decoy.send_node));
    }
    assert_ptr_equal(first_stalled(d.e.c), &decoy);
    h2__queue_leave(&decoy);
    duo_stop(&d);
}

/* The bytes of a stream that waits for the connection's window are dropped, alone there or beside
 * others, before its trailers are given or behind. When the window opens, all else goes on. */
static void discard_one(uint32_t count, uint32_t victim, bool is_before)
{
    struct duo d;
    struct rec *r[MANY];

    duo_server(&d, NULL);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
    open_requests(&d, r, count);
    for (uint32_t i = 0; i < count; i++)
        rec_send(r[i], 0, 100000, 65536, false);
    DUO_UNTIL(&d, d.e.c->send_left == 0 && h2__queue_is_empty(d.e.c, H2__READY));
    if (is_before)
        h2_stream_discard(r[victim]->s);
    assert_int_equal(h2_stream_trailers(r[victim]->s, kit_trailers), ERR_OK);
    if (!is_before)
        h2_stream_discard(r[victim]->s);
    DUO_UNTIL(&d, r[victim]->close_count == 1);
    assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, "\0\x10\0\0", 4));
    for (uint32_t i = 0; i < count; i++)
        DUO_UNTIL(&d, r[i]->drained == 100000 || i == victim);
    duo_open(&d, 2 * MANY + 1, FLAG_END_STREAM);
    KIT_UNTIL(&d.k, d.e.recs_count == count + 1);
    rec_answer(d.e.last, 1000);
    DUO_UNTIL(&d, d.e.last->close_count == 1);
    duo_stop(&d);
}

static void test_discarded_while_stalled(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 3; count++)
        for (uint32_t victim = 0; victim < count; victim++) {
            discard_one(count, victim, true);
            discard_one(count, victim, false);
        }
}

/* --- sharers --- */

#define CROWD 200

/* The next DATA frame: whose it is, and that neither has had more than its share. */
static void take_frame(struct duo *d, const struct rec *single, size_t *crowd, size_t *alone)
{
    struct raw_frame f = raw_await(&d->raw, F_DATA);

    *(f.id == single->s->id ? alone : crowd) += f.len;
    assert_true(*alone == 60000 || *alone + 2 * 16384 >= *crowd);
}

/* Two who share a connection: one with 200 streams, one with a single stream, each with 60,000
 * bytes. They get equal shares, from the first byte on, whether it is the socket or the
 * connection's window that holds them up; and the first one's streams share what is its own. */
static void sharers_take_turns(uint32_t window)
{
    const struct h2_fields request = kit_request;
    struct rec *r[CROWD + 1];
    size_t crowd = 0, alone = 0, got = 65535;
    struct duo d;
    uint8_t update[4];

    duo_client(&d, NULL);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\1\54", 6)); /* 300 streams */
    KIT_UNTIL(&d.k, d.e.c->peer_streams == 300);
    for (uint32_t i = 0; i <= CROWD; i++) {
        r[i] = end_request(&d.e, request, false);
        h2_stream_share(r[i]->s, i < CROWD ? 7 : 7 + 32); /* of one bucket */
        rec_send(r[i], 0, 60000, 60000, true);
    }
    while (alone < 60000) {
        take_frame(&d, r[CROWD], &crowd, &alone);
        if (crowd + alone < got)
            continue;
        h2__put_u32(update, window);
        assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, update, 4));
        got += window;
    }
    assert_true(crowd >= 60000 - 2 * 16384);
    duo_stop(&d);
}

static void test_sharers_take_turns(void **state)
{
    (void)state;
    sharers_take_turns(5000);
    sharers_take_turns(40000);
    sharers_take_turns(10000000);
}

/* Whatever ends first, nothing of a sharer stays behind, and nobody else's turn is lost. */
static void test_sharers_come_and_go(void **state)
{
    enum { MAX = 24, ROUNDS = 3000 };
    struct rec *r[MAX] = {NULL};
    uint32_t seed = 1, window = 0x7fff0000u;
    uint8_t update[4];
    struct duo d;

    (void)state;
    duo_client(&d, NULL);
    h2__put_u32(update, window);
    assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, update, 4));
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct rec **at = &r[(seed = seed * 1103515245 + 12345) >> 16 & (MAX - 1) & 15];

        if (*at == NULL || (*at)->s == NULL) {
            *at = end_request(&d.e, kit_request, false);
            if (seed >> 20 & 3)
                h2_stream_share((*at)->s, 1 + (seed >> 22 & 3) * 16);
            rec_send(*at, 0, 1 + (seed >> 8 & 0x7fff), 1000, false);
        } else {
            h2_stream_reset((*at)->s, H2_CANCEL);
        }
        if (seed >> 24 & 1) {
            kit_turn(&d.k);
            raw_read(&d.raw);
            d.raw.in_len = d.raw.at = 0;
        }
    }
    for (unsigned i = 0; i < MAX; i++)
        if (r[i] != NULL && r[i]->s != NULL)
            h2_stream_reset(r[i]->s, H2_CANCEL);
    KIT_UNTIL(&d.k, h2_conn_stream_count(d.e.c) == 0 && list_is_empty(&d.e.c->dead));
    for (int q = 0; q < H2__QUEUE_COUNT; q++)
        assert_true(h2__queue_is_empty(d.e.c, (enum h2__queue)q));
    for (size_t i = 0; i < 32; i++)
        LIST_FOREACH(it, &d.e.c->sharers[i])
            assert_ptr_equal(LIST_ENTRY(it, struct h2__sharer, bucket), d.e.c->idle_sharer);
    duo_stop(&d);
}

static void cut(struct rec *r)
{
    h2__cut(r->end->c, H2_ENHANCE_YOUR_CALM, "enough");
}

/* Who is cut off while frames are made hears GOAWAY next, and nothing of the streams that wait. */
static void test_nothing_behind_a_cut(void **state)
{
    unsigned data = 0;
    struct duo d;
    struct rec *r[MANY];
    struct raw_frame f;

    (void)state;
    duo_server(&d, NULL);
    open_requests(&d, r, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        rec_send(r[i], 0, 1000, 1000, false);
    d.e.on_drained = cut;
    assert_true(raw_await_eof(&d.raw, 3000));
    do {
        assert_true(raw_next(&d.raw, &f));
        data += f.type == F_DATA;
    } while (f.type != F_GOAWAY);
    assert_int_equal(data, 1);
    assert_false(raw_next(&d.raw, &f));
    duo_stop(&d);
}

/* Requests above the peer's limit leave in order as others end, with ids that rise. */
static void test_waiting_requests(void **state)
{
    struct duo d;
    struct rec *r[20];
    uint32_t id = 1;

    (void)state;
    duo_client(&d, NULL);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\2", 6));
    (void)raw_await(&d.raw, F_SETTINGS);
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        r[i] = end_request(&d.e, kit_request, true);
    h2_stream_reset(r[7]->s, H2_CANCEL); /* takes no id */
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        if (i == 7)
            continue;
        assert_int_equal(next_id(&d, F_HEADERS), id);
        assert_int_equal(r[i]->s->id, id);
        if (i >= 1)
            duo_answer(&d, id - 2, FLAG_END_STREAM);
        id += 2;
    }
    /* The limit falls below what is open, then to nothing, then rises. */
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\0", 6));
    (void)raw_await(&d.raw, F_SETTINGS);
    r[0] = end_request(&d.e, kit_request, true);
    duo_answer(&d, id - 2, FLAG_END_STREAM);
    kit_run_ms(&d.k, 20);
    assert_int_equal(r[0]->s->id, 0);
    assert_int_equal(h2_conn_stream_count(d.e.c), 1);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\1", 6));
    assert_int_equal(next_id(&d, F_HEADERS), id);
    duo_stop(&d);
}

/* The last id there is. Requests that wait for their turn, or for the peer's limit, have ids
 * coming: none is taken that would wait for one that does not come. */
static void test_ids_run_out(void **state)
{
    (void)state;
    for (uint32_t left = 1; left <= 4; left++) {
        struct duo d;
        struct rec *r[4];
        struct h2_stream *s;

        duo_client(&d, NULL);
        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\2", 6));
        KIT_UNTIL(&d.k, h2_conn_peer_streams(d.e.c) == 2);
        d.e.c->next_id = H2__ID_MAX - 2 * (left - 1);
        for (uint32_t i = 0; i < left; i++)
            r[i] = end_request(&d.e, kit_request, true);
        assert_int_equal(h2_request(d.e.c, kit_request, true, NULL, NULL, &s), ERR_CLOSED);
        for (uint32_t i = 0; i < left; i++) {
            uint32_t id = next_id(&d, F_HEADERS);

            assert_int_equal(h2_request(d.e.c, kit_request, true, NULL, NULL, &s), ERR_CLOSED);
            duo_answer(&d, id, FLAG_END_STREAM);
            KIT_UNTIL(&d.k, r[i]->close_count == 1);
            assert_int_equal(r[i]->how, H2_END_COMPLETE);
            assert_false(h2_conn_can_request(d.e.c));
        }
        assert_int_equal(h2_conn_stream_count(d.e.c), 0);
        duo_stop(&d);
    }
}

/* Header blocks of every size around a frame's: HEADERS, then CONTINUATION, nothing larger than the
 * peer has to take, END_STREAM on the first, END_HEADERS on the last. */
static void test_large_blocks(void **state)
{
    static char value[60000];

    (void)state;
    memset(value, '\\', sizeof value); /* 19 bits in Huffman's code: sent as it is */
    for (size_t n = 16370; n<50000; n += n> 16390 ? 8191 : 1) {
        struct h2_field v[] = {{BYTES_LIT(":status"), BYTES_LIT("200")},
                               {BYTES_LIT("x-long"), bytes_of(value, n)}};
        struct duo d;
        struct raw_frame f;
        size_t total;

        duo_server(&d, NULL);
        duo_open(&d, 1, FLAG_END_STREAM);
        KIT_UNTIL(&d.k, d.e.recs_count == 1);
        assert_int_equal(h2_respond(d.e.last->s, (struct h2_fields){v, 2}, true), ERR_OK);
        f = raw_await(&d.raw, F_HEADERS);
        total = f.len;
        assert_int_equal(f.flags & FLAG_END_STREAM, FLAG_END_STREAM);
        while ((f.flags & FLAG_END_HEADERS) == 0) {
            assert_int_equal(f.len, 16384);
            while (!raw_next(&d.raw, &f)) {
                kit_turn(&d.k);
                raw_read(&d.raw);
            }
            assert_int_equal(f.type, F_CONT);
            assert_int_equal(f.id, 1);
            assert_int_equal(f.flags & ~FLAG_END_HEADERS, 0);
            total += f.len;
        }
        assert_true(f.len > 0 && f.len <= 16384);
        assert_in_range(total, n + 1, n + 20);
        duo_stop(&d);
    }
}

/* Small pieces are copied, others are not: the counters say so. */
static void test_copies(void **state)
{
    static const struct {
        size_t piece;
        bool is_copied;
    } cases[] = {
        {100, true}, {LIMIT_SMALL_COPY - 1, true}, {LIMIT_SMALL_COPY, false}, {5000, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct duo d;
        struct rec *r[1];
        uint64_t copied = metric_get(METRIC_bytes_copied_total);
        uint64_t forwarded = metric_get(METRIC_bytes_forwarded_total);

        duo_server(&d, NULL);
        open_requests(&d, r, 1);
        rec_send(r[0], 0, cases[i].piece, cases[i].piece, false);
        KIT_UNTIL(&d.k, r[0]->drained == cases[i].piece);
        assert_int_equal(metric_get(METRIC_bytes_forwarded_total) - forwarded, cases[i].piece);
        assert_int_equal(metric_get(METRIC_bytes_copied_total) - copied,
                         cases[i].is_copied ? cases[i].piece : 0);
        duo_stop(&d);
    }
}

/* When nothing is under way a connection holds no buffer, no table entry, no slab. */
static void test_idle_costs_little(void **state)
{
    struct duo d;
    struct h2_conn *c;

    (void)state;
    duo_server(&d, NULL);
    open_wide(&d);
    for (uint32_t i = 0; i < 300; i++)
        duo_open(&d, 2 * i + 1, FLAG_END_STREAM);
    KIT_UNTIL(&d.k, d.e.recs_count == 300);
    c = d.e.c;
    LIST_FOREACH(it, &d.e.recs)
        rec_answer(LIST_ENTRY(it, struct rec, node), 3000);
    DUO_UNTIL(&d, h2_conn_stream_count(c) == 0);
    kit_run_ms(&d.k, 20);
    assert_int_equal(d.e.lost_count, 0); /* else it is gone */
    assert_null(c->control.p);
    assert_null(c->scratch);
    assert_null(c->in.part);
    assert_null(c->in.block.p);
    assert_int_equal(c->out.len, 0);
    assert_true(c->table.slot_count <= 256);
    assert_in_range(sizeof *c, 1, 2048);
    duo_stop(&d);
}

/* A stream is over for its client when END_STREAM is there, and another may take its place, however
 * much the others have to say and however little the socket takes. */
static void test_end_makes_room(void **state)
{
    struct h2_opts opts = kit_server_opts;
    struct duo d;
    struct rec *r[40];
    struct raw_frame f;
    char text[32];

    (void)state;
    opts.max_streams = ARRAY_LEN(r);
    duo_server(&d, &opts);
    open_wide(&d);
    open_requests(&d, r, ARRAY_LEN(r));
    for (uint32_t i = 1; i < ARRAY_LEN(r); i++)
        rec_send(r[i], 0, 100000, 65536, false);
    assert_int_equal(h2_stream_trailers(r[0]->s, kit_trailers), ERR_OK);
    do {
        f = raw_await(&d.raw, F_HEADERS);
    } while (f.id != 1 || (f.flags & FLAG_END_STREAM) == 0);
    duo_open(&d, 2 * ARRAY_LEN(r) + 1, FLAG_END_STREAM);
    duo_outcome(&d, 2 * ARRAY_LEN(r) + 1, text, sizeof text);
    assert_string_equal(text, "alive");
    duo_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_drained_sends_more),
        cmocka_unit_test(test_drained_resets),
        cmocka_unit_test(test_connection_window_is_shared),
        cmocka_unit_test(test_small_window_is_for_one),
        cmocka_unit_test(test_discarded_while_stalled),
        cmocka_unit_test(test_sharers_take_turns),
        cmocka_unit_test(test_sharers_come_and_go),
        cmocka_unit_test(test_end_makes_room),
        cmocka_unit_test(test_nothing_behind_a_cut),
        cmocka_unit_test(test_waiting_requests),
        cmocka_unit_test(test_ids_run_out),
        cmocka_unit_test(test_large_blocks),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_idle_costs_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
