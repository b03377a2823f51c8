/* SPDX-License-Identifier: Apache-2.0 */
/* Which meta page counts, whatever becomes of either, and what is within reach of an offset. */
#include "snapshot/bolt.h"

#include <stdlib.h>

#include "base/limits.h"
#include "build_db.h"
#include "failing_alloc.h"

static const struct db_record one[] = {{.revision = 2, .key = "/a", .value_len = 10, .fill = 'x'}};

static enum err open_db(const struct db *db, struct snapshot_bolt **b, const char *wanted)
{
    char why[SNAPSHOT_WHY_MAX];
    enum err e = snapshot_bolt_open(&db->input, b, why);

    assert_int_equal(*b != NULL, e == ERR_OK);
    if (e != ERR_OK)
        assert_non_null(strstr(why, wanted));
    return e;
}

static void build(struct db *db, uint32_t page_size)
{
    const struct db_shape shape = {.page_size = page_size, .per_leaf = 4, .per_branch = 4};

    db_build(db, &shape, one, 1);
}

/* With either meta page damaged at any byte that it has, the other one counts. */
static void one_meta_page_is_enough(void **state)
{
    (void)state;
    for (uint32_t size = SNAPSHOT_PAGE_MIN; size <= SNAPSHOT_PAGE_MAX; size *= 2)
        for (unsigned bad = 0; bad < 2; bad++)
            for (unsigned at = 0; at < 80; at++) {
                struct snapshot_bolt *b;
                struct db db;
                bool is_used = at < 8 || (at >= 8 && at < 10) || at >= 16;

                build(&db, size);
                db.p[bad * size + at] ^= 0x41;
                assert_int_equal(open_db(&db, &b, ""), ERR_OK);
                assert_int_equal(snapshot_bolt_facts(b)->page_size, size);
                assert_int_equal(snapshot_bolt_facts(b)->is_meta_bad[bad], is_used);
                assert_false(snapshot_bolt_facts(b)->is_meta_bad[!bad]);
                assert_int_equal(snapshot_bolt_facts(b)->transaction_id, is_used ? 101 - bad : 101);
                snapshot_bolt_close(b);
                db_free(&db);
            }
}

static void the_later_transaction_counts(void **state)
{
    struct snapshot_bolt *b;
    struct db db;

    (void)state;
    build(&db, 4096);
    db_put_u64(db.p + 16 + 48, 102); /* meta 0 is the later one now */
    db_put_u64(db.p + 16 + 40, 77);
    db_seal_meta(&db, 0);
    assert_int_equal(open_db(&db, &b, ""), ERR_OK);
    assert_int_equal(snapshot_bolt_facts(b)->transaction_id, 102);
    assert_int_equal(snapshot_bolt_facts(b)->page_count, 77);
    snapshot_bolt_close(b);
    db_free(&db);
}

static void what_is_no_database(void **state)
{
    static const uint32_t sizes[] = {0, 512, 1000, 3000, 131072};
    struct snapshot_bolt *b;
    struct db db;

    (void)state;
    build(&db, 4096);
    db.p[20] ^= 1;
    db.p[4096 + 20] ^= 1;
    assert_int_equal(open_db(&db, &b, "neither is a valid meta page"), ERR_FILE_DAMAGED);
    db_free(&db);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) { /* sizes that no page has */
        build(&db, 4096);
        for (unsigned m = 0; m < 2; m++) {
            db_put_u32(db.p + m * 4096 + 16 + 8, sizes[i]);
            db_seal_meta(&db, m);
        }
        assert_int_equal(open_db(&db, &b, "neither is a valid meta page"), ERR_FILE_DAMAGED);
        db_free(&db);
    }
    for (size_t n = 0; n <= 80; n++) { /* files that are shorter than a meta page */
        build(&db, 4096);
        db.input.size = n;
        assert_int_equal(open_db(&db, &b, "") == ERR_OK, n == 80);
        snapshot_bolt_close(b);
        db_free(&db);
    }
    build(&db, 1024);
    db.input.size = SNAPSHOT_SIZE_MAX + 1;
    assert_int_equal(open_db(&db, &b, "1 TiB"), ERR_FILE_DAMAGED);
    db_free(&db);
}

/* Every piece of the file is read as it is, in whatever order; nothing behind its end is. */
static void bytes_at_any_place(void **state)
{
    struct snapshot_bolt *b;
    struct bytes got;
    uint32_t random = 1;
    struct db db;

    (void)state;
    build(&db, 1024);
    assert_int_equal(open_db(&db, &b, ""), ERR_OK);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at;
        size_t n;

        random = random * 1103515245u + 12345u;
        at = random % (db.n + 2);
        random = random * 1103515245u + 12345u;
        n = (random >> 8) % 3000;
        if (at + n > db.n && n > 0) {
            assert_int_equal(snapshot_bolt_bytes(b, at, n, &got), ERR_FILE_DAMAGED);
            assert_non_null(strstr(snapshot_bolt_why(b), "behind the end of the file"));
            continue;
        }
        assert_int_equal(snapshot_bolt_bytes(b, at, n, &got), ERR_OK);
        assert_true(bytes_eq(got, bytes_of(db.p + at, n)));
    }
    assert_int_equal(snapshot_bolt_bytes(b, UINT64_MAX, 1, &got), ERR_FILE_DAMAGED);
    assert_int_equal(snapshot_bolt_bytes(b, 1, SIZE_MAX, &got), ERR_FILE_DAMAGED);
    snapshot_bolt_close(b);
    db_free(&db);
}

/* A file that is cut while it is read is damaged, from then on. */
static void a_file_that_shrinks(void **state)
{
    struct snapshot_bolt *b;
    struct bytes got;
    struct db db;

    (void)state;
    build(&db, 1024);
    assert_int_equal(open_db(&db, &b, ""), ERR_OK);
    db.cut = 2048;
    assert_int_equal(snapshot_bolt_bytes(b, 2000, 100, &got), ERR_FILE_DAMAGED);
    assert_non_null(strstr(snapshot_bolt_why(b), "has become shorter"));
    assert_int_equal(snapshot_bolt_bytes(b, 1024, 1024, &got), ERR_OK);
    snapshot_bolt_close(b);
    db_free(&db);
}

static struct db failing_db;

static enum err open_once(void)
{
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_bolt *b;
    struct bytes got;
    enum err e = snapshot_bolt_open(&failing_db.input, &b, why);

    if (e == ERR_OK)
        e = snapshot_bolt_bytes(b, 0, 2000, &got);
    snapshot_bolt_close(b);
    return e;
}

static void memory_runs_out(void **state)
{
    (void)state;
    build(&failing_db, 1024);
    alloc_fail_each(open_once, NULL);
    db_free(&failing_db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_meta_page_is_enough), cmocka_unit_test(the_later_transaction_counts),
        cmocka_unit_test(what_is_no_database),     cmocka_unit_test(bytes_at_any_place),
        cmocka_unit_test(a_file_that_shrinks),     cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
