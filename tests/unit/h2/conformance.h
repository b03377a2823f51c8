/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: tables of cases: what a peer sends, and which outcomes the RFCs allow. Gives: each of
 * them run on a connection of its own, over h2.h alone, against a peer that writes raw bytes.
 * Owns: nothing. Thread: one.
 *
 * The numbers of the cases are those of h2spec, a tool that asks the same of servers. They follow
 * the sections of RFC 7540; where RFC 9113 has loosened a rule, both behaviours are allowed. */
#ifndef TESTS_H2_CONFORMANCE_H
#define TESTS_H2_CONFORMANCE_H

#include "kit.h"

/* What the peer does, one after the other. What it sends is written at once, in one piece, before
 * it waits for anything. */
enum conf_do {
    CONF_OVER = 0,  /* ends the list */
    CONF_RAW,       /* the bytes of text, as they are */
    CONF_FRAME,     /* a frame with text as its payload */
    CONF_FIELDS,    /* a frame with a field block: text is "name: value\n..." */
    CONF_ZEROS,     /* a frame with n zero bytes as its payload */
    CONF_AWAIT,     /* waits for one more frame of the type (and, for an id, on it) */
    CONF_AWAIT_ACK, /* waits for one more acknowledgement of SETTINGS */
    CONF_AWAIT_END, /* waits until our end has ended the stream */
    CONF_EXPECT,    /* waits for one more DATA frame on the stream: it must have n bytes */
};

struct conf_step {
    enum conf_do what;
    uint8_t type, flags;
    uint32_t id;
    size_t n; /* bytes */
    const char *text;
};

#define RAW(t)                                                                                     \
    {                                                                                              \
        .what = CONF_RAW, .n = sizeof(t) - 1, .text = (t)                                          \
    }
#define FRAME(ty, fl, i, t)                                                                        \
    {                                                                                              \
        CONF_FRAME, ty, fl, i, sizeof(t) - 1, t                                                    \
    }
#define FIELDS(ty, fl, i, t)                                                                       \
    {                                                                                              \
        CONF_FIELDS, ty, fl, i, sizeof(t) - 1, t                                                   \
    }
#define ZEROS(ty, fl, i, len)                                                                      \
    {                                                                                              \
        CONF_ZEROS, ty, fl, i, len, NULL                                                           \
    }
#define AWAIT(ty, i)                                                                               \
    {                                                                                              \
        .what = CONF_AWAIT, .type = (ty), .id = (i)                                                \
    }
#define AWAIT_END(i)                                                                               \
    {                                                                                              \
        .what = CONF_AWAIT_END, .id = (i)                                                          \
    }
#define EXPECT_DATA(i, len)                                                                        \
    {                                                                                              \
        .what = CONF_EXPECT, .type = F_DATA, .id = (i), .n = (len)                                 \
    }

#define FLAG_PRIORITY 0x20
#define END FLAG_END_STREAM
#define WHOLE FLAG_END_HEADERS
#define LAST (FLAG_END_STREAM | FLAG_END_HEADERS)

#define GET ":method: GET\n:scheme: http\n:path: /\n:authority: x\n"
#define POST ":method: POST\n:scheme: http\n:path: /\n:authority: x\n"
/* GET as a field block: three entries of the static table and a literal (RFC 7541 appendix A). */
#define GET_BLOCK                                                                                  \
    "\x82\x86\x84\x01\x01"                                                                         \
    "x"
/* A request with and without the end of its stream. */
#define REQUEST(i) FIELDS(F_HEADERS, LAST, i, GET)
#define OPEN(i) FIELDS(F_HEADERS, WHOLE, i, POST)
#define DATA(fl, i, t) FRAME(F_DATA, fl, i, t)
#define RST(i) FRAME(F_RST, 0, i, "\0\0\0\x8")
#define PRIORITY(i) FRAME(F_PRIORITY, 0, i, "\0\0\0\0\xff")
/* t: the four bytes of the value. */
#define WINDOW(i, t) FRAME(F_WINDOW, 0, i, t)
#define SETTINGS(t) FRAME(F_SETTINGS, 0, 0, t)
#define INITIAL_WINDOW(t) "\0\4" t
#define AWAIT_ACK                                                                                  \
    {                                                                                              \
        .what = CONF_AWAIT_ACK                                                                     \
    }
#define ONE "\0\0\0\1"
#define TWO "\0\0\0\2"
#define NONE "\0\0\0\0"
#define MOST "\x7f\xff\xff\xff" /* the largest window (RFC 9113 section 6.9.1) */

/* What may be seen of our end, any of them. */
enum conf_see {
    CONF_GOAWAY = 1, /* GOAWAY with one of the codes, and the connection is closed behind it */
    CONF_RST = 2,    /* RST_STREAM with one of the codes on the stream; the connection goes on */
    CONF_CLOSE = 4,  /* the connection is closed without a word */
    CONF_ANSWER = 8, /* the stream has a whole answer; the connection goes on */
    CONF_ALIVE = 16, /* the connection goes on, and the stream of the case was not reset */
};

struct conf_outcome {
    unsigned see;
    unsigned codes; /* 1 << code */
    uint32_t id;
};

/* As h2_code, with those that h2.h does not need. */
#define CODE(c) (1u << CONF_##c)
enum {
    CONF_NO_ERROR = 0,
    CONF_PROTOCOL_ERROR = 1,
    CONF_FLOW_CONTROL_ERROR = 3,
    CONF_STREAM_CLOSED = 5,
    CONF_FRAME_SIZE_ERROR = 6,
    CONF_REFUSED_STREAM = 7,
    CONF_COMPRESSION_ERROR = 9,
    CONF_CODES = 14
};

#define CONN_ERROR(codes)                                                                          \
    {                                                                                              \
        CONF_GOAWAY, codes, 0                                                                      \
    }
/* RFC 9113 section 5.4.2: it may be treated as an error of the connection. */
#define STREAM_ERROR(id, codes)                                                                    \
    {                                                                                              \
        CONF_GOAWAY | CONF_RST, codes, id                                                          \
    }
#define ANSWERED(id)                                                                               \
    {                                                                                              \
        CONF_ANSWER, 0, id                                                                         \
    }
/* The RFC leaves open whether it is an error. */
#define ERROR_OR_ALIVE(id, codes)                                                                  \
    {                                                                                              \
        CONF_GOAWAY | CONF_RST | CONF_ALIVE, codes, id                                             \
    }
#define ALIVE_OR_CLOSED                                                                            \
    {                                                                                              \
        CONF_GOAWAY | CONF_CLOSE | CONF_ALIVE, CODE(NO_ERROR), 0                                   \
    }
#define ALIVE                                                                                      \
    {                                                                                              \
        CONF_ALIVE, 0, 0                                                                           \
    }

enum {
    CONF_CLIENT = 1, /* our end is the client, with stream 1 complete and stream 3 still open */
    CONF_SILENT = 2, /* our server does not answer; our client gives no credit */
    CONF_BARE = 4,   /* the peer begins with the steps: no preface and no SETTINGS */
    CONF_LATE = 8,   /* the error comes behind a whole answer to our client */
};

struct conf_case {
    const char *name, *what;
    struct conf_outcome allowed;
    const struct conf_step *steps;
    unsigned options;
    /* Where we do something else on purpose: what that is, and why. */
    struct conf_outcome instead;
    const char *why;
};

#define STEPS(...)                                                                                 \
    (const struct conf_step[])                                                                     \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

#define CASE(name_, what_, options_, allowed_, ...)                                                \
    {                                                                                              \
        .name = name_, .what = what_, .options = options_, .allowed = allowed_,                    \
        .steps = STEPS(__VA_ARGS__)                                                                \
    }
#define ON_PURPOSE(name_, what_, why_, allowed_, instead_, ...)                                    \
    {                                                                                              \
        .name = name_, .what = what_, .why = why_, .allowed = allowed_, .instead = instead_,       \
        .steps = STEPS(__VA_ARGS__)                                                                \
    }

struct conf_table {
    const struct conf_case *v;
    size_t count;
};

extern const struct conf_table conf_generic, conf_streams, conf_frames, conf_messages, conf_hpack,
    conf_server, conf_client;

/* Is the outcome what the case demands (instead, where it has one)? Else text says what was seen.
 */
bool conf_run(const struct conf_case *c, char *text, size_t cap);

#endif
