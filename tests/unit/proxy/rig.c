/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/metrics.h"
#include "base/metric_series.h"
#include "base/secret.h"

#define STEP_MS 10
#define SETTLE_TURNS 1000
#define PASS_TURNS 1000

#define LOCAL "aesgcm: {keys: [{name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}"
#define KMS "kms: {apiVersion: %s, name: vault, endpoint: '%s'}"
#define CONFIG(first, second)                                                                      \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"                                                                                 \
    "- resources: [secrets]\n"                                                                     \
    "  providers:\n"                                                                               \
    "  - " first "\n"                                                                              \
    "  - " second "\n"                                                                             \
    "- resources: [configmaps]\n"                                                                  \
    "  providers:\n"                                                                               \
    "  - " LOCAL "\n"

/* --- the clock ------------------------------------------------------------------------------- */

static uint64_t clock_ns = 1000000000000u;

/* Takes the place of libc's, for libuv too: what runs on the monotonic clock runs on ours. */
int clock_gettime(clockid_t id, struct timespec *t)
{
    if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
        return (int)syscall(SYS_clock_gettime, id, t);
    t->tv_sec = (time_t)(clock_ns / 1000000000u);
    t->tv_nsec = (long)(clock_ns % 1000000000u);
    return 0;
}

uint64_t rig_now_ms(void)
{
    return clock_ns / 1000000u;
}

/* --- addresses ------------------------------------------------------------------------------- */

#define FDS 1024

static uint8_t hosts[FDS]; /* of the worker's sockets; 0: what it is */

/* Takes the place of libc's: what is a socket pair comes from where the test says. */
int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    if (fd < 0 || fd >= FDS || hosts[fd] == 0)
        return (int)syscall(SYS_getpeername, fd, addr, len);
    in.sin_addr.s_addr = htonl(10u << 24 | hosts[fd]);
    memcpy(addr, &in, *len < sizeof in ? *len : sizeof in);
    *len = sizeof in;
    return 0;
}

/* --- turns ----------------------------------------------------------------------------------- */

static void worker_turn(struct rig *r)
{
    if (r->w == NULL)
        return;
    if (r->on_worker != NULL)
        r->on_worker(true);
    (void)uv_run(&r->w->loop.uv, UV_RUN_NOWAIT);
    if (r->on_worker != NULL)
        r->on_worker(false);
}

static bool is_busy(uv_loop_t *loop)
{
    struct pollfd fd = {uv_backend_fd(loop), POLLIN, 0};

    return uv_backend_timeout(loop) == 0 || poll(&fd, 1, 0) > 0;
}

/* True when there is more to do. */
static bool turn(struct rig *r)
{
    clock_ns += 1000;
    (void)uv_run(&r->outside.loop.uv, UV_RUN_NOWAIT);
    worker_turn(r);
    return is_busy(&r->outside.loop.uv) || (r->w != NULL && is_busy(&r->w->loop.uv));
}

void rig_turn(struct rig *r)
{
    if (!turn(r) && !turn(r))
        clock_ns += 1000000;
}

void rig_settle(struct rig *r)
{
    unsigned quiet = 0;

    for (int i = 0; i < SETTLE_TURNS && quiet < 3; i++)
        quiet = turn(r) ? 0 : quiet + 1;
}

void rig_pass(struct rig *r, uint64_t ms)
{
    rig_pass_in(r, ms, STEP_MS);
}

void rig_pass_in(struct rig *r, uint64_t ms, uint64_t step_ms)
{
    while (ms > 0) {
        uint64_t step = ms < step_ms ? ms : step_ms;

        ms -= step;
        clock_ns += step * 1000000u;
        for (int i = 0; i < PASS_TURNS && (turn(r) || i < 2); i++)
            ;
    }
}

/* --- etcd ------------------------------------------------------------------------------------ */

static void on_call(struct rec *s)
{
    struct rig *r = s->end->arg;

    r->etcd = s->end;
    r->call = s;
}

void rig_add_etcd(struct rig *r, int fd)
{
    struct end *e = calloc(1, sizeof *e);

    assert_non_null(e);
    assert_true(r->etcd_count < RIG_ETCDS);
    end_init(e, &r->outside, fd, &r->etcd_opts);
    e->arg = r;
    e->on_request = on_call;
    r->etcds[r->etcd_count++] = e;
    r->etcd = e;
}

static void on_accept(void *arg, int fd)
{
    struct rig_server *server = arg;
    struct rig *r = server->rig;

    server->accepted++;
    r->accepted++;
    if (r->how == ETCD_GREETS || r->how == ETCD_LEAVES)
        assert_int_equal(send(fd, "\0\0\0\4\0\0\0\0\0", 9, MSG_NOSIGNAL), 9);
    if (r->how == ETCD_HANGS_UP || r->how == ETCD_LEAVES) {
        close(fd);
        return;
    }
    if (r->how == ETCD_SILENT || r->how == ETCD_GREETS) {
        assert_true(r->silent_count < RIG_ETCDS);
        r->silent[r->silent_count++] = fd;
        return;
    }
    if (r->opts.etcd_tls != NULL)
        rig_accept_tls(r, fd);
    else
        rig_add_etcd(r, fd);
}

void rig_server_back(struct rig *r, size_t i)
{
    char why[256];

    assert_int_equal(net_listen(&r->outside.loop, &r->urls[i], on_accept, &r->servers[i],
                                &r->servers[i].listener, why, sizeof why),
                     ERR_OK);
}

void rig_server_away(struct rig *r, size_t i)
{
    net_listener_close(r->servers[i].listener);
    r->servers[i].listener = NULL;
}

void rig_etcd_back(struct rig *r)
{
    rig_server_back(r, 0);
}

void rig_etcd_away(struct rig *r)
{
    rig_server_away(r, 0);
}

void rig_etcd_lost(struct rig *r)
{
    h2_conn_close(r->etcd->c, H2_INTERNAL_ERROR, 0);
    RIG_UNTIL(r, r->etcd->c == NULL);
}

/* --- life ------------------------------------------------------------------------------------ */

static enum err random_fn(void *arg, void *out, size_t n)
{
    static uint8_t next;

    (void)arg;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)(next += 73);
    return ERR_OK;
}

static void on_report(void *arg, const struct worker_report *report)
{
    struct rig *r = arg;

    switch (report->event) {
    case WORKER_KEYSET_MADE:
        assert_int_equal(kms_manager_join(report->keys_owner, &r->w->mailbox, report->keys->ring),
                         ERR_OK);
        assert_int_equal(worker_use_keyset(r->w, report->keys), ERR_OK);
        return;
    case WORKER_KEYSET_IN_USE:
        r->keys = report->keys;
        return;
    case WORKER_LINK_READY:
        r->ready_count++;
        (void)snprintf(r->last_who, sizeof r->last_who, "%s", report->link.who);
        return;
    case WORKER_LINK_CLOSED:
        r->closed_count++;
        r->shed_count += report->link.was_shed;
        return;
    case WORKER_SHED_NOBODY:
        r->nobody_count++;
        return;
    case WORKER_DRAINED:
        r->drained_count++;
        return;
    case WORKER_KEYSET_UNUSED:
        assert_ptr_equal(report->keys_owner, r->old_manager);
        kms_manager_leave(r->old_manager, report->keys->ring);
        worker_free_keyset(r->w, report->keys);
        return;
    case WORKER_KEYSET_FREED:
        r->freed_count++;
        return;
    }
}

static struct ruleset *rules_of(const struct rig *r, bool is_after)
{
    const struct enc_options enc = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = "/registry"};
    const struct ruleset_opts opts = {.allow_kms_v1_writes = r->opts.has_kms_v1};
    const char *version = r->opts.has_kms_v1 ? "v1" : "v2";
    struct enc_config *config;
    struct key_rules *rules;
    struct ruleset *set;
    char text[1024], why[512] = "";

    if (is_after)
        (void)snprintf(text, sizeof text, CONFIG(LOCAL, KMS), version, r->plugin.endpoint);
    else
        (void)snprintf(text, sizeof text, CONFIG(KMS, LOCAL), version, r->plugin.endpoint);
    if (enc_config_parse(bytes_str(text), &enc, &config, why, sizeof why) != ERR_OK ||
        key_rules_build(config, &keys, &rules, why, sizeof why) != ERR_OK ||
        ruleset_new(config, rules, &opts, &set, why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    return set;
}

static void settings_init(struct rig *r)
{
    char dir[] = "/tmp/proxy-kit-XXXXXX";

    r->settings = (struct settings){.max_request_bytes = LIMIT_MAX_REQUEST_BYTES,
                                    .stream_threshold = LIMIT_STREAM_THRESHOLD,
                                    .memory_limit = LIMIT_MEMORY,
                                    .connection_memory_limit = LIMIT_MEMORY / 2,
                                    .stream_memory_limit = LIMIT_MEMORY / 8 * 3,
                                    .max_concurrent_streams = 1000,
                                    .stall_timeout_ms = LIMIT_STALL_MS};
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < RIG_SERVERS; i++) {
        r->urls[i] = (struct net_url){.is_unix = true, .is_tls = r->opts.worker_tls != NULL};
        (void)snprintf(r->urls[i].host, sizeof r->urls[i].host, "%s/etcd-%zu", dir, i);
        r->servers[i].rig = r;
    }
    r->env = (struct proxy_env){.settings = &r->settings,
                                .etcd_urls = r->urls,
                                .etcd_url_count = r->opts.etcd_servers,
                                .budget = &r->budget};
    budget_init(&r->budget, LIMIT_MEMORY, 1);
    r->etcd_opts = kit_server_opts;
    r->etcd_opts.max_streams = 500;
}

/* KMS v1 has no key for writing: it makes one for each value. */
static bool can_write(struct rig *r)
{
    struct kms_plugin_state s;

    if (r->keys == NULL)
        return false;
    if (!r->opts.has_kms_v1)
        return keyring_state(r->keys->ring, r->rules->plugins[0].provider) != NULL;
    kms_manager_state(r->manager, 0, &s);
    return s.is_healthy;
}

static void use_rules(struct rig *r, bool is_after)
{
    struct kms_manager_opts kms = {.loop = &r->outside.loop};

    r->rules = rules_of(r, is_after);
    kms.plugins = r->rules->plugins;
    kms.plugin_count = r->rules->plugin_count;
    assert_int_equal(kms_manager_new(&kms, &r->manager), ERR_OK);
    assert_int_equal(worker_make_keyset(r->w, r->rules, r->manager, r->manager), ERR_OK);
}

void rig_init(struct rig *r)
{
    rig_init_with(r, &(struct rig_opts){.etcd_servers = 0});
}

void rig_init_with(struct rig *r, const struct rig_opts *o)
{
    static bool has_secrets;

    if (!has_secrets)
        assert_int_equal(secret_init(), ERR_OK);
    has_secrets = true;
    (void)signal(SIGPIPE, SIG_IGN); /* net/conn.h asks for it */
    *r = (struct rig){.how = ETCD_SPEAKS, .opts = *o};
    rig_watch_values(r);
    if (r->opts.etcd_servers == 0)
        r->opts.etcd_servers = 1;
    for (size_t i = 0; i < SERIES_COUNT; i++)
        series_forget((enum series_id)i);
    r->calls_before = metric_get(METRIC_calls_total);
    kit_init(&r->outside);
    settings_init(r);
    fake_start(&r->plugin, &r->outside.loop);
    if (r->opts.has_kms_v1)
        r->plugin.version = "v1beta1";
    assert_int_equal(envelope_ctx_new(random_fn, NULL, &r->ctx), ERR_OK);
    assert_int_equal(mailbox_init(&r->control, &r->outside.loop), ERR_OK);
    for (size_t i = 0; i < r->opts.etcd_servers; i++)
        rig_server_back(r, i);
    assert_int_equal(worker_new(&r->env, 1, &r->control, on_report, r, &r->w), ERR_OK);
    if (r->opts.worker_tls != NULL)
        assert_int_equal(worker_give_tls(r->w, r->opts.worker_tls, r->opts.worker_tls), ERR_OK);
    use_rules(r, false);
    RIG_UNTIL(r, can_write(r));
}

void rig_limit(struct rig *r, uint64_t bytes)
{
    budget_leave(&r->w->budget);
    budget_init(&r->budget, bytes, 1);
    r->settings.connection_memory_limit =
        bytes / 2 > LIMIT_MAX_REQUEST_BYTES ? bytes / 2 : LIMIT_MAX_REQUEST_BYTES;
}

void rig_reload(struct rig *r)
{
    const struct keyset *before = r->keys;

    assert_null(r->old_manager);
    r->old_rules = r->rules;
    r->old_manager = r->manager;
    use_rules(r, true);
    RIG_UNTIL(r, r->keys != before);
}

bool rig_is_idle(struct rig *r)
{
    return list_is_empty(&r->w->calls) && r->w->kept_bytes == 0 && rig_held(r) == 0;
}

uint64_t rig_held(struct rig *r)
{
    slab_pool_settle(&r->w->pool);
    return r->w->pool.live_bytes;
}

/* Sum of the series of a family that fit. */
static unsigned calls_like(const char *labels)
{
    static const char family[] = "etcd_envelope_grpc_calls_total{";
    char *text = NULL, *line, *rest;
    unsigned sum = 0;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    assert_int_equal(series_write(f), ERR_OK);
    fclose(f);
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (strncmp(line, family, sizeof family - 1) == 0 && strstr(line, labels) != NULL)
            sum += (unsigned)strtoul(strrchr(line, ' '), NULL, 10);
    free(text);
    return sum;
}

unsigned rig_tally(struct rig *r, const char *code, const char *path)
{
    char labels[256];

    rig_pass(r, 400); /* the worker hands them over within a fifth of a second */
    (void)snprintf(labels, sizeof labels, "{grpc_code=\"%s\",grpc_method=\"%s\"}", code, path);
    return calls_like(labels);
}

/* Each call of a client has ended, and was counted, exactly once. */
static void check_tallies(struct rig *r)
{
    uint64_t calls = metric_get(METRIC_calls_total) - r->calls_before;
    unsigned counted;

    rig_pass(r, 400);
    counted = calls_like("");
    assert_in_range(counted, r->may_miss_tallies ? 0 : calls, calls);
}

static void on_manager_closed(void *arg)
{
    *(bool *)arg = true;
}

/* The end's own close would wait on the clock, which goes only here. */
static void end_free(struct rig *r, struct end *e)
{
    if (e->c != NULL)
        h2_conn_close(e->c, H2_NO_ERROR, 0);
    RIG_UNTIL(r, e->c == NULL);
    end_close(e);
    free(e);
}

static void close_manager(struct rig *r, struct kms_manager *manager)
{
    bool is_closed = false;

    kms_manager_close(manager, on_manager_closed, &is_closed);
    RIG_UNTIL(r, is_closed);
}

static void close_outside(struct rig *r)
{
    close_manager(r, r->manager);
    if (r->old_manager != NULL)
        close_manager(r, r->old_manager);
    for (size_t i = 0; i < r->etcd_count; i++)
        end_free(r, r->etcds[i]);
    for (size_t i = 0; i < r->silent_count; i++)
        close(r->silent[i]);
    RIG_UNTIL(r, r->relay_count == 0);
    for (size_t i = 0; i < RIG_SERVERS; i++)
        if (r->servers[i].listener != NULL)
            rig_server_away(r, i);
    fake_stop(&r->plugin);
    RIG_UNTIL(r, fake_is_over(&r->plugin));
    mailbox_close(&r->control);
}

void rig_fini(struct rig *r)
{
    r->on_worker = NULL;
    assert_true(rig_is_sealed());
    rig_watch_values(NULL);
    for (size_t i = 0; i < r->client_count; i++)
        end_free(r, r->clients[i]);
    RIG_UNTIL(r, list_is_empty(&r->w->links) && r->w->link_count == 0);
    check_tallies(r);
    rig_pass(r, 31000); /* the connections to etcd go half a minute after the last link */
    assert_true(rig_is_idle(r));
    assert_true(list_is_empty(&r->w->holders));
    for (size_t i = 0; i < r->etcd_count; i++)
        assert_true(r->etcds[i]->c == NULL || r->etcds[i]->lost_count == 1);
    assert_int_equal(r->w->pool.objects.live, 0);
    assert_int_equal(r->freed_count, r->old_manager != NULL); /* nobody plans with the old rules */
    worker_end(r->w);
    loop_run(&r->w->loop);
    worker_free(r->w);
    r->w = NULL;
    close_outside(r);
    kit_fini(&r->outside);
    mailbox_fini(&r->control);
    fake_fini(&r->plugin);
    ruleset_drop(r->rules);
    ruleset_drop(r->old_rules);
    envelope_ctx_free(r->ctx);
    for (size_t i = 0; i < RIG_SERVERS; i++)
        (void)unlink(r->urls[i].host);
    *strrchr(r->urls[0].host, '/') = '\0';
    (void)rmdir(r->urls[0].host);
}

int rig_setup(void **state)
{
    rig_init(*state);
    return 0;
}

int rig_setup_with_client(void **state)
{
    struct rig *r = *state;

    rig_init(r);
    r->client = rig_client(r);
    return 0;
}

int rig_teardown(void **state)
{
    rig_fini(*state);
    return 0;
}

/* --- clients --------------------------------------------------------------------------------- */

static int connect_from(struct rig *r, uint8_t host)
{
    int fd[2];

    kit_socketpair(fd);
    assert_in_range(fd[1], 0, FDS - 1);
    hosts[fd[1]] = host;
    assert_int_equal(worker_give_socket(r->w, fd[1], NULL), ERR_OK);
    return fd[0];
}

int rig_raw_client(struct rig *r)
{
    return connect_from(r, 0);
}

static struct end *connect_with(struct rig *r, const struct h2_opts *opts, uint8_t host)
{
    struct end *e = calloc(1, sizeof *e);

    assert_non_null(e);
    assert_true(r->client_count < RIG_CLIENTS);
    end_init(e, &r->outside, connect_from(r, host), opts != NULL ? opts : &kit_client_opts);
    r->clients[r->client_count++] = e;
    return e;
}

struct end *rig_connect(struct rig *r, const struct h2_opts *opts)
{
    return connect_with(r, opts, 0);
}

struct end *rig_client_of(struct rig *r, uint8_t host)
{
    struct end *e = connect_with(r, NULL, host);

    RIG_UNTIL(r, e->ready_count == 1);
    return e;
}

struct end *rig_client(struct rig *r)
{
    return rig_client_of(r, 0);
}

bool rig_is_closed(int fd)
{
    char drop[4096];
    ssize_t n;

    do
        n = recv(fd, drop, sizeof drop, 0);
    while (n > 0);
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}
