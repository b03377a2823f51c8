/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a test of the pool. Gives: a pool on a loop without a thread, its users, and etcds on
 * loopback sockets. Owns: all of them but the users. Thread: one.
 *
 * etcd is played by h2's server role: it can refuse, be silent, greet, say GOAWAY, and be gone.
 * Users are on the heap and freed as soon as they have left, so that a late call to one is seen by
 * the sanitizers; fix_fini fails when a handle or a slab is left. The clock is the machine's, but a
 * test may set it forward (skip_ms). */
#ifndef TESTS_PROXY_UPSTREAM_KIT_H
#define TESTS_PROXY_UPSTREAM_KIT_H

#include "h2/kit.h"

#include "base/limits.h"
#include "proxy/upstream.h"

#define CONNS_MAX 64
#define SERVERS_MAX 2
#define WAITS 32

struct server {
    struct kit *k;
    struct net_url *url;
    int listener;           /* -1: connections are refused */
    bool is_silent, greets; /* silent after its SETTINGS */
    int silent[CONNS_MAX];
    struct h2_opts opts; /* of connections that come from now on */
    struct end ends[CONNS_MAX];
    unsigned count, silent_count;
};

struct fix {
    struct kit k;
    struct proxy_env env;
    struct net_url urls[SERVERS_MAX];
    struct server servers[SERVERS_MAX];
    struct upstream_pool pool;
};

struct waiter {
    struct upstream_wait wait;
    struct user *user;
    unsigned told;
    unsigned order; /* among its user's */
    struct h2_conn *conn;
};

struct user {
    struct upstream_user up;
    unsigned backs, aways;
    unsigned told; /* waits */
    struct waiter waiters[WAITS];
    /* What the test wants to do from inside. */
    void (*at_back)(struct user *u);
    void (*at_away)(struct user *u);
    void (*at_wait)(struct waiter *w);
};

/* What a call's stream hears. */
struct stream {
    struct h2_stream *s;
    unsigned closes;
    enum h2_code code;
    enum h2_end how;
    bool is_answered;
    struct h2_conn *conn; /* that it was opened on */
};

void server_listen(struct server *s);
void server_refuse(struct server *s);

void fix_init(struct fix *f, size_t servers);
void fix_fini(struct fix *f);
void turn(struct fix *f);
void run_ms(struct fix *f, unsigned ms);
/* Sets the clock forward in steps, with turns in between. */
void skip_ms(struct fix *f, unsigned ms);
unsigned long since_ms(uint64_t start_ns);
#define UNTIL(f, cond)                                                                             \
    do {                                                                                           \
        uint64_t end_ = loop_hrtime_ns() + 5000000000ull;                                          \
        while (!(cond)) {                                                                          \
            if (loop_hrtime_ns() > end_)                                                           \
                fail_msg("timed out waiting for: %s", #cond);                                      \
            turn(f);                                                                               \
        }                                                                                          \
    } while (0)

extern const struct upstream_user_ops user_ops;
extern const struct h2_stream_ops stream_ops; /* of a struct stream */
/* Not joined. */
struct user *user_alloc(void);
struct user *user_new(struct fix *f);
struct user *user_ready(struct fix *f);
void user_free(struct user *u);
void user_free_from_inside(struct user *u);

/* The connection, or NULL and a wait. */
struct h2_conn *ask(struct user *u, int i);
struct h2_conn *ask_for(struct user *u, enum upstream_class class, int i);
/* The same, and what the wait gets. */
struct h2_conn *await(struct fix *f, struct user *u, enum upstream_class class);
/* A stream on conn, which etcd hears of. */
void stream_open(struct fix *f, struct h2_conn *conn, struct stream *out);
/* The same for a class, whatever connection it gets. */
void stream_for(struct fix *f, struct user *u, enum upstream_class class, struct stream *out);
/* Resets it, and waits for its end. */
void stream_end(struct fix *f, struct stream *s);
/* Streams that etcd has heard of on all connections of s. */
unsigned server_streams(const struct server *s);
/* Connections of s that are open. */
unsigned server_conns(const struct server *s);

#endif
