/* SPDX-License-Identifier: Apache-2.0 */
/* A client's greeting is known for what it is from its first byte on, whatever pieces it comes in;
 * what is called whole a connection takes, and what is called bad it refuses. */
#include "h2/h2_int.h"
#include "kit.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static enum h2_greeting judge(const char *p, size_t n)
{
    return h2_greeting_judge(bytes_of(p, n));
}

static void every_beginning(void **state)
{
    uint8_t entries[32 * 6] = {0}, greeting[H2_GREETING_MAX + 10];

    (void)state;
    for (size_t count = 0; count <= 32; count += 8) {
        size_t n = sizeof PREFACE - 1, whole;

        memcpy(greeting, PREFACE, n);
        whole = n + raw_put_frame(greeting + n, F_SETTINGS, 0, 0, entries, 6 * count);
        for (n = 1; n <= whole + 10; n++) {
            enum h2_greeting g = judge((const char *)greeting, n);

            assert_int_equal(g, n >= whole               ? H2_GREETING_WHOLE
                                : n < sizeof PREFACE - 1 ? H2_GREETING_PREFACE
                                                         : H2_GREETING_SETTINGS);
        }
        assert_true(whole <= H2_GREETING_MAX);
    }
}

/* One byte of the preface is another one. */
static void what_is_no_preface(void **state)
{
    char text[sizeof PREFACE];

    (void)state;
    for (size_t i = 0; i < sizeof PREFACE - 1; i++) {
        memcpy(text, PREFACE, sizeof text);
        text[i]++;
        for (size_t n = 1; n < sizeof PREFACE; n++) {
            enum h2_greeting wrong = i < 4 ? H2_GREETING_NONE : H2_GREETING_BAD;

            assert_int_equal(judge(text, n), n > i ? wrong : H2_GREETING_PREFACE);
        }
    }
    assert_int_equal(judge("GET / HTTP/1.1\r\n\r\n", 18), H2_GREETING_NONE);
    assert_int_equal(judge("P", 1), H2_GREETING_PREFACE);
    assert_int_equal(judge("POST", 4), H2_GREETING_NONE);
}

/* By its head: does a connection take it, too? */
static void the_connection_agrees(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        uint8_t head[9] = {0, 0, (uint8_t)(i % 3 * 6), F_SETTINGS, 0, 0, 0, 0, 0},
                entries[12] = {0};
        char text[64] = PREFACE;
        enum h2_greeting g;
        struct end server;
        struct raw raw;
        struct kit k;
        int fd[2];

        if (i % 5 == 1)
            head[3] = (uint8_t)(i % 11);
        if (i % 5 == 2)
            head[4] = (uint8_t)(i % 7);
        if (i % 5 == 3)
            head[8] = (uint8_t)(i % 2);
        if (i % 5 == 4)
            head[2] = (uint8_t)(i % 13);
        memcpy(text + 24, head, sizeof head);
        memcpy(text + 33, entries, sizeof entries);
        g = judge(text, 45);
        kit_init(&k);
        kit_socketpair(fd);
        end_init(&server, &k, fd[0], &kit_server_opts);
        raw_init(&raw, &k, fd[1]);
        assert_true(raw_write(&raw, text, 45));
        KIT_UNTIL(&k, server.ready_count + server.lost_count > 0);
        assert_int_equal(server.ready_count > 0, g == H2_GREETING_WHOLE);
        end_close(&server);
        raw_fini(&raw);
        kit_fini(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_beginning),
        cmocka_unit_test(what_is_no_preface),
        cmocka_unit_test(the_connection_agrees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
