/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a test. Gives: a worker without a thread, with its clients, an etcd and a KMS plugin.
 * Owns: all of them. Thread: one, which runs two loops in turn.
 *
 *   struct end (client) ── socket pair ──► worker ── unix socket ──► struct end (etcd)
 *                                            │ mail
 *                         control mailbox, kms_manager ── unix socket ──► fake_plugin
 *
 * The worker has its own loop, all others share the one "outside". Clients and etcd are the ends of
 * tests/unit/h2/kit.h, which record what comes; a test says what they send. The rule set is made by
 * policy/ from a configuration: secrets are sealed by KMS v2 (plugin "vault"), configmaps by a
 * local AES-GCM key, pods not at all.
 *
 * The clock is virtual: it goes on by a millisecond when nobody has anything to do, by a
 * microsecond with every turn, and by rig_pass. So times are exact, however slow the machine is.
 * Nothing here looks into links, calls or lanes; what the rules say is to be seen at the sockets
 * and in the metrics. */
#ifndef TESTS_PROXY_RIG_H
#define TESTS_PROXY_RIG_H

#include "etcd/fixture.h"
#include "fake_plugin.h"
#include "h2/kit.h"
#include "policy/ruleset.h"
#include "proxy/worker.h"

#define RIG_ETCDS 64
#define RIG_CLIENTS 64
#define RIG_SERVERS 2

#define PUT "/etcdserverpb.KV/Put"
#define RANGE "/etcdserverpb.KV/Range"
#define WATCH "/etcdserverpb.Watch/Watch"
#define COMPACT "/etcdserverpb.KV/Compact"
#define SNAPSHOT "/etcdserverpb.Maintenance/Snapshot"

#define SECRET_KEY "/registry/secrets/ns/a"
#define LOCAL_KEY "/registry/configmaps/ns/a"
#define POD_KEY "/registry/pods/ns/a"

enum rig_etcd_how {
    ETCD_SPEAKS = 0, /* HTTP/2: SETTINGS at once */
    ETCD_SILENT,     /* accepts, and not a byte more */
    ETCD_GREETS,     /* SETTINGS, and not a byte more */
    ETCD_HANGS_UP,   /* accepts and closes */
    ETCD_LEAVES,     /* SETTINGS, and closes */
};

/* What a rig is made with. All zero: as described above. */
struct rig_opts {
    size_t etcd_servers; /* in --etcd-servers, all of them up; 0: one */
    bool has_kms_v1;     /* secrets are sealed by KMS v1; the flag that allows it is given */
    struct net_tls *etcd_tls, *worker_tls; /* etcd's side, the worker's; NULL: in clear. Borrowed */
};

struct rig_server {
    struct rig *rig;
    struct net_listener *listener; /* NULL: cannot be reached */
    size_t accepted;
};

struct rig {
    struct rig_opts opts;
    struct kit outside;
    struct worker *w;
    struct mailbox control;
    struct settings settings;
    struct net_url urls[RIG_SERVERS];
    struct rig_server servers[RIG_SERVERS];
    struct proxy_env env;
    struct budget budget; /* of env */
    struct ruleset *rules;
    struct kms_manager *manager;
    struct keyset *keys;
    struct ruleset *old_rules; /* of before rig_reload */
    struct kms_manager *old_manager;
    struct fake_plugin plugin;
    struct envelope_ctx *ctx; /* the test's own, for values as etcd has them stored */
    enum rig_etcd_how how;
    struct h2_opts etcd_opts;     /* of connections that come from now on */
    struct end *etcds[RIG_ETCDS]; /* every connection to etcd, oldest first */
    size_t etcd_count;
    int silent[RIG_ETCDS]; /* sockets of ETCD_SILENT */
    size_t silent_count;
    size_t relay_count; /* of rig_tls.c */
    size_t accepted;    /* of all kinds */
    struct end *etcd;   /* the newest, or that of the newest call; NULL: none yet */
    struct rec *call;   /* the newest */
    struct end *client; /* of rig_setup_with_client; NULL: none */
    struct end *clients[RIG_CLIENTS];
    size_t client_count;
    unsigned drained_count, closed_count, freed_count; /* reports of the worker */
    unsigned ready_count, shed_count, nobody_count;
    char last_who[NET_WHO_MAX]; /* of the newest that was ready */
    uint64_t calls_before;
    bool may_miss_tallies;          /* memory was out: no metric is worth a failure */
    void (*on_worker)(bool begins); /* around every turn of the worker's loop; may be NULL */
};

/* Everything up to the rule set in use and the plugin's write key. */
void rig_init(struct rig *r);
void rig_init_with(struct rig *r, const struct rig_opts *o);
/* Closes everything, and checks that nothing stays behind and that every call was counted once. */
void rig_fini(struct rig *r);

/* The same as setup and teardown of a test whose state is its rig: RIG_TEST(fn, &rig). */
int rig_setup(void **state);
int rig_setup_with_client(void **state);
int rig_teardown(void **state);
#define RIG_TEST(fn, rig) cmocka_unit_test_prestate_setup_teardown(fn, rig_setup, rig_teardown, rig)
#define RIG_TEST_WITH_CLIENT(fn, rig)                                                              \
    cmocka_unit_test_prestate_setup_teardown(fn, rig_setup_with_client, rig_teardown, rig)

/* --memory-limit, from now on. */
void rig_limit(struct rig *r, uint64_t bytes);

/* Other rules, once: secrets are sealed by the local key, and what the plugin sealed is read. */
void rig_reload(struct rig *r);

/* One turn of both loops. */
void rig_turn(struct rig *r);
/* Turns until there is nothing to do: what was sent has arrived on the other side of the worker. */
void rig_settle(struct rig *r);
/* Moves the clock on by ms, in steps of at most 10 ms with turns in between. */
void rig_pass(struct rig *r, uint64_t ms);
/* The same in steps of step_ms: an hour in which nothing happens. */
void rig_pass_in(struct rig *r, uint64_t ms, uint64_t step_ms);
/* Milliseconds on the virtual clock. */
uint64_t rig_now_ms(void);
/* Turns until cond or for 30 s; then the test fails. */
#define RIG_UNTIL(r, cond)                                                                         \
    do {                                                                                           \
        uint64_t end_ = rig_now_ms() + 30000;                                                      \
        while (!(cond)) {                                                                          \
            if (rig_now_ms() > end_)                                                               \
                fail_msg("timed out waiting for: %s", #cond);                                      \
            rig_turn(r);                                                                           \
        }                                                                                          \
    } while (0)

/* --- peers --- */

/* A client that speaks HTTP/2; its connection is on its way. opts NULL: the kit's. */
struct end *rig_connect(struct rig *r, const struct h2_opts *opts);
/* The same, and etcd's answer to it is there. */
struct end *rig_client(struct rig *r);
/* The same of a client whose address is 10.0.0.host (the others' is a unix socket's). */
struct end *rig_client_of(struct rig *r, uint8_t host);
/* A client's socket without HTTP/2: the test reads and writes it, and closes it. */
int rig_raw_client(struct rig *r);
/* True when the other side has closed; what comes before is dropped. */
bool rig_is_closed(int fd);
/* etcd cannot be reached any more; connections stay. */
void rig_etcd_away(struct rig *r);
void rig_etcd_back(struct rig *r);
/* The same for one of several. */
void rig_server_away(struct rig *r, size_t i);
void rig_server_back(struct rig *r, size_t i);
/* Ends a connection of etcd, without GOAWAY's grace. */
void rig_etcd_lost(struct rig *r);

/* Between rig.c and rig_tls.c: takes a socket of etcd's that speaks TLS; hands on one in clear. */
void rig_accept_tls(struct rig *r, int fd);
void rig_add_etcd(struct rig *r, int fd);

/* --- messages --- */

/* Puts the gRPC prefix before m. */
struct buf rig_framed(struct buf *m);
/* Sends bytes as they are. */
void rig_send(struct rec *s, const void *p, size_t n, bool end);
/* The same in two pieces: the first has arrived before the second is sent. */
void rig_send_cut(struct rig *r, struct rec *s, const struct buf *b, size_t at, bool end);
/* A call: headers alone; extra may be NULL, or one more field. */
struct rec *rig_begin(struct end *client, const char *path, const struct h2_field *extra);
/* Headers, one message (taken), end. */
struct rec *rig_call(struct end *client, const char *path, struct buf *m);
struct rec *rig_put(struct end *client, const char *key, const char *value);
struct rec *rig_range(struct end *client, const char *key);
/* Everything below /registry/. */
struct rec *rig_range_all(struct end *client);
struct buf put_request(const char *key, const void *value, size_t n);
struct buf range_request(const char *key, const char *range_end);
struct buf watch_create(const char *key, const char *range_end);

/* etcd's newest call, once there are n in all on the connections that are open now, and its request
 * is whole. */
struct rec *rig_await(struct rig *r, unsigned n);
/* How many there are; connections that are deaf (kit.h) aside. */
unsigned rig_calls(const struct rig *r);
/* The same, but only its headers. */
struct rec *rig_await_headers(struct rig *r, unsigned n);
/* etcd's answer: headers; one message (taken); trailers. All three: rig_answer. */
void rig_respond(struct rec *s);
void rig_message(struct rec *s, struct buf *m, bool end);
void rig_trailers(struct rec *s, const char *status);
void rig_answer(struct rec *s, struct buf *m);
/* Etcd's answer to its nth call, a put, and that the client has got it. */
void rig_answer_put(struct rig *r, struct rec *c, unsigned n);
/* No body: status and end in the headers. */
void rig_trailers_only(struct rec *s, const char *status);

struct buf response_header(void);
struct buf put_response(void);
/* A KeyValue as field number of a message. */
void add_kv(struct buf *m, uint32_t number, const char *key, const void *value, size_t n);
/* One kv; value as etcd has it stored. */
struct buf range_response(const char *key, const struct buf *value);
/* A WatchResponse with one PUT event; and the one that says created. */
struct buf watch_event(uint64_t id, const char *key, const struct buf *value);
struct buf watch_created(uint64_t id);

/* A value as etcd has it stored. Under KMS: under a DEK of the plugin's that is number dek of any
 * that this test names; no ring knows it before it was asked for. */
struct buf rig_seal(struct rig *r, unsigned dek, const char *key, const void *value, size_t n);
/* Checks that etcd was given value sealed: m is a PutRequest without prefix. */
void rig_check_put(struct rig *r, struct bytes m, const char *key, const char *value);

/* --- what came --- */

/* grpc-status; -1: none came. */
int rig_status(const struct rec *c);
/* Waits for the call's end and checks its status. */
void rig_expect(struct rig *r, struct rec *c, int status);
/* Message i of what came (without its prefix); fails the test if it is not whole. */
struct bytes rig_message_at(const struct rec *c, size_t i);
size_t rig_message_count(const struct rec *c);
/* The bytes of the first field with that number; fails the test when there is none. */
struct bytes field_of(struct bytes m, uint32_t number);
/* The value of the first KeyValue of the RangeResponse m. */
void rig_check_value(struct bytes m, const char *value, size_t n);
/* How many calls of the method ended with that code ("OK"), by the metrics. */
unsigned rig_tally(struct rig *r, const char *code, const char *path);
/* Nothing of plaintext is among the bytes that any connection of etcd was sent. */
void rig_check_sealed(struct rig *r, const char *plaintext);
/* The same for every value of a put_request under a protected key, which rig_fini checks: the value
 * is noted; the rig whose etcds count (NULL: none); whether all is well. */
void rig_note_value(const char *key, const void *value, size_t n);
void rig_watch_values(const struct rig *r);
bool rig_is_sealed(void);
/* The worker holds no bytes of messages, and no calls. */
bool rig_is_idle(struct rig *r);
/* Memory of slabs that the worker holds, idle ones aside. */
uint64_t rig_held(struct rig *r);

#endif
