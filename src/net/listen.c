/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a connection:
 *   1. poll says that the listening socket is readable;
 *   2. accept4, again and again until no connection is left, at most ACCEPTS_PER_TURN times;
 *   3. on_accept gets the descriptor.
 * Failure modes:
 *  - a connection that died in the queue is skipped;
 *  - out of descriptors: the reserve descriptor is given up for a moment, so that the connection in
 *    front can be accepted and closed (its client then knows, instead of waiting), and accepting
 *    pauses for PAUSE_MS. */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "net/net_int.h"

#define ACCEPTS_PER_TURN 32
#define PAUSE_MS 100
#define BACKLOG 1024

struct net_listener {
    struct loop *loop;
    uv_poll_t poll;
    struct loop_timer pause;
    int fd;
    int reserve_fd;
    bool is_closed;
    net_accept_fn on_accept;
    void *arg;
    struct net_url url;
    dev_t dev; /* the socket file that we made */
    ino_t ino;
};

/* --- accepting --- */

/* An abstract socket has no file mode that would keep others away: same user or root only. */
static bool peer_is_allowed(const struct net_listener *l, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (!l->url.is_unix || l->url.host[0] != '@')
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return false;
    return cred.uid == 0 || cred.uid == geteuid();
}

static void on_readable(uv_poll_t *handle, int status, int events);

static void watch(struct net_listener *l)
{
    int status = uv_poll_start(&l->poll, UV_READABLE, on_readable);

    CHECK(status == 0); /* fails only for a closing handle or one that shares its descriptor */
}

static void on_pause_over(struct loop_timer *timer)
{
    struct net_listener *l = CONTAINER_OF(timer, struct net_listener, pause);

    if (l->reserve_fd < 0)
        l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    watch(l);
}

static void refuse_one_and_pause(struct net_listener *l, int error)
{
    int fd;

    metric_refused(ERR_NO_DESCRIPTOR);
    LOG_RATED(WARN, "accepting pauses", "errno=%d ms=%d", error, PAUSE_MS);
    if (l->reserve_fd >= 0) {
        close(l->reserve_fd);
        fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    /* Without a timer the next event tries again: slower for all, but not for ever. */
    if (loop_timer_start(l->loop, &l->pause, PAUSE_MS) == ERR_OK)
        (void)uv_poll_stop(&l->poll);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct net_listener *l = handle->data;

    (void)status, (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !l->is_closed; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0 && !peer_is_allowed(l, fd)) {
            LOG_RATED(WARN, "connection refused", "reason=peer_uid");
            close(fd);
        } else if (fd >= 0) {
            net__tune(fd);
            l->on_accept(l->arg, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            refuse_one_and_pause(l, errno);
            return;
        }
        /* Any other error is that of the connection in front (accept(2)): go on with the next. */
    }
}

/* --- binding --- */

static enum err listen_fail(char *why, size_t why_len, const char *where, int error)
{
    char buf[64];

    (void)snprintf(why, why_len, "cannot listen on %s: %s", where,
                   net__errno_text(error, buf, sizeof buf));
    return ERR_SYSTEM;
}

/* What failed is not the binding itself, but something on the way. */
static enum err step_fail(char *why, size_t why_len, const char *where, const char *step, int error)
{
    char buf[64];

    (void)snprintf(why, why_len, "cannot listen on %s: %s: %s", where, step,
                   net__errno_text(error, buf, sizeof buf));
    return ERR_SYSTEM;
}

/* Removes a socket file that nobody answers on. */
static enum err remove_stale(const char *path, char *why, size_t why_len)
{
    struct sockaddr_un addr;
    socklen_t len = net__unix_addr(path, &addr);
    struct stat st;
    int fd, ret, error;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? ERR_OK : listen_fail(why, why_len, path, errno);
    if (!S_ISSOCK(st.st_mode))
        return listen_fail(why, why_len, path, EEXIST);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return step_fail(why, why_len, path, "socket", errno);
    ret = connect(fd, (const struct sockaddr *)&addr, len);
    error = errno;
    close(fd);
    if (ret == 0 || error != ECONNREFUSED)
        return listen_fail(why, why_len, path, EADDRINUSE);
    if (unlink(path) != 0 && errno != ENOENT)
        return step_fail(why, why_len, path, "the socket that nobody listens on cannot be removed",
                         errno);
    return ERR_OK;
}

/* Into folder; its text is cut like the path itself. */
static void folder_of(const char *path, char folder[static NET_URL_MAX])
{
    char *slash;

    (void)snprintf(folder, NET_URL_MAX, "%s", path);
    slash = strrchr(folder, '/');
    if (slash == NULL)
        (void)snprintf(folder, NET_URL_MAX, ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';
}

enum err net_listen_try(const struct net_url *url, char *why, size_t why_len)
{
    const char *path = url->host;
    char folder[NET_URL_MAX];
    struct stat st;

    if (!url->is_unix || path[0] == '@')
        return ERR_OK;
    folder_of(path, folder);
    if (lstat(path, &st) != 0) {
        if (errno != ENOENT)
            return listen_fail(why, why_len, path, errno);
    } else if (!S_ISSOCK(st.st_mode)) {
        return listen_fail(why, why_len, path, EEXIST);
    }
    return access(folder, W_OK | X_OK) == 0 ? ERR_OK : listen_fail(why, why_len, path, errno);
}

static enum err bind_unix(struct net_listener *l, char *why, size_t why_len)
{
    const char *path = l->url.host;
    struct sockaddr_un addr;
    socklen_t len = net__unix_addr(path, &addr);
    bool is_file = path[0] != '@';
    struct stat st;

    if (is_file)
        TRY(remove_stale(path, why, why_len));
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return step_fail(why, why_len, path, "socket", errno);
    /* bind gives the file the socket's mode (less the umask), so it is never open to others; unlike
     * umask this concerns no other thread. */
    if (fchmod(l->fd, 0600) != 0)
        return step_fail(why, why_len, path, "chmod", errno);
    if (bind(l->fd, (const struct sockaddr *)&addr, len) != 0)
        return listen_fail(why, why_len, path, errno);
    if (is_file && lstat(path, &st) == 0) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
        if ((st.st_mode & 0077) != 0)
            return listen_fail(why, why_len, path, EPERM);
    }
    return ERR_OK;
}

static enum err bind_addr(struct net_listener *l, const struct addrinfo *ai, char *why,
                          size_t why_len)
{
    char text[NET_URL_MAX];
    int on = 1, off = 0;

    l->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return step_fail(why, why_len, net_url_text(&l->url, text), "socket", errno);
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* The wildcard is for both families, as in Go. */
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(l->fd, ai->ai_addr, ai->ai_addrlen) == 0)
        return ERR_OK;
    (void)listen_fail(why, why_len, net_url_text(&l->url, text), errno);
    close(l->fd);
    l->fd = -1;
    return ERR_SYSTEM;
}

/* Binds the first address that can be bound: IPv6 first for the wildcard, IPv4 first for names, as
 * in Go. */
static enum err bind_tcp(struct net_listener *l, char *why, size_t why_len)
{
    bool is_any = l->url.host[0] == '\0';
    char text[NET_URL_MAX];
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    enum err e = ERR_SYSTEM;
    int status = getaddrinfo(is_any ? NULL : l->url.host, l->url.port, &hints, &list);

    if (status != 0) {
        (void)snprintf(why, why_len, "cannot listen on %s: %s", net_url_text(&l->url, text),
                       status == EAI_SYSTEM ? strerror(errno) : gai_strerror(status));
        return ERR_SYSTEM;
    }
    for (int pass = 0; pass < 2 && e != ERR_OK; pass++) {
        int family = (pass == 0) == is_any ? AF_INET6 : AF_INET;

        for (const struct addrinfo *ai = list; ai != NULL && e != ERR_OK; ai = ai->ai_next)
            if (ai->ai_family == family)
                e = bind_addr(l, ai, why, why_len);
    }
    freeaddrinfo(list);
    return e;
}

static enum err bind_and_listen(struct net_listener *l, char *why, size_t why_len)
{
    char text[NET_URL_MAX];

    TRY(l->url.is_unix ? bind_unix(l, why, why_len) : bind_tcp(l, why, why_len));
    return listen(l->fd, BACKLOG) == 0
               ? ERR_OK
               : step_fail(why, why_len, net_url_text(&l->url, text), "listen", errno);
}

/* The file of an inherited socket is its maker's: we have no ino of it. */
static void remove_file(const struct net_listener *l)
{
    struct stat st;

    if (!l->url.is_unix || l->url.host[0] == '@' || l->ino == 0)
        return;
    /* A successor may have replaced it. */
    if (lstat(l->url.host, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        (void)unlink(l->url.host);
}

enum err net_listen(struct loop *loop, const struct net_url *url, net_accept_fn on_accept,
                    void *arg, struct net_listener **out, char *why, size_t why_len)
{
    struct net_listener *l = calloc(1, sizeof *l);
    char text[NET_URL_MAX];
    enum err e;
    int status;

    *out = NULL;
    (void)snprintf(why, why_len, "cannot listen on %s: out of memory", net_url_text(url, text));
    if (l == NULL)
        return ERR_NOMEM;
    l->loop = loop;
    l->on_accept = on_accept;
    l->arg = arg;
    l->url = *url;
    l->reserve_fd = -1;
    loop_timer_init(&l->pause, on_pause_over);
    l->fd = net__inherit_take(url);
    if (l->fd < 0) {
        e = bind_and_listen(l, why, why_len);
        if (e != ERR_OK)
            goto err_close;
    }
    l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    status = l->reserve_fd < 0 ? -errno : uv_poll_init(&loop->uv, &l->poll, l->fd);
    if (status != 0) {
        e = step_fail(why, why_len, text, l->reserve_fd < 0 ? "/dev/null" : "poll", -status);
        goto err_close;
    }
    l->poll.data = l;
    watch(l);
    *out = l;
    return ERR_OK;

err_close:
    remove_file(l);
    if (l->fd >= 0)
        close(l->fd);
    if (l->reserve_fd >= 0)
        close(l->reserve_fd);
    free(l);
    return e;
}

uint16_t net_listener_port(const struct net_listener *l)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;

    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) != 0)
        return 0;
    if (addr.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&addr)->sin_port);
    if (addr.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void net_listener_close(struct net_listener *l)
{
    if (l->is_closed)
        return;
    l->is_closed = true;
    loop_timer_fini(&l->pause);
    uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    remove_file(l);
    close(l->fd);
    if (l->reserve_fd >= 0)
        close(l->reserve_fd);
}
