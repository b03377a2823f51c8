/* SPDX-License-Identifier: Apache-2.0 */
/* The client may read the name of the key that does not open; the log gets a hash of it, whatever
 * failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/status.h"

#define KEY "/registry/secrets/default/launch-codes"
/* printf %s /registry/secrets/default/launch-codes | sha256sum */
#define KEY_HASH "sha256:2b1ea170f33c0b56"

static void no_text_of_the_log_names_a_key(void **state)
{
    char text[STATUS_TEXT_MAX];

    (void)state;
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++) {
        for (int kind = 0; kind < 4; kind++) {
            struct failure f = {.err = (enum err)e,
                                .key = BYTES_LIT(KEY),
                                .is_write = kind & 1,
                                .is_watch = kind & 2};

            if (e == ERR_MESSAGE_COMPRESSED)
                continue; /* there the key is the name of an encoding */
            status_log_text(&f, text);
            assert_null(strstr(text, "launch-codes"));
            assert_non_null(memchr(text, '\0', sizeof text));
        }
    }
}

static void the_client_is_told_the_key_and_the_log_its_hash(void **state)
{
    struct failure f = {.err = ERR_AUTH_FAILED, .key = BYTES_LIT(KEY)};
    char text[STATUS_TEXT_MAX];

    (void)state;
    assert_int_equal(status_of(&f, text), GRPC_DATA_LOSS);
    assert_string_equal(text, "etcd-envelope: cannot decrypt " KEY);
    status_log_text(&f, text);
    assert_string_equal(text, "etcd-envelope: cannot decrypt " KEY_HASH);
}

static void without_a_key_both_say_the_same(void **state)
{
    char text[STATUS_TEXT_MAX], log_text[STATUS_TEXT_MAX];

    (void)state;
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++) {
        struct failure f = {.err = (enum err)e, .path = BYTES_LIT("/a.B/C"), .size = 8};

        (void)status_of(&f, text);
        status_log_text(&f, log_text);
        assert_string_equal(text, log_text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_text_of_the_log_names_a_key),
        cmocka_unit_test(the_client_is_told_the_key_and_the_log_its_hash),
        cmocka_unit_test(without_a_key_both_say_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
