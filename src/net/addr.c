/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "net/net_int.h"

#define ASCII_DIGITS "0123456789"
#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" ASCII_DIGITS "-._"

static enum err refuse(const char **why, const char *text)
{
    *why = text;
    return ERR_CONFIG;
}

/* Cuts the scheme off; NULL when it is none of ours. */
static const char *take_scheme(const char *text, struct net_url *out)
{
    static const struct {
        const char *name;
        bool is_tls, is_unix;
    } schemes[] = {
        {"http://", false, false}, {"https://", true, false}, {"unix://", false, true},
        {"unixs://", true, true},  {"unix:", false, true},    {"unixs:", true, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i].name);

        if (strncasecmp(text, schemes[i].name, n) != 0)
            continue;
        out->is_tls = schemes[i].is_tls;
        out->is_unix = schemes[i].is_unix;
        return text + n;
    }
    return NULL;
}

static enum err parse_unix(const char *rest, struct net_url *out, const char **why)
{
    size_t n = strlen(rest);

    if (n == 0 || strcmp(rest, "@") == 0)
        return refuse(why, "socket path is missing");
    if (n >= sizeof((struct sockaddr_un *)0)->sun_path)
        return refuse(why, "socket path is longer than 107 bytes");
    for (const char *p = rest; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return refuse(why, "white space or control byte in the socket path");
    /* Go's URL parser would cut or decode here: refused, as two readers would understand it
     * differently. */
    if (strpbrk(rest, "?#%") != NULL)
        return refuse(why, "query, fragment or percent-encoding in the socket path");
    memcpy(out->host, rest, n + 1);
    return ERR_OK;
}

static enum err parse_port(const char *text, size_t n, struct net_url *out, const char **why)
{
    unsigned port = 0;

    if (n == 0 || n > 5 || strspn(text, ASCII_DIGITS) < n)
        return refuse(why, "port is not a number from 0 to 65535");
    for (size_t i = 0; i < n; i++)
        port = port * 10 + (unsigned)(text[i] - '0');
    if (port > 65535)
        return refuse(why, "port is not a number from 0 to 65535");
    (void)snprintf(out->port, sizeof out->port, "%u", port);
    return ERR_OK;
}

static enum err set_host(const char *text, size_t n, struct net_url *out, const char **why)
{
    if (n >= sizeof out->host)
        return refuse(why, "host is too long");
    memcpy(out->host, text, n);
    out->host[n] = '\0';
    return ERR_OK;
}

static enum err parse_tcp(const char *rest, struct net_url *out, const char **why)
{
    size_t n = strcspn(rest, "/?#"), host_len;
    struct in6_addr v6;
    const char *end;

    if (rest[n] != '\0' && strcmp(rest + n, "/") != 0)
        return refuse(why, "path, query or fragment in the URL");
    if (memchr(rest, '@', n) != NULL)
        return refuse(why, "user in the URL");
    if (rest[0] == '[') {
        end = memchr(rest, ']', n);
        if (end == NULL)
            return refuse(why, "] is missing");
        TRY(set_host(rest + 1, (size_t)(end - rest) - 1, out, why));
        if (inet_pton(AF_INET6, out->host, &v6) != 1)
            return refuse(why, "not an IPv6 address between [ and ]");
        end++;
    } else {
        host_len = strcspn(rest, ":/");
        if (host_len > n)
            host_len = n;
        if (strspn(rest, NAME_BYTES) < host_len)
            return refuse(why, "host holds a byte that no host name has");
        TRY(set_host(rest, host_len, out, why));
        end = rest + host_len;
    }
    if (*end != ':')
        return refuse(why, "port is missing");
    end++;
    return parse_port(end, n - (size_t)(end - rest), out, why);
}

enum err net_url_parse(const char *text, struct net_url *out, const char **why)
{
    const char *rest;

    *out = (struct net_url){0};
    *why = NULL;
    rest = take_scheme(text, out);
    if (rest == NULL)
        return refuse(why, "scheme is not http, https, unix or unixs");
    if (out->is_unix)
        return parse_unix(rest, out, why);
    return parse_tcp(rest, out, why);
}

bool net_url_is_local(const struct net_url *u)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (u->is_unix || strcasecmp(u->host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, u->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, u->host, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

const char *net_url_text(const struct net_url *u, char out[static NET_URL_MAX])
{
    const char *s = u->is_tls ? "s" : "";

    if (u->is_unix)
        (void)snprintf(out, NET_URL_MAX, "unix%s://%s", s, u->host);
    else if (strchr(u->host, ':') != NULL)
        (void)snprintf(out, NET_URL_MAX, "http%s://[%s]:%s", s, u->host, u->port);
    else
        (void)snprintf(out, NET_URL_MAX, "http%s://%s:%s", s, u->host, u->port);
    return out;
}

socklen_t net__unix_addr(const char *path, struct sockaddr_un *out)
{
    size_t n = strlen(path);

    CHECK(n < sizeof out->sun_path);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, path, n);
    if (path[0] == '@')
        out->sun_path[0] = '\0';
    else
        n++; /* with its NUL, see unix(7) */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}
