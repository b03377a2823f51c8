/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of etcd's addresses. Of several servers the first that answers serves a client, at the
 * begin and whenever one is lost; it is refused, and told to go, only when none answers. Behind
 * https none is spoken to that does not prove its name: not a byte of a request gets there. */
#include "certs.h"
#include "rig.h"

static struct rig r;

/* --- several --------------------------------------------------------------------------------- */

static int two_servers(void **state)
{
    rig_init_with(*state, &(struct rig_opts){.etcd_servers = 2});
    return 0;
}

static void serve(struct end *client, unsigned nth)
{
    rig_answer_put(&r, rig_put(client, SECRET_KEY, "treasure"), nth);
}

/* Wherever a client begins; all share one connection to the one that is there. */
static void the_other_serves(size_t away)
{
    rig_server_away(&r, away);
    for (unsigned i = 1; i <= 3; i++)
        serve(rig_client(&r), i);
    assert_int_equal(r.servers[1 - away].accepted, 1);
    rig_server_back(&r, away);
}

static void the_second_serves_when_the_first_is_away(void **state)
{
    (void)state;
    the_other_serves(0);
}

static void the_first_serves_when_the_second_is_away(void **state)
{
    (void)state;
    the_other_serves(1);
}

/* The client sees nothing of it, and a call that comes meanwhile waits. */
static void the_next_one_takes_over(void **state)
{
    struct end *client = rig_client(&r);
    size_t lost = r.servers[0].accepted == 1 ? 0 : 1;
    struct rec *c;

    (void)state;
    serve(client, 1);
    rig_pass(&r, 200);
    rig_server_away(&r, lost);
    h2_conn_close(r.etcd->c, H2_INTERNAL_ERROR, 0);
    RIG_UNTIL(&r, r.etcd->c == NULL);
    c = rig_put(client, SECRET_KEY, "treasure");
    RIG_UNTIL(&r, r.servers[1 - lost].accepted == 1);
    rig_answer_put(&r, c, 1);
    assert_int_equal(client->goaway_count + client->lost_count, 0);
}

static void without_any_the_client_is_told(void **state)
{
    struct end *client = rig_client(&r);
    struct rec *c;
    uint64_t from;

    (void)state;
    rig_pass(&r, 200);
    rig_server_away(&r, 0);
    rig_server_away(&r, 1);
    from = rig_now_ms();
    rig_etcd_lost(&r);
    c = rig_put(client, SECRET_KEY, "treasure");
    rig_expect(&r, c, 14);
    RIG_UNTIL(&r, client->goaway_count + client->lost_count > 0);
    assert_int_equal(client->goaway_count, 1);
    assert_in_range(rig_now_ms() - from, 700, 1100);
    RIG_UNTIL(&r, client->c == NULL && r.closed_count == 1);
    rig_server_back(&r, 1);
    serve(rig_client(&r), 1);
}

/* --- TLS ------------------------------------------------------------------------------------- */

static struct certs certs;

static const char *pem(const char *name, char out[static CERTS_PATH_MAX])
{
    return certs_path(&certs, name, "pem", out);
}

static const char *key(const char *name, char out[static CERTS_PATH_MAX])
{
    return certs_path(&certs, name, "key", out);
}

static int make_certs(void **state)
{
    static const struct cert_opts all[] = {
        {.name = "ca", .is_ca = true},
        {.name = "other-ca", .is_ca = true},
        {.name = "good", .issuer = "ca", .san = "DNS:localhost"},
        {.name = "elsewhere", .issuer = "ca", .san = "DNS:etcd.example.com"},
        {.name = "by-cn", .issuer = "ca", .cn = "localhost"},
        {.name = "expired", .issuer = "ca", .san = "DNS:localhost", .from_s = -7200, .to_s = -3600},
        {.name = "early", .issuer = "ca", .san = "DNS:localhost", .from_s = 3600, .to_s = 7200},
        {.name = "forged", .issuer = "other-ca", .san = "DNS:localhost"},
        {.name = "proxy", .issuer = "ca", .cn = "proxy"},
    };

    (void)state;
    certs_init(&certs);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        certs_make(&certs, &all[i]);
    return 0;
}

static int remove_certs(void **state)
{
    (void)state;
    certs_remove(&certs);
    return 0;
}

/* etcd shows the certificate server, the worker client; NULL: none. */
static void start_tls(const char *server, bool wants_client, const char *client)
{
    char cert[2][CERTS_PATH_MAX], keys[2][CERTS_PATH_MAX], ca[CERTS_PATH_MAX], why[256];
    struct net_tls_server_opts so = {.cert_file = pem(server, cert[0]),
                                     .key_file = key(server, keys[0]),
                                     .ca_file = wants_client ? pem("ca", ca) : NULL,
                                     .require_client_cert = wants_client};
    struct net_tls_client_opts co = {.ca_file = pem("ca", ca),
                                     .cert_file = client == NULL ? NULL : pem(client, cert[1]),
                                     .key_file = client == NULL ? NULL : key(client, keys[1]),
                                     .alpn_h2 = true};
    struct rig_opts o = {0};

    assert_int_equal(net_tls_server_new(&so, &o.etcd_tls, why, sizeof why), ERR_OK);
    assert_int_equal(net_tls_client_new(&co, &o.worker_tls, why, sizeof why), ERR_OK);
    rig_init_with(&r, &o);
}

static void end_tls(void)
{
    struct rig_opts o = r.opts;

    rig_fini(&r);
    net_tls_drop(o.etcd_tls);
    net_tls_drop(o.worker_tls);
}

static void check_served(void)
{
    struct end *client = rig_client(&r);
    struct buf sealed = rig_seal(&r, 1, SECRET_KEY, "treasure", 8);
    struct buf m = range_response(SECRET_KEY, &sealed);
    struct rec *c;

    serve(client, 1);
    assert_non_null(strstr(r.etcd->last->headers, ":scheme: https\n"));
    c = rig_range(client, SECRET_KEY);
    rig_answer(rig_await(&r, 2), &m);
    rig_expect(&r, c, 0);
    rig_check_value(rig_message_at(c, 0), "treasure", 8);
    buf_free(&sealed);
}

static void a_good_certificate_is_served(void **state)
{
    (void)state;
    start_tls("good", false, NULL);
    check_served();
    end_tls();
    start_tls("good", true, "proxy");
    check_served();
    end_tls();
}

/* The client is hung up on without a greeting, as if nobody were there. */
static void check_refused(void)
{
    struct end *client = rig_connect(&r, NULL);

    RIG_UNTIL(&r, client->c == NULL);
    assert_int_equal(client->ready_count, 0);
    assert_true(r.accepted > 0);
    assert_true(r.relay_count == 0 || r.etcd_count == 0 || r.etcd->recs_count == 0);
}

static void a_bad_certificate_is_not_spoken_to(void **state)
{
    static const char *const bad[] = {"elsewhere", "by-cn",  "expired",
                                      "early",     "forged", "other-ca"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        start_tls(bad[i], false, NULL);
        check_refused();
        assert_int_equal(r.etcd_count, 0); /* no handshake was finished */
        end_tls();
    }
}

/* With TLS 1.3 the worker's side of the handshake is done before etcd has looked at it. */
static void etcd_wants_a_certificate_too(void **state)
{
    static const char *const shown[] = {NULL, "forged"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
        start_tls("good", true, shown[i]);
        check_refused();
        assert_int_equal(r.etcd_count, 0);
        end_tls();
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_prestate_setup_teardown(fn, two_servers, rig_teardown, &r)
    const struct CMUnitTest tests[] = {
        TEST(the_second_serves_when_the_first_is_away),
        TEST(the_first_serves_when_the_second_is_away),
        TEST(the_next_one_takes_over),
        TEST(without_any_the_client_is_told),
        cmocka_unit_test(a_good_certificate_is_served),
        cmocka_unit_test(a_bad_certificate_is_not_spoken_to),
        cmocka_unit_test(etcd_wants_a_certificate_too),
    };

    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
