/* SPDX-License-Identifier: Apache-2.0 */
/* A file that somebody writes, or whose hash does not fit, is not read. */
#include "snapshot/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "build_db.h"

static char folder[] = "/tmp/envelope-snapshot-XXXXXX";
static char path[64];

static void write_file(const uint8_t *p, size_t n, bool has_hash, size_t hash_damage)
{
    uint8_t hash[SNAPSHOT_HASH_LEN];
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(EVP_Digest(p, n, hash, NULL, EVP_sha256(), NULL), 1);
    if (hash_damage < sizeof hash)
        hash[hash_damage] ^= 1;
    if (has_hash)
        assert_int_equal(fwrite(hash, 1, sizeof hash, f), sizeof hash);
    assert_int_equal(fclose(f), 0);
}

static void opens(bool skip_hash, enum err wanted, const char *text)
{
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_file f;

    assert_int_equal(snapshot_file_open(path, skip_hash, &f, why), wanted);
    if (strstr(why, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, text);
    snapshot_file_close(&f);
}

/* The hash is taken off, whatever the size; a file without one is taken as it is. */
static void sizes(void **state)
{
    static uint8_t data[700 * 1024];
    static const size_t lens[] = {0, 512, 1024, 4096, 262144, 262144 + 512, 700 * 1024};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_file f;
    uint8_t *back = malloc(sizeof data);

    (void)state;
    assert_non_null(back);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++)
        for (unsigned has_hash = 0; has_hash < 2; has_hash++) {
            write_file(data, lens[i], has_hash != 0, SIZE_MAX);
            assert_int_equal(snapshot_file_open(path, false, &f, why), ERR_OK);
            assert_int_equal(f.has_hash, has_hash);
            assert_int_equal(f.is_snapshot, has_hash);
            assert_int_equal(f.input.size, lens[i]);
            assert_int_equal(f.input.read(f.input.arg, 0, back, lens[i]), ERR_OK);
            assert_memory_equal(back, data, lens[i]);
            assert_true(snapshot_file_is_unchanged(&f));
            snapshot_file_close(&f);
        }
    free(back);
}

static void a_hash_that_does_not_fit(void **state)
{
    static const uint8_t data[2048] = {1, 2, 3};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_file f;

    (void)state;
    for (size_t i = 0; i < SNAPSHOT_HASH_LEN; i++) {
        write_file(data, sizeof data, true, i);
        opens(false, ERR_FILE_DAMAGED, "SHA-256 at its end does not fit");
        assert_int_equal(snapshot_file_open(path, true, &f, why), ERR_OK);
        assert_true(f.is_snapshot && !f.has_hash);
        assert_int_equal(f.input.size, sizeof data);
        snapshot_file_close(&f);
    }
    write_file(data, sizeof data, true, SIZE_MAX);
    assert_int_equal(truncate(path, 1024 + 32), 0);
    opens(false, ERR_FILE_DAMAGED, "does not fit");
}

/* etcd's lock is exclusive; another reader's is not. */
static void files_in_use(void **state)
{
    static const uint8_t data[1024];
    int fd;

    (void)state;
    write_file(data, sizeof data, false, 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    opens(false, ERR_CONFIG, "is in use");
    opens(true, ERR_CONFIG, "is in use");
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
    opens(false, ERR_OK, "");
    close(fd);
}

/* While it is read nobody gets the exclusive lock, and what is written without one is noticed. */
static void while_it_is_read(void **state)
{
    static const uint8_t data[1024];
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_file f;
    uint8_t back[1024];
    int fd;

    (void)state;
    write_file(data, sizeof data, false, 0);
    assert_int_equal(snapshot_file_open(path, false, &f, why), ERR_OK);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(ftruncate(fd, 1000), 0);
    assert_false(snapshot_file_is_unchanged(&f));
    assert_int_equal(f.input.read(f.input.arg, 0, back, 1000), ERR_OK);
    assert_int_equal(f.input.read(f.input.arg, 0, back, 1001), ERR_FILE_DAMAGED);
    snapshot_file_close(&f);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
}

static void what_is_no_file(void **state)
{
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_file f;

    (void)state;
    assert_int_equal(snapshot_file_open(folder, false, &f, why), ERR_CONFIG);
    assert_non_null(strstr(why, "no plain file"));
    assert_int_equal(snapshot_file_open("/nowhere/at/all", false, &f, why), ERR_SYSTEM);
    assert_non_null(strstr(why, "No such file"));
    snapshot_file_close(&f);
    snapshot_file_close(&f);
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/db", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),           cmocka_unit_test(a_hash_that_does_not_fit),
        cmocka_unit_test(files_in_use),    cmocka_unit_test(while_it_is_read),
        cmocka_unit_test(what_is_no_file),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
