/* SPDX-License-Identifier: Apache-2.0 */
/* Any list of providers in the place of any other, over values of all of them: the reload is
 * refused exactly if some value opens now and would not then, or if the key that is written with
 * goes. What opens is found out by the judge of verify, value by value. And a start, which takes
 * any list, is followed by a look that counts exactly what does not open. Any resources in the
 * place of any others, wildcards above all: nothing that opens now is lost. */
#include "converge/drop.h"
#include "converge/missing.h"

#include <stdio.h>

#include "base/metric_series.h"
#include "base/randpool.h"
#include "base/secret.h"
#include "fake_etcd.h"

#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define KINDS 7
#define LIST_MAX 4

/* "k" is the name of two keys of one kind. */
static const char *const providers[KINDS] = {
    "  - aesgcm: {keys: [{name: k, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - aesgcm: {keys: [{name: k, secret: MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - aesgcm: {keys: [{name: m, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - secretbox: {keys: [{name: k, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - secretbox: {keys: [{name: k, secret: MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - aesgcm: {keys: [{name: k, secret: MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=},\n"
    "                    {name: m, secret: MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n",
    "  - identity: {}\n",
};

struct choice {
    unsigned v[LIST_MAX];
    size_t count;
};

static uint32_t seed = 1;

static unsigned any(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* No provider twice, and never identity alone: that protects nothing. */
static struct choice any_choice(void)
{
    struct choice l = {.count = 1 + any(LIST_MAX)};

    for (size_t i = 0; i < l.count; i++) {
        bool is_there = true;

        while (is_there) {
            l.v[i] = any(KINDS);
            is_there = l.count == 1 && l.v[i] == KINDS - 1;
            for (size_t k = 0; k < i; k++)
                is_there |= l.v[k] == l.v[i];
        }
    }
    return l;
}

static void put_entry(char *yaml, const char *resource, const struct choice *l)
{
    strcat(yaml, "- resources: [");
    strcat(yaml, resource);
    strcat(yaml, "]\n  providers:\n");
    for (size_t i = 0; i < l->count; i++)
        strcat(yaml, providers[l->v[i]]);
}

static struct ruleset *rules_of(const struct choice *l)
{
    char yaml[2048] = HEAD;

    put_entry(yaml, "secrets", l);
    return fake_rules_of(yaml, "/registry");
}

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

/* A value as a proxy with this provider first would store it. */
static void put_value_at(const char *key, unsigned kind)
{
    const struct choice one = {{kind}, 1};
    struct ruleset *rules;
    struct envelope_ctx *ctx;
    struct chain in = {0};
    struct slab_pool pool;
    uint8_t out[FAKE_VALUE];
    size_t n;

    if (kind == KINDS - 1) {
        fake_put(key, "plain", 5, 0);
        return;
    }
    rules = rules_of(&one);
    slab_pool_init(&pool, 0);
    assert_int_equal(envelope_ctx_new(random_bytes, NULL, &ctx), ERR_OK);
    assert_int_equal(chain_push_copy(&in, &pool, "value", 5, 0), ERR_OK);
    assert_int_equal(envelope_sealed_len(rules->providers, NULL, in.len, &n), ERR_OK);
    assert_int_equal(
        envelope_seal(ctx, rules->providers, NULL, bytes_str(key), chain_begin(&in), in.len, out),
        ERR_OK);
    fake_put(key, out, n, 0);
    chain_fini(&in);
    slab_pool_settle(&pool);
    slab_pool_fini(&pool);
    envelope_ctx_free(ctx);
    ruleset_drop(rules);
}

static void put_value(size_t i, unsigned kind)
{
    char key[FAKE_KEY];

    snprintf(key, sizeof key, "/registry/secrets/ns/%03zu", i);
    put_value_at(key, kind);
}

static bool opens(struct fake_site *site, const struct ruleset *rules, const struct fake_kv *kv)
{
    const struct provider_list *list = etcd_rules_find(rules->rules, bytes_str(kv->key));
    struct sweep_judge j = {0};
    struct slab *slab = slab_new(&site->pool, kv->len, 0);
    struct slice value;
    bool is_open;

    assert_non_null(slab);
    memcpy(slab->data, kv->value, kv->len);
    slab->fill = (uint32_t)kv->len;
    value = (struct slice){slab, 0, slab->fill};
    assert_int_equal(sweep_judge_start(&j, &site->judge, bytes_str(kv->key), list, value), ERR_OK);
    is_open = j.verdict.state != SWEEP_UNREADABLE && j.verdict.err == ERR_OK;
    sweep_judge_fini(&j);
    slice_drop(&value);
    return is_open;
}

static struct {
    struct fake_site site;
    enum err err;
    char why[2048];
} f;

static void on_decided(void *user, enum err e, const char *why)
{
    (void)user;
    f.err = e;
    snprintf(f.why, sizeof f.why, "%s", why);
    f.site.is_over = true;
}

static enum err decide(struct ruleset *now, struct ruleset *next, bool *was_asked)
{
    struct net_url url;
    struct converge_drop_opts o = {.loop = &f.site.loop,
                                   .etcd_urls = &url,
                                   .etcd_url_count = 1,
                                   .place = "/etcd-envelope",
                                   .now = now,
                                   .next = next,
                                   .on_decided = on_decided};
    struct converge_drop *d;
    const char *reason;
    enum err e;

    assert_int_equal(net_url_parse("http://127.0.0.1:1", &url, &reason), ERR_OK);
    f.site.is_over = false;
    e = converge_drop_start(&o, &d, f.why, sizeof f.why);
    *was_asked = d != NULL;
    if (d == NULL)
        return e;
    assert_int_equal(e, ERR_OK);
    fake_site_run(&f.site);
    converge_drop_free(d);
    return f.err;
}

/* --- a start with the other list, which nobody refuses ---------------------------------------- */

static struct {
    enum err err;
    uint64_t count;
} looked;

static void on_looked(void *user, enum err e, uint64_t count, const char *why)
{
    (void)user;
    (void)why;
    looked.err = e;
    looked.count = count;
    f.site.is_over = true;
}

static void add_value(void *arg, const struct series_view *s)
{
    *(double *)arg += s->value;
}

static enum err look(struct ruleset *set)
{
    struct net_url url;
    const struct converge_missing_opts o = {.loop = &f.site.loop,
                                            .etcd_urls = &url,
                                            .etcd_url_count = 1,
                                            .rules = set,
                                            .on_end = on_looked};
    struct converge_missing *m;
    const char *reason;
    double in_metric = 0;

    assert_int_equal(net_url_parse("http://127.0.0.1:1", &url, &reason), ERR_OK);
    f.site.is_over = false;
    assert_int_equal(converge_missing_start(&o, &m), ERR_OK);
    fake_site_run(&f.site);
    converge_missing_free(m);
    series_each(SERIES_UNOPENED, add_value, &in_metric);
    if (looked.err == ERR_OK)
        assert_true(in_metric == (double)looked.count);
    return looked.err;
}

/* The look behind the start counts exactly the values that do not open. */
static void check_look(struct ruleset *set)
{
    uint64_t lost = 0;

    for (size_t i = 0; i < fake.count; i++)
        lost += !opens(&f.site, set, &fake.v[i]);
    assert_int_equal(look(set), ERR_OK);
    assert_int_equal(looked.count, lost);
}

static bool has_provider(const struct choice *l, unsigned kind)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->v[i] == kind)
            return true;
    return false;
}

static void one_round(size_t *refused, size_t *taken)
{
    struct choice a = any_choice(), b = any_choice();
    struct ruleset *now = rules_of(&a), *next = rules_of(&b);
    bool is_needed = !has_provider(&b, a.v[0]), was_asked, drops = false;
    enum err e;

    fake_reset();
    for (size_t i = 0, n = any(6); i < n; i++)
        put_value(i, a.v[any((unsigned)a.count)]);
    if (any(2) == 0)
        put_value(50, any(KINDS)); /* maybe one that is lost already */
    for (size_t i = 0; i < a.count; i++)
        drops |= !has_provider(&b, a.v[i]);
    for (size_t i = 0; i < fake.count; i++)
        is_needed |= opens(&f.site, now, &fake.v[i]) && !opens(&f.site, next, &fake.v[i]);
    e = decide(now, next, &was_asked);
    assert_int_equal(e, is_needed ? ERR_CONFIG : ERR_OK);
    assert_int_equal(was_asked, drops && has_provider(&b, a.v[0]));
    check_look(next);
    *refused += is_needed && was_asked;
    *taken += !is_needed && was_asked;
    ruleset_drop(now);
    ruleset_drop(next);
}

static void test_any_for_any(void **state)
{
    size_t refused = 0, taken = 0;

    (void)state;
    for (seed = 1; refused < 60 || taken < 60;)
        one_round(&refused, &taken);
}

/* --- several resources ------------------------------------------------------------------------ */

/* In the order in which a file may have them: no wildcard masks what follows it. */
static const char *const resources[] = {"secrets",  "foos.example.com", "'*.'",
                                        "'*.apps'", "'*.example.com'",  "'*.*'"};
#define RESOURCES ARRAY_LEN(resources)
/* Keys of these, and of kinds that only a wildcard covers, if anything does. */
static const char *const places[] = {
    "/registry/secrets/ns/a",          "/registry/deployments/ns/a",
    "/registry/example.com/foos/ns/a", "/registry/foos/ns/a",
    "/registry/example.com/bars/a",    "/registry/unknown/ns/a",
    "/registry/example.org/foos/a"};

/* The providers of each resource; an empty list: it is not named. */
struct file {
    struct choice v[RESOURCES];
};

static struct file any_file(void)
{
    struct file file = {0};

    for (size_t named = 0; named == 0;)
        for (size_t i = 0; i < RESOURCES; i++) {
            if (any(3) == 0)
                file.v[i] = any_choice();
            named += file.v[i].count;
        }
    return file;
}

static struct ruleset *rules_of_file(const struct file *file)
{
    char yaml[8192] = HEAD;

    for (size_t i = 0; i < RESOURCES; i++)
        if (file->v[i].count > 0)
            put_entry(yaml, resources[i], &file->v[i]);
    return fake_rules_of(yaml, "/registry");
}

/* It opens for who reads with now, and next gives out ciphertext, or nothing. */
static bool is_lost(const struct ruleset *now, const struct ruleset *next, const struct fake_kv *kv)
{
    bool is_sealed = memcmp(kv->value, "k8s:enc:", 8) == 0;

    if (etcd_rules_find(now->rules, bytes_str(kv->key)) == NULL || !opens(&f.site, now, kv))
        return false;
    if (etcd_rules_find(next->rules, bytes_str(kv->key)) == NULL)
        return is_sealed;
    return !opens(&f.site, next, kv);
}

/* Some resources come, some go, one gets other providers, one is named where another was. */
static void one_round_of_files(size_t *refused, size_t *taken)
{
    struct file a = any_file(), b = any(2) == 0 ? any_file() : a;
    size_t from = any(RESOURCES), to = any(RESOURCES);
    struct ruleset *now, *next;
    bool was_asked;
    enum err e;

    if (a.v[from].count > 0)
        b.v[to] = a.v[from];
    now = rules_of_file(&a);
    next = rules_of_file(&b);
    fake_reset();
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        put_value_at(places[i], any(KINDS));
    e = decide(now, next, &was_asked);
    for (size_t i = 0; i < fake.count && e == ERR_OK; i++)
        assert_false(is_lost(now, next, &fake.v[i]));
    *refused += e != ERR_OK;
    *taken += e == ERR_OK;
    ruleset_drop(now);
    ruleset_drop(next);
}

static void test_any_resources(void **state)
{
    size_t refused = 0, taken = 0;

    (void)state;
    for (seed = 1; refused < 300 || taken < 300;)
        one_round_of_files(&refused, &taken);
}

/* Where what is not understood lies; one of them ends each time it is read. */
static const char *const foreign[][2] = {
    {"/etcd-envelope/proxies/newer", "etcd-envelope 2\nwrites nothing\n"},
    {"/etcd-envelope/proxies/nobody", "\x08\x01\x12"},
};
static size_t readings;

/* One ends after each reading; no value is looked at while one is left. */
static enum fake_other end_one_of_foreign(const char *port, const char *path, struct bytes request,
                                          struct etcd_message *answer)
{
    bool is_reading = memmem(request.p, request.n, "/proxies/", 9) != NULL;
    bool is_look = memmem(request.p, request.n, "/registry/", 10) != NULL;

    (void)port;
    (void)path;
    (void)answer;
    for (size_t i = 0; i < ARRAY_LEN(foreign) && is_look; i++)
        assert_null(fake_find(foreign[i][0]));
    if (is_reading && readings > 0 && readings <= ARRAY_LEN(foreign))
        fake_delete(foreign[readings - 1][0]);
    readings += is_reading;
    return FAKE_HERE;
}

/* Who has registered what is not understood may write with the key: the look waits for its end. */
static void test_other_versions(void **state)
{
    const struct choice a = {{0, 3}, 2}, b = {{0}, 1};
    struct ruleset *now = rules_of(&a), *next = rules_of(&b);
    bool was_asked;

    (void)state;
    fake_reset();
    put_value(1, 0);
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        fake_put(foreign[i][0], foreign[i][1], strlen(foreign[i][1]), 0);
    readings = 0;
    fake.other = end_one_of_foreign;
    assert_int_equal(decide(now, next, &was_asked), ERR_OK);
    fake.other = NULL;
    assert_true(was_asked);
    assert_int_equal(readings, ARRAY_LEN(foreign) + 1);
    ruleset_drop(now);
    ruleset_drop(next);
}

/* More values than one turn takes. */
static void test_many(void **state)
{
    const struct choice b = {{0}, 1};
    struct ruleset *set = rules_of(&b);

    (void)state;
    fake_reset();
    for (size_t i = 0; i < FAKE_KEYS; i++)
        put_value(i, i % 3 == 0 ? 0 : 3);
    check_look(set);
    ruleset_drop(set);
}

/* An etcd that can't be asked, or does not want to be: not known, which is no yes. */
static void test_not_known(void **state)
{
    const struct choice a = {{0, 3}, 2}, b = {{0}, 1};
    struct ruleset *now = rules_of(&a), *next = rules_of(&b);
    bool was_asked;

    (void)state;
    fake_reset();
    put_value(1, 0);
    assert_int_equal(decide(now, next, &was_asked), ERR_OK);
    fake.is_proxy = true;
    assert_int_equal(decide(now, next, &was_asked), ERR_SYSTEM);
    assert_non_null(strstr(f.why, "--allow-drop-keys"));
    assert_int_equal(look(next), ERR_CONFIG);
    fake.is_proxy = false;
    ruleset_drop(now);
    ruleset_drop(next);
}

static int setup(void **state)
{
    (void)state;
    if (secret_init() != ERR_OK)
        return -1;
    fake_site_init(&f.site);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_site_fini(&f.site);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_for_any), cmocka_unit_test(test_any_resources),
        cmocka_unit_test(test_other_versions), cmocka_unit_test(test_many),
        cmocka_unit_test(test_not_known)};

    return cmocka_run_group_tests(tests, setup, teardown);
}
