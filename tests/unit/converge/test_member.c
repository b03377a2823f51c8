/* SPDX-License-Identifier: Apache-2.0 */
/* Three proxies before a small etcd with leases, on a clock of the test's own. They are cut off,
 * their answers are lost, their keys are deleted, they change their minds, at random. Whatever
 * happens: who may rewrite counts on a lease that etcd still has; a fence that holds is that of one
 * proxy alone, and all that are registered are of its mind. And when it is over, one rewrites. */
#include "converge/member.h"

#include <stdio.h>

#include "base/secret.h"
#include "etcd/lease.h"
#include "fake_clock.h"
#include "fake_etcd.h"
#include "pb/pb.h"

#define PROXIES 3
#define KEYS 32
#define AFTER_MS 20000u
#define RULES(writes) "rule /registry/secrets/ secrets " writes " aesgcm:v1:a:1,aesgcm:v1:b:2\n"

/* --- the etcd --------------------------------------------------------------------------------- */

struct key {
    char name[64], value[512];
    int64_t lease, create, mod;
};

static struct {
    struct loop *loop;
    struct key v[KEYS];
    size_t count;
    int64_t revision, next_lease;
    struct {
        int64_t id;
        uint64_t ends_ms;
    } leases[256];
    size_t lease_count;
    bool is_cut[PROXIES];  /* nothing gets through */
    bool is_deaf[PROXIES]; /* its requests are carried out, and the answers lost */
} etcd;

static struct key *find(const char *name)
{
    for (size_t i = 0; i < etcd.count; i++)
        if (strcmp(etcd.v[i].name, name) == 0)
            return &etcd.v[i];
    return NULL;
}

static void delete_key(struct key *k)
{
    *k = etcd.v[--etcd.count];
    etcd.revision++;
}

static bool has_lease(int64_t id)
{
    for (size_t i = 0; i < etcd.lease_count; i++)
        if (etcd.leases[i].id == id && loop_now_ms(etcd.loop) < etcd.leases[i].ends_ms)
            return true;
    return false;
}

static void expire(void)
{
    for (size_t i = 0; i < etcd.count;)
        if (!has_lease(etcd.v[i].lease))
            delete_key(&etcd.v[i]);
        else
            i++;
}

static void keep(int64_t id, int64_t ttl_s)
{
    for (size_t i = 0; i < etcd.lease_count; i++)
        if (etcd.leases[i].id == id)
            etcd.leases[i].ends_ms = loop_now_ms(etcd.loop) + 1000u * (uint64_t)ttl_s;
}

static struct bytes part(struct bytes in, uint32_t number, uint64_t *varint)
{
    struct bytes out = {0};
    struct pb_span f;

    while (pb_span_next(&in, &f) == PB_FIELD)
        if (f.number == number) {
            out = f.value;
            if (varint != NULL)
                *varint = f.varint;
        }
    return out;
}

static void copy(char *to, size_t cap, struct bytes from)
{
    assert_true(from.n < cap);
    snprintf(to, cap, "%.*s", (int)from.n, (const char *)from.p);
}

/* Of a PutRequest. */
static void put(struct bytes request)
{
    char name[64];
    uint64_t lease = 0;
    struct key *k;

    copy(name, sizeof name, part(request, 1, NULL));
    (void)part(request, 3, &lease);
    if (!has_lease((int64_t)lease)) /* a real one says so, and the member finds out by its lease */
        return;
    k = find(name);
    if (k == NULL) {
        assert_true(etcd.count < KEYS);
        k = &etcd.v[etcd.count++];
        *k = (struct key){.create = etcd.revision + 1};
        snprintf(k->name, sizeof k->name, "%s", name);
    }
    copy(k->value, sizeof k->value, part(request, 2, NULL));
    k->lease = (int64_t)lease;
    k->mod = ++etcd.revision;
}

/* Of the PutRequest in a Txn: a touch leaves value and lease as they are. */
static void put_if(struct bytes request)
{
    uint64_t is_touch = 0;
    struct key *lock = find("/p/lock");

    (void)part(request, 5, &is_touch);
    if (is_touch != 0 && lock != NULL)
        lock->mod = ++etcd.revision;
    else if (is_touch == 0 && lock == NULL)
        put(request);
}

/* The Txn was carried out, at this revision. */
static void answer_txn(struct etcd_message *m)
{
    uint8_t room[32];
    struct etcd_message header;

    etcd_message_init(&header, room, sizeof room);
    etcd_message_put_varint(&header, 3, (uint64_t)etcd.revision);
    etcd_message_put_bytes(m, 1, bytes_of(room, header.len));
    etcd_message_put_varint(m, 2, 1);
}

static void put_lease(struct etcd_message *m, int64_t id, int64_t ttl_s)
{
    etcd_message_put_varint(m, 2, (uint64_t)id);
    if (ttl_s > 0)
        etcd_message_put_varint(m, 3, (uint64_t)ttl_s);
}

static void answer_look(struct etcd_message *m)
{
    uint8_t room[1024];
    struct etcd_message part_of;

    etcd_message_init(&part_of, room, sizeof room);
    etcd_message_put_varint(&part_of, 3, (uint64_t)etcd.revision);
    etcd_message_put_bytes(m, 1, bytes_of(room, part_of.len));
    for (size_t i = 0; i < etcd.count; i++) {
        const struct key *k = &etcd.v[i];

        etcd_message_init(&part_of, room, sizeof room);
        etcd_message_put_bytes(&part_of, 1, bytes_str(k->name));
        etcd_message_put_varint(&part_of, 2, (uint64_t)k->create);
        etcd_message_put_varint(&part_of, 3, (uint64_t)k->mod);
        etcd_message_put_bytes(&part_of, 5, bytes_str(k->value));
        etcd_message_put_varint(&part_of, 6, (uint64_t)k->lease);
        etcd_message_put_bytes(m, 2, bytes_of(room, part_of.len));
    }
}

static void carry_out(const char *path, struct bytes request, struct etcd_message *m)
{
    uint64_t n = 0;

    if (strcmp(path, ETCD_LEASE_GRANT_PATH) == 0) {
        (void)part(request, 1, &n);
        assert_true(etcd.lease_count < ARRAY_LEN(etcd.leases));
        etcd.leases[etcd.lease_count++].id = ++etcd.next_lease;
        keep(etcd.next_lease, (int64_t)n);
        put_lease(m, etcd.next_lease, (int64_t)n);
    } else if (strcmp(path, ETCD_LEASE_KEEP_ALIVE_PATH) == 0) {
        (void)part(request, 1, &n);
        if (has_lease((int64_t)n))
            keep((int64_t)n, 10);
        put_lease(m, (int64_t)n, has_lease((int64_t)n) ? 10 : 0);
    } else if (strcmp(path, ETCD_LEASE_REVOKE_PATH) == 0) {
        (void)part(request, 1, &n);
        keep((int64_t)n, 0);
        expire();
    } else if (strcmp(path, ETCD_PUT_PATH) == 0) {
        put(request);
    } else if (strcmp(path, ETCD_TXN_PATH) == 0) {
        put_if(part(part(request, 2, NULL), 2, NULL));
        answer_txn(m);
    } else {
        answer_look(m);
    }
}

static enum fake_other other(const char *port, const char *path, struct bytes request,
                             struct etcd_message *answer)
{
    unsigned i = (unsigned)atoi(port) - 1;

    if (etcd.is_cut[i])
        return FAKE_LOST;
    if (strstr(path, "Identify") != NULL)
        return FAKE_HERE;
    expire();
    carry_out(path, request, answer);
    return etcd.is_deaf[i] ? FAKE_LOST : FAKE_ANSWERED;
}

/* --- the proxies ------------------------------------------------------------------------------ */

static struct {
    struct net_url url;
    struct sweep_etcd *etcd;
    struct converge_member *member;
    char name[8];
} proxies[PROXIES];

static const char *const minds[] = {RULES("aesgcm:v1:a:1"), RULES("aesgcm:v1:b:2"),
                                    RULES("kms:v2:k:?")};

static void announce_as(size_t i, const char *name, unsigned mind)
{
    char *record = NULL;

    assert_true(asprintf(&record, "etcd-envelope 1\nname %s\nconfig x\n%s", name, minds[mind]) > 0);
    converge_member_announce(proxies[i].member, record);
}

static void announce(size_t i, unsigned mind)
{
    announce_as(i, proxies[i].name, mind);
}

/* Its url is there. */
static void begin_one(struct loop *loop, size_t i, uint64_t away_ms)
{
    struct sweep_etcd_opts o = {.loop = loop,
                                .urls = &proxies[i].url,
                                .url_count = 1,
                                .first_ms = away_ms,
                                .away_ms = away_ms};
    struct converge_member_opts m = {
        .loop = loop, .place = "/p", .after_ms = AFTER_MS, .name = proxies[i].name};

    assert_int_equal(sweep_etcd_new(&o, &proxies[i].etcd), ERR_OK);
    m.etcd = proxies[i].etcd;
    assert_int_equal(converge_member_new(&m, &proxies[i].member), ERR_OK);
}

/* As if it were killed: etcd keeps what it has of it, until the lease ends. */
static void end_one(size_t i)
{
    if (proxies[i].member == NULL)
        return;
    converge_member_free(proxies[i].member);
    sweep_etcd_close(proxies[i].etcd);
    proxies[i].member = NULL;
}

/* away_ms: after which a request to an etcd that does not answer is given up. */
static void begin(struct loop *loop, uint64_t away_ms)
{
    memset(&etcd, 0, sizeof etcd);
    etcd.loop = loop;
    etcd.revision = 1;
    fake_reset();
    fake.other = other;
    for (size_t i = 0; i < PROXIES; i++) {
        const char *reason;
        char url[40];

        snprintf(url, sizeof url, "http://127.0.0.1:%zu", i + 1);
        assert_int_equal(net_url_parse(url, &proxies[i].url, &reason), ERR_OK);
        snprintf(proxies[i].name, sizeof proxies[i].name, "p%zu", i);
        begin_one(loop, i, away_ms);
        announce(i, 0);
    }
}

static void end(void)
{
    for (size_t i = 0; i < PROXIES; i++)
        end_one(i);
}

/* --- what has to hold at any time ------------------------------------------------------------- */

static bool is_watched(const struct etcd_fence *f, const struct key *k)
{
    struct bytes name = bytes_str(k->name);

    return bytes_cmp(name, f->watched) >= 0 && bytes_cmp(name, f->watched_end) < 0;
}

/* As etcd would find it now. */
static bool holds(const struct etcd_fence *f)
{
    const struct key *lock = find("/p/lock");

    if (lock == NULL || lock->create != f->lock_revision)
        return false;
    for (size_t i = 0; i < etcd.count; i++)
        if (is_watched(f, &etcd.v[i]) && etcd.v[i].mod > f->seen_revision)
            return false;
    return true;
}

static size_t check(void)
{
    size_t leaders = 0;

    expire();
    for (size_t i = 0; i < PROXIES; i++) {
        struct etcd_fence fence;
        const struct key *lock = find("/p/lock");

        if (!converge_member_may_rewrite(proxies[i].member, &fence))
            continue;
        assert_true(fence.lock_revision > 0);
        if (!holds(&fence))
            continue;
        leaders++;
        assert_string_equal(lock->value, proxies[i].name);
        for (size_t k = 0; k < etcd.count; k++)
            if (is_watched(&fence, &etcd.v[k]))
                assert_string_equal(
                    converge_record_rules(etcd.v[k].value),
                    converge_record_rules(converge_member_record(proxies[i].member)));
    }
    assert_true(leaders <= 1);
    return leaders;
}

static uint32_t seed;

static unsigned any(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void something_happens(void)
{
    size_t i = any(PROXIES);

    switch (any(8)) {
    case 0:
        etcd.is_cut[i] = !etcd.is_cut[i];
        break;
    case 1:
        etcd.is_deaf[i] = !etcd.is_deaf[i];
        break;
    case 2:
        announce(i, any(ARRAY_LEN(minds)));
        break;
    case 3:
        if (etcd.count > 0)
            delete_key(&etcd.v[any((unsigned)etcd.count)]);
        break;
    case 4:
        for (size_t k = 0; k < PROXIES; k++)
            announce(k, 0);
        break;
    default:
        break;
    }
}

static void test_whatever_happens(void **state)
{
    struct loop loop;
    size_t led = 0;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    for (seed = 1; seed < 40; seed++) {
        uint32_t round = seed;

        begin(&loop, seed % 2 == 0 ? 3000 : 60000);
        for (size_t n = 0; n < 60; n++) {
            something_happens();
            for (unsigned t = 0, turns = any(60); t < turns; t++) {
                fake_clock_turn(&loop, 500);
                led += check();
            }
        }
        memset(etcd.is_cut, 0, sizeof etcd.is_cut);
        memset(etcd.is_deaf, 0, sizeof etcd.is_deaf);
        for (size_t k = 0; k < PROXIES; k++)
            announce(k, 1);
        for (uint64_t until = loop_now_ms(&loop) + AFTER_MS + 40000; loop_now_ms(&loop) < until;) {
            fake_clock_turn(&loop, 500);
            led += check();
        }
        assert_int_equal(check(), 1);
        end();
        seed = round;
    }
    assert_true(led > 1000);
    fake.other = NULL;
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
}

/* Cut off, a member stops before its lease can have ended, and the others not before they agree for
 * long enough; nobody rewrites in between. */
static void cut_off(struct loop *loop, uint64_t away_ms)
{
    struct etcd_fence fence;
    size_t leader = PROXIES;
    uint64_t began;

    begin(loop, away_ms);
    began = loop_now_ms(loop);
    while (check() == 0)
        fake_clock_turn(loop, 100);
    assert_true(loop_now_ms(loop) - began >= AFTER_MS);
    for (size_t i = 0; i < PROXIES; i++)
        if (converge_member_may_rewrite(proxies[i].member, &fence))
            leader = i;
    assert_true(leader < PROXIES);
    etcd.is_cut[leader] = true;
    began = loop_now_ms(loop);
    while (converge_member_may_rewrite(proxies[leader].member, &fence)) {
        fake_clock_turn(loop, 100);
        (void)check();
    }
    assert_true(loop_now_ms(loop) - began < 10000);
    assert_non_null(find("/p/lock")); /* it did not wait for the end of its lease */
    assert_string_equal(find("/p/lock")->value, proxies[leader].name);
    while (check() == 0)
        fake_clock_turn(loop, 100);
    assert_true(loop_now_ms(loop) - began < 30000);
    end();
}

static void test_cut_off(void **state)
{
    struct loop loop;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    cut_off(&loop, 3000);
    cut_off(&loop, 60000);
    fake.other = NULL;
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
}

static void end_loop(struct loop *loop)
{
    fake.other = NULL;
    loop_stop(loop);
    loop_run(loop);
    loop_fini(loop);
}

/* Which one has the lock and may rewrite; it is waited for. */
static size_t leader_of(struct loop *loop)
{
    struct etcd_fence fence;
    size_t i = 0;

    while (check() == 0)
        fake_clock_turn(loop, 100);
    while (!converge_member_may_rewrite(proxies[i].member, &fence))
        i++;
    return i;
}

static size_t registered_by(int64_t lease)
{
    size_t n = 0;

    expire();
    for (size_t i = 0; i < etcd.count; i++)
        n += etcd.v[i].lease == lease;
    return n;
}

static bool has_left;

/* As the server does it. */
static void on_left(void *user)
{
    assert_false(has_left);
    has_left = true;
    end_one((size_t)(uintptr_t)user);
}

#define WITHIN_MS 2000u

/* Asked to end, the one with the lock gives back all that it has in etcd, and is over when etcd has
 * said so, or the time is. */
static void leave(struct loop *loop, bool is_cut, bool is_deaf)
{
    size_t leader;
    uint64_t asked;
    int64_t lease;

    begin(loop, 3000);
    leader = leader_of(loop);
    lease = find("/p/lock")->lease;
    assert_int_equal(registered_by(lease), 2);
    etcd.is_cut[leader] = is_cut;
    etcd.is_deaf[leader] = is_deaf;
    has_left = false;
    asked = loop_now_ms(loop);
    converge_member_leave(proxies[leader].member, WITHIN_MS, on_left, (void *)(uintptr_t)leader);
    assert_false(has_left);
    while (!has_left && loop_now_ms(loop) - asked < 2 * WITHIN_MS)
        fake_clock_turn(loop, 50);
    assert_true(has_left);
    assert_int_equal(registered_by(lease), is_cut ? 2 : 0);
    if (is_cut || is_deaf)
        assert_in_range(loop_now_ms(loop) - asked, WITHIN_MS, WITHIN_MS + 100);
    else
        assert_in_range(loop_now_ms(loop) - asked, 0, 500);
    end();
}

static void test_leave(void **state)
{
    struct loop loop;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    leave(&loop, false, false);
    leave(&loop, true, false);
    leave(&loop, false, true);
    begin(&loop, 3000); /* before there is a lease nothing has to be given back */
    has_left = false;
    converge_member_leave(proxies[0].member, WITHIN_MS, on_left, NULL);
    fake_clock_turn(&loop, 50);
    assert_true(has_left);
    end();
    end_loop(&loop);
}

/* Killed and started anew with other keys, it waits for the end of its own record and does not
 * blame it; a proxy that has its name, and stays, it does. */
static void test_former_record(void **state)
{
    struct loop loop;
    char text[1200];
    uint64_t began;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    begin(&loop, 3000);
    (void)leader_of(&loop);
    for (size_t i = 1; i < PROXIES; i++)
        announce(i, 1);
    fake_clock_turn(&loop, 100);
    end_one(0);
    begin_one(&loop, 0, 3000);
    announce(0, 1);
    began = loop_now_ms(&loop);
    while (loop_now_ms(&loop) - began < 2 * AFTER_MS) {
        fake_clock_turn(&loop, 100);
        (void)check();
        (void)converge_member_standing(proxies[0].member, text, sizeof text);
        assert_null(strstr(text, "proxy p0:"));
    }
    assert_int_equal(check(), 1);
    announce_as(1, "p0", 0);
    fake_clock_turn(&loop, 5000);
    for (int i = 0; i < 50; i++)
        fake_clock_turn(&loop, 100);
    assert_int_equal(check(), 0);
    assert_int_equal(converge_member_standing(proxies[0].member, text, sizeof text),
                     CONVERGE_APART);
    assert_non_null(strstr(text, "proxy p0:"));
    end();
    end_loop(&loop);
}

static void turn_for(struct loop *loop, uint64_t ms)
{
    for (uint64_t began = loop_now_ms(loop); loop_now_ms(loop) - began < ms;)
        fake_clock_turn(loop, 100);
}

/* All who stay hear of another lock and of an agreement, and of nothing while nothing happens. */
static void test_news(void **state)
{
    struct loop loop;
    uint64_t news[PROXIES];
    size_t leader;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    begin(&loop, 3000);
    leader = leader_of(&loop);
    turn_for(&loop, 5000);
    for (size_t i = 0; i < PROXIES; i++)
        news[i] = converge_member_news(proxies[i].member);
    turn_for(&loop, 100000);
    for (size_t i = 0; i < PROXIES; i++)
        assert_int_equal(converge_member_news(proxies[i].member), news[i]);
    end_one(leader);
    turn_for(&loop, 20000);
    for (size_t i = 0; i < PROXIES; i++) {
        if (i == leader)
            continue;
        assert_true(converge_member_news(proxies[i].member) > news[i]);
        news[i] = converge_member_news(proxies[i].member);
        announce(i, 1);
    }
    turn_for(&loop, 10000);
    for (size_t i = 0; i < PROXIES; i++)
        assert_true(i == leader || converge_member_news(proxies[i].member) > news[i]);
    end();
    end_loop(&loop);
}

/* Who has the lock has rewritten values: all others are told, once, and nobody loses the lock. Who
 * has it is told when a tool has. */
static void test_told(void **state)
{
    uint64_t told[PROXIES];
    struct loop loop;
    size_t leader;

    (void)state;
    assert_int_equal(loop_init(&loop), ERR_OK);
    begin(&loop, 3000);
    leader = leader_of(&loop);
    turn_for(&loop, 5000);
    for (unsigned by_tool = 0; by_tool < 2; by_tool++) {
        int64_t create = find("/p/lock")->create;

        for (size_t i = 0; i < PROXIES; i++) {
            told[i] = converge_member_told(proxies[i].member);
            if (by_tool == 0)
                converge_member_touch(proxies[i].member); /* of the others it is nothing */
        }
        if (by_tool > 0)
            find("/p/lock")->mod = ++etcd.revision;
        turn_for(&loop, 10000);
        for (size_t i = 0; i < PROXIES; i++)
            assert_int_equal(converge_member_told(proxies[i].member) - told[i],
                             i == leader ? by_tool : 1);
        assert_int_equal(find("/p/lock")->create, create);
        assert_int_equal(check(), 1);
    }
    end();
    end_loop(&loop);
}

static int setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_off),       cmocka_unit_test(test_leave),
        cmocka_unit_test(test_former_record), cmocka_unit_test(test_news),
        cmocka_unit_test(test_told),          cmocka_unit_test(test_whatever_happens)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
