/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: one event with its fields. Gives: one line on stderr, text or JSON.
 * Owns: a pipe and the thread that drains it. Thread: any.
 *
 * A caller never waits: when the pipe is full, or stderr takes nothing, the line is dropped and
 * counted (metric log_dropped_total), so a stuck terminal or a full disk delays no request. The
 * first line that gets out again follows one that says how many are missing.
 * Never log bytes of values, DEKs, wrapped DEKs: lengths and ids only. Names of etcd keys (of
 * secrets, that is) at level debug only, hashed above it: status_log_text. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

/* Lines are queued from now on, in a pipe that holds some hundred. Before it, and after log_stop,
 * they go straight to stderr. Errors: ERR_SYSTEM. */
MUST_CHECK enum err log_open(enum log_level level, enum log_format format);
/* Starts the thread that writes them out, for a process whose threads may only begin later than its
 * log. Errors: ERR_SYSTEM. */
MUST_CHECK enum err log_run(void);
/* Both. */
MUST_CHECK enum err log_start(enum log_level level, enum log_format format);
/* Writes out what is queued and ends the thread. Where nobody reads stderr it gives up after 2 s:
 * the thread stays until the program ends, and whatever is logged later is dropped. */
void log_stop(void);
bool log_is_on(enum log_level level);

/* msg: what happened. fmt: fields, "key=%s key2=%d". Both are constant text. A %s argument may come
 * from a peer or a file: it is quoted and escaped, so that it can forge neither a field nor a line,
 * and JSON is always valid. key=%s gets quotes where they are needed, key="%s" always; see
 * base/logfmt.h for the conversions. At most 2 KiB of fields. */
void log_write(enum log_level level, const char *msg, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define LOG(level, msg, ...)                                                                       \
    do {                                                                                           \
        if (log_is_on(LOG_##level))                                                                \
            log_write(LOG_##level, msg, __VA_ARGS__);                                              \
    } while (0)

/* At most one line a second per place in the code, for what a peer can cause at will. Those left
 * out are counted (metric log_left_out_total), and the next line follows one that says how many. */
#define LOG_RATED(level, msg, ...)                                                                 \
    do {                                                                                           \
        static struct log_rate rate_;                                                              \
        if (log_is_on(LOG_##level) && log_rate_ok(&rate_, LOG_##level, msg))                       \
            log_write(LOG_##level, msg, __VA_ARGS__);                                              \
    } while (0)

struct log_rate {
    uint64_t second; /* both are atomic: several workers may log from the same place */
    uint64_t left_out;
};
/* False, and counted, when this second had its line. msg: the line's. */
bool log_rate_ok(struct log_rate *rate, enum log_level level, const char *msg);

/* Percent-encodes an etcd key for texts (RFC 3986 unreserved and '/' stay), cut at 256 bytes of
 * output. out is NUL-terminated. Returns out. */
#define LOG_KEY_MAX 257
const char *log_key(const void *key, size_t n, char out[static LOG_KEY_MAX]);

#endif
