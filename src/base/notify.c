/* SPDX-License-Identifier: Apache-2.0 */
#include "base/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TEXT_MAX 1024

static bool send_text(const char *path, const char *text, size_t len)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    ssize_t sent;
    int fd;

    /* A path, or '@' and the name of an abstract socket. vsock is for virtual machines. */
    if ((path[0] != '/' && path[0] != '@') || n >= sizeof addr.sun_path)
        return false;
    memcpy(addr.sun_path, path, n);
    if (path[0] == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    sent = sendto(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&addr,
                  addr_len);
    close(fd);
    return sent == (ssize_t)len;
}

bool notify_manager(const char *state, const char *status)
{
    const char *path = getenv("NOTIFY_SOCKET");
    char text[TEXT_MAX];
    size_t n;

    if (path == NULL || path[0] == '\0')
        return true;
    n = (size_t)snprintf(text, sizeof text, "%s%sSTATUS=", state, state[0] != '\0' ? "\n" : "");
    CHECK(n < sizeof text); /* states are our own */
    for (; *status != '\0' && n < sizeof text - 1; status++)
        text[n++] = (unsigned char)*status < ' ' || *status == 0x7f ? '?' : *status;
    return send_text(path, text, n);
}
