/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/interrupt.h"

#include <signal.h>

static void on_signal(uv_signal_t *handle, int number)
{
    struct tools_interrupt *t = handle->data;

    if (t->number != 0)
        return;
    t->number = number;
    for (size_t i = 0; i < ARRAY_LEN(t->handles); i++)
        (void)uv_signal_stop(&t->handles[i]); /* a second one is the system's to act on */
    t->fn(t->arg);
}

enum err tools_interrupt_start(struct tools_interrupt *t, struct loop *loop, void (*fn)(void *arg),
                               void *arg)
{
    static const int numbers[] = {SIGINT, SIGTERM};

    t->arg = arg;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (uv_signal_init(&loop->uv, &t->handles[i]) != 0)
            return ERR_SYSTEM;
    t->fn = fn;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        t->handles[i].data = t;
        if (uv_signal_start(&t->handles[i], on_signal, numbers[i]) != 0) {
            tools_interrupt_stop(t);
            return ERR_SYSTEM;
        }
    }
    return ERR_OK;
}

void tools_interrupt_stop(struct tools_interrupt *t)
{
    if (t->fn == NULL)
        return;
    t->fn = NULL;
    for (size_t i = 0; i < ARRAY_LEN(t->handles); i++)
        uv_close((uv_handle_t *)&t->handles[i], NULL);
}
