/* SPDX-License-Identifier: Apache-2.0 */
/* A decoder for the tests, fed with blocks in hex. */
#ifndef TESTS_HPACK_KIT_H
#define TESTS_HPACK_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2/hpack_int.h"

#define NO_LIMITS ((struct h2__hpack_limits){SIZE_MAX, SIZE_MAX})
#define BLOCK_MAX 4096u

struct fix {
    struct objects mem;
    struct h2__hpack_in in;
    const struct h2__headers *h; /* the last list */
};

void setup(struct fix *f);
void teardown(struct fix *f);
size_t from_hex(const char *hex, uint8_t *out);
/* Of at most BLOCK_MAX bytes. */
enum err decode_as(struct fix *f, const char *hex, enum h2__block kind,
                   struct h2__hpack_limits limits);
/* As an answer without limits. */
enum err decode(struct fix *f, const char *hex);
/* A list as text: a line "name: value" each. Valid until the next call. */
const char *text_of(const struct h2__headers *h);
/* Decodes a request as often as it takes to be remembered. */
void know(struct fix *f, const char *hex);
/* Was the last list remembered? */
bool is_known(const struct fix *f);

#endif
