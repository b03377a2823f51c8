/* SPDX-License-Identifier: Apache-2.0 */
/* The capability sets of capabilities(7), by the system calls themselves: what is wanted is to have
 * none, which needs no library. Nothing here fails for a process that has no privileges. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "contain/contain_int.h"

/* Who may not change it keeps it as it is, of no use to anybody: no_new_privs keeps a new program
 * from taking anything out of it. */
bool contain__empty_bounding_set(void)
{
    bool is_empty = true;

    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            is_empty = false;
    return is_empty;
}

static bool have_none(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &head, sets) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        if (sets[i].effective != 0 || sets[i].permitted != 0 || sets[i].inheritable != 0)
            return false;
    return true;
}

/* Without capabilities that count, is there a socket that lets others in and not us, or that is
 * still to come and may be such a one? Root may do without all of them but where a peer's socket is
 * its own user's alone. */
static const char *closed_socket(const char *const *sockets)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &head, sets) != 0)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        sets[i].effective = 0;
    if (syscall(SYS_capset, &head, sets) != 0)
        return NULL;
    for (size_t i = 0; sockets[i] != NULL; i++)
        if (faccessat(AT_FDCWD, sockets[i], W_OK, AT_EACCESS) != 0 &&
            (errno == EACCES || errno == ENOENT))
            return sockets[i];
    return NULL;
}

/* Keeps those that a mask names. */
static bool keep_only(uint32_t mask)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {
        {.effective = mask, .permitted = mask}};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, sets) == 0;
}

void contain__drop_capabilities(bool is_bound, const char *const *sockets, struct contain_state *st)
{
    const char *closed = have_none() ? NULL : closed_socket(sockets);

    if (closed != NULL && keep_only(1u << CAP_DAC_OVERRIDE))
        contain__in_force(st, "no_new_privs, CAP_DAC_OVERRIDE alone, for %.60s", closed);
    /* Whoever has none may be forbidden to say so, as in a unit of systemd's. */
    else if (have_none() || (keep_only(0) && have_none()))
        contain__in_force(st, "no_new_privs, no capabilities%s",
                          is_bound ? "" : " (their bounding set stays)");
    else
        contain__not_in_force(st, "capabilities can't be dropped: %s", strerror(errno));
}

void contain__opener_rights(void)
{
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)contain__empty_bounding_set();
    if (!keep_only(1u << CAP_DAC_READ_SEARCH))
        (void)keep_only(0); /* who never had it */
    contain__landlock_read_only();
    contain__seccomp_opener();
}
