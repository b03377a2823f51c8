/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "kms/text.h"
#include "tools/verify_int.h"
#include "tools/words.h"

#define HASH_TEXT (2 * SNAPSHOT_HASH_LEN + 1)

static unsigned long long ull(uint64_t v)
{
    return (unsigned long long)v;
}

/* --- lists ------------------------------------------------------------------------------------ */

/* A key as it is, but for what a terminal or a script could trip over, which becomes %XX. */
static void put_key(FILE *f, struct bytes key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= 0x20 || key.p[i] > 0x7e || key.p[i] == '%')
            fprintf(f, "%%%02X", key.p[i]);
        else
            fputc(key.p[i], f);
}

void tools__verify_list(struct verify *v, const struct sweep_value *value)
{
    const char *reason = tools_counts_reason(value->verdict);

    if (!v->o->is_json) {
        put_key(v->o->out, value->kv.key);
        fprintf(v->o->out, "\t%s\n", reason);
        return;
    }
    json_open(&v->json, NULL, '{');
    json_bytes(&v->json, "key", value->kv.key);
    json_text(&v->json, "resource", value->list->resource);
    json_text(&v->json, "reason", reason);
    json_number(&v->json, "mod_revision", value->kv.mod_revision);
    json_close(&v->json, '}');
}

/* --- what holds ------------------------------------------------------------------------------- */

bool tools__verify_has_several_key_ids(const struct verify *v)
{
    for (size_t i = 0; i < v->counts.count; i++) {
        const struct tools_resource_count *r = &v->counts.v[i];
        size_t n = 0;

        for (size_t k = 0; k < r->key_count; k++)
            n += r->keys[k].state == SWEEP_CURRENT && r->keys[k].by != NULL &&
                 provider_traits(r->keys[k].by)->is_kms;
        if (n > 1)
            return true;
    }
    return false;
}

static const char *result_text(enum tools_verify_result r)
{
    static const char *const texts[] = {[TOOLS_VERIFY_FAILED] = "failed",
                                        [TOOLS_VERIFY_UNREADABLE] = "unreadable",
                                        [TOOLS_VERIFY_DUE] = "not as wanted",
                                        [TOOLS_VERIFY_NOTHING] = "nothing looked at",
                                        [TOOLS_VERIFY_GOOD] = "good"};

    return texts[r];
}

/* Without opening, whether a plugin's key is the present one cannot be told. */
static const char *state_text(const struct verify *v, const struct tools_key_count *k)
{
    if (k->state == SWEEP_CURRENT && !v->o->is_open && k->by != NULL &&
        provider_traits(k->by)->is_kms)
        return "write provider";
    return sweep_state_text(k->state);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void json_header(struct json *j, const char *name, const struct etcd_header *h)
{
    char id[24];

    json_open(j, name, '{');
    snprintf(id, sizeof id, "%" PRIx64, h->cluster_id);
    json_text(j, "cluster_id", id);
    snprintf(id, sizeof id, "%" PRIx64, h->member_id);
    json_text(j, "member_id", id);
    json_number(j, "revision", h->revision);
    json_close(j, '}');
}

static void json_etcd(const struct verify *v, struct json *j)
{
    json_text(j, "etcd_server", v->server);
    json_text(j, "etcd_version", v->c->status.version);
    json_header(j, "from", &v->position.first);
    json_header(j, "to", &v->position.last);
    json_number(j, "compacted_meanwhile", v->position.compacted_count);
}

static const char *hash_text(const struct snapshot_file *f, char out[static HASH_TEXT])
{
    for (size_t i = 0; i < SNAPSHOT_HASH_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", f->hash[i]);
    return out;
}

static void json_snapshot(const struct tools_snapshot *s, struct json *j)
{
    const struct snapshot_store_facts *f = snapshot_store_facts(s->store);
    char hash[HASH_TEXT];

    json_open(j, "snapshot", '{');
    json_text(j, "file", s->ask.path);
    json_number(j, "bytes", (int64_t)s->file.size);
    if (s->file.has_hash)
        json_text(j, "sha256", hash_text(&s->file, hash));
    json_bool(j, "is_damaged", s->file.is_snapshot && !s->file.has_hash);
    json_bool(j, "is_without_wal", !s->file.is_snapshot);
    json_number(j, "revision", f->revision);
    json_number(j, "compact_revision", f->compact_revision);
    json_number(j, "consistent_index", (int64_t)f->consistent_index);
    json_number(j, "revisions", (int64_t)f->record_count);
    json_bool(j, "is_meta_page_damaged", f->bolt.is_meta_bad[0] || f->bolt.is_meta_bad[1]);
    json_close(j, '}');
}

static void json_states(struct json *j, const struct tools_resource_count *r)
{
    static const char *const names[] = {[SWEEP_UNREADABLE] = "unreadable",
                                        [SWEEP_PLAINTEXT] = "plaintext",
                                        [SWEEP_OTHER] = "other_provider",
                                        [SWEEP_OLDER] = "older_key",
                                        [SWEEP_CURRENT] = "current_key"};

    json_number(j, "objects", (int64_t)r->count);
    for (size_t s = SWEEP_STATE_COUNT; s > 0; s--)
        json_number(j, names[s - 1], (int64_t)r->states[s - 1]);
    json_number(j, "plaintext_refused", (int64_t)r->unread_plain);
    json_number(j, "due_for_rewrite", (int64_t)r->due);
    json_number(j, "with_lease", (int64_t)r->leased);
}

static void json_key(const struct verify *v, struct json *j, const struct tools_key_count *k)
{
    json_open(j, NULL, '{');
    json_text(j, "state", state_text(v, k));
    json_text(j, "provider", k->provider);
    json_text(j, "key", k->key);
    if (k->err != ERR_OK)
        json_text(j, "reason", err_reason(k->err));
    json_number(j, "objects", (int64_t)k->count);
    json_close(j, '}');
}

static void json_counts(struct verify *v)
{
    struct json *j = &v->json;

    json_open(j, "total", '{');
    json_states(j, &v->counts.all);
    json_close(j, '}');
    json_open(j, "resources", '[');
    for (size_t i = 0; i < v->counts.count; i++) {
        const struct tools_resource_count *r = &v->counts.v[i];

        json_open(j, NULL, '{');
        json_text(j, "resource", r->resource);
        json_states(j, r);
        json_open(j, "keys", '[');
        for (size_t k = 0; k < r->key_count; k++)
            json_key(v, j, &r->keys[k]);
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void report_json(struct verify *v, enum tools_verify_result result)
{
    struct json *j = &v->json;
    char text[KMS_TIME_TEXT];

    if (v->o->list != TOOLS_LIST_NONE)
        json_close(j, ']');
    json_text(j, "result", result_text(result));
    if (result == TOOLS_VERIFY_FAILED) {
        json_text(j, "error", v->c->why);
        json_number(j, "looked_at", (int64_t)v->counts.all.count);
    }
    json_text(j, "began", kms_time_text(v->began_s, text));
    if (result != TOOLS_VERIFY_FAILED) {
        json_text(j, "ended", kms_time_text(v->ended_s, text));
        if (v->o->snapshot != NULL)
            json_snapshot(v->o->snapshot, j);
        else
            json_etcd(v, j);
        json_bool(j, "opened", v->o->is_open);
        json_bool(j, "key_changed_meanwhile", v->has_key_changed);
        json_bool(j, "keys_only_outside_of_prefix", v->c->outside.found != TOOLS_OUTSIDE_NONE);
        json_counts(v);
    }
    json_text(j, "version", v->o->version);
    json_text(j, "configuration", v->c->rules->config->hash);
    json_close(j, '}');
    fputc('\n', v->o->out);
}

/* --- text ------------------------------------------------------------------------------------- */

static void put_snapshot(const struct tools_snapshot *s, FILE *f)
{
    const struct snapshot_store_facts *facts = snapshot_store_facts(s->store);
    char hash[HASH_TEXT];

    fprintf(f, "snapshot        %s, %llu bytes", s->ask.path, ull(s->file.size));
    if (s->file.has_hash)
        fprintf(f, ", SHA-256 %s\n", hash_text(&s->file, hash));
    else if (s->file.is_snapshot)
        fputs(": damaged, for its SHA-256 does not fit\n", f);
    else
        fputs(": a member's own file: writes still in the WAL are missing\n", f);
    if (facts->bolt.is_meta_bad[0] || facts->bolt.is_meta_bad[1])
        fputs("                a meta page is damaged: the last transaction may be missing\n", f);
    fprintf(f,
            "history         %llu revisions of keys, compacted at %" PRId64 ", raft index %llu\n",
            ull(facts->record_count), facts->compact_revision, ull(facts->consistent_index));
}

static void put_head(const struct verify *v, FILE *f)
{
    const struct etcd_header *first = &v->position.first, *last = &v->position.last;
    char began[KMS_TIME_TEXT], ended[KMS_TIME_TEXT];

    if (v->o->snapshot != NULL)
        put_snapshot(v->o->snapshot, f);
    else
        fprintf(f, "etcd            %s, version %s, cluster %" PRIx64 ", member %" PRIx64 "\n",
                v->server, v->c->status.version, last->cluster_id, last->member_id);
    fprintf(f, "configuration   %s, etcd-envelope %s\n", v->c->rules->config->hash, v->o->version);
    fprintf(f, "time            %s to %s\n", kms_time_text(v->began_s, began),
            kms_time_text(v->ended_s, ended));
    if (v->o->snapshot != NULL)
        fprintf(f, "revision        %" PRId64 "\n",
                snapshot_store_facts(v->o->snapshot->store)->revision);
    else if (v->position.compacted_count == 0)
        fprintf(f, "revision        %" PRId64 "\n", last->revision);
    else
        fprintf(f,
                "revision        %" PRId64 " to %" PRId64 " (compacted meanwhile, so the rest was "
                "read at a later one, %u time%s)\n",
                first->revision, last->revision, v->position.compacted_count,
                v->position.compacted_count == 1 ? "" : "s");
    if (!v->o->is_open)
        fputs("opened          nothing (--no-open): whether values are authentic, and which key id "
              "is the present one, is not known\n",
              f);
}

static void put_row(FILE *f, const char *name, const struct tools_resource_count *r)
{
    fprintf(f, "%-32s %9llu %9llu %9llu %9llu %9llu %10llu\n", name, ull(r->count),
            ull(r->states[SWEEP_CURRENT]), ull(r->states[SWEEP_OLDER]), ull(r->states[SWEEP_OTHER]),
            ull(r->states[SWEEP_PLAINTEXT]), ull(r->states[SWEEP_UNREADABLE]));
}

static void put_table(const struct verify *v, FILE *f)
{
    fprintf(f, "\n%-32s %9s %9s %9s %9s %9s %10s\n", "RESOURCE", "OBJECTS", "CURRENT", "OLDER KEY",
            "OTHER", "PLAINTEXT", "UNREADABLE");
    for (size_t i = 0; i < v->counts.count; i++)
        put_row(f, v->counts.v[i].resource, &v->counts.v[i]);
    if (v->counts.count != 1)
        put_row(f, "all", &v->counts.all);
}

static void put_keys(const struct verify *v, FILE *f)
{
    fprintf(f, "\n%-32s %-16s %9s  %s\n", "RESOURCE", "STATE", "OBJECTS", "PROVIDER, KEY");
    for (size_t i = 0; i < v->counts.count; i++) {
        const struct tools_resource_count *r = &v->counts.v[i];

        for (size_t k = 0; k < r->key_count; k++) {
            const struct tools_key_count *key = &r->keys[k];

            fprintf(f, "%-32s %-16s %9llu  %s%s%s%s%s%s\n", r->resource, state_text(v, key),
                    ull(key->count), key->provider[0] != '\0' ? key->provider : "-",
                    key->key[0] != '\0' ? ", " : "", key->key, key->err != ERR_OK ? "  (" : "",
                    key->err != ERR_OK ? tools_words(key->err) : "", key->err != ERR_OK ? ")" : "");
        }
    }
}

/* What plaintext leaves behind even when it is rewritten. */
static void put_history(const struct verify *v, FILE *f)
{
    int64_t revision = v->position.last.revision;

    if (v->o->snapshot != NULL && v->counts.all.states[SWEEP_PLAINTEXT] == 0)
        fputs("No newest value is plaintext. Older revisions in the file, and pages that etcd had "
              "freed, were not looked at:\nif there ever was plaintext, treat the file as "
              "plaintext, unless etcd was compacted and defragmented since.\n",
              f);
    if (v->o->snapshot != NULL || v->counts.all.states[SWEEP_PLAINTEXT] > 0 ||
        v->counts.all.count == 0)
        return;
    fprintf(
        f,
        "No value is plaintext as of revision %" PRId64 ". If there was any before: etcd's "
        "history holds it until it is\ncompacted to that revision (kube-apiserver does so every "
        "5 minutes), the database file until it is\ndefragmented (etcdctl defrag), the WAL and "
        "older snapshots and backups until they are deleted.\n",
        revision);
}

static void put_unreadable(const struct verify *v, FILE *f)
{
    const struct tools_resource_count *all = &v->counts.all;

    if (v->o->export != NULL)
        fprintf(f, "%llu value%s written to %s, with a list in index.jsonl\n",
                ull(v->o->export->count), v->o->export->count == 1 ? "" : "s", v->o->export->path);
    if (all->states[SWEEP_UNREADABLE] > 0)
        fprintf(f,
                "%llu value%s not open with this configuration: reading %s fails. Each is named by "
                "verify --list unreadable\n",
                ull(all->states[SWEEP_UNREADABLE]),
                all->states[SWEEP_UNREADABLE] == 1 ? " does" : "s do",
                all->states[SWEEP_UNREADABLE] == 1 ? "it" : "them");
    if (all->unread_plain > 0)
        fprintf(f,
                "%llu value%s plaintext, and identity is not in the provider list: reading fails. "
                "Put identity last in the\nlist while you migrate; if they are none of yours, "
                "somebody planted them. verify --list plaintext names them\n",
                ull(all->unread_plain), all->unread_plain == 1 ? " is" : "s are");
}

static void put_nothing(const struct verify *v, FILE *f)
{
    const struct tools_outside_look *l = &v->c->outside;

    const char *what = v->o->snapshot != NULL ? "the file" : "etcd";

    if (v->c->rules->protected_count == 0) {
        fputs("This configuration protects nothing (identity is alone in each list), so nothing "
              "was looked at. Whether values are\nstill sealed: verify with the configuration "
              "that has identity first, and behind it what sealed them\n",
              f);
        return;
    }
    if (l->found == TOOLS_OUTSIDE_NONE)
        fprintf(f,
                "%s holds no value of the protected resources: if it should, look at --etcd-prefix "
                "and at the resources of the configuration\n",
                what);
    else
        fprintf(f,
                "Warning: %s holds keys%s%s, but none under --etcd-prefix (%s/): if "
                "kube-apiserver's\n--etcd-prefix is another one, this has looked at nothing\n",
                what, l->registry != NULL ? " under " : "", l->registry != NULL ? l->registry : "",
                l->root);
}

static void put_good(const struct verify *v, FILE *f)
{
    uint64_t count = v->counts.all.count;
    const char *opens = v->o->is_open ? "opens" : "fits, as far as its envelope tells";

    if (count == 1)
        fprintf(f, "The 1 value there is is as it would be written now, and %s\n", opens);
    else
        fprintf(f, "All %llu values are as they would be written now, and each %s\n", ull(count),
                opens);
}

static void put_result(const struct verify *v, FILE *f, enum tools_verify_result result)
{
    const struct tools_resource_count *all = &v->counts.all;

    fputc('\n', f);
    put_unreadable(v, f);
    if (all->due > 0)
        fprintf(f, "%llu value%s not as %s would be written now (%llu with a lease)%s\n",
                ull(all->due), all->due == 1 ? " is" : "s are", all->due == 1 ? "it" : "they",
                ull(all->due_leased),
                v->o->snapshot != NULL ? "" : ": etcd-envelope reencrypt rewrites such values");
    if (v->has_key_changed)
        fputs(
            "A plugin took another key during the run: values that were looked at before count as "
            "current, and are not\nany more. Run this again\n",
            f);
    else if (all->due == 0 && result == TOOLS_VERIFY_DUE)
        fputs("Values are sealed with several key ids of one plugin: which is the present one is "
              "told without --no-open\n",
              f);
    if (all->count == 0)
        put_nothing(v, f);
    else if (result == TOOLS_VERIFY_GOOD)
        put_good(v, f);
    if (result == TOOLS_VERIFY_GOOD && all->states[SWEEP_PLAINTEXT] > 0)
        fprintf(f, "%llu of them in plaintext, not encrypted: identity is first in their list\n",
                ull(all->states[SWEEP_PLAINTEXT]));
    put_history(v, f);
}

/* What was seen, which proves nothing of the rest. */
static void put_unfinished(const struct verify *v, FILE *f)
{
    const struct tools_resource_count *all = &v->counts.all;

    if (all->count > 0)
        fprintf(f,
                "Not finished: of %llu values looked at %llu are sealed with the current key, %llu "
                "with an older one, %llu with another\nprovider, %llu are plaintext, %llu do not "
                "open. That proves nothing of the others: run this again\n",
                ull(all->count), ull(all->states[SWEEP_CURRENT]), ull(all->states[SWEEP_OLDER]),
                ull(all->states[SWEEP_OTHER]), ull(all->states[SWEEP_PLAINTEXT]),
                ull(all->states[SWEEP_UNREADABLE]));
}

void tools__verify_report(struct verify *v, enum tools_verify_result result)
{
    FILE *f = v->o->list != TOOLS_LIST_NONE ? v->o->beside : v->o->out;

    if (v->o->is_json) {
        report_json(v, result);
        return;
    }
    if (result == TOOLS_VERIFY_FAILED) {
        put_unfinished(v, v->o->beside);
        return;
    }
    put_head(v, f);
    put_table(v, f);
    put_keys(v, f);
    put_result(v, f, result);
}
