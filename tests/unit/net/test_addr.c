/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void good_urls(void **state)
{
    static const struct {
        const char *text;
        bool is_tls, is_unix, is_local;
        const char *host, *port, *normal;
    } cases[] = {
        {"http://127.0.0.1:2379", false, false, true, "127.0.0.1", "2379", "http://127.0.0.1:2379"},
        {"https://10.0.0.1:02379/", true, false, false, "10.0.0.1", "2379",
         "https://10.0.0.1:2379"},
        {"HTTP://localhost:0", false, false, true, "localhost", "0", "http://localhost:0"},
        {"https://etcd-0.etcd_svc.local:65535", true, false, false, "etcd-0.etcd_svc.local",
         "65535", "https://etcd-0.etcd_svc.local:65535"},
        {"http://[::1]:80", false, false, true, "::1", "80", "http://[::1]:80"},
        {"http://[::ffff:127.0.0.1]:80", false, false, true, "::ffff:127.0.0.1", "80",
         "http://[::ffff:127.0.0.1]:80"},
        {"http://[fe80::1]:80/", false, false, false, "fe80::1", "80", "http://[fe80::1]:80"},
        {"http://:2379", false, false, false, "", "2379", "http://:2379"},
        {"http://0.0.0.0:2379", false, false, false, "0.0.0.0", "2379", "http://0.0.0.0:2379"},
        {"http://127.1:2379", false, false, false, "127.1", "2379", "http://127.1:2379"},
        {"unix:///run/a.sock", false, true, true, "/run/a.sock", "", "unix:///run/a.sock"},
        {"unix:/run/a.sock", false, true, true, "/run/a.sock", "", "unix:///run/a.sock"},
        {"unixs:a.sock", true, true, true, "a.sock", "", "unixs://a.sock"},
        {"unixs:///run/a.sock", true, true, true, "/run/a.sock", "", "unixs:///run/a.sock"},
        {"unix://localhost:2379", false, true, true, "localhost:2379", "", "unix://localhost:2379"},
        {"unix://@kms", false, true, true, "@kms", "", "unix://@kms"},
        {"unix:@kms", false, true, true, "@kms", "", "unix://@kms"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[NET_URL_MAX];
        struct net_url u;
        const char *why;

        assert_int_equal(net_url_parse(cases[i].text, &u, &why), ERR_OK);
        assert_null(why);
        assert_int_equal(u.is_tls, cases[i].is_tls);
        assert_int_equal(u.is_unix, cases[i].is_unix);
        assert_string_equal(u.host, cases[i].host);
        assert_string_equal(u.port, cases[i].port);
        assert_int_equal(net_url_is_local(&u), cases[i].is_local);
        assert_string_equal(net_url_text(&u, text), cases[i].normal);
    }
}

static void bad_urls(void **state)
{
    static const char *const cases[] = {
        "",
        "127.0.0.1:2379",
        "ftp://127.0.0.1:2379",
        "http:/127.0.0.1:2379",
        "http://127.0.0.1",
        "http://127.0.0.1:",
        "http://127.0.0.1:x",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:+1",
        "http://127.0.0.1: 1",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:123456",
        "http://127.0.0.1:2379/health",
        "http://127.0.0.1:2379//",
        "http://127.0.0.1:2379?x=1",
        "http://127.0.0.1:2379/?x=1",
        "http://127.0.0.1:2379#x",
        "http://user@127.0.0.1:2379",
        "http://user:pw@127.0.0.1:2379",
        "http://::1:2379",
        "http://[::1",
        "http://[::1]",
        "http://[::1]2379",
        "http://[::g]:2379",
        "http://[127.0.0.1]:2379",
        "http://[]:2379",
        "http://a b:2379",
        "http://a%41:2379",
        "http://a:2379:2380",
        "http://a/:2379",
        "unix:",
        "unix://",
        "unix://@",
        "unix:///run/a b",
        "unix:///run/a\n",
        "unix:///run/a?x=1",
        "unix:///run/a%20b",
        "unix:///run/a#b",
    };
    struct net_url u;
    const char *why;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(net_url_parse(cases[i], &u, &why), ERR_CONFIG);
        assert_non_null(why);
    }
}

static void too_long_ones(void **state)
{
    char text[400];
    struct net_url u;
    const char *why;

    (void)state;
    for (int len = 107; len <= 108; len++) { /* sun_path has 108 bytes, one for the NUL */
        (void)snprintf(text, sizeof text, "unix:///%0*d", len - 1, 0);
        assert_int_equal(net_url_parse(text, &u, &why), len == 107 ? ERR_OK : ERR_CONFIG);
    }
    for (int len = 255; len <= 256; len++) {
        (void)snprintf(text, sizeof text, "http://%0*d:1", len, 0);
        assert_int_equal(net_url_parse(text, &u, &why), len == 255 ? ERR_OK : ERR_CONFIG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls),
        cmocka_unit_test(bad_urls),
        cmocka_unit_test(too_long_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
