/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/cli_int.h"

int cli__lock_memory(const struct settings *o)
{
    if (secret_init() != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot set aside memory for keys: %s", strerror(errno));
    if (secret_is_locked() || o->allow_unlocked_memory)
        return CLI_OK;
    return cli__refuse(CLI_ERROR,
                       "cannot lock memory for keys: %s: raise RLIMIT_MEMLOCK (ulimit -l, "
                       "LimitMEMLOCK=) to at least 8 MiB, or, if keys may be written to swap, give "
                       "--allow-unlocked-memory",
                       strerror(secret_lock_error()));
}

static void warn_environment(void)
{
    struct settings_unknown u;
    size_t at = 0;

    while (settings_unknown_env(&at, &u)) {
        static const char what[] = "an environment variable is not used: no flag has this name";

        if (u.meant == NULL)
            LOG(WARN, what, "variable=%.*s", (int)u.name.n, (const char *)u.name.p);
        else
            LOG(WARN, what, "variable=%.*s did_you_mean=--%s", (int)u.name.n,
                (const char *)u.name.p, u.meant);
    }
}

void cli__warn(void)
{
    warn_environment();
    if (!secret_is_locked())
        LOG(WARN, "memory for keys is not locked: keys may be written to swap",
            "reason=\"RLIMIT_MEMLOCK is too small\" allowed_by=--allow-unlocked-memory");
}
