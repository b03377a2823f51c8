/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what stands behind the prefix of a kms v2 value. Gives: its fields as far as they can
 * be read. Owns: a list of annotations. Thread: any. */
#ifndef TOOLS_OBJECT_H
#define TOOLS_OBJECT_H

#include "envelope/envelope.h"

/* What a kms v2 value says of itself as far as it can be parsed, whether valid or not. Borrows from
 * the value. */
struct tools_object {
    bool is_whole; /* parsed to its end */
    struct dek_id id;
    struct bytes data;                  /* encryptedData */
    size_t unknown_count;               /* fields that no Kubernetes version writes */
    size_t doubled_count;               /* fields given again */
    struct dek_annotation *annotations; /* of id; heap */
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err tools_object_look(struct bytes in, struct tools_object *out);
void tools_object_fini(struct tools_object *o);

#endif
