/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: the body of /configz: the settings and the encryption
 * configuration in use, as YAML, without any secret. Owns: nothing. Thread: control. */
#ifndef CLI_SERVE_CONFIGZ_H
#define CLI_SERVE_CONFIGZ_H

#include <stdio.h>

#include "proxy/server_status.h"

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err serve_configz_write(const struct server *server,
                                        const struct settings *settings, FILE *f);

#endif
