/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of all ends, in whatever order things happen: clients, etcd and the plugin do at random
 * what each may do at any time, memory gets short, connections are lost. Then all of them fall
 * silent, and behind the longest of our times nobody waits any more but for the beginning of a
 * message; and when the clients have gone nothing is held, promised or counted for anybody. */
#include "proxy/call.h"
#include "walk_kit.h"

#define WALKS 60u
#define STEPS 600u
#define CALLS_MAX 200u
#define CLIENTS_MAX 6u
#define LARGEST 300000u
#define KEEP_ALIVE "/etcdserverpb.Lease/LeaseKeepAlive"
#define MIB (1024u * 1024)

static struct rig r;
static struct speech asked[CALLS_MAX], said[CALLS_MAX];
static size_t asked_count, said_count;
static uint64_t random_state;
static uint8_t *large, *treasure;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static bool one_in(uint32_t n)
{
    return below(n) == 0;
}

/* --- speeches -------------------------------------------------------------------------------- */

/* The stream may be over, and its owner may not know it yet. */
static void say(struct rec *s, const uint8_t *p, size_t n, bool end)
{
    struct chain c = {0};

    if (s->s == NULL)
        return;
    if (n > 0)
        assert_int_equal(chain_push_copy(&c, &s->end->k->pool, p, n, 0), ERR_OK);
    (void)!h2_stream_send(s->s, &c, end);
}

static void add(struct speech *t, struct buf *m)
{
    struct buf framed = rig_framed(m);

    buf_add(&t->what, framed.p, framed.n);
    buf_free(&framed);
}

/* Most often a new one, so that many are carried through. NULL: there is none. */
static struct speech *some(struct speech *v, size_t count)
{
    size_t few = one_in(4) || count < 10 ? count : 10;

    return count == 0 ? NULL : &v[count - 1 - below((uint32_t)few)];
}

/* Nearly always all of it, or very little. */
static void go_on(struct speech *t)
{
    size_t left = t->what.n - t->at, n = left;

    if (one_in(2) && left > 1)
        n = 1 + below((uint32_t)(one_in(2) ? left : left < 20 ? left : 20));
    say(t->s, t->what.p + t->at, n, false);
    t->at += n;
}

/* The newest line is said with what was added last. */
static struct line *add_line(struct speech *t)
{
    assert_in_range(t->line_count, 0, LINES_MAX - 1);
    return &t->lines[t->line_count++];
}

static void speeches_free(struct speech *v, size_t *count)
{
    for (size_t i = 0; i < *count; i++)
        buf_free(&v[i].what);
    memset(v, 0, *count * sizeof *v);
    *count = 0;
}

/* --- clients --------------------------------------------------------------------------------- */

static struct end *some_client(void)
{
    struct end *e = r.clients[below((uint32_t)r.client_count)];

    return e->c != NULL && e->ready_count == 1 && h2_conn_can_request(e->c) ? e : NULL;
}

static struct buf some_request(const char **path)
{
    static const char *const paths[] = {PUT, PUT, RANGE, RANGE, RANGE, WATCH, SNAPSHOT, KEEP_ALIVE};
    struct buf m = {0};

    *path = paths[below(ARRAY_LEN(paths))];
    if (strcmp(*path, PUT) == 0) {
        bool is_secret = !one_in(3);

        return put_request(is_secret ? SECRET_KEY : POD_KEY, is_secret ? treasure : large,
                           32 + (one_in(3) ? below(LARGEST - 32) : below(2000)));
    }
    if (strcmp(*path, RANGE) == 0)
        return range_request("/registry/", "/registry0");
    if (strcmp(*path, WATCH) == 0)
        return watch_create("/registry/", "/registry0");
    if (strcmp(*path, KEEP_ALIVE) == 0)
        buf_varint(&m, 1, 7);
    return m;
}

static void client_asks(void)
{
    struct end *e = some_client();
    struct speech *t = &asked[asked_count];
    struct h2_field name = {BYTES_LIT("x-name"), {NULL, 0}};
    const char *path;
    char text[16];
    struct buf m;

    if (e == NULL || asked_count == CALLS_MAX)
        return;
    m = some_request(&path);
    (void)snprintf(text, sizeof text, "%zu.", asked_count);
    name.value = bytes_str(text);
    *t = (struct speech){.s = rig_begin(e, path, &name)};
    t->s->is_hungry = !one_in(3);
    t->is_opaque = strcmp(path, SNAPSHOT) == 0 || strcmp(path, KEEP_ALIVE) == 0;
    add(t, &m);
    asked_count++;
}

static void client_goes_on(void)
{
    struct speech *t = some(asked, asked_count);
    bool is_watch;

    if (t == NULL || t->s->s == NULL || t->has_ended)
        return;
    is_watch = t->what.n < 40 && one_in(3);
    if (t->at < t->what.n)
        go_on(t);
    else if (!is_watch || one_in(3))
        say(t->s, NULL, 0, t->has_ended = true);
}

static void client_reads_on(void)
{
    const struct speech *t = some(asked, asked_count);

    if (t == NULL || t->s->s == NULL)
        return;
    h2_stream_credit(t->s->s, t->s->body_len);
    t->s->is_hungry = one_in(2);
}

static void client_gives_up(void)
{
    const struct speech *t = some(asked, asked_count);

    if (t != NULL && t->s->s != NULL)
        h2_stream_reset(t->s->s, H2_CANCEL);
}

static void client_comes_or_goes(void)
{
    if (r.client_count < CLIENTS_MAX)
        (void)rig_connect(&r, NULL);
    else if (one_in(4) && r.clients[1]->c != NULL)
        h2_conn_close(r.clients[1]->c, H2_NO_ERROR, 0);
}

/* --- etcd ------------------------------------------------------------------------------------ */

/* Under one of a few DEKs; rarely one that does not open. */
static struct buf some_value(struct line *l, size_t n)
{
    struct buf sealed = rig_seal(&r, below(6), SECRET_KEY, large, n);

    l->len = n;
    l->is_bad = one_in(12);
    if (l->is_bad)
        sealed.p[sealed.n > 60 ? 60 : sealed.n - 1] ^= 1; /* of what the tag is for, or of it */
    return sealed;
}

static void add_list(struct speech *t)
{
    struct buf m = put_response();

    for (uint32_t i = below(12); i-- > 0;) {
        struct buf v = some_value(add_line(t), one_in(8) ? below(LARGEST) : below(3000));

        add_kv(&m, 2, SECRET_KEY, v.p, v.n);
        buf_free(&v);
    }
    buf_varint(&m, 4, 12);
    add(t, &m);
}

static void hear_watch(struct speech *t, struct bytes request)
{
    struct line *l = add_line(t);
    struct buf m;

    if (request.n > 0 && request.p[0] == 0x0a) {
        l->is_created = true;
        l->id = t->watch;
        m = watch_created(t->watch++);
    } else { /* of the proxy: an id that is zero is left out */
        l->is_canceled = true;
        l->id = request.n > 3 ? request.p[3] : 0;
        m = put_response();
        buf_varint(&m, 2, l->id);
        buf_varint(&m, 4, 1);
    }
    add(t, &m);
    l->end = t->what.n;
}

static void add_event(struct speech *t)
{
    struct line *l = add_line(t);
    struct buf v = some_value(l, one_in(6) ? below(60000) : below(500)), m;

    l->id = below((uint32_t)t->watch);
    m = watch_event(l->id, SECRET_KEY, &v);
    buf_free(&v);
    add(t, &m);
    l->end = t->what.n;
}

static bool is_of(const struct speech *t, const char *path)
{
    return strstr(t->s->headers, path) != NULL;
}

/* What it has to say to what it has heard so far. */
static void think(struct speech *t)
{
    struct buf m = {0};
    bool is_stream = is_of(t, WATCH) || is_of(t, KEEP_ALIVE);

    while (t->heard < (is_stream || t->s->end_count > 0 ? rig_message_count(t->s) : 0)) {
        struct bytes request = rig_message_at(t->s, t->heard++);

        if (is_of(t, WATCH)) {
            hear_watch(t, request);
            continue;
        }
        if (is_of(t, RANGE)) {
            add_list(t);
            continue;
        }
        if (is_of(t, SNAPSHOT))
            buf_field(&m, 3, large, below(LARGEST));
        else
            m = put_response();
        add(t, &m);
    }
    if (t->watch > 0 && t->line_count < LINES_MAX / 2 && one_in(2))
        add_event(t);
}

static void etcd_ends(struct speech *t)
{
    static const char *const statuses[] = {"0", "0", "0", "5", "14"};
    struct h2_field f[] = {
        {BYTES_LIT("grpc-status"), bytes_str(statuses[below(ARRAY_LEN(statuses))])}};

    t->has_ended = true;
    if (one_in(6))
        h2_stream_reset(t->s->s, one_in(2) ? H2_REFUSED_STREAM : H2_INTERNAL_ERROR);
    else
        (void)!h2_stream_trailers(t->s->s, (struct h2_fields){f, 1});
}

static void etcd_goes_on(void)
{
    struct speech *t = some(said, said_count);

    if (t == NULL || t->s->s == NULL || t->has_ended)
        return;
    think(t);
    if (!t->has_begun) {
        if (t->what.n == 0)
            return;
        t->has_begun = h2_respond(t->s->s, kit_response, false) == ERR_OK;
        return;
    }
    if (t->at < t->what.n && !one_in(40))
        go_on(t);
    else if (t->heard > 0 && (t->watch == 0 || one_in(20)))
        etcd_ends(t);
}

static bool is_known(const struct rec *s)
{
    for (size_t i = 0; i < said_count; i++)
        if (said[i].s == s)
            return true;
    return false;
}

static void etcd_looks(void)
{
    for (size_t i = 0; i < r.etcd_count; i++)
        LIST_FOREACH(it, &r.etcds[i]->recs) {
            struct rec *s = LIST_ENTRY(it, struct rec, node);

            if (said_count < CALLS_MAX && !is_known(s))
                said[said_count++] = (struct speech){.s = s};
        }
}

static void etcd_fails(void)
{
    struct end *e = r.etcd_count == 0 ? NULL : r.etcds[below((uint32_t)r.etcd_count)];

    if (e == NULL || e->c == NULL)
        return;
    if (one_in(2))
        h2_conn_shutdown(e->c);
    else
        h2_conn_close(e->c, H2_INTERNAL_ERROR, 0);
}

/* With its connections or without. */
static void etcd_goes_or_comes(void)
{
    size_t i = below((uint32_t)r.opts.etcd_servers);

    if (r.servers[i].listener == NULL) {
        rig_server_back(&r, i);
        return;
    }
    rig_server_away(&r, i);
    for (size_t k = 0; k < r.etcd_count && one_in(2); k++)
        if (r.etcds[k]->c != NULL)
            h2_conn_close(r.etcds[k]->c, H2_INTERNAL_ERROR, 0);
}

/* --- the walk -------------------------------------------------------------------------------- */

static void plugin_turns(void)
{
    if (r.plugin.decrypt.how == FAKE_ANSWERS) {
        r.plugin.decrypt.how = one_in(2) ? FAKE_SILENT : FAKE_FAILS;
        r.plugin.decrypt.code = 14;
    } else {
        fake_speak(&r.plugin);
        r.plugin.decrypt.how = FAKE_ANSWERS;
    }
}

static void time_passes(void)
{
    static const uint64_t ms[] = {1, 1, 1, 1, 20, 20, 100, 300, 1200, 5000};

    rig_pass_in(&r, ms[below(ARRAY_LEN(ms))], 100);
}

static void step(void)
{
    static void (*const steps[])(void) = {
        client_asks,    client_asks,     client_goes_on, client_goes_on, client_goes_on,
        client_goes_on, client_reads_on, etcd_goes_on,   etcd_goes_on,   etcd_goes_on,
        etcd_goes_on,   etcd_goes_on,    etcd_goes_on,   etcd_goes_on,   time_passes,
    };
    static void (*const rare[])(void) = {client_gives_up,    client_comes_or_goes, etcd_fails,
                                         etcd_goes_or_comes, plugin_turns,         plugin_turns};

    if (one_in(20))
        rare[below(ARRAY_LEN(rare))]();
    else if (one_in(300) && r.old_manager == NULL)
        rig_reload(&r);
    else if (one_in(40))
        rig_limit(&r, one_in(2) ? (1 + below(4)) * MIB : LIMIT_MEMORY);
    else
        steps[below(ARRAY_LEN(steps))]();
    for (uint32_t i = below(6); i > 0; i--)
        rig_turn(&r);
    etcd_looks();
}

static const struct speech *answer_to(size_t i)
{
    char name[24];

    (void)snprintf(name, sizeof name, "x-name: %zu.\n", i);
    for (size_t k = 0; k < said_count; k++)
        if (strstr(said[k].s->headers, name) != NULL)
            return &said[k];
    return NULL;
}

static void check_what_was_said(void)
{
    for (size_t i = 0; i < asked_count; i++) {
        const struct speech *t = answer_to(i);

        if (!asked[i].is_opaque)
            walk_check_whole(asked[i].s);
        if (t != NULL && is_of(t, RANGE))
            walk_check_list(asked[i].s, t);
        else if (t != NULL && is_of(t, WATCH))
            walk_check_watch(asked[i].s, t);
    }
}

static void check_waiting(const struct lane *l)
{
    assert_false(lane_is_holding(l));
    assert_int_equal(l->large_todo + l->relay_left, 0);
    assert_null(l->work);
}

/* Nobody says anything any more, but all read. */
static void all_fall_silent(void)
{
    if (r.plugin.decrypt.how != FAKE_ANSWERS)
        plugin_turns();
    for (size_t i = 0; i < asked_count; i++) {
        asked[i].s->is_hungry = true;
        if (asked[i].s->s != NULL)
            h2_stream_credit(asked[i].s->s, asked[i].s->body_len);
    }
    rig_limit(&r, LIMIT_MEMORY);
    rig_pass_in(&r, 2 * LIMIT_PROGRESS_MS + LIMIT_KEY_WAIT_MS, 500);
    assert_true(list_is_empty(&r.w->progress.calls));
    assert_true(list_is_empty(&r.w->hungry));
    assert_true(list_is_empty(&r.w->turns));
    LIST_FOREACH(it, &r.w->calls) {
        const struct call *c = LIST_ENTRY(it, struct call, age_node);

        assert_int_equal(c->state, CALL_OPEN);
        check_waiting(&c->request);
        check_waiting(&c->answer);
    }
}

static void all_go(void)
{
    for (size_t i = 0; i < asked_count; i++)
        if (asked[i].s->s != NULL)
            h2_stream_reset(asked[i].s->s, H2_CANCEL);
    RIG_UNTIL(&r, rig_is_idle(&r));
    assert_int_equal(r.w->promised, 0);
    assert_null(r.w->beyond);
    for (size_t i = 0; i < ARRAY_LEN(r.w->upstream.waiting); i++)
        assert_int_equal(r.w->upstream.waiting[i], 0);
    LIST_FOREACH(it, &r.w->holders) {
        const struct holder *h = LIST_ENTRY(it, struct holder, node);

        assert_int_equal(h->claims + h->hungry, 0);
    }
}

static void walk(uint64_t seed)
{
    random_state = seed * 1000003;
    rig_init_with(&r, &(struct rig_opts){.etcd_servers = 1 + seed % 2});
    r.settings.stream_threshold = one_in(4) ? LIMIT_STREAM_THRESHOLD : 4096;
    for (uint8_t host = 1; host <= 3; host++)
        (void)rig_client_of(&r, host);
    for (unsigned i = 0; i < STEPS && r.etcd_count < RIG_ETCDS / 2; i++)
        step();
    all_fall_silent();
    check_what_was_said();
    all_go();
    speeches_free(asked, &asked_count);
    speeches_free(said, &said_count);
    rig_fini(&r);
}

static void whatever_happens_all_comes_to_an_end(void **state)
{
    uint64_t walks = getenv("FAILING_ALLOC") == NULL ? WALKS : 2; /* fail_each.py has many runs */

    (void)state;
    large = malloc(LARGEST);
    treasure = malloc(LARGEST);
    assert_non_null(large);
    assert_non_null(treasure);
    memset(large, 'x', LARGEST);
    memset(treasure, '$', LARGEST);
    for (uint64_t seed = 1; seed <= (getenv("WALKS") ? (unsigned)atoi(getenv("WALKS")) : walks);
         seed++) {
        print_message("seed %u\n", (unsigned)seed);
        walk(seed);
    }
    free(large);
    free(treasure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_all_comes_to_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
