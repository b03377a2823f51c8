/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a test. Gives: a loop that is run step by step, h2 ends that record what happens to
 * them, and a raw peer that writes frames byte by byte. Owns: all of them. Thread: one. */
#ifndef TESTS_H2_KIT_H
#define TESTS_H2_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2/h2.h"

struct kit {
    struct loop loop;
    struct slab_pool pool;
    struct loop_timer tick;
};

void kit_init(struct kit *k);
/* Everything that was made in it must be closed: checks that no slab and no handle is left. */
void kit_fini(struct kit *k);
/* One turn of the loop, at most 5 ms long. */
void kit_turn(struct kit *k);
/* Turns the loop for ms. */
void kit_run_ms(struct kit *k, unsigned ms);
/* Turns until cond or for 5 s; then the test fails. */
#define KIT_UNTIL(k, cond)                                                                         \
    do {                                                                                           \
        uint64_t end_ = loop_hrtime_ns() + 5000000000ull;                                          \
        while (!(cond)) {                                                                          \
            if (loop_hrtime_ns() > end_)                                                           \
                fail_msg("timed out waiting for: %s", #cond);                                      \
            kit_turn(k);                                                                           \
        }                                                                                          \
    } while (0)

/* What happened on a stream. Outlives it. */
struct rec {
    struct list node;
    struct end *end;
    struct h2_stream *s; /* NULL after on_close */
    char *headers;       /* "name: value\n..." */
    char *trailers;
    uint8_t *body;
    size_t body_len, body_cap;
    size_t drained;
    unsigned headers_count, end_count, trailers_count, close_count;
    bool headers_end;  /* END_STREAM with them */
    bool is_hungry;    /* gives credit for what comes; set at first */
    bool is_forgetful; /* counts the body only */
    enum h2_code code;
    enum h2_end how;
};

/* One end of a connection. */
struct end {
    struct kit *k;
    struct h2_conn *c; /* NULL after on_conn_closed */
    struct list recs;
    struct rec *last; /* the newest */
    unsigned recs_count;
    unsigned ready_count, room_count, goaway_count, idle_count, lost_count;
    enum h2_code goaway_code;
    enum err lost_err;
    char lost_why[128];
    bool keep_on_lost; /* does not close in on_lost */
    bool is_deaf;      /* takes no request */
    /* What the test wants to do inside the callbacks. */
    void (*on_request)(struct rec *r);
    void (*on_response)(struct rec *r);
    void (*on_data)(struct rec *r, size_t n);
    void (*on_end)(struct rec *r);
    void (*on_drained)(struct rec *r);
    void (*on_close)(struct rec *r);
    void *arg;
};

extern const struct h2_opts kit_server_opts, kit_client_opts;

/* Makes an end over a connected fd. */
void end_init(struct end *e, struct kit *k, int fd, const struct h2_opts *opts);
/* Two ends over a socket pair. opts NULL: the defaults of the kit. */
void end_pair(struct kit *k, struct end *client, const struct h2_opts *copts, struct end *server,
              const struct h2_opts *sopts);
/* Closes and waits; frees what was recorded. */
void end_close(struct end *e);
void kit_socketpair(int fd[2]);

/* --- kit_odd.c --- */

/* Says GOAWAY with that last id, and goes on. */
void end_goaway(struct end *e, uint32_t last_id);
/* The highest id that the peer has opened. */
uint32_t end_peer_id(const struct end *e);
uint32_t rec_id(const struct rec *r);
/* Other SETTINGS than before; its streams' windows go with what it says. */
void end_settings(struct end *e, uint32_t max_streams, uint32_t stream_window);
/* Gives no credit of the connection any more, or all of it again. */
void end_hold_window(struct end *e, bool is_held);

/* gRPC-like headers. */
extern const struct h2_fields kit_request, kit_response, kit_trailers, kit_trailers_only;
struct rec *end_request(struct end *e, struct h2_fields f, bool last);
/* The same with h2_request_take. */
struct rec *end_request_take(struct end *e, struct h2_fields *f, bool last);
/* Sends n bytes of the pattern that starts at from. */
void rec_send(struct rec *r, size_t from, size_t n, size_t piece, bool last);
bool kit_is_pattern(const uint8_t *p, size_t from, size_t n);
/* A server's whole unary answer: headers, n bytes, trailers. */
void rec_answer(struct rec *r, size_t n);

/* --- the raw peer --- */

struct raw {
    struct kit *k;
    int fd;
    uint8_t *in;
    size_t in_len, in_cap;
    size_t at; /* of the next frame in in */
    bool is_eof;
};

struct raw_frame {
    uint8_t type, flags;
    uint32_t id;
    const uint8_t *p;
    uint32_t len;
};

void raw_init(struct raw *r, struct kit *k, int fd);
void raw_fini(struct raw *r);
/* Writes all, turning the loop meanwhile. False: the other end is gone. */
bool raw_write(struct raw *r, const void *p, size_t n);
bool raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n);
/* The client's preface and empty SETTINGS. */
void raw_hello(struct raw *r);
/* Appends a frame, or a literal field (RFC 7541 section 6.2.2, lengths below 127), to a buffer. */
size_t raw_put_frame(uint8_t *to, uint8_t type, uint8_t flags, uint32_t id, const void *p,
                     size_t n);
size_t raw_put_field(uint8_t *to, const char *name, const char *value);
/* A whole request's field block. */
size_t raw_put_request(uint8_t *to);
/* Reads what is there without blocking. */
void raw_read(struct raw *r);
/* The next frame that came; false: none yet. */
bool raw_next(struct raw *r, struct raw_frame *f);
/* Turns until a frame of the type comes, skipping others; fails the test after 5 s. */
struct raw_frame raw_await(struct raw *r, uint8_t type);
/* Turns until the end of the connection; false after ms. */
bool raw_await_eof(struct raw *r, unsigned ms);

enum {
    F_DATA,
    F_HEADERS,
    F_PRIORITY,
    F_RST,
    F_SETTINGS,
    F_PUSH,
    F_PING,
    F_GOAWAY,
    F_WINDOW,
    F_CONT
};
#define FLAG_ACK 1
#define FLAG_END_STREAM 1
#define FLAG_END_HEADERS 4
#define FLAG_PADDED 8

#endif
