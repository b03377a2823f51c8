/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by contain.c, which says what is done in which order, and the files of the parts. */
#ifndef CONTAIN_CONTAIN_INT_H
#define CONTAIN_CONTAIN_INT_H

#include "contain/contain.h"

void contain__in_force(struct contain_state *st, const char *fmt, ...) PRINTF_LIKE(2, 3);
void contain__not_in_force(struct contain_state *st, const char *fmt, ...) PRINTF_LIKE(2, 3);

struct contain_state *contain__state(enum contain_part part);

/* The bounding set, as far as that is allowed. Before contain__become. */
bool contain__empty_bounding_set(void);
/* All other sets. is_bound: what contain__empty_bounding_set said. Of sockets (a list up to NULL)
 * all have to let us in: for one that would not, root keeps its right to pass modes. */
void contain__drop_capabilities(bool is_bound, const char *const *sockets,
                                struct contain_state *st);
/* Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err contain__become(const struct contain_user *u, struct contain_state *st,
                                    char *why, size_t why_len);
/* Does o->connect_sockets let the user in, who we are by now? Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err contain__check_sockets(const struct contain_opts *o, char *why, size_t why_len);
void contain__landlock(const struct contain_opts *o, struct contain_state *st);
/* Of the opener: nothing is written, made or executed any more. */
void contain__landlock_read_only(void);
/* The filter of system calls. is_log: see contain_opts. */
void contain__seccomp(bool is_log, struct contain_state *st);
/* io_uring_setup fails as on a kernel without it; nothing else is forbidden. Without a filter in
 * the kernel it does not, and there is no other one later on either. */
void contain__seccomp_no_rings(void);
/* Of the opener: the few calls that it makes. */
void contain__seccomp_opener(void);
/* Of the opener: all of the above, but that as root it may read everything. */
void contain__opener_rights(void);

#endif
