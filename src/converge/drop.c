/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: which keys are dropped is found out from the two rule sets; what proxies have
 * registered is read until none of them writes with one; a run over all values, with the set in
 * use, finds what needs one; none does.
 * Failure modes: see drop.h. */
#include "converge/drop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/randpool.h"
#include "converge/record.h"
#include "kms/text.h"
#include "sweep/source_etcd.h"
#include "sweep/sweep.h"

#define AGAIN_MS 1000u
#define ANSWER_MAX (4u * 1024 * 1024)
#define WHY_MAX 2048

enum drop_state {
    DROP_READING = 0, /* what proxies have registered */
    DROP_WAITING,     /* one writes with a key that is dropped: the timer runs */
    DROP_LOOKING,     /* the run is under way */
    DROP_DECIDED,
};

/* A key of a list in use that not all keys of etcd under its rule would keep. */
struct dropped {
    size_t rule;
    char text[CONVERGE_KEY_TEXT];
    uint64_t count; /* values that need it */
};

/* What was found out of values alike: the key that opened them, and who would open them. */
struct known {
    const struct provider *provider; /* NULL: plaintext */
    uint32_t key;
    const struct provider_list *now, *next;
    struct dropped *needs; /* NULL: nothing that is dropped */
};

struct converge_drop {
    struct converge_drop_opts o;
    enum drop_state state;
    struct dropped *v;
    size_t count;
    struct sweep_etcd *etcd;
    struct sweep_call call;
    uint8_t request[512];
    struct sweep_source *source;
    struct sweep *sweep;
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct sweep_judge_env judge;
    struct known known[32];
    size_t known_count, known_at;
    struct loop_timer timer, limit;
    struct loop_task ending;
    enum err err;
    char why[WHY_MAX];
    char waits_for[512]; /* who writes with which; "": nobody */
};

static const struct sweep_filter everything = {0};

/* --- the two sets ----------------------------------------------------------------------------- */

/* Is the key of this text in the list? NULL or empty: its values are passed as they are, so
 * plaintext is readable and nothing else. Errors: ERR_NOMEM. */
static enum err has_key(const struct provider_list *list, const char *text, bool *out)
{
    char other[CONVERGE_KEY_TEXT];

    *out = (list == NULL || list->count == 0) && strcmp(text, "identity") == 0;
    for (uint32_t i = 0; list != NULL && i < list->count; i++)
        for (uint32_t k = 0; k == 0 || k < list->v[i]->key_count; k++) {
            TRY(converge_opens_text(list->v[i], k, other));
            if (strcmp(text, other) == 0)
                *out = true;
        }
    return ERR_OK;
}

static const struct key_rule *find_rule(const struct ruleset *set, const struct key_rule *like,
                                        size_t *at)
{
    for (*at = 0; *at < set->key_rules->count; ++*at) {
        const struct key_rule *r = &set->key_rules->v[*at];

        if (r->kind == like->kind && strcmp(r->prefix, like->prefix) == 0)
            return r;
    }
    return NULL;
}

/* Would all under the rule still have the key? No, when in doubt: then values are looked at. */
static enum err is_kept(const struct converge_drop_opts *o, const struct key_rule *rule,
                        const char *text, bool *out)
{
    const struct key_rules *next = o->next->key_rules;
    bool is_covered = false, has;
    size_t at;

    if (find_rule(o->next, rule, &at) != NULL) {
        TRY(has_key(&o->next->lists[at], text, out));
        is_covered = true;
    } else {
        *out = true;
    }
    for (size_t i = 0; i < next->count && *out; i++) {
        const struct key_rule *r = &next->v[i];
        bool is_above = converge_lies_in(rule->prefix, r->prefix);
        enum converge_share share = is_above ? converge_share_of(r, rule) : CONVERGE_SOME;

        /* Rules above count where there is none like this one; those below, where they are new. */
        if (is_above
                ? find_rule(o->next, rule, &at) != NULL
                : !converge_lies_in(r->prefix, rule->prefix) || find_rule(o->now, r, &at) != NULL)
            continue;
        if (share == CONVERGE_NONE)
            continue;
        is_covered |= share == CONVERGE_ALL;
        TRY(has_key(&o->next->lists[i], text, &has));
        *out = has;
    }
    if (*out && !is_covered)
        TRY(has_key(NULL, text, out));
    return ERR_OK;
}

static enum err note_dropped(struct converge_drop *d, size_t rule, const char *text)
{
    struct dropped *v = realloc(d->v, (d->count + 1) * sizeof *v);

    if (v == NULL)
        return ERR_NOMEM;
    d->v = v;
    d->v[d->count] = (struct dropped){.rule = rule};
    memcpy(d->v[d->count++].text, text, CONVERGE_KEY_TEXT);
    return ERR_OK;
}

/* A key as people know it: without its hash. */
static int shown_len(const char *text)
{
    const char *colon = strrchr(text, ':');

    return (int)(colon == NULL ? strlen(text) : (size_t)(colon - text));
}

/* The first key of the list is what is written with. */
static enum err find_of_rule(struct converge_drop *d, size_t i, char *why, size_t why_len)
{
    const struct provider_list *list = &d->o.now->lists[i];
    const struct key_rule *rule = &d->o.now->key_rules->v[i];
    char text[CONVERGE_KEY_TEXT];

    for (uint32_t p = 0; p < list->count; p++)
        for (uint32_t k = 0; k == 0 || k < list->v[p]->key_count; k++) {
            bool kept;

            TRY(converge_opens_text(list->v[p], k, text));
            TRY(is_kept(&d->o, rule, text, &kept));
            if (kept)
                continue;
            if (p == 0 && k == 0) {
                snprintf(why, why_len,
                         "%s: it drops %.*s, with which this proxy writes. Reload with another key "
                         "first and this one behind it, rewrite what needs it (etcd-envelope "
                         "reencrypt, or --converge), then drop it; or give --allow-drop-keys",
                         list->resource, shown_len(text), text);
                return ERR_CONFIG;
            }
            TRY(note_dropped(d, i, text));
        }
    return ERR_OK;
}

static enum err find_dropped(struct converge_drop *d, char *why, size_t why_len)
{
    for (size_t i = 0; i < d->o.now->key_rules->count; i++)
        TRY(find_of_rule(d, i, why, why_len));
    return ERR_OK;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_ending(struct loop_task *t)
{
    struct converge_drop *d = CONTAINER_OF(t, struct converge_drop, ending);

    d->o.on_decided(d->o.user, d->err, d->why);
}

static void decide(struct converge_drop *d, enum err e, const char *why)
{
    if (d->state == DROP_DECIDED)
        return;
    d->state = DROP_DECIDED;
    d->err = e;
    snprintf(d->why, sizeof d->why, "%s", why);
    loop_task_want(d->o.loop, &d->ending);
}

static void on_limit(struct loop_timer *t)
{
    struct converge_drop *d = CONTAINER_OF(t, struct converge_drop, limit);
    char why[WHY_MAX];

    if (d->state == DROP_LOOKING)
        snprintf(why, sizeof why, "after %" PRIu64 " values the look at what is stored is not over",
                 sweep_position(d->sweep)->value_count);
    else
        snprintf(why, sizeof why, "%s",
                 d->waits_for[0] == '\0' ? "etcd does not answer" : d->waits_for);
    snprintf(
        d->why, sizeof d->why,
        "it drops keys, and whether stored values need them is not known within %u s: %.1500s; "
        "--allow-drop-keys does without",
        CONVERGE_DROP_MS / 1000, why);
    snprintf(why, sizeof why, "%s", d->why);
    decide(d, ERR_TIMEOUT, why);
}

/* --- the run ---------------------------------------------------------------------------------- */

static struct dropped *find_in_dropped(struct converge_drop *d, const struct provider_list *now,
                                       const char *text)
{
    for (size_t i = 0; i < d->count; i++)
        if (&d->o.now->lists[d->v[i].rule] == now && strcmp(d->v[i].text, text) == 0)
            return &d->v[i];
    return NULL;
}

static enum err find_out(struct converge_drop *d, struct known *k)
{
    char text[CONVERGE_KEY_TEXT] = "identity";
    bool has;

    if (k->provider != NULL)
        TRY(converge_opens_text(k->provider, k->key, text));
    TRY(has_key(k->next, text, &has));
    k->needs = has ? NULL : find_in_dropped(d, k->now, text);
    return ERR_OK;
}

/* Most values are alike: what was found out is kept. NULL: no memory. */
static const struct known *known_of(struct converge_drop *d, const struct known *like)
{
    struct known *k;

    for (size_t i = 0; i < d->known_count; i++) {
        k = &d->known[i];
        if (k->provider == like->provider && k->key == like->key && k->now == like->now &&
            k->next == like->next)
            return k;
    }
    k = &d->known[d->known_at];
    *k = *like;
    if (find_out(d, k) != ERR_OK)
        return NULL;
    d->known_at = (d->known_at + 1) % ARRAY_LEN(d->known);
    d->known_count += d->known_count < ARRAY_LEN(d->known);
    return k;
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct converge_drop *d = user;
    const struct known *known,
        like = {.provider = v->verdict->state == SWEEP_PLAINTEXT ? NULL : v->verdict->provider,
                .key = v->verdict->key_index,
                .now = v->list,
                .next = etcd_rules_find(d->o.next->rules, v->kv.key)};

    /* What can't be read now can't be lost. */
    if (v->verdict->state == SWEEP_UNREADABLE || v->verdict->err != ERR_OK)
        return SWEEP_GO;
    known = known_of(d, &like);
    if (known == NULL)
        return SWEEP_NO_MEMORY;
    if (known->needs != NULL)
        known->needs->count++;
    return SWEEP_GO;
}

static void decide_by_counts(struct converge_drop *d)
{
    char why[WHY_MAX] = "";
    size_t at = 0;

    for (size_t i = 0; i < d->count && at + 200 < sizeof why; i++) {
        const struct dropped *x = &d->v[i];

        if (x->count == 0)
            continue;
        snprintf(why + at, sizeof why - at, "%s%.*s (%" PRIu64 " of %.80s)", at > 0 ? ", " : "",
                 shown_len(x->text) < 100 ? shown_len(x->text) : 100, x->text, x->count,
                 d->o.now->lists[x->rule].resource);
        at += strlen(why + at);
    }
    if (at == 0) {
        decide(d, ERR_OK, "");
        return;
    }
    snprintf(d->why, sizeof d->why,
             "it drops keys that stored values need: %.1500s. Rewrite them first (etcd-envelope "
             "reencrypt, or --converge), or give --allow-drop-keys",
             why);
    snprintf(why, sizeof why, "%s", d->why);
    decide(d, ERR_CONFIG, why);
}

static void cannot_look(struct converge_drop *d, enum err e, const char *text)
{
    char why[WHY_MAX];

    snprintf(why, sizeof why,
             "it drops keys, and whether stored values need them is not known: %.1500s; "
             "--allow-drop-keys does without",
             text);
    decide(d, e, why);
}

static void on_swept(void *user, enum err e, const char *why)
{
    struct converge_drop *d = user;

    if (e == ERR_OK)
        decide_by_counts(d);
    else
        cannot_look(d, e == ERR_CONFIG ? ERR_SYSTEM : e, why);
}

static enum err look(struct converge_drop *d)
{
    struct sweep_opts o = {.rules = d->o.now,
                           .filter = &everything,
                           .judge = &d->judge,
                           .on_value = on_value,
                           .on_end = on_swept,
                           .user = d};

    TRY(sweep_source_etcd_new(d->etcd, &d->source));
    o.source = d->source;
    d->state = DROP_LOOKING;
    return sweep_start(&o, &d->sweep);
}

/* --- who is registered ------------------------------------------------------------------------ */

/* True: it writes with a key that is dropped, or may do so. */
static bool is_in_use(struct converge_drop *d, struct bytes key, const char *record)
{
    char name[CONVERGE_NAME_MAX];

    if (!converge_record_is_understood(record)) {
        snprintf(d->waits_for, sizeof d->waits_for,
                 "what is registered at %.250s is not understood, and its proxy, which may be of "
                 "another version, may write with any key",
                 kms_clean_text(key, name, sizeof name));
        return true;
    }
    for (size_t i = 0; i < d->count; i++) {
        if (!converge_record_writes(record, d->o.now->key_rules, d->v[i].rule, d->v[i].text))
            continue;
        snprintf(d->waits_for, sizeof d->waits_for, "proxy %.150s still writes with %.*s",
                 converge_record_name(record, name),
                 shown_len(d->v[i].text) < 200 ? shown_len(d->v[i].text) : 200, d->v[i].text);
        return true;
    }
    return false;
}

static enum err read_records(struct converge_drop *d, struct bytes body)
{
    struct etcd_kv kv;
    bool has;

    d->waits_for[0] = '\0';
    for (;;) {
        char *record;
        bool is_used;

        TRY(etcd_message_next_kv(&body, &kv, &has));
        if (!has)
            return ERR_OK;
        record = converge_record_copy(kv.value);
        if (record == NULL)
            return ERR_NOMEM;
        is_used = is_in_use(d, kv.key, record);
        free(record);
        if (is_used)
            return ERR_OK;
    }
}

static void take_records(struct converge_drop *d, struct bytes body)
{
    enum err e = read_records(d, body);

    if (e == ERR_OK && d->waits_for[0] == '\0' && d->o.is_settled != NULL &&
        !d->o.is_settled(d->o.user))
        snprintf(d->waits_for, sizeof d->waits_for,
                 "this proxy has requests in work under an older configuration");
    if (e == ERR_OK && d->waits_for[0] != '\0') {
        d->state = DROP_WAITING; /* the timer's handle exists since the start */
        CHECK(loop_timer_start(d->o.loop, &d->timer, AGAIN_MS) == ERR_OK);
        return;
    }
    if (e == ERR_OK)
        e = look(d);
    if (e != ERR_OK)
        cannot_look(d, e, e == ERR_NOMEM ? "out of memory" : "etcd's answer is malformed");
}

static void on_records(void *arg, const struct client_answer *a)
{
    struct converge_drop *d = arg;
    char why[600];

    if (d->state == DROP_DECIDED)
        return;
    if (a->err != ERR_OK) {
        cannot_look(d, a->err == ERR_CONFIG ? ERR_SYSTEM : a->err, a->message);
    } else if (a->status == GRPC_OK) {
        take_records(d, a->body);
    } else if (a->status == GRPC_PERMISSION_DENIED && !d->o.has_to_read_it) {
        take_records(d, bytes_of(NULL, 0));
    } else {
        snprintf(why, sizeof why, "etcd refuses to be read at %.200s: %s: %.300s", d->o.place,
                 grpc_status_name(a->status), a->message);
        cannot_look(d, ERR_SYSTEM, why);
    }
}

static void read_registered(struct converge_drop *d)
{
    char key[240], end[240];
    struct etcd_range_request range = {0};
    struct etcd_message m;
    struct bytes body;

    snprintf(key, sizeof key, "%.200s/proxies/", d->o.place);
    snprintf(end, sizeof end, "%.200s/proxies%c", d->o.place, '/' + 1);
    range.key = bytes_str(key);
    range.range_end = bytes_str(end);
    etcd_message_init(&m, d->request, sizeof d->request);
    etcd_message_put_range(&m, &range);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    d->state = DROP_READING;
    sweep_call_start(&d->call, d->etcd, ETCD_RANGE_PATH, body, ANSWER_MAX, on_records, d);
}

static void on_timer(struct loop_timer *t)
{
    struct converge_drop *d = CONTAINER_OF(t, struct converge_drop, timer);

    if (d->state == DROP_WAITING)
        read_registered(d);
}

/* --- exported --------------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

static enum err begin(struct converge_drop *d)
{
    const struct sweep_etcd_opts etcd = {.loop = d->o.loop,
                                         .urls = d->o.etcd_urls,
                                         .url_count = d->o.etcd_url_count,
                                         .tls = d->o.tls,
                                         .login = d->o.login,
                                         .first_ms = CONVERGE_DROP_MS,
                                         .away_ms = CONVERGE_DROP_MS};

    TRY(envelope_ctx_new(random_bytes, NULL, &d->ctx));
    TRY(sweep_etcd_new(&etcd, &d->etcd));
    TRY(loop_timer_start(d->o.loop, &d->limit, CONVERGE_DROP_MS));
    TRY(loop_timer_start(d->o.loop, &d->timer, AGAIN_MS));
    loop_timer_stop(&d->timer);
    d->judge = (struct sweep_judge_env){
        .loop = d->o.loop, .opens_local = true, .ctx = d->ctx, .pool = &d->pool};
    read_registered(d);
    return ERR_OK;
}

enum err converge_drop_start(const struct converge_drop_opts *o, struct converge_drop **out,
                             char *why, size_t why_len)
{
    struct converge_drop *d = calloc(1, sizeof *d);
    enum err e;

    *out = NULL;
    snprintf(why, why_len, "out of memory");
    if (d == NULL)
        return ERR_NOMEM;
    d->o = *o;
    d->o.now = ruleset_ref(o->now);
    d->o.next = ruleset_ref(o->next);
    slab_pool_init(&d->pool, 8);
    loop_timer_init(&d->timer, on_timer);
    loop_timer_init(&d->limit, on_limit);
    loop_task_init(&d->ending, on_ending);
    e = find_dropped(d, why, why_len);
    if (e == ERR_OK && d->count > 0)
        e = begin(d);
    if (e != ERR_OK || d->count == 0)
        converge_drop_free(d);
    else
        *out = d;
    return e;
}

void converge_drop_free(struct converge_drop *d)
{
    loop_task_cancel(&d->ending);
    loop_timer_fini(&d->timer);
    loop_timer_fini(&d->limit);
    sweep_call_cancel(&d->call);
    if (d->sweep != NULL)
        sweep_stop(d->sweep);
    if (d->source != NULL)
        d->source->ops->close(d->source);
    if (d->etcd != NULL)
        sweep_etcd_close(d->etcd);
    slab_pool_settle(&d->pool);
    slab_pool_fini(&d->pool);
    if (d->ctx != NULL) {
        envelope_ctx_wipe(d->ctx);
        envelope_ctx_free(d->ctx);
    }
    ruleset_drop(d->o.now);
    ruleset_drop(d->o.next);
    free(d->v);
    free(d);
}
