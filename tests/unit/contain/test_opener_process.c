/* SPDX-License-Identifier: Apache-2.0 */
/* The opener, asked by somebody who is not bound to its list, as a worker would be that is not ours
 * any more. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "contain/opener_int.h"

static const char *const paths[] = {"/proc/self/status", "/", "/nonexistent"};
#define COUNT 2u /* the third one is not the opener's */

static pid_t opener;
static int end;

static void start(void)
{
    const struct timeval wait = {.tv_sec = 20};
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    opener = fork();
    assert_true(opener >= 0);
    if (opener == 0) {
        close(pair[0]);
        contain__opener_main(pair[1], paths, COUNT);
    }
    close(pair[1]);
    end = pair[0];
    assert_int_equal(setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
}

static void stop(void)
{
    close(end);
    assert_int_equal(waitpid(opener, NULL, 0), opener);
}

/* Bytes of the answer; 0: it has ended. The descriptor that may come with it is dropped. */
static ssize_t answer_to(const void *request, size_t n, struct contain__answer *answer)
{
    assert_int_equal(send(end, request, n, MSG_NOSIGNAL), n);
    return recv(end, answer, sizeof *answer, 0);
}

static void expect_end(const void *request, size_t n)
{
    struct contain__answer answer;

    start();
    assert_int_equal(answer_to(request, n, &answer), 0);
    stop();
}

static void what_is_on_the_list_is_looked_at(void **state)
{
    (void)state;
    start();
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct contain__request look = {.op = CONTAIN__LOOK, .index = i};
        struct contain__answer answer;

        assert_int_equal(answer_to(&look, sizeof look, &answer), sizeof answer);
        assert_int_equal(answer.error, 0);
    }
    stop();
}

static void a_number_beyond_the_list_ends_it(void **state)
{
    static const uint32_t beyond[] = {COUNT, COUNT + 1, 1u << 16, 1u << 31, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(beyond); i++) {
        struct contain__request r = {.op = CONTAIN__LOOK, .index = beyond[i]};

        expect_end(&r, sizeof r);
        r.op = CONTAIN__OPEN;
        expect_end(&r, sizeof r);
    }
}

static void a_request_of_another_length_ends_it(void **state)
{
    static const uint8_t zeros[sizeof(struct contain__request)];

    (void)state;
    for (size_t n = 1; n < sizeof(struct contain__request); n++)
        expect_end(zeros, n);
}

static void a_directory_is_not_handed_out(void **state)
{
    const struct contain__request open = {.op = CONTAIN__OPEN, .index = 1};
    struct contain__answer answer;

    (void)state;
    start();
    assert_int_equal(answer_to(&open, sizeof open, &answer), sizeof answer);
    assert_int_equal(answer.error, EISDIR);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_on_the_list_is_looked_at),
        cmocka_unit_test(a_number_beyond_the_list_ends_it),
        cmocka_unit_test(a_request_of_another_length_ends_it),
        cmocka_unit_test(a_directory_is_not_handed_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
