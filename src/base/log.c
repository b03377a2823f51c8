/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a line:
 *   1. log_write formats it into a buffer on the stack;
 *   2. one write(2) of at most PIPE_BUF bytes puts it whole into a non-blocking pipe;
 *   3. the writer thread copies the pipe to stderr and may block there as long as it likes.
 * Failure modes: pipe full -> the line is dropped and counted; stderr gone -> the writer goes on
 * reading, so nobody upstream of it ever waits. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/logfmt.h"
#include "base/metrics.h"

#define LINE_MAX_BYTES 4096
#define DETAILS_MAX_BYTES 2048
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line is one atomic write");

static struct {
    enum log_level level;
    enum log_format format;
    int pipe[2]; /* -1 while the writer does not run */
    pthread_t thread;
} logger = {.level = LOG_INFO, .pipe = {-1, -1}};

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

static void *writer_main(void *arg)
{
    char buf[65536];
    int fd = *(int *)arg;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;) {
        ssize_t n = read(fd, buf, sizeof buf);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return NULL;
        write_all(STDERR_FILENO, buf, (size_t)n);
    }
}

enum err log_start(enum log_level level, enum log_format format)
{
    logger.level = level;
    logger.format = format;
    if (pipe2(logger.pipe, O_CLOEXEC) != 0)
        return ERR_SYSTEM;
    if (fcntl(logger.pipe[1], F_SETFL, O_NONBLOCK) != 0)
        return ERR_SYSTEM;
    if (pthread_create(&logger.thread, NULL, writer_main, &logger.pipe[0]) != 0)
        return ERR_SYSTEM;
    return ERR_OK;
}

void log_stop(void)
{
    if (logger.pipe[1] < 0)
        return;
    close(logger.pipe[1]);
    pthread_join(logger.thread, NULL);
    close(logger.pipe[0]);
    logger.pipe[0] = logger.pipe[1] = -1;
}

bool log_is_on(enum log_level level)
{
    return level >= logger.level;
}

bool log_rate_ok(struct log_rate *rate)
{
    struct timespec now;
    uint64_t seen;

    clock_gettime(CLOCK_MONOTONIC, &now);
    seen = __atomic_load_n(&rate->second, __ATOMIC_RELAXED);
    if (seen == (uint64_t)now.tv_sec)
        return false;
    return __atomic_compare_exchange_n(&rate->second, &seen, (uint64_t)now.tv_sec, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Appends s to buf as the inside of a JSON string; cuts where room ends. */
static size_t json_escape(char *buf, size_t cap, size_t at, const char *s)
{
    for (; *s != '\0' && at + 8 < cap; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            at += (size_t)snprintf(buf + at, cap - at, "\\%c", c);
        else if (c < 0x20)
            at += (size_t)snprintf(buf + at, cap - at, "\\u%04x", c);
        else
            buf[at++] = (char)c;
    }
    return at;
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LINE_MAX_BYTES], details[DETAILS_MAX_BYTES], stamp[40];
    struct timespec now;
    struct tm tm;
    va_list ap;
    size_t n;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    logfmt_vwrite(details, sizeof details, fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    if (logger.format == LOG_JSON) {
        n = (size_t)snprintf(line, sizeof line, "{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\",\"msg\":\"",
                             stamp, now.tv_nsec / 1000000, names[level]);
        n = json_escape(line, sizeof line - 32, n, msg);
        n += (size_t)snprintf(line + n, sizeof line - n, "\",\"details\":\"");
        n = json_escape(line, sizeof line - 4, n, details);
        n += (size_t)snprintf(line + n, sizeof line - n, "\"}\n");
    } else {
        int len =
            snprintf(line, sizeof line, "%s.%03ldZ %-5s %s%s%s\n", stamp, now.tv_nsec / 1000000,
                     names[level], msg, details[0] ? " " : "", details);

        n = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
        line[n - 1] = '\n';
    }
    if (logger.pipe[1] < 0)
        write_all(STDERR_FILENO, line, n);
    else if (write(logger.pipe[1], line, n) != (ssize_t)n)
        metric_add(METRIC_log_dropped_total, 1);
}

const char *log_key(const void *key, size_t n, char out[static LOG_KEY_MAX])
{
    static const char hex[] = "0123456789ABCDEF";
    const uint8_t *p = key;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~' || c == '/';

        if (at + (plain ? 1 : 3) > LOG_KEY_MAX - 1)
            break;
        if (plain) {
            out[at++] = (char)c;
        } else {
            out[at++] = '%';
            out[at++] = hex[c >> 4];
            out[at++] = hex[c & 15];
        }
    }
    out[at] = '\0';
    return out;
}
