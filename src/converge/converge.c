/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: converge.h has the states. A tick every second looks what has changed and what is
 * due. Failure modes: see there. */
#include "converge/converge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/metric_series.h"
#include "base/randpool.h"
#include "converge/member.h"
#include "converge/pace.h"
#include "converge/pass.h"

#define TICK_MS 1000u
#define FIRST_PAUSE_MS 5000u /* after a pass that failed */
#define LAST_PAUSE_MS (600u * 1000)
#define BLOCKED_MS (300u * 1000) /* after etcd took no more writes; compactions come every 5 min */
#define FIRST_MS 10000u          /* a call to etcd that was never reached */
#define AWAY_MS 20000u           /* one that was: a restart is waited for */

enum work_state { WORK_RESTING = 0, WORK_LOOKING, WORK_REWRITING };

struct converge {
    struct converge_opts o;
    char name[CONVERGE_NAME_MAX];
    struct net_tls *tls, *tls_http1;
    struct sweep_etcd *etcd;
    struct converge_member *member;
    struct mailbox box; /* of the ring */
    struct slab_pool pool;
    struct envelope_ctx *ctx;
    struct loop_timer tick;
    /* The set in use; rules NULL: none. */
    struct ruleset *rules;
    struct kms_manager *manager;
    struct keyring *ring;
    struct sweep_judge_env judge;
    char *record; /* what was announced last */
    /* The work. */
    struct converge_pass *pass; /* NULL: WORK_RESTING */
    bool wants_look;            /* something is new since the last pass began */
    bool is_asked, is_answer;   /* by converge_look; the pass under way is the answer to that */
    bool is_told;               /* what it has passed may have been rewritten behind it */
    uint64_t began_ms;          /* the pass, or the last one */
    uint64_t next_ms, blocked_ms, pause_ms;
    struct converge_pace pace;
    uint64_t news, told; /* of the member, as of the last tick */
    uint64_t due;        /* values that the last full look left */
    uint64_t unreadable; /* that it found */
    bool has_looked;
    int64_t looked_s; /* when the last full look was over, since 1970 */
    bool has_left, is_closed;
    bool is_denied;     /* etcd refuses to be read: the last pass */
    char problem[1024]; /* of the last pass; "": none */
};

static uint64_t now_ms(const struct converge *c)
{
    return loop_now_ms(c->o.loop);
}

static enum work_state work_state(const struct converge *c)
{
    if (c->pass == NULL)
        return WORK_RESTING;
    return converge_pass_is_rewriting(c->pass) ? WORK_REWRITING : WORK_LOOKING;
}

/* --- what this proxy writes with -------------------------------------------------------------- */

/* Announces what has changed: a reload, a key id that the plugin has told. */
static void refresh_record(struct converge *c)
{
    char *record, *copy;

    if (converge_record_make(c->rules, c->ring, c->name, &record) != ERR_OK)
        return;
    if (c->record != NULL && strcmp(c->record, record) == 0) {
        free(record);
        return;
    }
    copy = strdup(record);
    if (copy == NULL) { /* the next tick tries again */
        free(record);
        return;
    }
    free(c->record);
    c->record = record;
    converge_member_announce(c->member, copy);
    c->wants_look = true;
}

/* The keys may have changed since the last tick: what would be written with now has to be what the
 * others know of. */
static bool may_write(void *user, const struct provider *p, struct etcd_fence *fence)
{
    struct converge *c = user;
    const struct provider_list one = {.v = &p, .count = 1, .resource = ""};
    char key[CONVERGE_KEY_TEXT + 2];

    if (!converge_member_may_rewrite(c->member, fence))
        return false;
    key[0] = ' ';
    if (converge_writes_text(&one, c->ring, key + 1) != ERR_OK)
        return false;
    strcat(key, " "); /* a whole word of a rule's line, that of the key */
    return strstr(converge_member_record(c->member), key) != NULL;
}

/* --- what came of a pass ---------------------------------------------------------------------- */

static const char *const state_labels[] = {[SWEEP_UNREADABLE] = "unreadable",
                                           [SWEEP_PLAINTEXT] = "plaintext",
                                           [SWEEP_OTHER] = "older",
                                           [SWEEP_OLDER] = "older",
                                           [SWEEP_CURRENT] = "current"};

/* Several rules may be of one resource. */
static void publish(struct converge *c, const struct converge_count *counts)
{
    struct timespec now;

    series_forget(SERIES_STORED); /* resources of an older configuration */
    for (size_t i = 0; i < c->rules->key_rules->count; i++) {
        const struct provider_list *list = &c->rules->lists[i];

        for (int s = 0; s < SWEEP_STATE_COUNT && list->count > 0; s++)
            series_add(SERIES_STORED, LABELS(list->resource, state_labels[s]),
                       (double)counts[i].v[s]);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    c->looked_s = now.tv_sec;
    series_set(SERIES_STORED_TIME, NO_LABELS, (double)now.tv_sec);
}

static void say_unreadable(struct converge *c, const struct converge_result *r)
{
    uint64_t count = 0;

    for (size_t i = 0; i < c->rules->key_rules->count; i++)
        count += c->rules->lists[i].count > 0 ? r->counts[i].v[SWEEP_UNREADABLE] : 0;
    if (count > 0 && count != c->unreadable)
        LOG(ERROR, "stored values do not open with this configuration", "count=%" PRIu64, count);
    c->unreadable = count;
}

static uint64_t pause_after(struct converge *c, const struct converge_result *r)
{
    uint64_t counts[SWEEP_STATE_COUNT] = {0};

    for (size_t i = 0; i < c->rules->key_rules->count; i++)
        for (int s = 0; s < SWEEP_STATE_COUNT && c->rules->lists[i].count > 0; s++)
            counts[s] += r->counts[i].v[s];
    return converge_pace_looked(&c->pace, now_ms(c) - c->began_ms, counts, r->due);
}

/* Unless a pass has failed: then not sooner for anything new. */
static void look_within(struct converge *c, uint64_t ms)
{
    if (c->pause_ms == 0 && ms != UINT64_MAX && now_ms(c) + ms < c->next_ms)
        c->next_ms = now_ms(c) + ms;
}

static void pass_is_good(struct converge *c, const struct converge_result *r)
{
    publish(c, r->counts);
    say_unreadable(c, r);
    if (c->is_answer || r->rewritten > 0 || r->due != c->due)
        LOG(INFO, "converge: looked at everything",
            "rewritten=%" PRIu64 " due=%" PRIu64 " unreadable=%" PRIu64, r->rewritten, r->due,
            c->unreadable);
    c->is_answer = false;
    c->has_looked = true;
    c->is_denied = false;
    c->due = r->due;
    c->pause_ms = 0;
    c->next_ms = now_ms(c) + pause_after(c, r);
    if (c->is_told)
        look_within(c, converge_pace_told(&c->pace));
    if (c->blocked_ms <= now_ms(c))
        c->problem[0] = '\0';
}

static void pass_failed(struct converge *c, enum work_state was, const struct converge_result *r)
{
    if (strcmp(c->problem, r->why) != 0)
        LOG(WARN, "converge: a pass has failed", "reason=\"%s\"", r->why);
    snprintf(c->problem, sizeof c->problem, "%s", r->why);
    c->is_denied = was == WORK_LOOKING && r->err == ERR_SYSTEM; /* a look writes nothing */
    if (was == WORK_REWRITING && r->err == ERR_SYSTEM) {
        c->blocked_ms = now_ms(c) + BLOCKED_MS;
        c->next_ms = now_ms(c); /* how much there is can still be counted */
        c->due = c->due > 0 ? c->due : 1;
        return;
    }
    c->pause_ms = c->pause_ms == 0 ? FIRST_PAUSE_MS : 2 * c->pause_ms;
    c->pause_ms = c->pause_ms > LAST_PAUSE_MS ? LAST_PAUSE_MS : c->pause_ms;
    c->next_ms = now_ms(c) + c->pause_ms;
    c->wants_look = false;
}

static void drop_pass(struct converge *c)
{
    if (c->pass != NULL)
        converge_pass_free(c->pass);
    c->pass = NULL;
    slab_pool_settle(&c->pool);
    envelope_ctx_wipe(c->ctx);
    secret_wipe_stack();
}

static void on_pass_end(void *user, const struct converge_result *r)
{
    struct converge *c = user;
    enum work_state was = work_state(c);

    if (r->rewritten > 0)
        converge_member_touch(c->member);
    if (r->err == ERR_OK)
        pass_is_good(c, r);
    else if (r->err == ERR_AGAIN)
        c->wants_look = true;
    else
        pass_failed(c, was, r);
    drop_pass(c);
}

/* --- when there is what to do ----------------------------------------------------------------- */

static bool may_rewrite(const struct converge *c)
{
    struct etcd_fence fence;

    return now_ms(c) >= c->blocked_ms && converge_member_may_rewrite(c->member, &fence);
}

static bool is_time(const struct converge *c, bool may)
{
    if (c->pause_ms > 0) /* the last one failed: not sooner for anything new */
        return now_ms(c) >= c->next_ms;
    return c->wants_look || now_ms(c) >= c->next_ms || (may && c->due > 0);
}

static void start_pass(struct converge *c, bool is_rewriting)
{
    const struct converge_pass_opts o = {.loop = c->o.loop,
                                         .etcd = c->etcd,
                                         .rules = c->rules,
                                         .judge = &c->judge,
                                         .is_rewriting = is_rewriting,
                                         .rate = c->o.rate,
                                         .max_db_size = c->o.max_db_size,
                                         .tls_http1 = c->tls_http1,
                                         .may_write = may_write,
                                         .on_end = on_pass_end,
                                         .user = c};

    c->began_ms = now_ms(c);
    c->is_told = false;
    c->wants_look = converge_pass_new(&o, &c->pass) != ERR_OK;
    if (c->wants_look)
        return;
    c->is_answer |= c->is_asked;
    c->is_asked = false;
}

/* Somebody has the lock anew, or all agree now: what was left by the last look may be rewritten by
 * another proxy from here on. Or another one, or a tool, says that it has rewritten some. */
static void hear_news(struct converge *c)
{
    uint64_t news = converge_member_news(c->member), told = converge_member_told(c->member);

    if (news != c->news)
        look_within(c, converge_pace_news(&c->pace));
    if (told != c->told) {
        look_within(c, converge_pace_told(&c->pace));
        c->is_told = true;
    }
    c->news = news;
    c->told = told;
}

static void work(struct converge *c)
{
    bool may = may_rewrite(c);

    if (work_state(c) == WORK_REWRITING && !may) {
        drop_pass(c);
        c->wants_look = true;
    }
    if (work_state(c) == WORK_RESTING && is_time(c, may))
        start_pass(c, may);
}

static void tick_later(struct converge *c)
{
    if (!c->has_left && !c->is_closed) /* the handle exists since the start */
        CHECK(loop_timer_start(c->o.loop, &c->tick, TICK_MS) == ERR_OK);
}

static void on_tick(struct loop_timer *t)
{
    struct converge *c = CONTAINER_OF(t, struct converge, tick);

    if (c->rules != NULL) {
        refresh_record(c);
        hear_news(c);
        work(c);
    }
    tick_later(c);
}

/* --- connections ------------------------------------------------------------------------------ */

static enum err make_etcd(struct converge *c, struct sweep_etcd **out)
{
    const struct sweep_etcd_opts o = {.loop = c->o.loop,
                                      .urls = c->o.etcd_urls,
                                      .url_count = c->o.etcd_url_count,
                                      .tls = c->tls,
                                      .login = c->o.login,
                                      .first_ms = FIRST_MS,
                                      .away_ms = AWAY_MS};

    return sweep_etcd_new(&o, out);
}

static void swap_tls(struct net_tls **slot, struct net_tls *fresh)
{
    if (*slot != NULL)
        net_tls_drop(*slot);
    *slot = fresh == NULL ? NULL : net_tls_ref(fresh);
}

enum err converge_use_tls(struct converge *c, struct net_tls *tls, struct net_tls *tls_http1)
{
    struct sweep_etcd *old = c->etcd;

    if (c->is_closed)
        return ERR_OK;
    swap_tls(&c->tls, tls);
    swap_tls(&c->tls_http1, tls_http1);
    TRY(make_etcd(c, &c->etcd));
    if (c->pass != NULL) {
        drop_pass(c);
        c->wants_look = true;
    }
    converge_member_use_etcd(c->member, c->etcd);
    sweep_etcd_close(old);
    return ERR_OK;
}

/* --- the set in use --------------------------------------------------------------------------- */

static void let_go(struct converge *c)
{
    drop_pass(c);
    if (c->ring != NULL) {
        if (c->manager != NULL)
            kms_manager_leave(c->manager, c->ring);
        keyring_free(c->ring);
    }
    c->ring = NULL;
    c->manager = NULL;
    ruleset_drop(c->rules);
    c->rules = NULL;
}

enum err converge_use(struct converge *c, struct ruleset *rules, struct kms_manager *manager)
{
    struct keyring *ring;

    if (c->is_closed)
        return ERR_OK;
    let_go(c);
    TRY(keyring_new(c->o.loop, kms_manager_mailbox(manager), &c->box, (uint32_t)rules->plugin_count,
                    &ring));
    if (kms_manager_join(manager, &c->box, ring) != ERR_OK) {
        keyring_free(ring);
        return ERR_NOMEM;
    }
    c->rules = ruleset_ref(rules);
    c->manager = manager;
    c->ring = ring;
    c->judge =
        (struct sweep_judge_env){.loop = c->o.loop, .ring = ring, .ctx = c->ctx, .pool = &c->pool};
    c->wants_look = true;
    c->pause_ms = 0;
    c->pace = (struct converge_pace){0};
    c->due = 0;
    if (!c->has_left) /* what came with joining is told of first */
        CHECK(loop_timer_start(c->o.loop, &c->tick, 10) == ERR_OK);
    return ERR_OK;
}

/* --- exported --------------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

static enum err make_parts(struct converge *c)
{
    struct converge_member_opts m = {
        .loop = c->o.loop, .place = c->o.place, .name = c->name, .after_ms = c->o.after_ms};

    TRY(envelope_ctx_new(random_bytes, NULL, &c->ctx));
    TRY(make_etcd(c, &c->etcd));
    m.etcd = c->etcd;
    TRY(converge_member_new(&m, &c->member));
    return loop_timer_start(c->o.loop, &c->tick, TICK_MS);
}

enum err converge_new(const struct converge_opts *o, struct converge **out)
{
    struct converge *c = calloc(1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    c->o = *o;
    if (o->login != NULL)
        sweep_login_ref(o->login);
    snprintf(c->name, sizeof c->name, "%s", o->name);
    slab_pool_init(&c->pool, 64);
    loop_timer_init(&c->tick, on_tick);
    *out = c; /* on error it is the end of the process */
    TRY(mailbox_init(&c->box, o->loop));
    return make_parts(c);
}

void converge_try_again(struct converge *c)
{
    if (c->has_left || c->is_closed)
        return;
    converge_member_try_again(c->member);
    c->pause_ms = 0;
    c->blocked_ms = 0;
    c->wants_look = true;
}

void converge_look(struct converge *c)
{
    if (c->has_left || c->is_closed)
        return;
    converge_try_again(c); /* whoever asks may have mended what a pass has failed for */
    c->is_asked = true;
    CHECK(loop_timer_start(c->o.loop, &c->tick, 10) == ERR_OK);
}

void converge_leave(struct converge *c, uint64_t within_ms, void (*on_left)(void *user), void *user)
{
    CHECK(!c->has_left && !c->is_closed);
    c->has_left = true;
    loop_timer_stop(&c->tick);
    drop_pass(c);
    converge_member_leave(c->member, within_ms, on_left, user);
}

void converge_close(struct converge *c)
{
    if (c->is_closed)
        return;
    c->is_closed = true;
    let_go(c);
    loop_timer_fini(&c->tick);
    converge_member_free(c->member);
    sweep_etcd_close(c->etcd);
    mailbox_close(&c->box);
}

void converge_free(struct converge *c)
{
    if (c == NULL)
        return;
    mailbox_fini(&c->box);
    slab_pool_settle(&c->pool);
    slab_pool_fini(&c->pool);
    envelope_ctx_free(c->ctx);
    swap_tls(&c->tls, NULL);
    swap_tls(&c->tls_http1, NULL);
    sweep_login_drop(c->o.login);
    free(c->record);
    free(c);
}

static void say_looked(const struct converge *c, char *out, size_t cap)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (c->has_looked)
        snprintf(out, cap, "%" PRIu64 " due at the last full look, %lld s ago", c->due,
                 (long long)(now.tv_sec > c->looked_s ? now.tv_sec - c->looked_s : 0));
    else
        snprintf(out, cap, "no full look yet");
}

void converge_status(const struct converge *c, struct converge_status *out)
{
    static const char *const doing[] = {
        [WORK_RESTING] = "resting", [WORK_LOOKING] = "looking", [WORK_REWRITING] = "rewriting"};
    char standing[1100] = "shutting down", looked[120];
    enum converge_standing s = CONVERGE_WAITING;

    if (!c->is_closed)
        s = converge_member_standing(c->member, standing, sizeof standing);
    say_looked(c, looked, sizeof looked);
    out->is_denied = !c->is_closed && (c->is_denied || converge_member_is_denied(c->member));
    out->is_well = s != CONVERGE_APART && c->problem[0] == '\0';
    if (c->problem[0] != '\0')
        snprintf(out->text, sizeof out->text, "%s", c->problem);
    else if (s == CONVERGE_APART)
        snprintf(out->text, sizeof out->text, "%s", standing);
    else
        snprintf(out->text, sizeof out->text, "%s; %s; %s", doing[work_state(c)], looked, standing);
}
