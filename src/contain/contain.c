/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: no_new_privs first, since all else needs it; the filter last, since it forbids
 * what makes the others; then files are the opener's, if it
 * answers.
 * Failure modes: a part that cannot be had says why in its state, and the others are tried even so;
 * only with is_required the start ends. */
#include "contain/contain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "contain/contain_int.h"
#include "contain/opener.h"

static struct contain_state states[CONTAIN_PARTS];
static const char *const names[CONTAIN_PARTS] = {[CONTAIN_USER] = "user",
                                                 [CONTAIN_PRIVILEGES] = "privileges",
                                                 [CONTAIN_LANDLOCK] = "landlock",
                                                 [CONTAIN_SECCOMP] = "seccomp",
                                                 [CONTAIN_OPENER] = "opener"};
static const char *const flags[CONTAIN_PARTS] = {[CONTAIN_USER] = "no --user",
                                                 [CONTAIN_PRIVILEGES] = "--drop-privileges=false",
                                                 [CONTAIN_LANDLOCK] = "--landlock=false",
                                                 [CONTAIN_SECCOMP] = "--seccomp=false",
                                                 [CONTAIN_OPENER] = "files are opened here"};

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

void contain_prepare(bool seccomp)
{
    (void)setenv("UV_USE_IO_URING", "0", 1);
    if (seccomp)
        contain__seccomp_no_rings();
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

/* The plugin's socket is often its own user's alone. What is not there yet may still come. */
enum err contain__check_sockets(const struct contain_opts *o, char *why, size_t why_len)
{
    for (size_t i = 0; o->user != NULL && o->connect_sockets[i] != NULL; i++)
        if (access(o->connect_sockets[i], W_OK) != 0 && errno == EACCES) {
            (void)snprintf(why, why_len, "--user: %s may not connect to %s: %s", o->user->name,
                           o->connect_sockets[i], strerror(errno));
            return ERR_SYSTEM;
        }
    return ERR_OK;
}

/* The bounding set takes a capability to empty, and folders may be root's, so both come before the
 * user; with the user the capabilities go anyway. */
static enum err do_parts(const struct contain_opts *o, char *why, size_t why_len)
{
    bool is_bound = o->drop_privileges && contain__empty_bounding_set();

    if (o->landlock)
        contain__landlock(o, &states[CONTAIN_LANDLOCK]);
    if (o->user != NULL)
        TRY(contain__become(o->user, &states[CONTAIN_USER], why, why_len));
    if (o->drop_privileges)
        contain__drop_capabilities(is_bound, o->connect_sockets, &states[CONTAIN_PRIVILEGES]);
    TRY(contain__check_sockets(o, why, why_len));
    if (o->seccomp)
        contain__seccomp(o->seccomp_log, &states[CONTAIN_SECCOMP]);
    return ERR_OK;
}

enum err contain_process(const struct contain_opts *o, char *why, size_t why_len)
{
    const bool wanted[CONTAIN_PARTS] = {[CONTAIN_PRIVILEGES] = o->drop_privileges,
                                        [CONTAIN_LANDLOCK] = o->landlock,
                                        [CONTAIN_SECCOMP] = o->seccomp};

    struct contain_opts can = *o;

    for (size_t i = 0; i < CONTAIN_PARTS; i++)
        contain__not_in_force(&states[i], "%s", flags[i]);
    if ((o->drop_privileges || o->landlock || o->seccomp || o->user != NULL) &&
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        for (size_t i = 0; i < CONTAIN_PARTS; i++)
            if (wanted[i])
                contain__not_in_force(&states[i], "no_new_privs: %s", strerror(errno));
        can.drop_privileges = can.landlock = can.seccomp = false;
    }
    TRY(do_parts(&can, why, why_len));
    TRY(opener_use(why, why_len));
    return judge(o, wanted, why, why_len);
}

struct contain_state *contain__state(enum contain_part part)
{
    return &states[part];
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
    LOG(INFO, "containment",
        "user=\"%s\" privileges=\"%s\" landlock=\"%s\" seccomp=\"%s\" opener=\"%s\"",
        text[CONTAIN_USER], text[CONTAIN_PRIVILEGES], text[CONTAIN_LANDLOCK], text[CONTAIN_SECCOMP],
        text[CONTAIN_OPENER]);
}
