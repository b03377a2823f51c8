/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: privileges first, since all else needs no_new_privs; the filter last, since it
 * forbids what makes the others.
 * Failure modes: a part that cannot be had says why in its state, and the others are tried even so;
 * only with is_required the start ends. */
#include "contain/contain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "contain/contain_int.h"

static struct contain_state states[CONTAIN_PARTS];
static const char *const names[CONTAIN_PARTS] = {
    [CONTAIN_PRIVILEGES] = "privileges", [CONTAIN_SECCOMP] = "seccomp"};
static const char *const flags[CONTAIN_PARTS] = {
    [CONTAIN_PRIVILEGES] = "--drop-privileges=false", [CONTAIN_SECCOMP] = "--seccomp=false"};

static void set_state(struct contain_state *st, bool is_in_force, const char *fmt, va_list ap)
{
    st->is_in_force = is_in_force;
    (void)vsnprintf(st->text, sizeof st->text, fmt, ap);
}

void contain__in_force(struct contain_state *st, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_state(st, true, fmt, ap);
    va_end(ap);
}

void contain__not_in_force(struct contain_state *st, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_state(st, false, fmt, ap);
    va_end(ap);
}

void contain_prepare(void)
{
    (void)setenv("UV_USE_IO_URING", "0", 1);
}

static enum err judge(const struct contain_opts *o, const bool wanted[static CONTAIN_PARTS],
                      char *why, size_t why_len)
{
    for (size_t i = 0; i < CONTAIN_PARTS; i++)
        if (o->is_required && wanted[i] && !states[i].is_in_force) {
            (void)snprintf(why, why_len, "--require-containment: %s: %s", names[i], states[i].text);
            return ERR_SYSTEM;
        }
    return ERR_OK;
}

enum err contain_process(const struct contain_opts *o, char *why, size_t why_len)
{
    const bool wanted[CONTAIN_PARTS] = {
        [CONTAIN_PRIVILEGES] = o->drop_privileges, [CONTAIN_SECCOMP] = o->seccomp};

    for (size_t i = 0; i < CONTAIN_PARTS; i++)
        contain__not_in_force(&states[i], "%s", flags[i]);
    if (o->drop_privileges)
        contain__drop_privileges(&states[CONTAIN_PRIVILEGES]);
    if (o->seccomp)
        contain__seccomp(o->seccomp_log, &states[CONTAIN_SECCOMP]);
    return judge(o, wanted, why, why_len);
}

const struct contain_state *contain_state(enum contain_part part)
{
    return &states[part];
}

const char *contain_part_name(enum contain_part part)
{
    return names[part];
}

void contain_log(void)
{
    char text[CONTAIN_PARTS][sizeof states[0].text + 16];

    for (size_t i = 0; i < CONTAIN_PARTS; i++)
        (void)snprintf(text[i], sizeof text[i], "%s%s",
                       states[i].is_in_force ? "" : "not in force: ", states[i].text);
    LOG(INFO, "containment", "privileges=\"%s\" seccomp=\"%s\"", text[CONTAIN_PRIVILEGES],
        text[CONTAIN_SECCOMP]);
}
