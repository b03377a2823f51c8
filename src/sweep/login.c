/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a token is due, etcd is asked for it, and gives one.
 *
 *   UNKNOWN --+-- a token came ------------> IN        the token does not count any more:
 *      ^      +-- "is not enabled" --------> OFF       a token is due, and the state stays
 *      |      `-- any other answer --------> REFUSED   AGAIN_MS later a token is due
 *      `-- sweep_login_change -- from all of these, which go to each other as etcd answers
 *
 * Failure modes: no memory for a token: the caller tries again. An answer that holds no token is a
 * refusal. */
#include "sweep/login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "etcd/message.h"

#define BODY_MAX 2048u
#define TOKEN_MAX 8192u /* a JWT is some hundred bytes */
#define AGAIN_MS 60000u /* after a refusal: somebody may have made the user meanwhile */
#define WHY_MAX 512

struct sweep_login {
    unsigned refs;
    enum sweep_login_state state;
    char *name;
    char *password, *token; /* secret_alloc; token NULL: none yet, or it does not count any more */
    unsigned number;        /* of the token */
    uint64_t refused_ms;
    enum grpc_status status; /* of the refusal */
    char why[WHY_MAX];
    void (*fn)(void *arg);
    void *arg;
};

static void secret_text_free(char **text)
{
    if (*text != NULL)
        secret_free(*text, strlen(*text) + 1);
    *text = NULL;
}

/* NULL: no memory. */
static char *secret_text_new(struct bytes text)
{
    char *copy = secret_alloc(text.n + 1);

    if (copy != NULL && text.n > 0)
        memcpy(copy, text.p, text.n);
    return copy;
}

static void login_free(struct sweep_login *l)
{
    secret_text_free(&l->password);
    secret_text_free(&l->token);
    free(l->name);
    free(l);
}

enum err sweep_login_new(const struct sweep_user *user, struct sweep_login **out)
{
    struct sweep_login *l = calloc(1, sizeof *l);

    *out = NULL;
    if (l == NULL)
        return ERR_NOMEM;
    l->refs = 1;
    l->name = strdup(user->name);
    l->password = secret_text_new(bytes_str(user->password));
    if (l->name == NULL || l->password == NULL) {
        login_free(l);
        return ERR_NOMEM;
    }
    *out = l;
    return ERR_OK;
}

struct sweep_login *sweep_login_ref(struct sweep_login *l)
{
    l->refs++;
    return l;
}

void sweep_login_drop(struct sweep_login *l)
{
    if (l != NULL && --l->refs == 0)
        login_free(l);
}

void sweep_login_watch(struct sweep_login *l, void (*fn)(void *arg), void *arg)
{
    l->fn = fn;
    l->arg = arg;
}

static void set_state(struct sweep_login *l, enum sweep_login_state state, const char *why)
{
    bool is_new = state != l->state || strcmp(why, l->why) != 0;

    l->state = state;
    if (is_new)
        (void)snprintf(l->why, sizeof l->why, "%s", why);
    if (is_new && l->fn != NULL)
        l->fn(l->arg);
}

static void set_token(struct sweep_login *l, char *token)
{
    secret_text_free(&l->token);
    l->token = token;
    l->number++;
}

enum err sweep_login_change(struct sweep_login *l, const char *password, bool is_forced)
{
    struct bytes now = bytes_str(l->password), next = bytes_str(password);
    char *copy;

    if (now.n != next.n || !secret_eq(now.p, next.p, now.n)) {
        copy = secret_text_new(next);
        if (copy == NULL)
            return ERR_NOMEM;
        secret_text_free(&l->password);
        l->password = copy;
        set_token(l, NULL);
        set_state(l, SWEEP_LOGIN_UNKNOWN, "");
    } else if (is_forced && l->state == SWEEP_LOGIN_REFUSED) {
        set_state(l, SWEEP_LOGIN_UNKNOWN, "");
    }
    return ERR_OK;
}

const char *sweep_login_name(const struct sweep_login *l)
{
    return l == NULL ? "" : l->name;
}

enum sweep_login_state sweep_login_state(const struct sweep_login *l)
{
    return l == NULL ? SWEEP_LOGIN_UNKNOWN : l->state;
}

const char *sweep_login_why(const struct sweep_login *l)
{
    return l == NULL ? "" : l->why;
}

unsigned sweep_login_number(const struct sweep_login *l)
{
    return l == NULL ? 0 : l->number;
}

bool sweep_login_is_due(const struct sweep_login *l)
{
    return l != NULL && l->token == NULL && l->state != SWEEP_LOGIN_OFF;
}

bool sweep_login_is_refused(const struct sweep_login *l, uint64_t now_ms, struct client_answer *out)
{
    if (l == NULL || l->state != SWEEP_LOGIN_REFUSED || now_ms - l->refused_ms >= AGAIN_MS)
        return false;
    *out = (struct client_answer){.err = ERR_OK, .status = l->status, .message = l->why};
    return true;
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

static void refuse(struct sweep_login *l, uint64_t now_ms, enum grpc_status status,
                   const char *message)
{
    char why[WHY_MAX];

    (void)snprintf(why, sizeof why, "user %.100s: %.300s", l->name, message);
    l->refused_ms = now_ms;
    l->status = status;
    set_state(l, SWEEP_LOGIN_REFUSED, why);
}

enum err sweep_login_take(struct sweep_login *l, uint64_t now_ms, const struct client_answer *a)
{
    struct bytes token;
    char *copy;

    if (a->status != GRPC_OK && strstr(a->message, "authentication is not enabled") != NULL) {
        set_token(l, NULL);
        set_state(l, SWEEP_LOGIN_OFF, "");
        return ERR_OK;
    }
    if (a->status != GRPC_OK) {
        refuse(l, now_ms, a->status, a->message);
        return ERR_OK;
    }
    if (etcd_message_read_authenticate(a->body, &token) != ERR_OK || !is_field_value(token)) {
        refuse(l, now_ms, GRPC_INTERNAL, "etcd's answer holds no token");
        return ERR_OK;
    }
    copy = secret_text_new(token);
    if (copy == NULL)
        return ERR_NOMEM;
    set_token(l, copy);
    set_state(l, SWEEP_LOGIN_IN, "");
    return ERR_OK;
}

enum err sweep_login_use(const struct sweep_login *l, struct client *c)
{
    return client_set_token(c, l == NULL || l->token == NULL ? "" : l->token);
}

bool sweep_login_is_asked(const struct sweep_login *l, const struct client_answer *a)
{
    static const char *const texts[] = {"etcdserver: invalid auth token",
                                        "etcdserver: revision of auth store is old",
                                        "etcdserver: user name is empty"};

    if (l == NULL || a->err != ERR_OK || a->status == GRPC_OK)
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
    secret_text_free(&l->token);
    if (l->state == SWEEP_LOGIN_OFF)
        set_state(l, SWEEP_LOGIN_UNKNOWN, "");
}
