/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path of a connection:
 *   READING   the request comes in, at most 5 s
 *   ASKED     its route's function has it; reading stops
 *   ANSWERED  the answer is queued and the connection closes behind it
 * Failure modes:
 *  - too many connections: another one goes (find_oldest); too many requests that wait: 503;
 *  - a slow, silent or broken peer, a route that does not answer in time: closed;
 *  - not parseable: 400; no such route: 404; another method than GET or HEAD: 405;
 *  - the peer goes away while its route works: the struct admin_reply stays until the route has
 *    answered, for the route holds a pointer to it. */
#include "admin/admin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "net/conn.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"

enum reply_state { REPLY_DEAD = 0, REPLY_READING, REPLY_ASKED, REPLY_ANSWERED };

struct admin_reply {
    struct list node;
    struct admin *admin;
    enum reply_state state;
    struct net_conn *conn; /* NULL after its on_closed */
    char who[NET_WHO_MAX];
    bool is_counted; /* in conn_count */
    bool is_awaited; /* the route has yet to answer */
    bool is_head;
    struct http1_request_parser *parser;
    struct http1_request request;
    struct loop_timer timer;
};

struct admin_listener {
    struct list node;
    struct admin *admin;
    admin_tls_fn tls;
    struct net_listener *listener;
};

struct admin {
    struct loop *loop;
    const struct admin_route *routes;
    void *arg;
    struct slab_pool pool;
    struct list listeners;
    struct list replies;
    size_t reply_count;
    size_t conn_count;    /* of those that are not being closed at once */
    size_t waiting_count; /* of requests */
    bool is_closing;
    struct loop_task last; /* frees the admin, after admin_close */
};

static void set_state(struct admin_reply *r, enum reply_state next)
{
    CHECK(next == REPLY_DEAD || next > r->state);
    r->state = next;
}

static void free_if_over(struct admin *a)
{
    if (a->is_closing && a->reply_count == 0)
        loop_task_want(a->loop, &a->last);
}

static void on_last(struct loop_task *t)
{
    struct admin *a = CONTAINER_OF(t, struct admin, last);

    slab_pool_settle(&a->pool);
    slab_pool_fini(&a->pool);
    free(a);
}

static void reply_free_if_over(struct admin_reply *r)
{
    struct admin *a = r->admin;

    if (r->conn != NULL || r->is_awaited)
        return;
    list_remove(&r->node);
    loop_timer_fini(&r->timer);
    http1_request_parser_free(r->parser);
    free(r);
    a->reply_count--;
    free_if_over(a);
}

static void uncount(struct admin_reply *r)
{
    r->admin->conn_count -= r->is_counted;
    r->is_counted = false;
}

static void hang_up(struct admin_reply *r, uint64_t linger_ms)
{
    if (linger_ms == 0)
        uncount(r);
    loop_timer_stop(&r->timer);
    if (r->conn != NULL)
        net_conn_close(r->conn, linger_ms);
}

static void on_timer(struct loop_timer *t)
{
    hang_up(CONTAINER_OF(t, struct admin_reply, timer), 0);
}

/* --- answers --------------------------------------------------------------------------------- */

static void respond_fields(struct admin_reply *r, int status, const char *type, const char *fields,
                           struct bytes body)
{
    struct admin *a = r->admin;
    struct chain out = {0};
    enum err e;

    if (r->conn == NULL || r->state == REPLY_ANSWERED)
        return;
    set_state(r, REPLY_ANSWERED);
    e = http1_respond(&out, &a->pool, status, type, fields, body, r->is_head);
    if (e == ERR_OK)
        e = net_conn_write(r->conn, &out);
    chain_fini(&out);
    if (e == ERR_OK)
        net_conn_flush(r->conn);
    hang_up(r, e == ERR_OK ? ADMIN_READ_MS : 0);
}

static void respond(struct admin_reply *r, int status, const char *type, struct bytes body)
{
    respond_fields(r, status, type, "", body);
}

void admin_reply_send_fields(struct admin_reply *r, int status, const char *type,
                             const char *fields, struct bytes body)
{
    CHECK(r->is_awaited);
    respond_fields(r, status, type, fields, body);
    r->is_awaited = false;
    r->admin->waiting_count--;
    reply_free_if_over(r);
}

void admin_reply_send(struct admin_reply *r, int status, const char *type, struct bytes body)
{
    admin_reply_send_fields(r, status, type, "", body);
}

/* --- requests -------------------------------------------------------------------------------- */

static bool fits(const struct admin_route *route, const char *path)
{
    size_t n = strlen(route->path);

    if (n > 1 && route->path[n - 1] == '/')
        return strncmp(path, route->path, n) == 0;
    return strcmp(path, route->path) == 0;
}

static const struct admin_route *find_route(const struct admin *a, const char *path)
{
    for (const struct admin_route *route = a->routes; route->path != NULL; route++)
        if (fits(route, path))
            return route;
    return NULL;
}

static void take_request(struct admin_reply *r)
{
    struct admin *a = r->admin;
    const struct admin_route *route = find_route(a, r->request.path);

    set_state(r, REPLY_ASKED);
    r->is_head = strcmp(r->request.method, "HEAD") == 0;
    if (!r->is_head && strcmp(r->request.method, "GET") != 0) {
        respond(r, 405, TEXT_PLAIN, BYTES_LIT("405 method not allowed\n"));
        return;
    }
    if (route == NULL) {
        respond(r, 404, TEXT_PLAIN, BYTES_LIT("404 page not found\n"));
        return;
    }
    if (route->may_wait && a->waiting_count >= ADMIN_WAITING_MAX) {
        respond(r, 503, TEXT_PLAIN, BYTES_LIT("503 too many requests wait\n"));
        return;
    }
    if (loop_timer_start(a->loop, &r->timer, ADMIN_ANSWER_MS) != ERR_OK) {
        hang_up(r, 0);
        return;
    }
    r->is_awaited = true;
    a->waiting_count++;
    route->fn(a->arg, r, &r->request);
}

static void feed(struct admin_reply *r, struct bytes in)
{
    switch (http1_request_feed(r->parser, in, &r->request)) {
    case HTTP1_MORE:
        return;
    case HTTP1_DONE:
        if (!r->request.has_body && !r->request.wants_upgrade) {
            take_request(r);
            return;
        }
        break;
    case HTTP1_BAD:
        break;
    }
    respond(r, 400, TEXT_PLAIN, BYTES_LIT("400 bad request\n"));
}

static void on_read(struct net_conn *c, struct slice *s)
{
    struct admin_reply *r = net_conn_user(c);
    struct slice in = *s;

    *s = SLICE_EMPTY;
    if (r->state == REPLY_READING)
        feed(r, slice_bytes(in));
    slice_drop(&in);
}

static void on_eof(struct net_conn *c, enum err why)
{
    struct admin_reply *r = net_conn_user(c);

    /* A client may end its side behind the request and still wait for the answer. */
    if (why != ERR_CLOSED || r->state == REPLY_READING)
        hang_up(r, 0);
}

static void on_closed(struct net_conn *c)
{
    struct admin_reply *r = net_conn_user(c);

    r->conn = NULL;
    uncount(r);
    set_state(r, REPLY_DEAD);
    loop_timer_stop(&r->timer);
    reply_free_if_over(r);
}

static const struct net_conn_ops ops = {
    .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

/* --- too many -------------------------------------------------------------------------------- */

static size_t count_of(const struct admin *a, const char *who)
{
    size_t n = 0;

    LIST_FOREACH(it, &a->replies) {
        const struct admin_reply *r = LIST_ENTRY(it, struct admin_reply, node);

        n += r->is_counted && strcmp(r->who, who) == 0;
    }
    return n;
}

/* Of the address that has most. The request of one that is being worked on counts for more than
 * how long it has been here. NULL: there are only such. */
static struct admin_reply *find_oldest(const struct admin *a)
{
    struct admin_reply *found = NULL;
    size_t most = 0;

    LIST_FOREACH(it, &a->replies) { /* in the order of their coming */
        struct admin_reply *r = LIST_ENTRY(it, struct admin_reply, node);
        size_t n = !r->is_counted || r->state == REPLY_ASKED ? 0 : count_of(a, r->who);

        if (n > most) {
            found = r;
            most = n;
        }
    }
    return found;
}

static bool make_room(struct admin *a)
{
    struct admin_reply *oldest;

    if (a->conn_count < ADMIN_CONNS_MAX)
        return true;
    oldest = find_oldest(a);
    if (oldest != NULL)
        hang_up(oldest, 0);
    return oldest != NULL;
}

/* --- listeners ------------------------------------------------------------------------------- */

static struct admin_reply *reply_new(struct admin *a)
{
    struct admin_reply *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->admin = a;
    r->state = REPLY_READING;
    loop_timer_init(&r->timer, on_timer);
    if (http1_request_parser_new(&r->parser) != ERR_OK) {
        free(r);
        return NULL;
    }
    if (loop_timer_start(a->loop, &r->timer, ADMIN_READ_MS) != ERR_OK) {
        http1_request_parser_free(r->parser);
        free(r);
        return NULL;
    }
    r->is_counted = true;
    a->conn_count++;
    a->reply_count++;
    list_push(&a->replies, &r->node);
    return r;
}

static void on_accept(void *arg, int fd)
{
    struct admin_listener *l = arg;
    struct admin *a = l->admin;
    struct net_tls *tls = l->tls == NULL ? NULL : l->tls(a->arg);
    struct admin_reply *r = NULL;

    if ((l->tls == NULL || tls != NULL) && make_room(a))
        r = reply_new(a);
    if (r == NULL) {
        close(fd);
        return;
    }
    net_who(fd, r->who);
    if (net_conn_accept(a->loop, &a->pool, 0, fd, tls, &ops, r, &r->conn) != ERR_OK) {
        r->conn = NULL;
        uncount(r);
        reply_free_if_over(r);
    }
}

enum err admin_new(struct loop *loop, const struct admin_route *routes, void *arg,
                   struct admin **out)
{
    struct admin *a = calloc(1, sizeof *a);

    if (a == NULL)
        return ERR_NOMEM;
    a->loop = loop;
    a->routes = routes;
    a->arg = arg;
    slab_pool_init(&a->pool, 4);
    list_init(&a->listeners);
    list_init(&a->replies);
    loop_task_init(&a->last, on_last);
    *out = a;
    return ERR_OK;
}

enum err admin_listen(struct admin *a, const struct net_url *url, admin_tls_fn tls, char *why,
                      size_t why_len)
{
    struct admin_listener *l = calloc(1, sizeof *l);
    enum err e;

    if (l == NULL)
        return ERR_NOMEM;
    l->admin = a;
    l->tls = tls;
    e = net_listen(a->loop, url, on_accept, l, &l->listener, why, why_len);
    if (e != ERR_OK) {
        free(l);
        return e;
    }
    list_push(&a->listeners, &l->node);
    return ERR_OK;
}

uint16_t admin_port(const struct admin *a, size_t i)
{
    LIST_FOREACH(it, &a->listeners) {
        if (i-- == 0)
            return net_listener_port(LIST_ENTRY(it, struct admin_listener, node)->listener);
    }
    return 0;
}

void admin_close(struct admin *a)
{
    a->is_closing = true;
    while (!list_is_empty(&a->listeners)) {
        struct admin_listener *l = LIST_FIRST(&a->listeners, struct admin_listener, node);

        list_remove(&l->node);
        net_listener_close(l->listener);
        free(l);
    }
    LIST_FOREACH(it, &a->replies) {
        hang_up(LIST_ENTRY(it, struct admin_reply, node), 0);
    }
    free_if_over(a);
}
