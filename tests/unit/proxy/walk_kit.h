/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what etcd has said on a stream, and what the client was told. Gives: whether they are
 * the same. Owns: nothing. Thread: one. */
#ifndef TESTS_PROXY_WALK_KIT_H
#define TESTS_PROXY_WALK_KIT_H

#include "rig.h"

#define LINES_MAX 64u

/* What etcd says of a watch, or of one value of a list. */
struct line {
    uint64_t id;
    bool is_created, is_canceled, is_bad;
    size_t len; /* of the value */
    size_t end; /* behind which byte of the speech it is said */
};

/* What somebody says on a stream, piece by piece. */
struct speech {
    struct rec *s;
    struct buf what;
    size_t at;
    bool has_begun; /* etcd: headers were sent */
    bool has_ended;
    bool is_opaque; /* client: its answer is passed on as it comes */
    size_t heard;   /* etcd: messages of the client that were answered */
    uint64_t watch; /* etcd: the next one's id */
    struct line lines[LINES_MAX];
    size_t line_count;
};

/* Whole messages stand before a status. */
void walk_check_whole(const struct rec *c);
/* A list is as etcd has said it, or there is an error. Values are x's. */
void walk_check_list(const struct rec *c, const struct speech *t);
/* Each line of a watch's stream once and in order, but for those of a watch that ended with a value
 * that does not open. The stream is idle, or over. */
void walk_check_watch(const struct rec *c, const struct speech *t);

#endif
