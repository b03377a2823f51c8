/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the target h2_diff share. One input is the traffic of a peer; it goes, frame by
 * frame, to a connection of ours over h2.h and to a session of nghttp2, the oracle.
 *
 *   h2_diff.c     runs both and compares
 *   h2_known.c    the list of the differences that are meant
 *   h2_code.c     the input: a byte-code that is expanded to frames
 *   h2_side.c     the owner of the streams, the same for both, and what it heard
 *   h2_ours.c     our connection, on a net_conn without a socket (h2_net.c)
 *   h2_oracle.c   the session of nghttp2
 *   h2_judge.c    what either of them sends: is it legal, and what does it say? */
#ifndef TESTS_FUZZ_H2_DIFF_H
#define TESTS_FUZZ_H2_DIFF_H

#include <nghttp2/nghttp2.h>

#include "fuzz.h"
#include "h2/h2.h"

/* Bytes that grow. */
struct grow {
    uint8_t *p;
    size_t n, cap;
};
void grow_add(struct grow *g, const void *p, size_t n);
void grow_fields(struct grow *g, struct h2_fields f);
void grow_free(struct grow *g);

/* RFC 9113 section 6, and the codes of section 7 that h2.h has no name for. */
enum {
    T_DATA,
    T_HEADERS,
    T_PRIORITY,
    T_RST,
    T_SETTINGS,
    T_PUSH,
    T_PING,
    T_GOAWAY,
    T_WINDOW,
    T_CONT
};
#define FRAME_HEAD 9u
#define CODE_FRAME_SIZE 6u
#define CODE_COMPRESSION 9u

struct h2_frame {
    uint8_t type, flags;
    uint32_t id;
    struct bytes payload;
};

/* ---------------------------------------------------------------- the input */

#define DIFF_FRAMES 80 /* of one input: below what guard.c takes for an attack */

struct diff_options {
    bool is_client;   /* our end is the client, the input comes from a server */
    bool no_credit;   /* the owner gives none back */
    bool small_conn;  /* the peer's connection window stays at 65535 */
    bool few_streams; /* our server allows 3 streams at a time */
    uint8_t policy;   /* of the owner */
};

enum code_step {
    CODE_END,
    CODE_BYTES, /* out has bytes of the peer, whole frames as a rule */
    CODE_ASK,   /* our client makes one more request, our server stops gracefully */
};

struct code {
    struct bytes in;
    struct diff_options o;
    nghttp2_hd_deflater *hd;
    uint32_t next_id;
    unsigned frames;
    bool is_turn;    /* behind this step both ends send what they have to send */
    bool is_cut;     /* the step's bytes are given in two pieces */
    uint8_t ping[8]; /* what our end sent in a PING */
};

/* Takes the options from the input. hello: what the peer begins with. */
void code_init(struct code *c, struct bytes in, struct grow *hello);
void code_fini(struct code *c);
enum code_step code_next(struct code *c, struct grow *out);

/* ---------------------------------------------------------------- output */

#define JUDGE_STREAMS 256u
#define JUDGE_SETTINGS 128u

struct judge_stream {
    struct grow fields, data; /* what the peer gets */
    int64_t window;           /* beside the initial one */
    uint32_t code;
    bool is_open, is_ended, is_reset;
    bool is_left; /* the peer has reset it */
    uint32_t id;
};

struct judge_settings {
    int64_t window, frame_size, table_size; /* -1: not in it */
};

/* Reads what one end sends, and what it got, for it has to keep to that. */
struct judge {
    bool is_client; /* the end that is judged */

    nghttp2_hd_inflater *hd;
    struct grow wire;
    size_t at;
    struct judge_stream streams[JUDGE_STREAMS];
    unsigned count;
    int64_t window;
    bool is_starved; /* the connection's window was empty: who sends is the sender's choice */
    struct judge_settings acked, pending[JUDGE_SETTINGS];
    unsigned pending_first, pending_count;
    uint32_t block_id;
    bool is_begun, is_goaway, is_pinged;
    uint32_t goaway_code, last_id;
    uint8_t ping[8];       /* of a PING that asks for an answer */
    nghttp2_session *peer; /* gets all of it, too; NULL: none */
};

void judge_init(struct judge *j, bool is_client, bool has_peer);
void judge_fini(struct judge *j);
/* A frame that the end is about to get. */
void judge_input(struct judge *j, const struct h2_frame *f);
/* Judges what came to wire. */
void judge_output(struct judge *j);
struct judge_stream *judge_stream(struct judge *j, uint32_t id);

/* ---------------------------------------------------------------- the owner */

#define DIFF_CALLS 96u

struct diff_side;

/* A stream, by the order in which the owner heard of them. */
struct diff_call {
    struct diff_side *side;
    unsigned n;
    struct grow text, data;
    void *stream; /* h2_stream; NULL for the oracle, and when it is over */
    uint32_t id;  /* for the oracle: h2.h does not tell */
    size_t given; /* bytes of its pattern that ours has queued */
    bool is_over; /* the peer's side */
    bool is_responded, is_closed, is_reset;
    enum h2_code code;
    enum h2_end how;
};

struct diff_side_ops {
    void (*respond)(struct diff_call *call, struct h2_fields f, bool end);
    void (*send)(struct diff_call *call, size_t n, bool end);
    void (*trailers)(struct diff_call *call, struct h2_fields f);
    void (*reset)(struct diff_call *call, enum h2_code code);
    void (*credit)(struct diff_call *call, size_t n);
};

struct diff_side {
    const struct diff_side_ops *ops;
    struct diff_options o;
    struct diff_call calls[DIFF_CALLS];
    unsigned count;
    struct grow text; /* what the owner of the connection heard */
    struct judge judge;
    bool is_dead;  /* it ended the connection */
    char why[100]; /* the oracle: nghttp2's last complaint */
};

struct diff_call *side_call(struct diff_side *s, void *stream, uint32_t id);
void side_heard_headers(struct diff_call *call, struct h2_fields f, bool end);
void side_heard_data(struct diff_call *call, struct bytes b);
void side_heard_trailers(struct diff_call *call, struct h2_fields f);
void side_heard_end(struct diff_call *call);
void side_heard_close(struct diff_call *call, enum h2_code code, enum h2_end how);
void side_heard_goaway(struct diff_side *s, enum h2_code code);
void side_fini(struct diff_side *s);
/* Byte i of what call n sends. */
uint8_t side_pattern(unsigned n, size_t i);
/* The request that our client makes; whether it has a body. */
struct h2_fields side_request(void);
bool side_request_ends(unsigned n);

/* ---------------------------------------------------------------- the two ends */

void ours_start(struct diff_side *s);
void ours_give(struct diff_side *s, struct bytes b);
/* CODE_ASK. */
void ours_ask(struct diff_side *s);
/* Turns the loop until nothing more is sent. */
void ours_turn(struct diff_side *s);
void ours_stop(struct diff_side *s);

struct oracle;
/* ours: the judge of the other end. */
struct oracle *oracle_new(struct diff_side *s, const struct judge *ours);
void oracle_give(struct oracle *o, struct bytes b);
void oracle_ask(struct oracle *o);
void oracle_turn(struct oracle *o);
/* Is the stream over, so that what comes on it comes late? */
bool oracle_is_closed(struct oracle *o, uint32_t id);
void oracle_free(struct oracle *o);

/* ---------------------------------------------------------------- a run */

#define RECENT 512u

/* A frame of the input; its payload is not kept. */
struct recent {
    struct h2_frame f;
    bool is_late; /* it came on a stream that was closed */
    bool is_self; /* it makes its stream depend on itself */
};

struct run {
    struct code code;
    struct diff_side ours, theirs;
    struct oracle *oracle;
    struct grow walk;     /* the input's bytes from the last whole frame on */
    unsigned asked_count; /* requests and stops asked for since the last turn */
    struct recent recent[RECENT];
    unsigned recent_count, turned_count; /* in all; before both took their turn */
    uint32_t last_id;                    /* the highest that was opened */
    uint64_t stopping_ns;                /* when our server began to stop; 0: it did not */
    bool is_different;                   /* a known difference came: only ours runs on */
    char what[200];                      /* the difference that was found */
};

/* Has the end given up the connection? */
static inline bool is_dead(const struct diff_side *s)
{
    return s->is_dead || s->judge.is_goaway;
}
/* A difference was found: is it one that is meant? */
bool known_difference(struct run *r);

/* --- h2_net.c: a net_conn whose socket is the test --- */

/* What is written is appended to wire, which outlives it. */
struct net_conn *fake_net_new(struct loop *loop, struct slab_pool *pool, struct grow *wire);
void fake_net_give(struct net_conn *c, struct bytes b);

#endif
