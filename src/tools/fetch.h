/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a provider, maybe the id of a DEK. Gives: the DEK, from its KMS plugin. Owns: a loop
 * and a key manager for as long as it waits. Thread: one without a loop of its own. */
#ifndef TOOLS_FETCH_H
#define TOOLS_FETCH_H

#include "policy/ruleset.h"

/* Asks the plugin of a KMS provider for a DEK and waits for the answer: the one that id names, or
 * with id NULL the one to write with. The plugin is checked first, as serve does at its start: a
 * plugin that cannot be used fails here. *out is a reference. Errors, all with why: ERR_NO_STATE,
 * ERR_KMS_AWAY, ERR_NO_WRITE_KEY (not reachable or not usable), ERR_KMS_ERROR, ERR_BAD_DEK_SIZE (it
 * does not unwrap this DEK), ERR_NOMEM, ERR_SYSTEM, ERR_CONFIG. */
MUST_CHECK enum err tools_fetch_dek(const struct ruleset *rules, const struct provider *provider,
                                    const struct dek_id *id, struct dek **out, char *why,
                                    size_t why_len);

#endif
