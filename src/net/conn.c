/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection (enum net__state has the states, conn_set_state the legal steps):
 *   1. accepted: handshake from the loop's next turn on; dialled: dial.c first;
 *   2. on_open, then on_read with slices of one slab that is filled up read by read; what the owner
 *      queued leaves at net_conn_flush, the rest when poll says writable;
 *   3. the peer ends: on_eof. We end: net_conn_close, at once or after a linger, which writes the
 *      queue, shuts our side down and discards what still comes, because closing a socket with
 *      unread bytes sends RST and that destroys what the peer has not read yet (RFC 1122
 *      section 4.2.2.13);
 *   4. the descriptor is closed at once, on_closed comes from a task, then the memory is freed.
 *
 * conn_io.c moves the bytes.
 *
 * Failure modes:
 *  - a write fails: what the peer sent before is read first, then on_eof comes;
 *  - a failure before on_open: on_eof, too;
 *  - memory runs out in the middle of a write: the connection fails, for a stream with a hole must
 *    not go on. */
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net_int.h"

static void conn_set_state(struct net_conn *c, enum net__state to)
{
    static const uint8_t allowed[] = {
        [NET__DEAD] = 1u << NET__CLOSED,
        [NET__DIALLING] = 1u << NET__HANDSHAKE | 1u << NET__DEAD | 1u << NET__CLOSED,
        [NET__HANDSHAKE] = 1u << NET__OPEN | 1u << NET__DEAD | 1u << NET__CLOSED,
        [NET__OPEN] = 1u << NET__LINGER | 1u << NET__CLOSED,
        [NET__LINGER] = 1u << NET__DRAIN | 1u << NET__CLOSED,
        [NET__DRAIN] = 1u << NET__CLOSED,
        [NET__CLOSED] = 0,
    };

    CHECK((allowed[c->state] >> to & 1) != 0);
    c->state = to;
}

void net__conn_set_fail(struct net_conn *c, enum err e, const char *fmt, ...)
{
    va_list args;

    c->fail = e;
    va_start(args, fmt);
    (void)vsnprintf(c->why, sizeof c->why, fmt, args);
    va_end(args);
}

/* --- the descriptor and its events --- */

static void on_poll(uv_poll_t *handle, int status, int events);

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

enum err net__conn_attach(struct net_conn *c, int fd)
{
    uv_poll_t *poll = malloc(sizeof *poll);

    if (poll == NULL || uv_poll_init(&c->loop->uv, poll, fd) != 0) {
        free(poll);
        close(fd);
        return ERR_NOMEM;
    }
    poll->data = c;
    c->poll = poll;
    c->fd = fd;
    c->events = 0;
    return ERR_OK;
}

void net__conn_detach(struct net_conn *c)
{
    if (c->poll == NULL)
        return;
    uv_close((uv_handle_t *)c->poll, on_poll_closed);
    close(c->fd);
    c->poll = NULL;
    c->fd = -1;
    c->events = 0;
}

/* Each change costs system calls, so only changes reach uv. */
void net__conn_watch(struct net_conn *c, int events)
{
    int status;

    if (c->poll == NULL || events == c->events)
        return;
    status = events == 0 ? uv_poll_stop(c->poll) : uv_poll_start(c->poll, events, on_poll);
    CHECK(status == 0); /* fails only for a closing handle or one that shares its descriptor */
    c->events = events;
}

bool net__conn_can_read(const struct net_conn *c)
{
    return c->state == NET__OPEN && c->is_reading && !c->is_eof;
}

void net__conn_update_events(struct net_conn *c)
{
    int events = c->is_blocked ? c->write_wants : 0;

    switch (c->state) {
    case NET__HANDSHAKE:
        events = c->read_wants;
        break;
    case NET__OPEN:
        if (net__conn_can_read(c))
            events |= c->read_wants;
        break;
    case NET__LINGER:
    case NET__DRAIN:
        if (!c->is_peer_done)
            events |= UV_READABLE;
        break;
    default:
        return;
    }
    net__conn_watch(c, events);
}

int net__conn_wants_of(enum net__io_result r)
{
    return r == NET__IO_WANT_WRITE ? UV_WRITABLE : UV_READABLE;
}

/* --- the end --- */

/* Everything but the object itself goes now; it goes with the task. */
static void conn_finish(struct net_conn *c)
{
    conn_set_state(c, NET__CLOSED);
    loop_timer_fini(&c->timer);
    net__dial_free(c);
    net__conn_detach(c);
    net__conn_free_tls(c);
    net_tls_drop(c->tls);
    c->tls = NULL;
    if (c->in != NULL)
        slab_drop(c->in);
    c->in = NULL;
    chain_fini(&c->out);
    chain_fini(&c->unread);
    loop_task_want(c->loop, &c->task);
}

void net__conn_give_eof(struct net_conn *c, enum err why)
{
    c->is_eof = true;
    if (c->in != NULL)
        slab_drop(c->in);
    c->in = NULL;
    chain_clear(&c->unread);
    if (why != ERR_CLOSED) { /* then nothing can be written either */
        c->is_blocked = false;
        chain_clear(&c->out);
    }
    net__conn_update_events(c);
    c->ops->on_eof(c, why);
}

void net__conn_dead(struct net_conn *c)
{
    if (c->fail == ERR_OK)
        net__conn_set_fail(c, ERR_TIMEOUT, "timed out");
    conn_set_state(c, NET__DEAD);
    loop_timer_stop(&c->timer);
    net__dial_free(c);
    net__conn_detach(c);
    net__conn_give_eof(c, c->fail);
}

/* --- opening --- */

static void conn_open(struct net_conn *c)
{
    conn_set_state(c, NET__OPEN);
    loop_timer_stop(&c->timer);
    c->read_wants = UV_READABLE;
    if (c->ops->on_open != NULL)
        c->ops->on_open(c);
    net_conn_flush(c);
    if (c->state != NET__OPEN)
        return;
    /* The last read of the handshake may have brought the first bytes. */
    if (net__conn_can_read(c) && net__conn_has_hidden_bytes(c))
        loop_task_want(c->loop, &c->task);
    net__conn_arm_trim(c);
    net__conn_update_events(c);
}

static void handshake_step(struct net_conn *c)
{
    enum net__io_result r = c->is_lost ? NET__IO_FAIL : c->io->handshake(c);

    if (r == NET__IO_OK) {
        conn_open(c);
    } else if (r == NET__IO_FAIL) {
        net__conn_dead(c);
    } else {
        c->read_wants = net__conn_wants_of(r);
        net__conn_update_events(c);
    }
}

void net__conn_connected(struct net_conn *c)
{
    if (!c->is_lost) { /* forget the addresses that were tried before */
        c->fail = ERR_OK;
        c->why[0] = '\0';
    }
    conn_set_state(c, NET__HANDSHAKE);
    if (c->ssl != NULL && SSL_set_fd(c->ssl, c->fd) != 1) {
        net__conn_set_fail(c, ERR_NOMEM, "out of memory");
        net__conn_dead(c);
        return;
    }
    handshake_step(c);
}

/* --- lingering --- */

/* Reads and forgets. Of a TLS connection, too, straight from the descriptor: nobody wants to know
 * any more what the records hold. */
static void discard_input(struct net_conn *c)
{
    uint8_t buf[16 * 1024];
    ssize_t n = 1;

    for (int i = 0; i < NET__READS_PER_TURN && n > 0; i++) {
        do {
            n = recv(c->fd, buf, sizeof buf, 0);
        } while (n < 0 && errno == EINTR);
    }
    if (n == 0)
        c->is_peer_done = true;
    else if (n < 0 && errno != EAGAIN)
        net__conn_set_fail(c, ERR_SYSTEM, "lost while closing");
}

static void linger_step(struct net_conn *c)
{
    enum net__io_result r;

    net_conn_flush(c);
    if (c->state == NET__LINGER && c->fail == ERR_OK && c->out.len == 0 && !c->is_blocked) {
        r = c->io->shutdown(c);
        if (r == NET__IO_WANT_READ || r == NET__IO_WANT_WRITE) {
            c->is_blocked = true;
            c->write_wants = net__conn_wants_of(r);
        } else {
            (void)shutdown(c->fd, SHUT_WR);
            conn_set_state(c, NET__DRAIN);
        }
    }
    if (c->state != NET__LINGER && c->state != NET__DRAIN)
        return;
    if (c->fail != ERR_OK || (c->state == NET__DRAIN && c->is_peer_done))
        conn_finish(c);
    else
        net__conn_update_events(c);
}

static void conn_close(struct net_conn *c, uint64_t linger_ms)
{
    bool is_whole = c->state == NET__OPEN && c->fail == ERR_OK;

    if (c->state == NET__CLOSED || (c->state > NET__OPEN && linger_ms > 0))
        return;
    if (is_whole && linger_ms > 0 && loop_timer_start(c->loop, &c->timer, linger_ms) == ERR_OK) {
        conn_set_state(c, NET__LINGER);
        chain_clear(&c->unread);
        net__conn_update_events(c);
        loop_task_want(c->loop, &c->task);
        return;
    }
    /* Only a whole stream gets its close_notify: a cut one has to look cut. */
    if (is_whole && c->out.len == 0)
        (void)c->io->shutdown(c);
    conn_finish(c);
}

void net_conn_close(struct net_conn *c, uint64_t linger_ms)
{
    if (c->forgets)
        net__conn_forget(c, false);
    conn_close(c, linger_ms);
}

void net_conn_reset(struct net_conn *c)
{
    net__conn_forget(c, true);
    conn_close(c, 0);
}

/* --- events --- */

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct net_conn *c = handle->data;

    if (status < 0) { /* uv stopped the handle; the read or write that follows finds out why */
        c->events = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (c->is_blocked && (events & c->write_wants) != 0)
        c->is_blocked = false;
    switch (c->state) {
    case NET__DIALLING:
        net__dial_on_poll(c);
        break;
    case NET__HANDSHAKE:
        handshake_step(c);
        break;
    case NET__OPEN:
        net_conn_flush(c);
        if ((events & c->read_wants) != 0 || c->fail != ERR_OK)
            net__conn_read_turn(c);
        else
            net__conn_update_events(c);
        break;
    case NET__LINGER:
    case NET__DRAIN:
        if ((events & UV_READABLE) != 0 && !c->is_peer_done)
            discard_input(c);
        linger_step(c);
        break;
    default:
        break;
    }
}

static void on_task(struct loop_task *task)
{
    struct net_conn *c = CONTAINER_OF(task, struct net_conn, task);

    switch (c->state) {
    case NET__DIALLING:
        if (c->dial->deadline_ms == 0)
            net__dial_start(c);
        break;
    case NET__HANDSHAKE:
        handshake_step(c);
        break;
    case NET__OPEN:
        net_conn_flush(c);
        /* Only what poll cannot see is read here; the rest waits for poll. */
        if (c->state == NET__OPEN && (c->fail != ERR_OK || net__conn_has_hidden_bytes(c)))
            net__conn_read_turn(c);
        break;
    case NET__LINGER:
    case NET__DRAIN:
        linger_step(c);
        break;
    case NET__CLOSED:
        c->ops->on_closed(c);
        free(c);
        break;
    case NET__DEAD:
        break;
    }
}

static void on_timer(struct loop_timer *timer)
{
    struct net_conn *c = CONTAINER_OF(timer, struct net_conn, timer);

    switch (c->state) {
    case NET__DIALLING:
        net__dial_on_timer(c);
        break;
    case NET__HANDSHAKE:
        net__conn_set_fail(c, ERR_TIMEOUT, "handshake: timed out");
        net__conn_dead(c);
        break;
    case NET__OPEN:
        net__conn_trim(c);
        break;
    case NET__LINGER:
    case NET__DRAIN:
        conn_finish(c);
        break;
    default:
        break;
    }
}

/* --- making --- */

static struct net_conn *conn_new(struct loop *loop, struct slab_pool *pool, uint32_t slab_flags,
                                 struct net_tls *tls, const struct net_conn_ops *ops, void *user)
{
    struct net_conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->loop = loop;
    c->pool = pool;
    c->slab_flags = slab_flags;
    c->ops = ops;
    c->user = user;
    c->io = tls != NULL ? &net__io_tls : &net__io_plain;
    c->tls = tls != NULL ? net_tls_ref(tls) : NULL;
    c->fd = -1;
    c->read_wants = UV_READABLE;
    c->is_reading = true;
    loop_task_init(&c->task, on_task);
    loop_timer_init(&c->timer, on_timer);
    return c;
}

/* Undoes conn_new and what came before the first turn of the loop. */
static void conn_free(struct net_conn *c)
{
    loop_task_cancel(&c->task);
    loop_timer_fini(&c->timer);
    net__conn_detach(c);
    net__conn_free_tls(c);
    net_tls_drop(c->tls);
    free(c->dial);
    free(c);
}

static void set_peer(struct net_conn *c, const struct sockaddr_storage *addr)
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;

    switch (addr->ss_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        (void)snprintf(c->peer, sizeof c->peer, "%s:%u", host, ntohs(v4->sin_port));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        (void)snprintf(c->peer, sizeof c->peer, "[%s]:%u", host, ntohs(v6->sin6_port));
        break;
    default:
        (void)snprintf(c->peer, sizeof c->peer, "unix");
        break;
    }
}

enum err net_conn_accept(struct loop *loop, struct slab_pool *pool, uint32_t slab_flags, int fd,
                         struct net_tls *tls, const struct net_conn_ops *ops, void *user,
                         struct net_conn **out)
{
    struct net_conn *c = conn_new(loop, pool, slab_flags, tls, ops, user);
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    enum err e = ERR_NOMEM;

    *out = NULL;
    if (c == NULL) {
        close(fd);
        return e;
    }
    (void)getpeername(fd, (struct sockaddr *)&addr, &len);
    set_peer(c, &addr);
    c->state = NET__HANDSHAKE;
    e = net__conn_attach(c, fd);
    if (e == ERR_OK && tls != NULL) {
        e = net__tls_session(tls, NULL, &c->ssl);
        if (e == ERR_OK && SSL_set_fd(c->ssl, fd) != 1)
            e = ERR_NOMEM;
        if (e == ERR_OK)
            e = loop_timer_start(loop, &c->timer, LIMIT_HANDSHAKE_MS);
    }
    if (e != ERR_OK) {
        conn_free(c);
        return e;
    }
    loop_task_want(loop, &c->task);
    *out = c;
    return ERR_OK;
}

enum err net_conn_dial(struct loop *loop, struct slab_pool *pool, uint32_t slab_flags,
                       const struct net_url *url, struct net_tls *tls,
                       const struct net_conn_ops *ops, void *user, struct net_conn **out)
{
    struct net_conn *c = conn_new(loop, pool, slab_flags, tls, ops, user);
    const char *host = url->is_unix || url->host[0] == '\0' ? "localhost" : url->host;
    enum err e = ERR_NOMEM;

    *out = NULL;
    if (c == NULL)
        return e;
    if (url->is_unix)
        (void)snprintf(c->peer, sizeof c->peer, "unix");
    else if (strchr(host, ':') != NULL)
        (void)snprintf(c->peer, sizeof c->peer, "[%.64s]:%s", host, url->port);
    else
        (void)snprintf(c->peer, sizeof c->peer, "%.64s:%s", host, url->port);
    c->state = NET__DIALLING;
    c->dial = calloc(1, sizeof *c->dial);
    if (c->dial == NULL)
        goto err_free;
    c->dial->conn = c;
    c->dial->url = *url;
    if (!url->is_unix)
        (void)snprintf(c->dial->url.host, sizeof c->dial->url.host, "%s", host);
    if (tls != NULL) {
        e = net__tls_session(tls, host, &c->ssl);
        if (e != ERR_OK)
            goto err_free;
    }
    loop_task_want(loop, &c->task);
    *out = c;
    return ERR_OK;

err_free:
    conn_free(c);
    return e;
}

/* --- the owner's other calls --- */

void *net_conn_user(const struct net_conn *c)
{
    return c->user;
}

enum net_alpn net_conn_alpn(const struct net_conn *c)
{
    return c->alpn;
}

const char *net_conn_peer(const struct net_conn *c)
{
    return c->peer;
}

void net_who(int fd, char out[static NET_WHO_MAX])
{
    struct sockaddr_storage addr = {0};
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr;
    socklen_t len = sizeof addr;
    char text[INET6_ADDRSTRLEN] = "?";

    (void)snprintf(out, NET_WHO_MAX, "?");
    if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0)
        return;
    switch (addr.ss_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &((struct sockaddr_in *)&addr)->sin_addr, text, sizeof text);
        (void)snprintf(out, NET_WHO_MAX, "%s", text);
        return;
    case AF_INET6:
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            (void)inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof text);
            (void)snprintf(out, NET_WHO_MAX, "%s", text);
            return;
        }
        memset(&v6->sin6_addr.s6_addr[8], 0, 8);
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        (void)snprintf(out, NET_WHO_MAX, "%s/64", text);
        return;
    default:
        (void)snprintf(out, NET_WHO_MAX, "unix");
        return;
    }
}

void net_conn_who(const struct net_conn *c, char out[static NET_WHO_MAX])
{
    char name[64];
    size_t n;

    net_who(c->fd, out);
    if (c->ssl == NULL || !net__tls_peer_name(c->ssl, name, sizeof name))
        return;
    n = strlen(out);
    (void)snprintf(out + n, NET_WHO_MAX - n, "/%s", name);
}

const char *net_conn_why(const struct net_conn *c)
{
    return c->why;
}

void net_conn_read_stop(struct net_conn *c)
{
    c->is_reading = false;
    net__conn_update_events(c);
}

void net_conn_read_start(struct net_conn *c)
{
    c->is_reading = true;
    if (net__conn_can_read(c) && (net__conn_has_hidden_bytes(c) || c->fail != ERR_OK))
        loop_task_want(c->loop, &c->task);
    net__conn_update_events(c);
}

enum err net_conn_unread(struct net_conn *c, struct chain *in)
{
    enum err e = ERR_CLOSED;

    if (c->state <= NET__OPEN && !c->is_eof)
        e = chain_append(in, &c->unread);
    if (e == ERR_OK)
        e = chain_append(&c->unread, in); /* swaps: unread is empty now */
    chain_clear(in);
    if (e == ERR_NOMEM)
        net__conn_lose_bytes(c);
    if (e == ERR_OK)
        loop_task_want(c->loop, &c->task);
    c->is_put_back = true;
    return e;
}

void net_conn_set_ops(struct net_conn *c, const struct net_conn_ops *ops, void *user)
{
    c->ops = ops;
    c->user = user;
}
