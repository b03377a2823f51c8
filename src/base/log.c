/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a line:
 *   1. log_write formats it into a buffer on the stack;
 *   2. one write(2) of at most PIPE_BUF bytes puts it whole into a non-blocking pipe;
 *   3. the writer thread copies the pipe to stderr and may block there as long as it likes.
 * Failure modes:
 *  - the pipe is full: the line is dropped and counted;
 *  - stderr is gone or its disk is full: the writer goes on reading, so that no caller ever waits,
 *    and counts what it could not write;
 *  - nobody reads stderr when the program ends: log_stop leaves the writer behind.
 * The next line that gets out follows one that says how many are missing. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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
#define FIELDS_MAX_BYTES 2048
#define STOP_MS 2000 /* for what is queued */
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line is one atomic write");

static struct {
    enum log_level level;
    enum log_format format;
    int pipe[2]; /* -1 while the writer does not run */
    pthread_t thread;
    bool is_running; /* there is a thread */
    bool is_stuck;   /* and it was left behind: nothing is logged any more */
    uint64_t lost;   /* dropped lines that are not reported yet; any thread adds */
    bool is_torn;    /* writer thread only: stderr got the beginning of a line and not its end */
} logger = {.level = LOG_INFO, .pipe = {-1, -1}};

static size_t format_line(char line[static LINE_MAX_BYTES], enum log_level level, const char *msg,
                          const char *fmt, const char *fields);

static void drop_lines(uint64_t n)
{
    metric_add(METRIC_log_dropped_total, n);
    __atomic_fetch_add(&logger.lost, n, __ATOMIC_RELAXED);
}

/* Returns how many bytes got out. Waits for a stderr that somebody made non-blocking. */
static size_t write_all(int fd, const char *p, size_t n)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    size_t at = 0;

    while (at < n) {
        ssize_t done = write(fd, p + at, n - at);

        if (done > 0)
            at += (size_t)done;
        else if (done < 0 && errno == EAGAIN)
            (void)poll(&room, 1, -1);
        else if (done == 0 || errno != EINTR)
            return at;
    }
    return at;
}

/* --- the writer thread ------------------------------------------------------------------------ */

/* Whole lines. Returns how many bytes got out. */
static size_t put_out(const char *lines, size_t n)
{
    size_t done;

    if (logger.is_torn && write_all(STDERR_FILENO, "\n", 1) != 1)
        return 0;
    logger.is_torn = false;
    done = write_all(STDERR_FILENO, lines, n);
    logger.is_torn = done > 0 && lines[done - 1] != '\n';
    return done;
}

/* Says how many lines are missing. False when that does not get out either. */
static bool tell_lost(void)
{
    uint64_t lost = __atomic_exchange_n(&logger.lost, 0, __ATOMIC_RELAXED);
    char line[LINE_MAX_BYTES], fields[40];
    size_t n;

    if (lost == 0)
        return true;
    snprintf(fields, sizeof fields, "count=%llu", (unsigned long long)lost);
    n = format_line(line, LOG_WARN, "log lines were dropped", "count=%llu", fields);
    if (put_out(line, n) == n)
        return true;
    __atomic_fetch_add(&logger.lost, lost, __ATOMIC_RELAXED);
    return false;
}

static void write_lines(const char *p, size_t n)
{
    size_t done = tell_lost() ? put_out(p, n) : 0;
    uint64_t lost = 0;

    for (size_t i = done; i < n; i++)
        lost += p[i] == '\n';
    if (lost > 0)
        drop_lines(lost);
    else
        (void)tell_lost(); /* lines that found the pipe full meanwhile */
}

static void *writer_main(void *arg)
{
    char buf[65536];
    int fd = *(int *)arg;
    size_t have = 0;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;) {
        ssize_t n = read(fd, buf + have, sizeof buf - have);
        const char *last;
        size_t whole;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            (void)tell_lost();
            return NULL;
        }
        have += (size_t)n;
        last = memrchr(buf, '\n', have); /* the read may have ended within a line */
        if (last == NULL)
            continue;
        whole = (size_t)(last - buf) + 1;
        write_lines(buf, whole);
        memmove(buf, buf + whole, have - whole);
        have -= whole;
    }
}

/* --- start and stop --------------------------------------------------------------------------- */

enum err log_open(enum log_level level, enum log_format format)
{
    logger.level = level;
    logger.format = format;
    if (pipe2(logger.pipe, O_CLOEXEC) != 0)
        return ERR_SYSTEM;
    return fcntl(logger.pipe[1], F_SETFL, O_NONBLOCK) == 0 ? ERR_OK : ERR_SYSTEM;
}

enum err log_run(void)
{
    int error = pthread_create(&logger.thread, NULL, writer_main, &logger.pipe[0]);

    if (error != 0) {
        errno = error;
        return ERR_SYSTEM;
    }
    logger.is_running = true;
    return ERR_OK;
}

enum err log_start(enum log_level level, enum log_format format)
{
    TRY(log_open(level, format));
    return log_run();
}

/* False: the writer hangs in stderr. */
static bool join_writer(void)
{
    for (int ms = 0; ms < STOP_MS; ms++) {
        if (pthread_tryjoin_np(logger.thread, NULL) == 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

void log_stop(void)
{
    if (logger.pipe[1] < 0)
        return;
    close(logger.pipe[1]);
    logger.pipe[1] = -1;
    if (!logger.is_running)
        (void)writer_main(&logger.pipe[0]); /* a start that failed before it had a thread */
    else
        logger.is_stuck = !join_writer();
    logger.is_running = false;
    if (logger.is_stuck) {
        pthread_detach(logger.thread); /* it has its end of the pipe until the program ends */
        return;
    }
    close(logger.pipe[0]);
    logger.pipe[0] = -1;
}

bool log_is_on(enum log_level level)
{
    return level >= logger.level;
}

bool log_rate_ok(struct log_rate *rate, enum log_level level, const char *msg)
{
    struct timespec now;
    uint64_t seen, left_out;

    clock_gettime(CLOCK_MONOTONIC, &now);
    seen = __atomic_load_n(&rate->second, __ATOMIC_RELAXED);
    if (seen == (uint64_t)now.tv_sec ||
        !__atomic_compare_exchange_n(&rate->second, &seen, (uint64_t)now.tv_sec, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        metric_add(METRIC_log_left_out_total, 1);
        __atomic_fetch_add(&rate->left_out, 1, __ATOMIC_RELAXED);
        return false;
    }
    left_out = __atomic_exchange_n(&rate->left_out, 0, __ATOMIC_RELAXED);
    if (left_out > 0)
        log_write(level, "lines were left out", "count=%llu of=\"%s\"",
                  (unsigned long long)left_out, msg);
    return true;
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

static size_t format_json(char line[static LINE_MAX_BYTES], const char *stamp, const char *level,
                          const char *msg, const char *fmt, const char *fields)
{
    size_t n = (size_t)snprintf(line, LINE_MAX_BYTES, "{\"ts\":\"%s\",\"level\":\"%s\",\"msg\":\"",
                                stamp, level);

    n = json_escape(line, LINE_MAX_BYTES / 4, n, msg);
    line[n++] = '"';
    n += logfmt_json(line + n, LINE_MAX_BYTES - 2 - n, fmt, fields);
    line[n++] = '}';
    line[n++] = '\n';
    return n;
}

/* fields: what was made of fmt. Returns the length, which the newline ends. */
static size_t format_line(char line[static LINE_MAX_BYTES], enum log_level level, const char *msg,
                          const char *fmt, const char *fields)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct timespec now;
    char second[40], stamp[80];
    struct tm tm;
    size_t n;
    int len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp, sizeof stamp, "%s.%03ldZ", second, now.tv_nsec / 1000000);
    if (logger.format == LOG_JSON)
        return format_json(line, stamp, names[level], msg, fmt, fields);
    len = snprintf(line, LINE_MAX_BYTES, "%s %-5s %s%s%s\n", stamp, names[level], msg,
                   fields[0] ? " " : "", fields);
    n = len < LINE_MAX_BYTES ? (size_t)len : LINE_MAX_BYTES - 1;
    line[n - 1] = '\n';
    return n;
}

static bool put_line(const char *line, size_t n)
{
    if (logger.is_stuck)
        return false;
    if (logger.pipe[1] < 0)
        return write_all(STDERR_FILENO, line, n) == n;
    return write(logger.pipe[1], line, n) == (ssize_t)n;
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES], fields[FIELDS_MAX_BYTES];
    va_list ap;
    size_t n;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    logfmt_vwrite(fields, sizeof fields, fmt, ap);
    va_end(ap);
    n = format_line(line, level, msg, fmt, fields);
    if (!put_line(line, n))
        drop_lines(1);
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
