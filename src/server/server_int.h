/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by server.c (the life of the process), setup*.c (what is made before),
 * reload.c (rule sets that change), reload_tls.c (TLS contexts that change), login.c (who the proxy
 * itself is to etcd) and announce.c (what
 * the service manager hears of it). */
#ifndef SERVER_SERVER_INT_H
#define SERVER_SERVER_INT_H

#include "converge/converge.h"
#include "converge/drop.h"
#include "converge/missing.h"
#include "loop/watch.h"
#include "net/listen.h"
#include "server/seats.h"
#include "server/server.h"
#include "server/status.h"
#include "proxy/worker.h"
#include "sweep/login.h"

#define SERVER_EARLY_MAX 64
#define SERVER_FEW_LINKS 8 /* fewer, of all workers together, are served by one */

struct server_worker {
    struct worker *worker;
    size_t links;
    bool is_ready; /* has its first key set */
    bool is_drained;
};

struct server_listener {
    struct server *server;
    struct net_listener *listener;
    bool is_tls;
};

/* A rule set with its key manager. One is in use; one may be on probation, until its plugins are
 * known to work; the others are retired and wait for the messages that still use them. */
enum server_set_state { SET_RETIRED = 0, SET_ON_PROBATION, SET_IN_USE };

struct server_set {
    struct list node; /* in server.sets */
    struct server *server;
    enum server_set_state state;
    struct ruleset *rules;
    struct kms_manager *manager;
    size_t rings;               /* made and not yet freed */
    bool is_closing;            /* kms_manager_close was called */
    struct converge_drop *drop; /* on probation: which stored values need keys that it drops */
    struct loop_timer timer;    /* probation */
    uint64_t probation_until;   /* ms */
};

struct server {
    const struct settings *settings;
    struct server_source source;
    struct server_hooks hooks;
    struct proxy_env env;
    struct budget budget; /* of env */
    struct net_url *etcd_urls;
    struct etcd_advertise_url *advertise;
    char (*advertise_texts)[NET_URL_MAX];
    struct loop loop;
    struct mailbox mailbox;
    struct server_worker *workers;
    size_t worker_count;
    struct seats seats;
    struct server_listener *listeners;
    size_t listener_count;
    struct net_tls *tls;                       /* of the listeners; NULL: none is https */
    struct net_tls *etcd_tls, *etcd_tls_http1; /* NULL: no https URL */
    char tls_hash[72];                         /* of the TLS files in use */
    char tls_refused_hash[72];                 /* of TLS files that the log was told of; "": none */
    char tls_refused_why[1024];
    char refused_hash[72]; /* of the configuration file, while its content is refused; "": none */
    uint64_t refused_at_ms;
    bool is_reload_failed;    /* the last one: what is in force is not what the file says */
    bool is_reload_announced; /* the service manager waits for its end */
    struct server_reload last_reload;
    struct list sets;
    uint64_t settled_ms;    /* since when nothing is in work under a set that was retired */
    struct server_set *set; /* in use */
    size_t workers_ready;   /* have their first key set */
    struct {
        int fd;
        struct server_listener *from;
    } early[SERVER_EARLY_MAX]; /* accepted before workers and keys were ready */
    size_t early_count;
    struct converge *converge;        /* NULL: --converge is off */
    struct converge_missing *missing; /* NULL: no look is under way */
    struct loop_timer missing_timer;  /* until the next one */
    bool has_said_missing;            /* that it is not known what does not open */
    char missing_why[512];            /* why not, while etcd refuses to be read; "" */
    struct sweep_login *login;        /* of our own calls to etcd; NULL: they are nobody's */
    char login_said[600];             /* what the log was told of it last */
    char password_why[512];           /* why the password file cannot be used; "" when it can */
    bool is_password_read_once;       /* it came from a pipe: there is nothing to read again */
    bool has_asked_look;              /* somebody waits for what the look finds */
    bool is_waiting_for_keys;         /* the plugins have not answered for the first time */
    struct loop_timer keys_timer;     /* bounds that wait */
    struct loop_watch *watch;
    uv_signal_t sigterm, sigint, sighup, sigchld;
    bool is_draining;
    bool has_left_converge; /* while it drains: nothing is registered in etcd any more */
    size_t drained_count;
};

/* --- setup.c --- */
/* Everything but the rule set, which is looked at. 0, or an exit status with why. */
int server__setup(struct server *s, const struct ruleset *rules, char *why, size_t why_len);
/* The TLS contexts of the settings' files. NULL where none is needed. 0, or an exit status. */
int server__make_server_tls(const struct server *s, struct net_tls **out, char *why,
                            size_t why_len);
int server__make_etcd_tls(const struct server *s, struct net_tls **out, struct net_tls **out_http1,
                          char *why, size_t why_len);
/* Warns of a private key that others may read. */
void server__judge_key_files(const struct settings *o);

/* --- setup_contain.c --- */
/* From here on nothing is opened that was not known before, and there may be threads: the log's is
 * made. 0, or an exit status with why. */
int server__contain(struct server *s, const struct ruleset *rules, char *why, size_t why_len);
/* What that would find of --user; see server_check for closed. 0, or an exit status with why. */
int server__try_user(const struct server *s, const struct ruleset *rules, const char **closed,
                     char *why, size_t why_len);

/* --- setup_limits.c --- */
/* Raises the number of descriptors that the process may have, and sees that a start has enough.
 * Before there is a loop. Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err server__try_descriptors(const struct settings *o, char *why, size_t why_len);
/* Makes the seats: as many as are
 * asked for, or as the memory limit and the descriptors allow. Errors: ERR_NOMEM. */
MUST_CHECK enum err server__setup_limits(struct server *s);

/* --- server.c --- */
void server__finish(struct server *s);
void server__on_accept(void *arg, int fd);
void server__on_report(void *arg, const struct worker_report *r);
/* The plugins have answered for the first time, or were waited for long enough. */
void server__keys_tried(struct server *s);

/* --- reload.c --- */
/* The first set: in use as soon as every worker has it. Takes rules. Errors: ERR_NOMEM,
 * ERR_CONFIG. */
MUST_CHECK enum err server__first_set(struct server *s, struct ruleset *rules);
/* Reads the configuration again; the old set stays on any error. is_forced: SIGHUP, also without
 * --encryption-provider-config-automatic-reload. */
void server__reload(struct server *s, bool is_forced);
/* Watches the files. */
MUST_CHECK enum err server__watch(struct server *s);
/* Reports of the workers that concern key sets. */
void server__on_keyset(const struct worker_report *r);
/* All workers are gone: closes every manager, then calls server__finish. */
void server__close_sets(struct server *s);

/* --- missing.c --- */
void server__look_init(struct server *s);
/* Another set is in use: stored values are looked at later on. */
void server__look_later(struct server *s);
/* The same, if the last one was refused: it may not be any more. */
void server__look_again(struct server *s);
/* The same at once, unless a look is under way. */
void server__look_now(struct server *s);
/* The same for somebody who waits for it: the log says what was found. Also with --converge. */
void server__look_asked(struct server *s);
/* No more. */
void server__look_stop(struct server *s);

/* --- login.c --- */
/* The login of --etcd-user; *out NULL: there is none. 0, or an exit status with why. */
int server__make_login(const struct server *s, struct sweep_login **out, char *why, size_t why_len);
/* From now on the log hears of it. */
void server__login_start(struct server *s);
/* Reads the password again; the old one stays on any error. is_forced: an error is logged again,
 * and etcd is asked again if it has refused. */
void server__reload_login(struct server *s, bool is_forced);

/* --- announce.c: to the service manager, if there is one --- */
/* Everything listens, and the plugins were asked. */
void server__announce_ready(const struct server *s);
void server__announce_reloading(struct server *s);
/* A reload is over, well or not (is_reload_failed). */
void server__announce_reloaded(struct server *s);
void server__announce_stopping(void);

/* --- reload_tls.c --- */
/* "sha256:<hex>" over the TLS files as they are now. */
void server__tls_hash(const struct server *s, char out[static 72]);
/* Reads the TLS files again if they have changed; the old contexts stay on any error. is_forced: an
 * error is logged again. */
void server__reload_tls(struct server *s, bool is_forced);

#endif
