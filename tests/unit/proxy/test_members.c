/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of MemberList and its like: a client is told of the proxy's URLs and of none of etcd's,
 * since it would connect there, past the proxy; however the answer arrives. With nothing to tell a
 * list is refused, a change that is made is not. */
#include "rig.h"

#define LIST "/etcdserverpb.Cluster/MemberList"
#define ADD "/etcdserverpb.Cluster/MemberAdd"
#define REMOVE "/etcdserverpb.Cluster/MemberRemove"
#define ETCD_URL "https://etcd.example.com:2379"
#define PROXY_URL "https://proxy.example.com:23790"

static struct rig r;
static const struct etcd_advertise_url one_url = {NULL, PROXY_URL};

static struct buf member(uint64_t id, const char *name, const char *client_url)
{
    struct buf m = {0};

    buf_varint(&m, 1, id);
    buf_str(&m, 2, name);
    buf_str(&m, 3, "https://peer.example.com:2380");
    if (client_url != NULL)
        buf_str(&m, 4, client_url);
    return m;
}

/* The header's member is 22, as in response_header. */
static struct buf member_list(const char *url_of_22, const char *url_of_23)
{
    struct buf m = put_response(), one = member(22, "a", url_of_22),
               other = member(23, "b", url_of_23);

    buf_sub(&m, 2, &one);
    buf_sub(&m, 2, &other);
    return m;
}

/* Asks; etcd answers with m (taken), cut at a byte. */
static struct rec *ask(const char *path, struct buf *m, size_t cut, unsigned nth)
{
    struct buf empty = {0}, framed = rig_framed(m);
    struct rec *c = rig_call(r.client, path, &empty), *s = rig_await(&r, nth);

    rig_respond(s);
    rig_send_cut(&r, s, &framed, cut, false);
    rig_trailers(s, "0");
    buf_free(&framed);
    RIG_UNTIL(&r, c->close_count == 1);
    return c;
}

static void client_urls_are_the_proxys(void **state)
{
    struct buf want = member_list(PROXY_URL, NULL), m = member_list(ETCD_URL, ETCD_URL);
    size_t len = m.n + 5;

    (void)state;
    buf_free(&m);
    r.env.advertise = (struct etcd_advertise){&one_url, 1};
    for (size_t cut = 0; cut <= len; cut++) {
        struct rec *c;

        m = member_list(ETCD_URL, ETCD_URL);
        c = ask(LIST, &m, cut, (unsigned)cut + 1);
        rig_expect(&r, c, 0);
        assert_int_equal(rig_message_count(c), 1);
        assert_true(bytes_eq(rig_message_at(c, 0), bytes_of(want.p, want.n)));
        assert_false(bytes_contain(c->body, c->body_len, ETCD_URL));
    }
    assert_int_equal(rig_tally(&r, "OK", LIST), len + 1);
    buf_free(&want);
}

static void each_member_has_its_own(void **state)
{
    static const struct etcd_advertise_url urls[] = {{"a", PROXY_URL "1"}, {"b", PROXY_URL "2"}};
    struct buf want = member_list(PROXY_URL "1", PROXY_URL "2"),
               m = member_list(ETCD_URL, ETCD_URL);
    struct rec *c;

    (void)state;
    r.env.advertise = (struct etcd_advertise){urls, ARRAY_LEN(urls)};
    c = ask(LIST, &m, 0, 1);
    rig_expect(&r, c, 0);
    assert_true(bytes_eq(rig_message_at(c, 0), bytes_of(want.p, want.n)));
    buf_free(&want);
}

/* Nothing of etcd's list is sent, not even a first part. */
static void without_an_url_a_list_is_refused(void **state)
{
    struct buf m = member_list(ETCD_URL, ETCD_URL);
    struct rec *c = ask(LIST, &m, 0, 1);

    (void)state;
    rig_expect(&r, c, 9);
    assert_int_equal(c->body_len, 0);
    assert_non_null(strstr(c->trailers != NULL ? c->trailers : c->headers, "advertise"));
    assert_int_equal(rig_tally(&r, "FailedPrecondition", LIST), 1);
}

/* etcd has done it by now: an error would have the client do it again. */
static void a_change_is_no_error_without_an_url(void **state)
{
    struct buf added = member(24, "c", ETCD_URL), m = member_list(ETCD_URL, ETCD_URL);
    struct rec *c = ask(REMOVE, &m, 0, 1);

    (void)state;
    rig_expect(&r, c, 0);
    assert_false(bytes_contain(c->body, c->body_len, ETCD_URL));
    m = put_response();
    buf_sub(&m, 2, &added);
    c = ask(ADD, &m, 0, 2);
    rig_expect(&r, c, 0);
    assert_false(bytes_contain(c->body, c->body_len, ETCD_URL));
    assert_true(bytes_contain(c->body, c->body_len, "peer.example.com"));
}

/* What cannot be read cannot be rewritten. */
static void what_is_no_list_is_refused(void **state)
{
    struct buf m = buf_of("\x12\x7f\x22", 3);
    struct rec *c;

    (void)state;
    r.env.advertise = (struct etcd_advertise){&one_url, 1};
    c = ask(LIST, &m, 0, 1);
    assert_int_not_equal(rig_status(c), 0);
    assert_int_equal(c->body_len, 0);
}

int main(void)
{
#define TEST(fn) RIG_TEST_WITH_CLIENT(fn, &r)
    const struct CMUnitTest tests[] = {
        TEST(client_urls_are_the_proxys),       TEST(each_member_has_its_own),
        TEST(without_an_url_a_list_is_refused), TEST(a_change_is_no_error_without_an_url),
        TEST(what_is_no_list_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
