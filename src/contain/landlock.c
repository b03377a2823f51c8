/* SPDX-License-Identifier: Apache-2.0 */
/* landlock(7), by its system calls, for Debian 12's libc has no functions and old headers: what the
 * running kernel knows is asked, and all of it is handled. What no rule names is forbidden.
 * Failure modes: a kernel without Landlock, or one where it is not switched on, or a container that
 * refuses the calls: nothing is in force. A folder that is not there is left out of the rules. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "contain/contain_int.h"

/* Newer than the headers; the numbers are the same on all architectures but alpha. */
#define CALL_CREATE_RULESET 444
#define CALL_ADD_RULE 445
#define CALL_RESTRICT_SELF 446

#define ACCESS_TRUNCATE (1ull << 14)  /* from ABI 3 */
#define ACCESS_IOCTL_DEV (1ull << 15) /* from ABI 5 */
#define NET_BIND_TCP (1ull << 0)      /* from ABI 4 */
#define SCOPE_SIGNAL (1ull << 1)      /* from ABI 6 */

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

/* Everything of ABI 1, to 1 << 12. */
#define ACCESS_FIRST 0x1fffull
#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

static uint64_t all_access(long abi)
{
    uint64_t all = ACCESS_FIRST;

    if (abi >= 2)
        all |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        all |= ACCESS_TRUNCATE;
    if (abi >= 5)
        all |= ACCESS_IOCTL_DEV;
    return all;
}

static int make_ruleset(long abi, uint64_t handled)
{
    const struct ruleset_attr attr = {.handled_access_fs = handled,
                                      .handled_access_net = abi >= 4 ? NET_BIND_TCP : 0,
                                      .scoped = abi >= 6 ? SCOPE_SIGNAL : 0};
    size_t len = abi >= 6   ? sizeof attr
                 : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
                            : offsetof(struct ruleset_attr, handled_access_net);

    return (int)syscall(CALL_CREATE_RULESET, &attr, len, 0);
}

static void allow(int ruleset, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access};
    struct stat st;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return;
    if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rule.allowed_access &=
            ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR; /* a file has no such right */
    (void)syscall(CALL_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
}

static void allow_all(int ruleset, const char *const *paths, uint64_t access)
{
    for (size_t i = 0; i < CONTAIN_FOLDERS_MAX && paths[i] != NULL; i++)
        allow(ruleset, paths[i], access);
}

/* False: errno. */
static bool restrict_self(int ruleset)
{
    return syscall(CALL_RESTRICT_SELF, ruleset, 0) == 0;
}

/* Runtimes of instrumented builds read themselves and write what they found. */
static uint64_t handled_access(long abi)
{
    return CONTAIN_INSTRUMENTED ? LANDLOCK_ACCESS_FS_EXECUTE : all_access(abi);
}

void contain__landlock(const struct contain_opts *o, struct contain_state *st)
{
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t handled = handled_access(abi);
    int ruleset = abi > 0 ? make_ruleset(abi, handled) : -1;

    if (ruleset < 0) {
        contain__not_in_force(st, "the kernel has no Landlock: %s", strerror(errno));
        return;
    }
    allow(ruleset, "/dev/null", handled & LANDLOCK_ACCESS_FS_READ_FILE);
    allow_all(ruleset, o->read_folders, handled & ACCESS_READ);
    allow_all(ruleset, o->socket_folders, handled & LANDLOCK_ACCESS_FS_REMOVE_FILE);
    if (restrict_self(ruleset))
        contain__in_force(st, "ABI %ld%s", abi, CONTAIN_INSTRUMENTED ? ", in part" : "");
    else
        contain__not_in_force(st, "the kernel takes no rules: %s", strerror(errno));
    close(ruleset);
}

void contain__landlock_read_only(void)
{
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int ruleset = abi > 0 ? make_ruleset(abi, handled_access(abi) & ~ACCESS_READ) : -1;

    if (ruleset < 0)
        return;
    (void)restrict_self(ruleset);
    close(ruleset);
}
