/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/check.h"

#include <inttypes.h>

#include "base/fips.h"
#include "base/randpool.h"
#include "sweep/source_etcd.h"
#include "tools/access.h"
#include "tools/counts.h"
#include "tools/fetch.h"
#include "tools/words.h"

/* --- rules ------------------------------------------------------------------------------------ */

/* "kms v2 local", "aescbc v1 with key k2 (reads also with k1)", "aescbc v1 with keys k1, k2". */
static size_t provider_text(const struct provider *p, bool writes, char *out, size_t cap)
{
    const struct provider_traits *t = provider_traits(p);
    size_t at;

    if (t->is_identity)
        return (size_t)snprintf(out, cap, "identity (plaintext)");
    if (t->is_kms)
        return (size_t)snprintf(out, cap, "%s %s %.100s", t->name, t->version, p->name);
    at = (size_t)snprintf(out, cap, "%s %s with key%s ", t->name, t->version,
                          !writes && p->key_count > 1 ? "s" : "");
    for (size_t i = 0; i < p->key_count && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%.*s",
                               i == 0             ? ""
                               : i == 1 && writes ? " (reads also with "
                                                  : ", ",
                               (int)(p->keys[i].prefix.n - 1), (const char *)p->keys[i].prefix.p);
    if (writes && p->key_count > 1 && at < cap)
        at += (size_t)snprintf(out + at, cap - at, ")");
    return at;
}

static void check_rule(struct tools_findings *r, const struct key_rule *rule,
                       const struct provider_list *list)
{
    char text[2048];
    size_t at = 0;

    if (list->count == 0) {
        if (rule->entry_count > 0)
            tools_finding(r, TOOLS_NOTE, "not protected", "%s: excluded by identity alone",
                          rule->prefix);
        return;
    }
    for (uint32_t i = 0; i < list->count && at < sizeof text - 1; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s",
                               i == 0   ? "written with "
                               : i == 1 ? "; only read with "
                                        : ", ");
        if (at < sizeof text)
            at += provider_text(list->v[i], i == 0, text + at, sizeof text - at);
    }
    tools_finding(r, TOOLS_OK, "protected", "%s at %s%s: %s", list->resource, rule->prefix,
                  rule->kind == KEY_RULE_DOTLESS ? "/* (unknown kinds)" : "", text);
}

void tools_check_rules(struct tools_findings *r, const struct ruleset *rules, const char *file)
{
    char provider[FIPS_PROVIDER_TEXT];

    tools_finding(r, TOOLS_OK, "configuration", "%s, %s", file, rules->config->hash);
    if (fips_is_on())
        tools_finding(r, TOOLS_OK, "cryptography", "FIPS algorithms alone, of %s",
                      fips_provider(provider));
    for (size_t i = 0; i < rules->key_rules->count; i++)
        check_rule(r, &rules->key_rules->v[i], &rules->lists[i]);
    if (rules->protected_count == 0)
        tools_finding(r, TOOLS_WARN, "configuration",
                      "nothing is protected: all values are stored and passed as they are");
    if (rules->config->has_more_documents)
        tools_finding(r, TOOLS_WARN, "configuration",
                      "only the first YAML document of the file counts");
    if (rules->config->open_mode != 0)
        tools_finding(r, TOOLS_WARN, "configuration",
                      "the file is open to others (mode %04o): it may hold keys, chmod 600 it",
                      rules->config->open_mode);
    for (size_t i = 0; i < rules->key_rules->warning_count; i++)
        tools_finding(r, TOOLS_WARN, "configuration", "%s", rules->key_rules->warnings[i]);
}

/* --- plugins ---------------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

/* Sealed with the one, it has to open with the other: what the plugin unwrapped is what it wrapped.
 */
static enum err try_keys(const struct provider *p, struct dek *wrapped, struct dek *unwrapped)
{
    static const struct bytes key = BYTES_LIT("/etcd-envelope/check");
    const struct provider_list list = {.v = &p, .count = 1, .resource = ""};
    struct slab_pool pool;
    struct envelope_ctx *ctx = NULL;
    struct envelope_opened opened;
    struct envelope_value v;
    struct arena arena = {0};
    struct chain in = {0};
    struct slice sealed = SLICE_EMPTY, plain = SLICE_EMPTY;
    struct slab *slab;
    size_t n;
    enum err e;

    slab_pool_init(&pool, 0);
    e = envelope_ctx_new(random_bytes, NULL, &ctx);
    if (e == ERR_OK)
        e = envelope_sealed_len(p, wrapped, 0, &n);
    slab = e == ERR_OK ? slab_new(&pool, n, 0) : NULL;
    if (slab != NULL) {
        slab->fill = (uint32_t)n;
        sealed = (struct slice){slab, 0, (uint32_t)n};
        e = envelope_seal(ctx, p, wrapped, key, chain_begin(&in), 0, slab->data);
        if (e == ERR_OK)
            e = chain_push(&in, &sealed);
    } else if (e == ERR_OK) {
        e = ERR_NOMEM;
    }
    if (e == ERR_OK)
        e = envelope_identify(&list, chain_begin(&in), in.len, &arena, NULL, &v);
    if (e == ERR_OK)
        e = envelope_open_scratch(ctx, &list, &v, unwrapped, key, &in, 0, in.len, &pool, &plain,
                                  &opened);
    slice_drop(&sealed);
    slice_drop(&plain);
    chain_fini(&in);
    arena_fini(&arena);
    envelope_ctx_free(ctx);
    slab_pool_fini(&pool);
    return e;
}

static bool check_plugin(struct tools_findings *r, const struct ruleset *rules,
                         const struct kms_plugin_opts *plugin)
{
    const struct provider *p = plugin->provider;
    struct dek *wrapped = NULL, *unwrapped = NULL;
    char why[2048];
    enum err e = tools_fetch_dek(rules, p, NULL, &wrapped, why, sizeof why);

    if (e != ERR_OK) {
        tools_finding(r, TOOLS_FAIL, "KMS", "%s", why);
        return false;
    }
    /* Another key manager, which has never seen this DEK: it has to ask the plugin. */
    e = tools_fetch_dek(rules, p, &wrapped->id, &unwrapped, why, sizeof why);
    if (e == ERR_OK) {
        e = try_keys(p, wrapped, unwrapped);
        snprintf(why, sizeof why, "%s", tools_words(e));
    }
    if (e == ERR_OK)
        tools_finding(r, TOOLS_OK, "KMS", "%s (%s): healthy, wraps a key and unwraps it again",
                      p->name, plugin->endpoint);
    else
        tools_finding(r, TOOLS_FAIL, "KMS", "%s (%s) wraps a key, but does not unwrap it: %s",
                      p->name, plugin->endpoint, why);
    dek_drop(wrapped);
    dek_drop(unwrapped);
    return e == ERR_OK;
}

bool tools_check_plugins(struct tools_findings *r, const struct ruleset *rules)
{
    bool is_good = true;

    for (size_t i = 0; i < rules->plugin_count; i++)
        is_good &= check_plugin(r, rules, &rules->plugins[i]);
    return is_good;
}

#define ACCESS_MS 10000u

/* --- values ----------------------------------------------------------------------------------- */

struct look {
    struct tools_findings *r;
    struct tools_cluster *c;
    const struct settings *o;
    struct sweep_source *source;
    struct sweep *sweep;
    struct tools_access access;
    struct tools_counts counts;
    struct loop_task closing;
    enum err err;
    char why[TOOLS_CLUSTER_WHY];
    bool is_ready;
};

static void on_closing(struct loop_task *t)
{
    struct look *l = CONTAINER_OF(t, struct look, closing);

    if (l->sweep != NULL)
        sweep_stop(l->sweep);
    if (l->source != NULL)
        l->source->ops->close(l->source);
    tools_access_fini(&l->access);
    tools_cluster_end(l->c, l->err, l->why);
}

static void on_access(void *user)
{
    struct look *l = user;

    loop_task_want(&l->c->loop, &l->closing);
}

static enum err look_at_access(struct look *l)
{
    const struct tools_cluster *c = l->c;
    const struct tools_access_opts o = {.bare = {.loop = &l->c->loop,
                                                 .urls = c->urls,
                                                 .url_count = c->url_count,
                                                 .tls = c->tls,
                                                 .first_ms = ACCESS_MS,
                                                 .away_ms = ACCESS_MS},
                                        .etcd = c->etcd,
                                        .rules = c->rules,
                                        .place = c->place,
                                        .writes = l->o->converge > 0,
                                        .on_end = on_access,
                                        .user = l};

    return tools_access_start(&l->access, &o);
}

static void on_end(void *user, enum err e, const char *why)
{
    struct look *l = user;

    l->err = e;
    snprintf(l->why, sizeof l->why, "%s", why);
    if (e != ERR_OK || look_at_access(l) != ERR_OK)
        loop_task_want(&l->c->loop, &l->closing);
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct look *l = user;

    return tools_counts_add(&l->counts, v) == ERR_OK ? SWEEP_GO : SWEEP_NO_MEMORY;
}

static void say_etcd(const struct look *l)
{
    const struct etcd_status *s = &l->c->status;
    char url[NET_URL_MAX];

    tools_finding(l->r, TOOLS_OK, "etcd",
                  "%s: version %s, cluster %" PRIx64 ", database %" PRId64 " MiB, %" PRIu64
                  " keys under the protected prefixes",
                  sweep_etcd_server(l->c->etcd, url), s->version, s->header.cluster_id,
                  s->db_size >> 20, l->c->key_count);
    if (s->has_no_space)
        tools_finding(l->r, TOOLS_FAIL, "etcd",
                      "the alarm NOSPACE is raised: no write is taken. Compact and defragment it, "
                      "then disarm the alarm (etcdctl alarm disarm)");
}

static void on_ready(void *arg)
{
    struct look *l = arg;
    struct sweep_opts o = {.rules = l->c->rules,
                           .filter = l->c->filter,
                           .judge = &l->c->judge,
                           .is_sample = true,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = l};
    enum err e = sweep_source_etcd_new(l->c->etcd, &l->source);

    l->is_ready = true;
    say_etcd(l);
    o.source = l->source;
    if (e == ERR_OK)
        e = sweep_start(&o, &l->sweep);
    if (e != ERR_OK)
        on_end(l, e, "out of memory");
}

static void say_values(struct tools_findings *r, const struct tools_resource_count *n)
{
    unsigned long long count = n->count;

    if (n->unread_plain > 0)
        tools_finding(r, TOOLS_FAIL, "values",
                      "%s: of the first %llu, %llu are plaintext, and identity is not in the "
                      "provider list: reading them fails. Put identity last in the list while you "
                      "migrate",
                      n->resource, count, (unsigned long long)n->unread_plain);
    if (n->states[SWEEP_UNREADABLE] > 0)
        tools_finding(r, TOOLS_FAIL, "values",
                      "%s: of the first %llu, %llu do not open with any key of the configuration: "
                      "etcd-envelope verify names keys and values",
                      n->resource, count, (unsigned long long)n->states[SWEEP_UNREADABLE]);
    if (n->due > 0)
        tools_finding(
            r, TOOLS_NOTE, "values",
            "%s: of the first %llu, %llu are plaintext, %llu sealed with another key than "
            "the one that is written with: etcd-envelope reencrypt rewrites them",
            n->resource, count, (unsigned long long)(n->states[SWEEP_PLAINTEXT] - n->unread_plain),
            (unsigned long long)(n->states[SWEEP_OLDER] + n->states[SWEEP_OTHER]));
    if (n->unread_plain + n->states[SWEEP_UNREADABLE] + n->due == 0)
        tools_finding(r, TOOLS_OK, "values", "%s: the first %llu open%s as %s would be written now",
                      n->resource, count, count == 1 ? "s, and is" : ", and are",
                      count == 1 ? "it" : "they");
}

/* What serve's own calls would be refused. */
static void say_access(const struct look *l)
{
    const struct tools_access *a = &l->access;
    const char *user = l->o->etcd_user;

    if (!a->is_over) /* the look did not get so far */
        return;
    if (!a->has_users && user != NULL)
        tools_finding(l->r, TOOLS_NOTE, "access",
                      "etcd has no users now: --etcd-user is not needed");
    if (!a->has_users)
        return;
    if (a->is_by_certificate)
        tools_finding(
            l->r, TOOLS_WARN, "access",
            "etcd takes the name in the proxy's certificate (--etcd-certfile) for a user: "
            "every client that brings no token acts as this user");
    if (user == NULL && !a->is_by_certificate)
        tools_finding(
            l->r, TOOLS_WARN, "access",
            "etcd has users, and serve has no --etcd-user: its own looks at stored values "
            "and --converge are refused. Clients are who their tokens say");
    if (a->denied_count > 0)
        tools_finding(l->r, TOOLS_FAIL, "access",
                      "--converge needs readwrite where etcd forbids it (%zu keys): %s",
                      a->denied_count, a->denied);
    else if (user != NULL)
        tools_finding(l->r, TOOLS_OK, "access", "etcd lets user %s %s", user,
                      l->o->converge > 0 ? "rewrite what is protected, and register proxies"
                                         : "read what is protected");
}

/* etcd does not let us look. */
static void say_needs(struct tools_findings *r, const struct settings *o)
{
    tools_finding(
        r, TOOLS_NOTE, "access",
        "the proxy's own calls need read on the protected prefixes, with --converge "
        "readwrite, and readwrite under %s/: --etcd-user says whose they are. Clients are "
        "served without",
        o->converge_key);
}

enum tools_check_result tools_check_values(struct tools_findings *r, struct tools_cluster *c,
                                           const struct settings *o)
{
    static const struct sweep_filter all = {0};
    struct look l = {.r = r, .c = c, .o = o};
    const struct tools_resource_count *sum = &l.counts.all;
    enum tools_check_result result = TOOLS_CHECK_GOOD;

    loop_task_init(&l.closing, on_closing);
    tools_cluster_run(c, &all, on_ready, &l);
    say_access(&l);
    for (size_t i = 0; i < l.counts.count; i++)
        say_values(r, &l.counts.v[i]);
    if (sum->unread_plain + sum->states[SWEEP_UNREADABLE] > 0)
        result = TOOLS_CHECK_UNREADABLE;
    else if (c->status.has_no_space || l.access.denied_count > 0)
        result = TOOLS_CHECK_ODD;
    if (c->err != ERR_OK) {
        tools_finding(r, TOOLS_FAIL, l.is_ready ? "values" : "etcd", "%s", c->why);
        if (c->err == ERR_SYSTEM)
            say_needs(r, o);
        result = TOOLS_CHECK_FAILED;
    } else if (sum->count == 0 && c->outside.found != TOOLS_OUTSIDE_NONE) {
        tools_finding(r, TOOLS_WARN, "values",
                      "etcd holds keys%s%s, but none under --etcd-prefix (%s/): if "
                      "kube-apiserver's --etcd-prefix is another one, nothing that it writes is "
                      "sealed",
                      c->outside.registry != NULL ? " under " : "",
                      c->outside.registry != NULL ? c->outside.registry : "", c->outside.root);
    } else if (sum->count == 0) {
        tools_finding(r, TOOLS_OK, "values",
                      "etcd holds none of the protected resources: if it should, look at "
                      "--etcd-prefix and at the resources of the configuration");
    }
    tools_counts_fini(&l.counts);
    return result;
}
