/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: is there a key under the prefix? any at all? one under each of the usual
 * prefixes? The first answer that decides ends it. Failure modes: an answer that is an error of
 * etcd: nothing is found; none: the owner is told. */
#include "tools/outside.h"

#include <stdlib.h>
#include <string.h>

#include "etcd/message.h"

#define ANSWER_MAX (256u * 1024)
#define ALL_MAX 32 /* keys that are looked at: those of proxies are some of them */

enum step { STEP_PREFIX, STEP_ALL, STEP_USUAL };

/* kube-apiserver's own default, and OpenShift's. */
static const char *const usual[] = {"/registry", "/kubernetes.io"};

static void on_answer(void *arg, const struct client_answer *a);

/* From "PREFIX/" to before "PREFIX0", which is the next character. */
static void ask(struct tools_outside_look *l)
{
    const char *prefix = l->step < STEP_USUAL ? l->root : usual[l->step - STEP_USUAL];
    size_t n = strlen(prefix) + 1;
    uint8_t *key = l->request, *end = key + n, *body = end + n;
    struct etcd_range_request r = {.key = bytes_of(key, n),
                                   .range_end = bytes_of(end, n),
                                   .limit = l->step == STEP_ALL ? ALL_MAX : 1,
                                   .revision = l->revision,
                                   .keys_only = true};
    struct etcd_message m;
    struct bytes out;

    memcpy(key, prefix, n - 1);
    key[n - 1] = '/';
    memcpy(end, prefix, n - 1);
    end[n - 1] = '/' + 1;
    if (l->step == STEP_ALL)
        r.key = r.range_end = BYTES_LIT("\0");
    etcd_message_init(&m, body, l->request_cap - 2 * n);
    etcd_message_put_range(&m, &r);
    CHECK(etcd_message_body(&m, &out) == ERR_OK);
    sweep_call_start(&l->call, l->etcd, ETCD_RANGE_PATH, out, ANSWER_MAX, on_answer, l);
}

/* A key that no proxy has registered with. */
static bool has_foreign_key(const struct tools_outside_look *l, struct bytes body)
{
    struct bytes place = bytes_str(l->place);
    struct etcd_kv kv;
    bool has;

    while (etcd_message_next_kv(&body, &kv, &has) == ERR_OK && has)
        if (!bytes_has_prefix(kv.key, place) || kv.key.n == place.n || kv.key.p[place.n] != '/')
            return true;
    return false;
}

/* True: that was the last question. */
static bool is_decided(struct tools_outside_look *l, const struct etcd_range_answer *answer,
                       struct bytes body)
{
    bool has_keys = answer->kv_count > 0;

    if (l->step == STEP_PREFIX) {
        l->revision = answer->header.revision;
        return has_keys || l->revision == 0;
    }
    if (l->step == STEP_ALL) {
        has_keys = has_foreign_key(l, body);
        l->found = has_keys ? TOOLS_OUTSIDE_KEYS : TOOLS_OUTSIDE_NONE;
        return !has_keys;
    }
    if (has_keys) {
        l->found = TOOLS_OUTSIDE_REGISTRY;
        l->registry = usual[l->step - STEP_USUAL];
    }
    return has_keys || l->step + 1 == STEP_USUAL + ARRAY_LEN(usual);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct tools_outside_look *l = arg;
    struct etcd_range_answer answer;

    if (a->err != ERR_OK || a->status != GRPC_OK ||
        etcd_message_read_range(a->body, &answer) != ERR_OK || is_decided(l, &answer, a->body)) {
        l->fn(l, a);
        return;
    }
    l->step++;
    ask(l);
}

enum err tools_outside_start(struct tools_outside_look *l, struct sweep_etcd *etcd,
                             const char *root, const char *place,
                             void (*fn)(struct tools_outside_look *self,
                                        const struct client_answer *a))
{
    size_t longest = strlen(root) + sizeof "/kubernetes.io/";

    *l = (struct tools_outside_look){
        .etcd = etcd, .root = root, .place = place, .fn = fn, .request_cap = 4 * longest + 64};
    l->request = malloc(l->request_cap);
    if (l->request == NULL)
        return ERR_NOMEM;
    ask(l);
    return ERR_OK;
}

static bool is_under(struct bytes key, const char *prefix)
{
    struct bytes p = bytes_str(prefix);

    return bytes_has_prefix(key, p) && key.n > p.n && key.p[p.n] == '/';
}

void tools_outside_note(struct tools_outside_look *l, struct bytes key)
{
    if (is_under(key, l->place))
        return;
    l->has_inside = l->has_inside || is_under(key, l->root);
    if (l->has_inside) {
        l->found = TOOLS_OUTSIDE_NONE;
        return;
    }
    if (l->found == TOOLS_OUTSIDE_NONE)
        l->found = TOOLS_OUTSIDE_KEYS;
    for (size_t i = 0; i < ARRAY_LEN(usual) && l->found != TOOLS_OUTSIDE_REGISTRY; i++)
        if (is_under(key, usual[i])) {
            l->found = TOOLS_OUTSIDE_REGISTRY;
            l->registry = usual[i];
        }
}

void tools_outside_fini(struct tools_outside_look *l)
{
    sweep_call_cancel(&l->call);
    free(l->request);
    l->request = NULL;
}
