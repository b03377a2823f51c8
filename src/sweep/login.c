/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep/login.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "etcd/message.h"

#define BODY_MAX 1024u
#define TOKEN_MAX 8192u /* a JWT is some hundred bytes */

static void wipe(char **text)
{
    if (*text != NULL)
        secret_wipe(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

enum err sweep_login_init(struct sweep_login *l, const struct sweep_user *user)
{
    *l = (struct sweep_login){0};
    if (user->name == NULL)
        return ERR_OK;
    l->name = strdup(user->name);
    l->password = strdup(user->password);
    if (l->name != NULL && l->password != NULL)
        return ERR_OK;
    sweep_login_fini(l);
    return ERR_NOMEM;
}

void sweep_login_fini(struct sweep_login *l)
{
    wipe(&l->name);
    wipe(&l->password);
    wipe(&l->token);
}

bool sweep_login_is_due(const struct sweep_login *l)
{
    return l->name != NULL && l->token == NULL && !l->is_off;
}

enum err sweep_login_call(const struct sweep_login *l, struct client *c, uint64_t deadline_ms,
                          client_answer_fn fn, void *arg, struct client_call **out)
{
    uint8_t buf[BODY_MAX];
    struct etcd_message m;
    struct bytes body;
    enum err e;

    etcd_message_init(&m, buf, sizeof buf);
    etcd_message_put_authenticate(&m, bytes_str(l->name), bytes_str(l->password));
    e = etcd_message_body(&m, &body);
    if (e == ERR_OK)
        e = client_set_token(c, "");
    if (e == ERR_OK)
        e = client_call(c, ETCD_AUTHENTICATE_PATH, body, deadline_ms, fn, arg, out);
    secret_wipe(buf, sizeof buf);
    return e;
}

/* A field value of HTTP/2 (RFC 9113 8.2.1) that gRPC takes: printable ASCII. */
static bool is_field_value(struct bytes token)
{
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] <= 0x20 || token.p[i] > 0x7e)
            return false;
    return token.n <= TOKEN_MAX;
}

enum err sweep_login_take(struct sweep_login *l, struct client *c, const struct client_answer *a)
{
    struct bytes token;

    if (a->status != GRPC_OK) {
        l->is_off = strstr(a->message, "authentication is not enabled") != NULL;
        return l->is_off ? ERR_OK : ERR_SYSTEM;
    }
    TRY(etcd_message_read_authenticate(a->body, &token));
    if (!is_field_value(token))
        return ERR_ANS_MALFORMED;
    wipe(&l->token);
    l->number++;
    l->token = strndup((const char *)token.p, token.n);
    return l->token != NULL ? sweep_login_use(l, c) : ERR_NOMEM;
}

enum err sweep_login_use(const struct sweep_login *l, struct client *c)
{
    return l->token != NULL ? client_set_token(c, l->token) : ERR_OK;
}

bool sweep_login_is_asked(const struct sweep_login *l, const struct client_answer *a)
{
    static const char *const texts[] = {"etcdserver: invalid auth token",
                                        "etcdserver: revision of auth store is old",
                                        "etcdserver: user name is empty"};

    if (l->name == NULL || a->err != ERR_OK || a->status == GRPC_OK)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(a->message, texts[i]) == 0)
            return true;
    return false;
}

void sweep_login_forget(struct sweep_login *l, unsigned number)
{
    if (l->number != number)
        return;
    wipe(&l->token);
    l->is_off = false;
}
