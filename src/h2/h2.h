/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: bytes of a connection. Gives: streams with headers, data by reference, trailers.
 * Owns: the net_conn from h2_conn_new on, streams, compression tables. Thread: its loop's.
 *
 * Rules of the house:
 *  - DATA comes in as slices of the read slab and goes out by reference; small pieces are gathered.
 *  - Connection credit is given back on receipt, always. Stream credit only by h2_stream_credit.
 *  - One flush per loop turn; window updates, PING and SETTINGS answers ride with it.
 *  - Callbacks may call any function here on any stream, h2_conn_close included.
 *  - on_close comes exactly once for every stream, from the loop or from inside the processing of
 *    input, never from inside a call that the owner of the stream made. The stream pointer is valid
 *    until then, the connection pointer until on_conn_closed.
 * Sources: RFC 9113, RFC 7541, gRPC over HTTP2; flood limits: see guard.c. */
#ifndef H2_H2_H
#define H2_H2_H

#include "net/conn.h"

struct h2_conn;
struct h2_stream;

/* About what an idle stream takes in memory. */
#define H2_STREAM_COST 256u

/* Error codes of RST_STREAM and GOAWAY (RFC 9113 section 7). */
enum h2_code {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_STREAM_CLOSED = 5,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_ENHANCE_YOUR_CALM = 11,
};

/* One header field; names are lower case. Borrowed. */
struct h2_field {
    struct bytes name, value;
};

/* A received field list: borrowed for the callback, pseudo-header fields among it in order. */
struct h2_fields {
    const struct h2_field *v;
    size_t count;
};

/* How a stream ended. */
enum h2_end {
    H2_END_RESET = 0, /* by RST_STREAM, the peer's or ours, or by GOAWAY; code says why */
    H2_END_COMPLETE,  /* complete both ways (H2_NO_ERROR) */
    H2_END_LOST,      /* its connection ended before it did */
};

/* What happens on a stream. */
struct h2_stream_ops {
    /* Client role: final response headers (1xx are dropped), legal as those of a request: there may
     * be no :status among them. end_stream: "trailers-only" for gRPC. */
    void (*on_response)(struct h2_stream *s, struct h2_fields h, bool end_stream);
    /* Message bytes: take *data. Padding is not among it and is credited by h2 itself. */
    void (*on_data)(struct h2_stream *s, struct slice *data);
    /* Trailers; the stream's receiving side is over (on_end does not follow). */
    void (*on_trailers)(struct h2_stream *s, struct h2_fields h);
    /* END_STREAM on a DATA frame. */
    void (*on_end)(struct h2_stream *s);
    /* n bytes of h2_stream_send went into frames (left the stream's queue). */
    void (*on_drained)(struct h2_stream *s, size_t n);
    /* The stream is over. code: what a reset said (H2_REFUSED_STREAM by GOAWAY: not processed by
     * the peer, safe to repeat elsewhere); H2_INTERNAL_ERROR with a lost connection, or
     * H2_REFUSED_STREAM for a request that had not left. A server whose answer is complete resets
     * what is still open of the request: H2_END_RESET with H2_NO_ERROR. */
    void (*on_close)(struct h2_stream *s, enum h2_code code, enum h2_end how);
};

/* What happens on a connection. */
struct h2_conn_ops {
    /* Server role: a request began. Call h2_stream_set_owner on s here, or it is refused. Names and
     * values are legal (message.c), no pseudo-header field comes twice, and all is within
     * LIMIT_HEADER_BYTES and _FIELDS; any pseudo-header field may be missing. end_stream: no body.
     */
    void (*on_request)(struct h2_conn *c, struct h2_stream *s, struct h2_fields h, bool end_stream);
    /* The peer's first SETTINGS are in: the connection is good. */
    void (*on_ready)(struct h2_conn *c);
    /* The peer sent GOAWAY; streams above the id that it names get their on_close. New streams are
     * refused. */
    void (*on_goaway)(struct h2_conn *c, enum h2_code code);
    /* May be NULL. Later SETTINGS of the peer's allow more streams than those before. */
    void (*on_room)(struct h2_conn *c);
    /* May be NULL. A stream had its on_close and none is open any more. */
    void (*on_idle)(struct h2_conn *c);
    /* The connection failed or ended; all streams have had their on_close. Once, and not after
     * h2_conn_close. The receiver calls h2_conn_close, now or later. */
    void (*on_lost)(struct h2_conn *c, enum err why);
    /* Last call; c is freed behind it. */
    void (*on_conn_closed)(struct h2_conn *c);
};

struct h2_opts {
    bool is_server;
    /* Client role: the server, too, is cut off when it sends too many frames that do nothing
     * (guard.c). A server's clients always are. */
    bool is_guarded;
    uint32_t max_streams;   /* announced (server) */
    uint32_t stream_window; /* our receive window of a stream, when it begins */
    uint32_t conn_window;
    uint32_t max_frame_size; /* announced; 16384 for clients' data, 1 MiB is fine towards etcd */
    uint64_t ping_ms;        /* keepalive while streams are open; 0: none */
    bool is_pinged_idle;     /* and without streams */
    uint64_t ping_ack_ms;    /* no answer to a PING for so long: lost, with ERR_TIMEOUT */
    uint64_t write_stall_ms; /* queued bytes and no progress for so long: lost; 0: no such limit */
    uint64_t headers_ms;     /* a header block is whole so long after its first byte, and any other
                                frame but DATA; else the peer is cut; 0: no such limit */
};

/* --- before there is a connection --- */

/* What a client's first bytes are. */
enum h2_greeting {
    H2_GREETING_BAD = 0,  /* begins as HTTP/2 does, and goes on wrong */
    H2_GREETING_NONE,     /* not HTTP/2 */
    H2_GREETING_PREFACE,  /* right as far as it goes, which is not beyond the preface */
    H2_GREETING_SETTINGS, /* the preface is there, but not the whole SETTINGS frame behind it */
    H2_GREETING_WHOLE,    /* both are: time for h2_conn_new */
};
#define H2_GREETING_MAX 225u /* the longest that is taken */
enum h2_greeting h2_greeting_judge(struct bytes first);

/* Takes an open connection (also on error, when it is closed) and queues the preface and SETTINGS.
 * Errors: ERR_NOMEM. */
MUST_CHECK enum err h2_conn_new(struct loop *loop, struct slab_pool *pool, struct net_conn *net,
                                const struct h2_opts *opts, const struct h2_conn_ops *ops,
                                void *user, struct h2_conn **out);
void *h2_conn_user(const struct h2_conn *c);
const char *h2_conn_peer(const struct h2_conn *c);
const char *h2_conn_why(const struct h2_conn *c);
/* Why we have ended a lost connection: for what its peer did, or left undone. ERR_OK: we have
 * not. */
enum err h2_conn_blame(const struct h2_conn *c);
/* When the peer's last bytes came, as loop_now_ms. */
uint64_t h2_conn_read_at_ms(const struct h2_conn *c);
/* Bytes of DATA that went into frames so far. */
uint64_t h2_conn_sent(const struct h2_conn *c);
size_t h2_conn_stream_count(const struct h2_conn *c);
/* How many streams the peer allows us to have open (its SETTINGS); client role, after on_ready. */
uint32_t h2_conn_peer_streams(const struct h2_conn *c);
/* Can h2_request succeed now: ready, no GOAWAY, stream ids left, below the peer's limit? */
bool h2_conn_can_request(const struct h2_conn *c);
/* Graceful stop, server: GOAWAY with last id 2^31-1 and a PING; after its ack (or 1 s) GOAWAY with
 * the real last id. Streams go on. */
void h2_conn_shutdown(struct h2_conn *c);
/* Sends GOAWAY(code), writes what is queued for at most linger_ms, closes. Streams end with
 * on_close (from the loop). Idempotent. Of a client that has requests without an answer and does
 * not linger, or whose peer fell silent, nothing reaches the peer any more (TCP RST). */
void h2_conn_close(struct h2_conn *c, enum h2_code code, uint64_t linger_ms);

/* Server role, from on_request: who hears of the stream. ops live as long as it. */
void h2_stream_set_owner(struct h2_stream *s, const struct h2_stream_ops *ops, void *user);
void h2_stream_set_user(struct h2_stream *s, void *user);
void *h2_stream_user(const struct h2_stream *s);
struct h2_conn *h2_stream_conn(const struct h2_stream *s);

/* Client role: opens a stream. headers are copied; ops live as long as it. end: no body follows.
 * Errors: ERR_CLOSED when the connection takes no more streams, ERR_NOMEM. */
MUST_CHECK enum err h2_request(struct h2_conn *c, struct h2_fields headers, bool end,
                               const struct h2_stream_ops *ops, void *user, struct h2_stream **out);
/* The same without a copy: takes *headers (also on error), of which v is one object of the
 * connection's slab_pool, and has the bytes in it that do not outlive the stream. */
MUST_CHECK enum err h2_request_take(struct h2_conn *c, struct h2_fields *headers, bool end,
                                    const struct h2_stream_ops *ops, void *user,
                                    struct h2_stream **out);
/* Client role, once, right behind h2_request: whose stream it is. Those who share a connection take
 * turns at sending, and then the streams of each. id is not 0. */
void h2_stream_share(struct h2_stream *s, uint64_t id);
/* Server role: response headers; end: trailers-only. */
MUST_CHECK enum err h2_respond(struct h2_stream *s, struct h2_fields headers, bool end);
/* Queues message bytes: takes all of data (also on error). end: END_STREAM behind them. Data may be
 * empty. Server role: after h2_respond. Errors: ERR_NOMEM (the stream is reset: nothing may follow
 * a part), ERR_CLOSED (stream over; the bytes are dropped). */
MUST_CHECK enum err h2_stream_send(struct h2_stream *s, struct chain *data, bool end);
/* Server role: trailers behind the queued data; the sending side is over. */
MUST_CHECK enum err h2_stream_trailers(struct h2_stream *s, struct h2_fields trailers);
/* The same without a copy: takes *trailers as h2_request_take takes headers. */
MUST_CHECK enum err h2_stream_trailers_take(struct h2_stream *s, struct h2_fields *trailers);
/* Did the peer break HTTP's rules for messages? Then we reset the stream (H2_PROTOCOL_ERROR). */
bool h2_stream_is_malformed(const struct h2_stream *s);
/* Bytes queued on the stream, not yet in frames. */
size_t h2_stream_queued(const struct h2_stream *s);
/* Those bytes. Borrowed until the stream's next call or turn. */
const struct chain *h2_stream_out(const struct h2_stream *s);
/* Whose window keeps them from leaving. */
enum h2_held { H2_HELD_NOT = 0, H2_HELD_BY_STREAM, H2_HELD_BY_CONN };
enum h2_held h2_stream_held(const struct h2_stream *s);
/* Drops them, for the peer does not take them. What is in frames stays; trailers may follow, and
 * those that wait leave now. */
void h2_stream_discard(struct h2_stream *s);
/* The memory that the queued bytes keep from being freed: their slabs as a whole. */
size_t h2_stream_pinned(const struct h2_stream *s);
/* Gives the peer n bytes of stream window back. */
void h2_stream_credit(struct h2_stream *s, size_t n);
/* Makes the stream's receive window this large (at most 2^30), if it is smaller and the peer has
 * not ended its side. */
void h2_stream_widen(struct h2_stream *s, uint32_t window);
/* RST_STREAM; queued data is dropped. on_close follows from the loop. Idempotent; a stream that
 * both sides have ended is complete and stays so. */
void h2_stream_reset(struct h2_stream *s, enum h2_code code);

#endif
