/* SPDX-License-Identifier: Apache-2.0 */
/* A file with a password: which contents are one, which are none, and that no reason shows any. */
#include "config/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "failing_alloc.h"

static char path[] = "/tmp/envelope-password-XXXXXX";

static void write_file(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* expected: NULL, and reason has to be in why. */
static void assert_reads(const char *text, size_t n, const char *expected, const char *reason)
{
    char *password, why[512] = "";
    enum err e;

    write_file(text, n);
    e = password_read(path, 0, &password, why, sizeof why);
    if (expected != NULL) {
        assert_int_equal(e, ERR_OK);
        assert_string_equal(password, expected);
    } else {
        assert_int_equal(e, ERR_CONFIG);
        assert_null(password);
        assert_non_null(strstr(why, reason));
        assert_null(strstr(why, "secret"));
    }
    password_free(password);
}

#define READS(text, expected) assert_reads(text, sizeof(text) - 1, expected, NULL)
#define REFUSED(text, reason) assert_reads(text, sizeof(text) - 1, NULL, reason)

static void test_contents(void **state)
{
    (void)state;
    READS("secret", "secret");
    READS("secret\n", "secret");
    READS("secret\r\n", "secret");
    READS(" a:b \n", " a:b ");
    READS("\xc3\xa9\xff\n", "\xc3\xa9\xff");
    REFUSED("", "is empty");
    REFUSED("\n", "is empty");
    REFUSED("\r\n", "is empty");
    REFUSED("secret\n\n", "one line");
    REFUSED("secret\nx", "one line");
    REFUSED("sec\0ret", "one line");
}

/* Every length around the longest, with each end of a line. */
static void test_lengths(void **state)
{
    static const char *const ends[] = {"", "\n", "\r\n"};
    char text[600], expected[600];

    (void)state;
    for (size_t n = 500; n < 530; n++)
        for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
            memset(text, 'p', n);
            strcpy(text + n, ends[i]);
            memset(expected, 'p', n);
            expected[n] = '\0';
            assert_reads(text, strlen(text), n <= 512 ? expected : NULL, "longer than 512 bytes");
        }
}

static void test_no_file(void **state)
{
    char *password, why[512] = "";

    (void)state;
    assert_int_equal(password_read("/nowhere/password", 0, &password, why, sizeof why), ERR_CONFIG);
    assert_string_equal(why, "\"/nowhere/password\" can't be read: No such file or directory");
    assert_int_equal(password_read("/tmp", 0, &password, why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, "can't be read: Is a directory"));
    assert_null(password);
}

static enum err read_once(void)
{
    char *password, why[512];
    enum err e = password_read(path, 0, &password, why, sizeof why);

    password_free(password);
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    write_file("secret", 6);
    alloc_fail_each(read_once, NULL);
}

static int setup(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd >= 0 && close(fd) == 0 && secret_init() == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
