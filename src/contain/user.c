/* SPDX-License-Identifier: Apache-2.0 */
/* From root to somebody else, for good. Unlike the other parts this one is an error when it cannot
 * be done: who names a user does not want to run as root. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "contain/contain_int.h"

#define NAME_BUFFER 16384

static enum err fail(char *why, size_t why_len, const char *name, const char *what)
{
    (void)snprintf(why, why_len, "--user: %s: %s", name, what);
    return ERR_SYSTEM;
}

enum err contain_find_user(const char *name, struct contain_user *out, char *why, size_t why_len)
{
    static char buffer[NAME_BUFFER];
    struct passwd entry, *found = NULL;
    int count = CONTAIN_GROUPS_MAX, error;

    if (geteuid() != 0)
        return fail(why, why_len, name, "only root can become another user");
    error = getpwnam_r(name, &entry, buffer, sizeof buffer, &found);
    if (error != 0) {
        (void)snprintf(why, why_len, "--user: %s: cannot look it up: %s", name, strerror(error));
        return ERR_SYSTEM;
    }
    if (found == NULL)
        return fail(why, why_len, name, "there is no such user");
    if (found->pw_uid == 0)
        return fail(why, why_len, name, "that is root again");
    *out = (struct contain_user){.name = name, .uid = found->pw_uid, .gid = found->pw_gid};
    if (getgrouplist(name, found->pw_gid, out->groups, &count) < 0)
        return fail(why, why_len, name, "in too many groups");
    out->group_count = (size_t)count;
    return ERR_OK;
}

/* Root's rights are gone for real: none of the ways back works. */
static bool is_for_good(const struct contain_user *u)
{
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;

    if (getresuid(&real, &effective, &saved) != 0 ||
        getresgid(&real_group, &effective_group, &saved_group) != 0)
        return false;
    return real == u->uid && effective == u->uid && saved == u->uid && real_group == u->gid &&
           effective_group == u->gid && saved_group == u->gid && setuid(0) != 0 &&
           seteuid(0) != 0 && setresuid(0, 0, 0) != 0 && setgid(0) != 0 && setgroups(0, NULL) != 0;
}

enum err contain__become(const struct contain_user *u, struct contain_state *st, char *why,
                         size_t why_len)
{
    const char *what = NULL;

    if (setgroups(u->group_count, u->groups) != 0)
        what = "its groups";
    else if (setresgid(u->gid, u->gid, u->gid) != 0)
        what = "its group";
    else if (setresuid(u->uid, u->uid, u->uid) != 0)
        what = "it";
    if (what != NULL) {
        (void)snprintf(why, why_len, "--user: %s: cannot take %s: %s", u->name, what,
                       strerror(errno));
        return ERR_SYSTEM;
    }
    /* Another user makes the kernel decide anew. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || !is_for_good(u))
        return fail(why, why_len, u->name, "root's rights are not gone");
    contain__in_force(st, "%.40s, %u:%u, %zu groups", u->name, (unsigned)u->uid, (unsigned)u->gid,
                      u->group_count);
    return ERR_OK;
}
