/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POSTERS 4
#define MAILS 2000

struct note {
    struct mail mail; /* first */
    int from, number;
};

static struct loop loop;
static struct mailbox box;
static int next_of[POSTERS]; /* the loop's thread only */
static int delivered_count, close_at;
static _Atomic int discarded_count;

static void on_note(struct mail *m, bool is_delivered)
{
    struct note *n = (struct note *)m;

    if (!is_delivered) {
        atomic_fetch_add(&discarded_count, 1);
        free(n);
        return;
    }
    assert_int_equal(n->number, next_of[n->from]);
    next_of[n->from]++;
    free(n);
    if (++delivered_count == close_at) {
        mailbox_close(&box);
        mailbox_close(&box);
        loop_stop(&loop);
    }
}

static void post(int from, int number)
{
    struct note *n = calloc(1, sizeof *n);

    if (n == NULL)
        abort();
    n->mail.deliver = on_note;
    n->from = from;
    n->number = number;
    mailbox_post(&box, &n->mail);
}

static void *poster(void *arg)
{
    int from = *(int *)arg;

    for (int i = 0; i < MAILS; i++)
        post(from, i);
    return NULL;
}

static int setup(void **state)
{
    (void)state;
    memset(next_of, 0, sizeof next_of);
    delivered_count = 0;
    atomic_store(&discarded_count, 0);
    if (loop_init(&loop) != ERR_OK)
        return -1;
    return mailbox_init(&box, &loop) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    mailbox_fini(&box);
    loop_fini(&loop);
    return 0;
}

static void run_posters(int until)
{
    pthread_t threads[POSTERS];
    int ids[POSTERS];

    close_at = until;
    for (int i = 0; i < POSTERS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, poster, &ids[i]), 0);
    }
    loop_run(&loop);
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void each_sender_is_delivered_in_order(void **state)
{
    (void)state;
    run_posters(POSTERS * MAILS);
    assert_int_equal(delivered_count, POSTERS * MAILS);
    assert_int_equal(atomic_load(&discarded_count), 0);
}

/* Nothing is lost and nothing is delivered after close, wherever the mail was. */
static void what_comes_to_a_closed_mailbox_is_freed(void **state)
{
    (void)state;
    run_posters(MAILS);
    assert_int_equal(delivered_count, MAILS);
    assert_int_equal(atomic_load(&discarded_count), (POSTERS - 1) * MAILS);
    post(0, 0);
    assert_int_equal(delivered_count, MAILS);
    assert_int_equal(atomic_load(&discarded_count), (POSTERS - 1) * MAILS + 1);
}

static void close_frees_what_is_queued(void **state)
{
    (void)state;
    post(0, 0);
    post(0, 1);
    mailbox_close(&box);
    assert_int_equal(atomic_load(&discarded_count), 2);
    loop_stop(&loop);
    loop_run(&loop);
    assert_int_equal(delivered_count, 0);
}

static unsigned closed_count;

static void on_closed(struct mailbox *mb)
{
    closed_count++;
    mailbox_fini(mb);
    free(mb); /* the address sanitizer sees who would still use it */
}

/* The loop goes on; the memory goes with the callback, which never comes from inside of the close.
 */
static void the_memory_may_go_when_the_loop_says_so(void **state)
{
    struct mailbox *own = malloc(sizeof *own);
    struct note *n = calloc(1, sizeof *n);

    (void)state;
    assert_int_equal(mailbox_init(own, &loop), ERR_OK);
    n->mail.deliver = on_note;
    mailbox_post(own, &n->mail);
    mailbox_close_then(own, on_closed);
    assert_int_equal(atomic_load(&discarded_count), 1);
    assert_int_equal(closed_count, 0);
    for (int i = 0; i < 3; i++)
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(closed_count, 1);
    mailbox_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_sender_is_delivered_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_to_a_closed_mailbox_is_freed, setup, teardown),
        cmocka_unit_test_setup_teardown(close_frees_what_is_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(the_memory_may_go_when_the_loop_says_so, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
