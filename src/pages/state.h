/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: what every page shows of it, gathered in one place. Owns:
 * the connections on which etcd's health is asked, and the history; a struct pages_state owns its
 * copies. Thread: control.
 *
 * A page takes a state, writes what it has to say of it, and lets go of it in the same turn of the
 * loop. The results of checks are the last ones; a page that wants new ones begins a check first
 * and takes its state when that is over. */
#ifndef PAGES_STATE_H
#define PAGES_STATE_H

#include "base/list.h"
#include "pages/etcd_health.h"
#include "pages/history.h"
#include "server/status.h"

/* Where states come from. */
struct pages_source {
    struct server *server;
    const struct settings *settings;
    struct etcd_health *etcd;
    struct history *history;
    int64_t started_s; /* since 1970 */
    struct list waits; /* struct pages_wait */
};

struct pages_plugin {
    const char *name; /* as in the configuration */
    const struct provider_traits *traits;
    struct kms_plugin_state last; /* the result of the last check; why: "" when it was good */
};

struct pages_certificate {
    bool is_there; /* this side shows one; else ends says nothing */
    int64_t ends;  /* when it is valid no longer, in seconds since 1970 */
};

struct pages_state {
    /* The server. */
    const struct settings *settings; /* what it was started with */
    bool is_draining;                /* a signal ends it: no new connections are taken */
    int64_t now_s, started_s;        /* since 1970 */
    size_t connection_limit;         /* of clients; 0: any number */
    const struct history *history;
    /* What became of changed files. */
    const struct server_reload *reload; /* the last one of the configuration */
    bool is_reload_failed;              /* an older configuration than the file's is in force */
    const char *tls_why;   /* why TLS files that changed are not used; "" when all are */
    const char *files_why; /* why no file can be read any more; NULL: files can be read */
    bool is_shedding;      /* room was missing a moment ago: calls or connections were refused */
    /* The rule set in use. Both are NULL when the server has let go of its last one. */
    const struct ruleset *rules;
    const struct enc_config *config; /* the file that it was made of, with its hash */
    /* Its KMS plugins, in the order of the configuration, which is that of their slots. */
    struct pages_plugin *plugins;
    size_t plugin_count;
    bool has_own_checks; /* one of them has a health check of its own, and so have all */
    /* etcd: "" when it answered the last check, else what each of --etcd-servers said instead. */
    const char *etcd_why;
    struct pages_endpoint *endpoints; /* each of them */
    size_t endpoint_count;
    double unopened; /* stored values that the last look for such found; see converge/missing.h */
    int64_t unopened_s; /* when, since 1970; 0: there was none */
    bool has_converge;  /* --converge is on; else the status says nothing */
    struct converge_status converge;
    /* What the proxy asks of etcd on its own account. "": etcd takes it; all is well. */
    const char *refusal, *password_why;
    /* TLS: the certificate shown to clients, and the one shown to etcd. */
    struct pages_certificate listen_certificate, etcd_certificate;
};

/* What can be checked; a set of them is their sum. */
enum pages_checked {
    PAGES_ETCD = 1,
    PAGES_KMS = 2,
    PAGES_EACH_ETCD = 4, /* every endpoint's answer, where PAGES_ETCD is content with one */
};

/* settings outlives it. Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__source_open(struct pages_source *s, struct server *server,
                                       const struct settings *settings);
void pages__source_close(struct pages_source *s);
/* Begins the checks of these whose last result is old (a second for etcd, for the plugins what
 * kms_manager_check says). */
void pages__state_check(struct pages_source *s, unsigned checked);
/* A check of any of these is under way. */
bool pages__state_is_checking(const struct pages_source *s, unsigned checked);
/* What is borrowed in out is good until the loop's next turn. Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__state_take(const struct pages_source *s, struct pages_state *out);
void pages__state_fini(struct pages_state *st);

#endif
