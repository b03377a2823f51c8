/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a stored value. Gives: what it says of itself, without any key. Owns: a list of
 * annotations. Thread: any. */
#ifndef TOOLS_FACTS_H
#define TOOLS_FACTS_H

#include "tools/object.h"

/* Zero means no. */
enum tools_verdict { TOOLS_MALFORMED = 0, TOOLS_PLAINTEXT, TOOLS_ENVELOPE };

struct tools_remark {
    const char *class, *text;
};

#define TOOLS_REMARKS_MAX 8

struct tools_facts {
    struct bytes value;
    enum tools_verdict verdict;
    const struct provider_traits *kind; /* NULL: plaintext, or of no known provider */
    bool has_name;
    struct bytes name;           /* of the KMS provider or of the local key */
    struct bytes body;           /* behind the name */
    struct tools_object object;  /* kms v2 */
    struct bytes wrapped;        /* kms v1 */
    size_t data_len;             /* info, nonce, ciphertext and tag */
    size_t info_len, text_len;   /* text: the ciphertext */
    bool has_parts;              /* data_len is enough for all of them */
    size_t plain_min, plain_max; /* bytes of plaintext, when has_parts */
    struct tools_remark problems[TOOLS_REMARKS_MAX], notes[TOOLS_REMARKS_MAX];
    size_t problem_count, note_count;
};

/* Borrows value until tools_facts_fini. Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err tools_facts_gather(struct bytes value, struct tools_facts *f);
void tools_facts_fini(struct tools_facts *f);

#endif
