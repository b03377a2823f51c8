/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: one copy after the other is read, without its value, and then whether its original is
 * there; until there is no next one. Failure modes: an answer that is none ends the run. */
#include "tools/quarantine_list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "tools/ask_int.h"

struct list_run {
    struct tools_cluster *c;
    const char *prefix;
    FILE *out;
    struct json json;
    bool is_json, is_through;
    struct tools__ask ask;
    uint8_t *copy; /* the key of the copy that was read last */
    size_t copy_len;
    int64_t revision; /* its mod_revision */
    uint64_t count, again;
};

static void ask_next(struct list_run *l);

static void finish(struct list_run *l, enum err e, const char *why)
{
    tools__ask_cancel(&l->ask);
    l->is_through = e == ERR_OK;
    tools_cluster_end(l->c, e, why);
}

/* True when it is bad, and the run ended. */
static bool is_bad(struct list_run *l, const struct client_answer *a)
{
    char why[TOOLS_CLUSTER_WHY];
    enum err e = tools__answer_judge(a, why, sizeof why);

    if (e != ERR_OK)
        finish(l, e, why);
    return e != ERR_OK;
}

static struct bytes original_of(const struct list_run *l)
{
    size_t n = strlen(l->prefix);

    return bytes_of(l->copy + n, l->copy_len - n);
}

static void put_copy(struct list_run *l, bool is_there)
{
    struct bytes key = original_of(l);
    char text[LOG_KEY_MAX];

    l->count++;
    l->again += is_there;
    if (!l->is_json) {
        fprintf(l->out, "%s  moved at revision %" PRId64 "; %s\n", log_key(key.p, key.n, text),
                l->revision, is_there ? "the key is there again" : "the key is not there");
        return;
    }
    json_open(&l->json, NULL, '{');
    json_bytes(&l->json, "key", key);
    json_bytes(&l->json, "copy", bytes_of(l->copy, l->copy_len));
    json_number(&l->json, "mod_revision", l->revision);
    json_bool(&l->json, "key_is_there_again", is_there);
    json_close(&l->json, '}');
}

static void on_original(void *arg, const struct client_answer *a)
{
    struct list_run *l = arg;
    struct etcd_range_answer answer;

    if (is_bad(l, a))
        return;
    if (etcd_message_read_range(a->body, &answer) != ERR_OK) {
        finish(l, ERR_ANS_MALFORMED, "etcd's answer is malformed");
        return;
    }
    put_copy(l, answer.count > 0);
    ask_next(l);
}

/* Keys only grow, so that a list ends whatever etcd answers. */
static bool is_next(const struct list_run *l, struct bytes key)
{
    size_t n = strlen(l->prefix);

    return key.n > n && memcmp(key.p, l->prefix, n) == 0 && key.p[n] == '/' &&
           (l->copy == NULL || bytes_cmp(key, bytes_of(l->copy, l->copy_len)) > 0);
}

static void on_copy(void *arg, const struct client_answer *a)
{
    struct list_run *l = arg;
    struct etcd_kv kv;
    bool has;

    if (is_bad(l, a))
        return;
    if (etcd_message_next_kv(&(struct bytes){a->body.p, a->body.n}, &kv, &has) != ERR_OK ||
        (has && !is_next(l, kv.key))) {
        finish(l, ERR_ANS_MALFORMED, "etcd's answer is malformed");
        return;
    }
    if (!has) {
        finish(l, ERR_OK, "");
        return;
    }
    free(l->copy);
    l->copy = base_xcalloc(kv.key.n + 1, 1);
    memcpy(l->copy, kv.key.p, kv.key.n);
    l->copy_len = kv.key.n;
    l->revision = kv.mod_revision;
    tools__ask(&l->ask, l->c->etcd,
               &(struct etcd_range_request){.key = original_of(l), .count_only = true}, on_original,
               l);
}

/* The first copy behind the last one. */
static void ask_next(struct list_run *l)
{
    size_t n = strlen(l->prefix);
    char *first = base_xcalloc(n + 2, 1), *end = base_xcalloc(n + 2, 1);
    struct etcd_range_request r = {.limit = 1, .keys_only = true};

    snprintf(first, n + 2, "%s/", l->prefix);
    snprintf(end, n + 2, "%s%c", l->prefix, '/' + 1);
    r.key = l->copy == NULL ? bytes_str(first) : bytes_of(l->copy, l->copy_len + 1); /* and NUL */
    r.range_end = bytes_str(end);
    tools__ask(&l->ask, l->c->etcd, &r, on_copy, l);
    free(first);
    free(end);
}

static void on_ready(void *arg)
{
    ask_next(arg);
}

static void put_sum(const struct list_run *l)
{
    if (l->count == 0)
        fprintf(l->out, "Nothing lies under %s\n", l->prefix);
    else
        fprintf(l->out,
                "%" PRIu64 " under %s. --restore moves what opens by now back; --discard deletes "
                "copies whose key is there again (%" PRIu64 ")\n",
                l->count, l->prefix, l->again);
}

bool tools_quarantine_list(struct tools_cluster *c, const char *prefix, bool is_json, FILE *out)
{
    static const struct sweep_filter all = {0};
    struct list_run l = {
        .c = c, .prefix = prefix, .out = out, .is_json = is_json, .json = {.f = out}};

    if (is_json) {
        json_open(&l.json, NULL, '{');
        json_open(&l.json, "copies", '[');
    }
    tools_cluster_run(c, &all, on_ready, &l);
    if (is_json) {
        json_close(&l.json, ']');
        json_bool(&l.json, "finished", l.is_through);
        json_close(&l.json, '}');
        fputc('\n', out);
    } else if (l.is_through) {
        put_sum(&l);
    }
    tools__ask_fini(&l.ask);
    free(l.copy);
    return l.is_through;
}
