/* SPDX-License-Identifier: Apache-2.0 */
#include "net/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/net_int.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define NAME_MAX_LEN 64

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
};

struct inherited {
    int fd; /* -1: taken */
    char name[NAME_MAX_LEN];
    union address address;
    struct net_url url; /* the same as text */
};

/* One process has one environment. */
static struct inherited sockets[NET_INHERIT_MAX];
static size_t socket_count;

static enum err PRINTF_LIKE(3, 4) refuse(char *why, size_t why_len, const char *fmt, ...)
{
    size_t n = (size_t)snprintf(why, why_len, "LISTEN_FDS: ");
    va_list ap;

    va_start(ap, fmt);
    if (n < why_len)
        vsnprintf(why + n, why_len - n, fmt, ap);
    va_end(ap);
    return ERR_CONFIG;
}

/* --- one socket --- */

static int socket_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* Writes the address as a URL has it. */
static bool describe(struct inherited *s, socklen_t len)
{
    size_t n;

    if (s->address.any.sa_family == AF_UNIX) {
        n = len - offsetof(struct sockaddr_un, sun_path);
        if (len <= offsetof(struct sockaddr_un, sun_path) || n >= sizeof s->url.host)
            return false; /* a socket without a name */
        s->url.is_unix = true;
        memcpy(s->url.host, s->address.local.sun_path, n);
        if (s->url.host[0] == '\0')
            s->url.host[0] = '@';
        return true;
    }
    if (s->address.any.sa_family != AF_INET && s->address.any.sa_family != AF_INET6)
        return false;
    return getnameinfo(&s->address.any, len, s->url.host, sizeof s->url.host, s->url.port,
                       sizeof s->url.port, NI_NUMERICHOST | NI_NUMERICSERV) == 0;
}

/* A socket file of our own making has mode 0600: whoever connects reads plaintext. */
static bool is_open_to_all(const struct inherited *s)
{
    struct stat st;

    return s->url.is_unix && s->url.host[0] != '@' && stat(s->url.host, &st) == 0 &&
           (st.st_mode & S_IWOTH) != 0;
}

static enum err take_over(int fd, struct inherited *s, char *why, size_t why_len)
{
    socklen_t len = sizeof s->address;
    int flags = fcntl(fd, F_GETFL);

    s->fd = fd;
    if (flags < 0 || socket_option(fd, SO_ACCEPTCONN) != 1 ||
        socket_option(fd, SO_TYPE) != SOCK_STREAM || getsockname(fd, &s->address.any, &len) != 0 ||
        !describe(s, len))
        return refuse(why, why_len,
                      "descriptor %d (\"%s\") is no listening stream socket of TCP or unix "
                      "(ListenStream= and Accept=no make one)",
                      fd, s->name);
    if (is_open_to_all(s))
        return refuse(why, why_len, "%s: everybody may connect to it: use SocketMode=0600 or 0660",
                      s->url.host);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return refuse(why, why_len, "descriptor %d cannot be set up: %s", fd, strerror(errno));
    return ERR_OK;
}

/* --- the environment --- */

/* Takes the first name off a list with colons. */
static void next_name(const char **names, char out[static NAME_MAX_LEN])
{
    size_t n = *names == NULL ? 0 : strcspn(*names, ":");

    (void)snprintf(out, NAME_MAX_LEN, "%.*s", (int)n, *names == NULL ? "" : *names);
    if (*names != NULL)
        *names = (*names)[n] == ':' ? *names + n + 1 : NULL;
}

static unsigned long number_of(const char *text)
{
    char *end;
    unsigned long n;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    n = strtoul(text, &end, 10);
    return *end == '\0' && errno == 0 ? n : 0;
}

static enum err take_over_all(unsigned long count, const char *names, char *why, size_t why_len)
{
    if (count == 0 || count > NET_INHERIT_MAX - socket_count)
        return refuse(why, why_len, "not a number from 1 to %d", NET_INHERIT_MAX);
    for (unsigned long i = 0; i < count; i++) {
        struct inherited *s = &sockets[socket_count];

        *s = (struct inherited){0};
        next_name(&names, s->name);
        TRY(take_over(FIRST_FD + (int)i, s, why, why_len));
        socket_count++;
    }
    return ERR_OK;
}

enum err net_inherit(char *why, size_t why_len)
{
    const char *count = getenv("LISTEN_FDS");
    enum err e = ERR_OK;

    /* With another process's number it is not for us, but left over from a parent. */
    if (count != NULL && number_of(getenv("LISTEN_PID")) == (unsigned long)getpid())
        e = take_over_all(number_of(count), getenv("LISTEN_FDNAMES"), why, why_len);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
    return e;
}

/* --- which URL --- */

void net_inherit_address(const char *name, struct net_url *url)
{
    const struct inherited *found = NULL;
    bool is_tls = url->is_tls;

    for (size_t i = 0; i < socket_count; i++) {
        if (strcmp(sockets[i].name, name) != 0)
            continue;
        if (found != NULL)
            return;
        found = &sockets[i];
    }
    if (found == NULL)
        return;
    *url = found->url;
    url->is_tls = is_tls;
}

static bool is_same_address(const union address *a, const struct sockaddr *b)
{
    if (a->any.sa_family != b->sa_family)
        return false;
    if (b->sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return b->sa_family == AF_INET6 &&
           memcmp(&a->v6.sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
                  sizeof a->v6.sin6_addr) == 0;
}

/* Without a host the URL means every address of the machine: the wildcard of either family. */
static bool is_address_of(const struct inherited *s, const struct net_url *url)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    bool is_same = false;

    if (s->url.is_unix || url->is_unix)
        return s->url.is_unix == url->is_unix && strcmp(s->url.host, url->host) == 0;
    if (strcmp(s->url.port, url->port) != 0 ||
        getaddrinfo(url->host[0] == '\0' ? NULL : url->host, url->port, &hints, &list) != 0)
        return false;
    for (const struct addrinfo *ai = list; ai != NULL && !is_same; ai = ai->ai_next)
        is_same = is_same_address(&s->address, ai->ai_addr);
    freeaddrinfo(list);
    return is_same;
}

int net__inherit_take(const struct net_url *url)
{
    for (size_t i = 0; i < socket_count; i++) {
        int fd = sockets[i].fd;

        if (fd < 0 || !is_address_of(&sockets[i], url))
            continue;
        sockets[i].fd = -1;
        return fd;
    }
    return -1;
}

const char *net_inherit_left(char out[static NET_URL_MAX])
{
    for (size_t i = 0; i < socket_count; i++)
        if (sockets[i].fd >= 0)
            return net_url_text(&sockets[i].url, out);
    return NULL;
}
