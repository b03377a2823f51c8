/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/json.h"
#include "base/log.h"
#include "tools/quarantine_int.h"
#include "tools/words.h"

static const char *fate_text(const struct quarantine *q, const struct tools__case *k)
{
    switch (k->fate) {
    case TOOLS__MOVED:
        return q->o->is_discard ? "deleted" : q->o->is_restore ? "moved back" : "moved";
    case TOOLS__ALLOWED:
        return q->o->is_discard ? "not deleted" : "not moved";
    case TOOLS__LEFT:
        return "left";
    default:
        return "refused";
    }
}

static bool was_looked_at(const struct tools__case *k)
{
    return k->is_found && (k->state == SWEEP_UNREADABLE || k->err != ERR_OK);
}

static const char *result_text(enum tools_quarantine_result r)
{
    static const char *const texts[] = {[TOOLS_QUARANTINE_FAILED] = "failed",
                                        [TOOLS_QUARANTINE_REFUSED] = "refused",
                                        [TOOLS_QUARANTINE_PLANNED] = "nothing done",
                                        [TOOLS_QUARANTINE_PART] = "done in part",
                                        [TOOLS_QUARANTINE_GOOD] = "good"};

    return texts[r];
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void json_case(const struct quarantine *q, struct json *j, const struct tools__case *k)
{
    json_open(j, NULL, '{');
    json_text(j, "key", k->key);
    json_text(j, "copy", k->copy);
    json_text(j, "resource", k->list->resource);
    json_text(j, "fate", fate_text(q, k));
    if (k->why != NULL)
        json_text(j, "why", k->why);
    if (was_looked_at(k) && k->err != ERR_OK)
        json_text(j, "reason", err_reason(k->err));
    if (k->is_found)
        json_number(j, "mod_revision", k->mod_revision);
    json_close(j, '}');
}

static void report_json(const struct quarantine *q, enum tools_quarantine_result result)
{
    struct json j = {.f = q->o->out};

    json_open(&j, NULL, '{');
    json_text(&j, "result", result_text(result));
    if (result == TOOLS_QUARANTINE_FAILED)
        json_text(&j, "error", q->c->why);
    json_bool(&j, "restore", q->o->is_restore);
    json_bool(&j, "discard", q->o->is_discard);
    if (q->refused_kind != NULL)
        json_text(&j, "too_much_unreadable_of", q->refused_kind);
    json_open(&j, "keys", '[');
    for (size_t i = 0; i < q->count; i++)
        json_case(q, &j, &q->v[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    fputc('\n', q->o->out);
}

/* --- text ------------------------------------------------------------------------------------- */

static void put_case(const struct quarantine *q, const struct tools__case *k)
{
    char key[LOG_KEY_MAX];
    FILE *f = q->o->out;

    fprintf(f, "%-10s  %s", fate_text(q, k), log_key(k->key, strlen(k->key), key));
    if (was_looked_at(k) && k->err != ERR_OK &&
        k->state != SWEEP_PLAINTEXT) /* of plaintext the rule says all */
        fprintf(f, "  (%s)", tools_words(k->err));
    if (k->why != NULL)
        fprintf(f, ": %s", k->why);
    if (k->lease != 0)
        fputs("; the copy has no lease", f);
    fputc('\n', f);
}

static void put_kinds(const struct quarantine *q)
{
    for (size_t i = 0; i < q->counts.count; i++) {
        const struct tools_resource_count *r = &q->counts.v[i];

        fprintf(q->o->out, "%s: %" PRIu64 " of %" PRIu64 " values do not open\n", r->resource,
                r->states[SWEEP_UNREADABLE] + r->unread_plain, r->count);
    }
    if (q->refused_kind != NULL)
        fprintf(q->o->out,
                "Refused: of %s more than %u %% do not open, so the configuration is wrong rather "
                "than the values.\nLook at verify and at the configuration's keys; if it is right "
                "all the same, raise --unreadable-limit\n",
                q->refused_kind, q->o->percent);
}

/* Before it is done as well as afterwards. */
static void put_warning(const struct quarantine *q)
{
    if (q->o->is_restore || q->o->is_discard)
        return;
    fprintf(
        q->o->out,
        "For kube-apiserver a quarantined object is deleted: its garbage collector deletes what "
        "names the object as its\nowner, and controllers may make it anew. The copies are under "
        "%s, as they were%s.\nBack: quarantine --restore. An apiserver that decrypts by "
        "itself has a way of its own, the feature gate\nAllowUnsafeMalformedObjectDeletion, "
        "which deletes without a copy\n",
        q->o->prefix, q->o->has_plaintext ? ": plaintext stays plaintext" : ", sealed");
}

static void report_text(const struct quarantine *q, enum tools_quarantine_result result)
{
    const char *done = q->o->is_discard ? "deleted" : "moved";
    size_t moved = 0;

    for (size_t i = 0; i < q->count; i++) {
        moved += q->v[i].fate == TOOLS__MOVED;
        if (result != TOOLS_QUARANTINE_FAILED || q->v[i].fate == TOOLS__MOVED)
            put_case(q, &q->v[i]);
    }
    if (result == TOOLS_QUARANTINE_FAILED) {
        if (moved > 0)
            fprintf(q->o->out, "Not finished: %zu of %zu %s\n", moved, q->count, done);
        return;
    }
    put_kinds(q);
    if (result == TOOLS_QUARANTINE_REFUSED)
        fprintf(q->o->out, "Nothing was %s\n", done);
    else
        put_warning(q);
    if (result == TOOLS_QUARANTINE_PLANNED)
        fprintf(q->o->out, "Nothing was %s: with --yes %s\n", done,
                q->count == 1 ? "it is" : "all of them are");
}

void tools__quarantine_report(const struct quarantine *q, enum tools_quarantine_result result)
{
    if (q->o->is_json)
        report_json(q, result);
    else
        report_text(q, result);
}
