/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a dial:
 *   1. a numeric host or a socket path becomes an address at once; a name goes to uv's thread pool;
 *   2. the addresses are tried in turn, each for its share of what is left of LIMIT_DIAL_MS;
 *   3. the first that connects is handed to the handshake.
 * Failure modes:
 *  - no address left, or no time left: net__conn_dead with the last reason;
 *  - the connection is closed while the thread pool resolves: struct net__dial lives on until uv's
 *    callback, with conn NULL. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net_int.h"

static void dial_free(struct net__dial *d)
{
    if (d->list != NULL)
        freeaddrinfo(d->list);
    free(d);
}

void net__dial_free(struct net_conn *c)
{
    struct net__dial *d = c->dial;

    if (d == NULL)
        return;
    c->dial = NULL;
    d->conn = NULL;
    if (!d->is_resolving)
        dial_free(d);
    else
        (void)uv_cancel((uv_req_t *)&d->req); /* too late is fine: the callback frees */
}

static void note_errno(struct net_conn *c, const char *what, int error)
{
    char buf[64];

    net__conn_set_fail(c, ERR_SYSTEM, "%s: %s", what, net__errno_text(error, buf, sizeof buf));
}

static uint64_t left_ms(const struct net_conn *c)
{
    uint64_t now = loop_now_ms(c->loop);

    return c->dial->deadline_ms > now ? c->dial->deadline_ms - now : 0;
}

/* Begins to connect. False: it failed at once, why is noted. */
static bool try_address(struct net_conn *c, int family, const struct sockaddr *addr, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int ret;

    if (fd < 0) {
        note_errno(c, "socket", errno);
        return false;
    }
    net__tune(fd);
    do {
        ret = connect(fd, addr, len);
    } while (ret != 0 && errno == EINTR);
    if (ret != 0 && errno != EINPROGRESS) {
        note_errno(c, "connect", errno);
        close(fd);
        return false;
    }
    if (net__conn_attach(c, fd) != ERR_OK) {
        net__conn_set_fail(c, ERR_NOMEM, "out of memory");
        return false;
    }
    /* Also when it connected at once: the event comes from the loop, like all others. */
    net__conn_watch(c, UV_WRITABLE);
    return true;
}

static void try_next(struct net_conn *c)
{
    struct net__dial *d = c->dial;

    while (d->next != NULL && left_ms(c) > 0) {
        struct addrinfo *ai = d->next;
        uint64_t share = 1;

        d->next = ai->ai_next;
        for (const struct addrinfo *rest = d->next; rest != NULL; rest = rest->ai_next)
            share++;
        if (!try_address(c, ai->ai_family, ai->ai_addr, ai->ai_addrlen))
            continue;
        if (loop_timer_start(c->loop, &c->timer, left_ms(c) / share + 1) == ERR_OK)
            return;
        net__conn_set_fail(c, ERR_NOMEM, "out of memory");
        break;
    }
    net__conn_dead(c);
}

static void dial_unix(struct net_conn *c)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = net__unix_addr(c->dial->url.host, &addr);

    if (!try_address(c, AF_UNIX, (const struct sockaddr *)&addr, len))
        net__conn_dead(c);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct net__dial *d = CONTAINER_OF(req, struct net__dial, req);
    struct net_conn *c = d->conn;

    d->is_resolving = false;
    d->list = d->next = list;
    if (c == NULL) {
        dial_free(d);
        return;
    }
    if (status != 0) {
        net__conn_set_fail(c, ERR_SYSTEM, "resolve: %s", uv_strerror(status));
        net__conn_dead(c);
        return;
    }
    try_next(c);
}

void net__dial_start(struct net_conn *c)
{
    struct net__dial *d = c->dial;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    int status;

    d->deadline_ms = loop_now_ms(c->loop) + LIMIT_DIAL_MS;
    if (loop_timer_start(c->loop, &c->timer, LIMIT_DIAL_MS) != ERR_OK) {
        net__conn_set_fail(c, ERR_NOMEM, "out of memory");
        net__conn_dead(c);
        return;
    }
    if (d->url.is_unix) {
        dial_unix(c);
        return;
    }
    /* No name service is asked with AI_NUMERICHOST, so this does not block. */
    if (getaddrinfo(d->url.host, d->url.port, &hints, &d->list) == 0) {
        d->next = d->list;
        try_next(c);
        return;
    }
    d->list = NULL;
    hints.ai_flags = AI_NUMERICSERV;
    status = uv_getaddrinfo(&c->loop->uv, &d->req, on_resolved, d->url.host, d->url.port, &hints);
    if (status == 0) {
        d->is_resolving = true;
        return;
    }
    net__conn_set_fail(c, ERR_SYSTEM, "resolve: %s", uv_strerror(status));
    net__conn_dead(c);
}

void net__dial_on_poll(struct net_conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0) {
        uint64_t left = left_ms(c);

        if (loop_timer_start(c->loop, &c->timer, left) != ERR_OK) {
            net__conn_set_fail(c, ERR_NOMEM, "out of memory");
            net__conn_dead(c);
            return;
        }
        net__dial_free(c);
        net__conn_connected(c);
        return;
    }
    note_errno(c, "connect", error);
    net__conn_detach(c);
    try_next(c);
}

void net__dial_on_timer(struct net_conn *c)
{
    net__conn_set_fail(c, ERR_TIMEOUT,
                       c->dial->is_resolving ? "resolve: timed out" : "connect: timed out");
    net__conn_detach(c);
    if (c->dial->is_resolving)
        net__conn_dead(c);
    else
        try_next(c);
}
