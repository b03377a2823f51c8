/* SPDX-License-Identifier: Apache-2.0 */
/* The etcd of a storm. */
#include "storm.h"

/* --- etcd ------------------------------------------------------------------------------------ */

static enum storm_kind kind_of(const struct rec *s)
{
    if (strstr(s->headers, PUT) != NULL)
        return K_PUT;
    if (strstr(s->headers, WATCH) != NULL)
        return K_WATCH;
    if (strstr(s->headers, SNAPSHOT) != NULL)
        return K_SNAPSHOT;
    return memmem(s->body, s->body_len, "/registry0", 10) != NULL ? K_LIST : K_RANGE;
}

/* Those that are new. */
void storm_etcd_listens(void)
{
    for (size_t i = 0; i < r.etcd_count; i++) {
        LIST_FOREACH(it, &r.etcds[i]->recs) {
            struct rec *s = LIST_ENTRY(it, struct rec, node);
            size_t k = 0;

            while (k < storm_etcd_count && storm_etcd_jobs[k].rec != s)
                k++;
            if (k < storm_etcd_count || storm_etcd_count == STORM_JOBS)
                continue;
            s->is_hungry = !storm_one_in(8);
            storm_etcd_jobs[storm_etcd_count++] = (struct storm_job){.rec = s};
        }
    }
}

static struct buf value_of(const char *key)
{
    size_t n = storm_any_size();
    struct buf sealed = rig_seal(&r, storm_any(6), key, storm_filler, n);

    if (storm_one_in(12))
        sealed.p[sealed.n - 1 - storm_any(20)] ^= 1;
    return sealed;
}

static struct buf list_answer(void)
{
    struct buf m = put_response();

    for (unsigned i = storm_any(6) + 1; i > 0; i--) {
        const char *key = storm_one_in(2) ? SECRET_KEY : LOCAL_KEY;
        struct buf sealed = value_of(key);

        add_kv(&m, 2, key, sealed.p, sealed.n);
        buf_free(&sealed);
    }
    buf_varint(&m, 4, 6);
    return m;
}

static struct buf answer_of(struct storm_job *j)
{
    struct buf m = {0}, sealed;

    switch (j->kind) {
    case K_PUT:
        return put_response();
    case K_LIST:
        return list_answer();
    case K_WATCH:
        if (j->watches == 0 || storm_one_in(6))
            return watch_created(j->watches++);
        sealed = value_of(SECRET_KEY);
        m = watch_event(storm_any(j->watches), SECRET_KEY, &sealed);
        buf_free(&sealed);
        return m;
    case K_SNAPSHOT:
        buf_add(&m, storm_filler, storm_any_size());
        return m;
    case K_RANGE:
    case K_COUNT:
        break;
    }
    sealed = value_of(SECRET_KEY);
    m = range_response(SECRET_KEY, &sealed);
    buf_free(&sealed);
    return m;
}

static void trailers(struct storm_job *j, const char *status)
{
    struct h2_field f[] = {{BYTES_LIT("grpc-status"), bytes_str(status)}};

    j->has_ended = true;
    (void)!h2_stream_trailers(j->rec->s, (struct h2_fields){f, 1});
}

static void respond(struct storm_job *j)
{
    j->has_responded = true;
    j->kind = kind_of(j->rec);
    (void)!h2_respond(j->rec->s, kit_response, false);
}

static bool is_asked(const struct storm_job *j)
{
    return j->rec->end_count + j->rec->trailers_count > 0 || strstr(j->rec->headers, WATCH) != NULL;
}

void storm_etcd_goes_on(struct storm_job *j)
{
    struct buf m;

    if (storm_one_in(10)) {
        storm_reset(j);
    } else if (storm_one_in(8)) {
        storm_read_on(j);
    } else if (j->has_ended || !is_asked(j)) {
        return;
    } else if (!j->has_responded) {
        if (storm_one_in(8)) {
            j->has_responded = j->has_ended = true;
            (void)!h2_respond(j->rec->s, kit_trailers_only, true);
            return;
        }
        respond(j);
    } else if (j->out.n > 0 && !storm_one_in(20)) {
        storm_send_some(j, storm_one_in(50));
    } else if (storm_one_in(4) || (j->messages > 0 && j->kind <= K_LIST)) {
        trailers(j, storm_one_in(6) ? "14" : "0");
    } else if (j->out.n == 0) {
        m = answer_of(j);
        storm_queue(j, &m);
        storm_send_some(j, false);
    }
}

static uint32_t last_ids[RIG_ETCDS]; /* of the GOAWAYs of each connection */

static uint32_t *last_id_of(const struct end *e)
{
    size_t i = 0;

    while (r.etcds[i] != e)
        i++;
    return &last_ids[i];
}

static void etcd_goaway(struct end *e)
{
    uint32_t last = storm_one_in(3) ? end_peer_id(e) : storm_any(end_peer_id(e) + 2);

    if (storm_one_in(3)) {
        h2_conn_shutdown(e->c);
        return;
    }
    if (last < *last_id_of(e))
        *last_id_of(e) = last;
    end_goaway(e, *last_id_of(e));
}

void storm_etcd_changes(void)
{
    struct end *e = r.etcd_count == 0 ? NULL : r.etcds[storm_any((uint32_t)r.etcd_count)];

    if (r.etcd_count + r.silent_count >= STORM_KEEP) {
        r.how = ETCD_SPEAKS;
        return;
    }
    switch (storm_any(6)) {
    case 0:
        if (e != NULL && e->c != NULL && e->lost_count == 0)
            h2_conn_close(e->c, H2_INTERNAL_ERROR, storm_one_in(2) ? 0 : 500);
        return;
    case 1:
    case 2:
        if (e != NULL && e->c != NULL && e->lost_count == 0)
            etcd_goaway(e);
        return;
    case 3:
        if (e != NULL && e->c != NULL && e->lost_count == 0)
            end_settings(e, 1 + storm_any(20), 1000 + storm_any(200000));
        return;
    case 4:
        if (r.servers[0].listener != NULL)
            rig_etcd_away(&r);
        else
            rig_etcd_back(&r);
        return;
    default:
        r.how = storm_one_in(2) ? ETCD_SPEAKS : (enum rig_etcd_how)storm_any(ETCD_LEAVES + 1);
        return;
    }
}

void storm_etcd_answers(void)
{
    struct buf m;

    storm_etcd_listens();
    for (size_t i = 0; i < storm_etcd_count; i++) {
        struct storm_job *j = &storm_etcd_jobs[i];

        if (!storm_is_open(j))
            continue;
        storm_read_on(j);
        if (j->has_ended || !is_asked(j))
            continue;
        if (!j->has_responded)
            respond(j);
        if (j->out.n > 0)
            storm_send(j, j->out.n - j->at, false);
        if (j->kind == K_WATCH)
            continue;
        if (j->messages == 0) {
            m = answer_of(j);
            storm_queue(j, &m);
            storm_send(j, j->out.n, false);
        }
        trailers(j, "0");
    }
}

static void event_on(struct storm_job *j)
{
    struct buf sealed, m;

    if (!storm_is_open(j) || !j->has_responded || j->has_ended || j->kind != K_WATCH ||
        j->watches == 0)
        return;
    sealed = rig_seal(&r, 1, SECRET_KEY, storm_filler, 100000);
    m = watch_event(storm_any(j->watches), SECRET_KEY, &sealed);
    storm_queue(j, &m);
    storm_send(j, j->out.n, false);
    buf_free(&sealed);
}

void storm_etcd_tells(void)
{
    for (size_t i = 0; i < storm_etcd_count; i++)
        event_on(&storm_etcd_jobs[i]);
}

void storm_etcd_check(void)
{
    for (size_t i = 0; i < storm_etcd_count; i++) {
        struct rec *s = storm_etcd_jobs[i].rec;

        if (s->s != NULL && rec_id(s) <= *last_id_of(s->end) && h2_stream_queued(s->s) > 0)
            fail_msg("%zu bytes of etcd's call %zu do not get through", h2_stream_queued(s->s), i);
    }
}

void storm_etcd_init(void)
{
    storm_etcd_count = 0;
    memset(last_ids, 0xff, sizeof last_ids);
}
