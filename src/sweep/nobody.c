/* SPDX-License-Identifier: Apache-2.0 */
/* A login of a user without a name and a password is refused by every etcd; how, says whether its
 * authentication is on. Nobody has the permission to ask for that otherwise. */
#include "sweep/nobody.h"

#include <string.h>

#include "etcd/message.h"

#define ANSWER_MAX 4096u /* a key without its value */

static void ask(struct sweep_nobody *n, const char *path, const struct etcd_message *m,
                client_answer_fn fn)
{
    struct bytes body;

    CHECK(etcd_message_body(m, &body) == ERR_OK); /* there is room for every key that is taken */
    sweep_call_start(&n->call, n->etcd, path, body, ANSWER_MAX, fn, n);
}

static void on_read(void *arg, const struct client_answer *a)
{
    struct sweep_nobody *n = arg;

    n->may_read = a->err == ERR_OK && a->status == GRPC_OK;
    n->fn(n);
}

static void on_login(void *arg, const struct client_answer *a)
{
    struct sweep_nobody *n = arg;
    const struct etcd_range_request r = {.key = bytes_str(n->key), .limit = 1, .keys_only = true};
    struct etcd_message m;

    n->has_users = a->err == ERR_OK && a->status != GRPC_OK &&
                   strstr(a->message, "authentication is not enabled") == NULL;
    if (!n->has_users) {
        n->fn(n);
        return;
    }
    etcd_message_init(&m, n->request, sizeof n->request);
    etcd_message_put_range(&m, &r);
    ask(n, ETCD_RANGE_PATH, &m, on_read);
}

enum err sweep_nobody_start(struct sweep_nobody *n, const struct sweep_etcd_opts *o,
                            const char *key, void (*fn)(struct sweep_nobody *self))
{
    struct etcd_message m;

    CHECK(o->login == NULL);
    if (strlen(key) >= sizeof n->key)
        return ERR_NOMEM;
    memcpy(n->key, key, strlen(key) + 1);
    n->fn = fn;
    TRY(sweep_etcd_new(o, &n->etcd));
    etcd_message_init(&m, n->request, sizeof n->request);
    etcd_message_put_authenticate(&m, BYTES_LIT(""), BYTES_LIT(""));
    ask(n, ETCD_AUTHENTICATE_PATH, &m, on_login);
    return ERR_OK;
}

void sweep_nobody_fini(struct sweep_nobody *n)
{
    sweep_call_cancel(&n->call);
    if (n->etcd != NULL)
        sweep_etcd_close(n->etcd);
    n->etcd = NULL;
}
