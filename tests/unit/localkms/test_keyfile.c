/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "localkms/keyfile.h"

/* 32 bytes 0x00, 0x01, ... and 32 bytes 0xff */
#define KEY_COUNT "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_ONES "//////////////////////////////////////////8="

static char why[256];
static char dir[64];
static char path[96];

static enum err parse(const char *text, struct kek_set **s)
{
    why[0] = '\0';
    return kek_set_parse(bytes_str(text), s, why, sizeof why);
}

static void keys_in_their_order(void **state)
{
    struct kek_set *s;

    (void)state;
    assert_int_equal(parse("# a comment\n\n  " KEY_COUNT " \r\n\t\n" KEY_ONES, &s), ERR_OK);
    assert_int_equal(s->count, 2);
    for (uint8_t i = 0; i < KEK_LEN; i++) {
        assert_int_equal(s->keys[0].key[i], i);
        assert_int_equal(s->keys[1].key[i], 0xff);
    }
    assert_ptr_equal(kek_set_find(s, bytes_str(s->keys[1].id)), &s->keys[1]);
    assert_null(kek_set_find(s, BYTES_LIT("local-")));
    assert_null(kek_set_find(s, (struct bytes){0}));
    kek_set_free(s);
}

static void the_id_is_a_hash_and_stays_what_it_is(void **state)
{
    struct kek_set *s;

    (void)state;
    assert_int_equal(parse(KEY_COUNT, &s), ERR_OK);
    /* sha256("etcd-envelope-local-kms key id 1\0" || key), cut to 16 bytes: stored data names it */
    assert_string_equal(s->keys[0].id, "local-fc93fa6eadcaf246a473768c900f3b43");
    kek_set_free(s);
}

static void what_is_no_key_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "# only a comment\n",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",   /* no padding */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",  /* loose bits */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=A", /* too long */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",  /* 31 bytes */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX GBkaGxwdHh8=", /* a blank inside */
        "__________________________________________8=",  /* URL letters */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh=8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\xc3\xa9"
        "8=",
        KEY_COUNT "\n" KEY_ONES "\n" KEY_COUNT, /* twice */
        KEY_COUNT "\nx",
    };
    struct kek_set *s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(parse(bad[i], &s), ERR_CONFIG);
        assert_true(why[0] != '\0');
        assert_null(strstr(why, "AAEC"));
    }
    assert_int_equal(parse(KEY_COUNT "\n\nx", &s), ERR_CONFIG);
    assert_non_null(strstr(why, "line 3"));
}

static void every_letter_but_64_is_refused(void **state)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[] = KEY_COUNT;
    struct kek_set *s;

    (void)state;
    for (int c = 1; c < 256; c++) {
        const char *at = strchr(letters, c);

        if (c == '\n')
            continue;
        text[4] = (char)c; /* the first six bits of byte 3 */
        if (at == NULL) {
            assert_int_equal(parse(text, &s), ERR_CONFIG);
            continue;
        }
        assert_int_equal(parse(text, &s), ERR_OK);
        assert_int_equal(s->keys[0].key[3] >> 2, at - letters);
        kek_set_free(s);
    }
}

static void too_many_keys_are_refused(void **state)
{
    size_t n = 0;
    char *text = malloc((KEYFILE_KEYS_MAX + 1) * 45 + 1);
    struct kek_set *s;

    (void)state;
    assert_non_null(text);
    for (unsigned i = 0; i <= KEYFILE_KEYS_MAX; i++)
        n += (size_t)sprintf(text + n, "%c%c%s\n", 'A' + (int)(i / 26), 'A' + (int)(i % 26),
                             &KEY_COUNT[2]);
    assert_int_equal(parse(text, &s), ERR_CONFIG);
    assert_non_null(strstr(why, "128"));
    text[KEYFILE_KEYS_MAX * 45] = '\0';
    assert_int_equal(parse(text, &s), ERR_OK);
    assert_int_equal(s->count, KEYFILE_KEYS_MAX);
    kek_set_free(s);
    free(text);
}

/* --- files ------------------------------------------------------------------------------------ */

static void put_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static enum err load(void)
{
    struct kek_set *s;
    enum err e = kek_set_load(path, false, &s, why, sizeof why);

    if (e == ERR_OK)
        kek_set_free(s);
    return e;
}

static void the_mode_must_keep_others_out(void **state)
{
    static const mode_t bad[] = {0644, 0640, 0601, 0620, 0604, 0666};

    (void)state;
    put_file(KEY_COUNT "\n", 0600);
    assert_int_equal(load(), ERR_OK);
    put_file(KEY_COUNT "\n", 0400);
    assert_int_equal(load(), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        unlink(path);
        put_file(KEY_COUNT "\n", bad[i]);
        assert_int_equal(load(), ERR_CONFIG);
        assert_non_null(strstr(why, "chmod 600"));
        assert_non_null(strstr(why, path));
    }
}

static void a_file_of_somebody_else_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    put_file(KEY_COUNT "\n", 0600);
    assert_int_equal(chown(path, 65534, 0), 0);
    assert_int_equal(load(), ERR_CONFIG);
    assert_non_null(strstr(why, "65534"));
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(load(), ERR_SYSTEM);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(load(), ERR_CONFIG); /* and does not hang */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(load(), ERR_CONFIG);
    rmdir(path);
}

/* At the start only: <(sops -d FILE). */
static void a_pipe_is_read_once(void **state)
{
    char name[32];
    struct kek_set *s;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_int_equal(write(ends[1], KEY_COUNT "\n", strlen(KEY_COUNT "\n")), strlen(KEY_COUNT) + 1);
    close(ends[1]);
    assert_int_equal(kek_set_load(name, false, &s, why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, "only at the start"));
    assert_int_equal(kek_set_load(name, true, &s, why, sizeof why), ERR_OK);
    assert_int_equal(s->count, 1);
    kek_set_free(s);
    close(ends[0]);
}

static void a_large_file_is_refused(void **state)
{
    (void)state;
    put_file(KEY_COUNT "\n", 0600);
    assert_int_equal(truncate(path, KEYFILE_BYTES_MAX + 1), 0);
    assert_int_equal(load(), ERR_CONFIG);
}

/* Of a pipe nothing is left out in silence: a key that stands behind would be missed much later. */
static void a_large_pipe_is_refused(void **state)
{
    char name[32], line[64] = KEY_COUNT "\n";
    size_t left = KEYFILE_BYTES_MAX + 1;
    struct kek_set *s;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0); /* holds 64 KiB */
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    for (size_t n = strlen(line); left > 0; left -= n, n = left < 32 ? left : 32) {
        assert_int_equal(write(ends[1], line, n), n);
        memset(line, '\n', sizeof line);
    }
    close(ends[1]);
    assert_int_equal(kek_set_load(name, true, &s, why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, "more than 32768 bytes"));
    close(ends[0]);
}

static void generated_files_load_and_are_never_overwritten(void **state)
{
    struct kek_set *a, *b;
    struct stat st;

    (void)state;
    assert_int_equal(keyfile_generate(path, why, sizeof why), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(kek_set_load(path, false, &a, why, sizeof why), ERR_OK);
    assert_int_equal(a->count, 1);
    assert_int_equal(keyfile_generate(path, why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, path));
    assert_int_equal(kek_set_load(path, false, &b, why, sizeof why), ERR_OK);
    assert_string_equal(a->keys[0].id, b->keys[0].id);
    kek_set_free(b);

    unlink(path);
    assert_int_equal(keyfile_generate(path, why, sizeof why), ERR_OK);
    assert_int_equal(kek_set_load(path, false, &b, why, sizeof why), ERR_OK);
    assert_memory_not_equal(a->keys[0].key, b->keys[0].key, KEK_LEN);
    kek_set_free(a);
    kek_set_free(b);
}

static void generating_fails_where_nothing_can_be_written(void **state)
{
    (void)state;
    assert_int_equal(keyfile_generate("/nonexistent/key", why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, "/nonexistent/key"));
}

static enum err generate(rlim_t limit)
{
    struct rlimit before, small;
    enum err e;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){limit, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    e = keyfile_generate(path, why, sizeof why);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    return e;
}

/* Wherever the room ends. */
static void a_file_that_is_not_whole_is_removed(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(keyfile_generate(path, why, sizeof why), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(unlink(path), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    for (off_t n = 0; n < st.st_size; n++) {
        assert_int_equal(generate((rlim_t)n), ERR_SYSTEM);
        assert_non_null(strstr(why, "File too large"));
        assert_int_not_equal(access(path, F_OK), 0);
    }
    assert_int_equal(generate((rlim_t)st.st_size), ERR_OK);
}

static enum err generate_once(void)
{
    enum err e = keyfile_generate(path, why, sizeof why);

    assert_int_equal(unlink(path) == 0, e == ERR_OK);
    return e;
}

static void memory_runs_out(void **state)
{
    (void)state;
    assert_true(alloc_fail_each(generate_once, NULL) >= 1);
    put_file(KEY_COUNT "\n" KEY_ONES "\n", 0600);
    assert_true(alloc_fail_each(load, NULL) >= 4);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test-keyfile-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/keys", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_in_their_order),
        cmocka_unit_test(the_id_is_a_hash_and_stays_what_it_is),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(every_letter_but_64_is_refused),
        cmocka_unit_test(too_many_keys_are_refused),
        FILE_TEST(the_mode_must_keep_others_out),
        FILE_TEST(a_file_of_somebody_else_is_refused),
        FILE_TEST(what_is_no_file_is_refused),
        cmocka_unit_test(a_pipe_is_read_once),
        FILE_TEST(a_large_file_is_refused),
        cmocka_unit_test(a_large_pipe_is_refused),
        FILE_TEST(generated_files_load_and_are_never_overwritten),
        cmocka_unit_test(generating_fails_where_nothing_can_be_written),
        FILE_TEST(a_file_that_is_not_whole_is_removed),
        FILE_TEST(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
