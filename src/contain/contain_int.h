/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by contain.c, which says what is done in which order, and the files of the parts. */
#ifndef CONTAIN_CONTAIN_INT_H
#define CONTAIN_CONTAIN_INT_H

#include "contain/contain.h"

void contain__in_force(struct contain_state *st, const char *fmt, ...) PRINTF_LIKE(2, 3);
void contain__not_in_force(struct contain_state *st, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* no_new_privs, and every set of capabilities empty, the bounding set where that is allowed. */
void contain__drop_privileges(struct contain_state *st);
/* The filter of system calls. is_log: see contain_opts. */
void contain__seccomp(bool is_log, struct contain_state *st);

#endif
