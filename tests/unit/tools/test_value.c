/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/value.h"

static void expect_decoded(enum tools_encoding encoding, const char *text, const char *plain,
                           size_t plain_len)
{
    uint8_t buf[128];
    size_t n = strlen(text);

    memset(buf, 0xee, sizeof buf);
    memcpy(buf, text, n);
    assert_true(tools_decode(encoding, buf, &n));
    assert_int_equal(n, plain_len);
    assert_memory_equal(buf, plain, plain_len);
    for (size_t i = n; i < strlen(text); i++)
        assert_int_equal(buf[i], 0); /* no rest of the text stays */
    assert_int_equal(buf[strlen(text)], 0xee);
}

static void expect_refused(enum tools_encoding encoding, const char *text)
{
    uint8_t buf[128];
    size_t n = strlen(text);

    memcpy(buf, text, n + 1);
    assert_false(tools_decode(encoding, buf, &n));
    assert_int_equal(n, 0);
    for (size_t i = 0; i < strlen(text); i++)
        assert_int_equal(buf[i], 0);
}

static void test_hex(void **state)
{
    (void)state;
    expect_decoded(TOOLS_HEX, "", "", 0);
    expect_decoded(TOOLS_HEX, "00ff7f", "\x00\xff\x7f", 3);
    expect_decoded(TOOLS_HEX, " 0 0\nFf\t7F\r\n", "\x00\xff\x7f", 3);
    expect_refused(TOOLS_HEX, "0");
    expect_refused(TOOLS_HEX, "000");
    expect_refused(TOOLS_HEX, "0g");
    expect_refused(TOOLS_HEX, "0x00");
    expect_refused(TOOLS_HEX, "@@");
}

/* RFC 4648 section 10, and what is near it. */
static void test_base64(void **state)
{
    (void)state;
    expect_decoded(TOOLS_BASE64, "", "", 0);
    expect_decoded(TOOLS_BASE64, "Zg==", "f", 1);
    expect_decoded(TOOLS_BASE64, "Zm8=", "fo", 2);
    expect_decoded(TOOLS_BASE64, "Zm9v", "foo", 3);
    expect_decoded(TOOLS_BASE64, "Zm9vYmFy", "foobar", 6);
    expect_decoded(TOOLS_BASE64, " Zm9v\r\nYg\n==\n", "foob", 4);
    expect_decoded(TOOLS_BASE64, "+/+/", "\xfb\xff\xbf", 3);
    expect_refused(TOOLS_BASE64, "Z");
    expect_refused(TOOLS_BASE64, "Zg");
    expect_refused(TOOLS_BASE64, "Zg=");
    expect_refused(TOOLS_BASE64, "Zm9v=");
    expect_refused(TOOLS_BASE64, "Zm9v====");
    expect_refused(TOOLS_BASE64, "Z===");
    expect_refused(TOOLS_BASE64, "Zg==Zg==");
    expect_refused(TOOLS_BASE64, "Zm-_");
    expect_refused(TOOLS_BASE64, "====");
}

static void test_raw_is_left_alone(void **state)
{
    uint8_t buf[] = "a b\n";
    size_t n = 4;

    (void)state;
    assert_true(tools_decode(TOOLS_RAW, buf, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(buf, "a b\n", 4);
}

static void test_encoding_names(void **state)
{
    enum tools_encoding e = TOOLS_HEX;

    (void)state;
    assert_true(tools_encoding_parse(NULL, &e));
    assert_int_equal(e, TOOLS_RAW);
    assert_true(tools_encoding_parse("base64", &e));
    assert_int_equal(e, TOOLS_BASE64);
    assert_true(tools_encoding_parse("hex", &e));
    assert_int_equal(e, TOOLS_HEX);
    assert_false(tools_encoding_parse("HEX", &e));
    assert_false(tools_encoding_parse("", &e));
}

/* A file in memory of n bytes, read from its beginning. */
static int file_of(size_t n)
{
    int fd = memfd_create("value", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)n), 0);
    return fd;
}

static void test_read(void **state)
{
    struct slab_pool pool;
    struct slice s;
    char why[128];
    int fds[2];

    (void)state;
    slab_pool_init(&pool, 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "6869 0a", 7), 7);
    close(fds[1]);
    assert_int_equal(tools_value_read(fds[0], TOOLS_HEX, &pool, &s, why, sizeof why), ERR_OK);
    assert_int_equal(s.len, 3);
    assert_memory_equal(slice_data(s), "hi\n", 3);
    assert_true(s.slab->flags & SLAB_SECRET);
    slice_drop(&s);
    assert_int_equal(tools_value_read(fds[0], TOOLS_RAW, &pool, &s, why, sizeof why), ERR_OK);
    assert_int_equal(s.len, 0);
    close(fds[0]);
    assert_int_equal(pool.live_bytes, 0);
    slab_pool_fini(&pool);
}

static void test_read_limit(void **state)
{
    struct slab_pool pool;
    struct slice s;
    char why[128];
    int largest = file_of(TOOLS_VALUE_MAX), over = file_of(TOOLS_VALUE_MAX + 1);

    (void)state;
    slab_pool_init(&pool, 0);
    assert_int_equal(tools_value_read(largest, TOOLS_RAW, &pool, &s, why, sizeof why), ERR_OK);
    assert_int_equal(s.len, TOOLS_VALUE_MAX);
    slice_drop(&s);
    assert_int_equal(tools_value_read(over, TOOLS_RAW, &pool, &s, why, sizeof why),
                     ERR_MESSAGE_TOO_LARGE);
    assert_string_equal(why, "the value is larger than 16 MiB");
    assert_null(s.slab);
    close(largest);
    close(over);
    assert_int_equal(pool.live_bytes, 0);
    slab_pool_fini(&pool);
}

static void test_read_errors(void **state)
{
    struct slab_pool pool;
    struct slice s;
    char why[128];
    int fd = file_of(3);

    (void)state;
    slab_pool_init(&pool, 0);
    assert_int_equal(tools_value_read(fd, TOOLS_BASE64, &pool, &s, why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, "base64"));
    close(fd);
    assert_int_equal(tools_value_read(fd, TOOLS_RAW, &pool, &s, why, sizeof why), ERR_SYSTEM);
    assert_int_equal(pool.live_bytes, 0);
    slab_pool_fini(&pool);
}

static void test_write(void **state)
{
    char why[128] = "", buf[8];
    int fds[2];

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(tools_value_write(fds[1], BYTES_LIT("abc"), why, sizeof why), ERR_OK);
    assert_int_equal(tools_value_write(fds[1], bytes_of(NULL, 0), why, sizeof why), ERR_OK);
    assert_int_equal(read(fds[0], buf, sizeof buf), 3);
    close(fds[0]);
    assert_int_equal(tools_value_write(fds[1], BYTES_LIT("abc"), why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, "cannot write"));
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_raw_is_left_alone),
        cmocka_unit_test(test_encoding_names),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_limit),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
