/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of h2 share.
 *
 *   conn.c                    life of a connection, flush, what net tells us
 *   keepalive.c, goaway.c     PING; both sides' GOAWAY and the server's drain
 *   frame_in.c                bytes -> frames: cuts, lengths, header blocks put together
 *   message_in.c              what HEADERS and DATA mean to a stream and its owner
 *   settings.c, window.c      SETTINGS; both windows in both directions
 *   streams.c                 the table of streams, their states, what a closed one means
 *   stream.c                  what the owner of a stream calls
 *   frame_out.c, send.c       frames -> bytes; which stream sends next
 *   sharers.c                 the queues for that
 *   hpack.h, hpack_*.c        header blocks, both directions
 *   message.c                 which header fields are legal
 *   guard.c                   limits against hostile peers
 *   slow.c                    and against slow ones: first bytes, header blocks
 *
 * Bytes come in by h2__frames_in, in callbacks of net, and leave by h2__frames_out, in the flush
 * and in the task: neither ever runs inside itself or the other. An error of the connection is
 * noted where it is found (h2__cut, h2__fail); both functions then stop, and conn.c ends the
 * connection behind them. */
#ifndef H2_H2_INT_H
#define H2_H2_INT_H

#include "h2/h2.h"
#include "h2/hpack.h"

/* ---------------------------------------------------------------- the wire */

/* RFC 9113 section 6. */
enum h2__type {
    H2__DATA,
    H2__HEADERS,
    H2__PRIORITY,
    H2__RST_STREAM,
    H2__SETTINGS,
    H2__PUSH_PROMISE,
    H2__PING,
    H2__GOAWAY,
    H2__WINDOW_UPDATE,
    H2__CONTINUATION,
};

#define H2__FLAG_ACK 0x01u
#define H2__FLAG_END_STREAM 0x01u
#define H2__FLAG_END_HEADERS 0x04u
#define H2__FLAG_PADDED 0x08u
#define H2__FLAG_PRIORITY 0x20u

/* Codes that no owner has a use for (RFC 9113 section 7), beside those of enum h2_code. */
#define H2__FRAME_SIZE_ERROR 6u
#define H2__COMPRESSION_ERROR 9u

#define H2__PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2__PREFACE_LEN 24u
#define H2__HEAD_LEN 9u
#define H2__FRAME_MAX 16384u /* what every peer takes (RFC 9113 section 6.5.2); we send no more */
#define H2__WINDOW_DEFAULT 65535 /* RFC 9113 section 6.9.2 */
#define H2__WINDOW_MAX 0x7fffffff
#define H2__ID_MAX 0x7fffffffu

struct h2__frame {
    uint32_t len;
    uint8_t type, flags;
    uint32_t id;
    const uint8_t *p; /* the payload, for the handlers of all types but DATA */
};

static inline uint32_t h2__u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void h2__put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline void h2__put_head(uint8_t *p, size_t len, uint8_t type, uint8_t flags, uint32_t id)
{
    p[0] = (uint8_t)(len >> 16);
    p[1] = (uint8_t)(len >> 8);
    p[2] = (uint8_t)len;
    p[3] = type;
    p[4] = flags;
    h2__put_u32(p + 5, id);
}

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
};

void h2__bucket_init(struct h2__bucket *b, uint32_t cap, uint32_t rate, uint64_t now_ms);
/* False when fewer than n tokens are left. */
MUST_CHECK bool h2__bucket_take(struct h2__bucket *b, uint32_t n, uint64_t now_ms);
void h2__bucket_give(struct h2__bucket *b, uint32_t n);

void h2__guard_init(struct h2__guard *g, uint64_t now_ms);
/* Charges for a frame of the type; the more streams are open, the more a SETTINGS frame costs.
 * False: the peer has to go. */
MUST_CHECK bool h2__guard_frame(struct h2__guard *g, uint8_t type, size_t streams, uint64_t now_ms);

/* Tokens that useful frames give back: more than the frames that a good client sends around them
 * cost. */
#define H2__GIVE_HEADERS 4u
#define H2__GIVE_DATA 3u
#define H2__GIVE_SENT_DATA 4u /* its reader sends WINDOW_UPDATEs and PINGs for it */
#define H2__GIVE_BYTES 1024u  /* and one more for every so many bytes */

/* ---------------------------------------------------------------- objects */

enum h2__input {
    H2__IN_PREFACE, /* server: the client's 24 bytes are awaited */
    H2__IN_HEAD,    /* the 9 bytes in front of a frame */
    H2__IN_PAYLOAD, /* of a frame other than DATA: handled when it is whole */
    H2__IN_PAD,     /* DATA: the byte that says how much padding there is */
    H2__IN_DATA,    /* DATA: handed on as it comes */
    H2__IN_PADDING, /* DATA: dropped */
};

/* A header block of several frames, as far as it has come (RFC 9113 section 4.3). */
struct h2__joined {
    uint8_t *p;
    size_t len, cap;
    uint32_t id; /* of the HEADERS frame; 0: no block is open */
    uint8_t flags;
    unsigned frames;
};

struct h2__frame_in {
    enum h2__input state;
    uint8_t have;                  /* bytes of head */
    uint8_t head[H2__PREFACE_LEN]; /* a preface or a frame head that came in pieces */
    struct h2__frame frame;        /* the one whose payload is awaited */
    uint32_t left;                 /* bytes of it to come; of DATA: without padding */
    uint32_t pad;                  /* DATA: padding to come */
    uint32_t pad_len;              /* DATA: padding in all, with the byte that tells its length */
    bool is_unwanted;              /* DATA that no stream takes */
    uint32_t frames_left;          /* that may begin before others have their turn */
    uint8_t *part;                 /* a payload that came in pieces */
    size_t counted;                /* bytes of part and block, in the pool */
    struct h2__joined block;
    uint64_t since_ms; /* when the present part or block began; 0: there is none */
};

/* The states of a stream (RFC 9113 section 5.1); the table of what follows what is in streams.c. */
enum h2__stream_state {
    H2__IDLE = 1,    /* client: the request waits to be sent */
    H2__BOTH,        /* "open": bytes go both ways */
    H2__LOCAL_OVER,  /* "half-closed (local)": we have sent END_STREAM */
    H2__REMOTE_OVER, /* "half-closed (remote)": the peer has */
    H2__CLOSED,      /* both have, or it was reset */
};

enum h2__stream_event { H2__OPENED, H2__LOCAL_END, H2__REMOTE_END, H2__RESET };

/* What an id that the peer names is to us (streams.c). */
enum h2__place {
    H2__PLACE_IDLE,      /* never opened */
    H2__PLACE_RECEIVING, /* a stream that the peer may send on */
    H2__PLACE_ENDED,     /* a stream that the peer has ended */
    H2__PLACE_DROPPED,   /* closed by our RST_STREAM: what the peer sent before it saw that */
    H2__PLACE_CANCELLED, /* closed by the peer's RST_STREAM */
    H2__PLACE_FINISHED,  /* closed by END_STREAM of both */
    H2__PLACE_FORGOTTEN, /* closed long ago, or jumped over */
};

/* What a frame on such an id leads to. Zero refuses. */
enum h2__reaction {
    H2__REFUSE,      /* the connection ends: PROTOCOL_ERROR */
    H2__REFUSE_LATE, /* the connection ends: STREAM_CLOSED */
    H2__RESET_LATE,  /* the stream ends: STREAM_CLOSED */
    H2__IGNORE,
    H2__TAKE,
};

/* The streams of a connection by id, and the last ones that were closed. */
struct h2__streams {
    struct h2_stream **slot; /* chains; NULL: none was ever opened */
    size_t slot_count;       /* a power of two */
    uint32_t seed;           /* of the hash */
    size_t count;
    struct h2_stream *recent; /* the one used last, or NULL */
    struct {
        uint32_t id[64];
        uint8_t place[64];
        uint8_t at; /* of the next one */
    } closed;       /* a ring */
};

/* Frames that wait for the next flush, all but DATA. They go out ahead of DATA that is framed
 * later. */
struct h2__control {
    uint8_t *p;
    size_t len, cap;
    size_t counted; /* of cap, in the pool */
    unsigned acks;  /* of PING and SETTINGS among them */
};

enum h2__state {
    H2__OPEN,    /* bytes go both ways */
    H2__CLOSING, /* the owner called h2_conn_close: the task sends GOAWAY and ends it */
    H2__LOST,    /* failed; streams ended, on_lost called; the owner's h2_conn_close is awaited */
    H2__ENDED,   /* closed by the owner, streams ended; the descriptor's close is awaited */
};

/* Where a stream waits to send: see send.c. */
enum h2__queue { H2__WAITING, H2__ENDING, H2__READY, H2__STALLED, H2__QUEUE_COUNT };

/* Whose streams they are, sharers.c. */
struct h2__sharer {
    struct list bucket;
    uint64_t id;
    uint64_t served; /* c->served when it had its last turn */
    size_t streams;  /* not counted for "nobody" */
    struct h2__turn {
        struct list node;    /* in the connection's queue, while streams wait there */
        struct list streams; /* by send_node */
    } turn[H2__QUEUE_COUNT];
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

    enum h2__state state;
    bool is_ready;       /* the peer's first SETTINGS came */
    bool is_given_up;    /* nothing that was written is to reach the peer any more */
    bool is_net_closing; /* net_conn_close was called */
    bool is_net_closed;
    bool is_flushing;
    bool is_blocked; /* framing stopped because the socket's queue is full */
    bool is_ping_grace;
    bool has_peer_goaway;
    bool is_acked;     /* the peer has acknowledged our SETTINGS */
    bool is_cut;       /* GOAWAY with cut_code is to be the last that the peer hears */
    bool is_part_late; /* one more look at the socket, then a slow part is cut */
    enum err blame;    /* h2_conn_blame */
    enum err fatal;    /* found where the connection could not be ended at once */
    uint32_t cut_code;
    const char *why;

    enum h2_code close_code;
    uint64_t close_linger_ms;

    struct h2__frame_in in;
    struct h2__hpack_in hpack_in;
    struct h2__hpack_out hpack_out;

    struct h2__streams table;
    struct list streams; /* live; those that have an id are in the order of ids */
    struct list dead;    /* reset by the owner, on_close not called yet */
    size_t stream_count; /* of streams */
    uint32_t next_id;    /* client: of the next request */
    uint32_t peer_id;    /* server: the highest id that the client has opened */

    /* send.c, sharers.c: a stream is in at most one of them, by its send_node.
     *   WAITING  client: requests above the peer's stream limit, or before the flush
     *   ENDING   their END_STREAM is in control: they are over before it leaves
     *   READY    have something to send, and window for it if they need any
     *   STALLED  wait for the connection's window only */
    struct list queue[H2__QUEUE_COUNT];
    uint64_t served; /* turns so far */
    struct h2__sharer nobody;
    struct list *sharers;           /* all others, by id; NULL: there were none yet */
    struct h2__sharer *idle_sharer; /* of them the one that was the last to have no more streams */

    uint64_t sent;         /* bytes of DATA */
    int32_t send_left;     /* the connection's window for what we send */
    int32_t peer_window;   /* that of a new stream, as the peer's SETTINGS say */
    uint32_t peer_streams; /* how many streams the peer allows */
    int32_t recv_left;     /* the connection's window for what the peer sends */
    uint32_t recv_back;    /* bytes of it to be given back */

    struct h2__control control;
    struct chain out;
    struct slab *scratch; /* small pieces are gathered here; see h2__out_settle */
    size_t out_limit;
    struct h2__guard guard;

    enum h2__drain drain;
    uint32_t drain_id; /* streams above are refused */

    struct loop_flush flush;
    struct loop_task task;
    struct loop_timer ping_timer, stall_timer, drain_timer, part_timer;
    uint64_t read_at_ms, wrote_at_ms;
    uint64_t ping_at_ms; /* 0: no PING is waiting for its answer */
};

struct h2_stream {
    struct list node;
    struct list send_node;
    struct h2__sharer *sharer; /* never NULL */
    struct h2_stream *next;    /* in its slot of the table */
    struct h2_conn *c;
    const struct h2_stream_ops *ops; /* NULL: server, nobody has taken it yet */
    void *user;
    uint32_t id; /* 0: IDLE */
    enum h2__stream_state state;
    struct chain out;
    struct h2_fields fields; /* owned: the request while IDLE; later the trailers behind out */
    int32_t send_left;       /* its window for what we send; may be negative */
    int32_t recv_left;       /* its window for what the peer sends */
    uint32_t recv_back;      /* bytes of it that the owner has given back */
    uint32_t window;         /* recv_left when nothing is on its way: h2_stream_widen */
    enum h2_code reset_code;
    uint8_t queue; /* enum h2__queue: where send_node is, or was last */
    bool is_in_table;
    bool is_reset;       /* by the owner; on_close is on its way */
    bool is_responded;   /* final response headers are in (client), given (server) */
    bool is_broken;      /* the peer's message is malformed */
    bool is_end_queued;  /* END_STREAM or trailers behind out */
    bool is_bodyless;    /* client: the request's HEADERS end it */
    bool is_end_pending; /* END_STREAM is in control; what follows from it is done in the flush */
};

static inline bool h2__is_local_over(const struct h2_stream *s)
{
    return s->state == H2__LOCAL_OVER || s->state == H2__CLOSED;
}

static inline bool h2__is_remote_over(const struct h2_stream *s)
{
    return s->state == H2__REMOTE_OVER || s->state == H2__CLOSED;
}

/* Nothing more of the peer is looked at, and nothing framed but GOAWAY. */
static inline bool h2__is_stopped(const struct h2_conn *c)
{
    return c->state != H2__OPEN || c->is_cut || c->fatal != ERR_OK;
}

/* ---------------------------------------------------------------- frame_in.c */

/* Answers of etcd; etcd's own limit for what it takes is 1 MiB. */
#define H2__ANSWER_HEADER_BYTES (1024u * 1024)

/* The size of a field list that we take. */
static inline uint32_t h2__header_bytes(const struct h2_conn *c)
{
    return c->opts.is_guarded ? LIMIT_HEADER_BYTES : H2__ANSWER_HEADER_BYTES;
}

/* Reads s (borrowed, alive for the call) until the connection stops (h2__is_stopped), or so many
 * frames have begun that others should have their turn. Returns how much was read. */
uint32_t h2__frames_in(struct h2_conn *c, struct slice s);
void h2__frames_in_fini(struct h2_conn *c);

/* ---------------------------------------------------------------- message_in.c */

/* A HEADERS frame came, maybe with only a part of its block. False: none may, the connection was
 * cut. */
MUST_CHECK bool h2__headers_begin(struct h2_conn *c, uint32_t id);
/* A whole header block, of a HEADERS frame with these flags. */
void h2__got_headers(struct h2_conn *c, uint32_t id, uint8_t flags, struct bytes block);
/* The head of a DATA frame came. False: no stream takes its payload. */
MUST_CHECK bool h2__data_begin(struct h2_conn *c, const struct h2__frame *f);
/* A piece of its payload: part [off, off + n) of s. */
void h2__data_piece(struct h2_conn *c, uint32_t id, struct slice s, uint32_t off, uint32_t n);
/* It is whole. */
void h2__data_end(struct h2_conn *c, const struct h2__frame *f);
void h2__got_rst_stream(struct h2_conn *c, const struct h2__frame *f);

/* ---------------------------------------------------------------- message.c */

/* RFC 9113 section 6.5.2: the size of a field list, 32 bytes of overhead a field. */
size_t h2__field_size(size_t name_len, size_t value_len);
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

/* ---------------------------------------------------------------- settings.c */

void h2__settings_put(struct h2_conn *c);
void h2__got_settings(struct h2_conn *c, const struct h2__frame *f);

/* ---------------------------------------------------------------- window.c */

/* Charges the connection for a DATA frame of len bytes; false: it was cut. */
MUST_CHECK bool h2__window_charge_conn(struct h2_conn *c, uint32_t len);
/* The same for the stream; false: more than the peer may send. */
MUST_CHECK bool h2__window_charge(struct h2_stream *s, uint32_t len);
/* n bytes of DATA were dealt with: the connection's credit for them goes back. */
void h2__window_credit_conn(struct h2_conn *c, uint32_t n);
void h2__window_credit(struct h2_stream *s, size_t n);
void h2__window_widen(struct h2_stream *s, uint32_t window);
void h2__got_window_update(struct h2_conn *c, const struct h2__frame *f);
/* The peer's SETTINGS_INITIAL_WINDOW_SIZE. */
void h2__window_initial(struct h2_conn *c, uint32_t size);

/* ---------------------------------------------------------------- streams.c */

/* With an id it is in the table and BOTH, else IDLE. NULL: no memory. */
struct h2_stream *h2__stream_new(struct h2_conn *c, uint32_t id);
/* IDLE gets its id. Errors: ERR_NOMEM. */
MUST_CHECK enum err h2__stream_open(struct h2_stream *s, uint32_t id);
void h2__stream_event(struct h2_stream *s, enum h2__stream_event event);
/* Out of the table and of all queues, and what its id means from now on. */
void h2__stream_detach(struct h2_stream *s, enum h2__place place);
/* Calls on_close and frees. */
void h2__stream_finish(struct h2_stream *s, enum h2_code code, enum h2_end how);
/* COMPLETE if both sides are over. */
void h2__stream_finish_if_over(struct h2_stream *s);
/* The peer did something wrong on it: RST_STREAM, on_close. */
void h2__stream_error(struct h2_stream *s, enum h2_code code);
/* RST_STREAM for what the peer did wrong, on an id that is no stream of ours (any more). */
void h2__rst_violation(struct h2_conn *c, uint32_t id, enum h2_code code);
/* Remembers an id that was closed without ever being a stream of ours. */
void h2__closed_note(struct h2_conn *c, uint32_t id, enum h2__place place);
/* NULL when there is none (any more). */
struct h2_stream *h2__stream_of(struct h2_conn *c, uint32_t id);
enum h2__place h2__place_of(struct h2_conn *c, uint32_t id, struct h2_stream **s);
/* What a frame of the type leads to there. */
enum h2__reaction h2__reaction_to(const struct h2_conn *c, enum h2__place place, uint8_t type);
/* c is zeroed but for its pool. */
void h2__streams_init(struct h2_conn *c);
void h2__streams_fini(struct h2_conn *c);
/* Errors: NULL when out of memory. */
MUST_CHECK enum err h2__fields_copy(struct h2_conn *c, struct h2_fields f, struct h2_fields *out);
/* Of a copied list, or one that an owner gave. */
void h2__fields_free(struct h2_conn *c, struct h2_fields *f);

/* ---------------------------------------------------------------- frame_out.c */

/* Queues a frame in c->control. No memory: h2__fail. */
void h2__put_frame(struct h2_conn *c, uint8_t type, uint8_t flags, uint32_t id, const void *p,
                   size_t n);
void h2__put_rst(struct h2_conn *c, uint32_t id, uint32_t code);
/* An answer to PING or SETTINGS: a peer that makes us queue too many of them is cut. */
void h2__put_ack(struct h2_conn *c, uint8_t type, const void *p, size_t n);
void h2__put_bytes(struct h2_conn *c, const void *p, size_t n);
/* A header block, in as many frames as it takes. Errors: ERR_NOMEM, noted by h2__fail. */
MUST_CHECK enum err h2__put_headers(struct h2_conn *c, uint32_t id, struct h2_fields f, bool end);
/* c->control to c->out. Errors: ERR_NOMEM. */
MUST_CHECK enum err h2__out_control(struct h2_conn *c);
/* One DATA frame of the first n bytes of s->out, behind c->control, to c->out. Errors: ERR_NOMEM.
 */
MUST_CHECK enum err h2__out_data(struct h2_conn *c, struct h2_stream *s, size_t n, bool end);
bool h2__out_is_full(const struct h2_conn *c);
/* The scratch slab goes back, unless the socket has left some of it: then what is framed next lies
 * behind that, so that a peer who takes little at a time does not pin a slab with each of it. */
void h2__out_settle(struct h2_conn *c);
void h2__out_fini(struct h2_conn *c);

/* ---------------------------------------------------------------- send.c */

/* Puts frames into c->out until nothing is left or more than limit bytes are queued. Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err h2__frames_out(struct h2_conn *c, size_t limit);
/* Is there anything that h2__frames_out would put? */
bool h2__has_output(const struct h2_conn *c);
/* The stream has something new to send, or new window. */
void h2__send_want(struct h2_stream *s);

/* ---------------------------------------------------------------- sharers.c */

void h2__sharers_init(struct h2_conn *c);
/* No stream is left. */
void h2__sharers_fini(struct h2_conn *c);
/* s is in no queue. */
void h2__queue_push(struct h2_stream *s, enum h2__queue q);
/* Out of the queue that it is in, if any. */
void h2__queue_leave(struct h2_stream *s);
static inline bool h2__queue_is_empty(const struct h2_conn *c, enum h2__queue q)
{
    return list_is_empty(&c->queue[q]);
}
/* Takes out the stream whose turn it is; NULL: there is none. Of WAITING, and of the others: what
 * is ending before all else, what is stalled only while the connection has a window. */
struct h2_stream *h2__queue_next_waiting(struct h2_conn *c);
struct h2_stream *h2__queue_next(struct h2_conn *c);
static inline bool h2__queue_has_next(const struct h2_conn *c)
{
    return !h2__queue_is_empty(c, H2__ENDING) || !h2__queue_is_empty(c, H2__READY) ||
           (c->send_left > 0 && !h2__queue_is_empty(c, H2__STALLED));
}
/* s ends. */
void h2__sharer_drop(struct h2_stream *s);

/* ---------------------------------------------------------------- goaway.c, keepalive.c */

/* The last one of the connection, with the highest id that was taken. */
void h2__put_goaway(struct h2_conn *c, uint32_t code);
void h2__got_goaway(struct h2_conn *c, const struct h2__frame *f);
void h2__got_ping(struct h2_conn *c, const struct h2__frame *f);
void h2__on_drain_timer(struct loop_timer *t);
void h2__on_ping_timer(struct loop_timer *t);
/* Streams are open, or is_pinged_idle. */
void h2__ping_arm(struct h2_conn *c);

/* ---------------------------------------------------------------- slow.c, settings.c */

/* A frame or header block is there in part. */
void h2__part_watch(struct h2_conn *c);
void h2__on_part_timer(struct loop_timer *t);
/* The head of a first SETTINGS frame, as far as it tells. */
MUST_CHECK bool h2__settings_head_ok(const struct h2__frame *f);

/* ---------------------------------------------------------------- conn.c */

/* The peer has broken a rule of the connection: it is told so and cut off behind what runs now. The
 * first one counts. */
void h2__cut(struct h2_conn *c, uint32_t code, const char *why);
/* The same with another h2_conn_blame than the code's. */
void h2__cut_for(struct h2_conn *c, uint32_t code, enum err blame, const char *why);
/* Notes an error of ours; the connection ends from the loop. */
void h2__fail(struct h2_conn *c, enum err e);
/* Only from the loop: ends the streams, tells the owner. */
void h2__conn_lose(struct h2_conn *c, enum err e, const char *why);
/* The same with ERR_TIMEOUT, of a peer that is silent: the kernel sends it nothing any more. */
void h2__conn_give_up(struct h2_conn *c, enum err blame, const char *why);
void h2__conn_close_net(struct h2_conn *c, uint64_t linger_ms);
void h2__conn_want_flush(struct h2_conn *c);

#endif
