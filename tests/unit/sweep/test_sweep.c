/* SPDX-License-Identifier: Apache-2.0 */
/* The run over all values, on a small etcd in memory: what state each is in; each is told once and
 * in order, however pages and revisions fall; what a lying source says is an error; memory that
 * runs out anywhere ends the run with that. */
#include "sweep/sweep.h"

#include <stdio.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "fake_etcd.h"
#include "sweep/count.h"
#include "sweep/source_etcd.h"

struct fixture {
    struct fake_site site;
    struct ruleset *rules;
    struct net_url url;
    struct sweep_etcd *etcd;
    struct sweep_source *source;
    struct sweep *sweep;
    char told[FAKE_KEYS][FAKE_KEY];
    enum sweep_state states[FAKE_KEYS];
    enum err errs[FAKE_KEYS];
    bool due[FAKE_KEYS];
    char names[FAKE_KEYS][16];
    size_t count, wait_every;
    struct loop_task resume;
    bool is_over;
    enum err err;
    char why[512];
};

static const struct sweep_filter all = {0};

static void on_resume(struct loop_task *t)
{
    sweep_resume(CONTAINER_OF(t, struct fixture, resume)->sweep);
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct fixture *f = user;
    size_t i = f->count++;

    assert_true(i < FAKE_KEYS);
    assert_false(f->is_over);
    snprintf(f->told[i], FAKE_KEY, "%.*s", (int)v->kv.key.n, (const char *)v->kv.key.p);
    snprintf(f->names[i], sizeof f->names[i], "%.*s", (int)v->verdict->key_name.n,
             v->verdict->key_name.n > 0 ? (const char *)v->verdict->key_name.p : "");
    f->states[i] = v->verdict->state;
    f->errs[i] = v->verdict->err;
    f->due[i] = v->verdict->is_due;
    if (f->wait_every == 0 || f->count % f->wait_every != 0)
        return SWEEP_GO;
    loop_task_want(&f->site.loop, &f->resume);
    return SWEEP_WAIT;
}

static void on_end(void *user, enum err e, const char *why)
{
    struct fixture *f = user;

    assert_false(f->is_over);
    f->is_over = f->site.is_over = true;
    f->err = e;
    snprintf(f->why, sizeof f->why, "%s", why);
}

static void init(struct fixture *f, bool has_identity)
{
    const char *reason;

    memset(f, 0, sizeof *f);
    fake_site_init(&f->site);
    f->rules = fake_rules(has_identity);
    loop_task_init(&f->resume, on_resume);
    assert_int_equal(net_url_parse("http://127.0.0.1:1", &f->url, &reason), ERR_OK);
}

static void fini(struct fixture *f)
{
    loop_task_cancel(&f->resume);
    fake_site_fini(&f->site);
    ruleset_drop(f->rules);
}

/* Everything from connection to run. */
static enum err begin(struct fixture *f)
{
    const struct sweep_etcd_opts etcd = {
        .loop = &f->site.loop, .urls = &f->url, .url_count = 1, .first_ms = 100, .away_ms = 600};
    struct sweep_opts o = {.rules = f->rules,
                           .filter = &all,
                           .judge = &f->site.judge,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = f};

    f->count = 0;
    f->is_over = f->site.is_over = false;
    f->sweep = NULL;
    f->source = NULL;
    f->etcd = NULL;
    TRY(sweep_etcd_new(&etcd, &f->etcd));
    TRY(sweep_source_etcd_new(f->etcd, &f->source));
    o.source = f->source;
    return sweep_start(&o, &f->sweep);
}

static void end(struct fixture *f)
{
    if (f->sweep != NULL)
        sweep_stop(f->sweep);
    if (f->source != NULL)
        f->source->ops->close(f->source);
    if (f->etcd != NULL)
        sweep_etcd_close(f->etcd);
}

static void run(struct fixture *f)
{
    assert_int_equal(begin(f), ERR_OK);
    fake_site_run(&f->site);
}

static void put_sealed(enum fake_writer w, const char *key)
{
    uint8_t value[FAKE_VALUE];
    size_t n = fake_seal(w, key, key, value);

    fake_put(key, value, n, 0);
}

static void fill(size_t count)
{
    char key[FAKE_KEY];

    fake_reset();
    for (size_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "/registry/%s/ns/%03zu", i % 3 == 0 ? "configmaps" : "secrets",
                 i);
        fake_put(key, "plain", 5, 0);
    }
    fake_put("/registry/pods/ns/x", "plain", 5, 0);
    fake_put("/registry/secretsx/ns/x", "plain", 5, 0);
}

static void check_all_once(const struct fixture *f)
{
    size_t at = 0;

    for (size_t i = 0; i < fake.count; i++) {
        if (etcd_rules_find(f->rules->rules, bytes_str(fake.v[i].key)) == NULL)
            continue;
        assert_true(at < f->count);
        assert_string_equal(f->told[at], fake.v[i].key);
        at++;
    }
    assert_int_equal(at, f->count);
}

/* --- states ----------------------------------------------------------------------------------- */

static void check_state(const struct fixture *f, const char *key, enum sweep_state state,
                        enum err err, bool due, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->told[i], key) != 0)
            continue;
        assert_int_equal(f->states[i], state);
        assert_int_equal(f->errs[i], err);
        assert_int_equal(f->due[i], due);
        assert_string_equal(f->names[i], name);
        return;
    }
    fail_msg("%s was not told", key);
}

static void put_each_state(void)
{
    uint8_t value[FAKE_VALUE];
    size_t n;

    fake_reset();
    put_sealed(FAKE_NEW, "/registry/secrets/a/current");
    put_sealed(FAKE_OLD, "/registry/secrets/a/older");
    put_sealed(FAKE_CBC, "/registry/secrets/a/other");
    fake_put("/registry/secrets/a/plain", "{}", 2, 0);
    fake_put("/registry/secrets/a/empty", "", 0, 0);
    n = fake_seal(FAKE_NEW, "/registry/secrets/a/moved-from", "x", value);
    fake_put("/registry/secrets/a/moved", value, n, 0);
    fake_put("/registry/secrets/a/unknown", "k8s:enc:kms:v2:lost:", 20, 0);
    fake_put("/registry/secrets/a/no-key", "k8s:enc:aesgcm:v1:lost:0123456789012345678901234567",
             51, 0);
}

static void test_states(void **state)
{
    struct fixture f;

    (void)state;
    put_each_state();
    init(&f, true);
    run(&f);
    assert_int_equal(f.err, ERR_OK);
    check_all_once(&f);
    check_state(&f, "/registry/secrets/a/current", SWEEP_CURRENT, ERR_OK, false, "new");
    check_state(&f, "/registry/secrets/a/older", SWEEP_OLDER, ERR_OK, true, "old");
    check_state(&f, "/registry/secrets/a/other", SWEEP_OTHER, ERR_OK, true, "cbc");
    check_state(&f, "/registry/secrets/a/plain", SWEEP_PLAINTEXT, ERR_OK, true, "");
    check_state(&f, "/registry/secrets/a/empty", SWEEP_PLAINTEXT, ERR_OK, true, "");
    check_state(&f, "/registry/secrets/a/moved", SWEEP_UNREADABLE, ERR_AUTH_FAILED, false, "new");
    check_state(&f, "/registry/secrets/a/unknown", SWEEP_UNREADABLE, ERR_NO_MATCHING_PREFIX, false,
                "");
    check_state(&f, "/registry/secrets/a/no-key", SWEEP_UNREADABLE, ERR_NO_MATCHING_KEY, false, "");
    end(&f);
    fini(&f);
}

/* Envelopes alone: no key is used, and what is not authentic is not seen. */
static void test_states_unopened(void **state)
{
    struct fixture f;

    (void)state;
    put_each_state();
    init(&f, false);
    f.site.judge.ring = NULL;
    run(&f);
    check_state(&f, "/registry/secrets/a/current", SWEEP_CURRENT, ERR_OK, false, "new");
    check_state(&f, "/registry/secrets/a/older", SWEEP_OLDER, ERR_OK, true, "old");
    check_state(&f, "/registry/secrets/a/other", SWEEP_OTHER, ERR_OK, true, "cbc");
    check_state(&f, "/registry/secrets/a/moved", SWEEP_CURRENT, ERR_OK, false, "new");
    check_state(&f, "/registry/secrets/a/plain", SWEEP_PLAINTEXT, ERR_NO_MATCHING_PREFIX, false,
                "");
    check_state(&f, "/registry/secrets/a/no-key", SWEEP_UNREADABLE, ERR_NO_MATCHING_KEY, false, "");
    end(&f);
    fini(&f);
}

/* --- pages and revisions ---------------------------------------------------------------------- */

static void test_each_once(void **state)
{
    (void)state;
    for (size_t count = 0; count <= 250; count += count < 4 ? 1 : 41)
        for (size_t wait = 0; wait < 4; wait++) {
            struct fixture f;

            fill(count);
            fake.answer_max = wait == 3 ? 300 : 0;
            init(&f, true);
            f.wait_every = wait;
            run(&f);
            assert_int_equal(f.err, ERR_OK);
            assert_int_equal(f.count, count);
            check_all_once(&f);
            assert_int_equal(sweep_position(f.sweep)->value_count, count);
            assert_int_equal(sweep_position(f.sweep)->compacted_count, 0);
            assert_int_equal(sweep_position(f.sweep)->first.revision, fake.revision);
            assert_int_equal(sweep_position(f.sweep)->first.cluster_id, 11);
            assert_int_equal(sweep_position(f.sweep)->last.member_id, 22);
            end(&f);
            fini(&f);
        }
}

/* Before each read somebody writes elsewhere, and all older revisions are compacted away. */
static void compact(const char *path)
{
    if (strcmp(path, ETCD_RANGE_PATH) != 0)
        return;
    fake.revision++;
    fake.compacted = fake.calls % 3 == 0 ? fake.revision : fake.compacted;
}

static void test_compacted(void **state)
{
    const struct sweep_position *p;
    struct fixture f;

    (void)state;
    fill(250);
    fake.before = compact;
    fake.answer_max = 2000;
    init(&f, true);
    run(&f);
    assert_int_equal(f.err, ERR_OK);
    check_all_once(&f);
    p = sweep_position(f.sweep);
    assert_true(p->compacted_count > 3);
    assert_true(p->last.revision > p->first.revision);
    end(&f);
    fini(&f);
}

static void test_sample(void **state)
{
    struct sweep_opts o = {
        .filter = &all, .is_sample = true, .on_value = on_value, .on_end = on_end};
    struct fixture f;

    (void)state;
    fill(250);
    fake.answer_max = 600;
    init(&f, true);
    assert_int_equal(begin(&f), ERR_OK);
    sweep_stop(f.sweep);
    o.rules = f.rules;
    o.judge = &f.site.judge;
    o.source = f.source;
    o.user = &f;
    assert_int_equal(sweep_start(&o, &f.sweep), ERR_OK);
    fake_site_run(&f.site);
    assert_int_equal(f.err, ERR_OK);
    assert_true(f.count > 1 && f.count < 60);
    assert_string_equal(f.told[0], "/registry/configmaps/ns/000");
    for (size_t i = 1; i < f.count && strncmp(f.told[i], "/registry/s", 11) != 0; i++)
        assert_true(i + 1 < f.count); /* the page of the other range follows */
    end(&f);
    fini(&f);
}

static uint64_t counted;

static void on_counted(struct sweep_count *c, const struct client_answer *a)
{
    assert_int_equal(a->status, GRPC_OK);
    counted = c->count;
}

static void test_count(void **state)
{
    struct sweep_count count;
    struct fixture f;

    (void)state;
    fill(200);
    init(&f, true);
    assert_int_equal(begin(&f), ERR_OK);
    assert_int_equal(sweep_count_start(&count, f.etcd, f.rules, &all, on_counted), ERR_OK);
    fake_site_run(&f.site);
    for (size_t i = 0; i < 50 && counted == 0; i++)
        uv_run(&f.site.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(counted, 200);
    sweep_count_fini(&count);
    end(&f);
    fini(&f);
}

/* --- etcd ------------------------------------------------------------------------------------- */

static void test_away(void **state)
{
    struct fixture f;

    (void)state;
    fill(50);
    init(&f, true);
    fake.away = 1000; /* from the start: it gives up soon */
    run(&f);
    assert_int_equal(f.err, ERR_UPSTREAM_AWAY);
    assert_non_null(strstr(f.why, "does not answer"));
    end(&f);
    fill(50);
    run(&f);
    assert_int_equal(f.err, ERR_OK);
    end(&f);
    fini(&f);
}

static void away_once(const char *path)
{
    (void)path;
    if (fake.calls == 2 || fake.calls == 4)
        fake.away = 1;
}

/* Gone in the middle, and back: nothing is missed or told twice. */
static void test_back_again(void **state)
{
    struct fixture f;

    (void)state;
    fill(250);
    init(&f, true);
    fake.before = away_once;
    run(&f);
    assert_int_equal(f.err, ERR_OK);
    check_all_once(&f);
    end(&f);
    fini(&f);
}

static void proxy_later(const char *path)
{
    (void)path;
    fake.is_proxy = fake.calls >= 3;
}

static void test_proxy(void **state)
{
    (void)state;
    for (size_t later = 0; later < 2; later++) {
        struct fixture f;

        fill(250);
        init(&f, true);
        fake.is_proxy = later == 0;
        fake.before = later == 1 ? proxy_later : NULL;
        run(&f);
        assert_int_equal(f.err, ERR_CONFIG);
        assert_non_null(strstr(f.why, "proxy"));
        assert_true(later == 1 || f.count == 0);
        end(&f);
        fini(&f);
    }
}

/* --- a source that lies ----------------------------------------------------------------------- */

struct liar {
    struct sweep_source base;
    struct fake_site *site;
    struct loop_task task;
    sweep_page_fn fn;
    void *arg;
    const char *const *keys; /* of the page, up to NULL */
    bool has_more, is_compacted;
    struct bytes kvs;
    uint8_t room[1024];
};

static void lie(struct loop_task *t)
{
    struct liar *l = CONTAINER_OF(t, struct liar, task);
    struct sweep_page p = {.has_more = l->has_more,
                           .is_compacted = l->is_compacted,
                           .header = {.revision = 5},
                           .why = "",
                           .kvs = l->kvs};
    struct etcd_message m;

    if (l->keys != NULL) {
        etcd_message_init(&m, l->room, sizeof l->room);
        for (size_t i = 0; l->keys[i] != NULL; i++) {
            uint8_t kv_room[128];
            struct etcd_message kv;

            etcd_message_init(&kv, kv_room, sizeof kv_room);
            etcd_message_put_bytes(&kv, 1, bytes_str(l->keys[i]));
            etcd_message_put_bytes(&m, 2, bytes_of(kv_room, kv.len));
        }
        p.kvs = bytes_of(l->room, m.len);
    }
    l->fn(l->arg, &p);
}

static enum err liar_ask(struct sweep_source *s, const struct sweep_ask *ask, sweep_page_fn fn,
                         void *arg)
{
    struct liar *l = CONTAINER_OF(s, struct liar, base);

    (void)ask;
    l->fn = fn;
    l->arg = arg;
    loop_task_want(&l->site->loop, &l->task);
    return ERR_OK;
}

static void test_lies(void **state)
{
    static const struct sweep_source_ops ops = {.ask = liar_ask};
    static const char *const outside[] = {"/registry/pods/a", NULL};
    static const char *const behind[] = {"/registry/zzz", NULL};
    static const char *const backwards[] = {"/registry/configmaps/b", "/registry/configmaps/a",
                                            NULL};
    static const char *const twice[] = {"/registry/configmaps/a", "/registry/configmaps/a", NULL};
    static const char *const none[] = {NULL};
    static const struct {
        const char *const *keys;
        bool has_more, is_compacted;
        struct bytes raw;
        enum err err;
    } cases[] = {
        {outside, false, false, {0}, ERR_ANS_OUTSIDE},
        {behind, false, false, {0}, ERR_ANS_OUTSIDE},
        {backwards, false, false, {0}, ERR_ANS_OUTSIDE},
        {twice, false, false, {0}, ERR_ANS_OUTSIDE},
        {none, true, false, {0}, ERR_ANS_OUTSIDE},
        {none, false, true, {0}, ERR_ANS_MALFORMED},
        {NULL, false, false, BYTES_LIT("\x12\x02\x0a"), ERR_ANS_MALFORMED},
        {NULL, false, false, BYTES_LIT("\x12\x02\x08\x01"), ERR_ANS_WIRE_TYPE},
        {NULL, false, false, BYTES_LIT("\x12\x02\x18\x01"), ERR_ANS_NO_KEY},
        {NULL, false, false, BYTES_LIT("\x12\x06\x0a\x01/\x0a\x01/"), ERR_ANS_DOUBLED},
        {NULL, false, false, BYTES_LIT("\x10\x01"), ERR_ANS_WIRE_TYPE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct liar liar = {.base = {.ops = &ops},
                            .site = &f.site,
                            .keys = cases[i].keys,
                            .has_more = cases[i].has_more,
                            .is_compacted = cases[i].is_compacted,
                            .kvs = cases[i].raw};
        struct sweep_opts o = {.filter = &all, .on_value = on_value, .on_end = on_end};

        init(&f, true);
        loop_task_init(&liar.task, lie);
        o.rules = f.rules;
        o.judge = &f.site.judge;
        o.source = &liar.base;
        o.user = &f;
        assert_int_equal(sweep_start(&o, &f.sweep), ERR_OK);
        fake_site_run(&f.site);
        if (f.err != cases[i].err)
            fail_msg("case %zu: %s", i, err_reason(f.err));
        sweep_stop(f.sweep);
        fini(&f);
    }
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Each allocation fails in turn: the run cannot begin, or ends with that, or did not need it. What
 * was told until then is right. */
static void test_no_memory(void **state)
{
    bool was_whole = false;

    (void)state;
    for (size_t n = 1; n < 2000 && !was_whole; n++) {
        struct fixture f;
        enum err e;

        put_each_state();
        init(&f, true);
        alloc_fail_once(n);
        e = begin(&f);
        if (e == ERR_OK)
            fake_site_run(&f.site);
        was_whole = !alloc_recover();
        if (e != ERR_OK) {
            assert_int_equal(e, ERR_NOMEM);
        } else if (f.err != ERR_OK) {
            assert_false(was_whole);
            assert_true(f.err == ERR_NOMEM || f.err == ERR_CRYPTO || f.err == ERR_UPSTREAM_AWAY);
        } else {
            assert_int_equal(f.count, 8);
        }
        for (size_t i = 0; e == ERR_OK && i < f.count; i++)
            if (strstr(f.told[i], "current") != NULL)
                assert_int_equal(f.states[i], SWEEP_CURRENT);
        end(&f);
        fini(&f);
    }
    assert_true(was_whole);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),    cmocka_unit_test(test_states_unopened),
        cmocka_unit_test(test_each_once), cmocka_unit_test(test_compacted),
        cmocka_unit_test(test_sample),    cmocka_unit_test(test_count),
        cmocka_unit_test(test_away),      cmocka_unit_test(test_back_again),
        cmocka_unit_test(test_proxy),     cmocka_unit_test(test_lies),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
