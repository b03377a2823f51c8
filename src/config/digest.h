/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: bytes or files. Gives: "sha256:<64 hex>" of them, as kube-apiserver shows a
 * configuration's hash. Owns: nothing. Thread: any. */
#ifndef CONFIG_DIGEST_H
#define CONFIG_DIGEST_H

#include "base/bytes.h"
#include "base/err.h"

#define DIGEST_TEXT_LEN 72

/* Errors: ERR_CRYPTO. */
MUST_CHECK enum err digest_text(struct bytes text, char out[static DIGEST_TEXT_LEN]);
/* Of a file of at most 4 MiB. Errors: ERR_CONFIG (it cannot be read), ERR_CRYPTO, ERR_NOMEM. */
MUST_CHECK enum err digest_file(const char *path, char out[static DIGEST_TEXT_LEN]);
/* One text for several files: it differs when the content of any differs. NULL names and files that
 * cannot be read count as such. */
void digest_files(const char *const *paths, size_t count, char out[static DIGEST_TEXT_LEN]);

#endif
