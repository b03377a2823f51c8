/* SPDX-License-Identifier: Apache-2.0 */
/* The table of streams, their states, and every frame type in every state. */
#include "h2/h2_int.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "duo.h"

/* --- states --- */

enum { NO = 0 };

/* RFC 9113 section 5.1, without reserved states. */
static const uint8_t legal[][4] = {
    [H2__IDLE] = {H2__BOTH, NO, NO, H2__CLOSED},
    [H2__BOTH] = {NO, H2__LOCAL_OVER, H2__REMOTE_OVER, H2__CLOSED},
    [H2__LOCAL_OVER] = {NO, NO, H2__CLOSED, H2__CLOSED},
    [H2__REMOTE_OVER] = {NO, H2__CLOSED, NO, H2__CLOSED},
    [H2__CLOSED] = {NO, NO, NO, H2__CLOSED},
};

/* In a process of its own: does the event abort? */
static bool is_refused(enum h2__stream_state from, enum h2__stream_event event)
{
    struct h2_stream s = {.state = from};
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        h2__stream_event(&s, event);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_every_state_and_event(void **state)
{
    (void)state;
    for (unsigned from = H2__IDLE; from <= H2__CLOSED; from++) {
        for (unsigned event = H2__OPENED; event <= H2__RESET; event++) {
            struct h2_stream s = {.state = (enum h2__stream_state)from};

            if (legal[from][event] == NO) {
                assert_true(is_refused(s.state, (enum h2__stream_event)event));
                continue;
            }
            h2__stream_event(&s, (enum h2__stream_event)event);
            assert_int_equal(s.state, legal[from][event]);
        }
    }
}

/* --- the table --- */

static void no_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    (void)code;
    (void)how;
    ++*(unsigned *)h2_stream_user(s);
}

static const struct h2_stream_ops quiet_ops = {.on_close = no_close};
static const struct h2_conn_ops quiet_conn = {0};

static void bare_init(struct h2_conn *c, struct slab_pool *pool)
{
    slab_pool_init(pool, 4);
    *c = (struct h2_conn){
        .pool = pool, .ops = &quiet_conn, .opts = kit_server_opts, .peer_window = 65535};
    list_init(&c->streams);
}

/* Ids come and go at random; a look-up finds what is there and nothing else. */
static void test_table(void **state)
{
    enum { IDS = 3000, STEPS = 30000 };
    static struct h2_stream *there[IDS];
    struct slab_pool pool;
    struct h2_conn c;
    unsigned seed = 1, closed = 0, opened = 0;
    size_t count = 0;

    (void)state;
    bare_init(&c, &pool);
    memset(there, 0, sizeof there);
    for (unsigned i = 0; i < STEPS; i++) {
        uint32_t at, id;

        seed = seed * 1103515245u + 12345u;
        at = (seed >> 8) % IDS;
        id = 2 * at + 1;
        assert_ptr_equal(h2__stream_of(&c, id), there[at]);
        if (there[at] != NULL) {
            h2__stream_finish(there[at], H2_CANCEL, H2_END_RESET);
            there[at] = NULL;
            count--;
        } else {
            there[at] = h2__stream_new(&c, id);
            assert_non_null(there[at]);
            h2_stream_set_owner(there[at], &quiet_ops, &closed);
            count++;
            opened++;
        }
        assert_int_equal(c.table.count, count);
        assert_int_equal(h2_conn_stream_count(&c), count);
    }
    while (!list_is_empty(&c.streams))
        h2__stream_finish(LIST_FIRST(&c.streams, struct h2_stream, node), H2_CANCEL, H2_END_RESET);
    assert_int_equal(closed, opened);
    h2__streams_fini(&c);
    assert_int_equal(pool.objects.live, 0);
    slab_pool_fini(&pool);
}

static size_t longest_chain(const struct h2__streams *t)
{
    size_t longest = 0;

    for (size_t i = 0; i < t->slot_count; i++) {
        size_t n = 0;

        for (const struct h2_stream *s = t->slot[i]; s != NULL; s = s->next)
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* The peer chooses the ids. Whatever it leaves out between them, no look-up takes long. */
static void test_chosen_ids(void **state)
{
    enum { STREAMS = 4096 };

    (void)state;
    for (uint32_t step = 2; step <= (1u << 19); step *= 2) {
        struct slab_pool pool;
        struct h2_conn c;
        unsigned closed = 0;

        bare_init(&c, &pool);
        h2__streams_init(&c);
        for (uint32_t i = 0; i < STREAMS; i++)
            h2_stream_set_owner(h2__stream_new(&c, i * step + 1), &quiet_ops, &closed);
        assert_in_range(longest_chain(&c.table), 1, 40);
        while (!list_is_empty(&c.streams))
            h2__stream_finish(LIST_FIRST(&c.streams, struct h2_stream, node), H2_CANCEL,
                              H2_END_RESET);
        h2__streams_fini(&c);
        slab_pool_fini(&pool);
    }
}

/* The last 64 are remembered, and of an id the newest word. */
static void test_closed_ids(void **state)
{
    struct slab_pool pool;
    struct h2_conn c;
    struct h2_stream *s;

    (void)state;
    bare_init(&c, &pool);
    c.peer_id = 2001;
    for (uint32_t i = 0; i < 1000; i++) {
        h2__closed_note(&c, 2 * i + 1, i % 2 ? H2__PLACE_DROPPED : H2__PLACE_FINISHED);
        for (uint32_t k = 0; k < 80 && k <= i; k++) {
            enum h2__place wanted = (i - k) % 2 ? H2__PLACE_DROPPED : H2__PLACE_FINISHED;

            assert_int_equal(h2__place_of(&c, 2 * (i - k) + 1, &s),
                             k < 64 ? wanted : H2__PLACE_FORGOTTEN);
        }
    }
    h2__closed_note(&c, 1999, H2__PLACE_CANCELLED);
    assert_int_equal(h2__place_of(&c, 1999, &s), H2__PLACE_CANCELLED);
    assert_int_equal(h2__place_of(&c, 2003, &s), H2__PLACE_IDLE);
    assert_int_equal(h2__place_of(&c, 2, &s), H2__PLACE_IDLE);
    slab_pool_fini(&pool);
}

/* What H2_STREAM_COST says of an idle stream is true. */
static void test_cost(void **state)
{
    enum { STREAMS = 4096 };
    struct slab_pool pool;
    struct h2_conn c;
    unsigned closed = 0;
    size_t bytes;

    (void)state;
    bare_init(&c, &pool);
    for (uint32_t i = 0; i < STREAMS; i++)
        h2_stream_set_owner(h2__stream_new(&c, 2 * i + 1), &quiet_ops, &closed);
    bytes = pool.objects.chunk_count * 64 * 1024 + c.table.slot_count * sizeof(void *);
    if (pool.objects.chunk_count > 0) /* under a sanitizer objects come from malloc */
        assert_in_range(bytes / STREAMS, H2_STREAM_COST * 3 / 4, H2_STREAM_COST);
    while (!list_is_empty(&c.streams))
        h2__stream_finish(LIST_FIRST(&c.streams, struct h2_stream, node), H2_CANCEL, H2_END_RESET);
    h2__streams_fini(&c);
    slab_pool_fini(&pool);
}

/* --- every frame type in every state, on the wire --- */

enum { DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT, UNKNOWN, TYPES };

struct situation {
    const char *name;
    uint32_t (*enter)(struct duo *d); /* returns the id that the frame is to name */
    const char *wanted[TYPES];        /* "+" in front: the stream's owner hears of it */
};

#define NOT_HERE "goaway 1" /* PROTOCOL_ERROR */

static void reset_newest(struct duo *d)
{
    KIT_UNTIL(&d->k, d->e.recs_count == 1);
    h2_stream_reset(d->e.last->s, H2_CANCEL);
    (void)raw_await(&d->raw, F_RST);
}

static uint32_t server_idle(struct duo *d)
{
    duo_open(d, 1, FLAG_END_STREAM);
    return 7;
}

static uint32_t server_receiving(struct duo *d)
{
    duo_open(d, 1, 0);
    return 1;
}

static uint32_t server_ended(struct duo *d)
{
    duo_open(d, 1, FLAG_END_STREAM);
    return 1;
}

static uint32_t server_dropped(struct duo *d)
{
    duo_open(d, 1, 0);
    reset_newest(d);
    return 1;
}

static uint32_t server_cancelled(struct duo *d)
{
    duo_open(d, 1, 0);
    assert_true(raw_frame(&d->raw, F_RST, 0, 1, "\0\0\0\x08", 4));
    return 1;
}

static uint32_t server_finished(struct duo *d)
{
    duo_open(d, 1, FLAG_END_STREAM);
    KIT_UNTIL(&d->k, d->e.recs_count == 1);
    rec_answer(d->e.last, 10);
    KIT_UNTIL(&d->k, d->e.last->close_count == 1);
    return 1;
}

static uint32_t server_forgotten(struct duo *d)
{
    duo_open(d, 9, FLAG_END_STREAM);
    return 3;
}

static const struct situation server_situations[] = {
    {"idle",
     server_idle,
     {NOT_HERE, "+alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE,
      NOT_HERE, "alive"}},
    {"receiving",
     server_receiving,
     {"+alive", "+alive", "alive", "+alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"ended",
     server_ended,
     {"+rst 5", "+rst 5", "alive", "+alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"dropped",
     server_dropped,
     {"alive", "alive", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive", NOT_HERE,
      "alive"}},
    {"cancelled",
     server_cancelled,
     {"rst 5", "rst 5", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive", NOT_HERE,
      "alive"}},
    {"finished",
     server_finished,
     {"goaway 5", "goaway 5", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"forgotten",
     server_forgotten,
     {"alive", NOT_HERE, "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
};

static void request(struct duo *d, bool last)
{
    (void)end_request(&d->e, kit_request, last);
    (void)raw_await(&d->raw, F_HEADERS);
}

static uint32_t client_idle(struct duo *d)
{
    request(d, true);
    return 7;
}

static uint32_t client_unanswered(struct duo *d)
{
    request(d, true);
    return 1;
}

static uint32_t client_receiving(struct duo *d)
{
    request(d, false);
    duo_answer(d, 1, 0);
    KIT_UNTIL(&d->k, d->e.last->headers_count == 1);
    return 1;
}

static uint32_t client_ended(struct duo *d)
{
    request(d, false);
    duo_answer(d, 1, FLAG_END_STREAM);
    KIT_UNTIL(&d->k, d->e.last->headers_count == 1);
    return 1;
}

static uint32_t client_dropped(struct duo *d)
{
    request(d, true);
    reset_newest(d);
    return 1;
}

static uint32_t client_cancelled(struct duo *d)
{
    request(d, true);
    assert_true(raw_frame(&d->raw, F_RST, 0, 1, "\0\0\0\x02", 4));
    return 1;
}

static uint32_t client_finished(struct duo *d)
{
    request(d, true);
    duo_answer(d, 1, FLAG_END_STREAM);
    return 1;
}

static uint32_t client_forgotten(struct duo *d)
{
    for (int i = 0; i < 70; i++) {
        request(d, true);
        h2_stream_reset(d->e.last->s, H2_CANCEL);
        (void)raw_await(&d->raw, F_RST);
    }
    return 1;
}

static const struct situation client_situations[] = {
    {"idle",
     client_idle,
     {NOT_HERE, NOT_HERE, "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE,
      NOT_HERE, "alive"}},
    {"unanswered",
     client_unanswered,
     {"+rst 1", "+alive", "alive", "+alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"receiving",
     client_receiving,
     {"+alive", "+rst 1", "alive", "+alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"ended",
     client_ended,
     {"+rst 5", "+rst 5", "alive", "+alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"dropped",
     client_dropped,
     {"alive", "alive", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive", NOT_HERE,
      "alive"}},
    {"cancelled",
     client_cancelled,
     {"rst 5", "rst 5", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive", NOT_HERE,
      "alive"}},
    {"finished",
     client_finished,
     {"goaway 5", "goaway 5", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive",
      NOT_HERE, "alive"}},
    {"forgotten",
     client_forgotten,
     {"alive", "alive", "alive", "alive", NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, "alive", NOT_HERE,
      "alive"}},
};

static void send_type(struct duo *d, unsigned type, uint32_t id, bool is_server)
{
    static const struct {
        uint8_t flags;
        const char *payload;
        size_t len;
    } frames[TYPES] = {
        [DATA] = {FLAG_END_STREAM, "x", 1},
        [PRIORITY] = {0, "\0\0\0\0\5", 5},
        [RST] = {0, "\0\0\0\x08", 4},
        [SETTINGS] = {0, "", 0},
        [PUSH] = {4, "\0\0\0\2\x82", 5},
        [PING] = {0, "01234567", 8},
        [GOAWAY] = {0, "\0\0\0\0\0\0\0", 8},
        [WINDOW] = {0, "\0\0\0\1", 4},
        [CONT] = {4, "\x82", 1},
        [UNKNOWN] = {0xff, "?", 1},
    };
    uint8_t block[200];

    if (type == HEADERS && is_server && id == 7)
        duo_open(d, id, FLAG_END_STREAM);
    else if (type == HEADERS)
        assert_true(raw_frame(&d->raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, id, block,
                              raw_put_field(block, is_server ? "x" : ":status", "200")));
    else
        assert_true(raw_frame(&d->raw, type == UNKNOWN ? 0x77 : (uint8_t)type, frames[type].flags,
                              id, frames[type].payload, frames[type].len));
}

/* What the owners have heard so far. */
static size_t heard(const struct duo *d)
{
    size_t n = d->e.recs_count;

    LIST_FOREACH(it, &d->e.recs) {
        const struct rec *r = LIST_ENTRY(it, struct rec, node);

        n += r->body_len + r->headers_count + r->end_count + r->trailers_count + r->close_count;
    }
    return n;
}

static void run_situation(const struct situation *s, bool is_server)
{
    for (unsigned type = 0; type < TYPES; type++) {
        struct duo d;
        char seen[40] = "", text[30];
        size_t before;
        uint32_t id;

        if (is_server)
            duo_server(&d, NULL);
        else
            duo_client(&d, NULL);
        id = s->enter(&d);
        duo_outcome(&d, id, text, sizeof text);
        assert_string_equal(text, "alive");
        before = heard(&d);
        send_type(&d, type, id, is_server);
        duo_outcome(&d, id, text, sizeof text);
        if (strncmp(text, "goaway", 6) != 0 && heard(&d) != before)
            seen[0] = '+';
        (void)snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s", text);
        if (strcmp(seen, s->wanted[type]) != 0)
            fail_msg("%s, %s, type %u: %s, not %s", is_server ? "server" : "client", s->name, type,
                     seen, s->wanted[type]);
        duo_stop(&d);
    }
}

static void test_every_type_in_every_state(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(server_situations); i++)
        run_situation(&server_situations[i], true);
    for (size_t i = 0; i < ARRAY_LEN(client_situations); i++)
        run_situation(&client_situations[i], false);
}

/* A frame that is ignored still counts where it has to: more DATA than the connection's window goes
 * to a stream that was reset, and the table of HPACK stays in step. */
static void test_ignored_frames_count(void **state)
{
    static const uint8_t payload[16384];
    struct duo d;
    uint8_t block[200];
    size_t n;
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    (void)server_dropped(&d);
    for (size_t i = 0; i < 3 * LIMIT_CONN_WINDOW / sizeof payload; i++) {
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, payload, sizeof payload));
        kit_turn(&d.k);
        raw_read(&d.raw);
    }
    n = raw_put_field(block, "x-new", "in the table");
    block[0] = 0x40; /* with incremental indexing (RFC 7541 section 6.2.1) */
    assert_true(raw_frame(&d.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block, n));
    n = raw_put_request(block);
    block[n++] = 0x80 | 62; /* the newest entry */
    assert_true(raw_frame(&d.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 3, block, n));
    duo_outcome(&d, 3, text, sizeof text);
    assert_string_equal(text, "alive");
    assert_non_null(strstr(d.e.last->headers, "x-new: in the table\n"));
    duo_stop(&d);
}

/* A stream that was made to end goes on being ignored, however often its peer says something. */
static void test_late_frames_are_answered_once(void **state)
{
    struct duo d;
    unsigned resets = 0;
    struct raw_frame f;
    char text[30];

    (void)state;
    duo_server(&d, NULL);
    (void)server_cancelled(&d);
    d.raw.at = d.raw.in_len;
    for (int i = 0; i < 500; i++)
        assert_true(raw_frame(&d.raw, F_DATA, 0, 1, "x", 1));
    duo_outcome(&d, 99, text, sizeof text);
    d.raw.at = 0;
    while (raw_next(&d.raw, &f))
        resets += f.type == F_RST;
    assert_int_equal(resets, 1);
    assert_string_equal(text, "alive");
    duo_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_chosen_ids),
        cmocka_unit_test(test_closed_ids),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_every_type_in_every_state),
        cmocka_unit_test(test_ignored_frames_count),
        cmocka_unit_test(test_late_frames_are_answered_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
