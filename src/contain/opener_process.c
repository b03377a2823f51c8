/* SPDX-License-Identifier: Apache-2.0 */
/* The opener's side. The happy path: everything is closed but the socket, everything is given up
 * but the right to read; then one answer for each request until the socket is closed.
 * Failure modes: a request that is none ends the process, for then the worker is not ours any more.
 * What it cannot give up it keeps: it has no other input than two numbers. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "contain/contain_int.h"
#include "contain/opener_int.h"

#define SOCKET_FD 3

/* A pipe that the worker reads its configuration from, a listener: none of it is the opener's. */
static void keep_one_descriptor(int fd)
{
    int null;

    if (fd != SOCKET_FD && dup2(fd, SOCKET_FD) < 0)
        _exit(1);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < SOCKET_FD && null >= 0; i++)
        (void)dup2(null, i);
    if (syscall(SYS_close_range, SOCKET_FD + 1, ~0u, 0) != 0)
        for (int i = SOCKET_FD + 1; i < 1024; i++)
            close(i);
}

static bool is_fault(int number)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};

    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        if (number == faults[i])
            return true;
    return false;
}

/* It ends by its socket alone: a signal that is for the whole group finds a worker that drains.
 * Those that came while they were blocked are dropped by this. */
static void ignore_signals(void)
{
    sigset_t none;

    for (int number = 1; number <= SIGRTMAX; number++)
        if (!is_fault(number))
            (void)signal(number, SIG_IGN);
    sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static void look(const char *path, struct contain__answer *answer)
{
    struct stat st;

    if (stat(path, &st) != 0)
        answer->error = errno;
    else
        answer->mode = st.st_mode;
}

/* The descriptor, or -1. */
static int open_one(const char *path, struct contain__answer *answer)
{
    int fd = file_open(path);
    struct stat st;

    if (fd < 0) {
        answer->error = errno;
        return -1;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        answer->mode = st.st_mode;
        return fd;
    }
    answer->error = S_ISDIR(st.st_mode) ? EISDIR : ENXIO;
    close(fd);
    return -1;
}

static bool send_answer(const struct contain__answer *answer, int passed)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct contain__answer copy = *answer;
    struct iovec iov = {&copy, sizeof copy};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (passed >= 0) {
        struct cmsghdr *c = &control.head;

        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed, sizeof(int));
    }
    return sendmsg(SOCKET_FD, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof copy;
}

static bool answer_one(const char *const *paths, size_t count)
{
    struct contain__request request;
    struct contain__answer answer = {0};
    ssize_t n = recv(SOCKET_FD, &request, sizeof request, 0);
    int fd = -1;
    bool ok;

    if (n < 0 && errno == EINTR)
        return true;
    if (n != (ssize_t)sizeof request || request.index >= count)
        return false;
    if (request.op == CONTAIN__LOOK)
        look(paths[request.index], &answer);
    else
        fd = open_one(paths[request.index], &answer);
    ok = send_answer(&answer, fd);
    if (fd >= 0)
        close(fd);
    return ok;
}

void contain__opener_main(int fd, const char *const *paths, size_t count)
{
    (void)prctl(PR_SET_NAME, "opener", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    keep_one_descriptor(fd);
    ignore_signals();
    contain__opener_rights();
    while (answer_one(paths, count))
        ;
    _exit(0);
}
