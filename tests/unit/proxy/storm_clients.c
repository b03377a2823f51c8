/* SPDX-License-Identifier: Apache-2.0 */
/* Chance, and the clients of a storm. */
#include "storm.h"

struct rig r;
char *storm_filler;

/* --- chance ---------------------------------------------------------------------------------- */

uint64_t storm_seed;

uint32_t storm_any(uint32_t n)
{
    storm_seed = storm_seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((storm_seed >> 33) % n);
}

bool storm_one_in(uint32_t n)
{
    return storm_any(n) == 0;
}

size_t storm_any_size(void)
{
    static const uint32_t most[] = {20, 300, 5000, 70000, 300000, 1500000};

    return 5 + storm_any(most[storm_any(ARRAY_LEN(most))]);
}

/* --- calls, of both sides -------------------------------------------------------------------- */

struct storm_job storm_client_jobs[STORM_JOBS], storm_etcd_jobs[STORM_JOBS];
size_t storm_client_count, storm_etcd_count;

bool storm_is_open(const struct storm_job *j)
{
    return j->rec->s != NULL;
}

struct storm_job *storm_any_open(struct storm_job *jobs, size_t count)
{
    size_t from = count == 0 ? 0 : storm_any((uint32_t)count);

    for (size_t i = 0; i < count; i++)
        if (storm_is_open(&jobs[(from + i) % count]))
            return &jobs[(from + i) % count];
    return NULL;
}

void storm_send(struct storm_job *j, size_t n, bool end)
{
    struct chain c = {0};

    if (n > 0) {
        struct slab *slab = slab_new(&r.outside.pool, n, 0);
        struct slice s = {slab, 0, (uint32_t)n};

        assert_non_null(slab);
        memcpy(slab->data, j->out.p + j->at, n);
        slab->fill = (uint32_t)n;
        assert_int_equal(chain_push(&c, &s), ERR_OK);
    }
    j->at += n;
    j->has_ended |= end;
    (void)!h2_stream_send(j->rec->s, &c, end);
    if (j->at == j->out.n) {
        buf_free(&j->out);
        j->out = (struct buf){0};
        j->at = 0;
    }
}

void storm_queue(struct storm_job *j, struct buf *m)
{
    j->out = rig_framed(m);
    j->at = 0;
    j->messages++;
}

void storm_send_some(struct storm_job *j, bool end)
{
    size_t left = j->out.n - j->at, n = storm_one_in(2) ? left : storm_any((uint32_t)left + 1);

    storm_send(j, n, end && n == left);
}

void storm_reset(struct storm_job *j)
{
    static const enum h2_code codes[] = {H2_NO_ERROR, H2_INTERNAL_ERROR, H2_REFUSED_STREAM,
                                         H2_CANCEL, H2_ENHANCE_YOUR_CALM};

    h2_stream_reset(j->rec->s, codes[storm_any(ARRAY_LEN(codes))]);
}

void storm_read_on(struct storm_job *j)
{
    j->rec->is_hungry = true;
    h2_stream_credit(j->rec->s, 1u << 30);
}

/* --- clients --------------------------------------------------------------------------------- */

void storm_connect(void)
{
    struct h2_opts opts = kit_client_opts;

    if (r.client_count >= STORM_KEEP)
        return;
    if (storm_one_in(3))
        opts.conn_window = 65535;
    if (storm_one_in(3))
        opts.stream_window = 1000 + storm_any(100000);
    (void)rig_connect(&r, &opts);
}

static struct end *any_client(void)
{
    for (unsigned i = 0; i < 4 && r.client_count > 0; i++) {
        struct end *e = r.clients[storm_any((uint32_t)r.client_count)];

        if (e->c != NULL && e->ready_count > 0 && h2_conn_can_request(e->c))
            return e;
    }
    return NULL;
}

static struct buf request_of(enum storm_kind kind)
{
    static unsigned number;
    struct buf m = {0};

    switch (kind) {
    case K_PUT:
        if (storm_one_in(4)) {
            (void)snprintf(storm_filler, 40, "anything, number %08x", ++number);
            return put_request(POD_KEY, storm_filler, storm_any_size());
        }
        (void)snprintf(storm_filler, 40, "treasure, number %08x", ++number);
        return put_request(storm_one_in(2) ? SECRET_KEY : LOCAL_KEY, storm_filler,
                           storm_any_size());
    case K_RANGE:
        return range_request(SECRET_KEY, NULL);
    case K_LIST:
        return range_request("/registry/", "/registry0");
    case K_WATCH:
        return watch_create("/registry/", "/registry0");
    case K_SNAPSHOT:
    case K_COUNT:
        break;
    }
    return m;
}

void storm_call(void)
{
    static const char *const paths[] = {PUT, RANGE, RANGE, WATCH, SNAPSHOT};
    struct end *e = any_client();
    struct storm_job *j = &storm_client_jobs[storm_client_count];
    struct buf m;

    if (e == NULL || storm_client_count == STORM_JOBS)
        return;
    storm_client_count++;
    *j = (struct storm_job){.kind = (enum storm_kind)storm_any(K_COUNT)};
    j->rec = rig_begin(e, paths[j->kind], NULL);
    j->rec->is_hungry = !storm_one_in(4);
    j->rec->is_forgetful = false;
    m = request_of(j->kind);
    storm_queue(j, &m);
    if (!storm_one_in(4))
        storm_send(j, j->out.n, j->kind != K_WATCH);
}

void storm_client_goes_on(struct storm_job *j)
{
    struct buf m;

    if (storm_one_in(12)) {
        storm_reset(j);
    } else if (storm_one_in(6)) {
        storm_read_on(j);
    } else if (j->out.n > 0) {
        storm_send_some(j, j->kind != K_WATCH);
    } else if (j->kind == K_WATCH && !j->has_ended) {
        if (storm_one_in(8)) {
            storm_send(j, 0, true);
            return;
        }
        m = request_of(K_WATCH);
        storm_queue(j, &m);
        storm_send_some(j, false);
    }
}

void storm_client_holds_window(void)
{
    struct end *e = any_client();

    if (e != NULL)
        end_hold_window(e, storm_one_in(2));
}

void storm_client_ends(void)
{
    struct end *e = any_client();

    if (e == NULL)
        return;
    if (storm_one_in(2)) { /* RFC 9113 section 6.8: it says so, and goes on */
        end_goaway(e, 0);
    } else {
        h2_conn_close(e->c, H2_NO_ERROR, storm_one_in(2) ? 0 : 1000);
    }
}

void storm_clients_behave(void)
{
    for (size_t i = 0; i < r.client_count; i++)
        if (r.clients[i]->c != NULL)
            end_hold_window(r.clients[i], false);
    for (size_t i = 0; i < storm_client_count; i++) {
        struct storm_job *j = &storm_client_jobs[i];

        if (!storm_is_open(j))
            continue;
        storm_read_on(j);
        if (j->out.n > 0)
            storm_send(j, j->out.n - j->at, j->kind != K_WATCH);
        if (j->kind == K_SNAPSHOT)
            h2_stream_reset(j->rec->s, H2_CANCEL);
    }
}

unsigned storm_open_calls(void)
{
    unsigned n = 0;

    for (size_t i = 0; i < storm_client_count; i++)
        n += storm_is_open(&storm_client_jobs[i]) && storm_client_jobs[i].kind != K_WATCH;
    return n;
}
