/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static void unary(void **state)
{
    struct rig r;
    struct end *client;
    struct rec *c, *s;
    struct buf m = put_response();

    (void)state;
    rig_init(&r);
    client = rig_client(&r);
    c = rig_put(client, SECRET_KEY, "treasure");
    s = rig_await(&r, 1);
    rig_check_put(&r, rig_message_at(s, 0), SECRET_KEY, "treasure");
    rig_answer(s, &m);
    rig_expect(&r, c, 0);
    assert_int_equal(rig_tally(&r, "OK", PUT), 1);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
