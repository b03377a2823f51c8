/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *reason;
    enum err_fault fault;
    enum grpc_status status;
    enum err_scope scope;
    const char *text;
} errors[ERR_COUNT] = {
#define X(name, reason, fault, status, scope, text)                                                \
    [ERR_##name] = {reason, fault, status, scope, text},
    ERR_TABLE(X)
#undef X
};

const char *err_reason(enum err e)
{
    return errors[e].reason;
}

enum err_fault err_fault(enum err e)
{
    return errors[e].fault;
}

enum grpc_status err_status(enum err e)
{
    return errors[e].status;
}

const char *err_text(enum err e)
{
    return errors[e].text;
}

enum err_scope err_scope(enum err e)
{
    return errors[e].scope;
}

bool err_is_of_value(enum err e)
{
    return errors[e].scope == SCOPE_VALUE;
}

bool err_spares_earlier(enum err e)
{
    return errors[e].scope != SCOPE_CALL;
}

const char *grpc_status_name(enum grpc_status s)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    return (size_t)s < ARRAY_LEN(names) ? names[s] : "UNKNOWN";
}

void base_check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "etcd-envelope: bug: %s:%d: %s\n", file, line, what);
    abort();
}

void *base_xcalloc(size_t count, size_t size)
{
    void *p = calloc(count, size);

    CHECK(p != NULL);
    return p;
}

char *base_xstrdup(const char *s)
{
    char *copy = strdup(s);

    CHECK(copy != NULL);
    return copy;
}
