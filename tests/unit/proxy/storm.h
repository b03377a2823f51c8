/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: chance. Gives: what clients (storm_clients.c) and etcd (storm_etcd.c) of a rig do next.
 * Owns: the calls of both sides, as far as each has come. Thread: one. */
#ifndef TESTS_PROXY_STORM_H
#define TESTS_PROXY_STORM_H

#include "rig.h"

#define STORM_JOBS 2000u
#define STORM_KEEP 40u /* connections of each side; more would not fit into the rig */
#define STORM_FILLER (2u * 1024 * 1024)

extern struct rig r;
extern char *storm_filler;
extern uint64_t storm_seed;

/* Below n. */
uint32_t storm_any(uint32_t n);
bool storm_one_in(uint32_t n);
/* Of a value: most are small. */
size_t storm_any_size(void);

enum storm_kind { K_PUT, K_RANGE, K_LIST, K_WATCH, K_SNAPSHOT, K_COUNT };

struct storm_job {
    struct rec *rec;
    enum storm_kind kind;
    struct buf out; /* being sent */
    size_t at;
    bool has_ended, has_responded;
    unsigned messages, watches;
};

extern struct storm_job storm_client_jobs[STORM_JOBS], storm_etcd_jobs[STORM_JOBS];
extern size_t storm_client_count, storm_etcd_count;

bool storm_is_open(const struct storm_job *j);
/* NULL: there is none. */
struct storm_job *storm_any_open(struct storm_job *jobs, size_t count);
/* The next message, which is taken; its next n bytes; as many of them as chance will have. */
void storm_queue(struct storm_job *j, struct buf *m);
void storm_send(struct storm_job *j, size_t n, bool end);
void storm_send_some(struct storm_job *j, bool end);
void storm_reset(struct storm_job *j);
/* Gives credit for all that came, and for what comes. */
void storm_read_on(struct storm_job *j);

/* --- storm_clients.c --- */

void storm_connect(void);
void storm_call(void);
void storm_client_goes_on(struct storm_job *j);
void storm_client_holds_window(void);
void storm_client_ends(void);
/* They read, and end what they have begun. */
void storm_clients_behave(void);
/* Unary calls that have not ended. */
unsigned storm_open_calls(void);

/* --- storm_etcd.c --- */

void storm_etcd_init(void);
/* Finds the calls that are new. */
void storm_etcd_listens(void);
void storm_etcd_goes_on(struct storm_job *j);
void storm_etcd_changes(void);
/* Everything that it was asked, once. */
void storm_etcd_answers(void);
/* An event on each watch. */
void storm_etcd_tells(void);
/* All that etcd has said got through. What a GOAWAY has left out nobody hears. */
void storm_etcd_check(void);

#endif
