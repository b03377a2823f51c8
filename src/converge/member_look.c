/* SPDX-License-Identifier: Apache-2.0 */
/* What proxies have registered, and whether this one is of one mind with all of them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "converge/member_int.h"
#include "kms/text.h"

void converge__forget_look(struct converge_member *m)
{
    m->has_looked = false;
    m->lock_revision = 0;
}

void converge__not_announced(struct converge_member *m)
{
    if (m->record == NULL)
        m->record = m->announced;
    else
        free(m->announced);
    m->announced = NULL;
    converge__forget_look(m);
}

void converge__say_why(struct converge_member *m, const char *fmt, ...)
{
    char before[CONVERGE__WHY_MAX];
    va_list ap;

    snprintf(before, sizeof before, "%s", m->why);
    va_start(ap, fmt);
    vsnprintf(m->why, sizeof m->why, fmt, ap);
    va_end(ap);
    if (!m->has_said_why || strcmp(before, m->why) != 0)
        LOG(WARN, "converge: nothing is rewritten", "reason=\"%s\"", m->why);
    m->has_said_why = true;
}

/* A lease that was kept last before ours was granted, and as long as etcd's leader may have drawn
 * it out when it was elected, has ended by then. */
#define FORMER_SLACK_MS 5000u

struct look {
    struct converge_member *m;
    enum converge_difference difference;
    bool is_ours_there;
    size_t others;
    char why[CONVERGE__WHY_MAX];
};

/* Of this proxy before its start, as far as can be known: another one may have its name. */
static bool may_be_former(const struct converge_member *m, const char *their_name)
{
    char name[CONVERGE_NAME_MAX];

    return strcmp(their_name, converge_record_name(m->announced, name)) == 0 &&
           converge__now_ms(m) - m->joined_ms < m->ttl_ms + FORMER_SLACK_MS;
}

/* Who it is: by the name in the record, or where it lies, for one that says none. */
static const char *who(const char *record, struct bytes key, char out[static CONVERGE_NAME_MAX])
{
    if (converge_record_name(record, out)[0] == '\0')
        kms_clean_text(key, out, CONVERGE_NAME_MAX);
    return out;
}

static void compare_with(struct look *l, struct bytes key, const char *theirs)
{
    char name[CONVERGE_NAME_MAX], why[CONVERGE__WHY_MAX / 2];
    enum converge_difference d = converge_record_compare(l->m->announced, theirs, why, sizeof why);
    bool is_former = may_be_former(l->m, who(theirs, key, name));

    l->others += is_former ? 0 : 1;
    if (is_former && d == CONVERGE_DIFFERS) {
        d = CONVERGE_UNKNOWN;
        if (d < l->difference)
            snprintf(l->why, sizeof l->why,
                     "what this proxy has registered before its last start has not ended yet");
    } else if (d < l->difference) {
        snprintf(l->why, sizeof l->why, "proxy %s: %s", name, why);
    }
    l->difference = d < l->difference ? d : l->difference;
}

static enum err take_record(struct look *l, const struct etcd_kv *kv)
{
    char *theirs = converge_record_copy(kv->value);

    if (theirs == NULL)
        return ERR_NOMEM;
    if (bytes_eq(kv->key, bytes_str(l->m->key))) {
        l->is_ours_there = l->m->announced != NULL && kv->lease == l->m->lease &&
                           strcmp(theirs, l->m->announced) == 0;
    } else if (l->m->announced != NULL) {
        compare_with(l, kv->key, theirs);
    }
    free(theirs);
    return ERR_OK;
}

static void take_lock(struct converge_member *m, const struct etcd_kv *kv)
{
    bool is_new = kv->create_revision != m->any_lock_revision;

    m->has_lock = true;
    m->lock_revision = kv->lease == m->lease ? kv->create_revision : 0;
    m->news += is_new;
    m->any_lock_revision = kv->create_revision;
    m->told += !is_new && kv->mod_revision != m->lock_mod && kv->mod_revision != m->own_touch;
    m->lock_mod = kv->mod_revision;
    kms_clean_text(kv->value, m->holder, sizeof m->holder);
}

static enum err take_all(struct look *l, struct bytes body)
{
    struct etcd_kv kv;
    bool has;

    for (;;) {
        TRY(etcd_message_next_kv(&body, &kv, &has));
        if (!has)
            return ERR_OK;
        if (bytes_eq(kv.key, bytes_str(l->m->lock)))
            take_lock(l->m, &kv);
        else if (bytes_has_prefix(kv.key, bytes_str(l->m->watched)))
            TRY(take_record(l, &kv));
    }
}

/* The time of agreement begins when all are found to write alike with other keys than before. That
 * one does not know its key for a while (its plugin is away) is no change of keys. */
static void note_agreement(struct converge_member *m)
{
    const char *rules = converge_record_rules(m->announced);

    if (m->difference == CONVERGE_DIFFERS) {
        free(m->agreed);
        m->agreed = NULL;
    } else if (m->difference == CONVERGE_AGREES &&
               (m->agreed == NULL || strcmp(m->agreed, rules) != 0)) {
        free(m->agreed);
        m->agreed = strdup(rules);
        m->agreed_ms = converge__now_ms(m);
        m->news++;
    }
}

static void note_difference(struct converge_member *m, const struct look *l)
{
    bool was_known = m->has_looked;
    enum converge_difference before = m->difference;

    m->difference = l->difference;
    m->others = l->others;
    if (l->difference == CONVERGE_AGREES) {
        if (m->has_said_why) {
            LOG(INFO, "converge: all proxies agree", "others=%zu", l->others);
            m->has_said_why = false;
            m->why[0] = '\0';
        }
    } else if (l->difference == CONVERGE_DIFFERS) {
        converge__say_why(m, "%s", l->why);
    } else {
        snprintf(m->why, sizeof m->why, "%s", l->why);
    }
    if (!was_known || before != m->difference)
        LOG(DEBUG, "converge: looked at the other proxies", "others=%zu difference=%d", l->others,
            (int)l->difference);
}

void converge__take_look(struct converge_member *m, struct bytes body)
{
    struct look l = {.m = m, .difference = CONVERGE_AGREES};
    struct etcd_range_answer answer;
    enum err e = etcd_message_read_range(body, &answer);

    m->look_ms = converge__now_ms(m) + CONVERGE__LOOK_MS;
    m->has_lock = false;
    m->lock_revision = 0;
    m->holder[0] = '\0';
    if (e == ERR_OK && (answer.header.revision < 1 || answer.has_more))
        e = ERR_ANS_MALFORMED;
    if (e == ERR_OK)
        e = take_all(&l, body);
    if (e != ERR_OK) {
        converge__forget_look(m);
        return;
    }
    if (!l.is_ours_there) { /* somebody has deleted it, or our lease is another one by now */
        converge__not_announced(m);
        return;
    }
    if (!converge_record_is_complete(m->announced) && l.difference == CONVERGE_AGREES) {
        l.difference = CONVERGE_UNKNOWN;
        snprintf(l.why, sizeof l.why, "this proxy's plugin has not answered yet");
    }
    note_difference(m, &l);
    note_agreement(m);
    m->seen_revision = answer.header.revision;
    m->has_looked = true;
}
