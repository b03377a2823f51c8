/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an end of ours. Gives: a peer that does at random what it may, and keeps the books of
 * what ours may do. Owns: both. Thread: the test's. */
#ifndef TESTS_H2_MODEL_H
#define TESTS_H2_MODEL_H

#include "duo.h"
#include "h2/h2_int.h"

#define STREAMS 400u /* a round */
#define LIMIT 24u    /* what a server of ours allows */
#define STREAM_WINDOW 65535u
#define CONN_WINDOW 100000u

/* A stream as the peer sees it. */
struct seen {
    uint32_t id;
    bool is_ours_over, is_peers_over, is_reset;
    bool is_answered; /* the peer is a server: HEADERS were sent */
    int64_t window;   /* for what the peer gets */
    int64_t room;     /* for what it sends */
    uint64_t got;
};

struct model {
    struct duo d;
    bool is_server;
    struct seen v[STREAMS];
    uint32_t count, next_id, limit;
    int64_t initial, conn_window, conn_room;
    int64_t asked[64]; /* SETTINGS_INITIAL_WINDOW_SIZE not acknowledged yet; -1: without */
    uint32_t asked_at, asked_count;
    bool is_over, is_quiet, has_left;
    bool is_calm; /* the owner does nothing in its callbacks */
    size_t heard; /* bytes */
    bool is_rude; /* the peer keeps no books */
    bool is_wide; /* windows are no obstacle, the socket is */
};

/* The next random number below n; the same ones for the same seed. */
void model_seed(uint32_t seed);
uint32_t below(uint32_t n);

/* Reads what has come, and holds it against the books. */
void peer_read(struct model *m);
/* One thing of all that it may do. */
void peer_step(struct model *m);
/* Reads, opens every window and ends its side of what is open. */
void peer_finish(struct model *m);
void peer_settings(struct model *m, uint16_t id, uint32_t value);
/* s NULL: the connection's. */
void peer_window(struct model *m, struct seen *s, uint32_t n);

#endif
