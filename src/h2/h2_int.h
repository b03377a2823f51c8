/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of h2 share.
 *
 *   conn.c              life of a connection, flush, timers
 *   session.c           the nghttp2 session
 *   input.c, output.c   its callbacks
 *   hpack_*.c           header compression
 *   message.c           which header fields are legal
 *   stream.c            what the owner of a stream calls
 *   guard.c             limits against hostile peers */
#ifndef H2_H2_INT_H
#define H2_H2_INT_H

#include <nghttp2/nghttp2.h>

#include "h2/h2.h"
#include "h2/hpack.h"

/* ---------------------------------------------------------------- guard.c */

/* A token bucket in thousandths of a token. */
struct h2__bucket {
    uint64_t level;
    uint64_t at_ms;
    uint32_t cap;  /* tokens */
    uint32_t rate; /* tokens a second */
};

struct h2__guard {
    struct h2__bucket frames;     /* every frame costs one, useful ones give back */
    struct h2__bucket resets;     /* RST_STREAM received */
    struct h2__bucket violations; /* RST_STREAM sent for what the peer did wrong */
    uint32_t settings_cost;       /* of a SETTINGS frame, beside the one token */
    uint32_t skip;                /* bytes until the next frame header */
    uint8_t head[9];              /* a frame header that came in pieces */
    uint8_t head_len;
};

void h2__bucket_init(struct h2__bucket *b, uint32_t cap, uint32_t rate, uint64_t now_ms);
/* False when fewer than n tokens are left. */
MUST_CHECK bool h2__bucket_take(struct h2__bucket *b, uint32_t n, uint64_t now_ms);
void h2__bucket_give(struct h2__bucket *b, uint32_t n);

void h2__guard_init(struct h2__guard *g, uint64_t now_ms);
/* Tells how many streams are open: the more, the more tokens a SETTINGS frame costs. */
void h2__guard_streams(struct h2__guard *g, size_t count);
/* Charges for the frames whose headers are in p. False: the peer has to go. */
MUST_CHECK bool h2__guard_input(struct h2__guard *g, const uint8_t *p, size_t n, uint64_t now_ms);
/* RFC 9113 section 6.5.2: the size of a field list, 32 bytes of overhead a field. */
size_t h2__field_size(size_t name_len, size_t value_len);

/* Tokens that useful frames give back: more than the frames that a good client sends around them
 * cost. */
#define H2__GIVE_HEADERS 4u
#define H2__GIVE_DATA 3u
#define H2__GIVE_SENT_DATA 4u /* its reader sends WINDOW_UPDATEs and PINGs for it */
#define H2__GIVE_BYTES 1024u  /* and one more for every so many bytes */

/* ---------------------------------------------------------------- objects */

enum h2__state {
    H2__OPEN,    /* bytes go both ways */
    H2__CLOSING, /* the owner called h2_conn_close: the task sends GOAWAY and ends it */
    H2__LOST,    /* failed; streams ended, on_lost called; the owner's h2_conn_close is awaited */
    H2__ENDED,   /* closed by the owner, streams ended; the descriptor's close is awaited */
};

enum h2__drain {
    H2__DRAIN_NONE,
    H2__DRAIN_NOTICE, /* GOAWAY 2^31-1 and PING sent */
    H2__DRAIN_FINAL,  /* GOAWAY with the real id */
};

struct h2_conn {
    struct loop *loop;
    struct slab_pool *pool;
    struct net_conn *net;
    const struct h2_conn_ops *ops;
    void *user;
    struct h2_opts opts;
    nghttp2_session *session;

    enum h2__state state;
    bool is_ready;       /* the peer's first SETTINGS came */
    bool is_net_closing; /* net_conn_close was called */
    bool is_net_closed;
    bool is_flushing;
    bool is_blocked;       /* framing stopped because the socket's queue is full */
    bool is_settings_sent; /* our first frame is out */
    bool is_violated;      /* guard: the peer has to go */
    bool is_goaway_error;  /* nghttp2 sent a GOAWAY that ends the connection */
    bool is_ping_grace;
    bool has_peer_goaway;
    enum err fatal; /* found where the connection could not be ended at once */
    const char *why;

    enum h2_code close_code;
    uint64_t close_linger_ms;

    struct list streams;      /* live */
    struct list dead;         /* reset by the owner, on_close not called yet */
    size_t stream_count;      /* of streams */
    struct h2_stream *recent; /* the last that was looked up; NULL, or one of streams */

    struct slice in; /* what nghttp2 is being fed from */
    struct chain out;
    struct slab *scratch; /* small pieces are gathered here; only during a flush */
    size_t out_limit;
    nghttp2_nv *nv; /* for submitting */
    size_t nv_cap;
    struct h2__headers headers;
    struct h2__guard guard;

    enum h2__drain drain;
    int32_t drain_id; /* streams above are refused */

    struct loop_flush flush;
    struct loop_task task;
    struct loop_timer ping_timer, stall_timer, drain_timer;
    uint64_t read_at_ms, wrote_at_ms;
    uint64_t ping_at_ms; /* 0: no PING is waiting for its answer */
};

/* A copied field list. */
struct h2__fields_copy {
    size_t count;
    nghttp2_nv nv[];
};

struct h2_stream {
    struct list node;
    struct h2_conn *c;
    const struct h2_stream_ops *ops; /* NULL: server, nobody has taken it yet */
    void *user;
    int32_t id;
    struct chain out;
    struct h2__fields_copy *trailers; /* sent behind out */
    enum h2_code reset_code;
    bool is_reset;        /* by the owner; on_close is on its way */
    bool is_sent;         /* client: HEADERS are framed */
    bool is_responded;    /* final response headers are in (client), submitted (server) */
    bool is_broken;       /* the peer's message is malformed, RST_STREAM is on its way */
    bool is_deferred;     /* nghttp2 found nothing to send and waits for stream_resume */
    bool is_end_queued;   /* END_STREAM or trailers behind out */
    bool is_trailed;      /* trailers were given to nghttp2 without waiting for a window */
    bool is_local_ended;  /* END_STREAM framed */
    bool is_remote_ended; /* END_STREAM received */
};

/* ---------------------------------------------------------------- session.c */

/* Answers of etcd; etcd's own limit for what it takes is 1 MiB. */
#define H2__ANSWER_HEADER_BYTES (1024u * 1024)

MUST_CHECK enum err h2__session_new(struct h2_conn *c);
/* Feeds s (borrowed, alive for the call). Errors: what ends the connection; c->why is set. */
MUST_CHECK enum err h2__session_feed(struct h2_conn *c, struct slice s);
/* The error of a failed input or output function of nghttp2; sets c->why. */
enum err h2__session_failed(struct h2_conn *c, ssize_t rv);
/* The real last GOAWAY of a drain. */
void h2__session_final_goaway(struct h2_conn *c);
/* Points c->nv at the fields, not copied. Errors: ERR_NOMEM. */
MUST_CHECK enum err h2__session_nv(struct h2_conn *c, struct h2_fields f);
/* Our stream of nghttp2's; NULL when there is none (any more). */
struct h2_stream *h2__stream_of(struct h2_conn *c, int32_t id);
/* Queues RST_STREAM; returns what a callback of nghttp2 returns. */
int h2__rst(nghttp2_session *session, int32_t id, enum h2_code code);
/* nghttp2's user pointer of a stream that the owner has reset. */
extern char h2__detached;
/* The payload of the PING that asks whether our first GOAWAY has arrived. */
extern const uint8_t h2__drain_ping[8];

/* ---------------------------------------------------------------- input.c: callbacks of nghttp2 */

void h2__headers_fini(struct h2__headers *h);
int h2__on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int h2__on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                  nghttp2_rcbuf *value, uint8_t flags, void *user);
int h2__on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int h2__on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                      size_t n, void *user);
int h2__on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user);

/* ---------------------------------------------------------------- message.c */

/* What a field is by itself, wherever it stands. No bit of a pseudo-header field: none. */
enum h2__class {
    H2__IS_METHOD = 1,
    H2__IS_SCHEME = 2,
    H2__IS_PATH = 4,
    H2__IS_AUTHORITY = 8,
    H2__IS_STATUS = 16,
    H2__IS_UNKNOWN = 32, /* another name with a colon in front */
    H2__IS_CONNECTION = 64,
    H2__IS_SECRET = 128, /* a credential */
    H2__BAD_NAME = 256,
    H2__BAD_VALUE = 512,
};

void h2__message_begin(struct h2__headers *h, enum h2__block kind);
/* Checks one more field. Once is_malformed is set it stays so. */
void h2__message_field(struct h2__headers *h, struct bytes name, struct bytes value);
/* The same, of a field whose name's and value's class is known. */
void h2__message_class(struct h2__headers *h, unsigned class);
unsigned h2__message_name(struct bytes name);
unsigned h2__message_value(struct bytes value);
/* A credential: neither indexed nor kept beyond its list. */
bool h2__message_is_secret(struct bytes name);

/* ---------------------------------------------------------------- output.c */

/* Puts frames into c->out until nothing is left or more than limit bytes are queued. */
MUST_CHECK enum err h2__session_frame(struct h2_conn *c, size_t limit);
extern const nghttp2_data_provider h2__data_provider;
/* Callbacks of nghttp2. */
int h2__send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                  nghttp2_data_source *source, void *user);
int h2__on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int h2__on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                          void *user);

/* ---------------------------------------------------------------- stream.c */

struct h2_stream *h2__stream_new(struct h2_conn *c, int32_t id);
/* Calls on_close and frees. */
void h2__stream_finish(struct h2_stream *s, enum h2_code code, enum h2_end how);

/* ---------------------------------------------------------------- conn.c */

/* Notes an error of nghttp2 in a call of the owner; the connection ends from the loop. */
void h2__conn_note(struct h2_conn *c, int nghttp2_error);
void h2__conn_want_flush(struct h2_conn *c);
void h2__conn_ping_arm(struct h2_conn *c);

#endif
