/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct file_opener *opener;

void file_use_opener(const struct file_opener *o)
{
    opener = o;
}

/* Names of this process's own descriptors, as a shell's <(command) or <FILE gives them, mean others
 * to the opener, and what they lead to is nobody's to open any more once the process is contained.
 */
static bool is_own(const char *path)
{
    static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"};
    char by_number[40];

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(path, names[i]) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (strncmp(path, folders[i], strlen(folders[i])) == 0)
            return true;
    (void)snprintf(by_number, sizeof by_number, "/proc/%ld/fd/", (long)getpid());
    return strncmp(path, by_number, strlen(by_number)) == 0;
}

static bool look(const char *path, unsigned *mode)
{
    struct stat st;

    if (opener != NULL && !is_own(path))
        return opener->look(path, mode) == 0;
    if (stat(path, &st) != 0)
        return false;
    *mode = st.st_mode;
    return true;
}

bool file_is_read_once(const char *path)
{
    unsigned mode;

    return is_own(path) || (look(path, &mode) && !S_ISREG(mode) && !S_ISDIR(mode));
}

unsigned file_open_mode(const char *path)
{
    unsigned mode;

    if (!look(path, &mode) || (mode & S_IRWXO) == 0)
        return 0;
    return mode & 07777u;
}

bool file_can_be_looked_at(const char *path)
{
    unsigned mode;

    return look(path, &mode) || (errno != FILE_OPENER_LATE && errno != FILE_OPENER_GONE);
}

bool file_path_next(char *path, char name[static NAME_MAX + 1])
{
    const char *start = path + strspn(path, "/");
    size_t n = strcspn(start, "/");

    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, start, n);
    name[n] = '\0';
    memmove(path, start + n, strlen(start + n) + 1);
    return true;
}

int file_open(const char *path)
{
    return opener != NULL && !is_own(path) ? opener->open(path) : file_open_here(path);
}

int file_open_here(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

const char *file_open_problem(int error)
{
    if (error == FILE_OPENER_GONE)
        return "the process that opens files has ended: nothing is read again before a restart";
    if (error == FILE_OPENER_LATE)
        return "the process that opens files does not answer: does a file system hang?";
    return strerror(error);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* read(2) returns 0 at the end of a pipe, but also on a FIFO that has no writer yet. poll(2) tells
 * the two apart: it reports the end only after there was a writer. So even the first read waits. */
static bool wait_readable(int fd, int64_t until_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        int64_t left = until_ms - now_ms();
        int n = poll(&p, 1, left > 0 ? (int)left : 0);

        if (n > 0)
            return true;
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ETIMEDOUT;
        return false;
    }
}

enum err file_read_all(int fd, uint8_t *buf, size_t cap, unsigned wait_ms, size_t *len)
{
    int64_t until_ms = now_ms() + wait_ms;

    *len = 0;
    while (*len < cap) {
        ssize_t n;

        if (!wait_readable(fd, until_ms))
            return ERR_SYSTEM;
        n = read(fd, buf + *len, cap - *len);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return ERR_SYSTEM;
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    return ERR_OK;
}

const char *file_read_problem(int error)
{
    return error == ETIMEDOUT ? "its writer has not closed the pipe in time" : strerror(error);
}
