/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: bytes. Gives: whether they are UTF-8. Owns: nothing. Thread: any. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/bytes.h"

/* The length of the character that the bytes begin with, 1 to 4; 0: there are none, or they are no
 * UTF-8 (RFC 3629: surrogates and overlong forms are none). */
size_t utf8_len(struct bytes text);

#endif
