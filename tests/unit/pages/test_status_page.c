/* SPDX-License-Identifier: Apache-2.0 */
/* The page's text as it is without a browser, and that the hashes in its policy are those of what
 * stands in it. How it looks is told by tests/e2e/test_page.py. */
#include "pages/status_page.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "rig.h"

static char *text;

static enum err write_page(const struct pages_state *st)
{
    size_t len;
    FILE *f;
    enum err e;

    alloc_pause(true);
    free(text);
    f = open_memstream(&text, &len);
    alloc_pause(false);
    assert_non_null(f);
    e = pages__status_page_write(st, f);
    fclose(f);
    return e;
}

static int teardown(void **state)
{
    free(text);
    text = NULL;
    return rig_teardown(state);
}

static void assert_has(const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("not there: %s\nin:\n%.20000s", part, text);
}

/* 'sha256-...' of what stands between two texts of the page, as OpenSSL has it. */
static void assert_in_policy(const char *begin, const char *end)
{
    const char *from = strstr(text, begin) + strlen(begin);
    unsigned char md[32], base64[64];
    char want[80];

    assert_int_equal(
        EVP_Digest(from, (size_t)(strstr(from, end) - from), md, NULL, EVP_sha256(), NULL), 1);
    EVP_EncodeBlock(base64, md, sizeof md);
    snprintf(want, sizeof want, "'sha256-%s'", (const char *)base64);
    if (strstr(pages__status_page_policy(), want) == NULL)
        fail_msg("no %s in %s", want, pages__status_page_policy());
}

static void test_policy(void **state)
{
    struct pages_state st;

    (void)state;
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    assert_int_equal(write_page(&st), ERR_OK);
    assert_in_policy("<style>", "</style>");
    assert_in_policy("<script>", "</script>");
    pages__state_fini(&st);
}

static void test_values_are_text(void **state)
{
    static const char evil[] = "<script>alert(\"1\")</script>";
    struct pages_state st;
    size_t scripts = 0;

    (void)state;
    rig_use(RIG_PLUGINS);
    rig.settings.encryption_provider_config = (char *)(uintptr_t)evil;
    rig.s.last_reload = (struct server_reload){.time_s = 1};
    snprintf(rig.s.last_reload.why, sizeof rig.s.last_reload.why, "%s", evil);
    rig.s.is_reload_failed = true;
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    st.etcd_why = st.tls_why = st.plugins[0].name = evil;
    snprintf(st.plugins[1].last.why, sizeof st.plugins[1].last.why, "%s", evil);
    assert_int_equal(write_page(&st), ERR_OK);
    for (const char *at = text; (at = strstr(at, "<script>")) != NULL; at++)
        scripts++;
    assert_int_equal(scripts, 1); /* its own */
    assert_has("<code>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;</code>");
    pages__state_fini(&st);
}

/* Every mark of the template was filled in. */
static void test_sections(void **state)
{
    static const char *const ids[] = {"facts",   "verdict", "health", "protection",    "coverage",
                                      "traffic", "plots",   "counts", "configuration", "process"};
    struct pages_state st;

    (void)state;
    rig_use(RIG_PLUGINS);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    assert_int_equal(write_page(&st), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        char id[64];

        snprintf(id, sizeof id, " id=\"%s\"", ids[i]);
        assert_has(id);
        assert_null(strstr(strstr(text, id) + 1, id));
    }
    assert_has("<title>etcd does not answer; KMS plugin new is not well");
    assert_null(strstr(text, "@TITLE@"));
    assert_null(strstr(text, "@TOP@"));
    assert_null(strstr(text, "@REST@"));
    assert_has("</html>");
    pages__state_fini(&st);
}

static enum err write_once(void)
{
    struct pages_state st;
    enum err e = pages__state_take(&rig.source, &st);

    if (e == ERR_OK)
        e = write_page(&st);
    pages__state_fini(&st);
    return e;
}

static void test_no_memory(void **state)
{
    (void)state;
    rig_use(RIG_PLUGINS);
    alloc_fail_each(write_once, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_policy, rig_setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_are_text, rig_setup, teardown),
        cmocka_unit_test_setup_teardown(test_sections, rig_setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, rig_setup, teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
