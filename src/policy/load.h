/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: settings. Gives: the rule set of the files as they are now. Owns: nothing.
 * Thread: control. */
#ifndef POLICY_LOAD_H
#define POLICY_LOAD_H

#include "config/settings.h"
#include "policy/ruleset.h"

/* Loads --encryption-provider-config, which must be given, and applies the flags on keys and
 * providers. A pipe is waited for. On error why says what, without the file's name. Errors:
 * ERR_CONFIG, ERR_NOMEM. */
MUST_CHECK enum err policy_load(const struct settings *o, struct ruleset **out, char *why,
                                size_t why_len);
/* The same while serving: the file may not be a pipe, which can't be read twice. */
MUST_CHECK enum err policy_reload(const struct settings *o, struct ruleset **out, char *why,
                                  size_t why_len);

#endif
