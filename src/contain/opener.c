/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side. The happy path: opener_start forks; once the process is contained every
 * file_open of base/file.h is one request and one answer, and never a second request before it.
 * Failure modes:
 *  - a name that is not on the list is opened by the process itself, with the rights that it has
 *    left;
 *  - no answer within WAIT_S: LATE, and everything fails at once until that answer is there and was
 *    thrown away;
 *  - it has ended: GONE, for good; whoever waits for an answer hears it by the socket's end. */
#include "contain/opener.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "contain/contain_int.h"
#include "contain/opener_int.h"

#define WAIT_S 5 /* the control thread does nothing else meanwhile */

enum state {
    NONE = 0, /* none was started */
    WELL,
    LATE, /* it owes an answer */
    GONE,
};

static struct {
    enum state state;
    int fd;
    pid_t pid; /* 0: there is none, or it was reaped */
    const char *paths[OPENER_FILES_MAX];
    size_t count;
} opener;

/* Receives the answer, with the descriptor if there is one, else -1. False: errno. */
static bool receive(struct contain__answer *answer, int *passed, int flags)
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
        n = recvmsg(opener.fd, &msg, MSG_CMSG_CLOEXEC | flags);
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

/* Of a request (is_asked: it is on its way) that ended with errno. */
static void note_failure(bool is_asked)
{
    if (errno == EPIPE || errno == ECONNRESET) {
        opener.state = GONE;
        errno = FILE_OPENER_GONE;
    } else if (is_asked) {
        opener.state = LATE;
        errno = FILE_OPENER_LATE;
    }
}

/* The answer to an earlier request is no answer to the next one. False: none can be made. */
static bool is_ready(void)
{
    struct contain__answer late;
    int fd;

    if (opener.state == LATE && receive(&late, &fd, MSG_DONTWAIT)) {
        if (fd >= 0)
            close(fd);
        opener.state = WELL;
    } else if (opener.state == LATE) {
        note_failure(true);
    } else if (opener.state == GONE) {
        errno = FILE_OPENER_GONE;
    }
    return opener.state == WELL;
}

/* 0, or -1 with errno. */
static int ask(enum contain__opener_op op, size_t index, unsigned *mode, int *fd)
{
    const struct contain__request request = {.op = op, .index = (uint32_t)index};
    struct contain__answer answer;

    if (!is_ready())
        return -1;
    if (send(opener.fd, &request, sizeof request, MSG_NOSIGNAL) < 0) {
        note_failure(false);
        return -1;
    }
    if (!receive(&answer, fd, 0)) {
        note_failure(true);
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
        errno = EMFILE; /* the kernel had to leave it out of the answer */
    return fd;
}

enum err opener_use(char *why, size_t why_len)
{
    static const struct file_opener asks = {.look = look, .open = open_for_us};
    unsigned mode;
    int fd;

    if (opener.state == NONE)
        return ERR_OK;
    if (opener.count > 0)
        (void)ask(CONTAIN__LOOK, 0, &mode, &fd); /* whatever it says of the file */
    if (opener.state != WELL) {
        (void)snprintf(why, why_len, "%s", file_open_problem(errno));
        return ERR_SYSTEM;
    }
    file_use_opener(&asks);
    contain__in_force(contain__state(CONTAIN_OPENER), "process %ld", (long)opener.pid);
    return ERR_OK;
}

/* status: as waitpid(2) gives it. */
static void note_end(int status)
{
    char how[32];

    if (WIFSIGNALED(status))
        (void)snprintf(how, sizeof how, "signal %d", WTERMSIG(status));
    else
        (void)snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(status));
    opener.state = GONE;
    contain__not_in_force(contain__state(CONTAIN_OPENER),
                          "it has ended (%s): no file is read again before a restart", how);
    LOG(ERROR,
        "the process that opens files has ended: configuration, keys and certificates stay as they "
        "are until this one is started again",
        "by=\"%s\"", how);
}

void opener_look(void)
{
    int status = 0;
    pid_t got;

    if (opener.pid == 0)
        return;
    got = waitpid(opener.pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno != ECHILD)) /* ECHILD: SIGCHLD was ignored before our start */
        return;
    opener.pid = 0;
    note_end(status);
}

const char *opener_problem(void)
{
    if (opener.state == LATE)
        (void)is_ready(); /* it may have caught up */
    if (opener.state == LATE)
        return file_open_problem(FILE_OPENER_LATE);
    return opener.state == GONE ? file_open_problem(FILE_OPENER_GONE) : NULL;
}

void opener_stop(void)
{
    if (opener.state == NONE)
        return;
    file_use_opener(NULL);
    close(opener.fd); /* by which it ends */
    if (opener.pid != 0 && opener.state != LATE)
        (void)waitpid(opener.pid, NULL, 0);
    opener.state = NONE;
    opener.pid = 0;
    opener.count = 0;
}

/* A signal for the whole group must not find it before it ignores them: it begins with all of them
 * blocked. As fork(2). */
static pid_t fork_opener(int here, int there)
{
    sigset_t all, before;
    pid_t pid;
    int error;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0) {
        close(here);
        contain__opener_main(there, opener.paths, opener.count);
    }
    error = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return pid;
}

enum err opener_start(const char *const *paths, size_t count)
{
    const struct timeval wait = {.tv_sec = WAIT_S};
    int pair[2], error;
    pid_t pid;

    opener.count = 0;
    for (size_t i = 0; i < count; i++)
        if (paths[i] != NULL && !file_is_read_once(paths[i]) && opener.count < OPENER_FILES_MAX)
            opener.paths[opener.count++] = paths[i];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return ERR_SYSTEM;
    pid = fork_opener(pair[0], pair[1]);
    error = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        errno = error;
        return ERR_SYSTEM;
    }
    (void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    opener.fd = pair[0];
    opener.pid = pid;
    opener.state = WELL;
    return ERR_OK;
}
