/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the rule set in use and one that is to take its place. Gives: whether stored values
 * would be left without the key that opens them. Owns: a connection to etcd of its own. Thread: its
 * loop's.
 *
 * A key is dropped when it is in the list of a resource now and not in the new one: a key of the
 * configuration, a KMS plugin, or identity, which reads plaintext. Where none is, nothing is asked
 * and nothing delayed. Else:
 *
 *   READING -- no registered proxy writes with such a key --> LOOKING -- at all values --> decided
 *      ^ `-- one does, or this one is not settled --> WAITING, a second
 *      `--------------------'
 *
 * The look begins only when nobody who is known of writes with the key any more, for what is
 * written behind it would not be seen; who has registered something that is not understood (another
 * version's, see record.h) counts as one who does. KMS values are judged by what stands on their
 * envelopes, so a plugin that is gone does not keep a look from ending; others are opened, since
 * keys of one name may be several.
 *
 * Failure modes: etcd away, refusing, or too large to be looked through in CONVERGE_DROP_MS: what
 * is not known counts as needed. */
#ifndef CONVERGE_DROP_H
#define CONVERGE_DROP_H

#include "net/addr.h"
#include "net/tls.h"
#include "policy/ruleset.h"
#include "sweep/login.h"

#define CONVERGE_DROP_MS 60000u

struct converge_drop;

struct converge_drop_opts {
    struct loop *loop;
    const struct net_url *etcd_urls; /* borrowed, as all of this until it is decided */
    size_t etcd_url_count;
    struct net_tls *tls;
    struct sweep_login *login; /* NULL: of nobody */
    const char *place;         /* where proxies are registered: see member.h */
    bool has_to_read_it; /* false: an etcd that forbids us to read there has nobody registered */
    struct ruleset *now, *next;
    /* Is all that this proxy sealed under rule sets before `now` in etcd, or over? NULL: yes. */
    bool (*is_settled)(void *user);
    /* Once, from the loop; converge_drop_free is due, and may be called from inside. ERR_OK:
     * nothing needs a key that is dropped. ERR_CONFIG: something does, and why says what. Else it
     * is not known, and why says why not. */
    void (*on_decided)(void *user, enum err e, const char *why);
    void *user;
};

/* *out NULL: no key is dropped, and nothing is called. Errors: ERR_CONFIG with why (this proxy
 * writes with a key that would be dropped), ERR_NOMEM. */
MUST_CHECK enum err converge_drop_start(const struct converge_drop_opts *o,
                                        struct converge_drop **out, char *why, size_t why_len);
/* on_decided is not called any more. */
void converge_drop_free(struct converge_drop *d);

#endif
