/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: OpenSSL's configuration. Gives: whether it asks for FIPS 140's algorithms alone.
 * Owns: nothing. Thread: fips_init before threads start, the rest any.
 *
 * OpenSSL is told by its own configuration (default_properties = fips=yes, and the FIPS provider
 * activated). Then every key derivation, hash, cipher and random byte comes from that provider,
 * and what it does not have is refused. Else the program takes its faster own ways. */
#ifndef BASE_FIPS_H
#define BASE_FIPS_H

#include <stdbool.h>

#include "base/err.h"

extern bool fips__on;

/* Reads OpenSSL's configuration. ERR_CRYPTO: it asks for FIPS's algorithms, and *missing, which no
 * active provider has with fips=yes, is one that the program cannot do without. */
MUST_CHECK enum err fips_init(const char **missing);
/* False before fips_init. */
static inline bool fips_is_on(void)
{
    return fips__on;
}

#define FIPS_PROVIDER_TEXT 96

/* Name and version of the provider that has AES-256-GCM in force, as it calls itself. */
const char *fips_provider(char out[static FIPS_PROVIDER_TEXT]);

/* A line of the log, if it is on. */
void fips_log(void);

/* For people, with what is missing. */
#define FIPS_MISSING                                                                               \
    "OpenSSL's configuration asks for fips=yes, but no active provider has %s with it: activate "  \
    "the FIPS provider in openssl.cnf"

/* What a configuration and a report say of an algorithm that is not there then. */
#define FIPS_NO_SECRETBOX                                                                          \
    "secretbox (XSalsa20-Poly1305) is no FIPS algorithm, and OpenSSL's configuration asks for "    \
    "fips=yes: nothing is sealed or opened with it"

#endif
