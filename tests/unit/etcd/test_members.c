/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "etcd/members.h"
#include "etcd_rpc.pb-c.h"

static struct fix fix;

static int setup(void **state)
{
    (void)state;
    fix_init(&fix);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fix_fini(&fix);
    return 0;
}

/* Three members, the second one answers; the third has not started. urls: the clientURLs of each.
 */
static void add_member(struct buf *b, uint32_t number, int i, const char *url, const char *url2)
{
    static const char *const names[] = {"alpha", "beta", ""};
    struct buf m = {0};

    buf_varint(&m, 1, (uint64_t)(100 + i));
    if (i < 2)
        buf_str(&m, 2, names[i]);
    buf_str(&m, 3, "https://peer:2380");
    if (url != NULL)
        buf_str(&m, 4, url);
    if (url2 != NULL)
        buf_str(&m, 4, url2);
    if (i == 1)
        buf_varint(&m, 5, 1);
    buf_sub(b, number, &m);
}

static void add_header(struct buf *b, uint64_t member)
{
    struct buf h = {0};

    buf_varint(&h, 1, 7);
    buf_varint(&h, 2, member);
    buf_varint(&h, 3, 9);
    buf_sub(b, 1, &h);
}

static struct buf list(bool is_etcd, const char *a, const char *b, const char *c)
{
    struct buf m = {0};

    add_header(&m, 101);
    add_member(&m, 2, 0, is_etcd ? "https://etcd-0:2379" : a,
               is_etcd ? "https://etcd-0b:2379" : NULL);
    add_member(&m, 2, 1, is_etcd ? "https://etcd-1:2379" : b, NULL);
    add_member(&m, 2, 2, is_etcd ? NULL : c, NULL);
    buf_str(&m, 88, "unknown");
    return m;
}

static enum err rewrite(enum etcd_content content, const struct etcd_advertise *adv,
                        const struct buf *in, struct buf *out)
{
    struct chain msg, made = {0};
    enum err e;

    fix_chain_random(&fix, in->p, in->n, fix_random(&fix, 5), &msg);
    e = etcd_members_rewrite(content, adv, &fix.pool, &msg, &made);
    assert_int_equal(msg.len, 0);
    *out = buf_chain(&made);
    if (e != ERR_OK)
        assert_int_equal(out->n, 0);
    return e;
}

static void expect(const struct etcd_advertise *adv, struct buf want)
{
    struct buf in = list(true, NULL, NULL, NULL), out;

    assert_int_equal(rewrite(ETCD_MEMBERS, adv, &in, &out), ERR_OK);
    assert_int_equal(out.n, want.n);
    assert_memory_equal(out.p, want.p, want.n);
    assert_false(bytes_contain(out.p, out.n, "etcd-0"));
    buf_free(&in);
    buf_free(&out);
    buf_free(&want);
}

static void refused(const struct etcd_advertise *adv, enum etcd_content content, struct buf in,
                    enum err want)
{
    struct buf out;

    assert_int_equal(rewrite(content, adv, &in, &out), want);
    buf_free(&in);
    buf_free(&out);
}

static const struct etcd_advertise_url single[] = {{NULL, "https://proxy:1"}};
static const struct etcd_advertise_url pairs[] = {{"alpha", "https://a:1"},
                                                  {"beta", "https://b:1"}};
static const struct etcd_advertise_url other[] = {{"gamma", "https://c:1"}};
static const struct etcd_advertise one = {single, 1}, two = {pairs, 2}, none = {NULL, 0},
                                   unknown = {other, 1};

static void test_urls(void **state)
{
    (void)state;
    expect(&one, list(false, NULL, "https://proxy:1", NULL));
    expect(&two, list(false, "https://a:1", "https://b:1", NULL));
}

static void test_no_url_left(void **state)
{
    struct buf foreign = {0};

    (void)state;
    refused(&none, ETCD_MEMBERS, list(true, NULL, NULL, NULL), ERR_CONFIG);
    refused(&unknown, ETCD_MEMBERS, list(true, NULL, NULL, NULL), ERR_CONFIG);
    refused(&one, ETCD_MEMBERS, (struct buf){0}, ERR_CONFIG);
    add_header(&foreign, 55);
    add_member(&foreign, 2, 0, "https://etcd-0:2379", NULL);
    refused(&one, ETCD_MEMBERS, foreign, ERR_CONFIG);
}

/* The change is made when etcd answers: a member that took itself out, or a proxy that advertises
 * nothing, must not turn that into an error. */
static void test_no_url_left_of_a_change(void **state)
{
    static const struct etcd_advertise *const advs[] = {&none, &unknown, &one};
    Etcdserverpb__MemberListResponse *m;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(advs); i++) {
        struct buf in = {0}, out;

        add_header(&in, 55);
        add_member(&in, 2, 0, "https://etcd-0:2379", NULL);
        assert_int_equal(rewrite(ETCD_MEMBERS_CHANGED, advs[i], &in, &out), ERR_OK);
        m = etcdserverpb__member_list_response__unpack(NULL, out.n, out.p);
        assert_non_null(m);
        assert_int_equal(m->n_members, 1);
        assert_int_equal(m->members[0]->n_clienturls, 0);
        etcdserverpb__member_list_response__free_unpacked(m, NULL);
        buf_free(&in);
        buf_free(&out);
        add_header(&in, 55);
        add_member(&in, 2, 2, NULL, NULL);
        add_member(&in, 3, 0, "https://etcd-0:2379", NULL);
        assert_int_equal(rewrite(ETCD_MEMBER_ADD, advs[i], &in, &out), ERR_OK);
        assert_false(bytes_contain(out.p, out.n, "etcd-0"));
        buf_free(&in);
        buf_free(&out);
        in = (struct buf){0};
        assert_int_equal(rewrite(ETCD_MEMBERS_CHANGED, advs[i], &in, &out), ERR_OK);
        assert_int_equal(out.n, 0);
        buf_free(&out);
    }
}

static void test_member_add(void **state)
{
    struct buf in = {0}, out;
    Etcdserverpb__MemberAddResponse *m;

    (void)state;
    add_header(&in, 100);
    add_member(&in, 2, 2, "https://etcd-0:2379", NULL);
    add_member(&in, 3, 0, "https://etcd-0:2379", NULL);
    add_member(&in, 3, 1, "https://etcd-1:2379", NULL);
    add_member(&in, 3, 2, NULL, NULL);
    assert_int_equal(rewrite(ETCD_MEMBER_ADD, &one, &in, &out), ERR_OK);
    m = etcdserverpb__member_add_response__unpack(NULL, out.n, out.p);
    assert_non_null(m);
    assert_int_equal(m->member->id, 102);
    assert_int_equal(m->member->n_clienturls, 0);
    assert_int_equal(m->n_members, 3);
    assert_int_equal(m->members[0]->n_clienturls, 1);
    assert_string_equal(m->members[0]->clienturls[0], "https://proxy:1");
    assert_int_equal(m->members[1]->n_clienturls, 0);
    assert_true(m->members[1]->islearner);
    assert_string_equal(m->members[2]->peerurls[0], "https://peer:2380");
    etcdserverpb__member_add_response__free_unpacked(m, NULL);
    buf_free(&in);
    buf_free(&out);
}

static void test_broken(void **state)
{
    struct buf in = {0}, sub = {0};

    (void)state;
    add_header(&in, 101);
    add_header(&in, 101);
    refused(&one, ETCD_MEMBERS, in, ERR_ANS_DOUBLED);
    in = (struct buf){0};
    add_member(&in, 2, 0, NULL, NULL);
    add_member(&in, 2, 1, NULL, NULL);
    refused(&one, ETCD_MEMBER_ADD, in, ERR_ANS_DOUBLED);
    refused(&one, ETCD_MEMBERS, buf_of("\x12\x05", 2), ERR_ANS_MALFORMED);
    refused(&one, ETCD_MEMBERS, buf_of("\x12\x02\x12\x05", 4), ERR_ANS_MALFORMED);
    refused(&one, ETCD_MEMBERS, buf_of("\x0a\x01\x08", 3), ERR_ANS_MALFORMED);
    refused(&one, ETCD_MEMBERS, buf_of("\x10\x02", 2), ERR_ANS_WIRE_TYPE);
    in = (struct buf){0};
    buf_varint(&sub, 4, 1); /* clientURLs as a number */
    buf_sub(&in, 2, &sub);
    refused(&one, ETCD_MEMBERS, in, ERR_ANS_WIRE_TYPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_no_url_left),
        cmocka_unit_test(test_no_url_left_of_a_change),
        cmocka_unit_test(test_member_add),
        cmocka_unit_test(test_broken),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
