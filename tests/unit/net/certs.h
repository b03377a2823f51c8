/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a test wants certified. Gives: PEM files in a temporary folder. Owns: the folder,
 * until certs_remove. Thread: one. */
#ifndef TESTS_CERTS_H
#define TESTS_CERTS_H

#include "base/base.h"

#define CERTS_PATH_MAX 256

struct certs {
    char dir[64];
};

struct cert_opts {
    const char *name;   /* of the files: NAME.pem and NAME.key */
    const char *issuer; /* name of an earlier one; NULL: signs itself and is a CA */
    const char *cn;     /* NULL: none */
    const char *san;    /* "DNS:localhost,IP:127.0.0.1"; NULL: none */
    bool is_ca;         /* an intermediate */
    long from_s, to_s;  /* validity from now; both 0: an hour around now */
};

/* Makes the folder. Any failure aborts: a test cannot go on without. */
void certs_init(struct certs *c);
void certs_make(const struct certs *c, const struct cert_opts *o);
/* DIR/NAME.EXT; returns out. */
const char *certs_path(const struct certs *c, const char *name, const char *ext,
                       char out[static CERTS_PATH_MAX]);
void certs_remove(struct certs *c);

#endif
