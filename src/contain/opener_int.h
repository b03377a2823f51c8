/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by opener.c, which asks, and opener_process.c, which answers. */
#ifndef CONTAIN_OPENER_INT_H
#define CONTAIN_OPENER_INT_H

#include "contain/opener.h"

enum contain__opener_op { CONTAIN__LOOK, CONTAIN__OPEN };

struct contain__request {
    uint32_t op;
    uint32_t index;
};

struct contain__answer {
    int32_t error; /* 0: the rest is valid */
    uint32_t mode;
};

/* The whole life of the opener. */
_Noreturn void contain__opener_main(int fd, const char *const *paths, size_t count);

#endif
