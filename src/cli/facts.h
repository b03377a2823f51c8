/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a stored value. Gives: what it says of itself, without any key. Owns: a list of
 * annotations. Thread: any. */
#ifndef CLI_FACTS_H
#define CLI_FACTS_H

#include "cli/cli_int.h"

struct cli__kind {
    const char *prefix; /* behind "k8s:enc:" */
    const char *provider, *version;
    enum provider_kind kind;
    size_t nonce_len, tag_len;
};

/* Zero means no. */
enum cli__verdict { CLI__MALFORMED = 0, CLI__PLAINTEXT, CLI__ENVELOPE };

struct cli__remark {
    const char *class, *text;
};

#define CLI__REMARKS_MAX 8

struct cli__facts {
    struct bytes value;
    enum cli__verdict verdict;
    const struct cli__kind *kind; /* NULL: plaintext, or of no known provider */
    bool has_name;
    struct bytes name;           /* of the KMS provider or of the local key */
    struct bytes body;           /* behind the name */
    struct cli__object object;   /* kms v2 */
    struct bytes wrapped;        /* kms v1 */
    size_t data_len;             /* info, nonce, ciphertext and tag */
    size_t info_len, text_len;   /* text: the ciphertext */
    bool has_parts;              /* data_len is enough for all of them */
    size_t plain_min, plain_max; /* bytes of plaintext, when has_parts */
    struct cli__remark problems[CLI__REMARKS_MAX], notes[CLI__REMARKS_MAX];
    size_t problem_count, note_count;
};

/* Borrows value until cli__facts_fini. Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err cli__facts_gather(struct bytes value, struct cli__facts *f);
void cli__facts_fini(struct cli__facts *f);

#endif
