/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. server__setup makes workers and listeners, server__first_set the key manager of the rule
 *      set;
 *   2. an accepted socket goes to the worker with the fewest links, and while there are few in all
 *      to the one that has them; who has to go for it, if anybody, seats.c says;
 *   3. the plugins have answered for the first time, or a second is over: connections are served
 *      and the service manager is told;
 *   4. SIGTERM or SIGINT: listeners close, workers drain, then everything ends in reverse order.
 * Failure modes: what cannot be set up ends the start with a reason. A KMS plugin that is away does
 * not: reads and writes of protected keys are refused until it comes. A second signal exits at
 * once. */
#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "contain/opener.h"
#include "net/inherit.h"
#include "server/server_int.h"

#define FIRST_KEYS_MS 1000 /* connections wait so long for the plugins' first answers */
#define LEAVE_MS 5000u     /* at most for what --converge takes back in etcd */

/* --- the end --------------------------------------------------------------------------------- */

void server__finish(struct server *s)
{
    s->hooks.ending(s->hooks.arg);
    loop_timer_fini(&s->keys_timer);
    loop_watch_close(s->watch);
    mailbox_close(&s->mailbox);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
    uv_close((uv_handle_t *)&s->sighup, NULL);
    uv_close((uv_handle_t *)&s->sigchld, NULL);
    loop_stop(&s->loop);
}

static void end_if_drained(struct server *s)
{
    if (s->drained_count < s->worker_count || !s->has_left_converge || s->worker_count == 0)
        return;
    for (size_t i = 0; i < s->worker_count; i++)
        worker_stop(s->workers[i].worker);
    s->worker_count = 0;
    server__look_stop(s);
    server__close_sets(s);
}

static void on_left_converge(void *user)
{
    struct server *s = user;

    s->has_left_converge = true;
    end_if_drained(s);
}

/* Calls in flight are finished meanwhile, and it is over well before they have to be. */
static void leave_converge(struct server *s)
{
    uint64_t within_ms = s->settings->shutdown_timeout_ms / 4;

    s->has_left_converge = s->converge == NULL;
    if (s->converge != NULL)
        converge_leave(s->converge, within_ms < LEAVE_MS ? within_ms : LEAVE_MS, on_left_converge,
                       s);
}

static void begin_drain(struct server *s)
{
    if (s->is_draining)
        _exit(SERVER_ERROR); /* the second signal */
    s->is_draining = true;
    server__announce_stopping();
    LOG(INFO, "shutting down", "limit_ms=%llu",
        (unsigned long long)s->settings->shutdown_timeout_ms);
    for (size_t i = 0; i < s->listener_count; i++)
        net_listener_close(s->listeners[i].listener);
    s->listener_count = 0;
    for (size_t i = 0; i < s->early_count; i++)
        close(s->early[i].fd);
    s->early_count = 0;
    leave_converge(s);
    for (size_t i = 0; i < s->worker_count; i++)
        worker_drain(s->workers[i].worker, s->settings->shutdown_timeout_ms);
}

static void on_end_signal(uv_signal_t *handle, int signum)
{
    (void)signum;
    begin_drain(handle->data);
}

static void on_hangup(uv_signal_t *handle, int signum)
{
    (void)signum;
    server__reload(handle->data, true);
}

static void on_child(uv_signal_t *handle, int signum)
{
    (void)handle, (void)signum;
    opener_look();
}

/* --- workers --------------------------------------------------------------------------------- */

static struct server_worker *find_worker(struct server *s, const struct worker *w)
{
    for (size_t i = 0; i < s->worker_count; i++)
        if (s->workers[i].worker == w)
            return &s->workers[i];
    return NULL;
}

/* With few links each is quiet, and one worker that wakes up for all of them costs less than
 * several that wake up for one. With more than that they are spread evenly, idle or not: an
 * apiserver opens its links in one idle burst and keeps them for days, and links can't move. */
static struct server_worker *worker_for_link(struct server *s)
{
    struct server_worker *fewest = &s->workers[0], *most = &s->workers[0];
    size_t total = 0;

    for (size_t i = 0; i < s->worker_count; i++) {
        struct server_worker *sw = &s->workers[i];

        total += sw->links;
        fewest = sw->links < fewest->links ? sw : fewest;
        most = sw->links > most->links ? sw : most;
    }
    return total < SERVER_FEW_LINKS ? most : fewest;
}

static void give_order(struct server *s, struct seats_order order)
{
    static const enum worker_shed how[] = {
        [SEATS_END_OPENING] = WORKER_SHED_OPENING,
        [SEATS_END_NEWEST] = WORKER_SHED_NEWEST,
        [SEATS_END_IDLEST] = WORKER_SHED_IDLEST,
    };

    if (order.kind != SEATS_ALL_STAY &&
        worker_shed(s->workers[order.worker].worker, how[order.kind], order.who) != ERR_OK)
        seats_order_failed(&s->seats, &order);
}

static void give_socket(struct server *s, const struct server_listener *sl, int fd)
{
    struct server_worker *best = worker_for_link(s);
    size_t i = (size_t)(best - s->workers);

    if (worker_give_socket(best->worker, fd, sl->is_tls ? s->tls : NULL) != ERR_OK) {
        LOG_RATED(ERROR, "a connection is refused: out of memory", "worker=%zu", i);
        return;
    }
    best->links++;
    give_order(s, seats_opened(&s->seats, i));
}

/* The certificate may name another holder than the address alone. */
static bool is_refused(const struct server *s, const struct server_listener *sl, int fd)
{
    char who[NET_WHO_MAX];

    net_who(fd, who);
    if (seats_has_room(&s->seats, sl->is_tls ? NULL : who))
        return false;
    metric_refused(ERR_CONNECTION_LIMIT);
    LOG_RATED(WARN, "a connection is refused: there are too many",
              "peer=%s reason=%s max_connections=%zu", who, err_reason(ERR_CONNECTION_LIMIT),
              s->seats.max);
    return true;
}

static bool are_workers_ready(const struct server *s)
{
    return s->workers_ready == s->worker_count;
}

static void give_early(struct server *s)
{
    if (!are_workers_ready(s) || s->is_waiting_for_keys)
        return;
    for (size_t i = 0; i < s->early_count; i++)
        give_socket(s, s->early[i].from, s->early[i].fd);
    s->early_count = 0;
}

static enum seats_order_kind order_of(enum worker_shed how)
{
    static const enum seats_order_kind kinds[] = {
        [WORKER_SHED_OPENING] = SEATS_END_OPENING,
        [WORKER_SHED_NEWEST] = SEATS_END_NEWEST,
        [WORKER_SHED_IDLEST] = SEATS_END_IDLEST,
    };

    return kinds[how];
}

void server__on_report(void *arg, const struct worker_report *r)
{
    struct server *s = arg;
    struct server_worker *sw = find_worker(s, r->worker);
    const char *who = r->link.who[0] == '\0' ? NULL : r->link.who;

    if (sw == NULL)
        return;
    switch (r->event) {
    case WORKER_LINK_READY:
        give_order(s, seats_taken(&s->seats, (size_t)(sw - s->workers), r->link.who));
        give_order(s, seats_excess(&s->seats));
        return;
    case WORKER_LINK_CLOSED:
        sw->links--;
        seats_left(&s->seats, (size_t)(sw - s->workers), who, r->link.was_shed);
        return;
    case WORKER_SHED_NOBODY:
        seats_order_failed(
            &s->seats, &(struct seats_order){order_of(r->shed), (size_t)(sw - s->workers), who});
        return;
    case WORKER_DRAINED:
        if (sw->is_drained)
            return;
        sw->is_drained = true;
        s->drained_count++;
        end_if_drained(s);
        return;
    case WORKER_KEYSET_IN_USE:
        if (!sw->is_ready)
            s->workers_ready++;
        sw->is_ready = true;
        give_early(s);
        return;
    case WORKER_KEYSET_MADE:
    case WORKER_KEYSET_UNUSED:
    case WORKER_KEYSET_FREED:
        server__on_keyset(r);
        return;
    }
}

void server__on_accept(void *arg, int fd)
{
    struct server_listener *sl = arg;
    struct server *s = sl->server;

    bool is_full = s->early_count == SERVER_EARLY_MAX;

    if (is_refused(s, sl, fd)) {
        close(fd);
    } else if (are_workers_ready(s) && (!s->is_waiting_for_keys || is_full)) {
        give_socket(s, sl, fd);
    } else if (s->early_count < SERVER_EARLY_MAX) {
        s->early[s->early_count].fd = fd;
        s->early[s->early_count++].from = sl;
    } else {
        close(fd);
    }
}

/* Whoever waited at an inherited socket over a restart has a write at hand: without this it would
 * be refused for the moment that the plugin needs to answer. */
void server__keys_tried(struct server *s)
{
    if (!s->is_waiting_for_keys || s->is_draining)
        return;
    s->is_waiting_for_keys = false;
    loop_timer_stop(&s->keys_timer);
    give_early(s);
    server__announce_ready(s);
}

static void on_keys_timer(struct loop_timer *t)
{
    server__keys_tried(CONTAINER_OF(t, struct server, keys_timer));
}

/* --- run ------------------------------------------------------------------------------------- */

/* 0, or -1 with errno. */
static int watch_signals(struct server *s)
{
    const struct {
        uv_signal_t *handle;
        uv_signal_cb fn;
        int number;
    } all[] = {{&s->sigterm, on_end_signal, SIGTERM},
               {&s->sigint, on_end_signal, SIGINT},
               {&s->sighup, on_hangup, SIGHUP},
               {&s->sigchld, on_child, SIGCHLD}};

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int status = uv_signal_init(&s->loop.uv, all[i].handle);

        all[i].handle->data = s;
        if (status == 0)
            status = uv_signal_start(all[i].handle, all[i].fn, all[i].number);
        if (status != 0) {
            errno = -status;
            return -1;
        }
    }
    return 0;
}

/* On a socket that no URL names clients would wait for ever. */
static int check_inherited(char *why, size_t why_len)
{
    char text[NET_URL_MAX];
    const char *left = net_inherit_left(text);

    if (left == NULL)
        return 0;
    snprintf(why, why_len,
             "LISTEN_FDS: the service manager passed a socket for %s, which neither "
             "--listen-client-urls nor --listen-metrics-urls names",
             left);
    return SERVER_USAGE;
}

static int start(struct server *s, struct ruleset *rules, char *why, size_t why_len)
{
    enum err e;
    int status;

    if (server__try_descriptors(s->settings, why, why_len) != ERR_OK)
        return SERVER_ERROR;
    if (loop_init(&s->loop) != ERR_OK || mailbox_init(&s->mailbox, &s->loop) != ERR_OK ||
        watch_signals(s) != 0) {
        snprintf(why, why_len, "cannot make the control loop: %s", strerror(errno));
        return SERVER_ERROR;
    }
    loop_timer_init(&s->keys_timer, on_keys_timer);
    server__look_init(s);
    s->is_waiting_for_keys = true;
    status = server__setup(s, rules, why, why_len);
    if (status != 0) {
        ruleset_drop(rules);
        return status;
    }
    e = server__first_set(s, rules);
    if (e == ERR_OK)
        e = server__watch(s);
    if (e != ERR_OK) {
        snprintf(why, why_len, "cannot make the key manager: %s", err_reason(e));
        return SERVER_ERROR;
    }
    server__login_start(s);
    status = s->hooks.started(s->hooks.arg, s, why, why_len);
    if (status == 0)
        status = check_inherited(why, why_len);
    if (status == 0 && loop_timer_start(&s->loop, &s->keys_timer, FIRST_KEYS_MS) != ERR_OK) {
        snprintf(why, why_len, "out of memory");
        status = SERVER_ERROR;
    }
    return status;
}

static void drop_tls(struct net_tls *tls)
{
    if (tls != NULL)
        net_tls_drop(tls);
}

int server_run(const struct settings *settings, const struct server_source *source,
               const struct server_hooks *hooks, struct ruleset *rules, char *why, size_t why_len)
{
    /* One per process. Static, because after a failed start handles and threads still point to
     * it. */
    static struct server s;
    int status;

    s = (struct server){
        .settings = settings, .source = *source, .hooks = *hooks, .env = {.settings = settings}};

    list_init(&s.sets);
    status = start(&s, rules, why, why_len);
    if (status != 0) {
        /* Threads have to end; the rest is freed by the end of the process. */
        for (size_t i = 0; i < s.worker_count; i++)
            worker_stop(s.workers[i].worker);
        return status;
    }
    loop_run(&s.loop);
    mailbox_fini(&s.mailbox);
    loop_fini(&s.loop);
    drop_tls(s.tls);
    drop_tls(s.etcd_tls);
    drop_tls(s.etcd_tls_http1);
    converge_free(s.converge);
    sweep_login_drop(s.login);
    free(s.listeners);
    free(s.workers);
    seats_fini(&s.seats);
    free(s.etcd_urls);
    free(s.advertise);
    free(s.advertise_texts);
    LOG(INFO, "stopped", "%s", "");
    return 0;
}
