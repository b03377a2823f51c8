/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: etcd is asked whether it has users (sweep/nobody.h); if so, writes are asked for, one
 * key after the other.
 * Failure modes: an etcd that goes away meanwhile: what was found so far stands. */
#include "tools/access.h"

#include <stdio.h>
#include <string.h>

#include "etcd/message.h"

#define ANSWER_MAX (1024u * 1024)
#define KEY_MAX 400
#define PLACE_KEYS 2u

static void ask_next(struct tools_access *a);

static void end(struct tools_access *a)
{
    if (a->is_over)
        return;
    a->is_over = true;
    a->o.on_end(a->o.user);
}

/* --- writes ----------------------------------------------------------------------------------- */

/* The i-th key that is asked about. False: there are no more. */
static bool key_at(const struct tools_access *a, size_t i, char out[static KEY_MAX])
{
    static const char *const names[PLACE_KEYS] = {"lock", "proxies/check"};
    size_t rules = a->o.rules->key_rules->count;

    if (i >= rules + PLACE_KEYS)
        return false;
    if (i < rules)
        snprintf(out, KEY_MAX, "%.300s/etcd-envelope", a->o.rules->key_rules->v[i].prefix);
    else
        snprintf(out, KEY_MAX, "%.300s/%s", a->o.place, names[i - rules]);
    return true;
}

static void note_denied(struct tools_access *a, const char *key)
{
    size_t at = strlen(a->denied);

    a->denied_count++;
    (void)snprintf(a->denied + at, sizeof a->denied - at, "%s%.*s/", at > 0 ? ", " : "",
                   (int)(strrchr(key, '/') - key), key);
}

static void on_write(void *arg, const struct client_answer *answer)
{
    struct tools_access *a = arg;
    char key[KEY_MAX];

    if (answer->err != ERR_OK) {
        end(a);
        return;
    }
    if (answer->status == GRPC_PERMISSION_DENIED && key_at(a, a->at - 1, key))
        note_denied(a, key);
    ask_next(a);
}

static void ask_next(struct tools_access *a)
{
    struct etcd_replace_request r = {.value = bytes_of(NULL, 0), .mod_revision = -1};
    struct etcd_message m;
    struct bytes body;
    char key[KEY_MAX];

    while (a->at < a->o.rules->key_rules->count && a->o.rules->lists[a->at].count == 0)
        a->at++; /* nothing is rewritten there */
    if (!a->o.writes || !key_at(a, a->at, key)) {
        end(a);
        return;
    }
    a->at++;
    r.key = bytes_str(key);
    etcd_message_init(&m, a->request, sizeof a->request);
    etcd_message_put_replace(&m, &r);
    if (etcd_message_body(&m, &body) == ERR_OK)
        sweep_call_start(&a->call, a->o.etcd, ETCD_TXN_PATH, body, ANSWER_MAX, on_write, a);
    else
        end(a);
}

/* --- who is asking ---------------------------------------------------------------------------- */

static void on_nobody(struct sweep_nobody *n)
{
    struct tools_access *a = CONTAINER_OF(n, struct tools_access, nobody);

    a->has_users = n->has_users;
    a->is_by_certificate = n->may_read;
    if (n->has_users)
        ask_next(a);
    else
        end(a);
}

/* --- exported --------------------------------------------------------------------------------- */

enum err tools_access_start(struct tools_access *a, const struct tools_access_opts *o)
{
    char key[KEY_MAX];

    a->o = *o;
    if (!key_at(a, 0, key))
        return ERR_NOMEM;
    return sweep_nobody_start(&a->nobody, &o->bare, key, on_nobody);
}

void tools_access_fini(struct tools_access *a)
{
    sweep_call_cancel(&a->call);
    sweep_nobody_fini(&a->nobody);
}
