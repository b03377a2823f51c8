/* SPDX-License-Identifier: Apache-2.0 */
/* The capability sets of capabilities(7), by the system calls themselves: what is wanted is to have
 * none, which needs no library. Nothing here fails for a process that has no privileges. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "contain/contain_int.h"

/* Who may not change it keeps it as it is, of no use to anybody: no_new_privs keeps a new program
 * from taking anything out of it. */
static bool empty_bounding_set(void)
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

static bool drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) == 0 && have_none();
}

void contain__drop_privileges(struct contain_state *st)
{
    bool is_bound;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        contain__not_in_force(st, "no_new_privs: %s", strerror(errno));
        return;
    }
    is_bound = empty_bounding_set();
    if (!drop_capabilities()) {
        contain__not_in_force(st, "capabilities can't be dropped: %s", strerror(errno));
        return;
    }
    contain__in_force(st, "no_new_privs, no capabilities%s",
                      is_bound ? "" : " (their bounding set stays)");
}
