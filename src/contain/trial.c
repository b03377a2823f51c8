/* SPDX-License-Identifier: Apache-2.0 */
/* A child becomes the user, looks at what a start would look at, and tells its parent through a
 * pipe. The parent stays who it is. Failure modes: no child can be made, or it ends without a word:
 * an error, for nothing is known then. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contain/contain_int.h"

struct answer {
    enum err err;
    size_t closed; /* a number of o->socket_folders, or CONTAIN_FOLDERS_MAX */
    char why[512];
};

static void look(const struct contain_opts *o, struct answer *a)
{
    struct contain_state st;

    a->err = contain__become(o->user, &st, a->why, sizeof a->why);
    if (a->err == ERR_OK)
        a->err = contain__check_sockets(o, a->why, sizeof a->why);
    for (size_t i = 0; a->closed == CONTAIN_FOLDERS_MAX && o->socket_folders[i] != NULL; i++)
        if (access(o->socket_folders[i], W_OK | X_OK) != 0 && errno != ENOENT)
            a->closed = i;
}

static ssize_t hear(int fd, struct answer *a)
{
    ssize_t n;

    do
        n = read(fd, a, sizeof *a); /* it is written whole: less than PIPE_BUF */
    while (n < 0 && errno == EINTR);
    return n;
}

enum err contain_try_user(const struct contain_opts *o, const char **closed, char *why,
                          size_t why_len)
{
    struct answer a = {.err = ERR_SYSTEM, .closed = CONTAIN_FOLDERS_MAX};
    int ends[2] = {-1, -1};
    pid_t pid = pipe2(ends, O_CLOEXEC) != 0 ? -1 : fork();
    ssize_t n;

    *closed = NULL;
    if (pid == 0) {
        look(o, &a);
        _exit(write(ends[1], &a, sizeof a) == sizeof a ? 0 : 1);
    }
    (void)snprintf(why, why_len, "--user: %s: cannot be tried: %s", o->user->name, strerror(errno));
    if (ends[1] >= 0)
        close(ends[1]);
    n = pid < 0 ? -1 : hear(ends[0], &a);
    if (ends[0] >= 0)
        close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != sizeof a)
        return ERR_SYSTEM;
    (void)snprintf(why, why_len, "%s", a.why);
    if (a.closed < CONTAIN_FOLDERS_MAX)
        *closed = o->socket_folders[a.closed];
    return a.err;
}
