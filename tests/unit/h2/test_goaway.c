/* SPDX-License-Identifier: Apache-2.0 */
/* GOAWAY both ways, beside what test_conn.c has: the ids that are named, and who is told what. */
#include "duo.h"
#include "h2/h2_int.h"

/* Reads all frames up to the end; every last id is at most the one before. Returns the last. */
static uint32_t read_goaways(struct duo *d, unsigned *count)
{
    uint32_t last = UINT32_MAX;
    struct raw_frame f;

    assert_true(raw_await_eof(&d->raw, 3000));
    *count = 0;
    while (raw_next(&d->raw, &f)) {
        if (f.type != F_GOAWAY)
            continue;
        assert_true(h2__u32(f.p) <= last);
        last = h2__u32(f.p);
        ++*count;
    }
    return last;
}

/* However a connection ends that was drained before, the ids of its GOAWAYs never rise (RFC 9113
 * section 6.8), although the client goes on opening streams. */
static void test_ids_never_rise(void **state)
{
    (void)state;
    for (int is_cut = 0; is_cut < 2; is_cut++) {
        struct duo d;
        struct raw_frame f;
        unsigned count;

        duo_server(&d, NULL);
        duo_open(&d, 1, FLAG_END_STREAM);
        KIT_UNTIL(&d.k, d.e.recs_count == 1);
        h2_conn_shutdown(d.e.c);
        f = raw_await(&d.raw, F_PING);
        assert_true(raw_frame(&d.raw, F_PING, FLAG_ACK, 0, f.p, 8));
        for (uint32_t id = 3; id < 20; id += 2) {
            duo_open(&d, id, FLAG_END_STREAM);
            f = raw_await(&d.raw, F_RST);
            assert_int_equal(f.id, id);
            assert_int_equal(f.p[3], H2_REFUSED_STREAM);
        }
        assert_int_equal(d.e.recs_count, 1);
        d.raw.at = 0;
        if (is_cut)
            assert_true(raw_frame(&d.raw, F_DATA, 0, 0, "x", 1));
        else
            h2_conn_close(d.e.c, H2_NO_ERROR, 1000);
        assert_int_equal(read_goaways(&d, &count), 1);
        assert_int_equal(count, 3);
        duo_stop(&d);
    }
}

/* Every id a GOAWAY may name, against four requests that have left and two that have not. */
static void test_what_was_not_processed(void **state)
{
    (void)state;
    for (uint32_t last = 0; last < 10; last++) {
        struct duo d;
        struct rec *r[6];
        uint8_t p[8] = {0, 0, 0, (uint8_t)last};

        duo_client(&d, NULL);
        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\4", 6));
        KIT_UNTIL(&d.k, h2_conn_peer_streams(d.e.c) == 4);
        for (size_t i = 0; i < ARRAY_LEN(r); i++)
            r[i] = end_request(&d.e, kit_request, true);
        for (int i = 0; i < 4; i++)
            (void)raw_await(&d.raw, F_HEADERS);
        assert_true(raw_frame(&d.raw, F_GOAWAY, 0, 0, p, sizeof p));
        KIT_UNTIL(&d.k, d.e.goaway_count == 1);
        for (uint32_t i = 0; i < ARRAY_LEN(r); i++) {
            bool is_processed = i < 4 && 2 * i + 1 <= last;

            assert_int_equal(r[i]->close_count, !is_processed);
            if (!is_processed)
                assert_int_equal(r[i]->code, H2_REFUSED_STREAM);
        }
        /* Another one may name less. */
        assert_true(raw_frame(&d.raw, F_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8));
        KIT_UNTIL(&d.k, d.e.goaway_count == 2);
        assert_int_equal(h2_conn_stream_count(d.e.c), 0);
        duo_stop(&d);
    }
}

/* Sharers take turns, so ids are not in the order in which the requests were made; some wait above
 * the peer's limit. Whatever id a GOAWAY names, each request that it leaves out ends, and none that
 * it does not; nothing that had to wait leaves behind it. */
static void test_what_was_not_processed_of_sharers(void **state)
{
    enum { LEFT = 6 };
    (void)state;
    for (uint32_t last = 0; last < 2 * LEFT + 2; last++) {
        struct duo d;
        struct rec *r[10];
        struct raw_frame f;
        uint8_t p[8] = {0, 0, 0, (uint8_t)last};

        duo_client(&d, NULL);
        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\6", 6));
        KIT_UNTIL(&d.k, h2_conn_peer_streams(d.e.c) == LEFT);
        for (size_t i = 0; i < ARRAY_LEN(r); i++) {
            r[i] = end_request(&d.e, kit_request, true);
            h2_stream_share(r[i]->s, i < 7 ? 7 : 8); /* seven of one, three of the other */
        }
        for (int i = 0; i < LEFT; i++)
            (void)raw_await(&d.raw, F_HEADERS);
        assert_true(r[7]->s->id < r[2]->s->id); /* made later, left earlier */
        assert_true(raw_frame(&d.raw, F_GOAWAY, 0, 0, p, sizeof p));
        KIT_UNTIL(&d.k, d.e.goaway_count == 1);
        for (size_t i = 0; i < ARRAY_LEN(r); i++) {
            bool is_processed = r[i]->s != NULL && r[i]->s->id != 0 && r[i]->s->id <= last;

            assert_int_equal(r[i]->close_count, !is_processed);
            if (!is_processed)
                assert_int_equal(r[i]->code, H2_REFUSED_STREAM);
        }
        assert_int_equal(h2_conn_stream_count(d.e.c),
                         (last + 1) / 2 < LEFT ? (last + 1) / 2 : LEFT);
        for (uint32_t id = 1; id <= last && id < 2 * LEFT; id += 2)
            duo_answer(&d, id, FLAG_END_STREAM);
        KIT_UNTIL(&d.k, h2_conn_stream_count(d.e.c) == 0);
        h2_conn_close(d.e.c, H2_NO_ERROR, 1000);
        assert_true(raw_await_eof(&d.raw, 3000));
        while (raw_next(&d.raw, &f))
            assert_int_not_equal(f.type, F_HEADERS);
        duo_stop(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_never_rise),
        cmocka_unit_test(test_what_was_not_processed),
        cmocka_unit_test(test_what_was_not_processed_of_sharers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
