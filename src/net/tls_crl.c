/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that an authority took back. As etcd's --client-crl-file: a serial number that is in
 * the list is refused, whoever issued it, and a list that is past its time goes on counting, for it
 * says no less than it did.
 * Failure modes: a file without a list is an error, one of its lists that cannot be read, too. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#include "net/net_int.h"

struct net__crl {
    STACK_OF(X509_CRL) * lists;
};

/* PEM, any number of lists; else one in DER, as etcd takes it. False: there was something else. */
static bool read_lists(BIO *bio, STACK_OF(X509_CRL) * lists)
{
    X509_CRL *list;
    bool is_clean;

    while ((list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
        if (sk_X509_CRL_push(lists, list) <= 0) {
            X509_CRL_free(list);
            return false;
        }
    is_clean = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (sk_X509_CRL_num(lists) > 0 || !is_clean)
        return is_clean;
    if (BIO_reset(bio) != 0) /* a file's answers 0 for success */
        return false;
    list = d2i_X509_CRL_bio(bio, NULL);
    if (list != NULL && sk_X509_CRL_push(lists, list) > 0)
        return true;
    X509_CRL_free(list);
    return false;
}

struct net__crl *net__crl_read(const char *path)
{
    struct net__crl *c = calloc(1, sizeof *c);
    BIO *bio = net__file_bio(path);

    ERR_clear_error();
    if (c != NULL)
        c->lists = sk_X509_CRL_new_null();
    if (bio == NULL || c == NULL || c->lists == NULL || !read_lists(bio, c->lists)) {
        net__crl_free(c);
        c = NULL;
    }
    BIO_free(bio);
    return c;
}

bool net__crl_has(const struct net__crl *c, X509 *cert)
{
    for (int i = 0; c != NULL && i < sk_X509_CRL_num(c->lists); i++) {
        X509_REVOKED *found;

        /* 2: taken off the list again, which only a delta list says (RFC 5280 section 5.3.1). */
        if (X509_CRL_get0_by_serial(sk_X509_CRL_value(c->lists, i), &found,
                                    X509_get_serialNumber(cert)) == 1)
            return true;
    }
    return false;
}

size_t net__crl_count(const struct net__crl *c)
{
    size_t n = 0;

    for (int i = 0; i < sk_X509_CRL_num(c->lists); i++) {
        const STACK_OF(X509_REVOKED) *revoked =
            X509_CRL_get_REVOKED(sk_X509_CRL_value(c->lists, i));

        n += revoked == NULL ? 0 : (size_t)sk_X509_REVOKED_num(revoked);
    }
    return n;
}

bool net__crl_ends(const struct net__crl *c, int64_t *unix_s)
{
    bool is_known = false;

    for (int i = 0; i < sk_X509_CRL_num(c->lists); i++) {
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(c->lists, i));
        struct tm tm;
        int64_t ends;

        if (next == NULL || ASN1_TIME_to_tm(next, &tm) != 1)
            continue;
        ends = timegm(&tm);
        if (!is_known || ends < *unix_s)
            *unix_s = ends;
        is_known = true;
    }
    return is_known;
}

void net__crl_free(struct net__crl *c)
{
    if (c == NULL)
        return;
    sk_X509_CRL_pop_free(c->lists, X509_CRL_free);
    free(c);
}
