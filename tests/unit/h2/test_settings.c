/* SPDX-License-Identifier: Apache-2.0 */
/* The peer's SETTINGS: which values are legal, what is acknowledged, and how often. */
#include "h2/h2_int.h"
#include "duo.h"

static void run_setting(bool is_server, uint16_t id, uint32_t value, const char *wanted)
{
    struct duo d;
    uint8_t p[6] = {(uint8_t)(id >> 8), (uint8_t)id};
    char text[30];

    if (is_server)
        duo_server(&d, NULL);
    else
        duo_client(&d, NULL);
    h2__put_u32(p + 2, value);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, p, sizeof p));
    duo_outcome(&d, 1, text, sizeof text);
    if (strcmp(text, wanted) != 0)
        fail_msg("%s, setting %u, %u: %s, not %s", is_server ? "server" : "client", id, value, text,
                 wanted);
    duo_stop(&d);
}

/* RFC 9113 section 6.5.2, the values at each bound. */
static void test_values(void **state)
{
    static const struct {
        uint16_t id;
        uint32_t value;
        const char *server, *client; /* as we are the one or the other */
    } cases[] = {
        {1, 0, "alive", "alive"},
        {1, UINT32_MAX, "alive", "alive"},
        {2, 0, "alive", "alive"},
        {2, 1, "alive", "goaway 1"},
        {2, 2, "goaway 1", "goaway 1"},
        {3, 0, "alive", "alive"},
        {3, UINT32_MAX, "alive", "alive"},
        {4, 0, "alive", "alive"},
        {4, 0x7fffffff, "alive", "alive"},
        {4, 0x80000000, "goaway 3", "goaway 3"},
        {5, 16383, "goaway 1", "goaway 1"},
        {5, 16384, "alive", "alive"},
        {5, 0xffffff, "alive", "alive"},
        {5, 0x1000000, "goaway 1", "goaway 1"},
        {6, 0, "alive", "alive"},
        {0, 1, "alive", "alive"},
        {7, 1, "alive", "alive"},
        {0x0104, 0x80000000, "alive", "alive"}, /* not 4 */
        {0xffff, UINT32_MAX, "alive", "alive"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        run_setting(true, cases[i].id, cases[i].value, cases[i].server);
        run_setting(false, cases[i].id, cases[i].value, cases[i].client);
    }
}

/* CVE-2020-11080. */
static void test_many_entries(void **state)
{
    static const uint8_t entries[33 * 6];

    (void)state;
    for (size_t n = 31; n <= 33; n++) {
        struct duo d;
        char text[30];

        duo_server(&d, NULL);
        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, entries, n * 6));
        duo_outcome(&d, 1, text, sizeof text);
        assert_string_equal(text, n <= 32 ? "alive" : "goaway 11");
        duo_stop(&d);
    }
}

/* A window that one frame names several times is changed once, to the last of its values: each
 * change touches every stream. What comes between shows nowhere, not even as a window above 2^31-1.
 */
static void test_last_window_counts(void **state)
{
    struct duo d;
    uint8_t entries[32 * 6] = {0};
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    duo_open(&d, 1, 0);
    assert_true(raw_frame(&d.raw, F_WINDOW, 0, 1, "\0\0\0\1", 4));
    for (size_t i = 0; i < 32; i++) {
        entries[i * 6 + 1] = 4;
        h2__put_u32(entries + i * 6 + 2, i == 31 ? 1000 : i % 2 ? H2__WINDOW_MAX : 0);
    }
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, entries, sizeof entries));
    duo_outcome(&d, 1, text, sizeof text);
    assert_string_equal(text, "alive");
    assert_int_equal(d.e.c->peer_window, 1000);
    assert_int_equal(d.e.last->s->send_left, 1001);
    duo_stop(&d);
}

/* Each is acknowledged once, in order with the answers to PING. */
static void test_every_one_is_acknowledged(void **state)
{
    struct duo d;
    struct raw_frame f;

    (void)state;
    duo_server(&d, NULL);
    for (uint8_t i = 0; i < 200; i++) {
        uint8_t ping[8] = {i};

        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\3\0\0\0\1", 6));
        assert_true(raw_frame(&d.raw, F_PING, 0, 0, ping, sizeof ping));
    }
    for (uint8_t i = 0; i < 200; i++) {
        while (!raw_next(&d.raw, &f)) {
            kit_turn(&d.k);
            raw_read(&d.raw);
        }
        assert_int_equal(f.type, F_SETTINGS);
        assert_int_equal(f.flags, FLAG_ACK);
        f = raw_await(&d.raw, F_PING);
        assert_int_equal(f.p[0], i);
    }
    /* Acknowledgements that nobody waits for are no error. */
    for (int i = 0; i < 20; i++)
        assert_true(raw_frame(&d.raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
    kit_run_ms(&d.k, 10);
    assert_int_equal(d.e.lost_count, 0);
    assert_int_equal(d.e.ready_count, 1);
    duo_stop(&d);
}

/* The owner hears of each limit of streams that is above the one before, and of no other. */
static void test_room(void **state)
{
    static const uint8_t limits[] = {0, 4, 4, 3, 5, 0, 1};
    unsigned rises = 0;
    struct duo d;

    (void)state;
    duo_client(&d, NULL);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        uint8_t p[6] = {0, 3, 0, 0, 0, limits[i]};

        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, p, sizeof p));
        KIT_UNTIL(&d.k, h2_conn_peer_streams(d.e.c) == limits[i]);
        (void)raw_await(&d.raw, F_SETTINGS);
        rises += i > 0 && limits[i] > limits[i - 1];
        assert_int_equal(d.e.room_count, rises);
    }
    duo_stop(&d);
}

/* The peer allows no table: nothing that we send refers to one, and it is told of the change first
 * (RFC 7541 section 4.2). */
static void test_no_table(void **state)
{
    struct duo d;

    (void)state;
    duo_client(&d, NULL);
    (void)end_request(&d.e, kit_request, true);
    (void)raw_await(&d.raw, F_HEADERS);
    assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\1\0\0\0\0", 6));
    (void)raw_await(&d.raw, F_SETTINGS);
    for (int i = 0; i < 3; i++) {
        struct raw_frame f;

        (void)end_request(&d.e, kit_request, true);
        f = raw_await(&d.raw, F_HEADERS);
        if (i == 0)
            assert_int_equal(f.p[0], 0x20);
        for (uint32_t at = 0; i > 0 && at < f.len; at++)
            assert_true(at > 0 || f.p[at] < 0x80 + 62);
    }
    duo_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_last_window_counts),
        cmocka_unit_test(test_every_one_is_acknowledged),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_no_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
