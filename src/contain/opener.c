/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side. The happy path: opener_start forks; once the process is contained every
 * file_open of base/file.h is one request and one answer.
 * Failure modes: a name that is not on the list is opened by the process itself, with the rights
 * that it has left; an opener that is gone, or did not answer within WAIT_S (a network file system
 * that hangs), answers everything with EPIPE, so what was read last stays in force. */
#include "contain/opener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "contain/opener_int.h"

#define WAIT_S 5 /* the control thread does nothing else meanwhile */

static struct {
    int fd; /* 0: there is none; no descriptor of ours has this number */
    pid_t pid;
    const char *paths[OPENER_FILES_MAX];
    size_t count;
    bool is_lost; /* it has not answered */
} opener;

/* Receives the answer, with the descriptor if there is one, else -1. False: errno. */
static bool receive(struct contain__answer *answer, int *passed)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {answer, sizeof *answer};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    const struct cmsghdr *c;
    ssize_t n;

    do {
        n = recvmsg(opener.fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);
    *passed = -1;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(passed, CMSG_DATA(c), sizeof(int));
    if (n == (ssize_t)sizeof *answer)
        return true;
    if (*passed >= 0)
        close(*passed);
    if (n >= 0)
        errno = EPIPE;
    return false;
}

/* 0, or -1 with errno. */
static int ask(enum contain__opener_op op, size_t index, unsigned *mode, int *fd)
{
    const struct contain__request request = {.op = op, .index = (uint32_t)index};
    struct contain__answer answer;

    if (opener.is_lost) {
        errno = EPIPE;
        return -1;
    }
    if (send(opener.fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request ||
        !receive(&answer, fd)) {
        opener.is_lost = true; /* what it may still say is the answer to this one */
        return -1;
    }
    *mode = answer.mode;
    errno = answer.error;
    return answer.error == 0 ? 0 : -1;
}

static bool find(const char *path, size_t *index)
{
    for (*index = 0; *index < opener.count; ++*index)
        if (strcmp(opener.paths[*index], path) == 0)
            return true;
    return false;
}

static int look(const char *path, unsigned *mode)
{
    struct stat st;
    size_t index;
    int fd;

    if (find(path, &index))
        return ask(CONTAIN__LOOK, index, mode, &fd);
    if (stat(path, &st) != 0)
        return -1;
    *mode = st.st_mode;
    return 0;
}

static int open_for_us(const char *path)
{
    unsigned mode;
    size_t index;
    int fd;

    if (!find(path, &index))
        return file_open_here(path);
    if (ask(CONTAIN__OPEN, index, &mode, &fd) != 0)
        return -1;
    if (fd < 0)
        errno = EPIPE;
    return fd;
}

void opener_use(void)
{
    static const struct file_opener asks = {.look = look, .open = open_for_us};

    if (opener.fd != 0)
        file_use_opener(&asks);
}

void opener_stop(void)
{
    if (opener.fd == 0)
        return;
    file_use_opener(NULL);
    close(opener.fd); /* by which it ends */
    if (!opener.is_lost)
        (void)waitpid(opener.pid, NULL, 0);
    opener.fd = 0;
    opener.count = 0;
}

enum err opener_start(const char *const *paths, size_t count)
{
    const struct timeval wait = {.tv_sec = WAIT_S};
    int pair[2];
    pid_t pid;

    opener.count = 0;
    for (size_t i = 0; i < count; i++)
        if (paths[i] != NULL && !file_is_read_once(paths[i]) && opener.count < OPENER_FILES_MAX)
            opener.paths[opener.count++] = paths[i];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return ERR_SYSTEM;
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        contain__opener_main(pair[1], opener.paths, opener.count);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return ERR_SYSTEM;
    }
    (void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    opener.fd = pair[0];
    opener.pid = pid;
    opener.is_lost = false;
    return ERR_OK;
}
