/* SPDX-License-Identifier: Apache-2.0 */
/* An OpenSSL provider that calls itself FIPS and is not: the algorithms of the default provider
 * that FIPS 140 approves, with the property fips=yes. So the programs' ways in that mode run on
 * systems that have no FIPS provider. */
#ifndef FAKE_FIPS_PROVIDER_H
#define FAKE_FIPS_PROVIDER_H

#include <openssl/provider.h>

#define FAKE_FIPS_NAME "fake FIPS provider of the tests"

/* For OSSL_PROVIDER_add_builtin; the module fips.so has it as OSSL_provider_init. Without the
 * algorithm that the environment variable FAKE_FIPS_WITHOUT names. */
OSSL_provider_init_fn fake_fips_init;

#endif
