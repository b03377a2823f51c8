/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: borrowed header lists. Gives: copies that outlive a callback. Owns: the copies.
 * Thread: one. */
#ifndef PROXY_FIELDS_H
#define PROXY_FIELDS_H

#include "h2/h2.h"

/* A list under construction. Zero-initialised is empty and valid. Names and values are copied, so
 * that a short header cannot pin a read slab. */
struct fields {
    struct h2_field *v;
    size_t count, cap;
    char **chunks; /* owned text, one per field */
};

void fields_fini(struct fields *f);
MUST_CHECK enum err fields_add(struct fields *f, struct bytes name, struct bytes value);
MUST_CHECK enum err fields_add_str(struct fields *f, const char *name, const char *value);
struct h2_fields fields_view(const struct fields *f);
/* The value of the first field with that name; {NULL, 0} when there is none. */
struct bytes fields_find(struct h2_fields h, const char *name);

#endif
