/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/digest.h"

static char dir[64], a[80], b[80], missing[80];

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/envelope-digest-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(b, sizeof b, "%s/b", dir);
    snprintf(missing, sizeof missing, "%s/missing", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(a);
    unlink(b);
    return rmdir(dir);
}

/* FIPS 180-2 appendix B, and the digest of nothing. */
static void known_digests(void **state)
{
    static const struct {
        const char *text, *digest;
    } known[] = {
        {"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char out[DIGEST_TEXT_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        assert_int_equal(digest_text(bytes_str(known[i].text), out), ERR_OK);
        assert_string_equal(out, known[i].digest);
        write_file(a, known[i].text, strlen(known[i].text));
        memset(out, 0, sizeof out);
        assert_int_equal(digest_file(a, out), ERR_OK);
        assert_string_equal(out, known[i].digest);
    }
    assert_int_equal(strlen(out) + 1, DIGEST_TEXT_LEN);
}

static void files_that_cannot_be_read(void **state)
{
    char out[DIGEST_TEXT_LEN];
    char *large = calloc(1, 4u * 1024 * 1024 + 1);

    (void)state;
    assert_non_null(large);
    assert_int_equal(digest_file(missing, out), ERR_CONFIG);
    assert_int_equal(digest_file(dir, out), ERR_CONFIG);
    write_file(a, large, 4u * 1024 * 1024 + 1);
    assert_int_equal(digest_file(a, out), ERR_CONFIG);
    free(large);
}

static void expect_differs(const char *const *paths, size_t count,
                           char last[static DIGEST_TEXT_LEN])
{
    char now[DIGEST_TEXT_LEN], again[DIGEST_TEXT_LEN];

    digest_files(paths, count, now);
    digest_files(paths, count, again);
    assert_string_equal(now, again);
    assert_int_equal(strlen(now) + 1, DIGEST_TEXT_LEN);
    assert_string_not_equal(now, last);
    memcpy(last, now, sizeof now);
}

static void any_change_shows(void **state)
{
    const char *const paths[] = {a, NULL, b, missing};
    const char *const turned[] = {b, NULL, a, missing};
    const char *const both_missing[] = {a, missing, b, NULL};
    char last[DIGEST_TEXT_LEN] = "", other[DIGEST_TEXT_LEN];

    (void)state;
    unlink(a);
    unlink(b);
    expect_differs(paths, 4, last);
    write_file(a, "", 0); /* empty is not missing */
    expect_differs(paths, 4, last);
    write_file(a, "one", 3);
    expect_differs(paths, 4, last);
    write_file(b, "two", 3);
    expect_differs(paths, 4, last);
    digest_files(both_missing, 4, other); /* no name and no file are the same */
    assert_string_equal(other, last);
    write_file(a, "onet", 4); /* what one ends with is not what the next begins with */
    write_file(b, "wo", 2);
    expect_differs(paths, 4, last);
    expect_differs(turned, 4, last);
    expect_differs(paths, 3, last);
    expect_differs(paths, 1, last);
    assert_int_equal(digest_file(a, other), ERR_OK);
    assert_string_not_equal(other, last); /* a digest of digests */
}

static void of_no_files(void **state)
{
    char out[DIGEST_TEXT_LEN] = "x";

    (void)state;
    digest_files(NULL, 0, out);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_digests),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(any_change_shows),
        cmocka_unit_test(of_no_files),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
