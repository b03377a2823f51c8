/* SPDX-License-Identifier: Apache-2.0 */
/* That it is JSON, whatever names and texts hold; what its members say is told by
 * tests/e2e/test_statusz.py. */
#include "pages/statusz.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "rig.h"

static enum err write_status(const struct pages_state *st, char **text)
{
    size_t len;
    FILE *f;
    enum err e;

    alloc_pause(true);
    f = open_memstream(text, &len);
    alloc_pause(false);
    assert_non_null(f);
    e = pages__statusz_write(st, f);
    fclose(f);
    return e;
}

static json_t *parse(const struct pages_state *st)
{
    json_error_t error;
    json_t *json;
    char *text;

    assert_int_equal(write_status(st, &text), ERR_OK);
    json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        fail_msg("%s in %.2000s", error.text, text);
    free(text);
    return json;
}

static const char *text_of(const json_t *json, const char *a, size_t i, const char *b)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(json, a), i), b));
}

static void test_any_text(void **state)
{
    struct pages_state st;
    json_t *json;

    (void)state;
    rig_use(RIG_PLUGINS);
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    for (int c = 1; c < 256; c++) {
        char name[] = {'<', (char)c, '>', '"', '\\', '\0'};

        st.plugins[0].name = name;
        snprintf(st.plugins[1].last.why, sizeof st.plugins[1].last.why, "%s", name);
        st.etcd_why = name;
        json = parse(&st);
        if (c < 0x80) {
            assert_string_equal(text_of(json, "kms", 0, "name"), name);
            assert_string_equal(text_of(json, "kms", 1, "reason"), name);
        }
        json_decref(json);
    }
    pages__state_fini(&st);
}

/* A server that has let go of its rules still has a status. */
static void test_ending(void **state)
{
    struct pages_state st;
    json_t *json;

    (void)state;
    rig.s.is_draining = true;
    assert_int_equal(pages__state_take(&rig.source, &st), ERR_OK);
    json = parse(&st);
    assert_int_equal(json_array_size(json_object_get(json, "protection")), 0);
    assert_true(json_is_true(json_object_get(json_object_get(json, "process"), "draining")));
    json_decref(json);
    pages__state_fini(&st);
}

static enum err write_once(void)
{
    struct pages_state st;
    enum err e = pages__state_take(&rig.source, &st);
    char *text = NULL;

    if (e == ERR_OK)
        e = write_status(&st, &text);
    pages__state_fini(&st);
    free(text);
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
        cmocka_unit_test_setup_teardown(test_any_text, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_ending, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, rig_setup_all, NULL);
}
