/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "loop/preflight.h"

int cli__try_limits(void)
{
    char why[CLI__WHY_MAX];

    if (loop_try_descriptors(LOOP_DESCRIPTORS, why, sizeof why) == ERR_OK &&
        loop_try_threads(1 + loop_pool_threads(), why, sizeof why) == ERR_OK)
        return CLI_OK;
    return cli__refuse(CLI_ERROR, "%s", why);
}

int cli__begin(const struct settings *o, enum log_level level)
{
    int status = cli__try_limits();

    if (status == CLI_OK && log_start(level, o->log_format) != ERR_OK)
        status = cli__refuse(CLI_ERROR, "cannot start the log: %s", strerror(errno));
    return status;
}
