/* SPDX-License-Identifier: Apache-2.0 */
/* The walk gives each item once, in order, for every shape of tree; and of a tree that is none it
 * says where. */
#include "snapshot/bolt.h"

#include <stdio.h>
#include <stdlib.h>

#include "build_db.h"
#include "failing_alloc.h"

#define PAGE 1024u
#define LEAF 2u
#define BRANCH 1u

static struct db_record *records(size_t count, uint32_t value_len)
{
    struct db_record *v = calloc(count + 1, sizeof *v);

    assert_non_null(v);
    for (size_t i = 0; i < count; i++) {
        v[i] = (struct db_record){.revision = (int64_t)i + 2, .value_len = value_len, .fill = 'v'};
        snprintf(v[i].key, sizeof v[i].key, "/k/%05zu", i);
    }
    return v;
}

static struct snapshot_bolt *open_db(const struct db *db)
{
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_bolt *b;

    assert_int_equal(snapshot_bolt_open(&db->input, &b, why), ERR_OK);
    return b;
}

/* Walks the bucket of keys; *count: items until the end or the error. */
static enum err walk(struct snapshot_bolt *b, size_t *count)
{
    struct snapshot_bucket bucket;
    struct snapshot_cursor *c;
    struct snapshot_item item;
    bool has;

    *count = 0;
    TRY(snapshot_bolt_find(b, BYTES_LIT("key"), &bucket, &has));
    if (!has)
        return ERR_OK;
    TRY(snapshot_cursor_new(b, &bucket, &c));
    for (;;) {
        enum err e = snapshot_cursor_next(c, &item, &has);
        struct bytes value;

        if (e == ERR_OK && has)
            e = snapshot_bolt_bytes(b, item.value_at, item.value_len, &value);
        if (e != ERR_OK || !has) {
            snapshot_cursor_free(c);
            return e;
        }
        *count += 1;
    }
}

static void walks_to(const struct db *db, enum err wanted, const char *why)
{
    struct snapshot_bolt *b = open_db(db);
    size_t count;

    assert_int_equal(walk(b, &count), wanted);
    if (strstr(snapshot_bolt_why(b), why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", snapshot_bolt_why(b), why);
    snapshot_bolt_close(b);
}

static void check_walk(const struct db *db, const struct db_record *v, size_t count)
{
    struct snapshot_bolt *b = open_db(db);
    struct snapshot_bucket bucket;
    struct snapshot_cursor *c;
    struct snapshot_item item;
    struct bytes value;
    uint8_t *kv = malloc(v[0].value_len + 128);
    bool has;

    assert_non_null(kv);
    assert_int_equal(snapshot_bolt_find(b, BYTES_LIT("key"), &bucket, &has), ERR_OK);
    assert_true(has);
    assert_int_equal(snapshot_cursor_new(b, &bucket, &c), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(snapshot_cursor_next(c, &item, &has), ERR_OK);
        assert_true(has);
        assert_int_equal(item.name.n, 17);
        assert_int_equal(item.name.p[7], (uint8_t)v[i].revision);
        assert_int_equal(item.value_len, db_kv(&v[i], kv));
        assert_int_equal(snapshot_bolt_bytes(b, item.value_at, item.value_len, &value), ERR_OK);
        assert_memory_equal(value.p, kv, value.n);
    }
    assert_int_equal(snapshot_cursor_next(c, &item, &has), ERR_OK);
    assert_false(has);
    assert_int_equal(snapshot_cursor_next(c, &item, &has), ERR_OK);
    assert_false(has);
    snapshot_cursor_free(c);
    snapshot_bolt_close(b);
    free(kv);
}

static void trees_of_every_shape(void **state)
{
    static const uint32_t pages[] = {1024, 4096, 16384};
    static const uint32_t values[] = {0, 1, 100, 5000, 70000};

    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(pages); p++)
        for (size_t l = 0; l < ARRAY_LEN(values); l++)
            for (size_t count = 0; count < 40; count += 1 + count / 4)
                for (unsigned per = 1; per < 8; per += 3) {
                    struct db_shape s = {
                        .page_size = pages[p], .per_leaf = per, .per_branch = per + 1};
                    struct db_record *v = records(count, values[l]);
                    struct db db;

                    s.is_inline = count * values[l] < 300 && per == 1 && count < 5;
                    db_build(&db, &s, v, count);
                    check_walk(&db, v, count);
                    db_free(&db);
                    free(v);
                }
}

static void a_bucket_that_is_not_there(void **state)
{
    const struct db_shape s = {.page_size = PAGE, .per_leaf = 3, .per_branch = 3};
    struct snapshot_bucket bucket;
    struct snapshot_bolt *b;
    struct db db;
    bool has;

    (void)state;
    db_build(&db, &s, NULL, 0);
    b = open_db(&db);
    assert_int_equal(snapshot_bolt_find(b, BYTES_LIT("keys"), &bucket, &has), ERR_OK);
    assert_false(has);
    snapshot_bolt_close(b);
    db_free(&db);
}

/* --- trees that are none ---------------------------------------------------------------------- */

/* Pages 2, 3, ...: leaves; then branches; the root of the bucket of keys; the top level. */
static void build_broken(struct db *db)
{
    const struct db_shape s = {.page_size = PAGE, .per_leaf = 2, .per_branch = 2};
    struct db_record *v = records(8, 20);

    db_build(db, &s, v, 8);
    free(v);
}

static uint8_t *page(struct db *db, uint64_t number)
{
    return db->p + number * PAGE;
}

/* The first page of that kind from number on. */
static uint64_t find_page(struct db *db, unsigned kind, uint64_t number)
{
    while (page(db, number)[8] != kind)
        number++;
    return number;
}

static void loops_end(void **state)
{
    struct db db;
    uint64_t low, root;

    (void)state;
    build_broken(&db);
    low = find_page(&db, BRANCH, 2);
    root = find_page(&db, BRANCH, low + 2);
    db_put_u64(page(&db, root) + 16 + 8, root); /* leads to itself */
    walks_to(&db, ERR_FILE_DAMAGED, "in use twice");
    db_free(&db);
    build_broken(&db);
    db_put_u64(page(&db, low) + 16 + 8, root); /* leads to its parent */
    walks_to(&db, ERR_FILE_DAMAGED, "in use twice");
    db_free(&db);
    build_broken(&db);
    db_put_u64(page(&db, root) + 32 + 8, low); /* the same page twice */
    walks_to(&db, ERR_FILE_DAMAGED, "in use twice");
    db_free(&db);
}

static void trees_that_are_too_deep(void **state)
{
    const struct db_shape s = {.page_size = PAGE, .per_leaf = 1, .per_branch = 1000};
    struct db_record *v = records(60, 20);
    struct db db;
    uint64_t branch;

    (void)state;
    db_build(&db, &s, v, 60);
    branch = find_page(&db, BRANCH, 2);
    /* Every leaf becomes a branch that leads to the next one. */
    for (uint64_t p = 2; p + 1 < branch; p++) {
        page(&db, p)[8] = BRANCH;
        db_put_u32(page(&db, p) + 16, 32);
        db_put_u32(page(&db, p) + 20, 17);
        db_put_u64(page(&db, p) + 24, p + 1);
    }
    walks_to(&db, ERR_FILE_DAMAGED, "more than 32 levels deep");
    db_free(&db);
    free(v);
}

/* One thing wrong at a time. */
static void what_is_told(void **state)
{
    static const struct {
        unsigned kind, at;
        uint64_t value;
        unsigned bytes;
        const char *why;
    } cases[] = {
        {LEAF, 0, 77, 8, "it says that it is page 77"},
        {LEAF, 8, 16, 1, "neither a branch nor a leaf"},
        {LEAF, 10, 0xffff, 2, "its 65535 elements do not fit"},
        {LEAF, 12, 0xffffffff, 4, "it goes on behind the end"},
        {LEAF, 12, 1, 4, "in use twice"},
        {LEAF, 16, 2, 1, "unknown flags"},
        {LEAF, 20, 0xffffffff, 4, "an element lies outside of it"},
        {LEAF, 20, 16, 4, "an element lies outside of it"}, /* among the elements */
        {LEAF, 24, 0xffffffff, 4, "an element lies outside of it"},
        {LEAF, 28, 0xffffffff, 4, "an element lies outside of it"},
        {LEAF, 28, 2000, 4, "an element lies outside of it"},
        {LEAF, 48, 0xff, 1, "not in order"}, /* the first name becomes a large one */
        {BRANCH, 10, 0, 2, "a branch that leads nowhere"},
        {BRANCH, 16, 5, 4, "an element lies outside of it"},
        {BRANCH, 20, 2000, 4, "an element lies outside of it"},
        {BRANCH, 24, 0, 8, "it leads to page 0, which there is not"},
        {BRANCH, 24, 1, 8, "it leads to page 1, which there is not"},
        {BRANCH, 24, 9999, 8, "it leads to page 9999, which there is not"},
        {BRANCH, 24, UINT64_MAX, 8, "which there is not"},
        {BRANCH, 48, 0xff, 1, "not in order"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct db db;
        uint8_t *p;

        build_broken(&db);
        p = page(&db, find_page(&db, cases[i].kind, 2)) + cases[i].at;
        for (unsigned k = 0; k < cases[i].bytes; k++)
            p[k] = (uint8_t)(cases[i].value >> 8 * k);
        walks_to(&db, ERR_FILE_DAMAGED, cases[i].why);
        db_free(&db);
    }
}

static void buckets_that_are_none(void **state)
{
    const struct db_shape s = {.page_size = PAGE, .is_inline = true};
    struct db_record *v = records(2, 20);
    struct db db;

    (void)state;
    db_build(&db, &s, v, 2); /* the top level is page 2; "key" is its second element */
    db.p[2 * PAGE + 32] = 0;
    walks_to(&db, ERR_FILE_DAMAGED, "is to be a bucket is none");
    db_free(&db);
    db_build(&db, &s, v, 2);
    db_put_u32(db.p + 2 * PAGE + 32 + 12, 15); /* shorter than its header */
    walks_to(&db, ERR_FILE_DAMAGED, "is to be a bucket is none");
    db_free(&db);
    db_build(&db, &s, v, 2);
    db_put_u32(db.p + 2 * PAGE + 32 + 12, 20); /* shorter than its page */
    walks_to(&db, ERR_FILE_DAMAGED, "cut short");
    db_free(&db);
    free(v);
}

/* Reading ends, with an error or without one, whichever byte has which of its bits flipped, and
 * never reads behind the file (read_db of build_db.c asserts). */
static void every_byte_damaged(void **state)
{
    struct db whole;
    size_t errors = 0;

    (void)state;
    build_broken(&whole);
    for (size_t at = 2 * PAGE; at < whole.n; at++)
        for (unsigned bit = 0; bit < 8; bit += 7) {
            struct db db = whole;
            struct snapshot_bolt *b;
            size_t count;

            db.input.arg = &db;
            db.p[at] ^= (uint8_t)(1u << bit);
            b = open_db(&db);
            if (walk(b, &count) != ERR_OK) {
                errors++;
                assert_int_equal(strncmp(snapshot_bolt_why(b), "page ", 5), 0);
            } else {
                assert_true(count <= 8);
            }
            snapshot_bolt_close(b);
            whole.p[at] ^= (uint8_t)(1u << bit);
        }
    assert_true(errors > 500);
    db_free(&whole);
}

static struct db failing_db;

static enum err walk_once(void)
{
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_bolt *b;
    size_t count;
    enum err e = snapshot_bolt_open(&failing_db.input, &b, why);

    if (e == ERR_OK)
        e = walk(b, &count);
    if (e == ERR_OK)
        assert_int_equal(count, 8);
    snapshot_bolt_close(b);
    return e;
}

static void memory_runs_out(void **state)
{
    (void)state;
    build_broken(&failing_db);
    alloc_fail_each(walk_once, NULL);
    db_free(&failing_db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_of_every_shape),
        cmocka_unit_test(a_bucket_that_is_not_there),
        cmocka_unit_test(loops_end),
        cmocka_unit_test(trees_that_are_too_deep),
        cmocka_unit_test(what_is_told),
        cmocka_unit_test(buckets_that_are_none),
        cmocka_unit_test(every_byte_damaged),
        cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
