/* SPDX-License-Identifier: Apache-2.0 */
/* What the store says each key has is what a history leaves, played by a plain table; and a damaged
 * file gives an error or a value that it has. */
#include "snapshot/store.h"

#include <stdio.h>
#include <stdlib.h>

#include "build_db.h"
#include "failing_alloc.h"

#define KEYS 50u

static bool any(void *arg, struct bytes key)
{
    (void)arg;
    (void)key;
    return true;
}

static bool is_below_b(void *arg, struct bytes key)
{
    (void)arg;
    return bytes_has_prefix(key, BYTES_LIT("/b/"));
}

static struct snapshot_store *open_store(const struct db *db)
{
    const struct snapshot_store_opts o = {.input = db->input, .is_wanted = any};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_store *s;

    if (snapshot_store_open(&o, &s, why) != ERR_OK)
        fail_msg("%s", why);
    return s;
}

static uint32_t next_random(uint32_t *r)
{
    *r = *r * 1103515245u + 12345u;
    return *r >> 8;
}

/* --- the model -------------------------------------------------------------------------------- */

struct model {
    struct db_record *v;
    size_t count;
    const struct db_record *last[KEYS]; /* what a key has; NULL: nothing */
};

static void key_text(unsigned k, char out[static 32])
{
    snprintf(out, 32, "/%c/%03u", k % 3 == 0 ? 'b' : 'a', k * 7 % KEYS);
}

static void play(struct model *m, size_t count, uint32_t seed, uint32_t value_max)
{
    *m = (struct model){.v = calloc(count + 1, sizeof *m->v), .count = count};
    assert_non_null(m->v);
    for (size_t i = 0; i < count; i++) {
        unsigned k = next_random(&seed) % KEYS;
        struct db_record *r = &m->v[i];

        *r = (struct db_record){.revision = i > 0 ? m->v[i - 1].revision : 2,
                                .value_len = next_random(&seed) % (value_max + 1),
                                .fill = (uint8_t)next_random(&seed)};
        if (i > 0 && next_random(&seed) % 3 == 0) /* of the same transaction */
            r->sub = m->v[i - 1].sub + 1;
        else
            r->revision += 1 + next_random(&seed) % 3;
        key_text(k, r->key);
        r->is_deleted = m->last[k] != NULL && next_random(&seed) % 4 == 0;
        m->last[k] = r->is_deleted ? NULL : r;
    }
}

static const struct db_record *model_find(const struct model *m, struct bytes key)
{
    char text[32];

    for (unsigned k = 0; k < KEYS; k++) {
        key_text(k, text);
        if (bytes_eq(key, bytes_str(text)))
            return m->last[k];
    }
    return NULL;
}

static void check_entry(struct snapshot_store *s, const struct snapshot_entry *e,
                        const struct db_record *r)
{
    uint8_t *kv = malloc(r->value_len + 128);
    struct bytes got;

    assert_non_null(kv);
    assert_int_equal(e->mod_revision, r->revision);
    assert_false(e->is_deleted);
    assert_int_equal(snapshot_store_read(s, e, &got), ERR_OK);
    assert_true(bytes_eq(got, bytes_of(kv, db_kv(r, kv))));
    free(kv);
}

static void check_model(const struct model *m, struct snapshot_store *s)
{
    size_t there = 0;

    for (unsigned k = 0; k < KEYS; k++)
        there += m->last[k] != NULL;
    assert_int_equal(snapshot_store_count(s), there);
    for (size_t i = 0; i < there; i++) {
        const struct snapshot_entry *e = snapshot_store_at(s, i);
        const struct db_record *r = model_find(m, e->key);

        assert_non_null(r);
        check_entry(s, e, r);
        assert_int_equal(snapshot_store_seek(s, e->key), i);
        assert_true(i == 0 || bytes_cmp(snapshot_store_at(s, i - 1)->key, e->key) < 0);
    }
    assert_int_equal(snapshot_store_seek(s, BYTES_LIT("")), 0);
    assert_int_equal(snapshot_store_seek(s, BYTES_LIT("/z")), there);
    assert_int_equal(snapshot_store_facts(s)->record_count, m->count);
    if (m->count > 0)
        assert_int_equal(snapshot_store_facts(s)->revision, m->v[m->count - 1].revision);
}

static void every_history(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 60; seed++) {
        const struct db_shape shape = {
            .page_size = 1024u << seed % 5, .per_leaf = 1 + seed % 9, .per_branch = 2 + seed % 7};
        size_t count = seed % 10 == 0 ? 5000 : seed * 7 % 400; /* 5,000: the index is full twice */
        struct snapshot_store *s;
        struct model m;
        struct db db;

        play(&m, count, seed, seed % 4 == 0 && count < 500 ? 9000 : 100);
        db_build(&db, &shape, m.v, m.count);
        s = open_store(&db);
        check_model(&m, s);
        assert_int_equal(snapshot_store_facts(s)->consistent_index, 4711);
        snapshot_store_close(s);
        db_free(&db);
        free(m.v);
    }
}

static void only_what_is_wanted(void **state)
{
    const struct db_shape shape = {.page_size = 4096, .per_leaf = 5, .per_branch = 5};
    struct snapshot_store_opts o = {.is_wanted = is_below_b};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_store *s;
    struct model m;
    struct db db;

    (void)state;
    play(&m, 300, 7, 100);
    db_build(&db, &shape, m.v, m.count);
    o.input = db.input;
    assert_int_equal(snapshot_store_open(&o, &s, why), ERR_OK);
    assert_true(snapshot_store_count(s) > 0);
    for (size_t i = 0; i < snapshot_store_count(s); i++)
        assert_true(is_below_b(NULL, snapshot_store_at(s, i)->key));
    snapshot_store_close(s);
    db_free(&db);
    free(m.v);
}

static void values_of_a_mebibyte(void **state)
{
    const struct db_shape shape = {.page_size = 4096, .per_leaf = 2, .per_branch = 2};
    const struct db_record v[] = {
        {.revision = 2, .key = "/a", .value_len = 1u << 20, .fill = 'a'},
        {.revision = 3, .key = "/b", .value_len = (1u << 20) + 4096, .fill = 'b'},
        {.revision = 4, .key = "/c", .value_len = 10, .fill = 'c'},
    };
    struct snapshot_store *s;
    struct db db;

    (void)state;
    db_build(&db, &shape, v, ARRAY_LEN(v));
    s = open_store(&db);
    assert_int_equal(snapshot_store_count(s), 3);
    for (size_t i = 3; i > 0; i--)
        check_entry(s, snapshot_store_at(s, i - 1), &v[i - 1]);
    snapshot_store_close(s);
    db_free(&db);
}

/* All that was written up to a compaction may be gone; then its revision is the last one. */
static void revisions(void **state)
{
    static const struct db_record v[] = {{.revision = 20, .key = "/a", .value_len = 3}};

    (void)state;
    for (int64_t compacted = 0; compacted < 40; compacted += 13)
        for (size_t count = 0; count < 2; count++) {
            const struct db_shape shape = {
                .page_size = 1024, .per_leaf = 2, .per_branch = 2, .compacted = compacted};
            int64_t last = count > 0 ? 20 : 1;
            struct snapshot_store *s;
            struct db db;

            db_build(&db, &shape, v, count);
            s = open_store(&db);
            assert_int_equal(snapshot_store_facts(s)->compact_revision, compacted);
            assert_int_equal(snapshot_store_facts(s)->revision,
                             compacted > last ? compacted : last);
            snapshot_store_close(s);
            db_free(&db);
        }
}

/* --- damage ----------------------------------------------------------------------------------- */

/* Opens and reads everything. Returns whether all of it was possible. */
static bool read_everything(const struct db *db)
{
    const struct snapshot_store_opts o = {.input = db->input, .is_wanted = any};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_store *s;
    bool is_good = true;

    if (snapshot_store_open(&o, &s, why) != ERR_OK) {
        assert_int_equal(strncmp(why, "page ", 5), 0);
        return false;
    }
    for (size_t i = 0; i < snapshot_store_count(s); i++) {
        struct bytes got;

        is_good &= snapshot_store_read(s, snapshot_store_at(s, i), &got) == ERR_OK;
    }
    assert_true(is_good); /* what the index has was looked at */
    snapshot_store_close(s);
    return is_good;
}

static void every_page_damaged(void **state)
{
    const struct db_shape shape = {.page_size = 1024, .per_leaf = 3, .per_branch = 3};
    uint32_t random = 3;
    struct model m;
    struct db whole;

    (void)state;
    play(&m, 120, 5, 900);
    db_build(&whole, &shape, m.v, m.count);
    for (size_t page = 0; page * 1024 < whole.n; page++)
        for (unsigned way = 0; way < 20; way++) {
            struct db db = whole;
            uint8_t was[1024];

            db.input.arg = &db;
            memcpy(was, whole.p + page * 1024, sizeof was);
            if (way == 0)
                memset(db.p + page * 1024, 0, sizeof was);
            else if (way == 1)
                memset(db.p + page * 1024, 0xff, sizeof was);
            else if (way == 2)
                memcpy(db.p + page * 1024, whole.p + (page + 1) * 1024 % whole.n, sizeof was);
            else
                db.p[page * 1024 + next_random(&random) % (way < 10 ? 64 : 1024)] ^=
                    (uint8_t)(1 + next_random(&random) % 255);
            read_everything(&db);
            memcpy(whole.p + page * 1024, was, sizeof was);
        }
    assert_true(read_everything(&whole));
    db_free(&whole);
    free(m.v);
}

static void every_cut(void **state)
{
    const struct db_shape shape = {.page_size = 1024, .per_leaf = 3, .per_branch = 3};
    struct model m;
    struct db db;

    (void)state;
    play(&m, 60, 5, 300);
    db_build(&db, &shape, m.v, m.count);
    for (size_t n = 0; n < db.n; n += 97) {
        db.input.size = n;
        assert_false(read_everything(&db));
    }
    db_free(&db);
    free(m.v);
}

/* Changes the byte behind the first `what` in the file, and has the store opened. */
static void damaged_behind(const char *what, size_t len, int change, const char *wanted)
{
    const struct db_shape shape = {.page_size = 1024, .per_leaf = 2, .per_branch = 2};
    const struct db_record v[] = {{.revision = 5, .key = "/aaa", .value_len = 3}};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_store_opts o = {.is_wanted = any};
    struct snapshot_store *s;
    uint8_t *at;
    struct db db;

    db_build(&db, &shape, v, 1);
    o.input = db.input;
    at = memmem(db.p + 2048, db.n - 2048, what, len);
    assert_non_null(at);
    at[len] = (uint8_t)(at[len] + change);
    assert_int_equal(snapshot_store_open(&o, &s, why), ERR_FILE_DAMAGED);
    if (strstr(why, wanted) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, wanted);
    db_free(&db);
}

static void records_that_are_none(void **state)
{
    (void)state;
    damaged_behind("\0\0\0\0\0\0\0\5", 8, 1, "is no revision");
    damaged_behind("/aaa\x10\5", 6, 2, "is no KeyValue");       /* field 3 becomes a fixed64 */
    damaged_behind("/aaa\x10\5\x18", 7, 1, "is of revision 6"); /* and lies under 5 */
    damaged_behind("\x0a", 1, 9, "is no KeyValue");             /* the key's length */
    damaged_behind("ke", 2, 1, "no bucket of keys");
}

static struct db failing_db;

static enum err read_once(void)
{
    const struct snapshot_store_opts o = {.input = failing_db.input, .is_wanted = any};
    char why[SNAPSHOT_WHY_MAX];
    struct snapshot_store *s;
    enum err e = snapshot_store_open(&o, &s, why);

    snapshot_store_close(s);
    if (e != ERR_OK)
        assert_string_equal(why, "out of memory");
    return e;
}

static void memory_runs_out(void **state)
{
    const struct db_shape shape = {.page_size = 1024, .per_leaf = 4, .per_branch = 4};
    struct model m;

    (void)state;
    play(&m, 60, 11, 2000);
    db_build(&failing_db, &shape, m.v, m.count);
    alloc_fail_each(read_once, NULL);
    db_free(&failing_db);
    free(m.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history),         cmocka_unit_test(only_what_is_wanted),
        cmocka_unit_test(values_of_a_mebibyte),  cmocka_unit_test(revisions),
        cmocka_unit_test(every_page_damaged),    cmocka_unit_test(every_cut),
        cmocka_unit_test(records_that_are_none), cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
