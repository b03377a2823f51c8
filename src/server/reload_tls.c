/* SPDX-License-Identifier: Apache-2.0 */
/* TLS files are read again when their content changes. Connections that are open stay as they are;
 * new ones get the new contexts, on both sides.
 * Failure modes: files that cannot be used, or of which only some have changed so far: the contexts
 * in use stay, with one log line for each content. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "config/digest.h"
#include "server/server_int.h"

#define WHY_MAX 4096

void server__tls_hash(const struct server *s, char out[static 72])
{
    const struct settings *o = s->settings;
    const char *files[] = {o->cert_file,   o->key_file,      o->trusted_ca_file, o->client_crl_file,
                           o->etcd_cafile, o->etcd_certfile, o->etcd_keyfile};

    /* Reading a pipe would empty it. It is left out here, and refused later. */
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (files[i] != NULL && file_is_read_once(files[i]))
            files[i] = NULL;
    digest_files(files, ARRAY_LEN(files), out);
}

static void swap_tls(struct net_tls **slot, struct net_tls *fresh)
{
    if (*slot != NULL)
        net_tls_drop(*slot);
    *slot = fresh;
}

/* Makes the contexts of both sides, or none. 0, or an exit status with why. */
static int make_tls(const struct server *s, struct net_tls *out[static 3], char *why,
                    size_t why_len)
{
    int status = 0;

    out[0] = NULL;
    if (s->tls != NULL)
        status = server__make_server_tls(s, &out[0], why, why_len);
    if (status == 0)
        status = server__make_etcd_tls(s, &out[1], &out[2], why, why_len);
    if (status != 0 && out[0] != NULL)
        net_tls_drop(out[0]);
    return status;
}

/* Logs once for each content: events also come for other files of the same directories. */
static void refuse_tls(struct server *s, const char *hash, const char *why)
{
    if (strcmp(hash, s->tls_refused_hash) == 0)
        return;
    snprintf(s->tls_refused_hash, sizeof s->tls_refused_hash, "%s", hash);
    (void)snprintf(s->tls_refused_why, sizeof s->tls_refused_why, "%s", why);
    LOG(ERROR, "TLS files changed but cannot be used: the old ones stay", "reason=\"%s\"", why);
}

static enum err give_tls(struct server *s)
{
    for (size_t i = 0; i < s->worker_count; i++)
        TRY(worker_give_tls(s->workers[i].worker, s->etcd_tls, s->etcd_tls_http1));
    return ERR_OK;
}

void server__reload_tls(struct server *s, bool is_forced)
{
    char why[WHY_MAX] = "", hash[DIGEST_TEXT_LEN];
    struct net_tls *fresh[3];

    server__tls_hash(s, hash);
    if (is_forced || strcmp(hash, s->tls_hash) == 0)
        s->tls_refused_hash[0] = '\0';
    if (strcmp(hash, s->tls_hash) == 0)
        return;
    if (make_tls(s, fresh, why, sizeof why) != 0) {
        refuse_tls(s, hash, why);
        return;
    }
    if (fresh[0] != NULL)
        swap_tls(&s->tls, fresh[0]);
    if (fresh[1] != NULL) {
        swap_tls(&s->etcd_tls, fresh[1]);
        swap_tls(&s->etcd_tls_http1, fresh[2]);
        if (give_tls(s) != ERR_OK) {
            refuse_tls(s, hash, "out of memory"); /* the next event tries again */
            return;
        }
        if (s->converge != NULL &&
            converge_use_tls(s->converge, s->etcd_tls, s->etcd_tls_http1) != ERR_OK)
            LOG(ERROR, "converge keeps its old TLS files: out of memory", "%s", "");
    }
    memcpy(s->tls_hash, hash, sizeof hash);
    s->tls_refused_hash[0] = '\0';
    LOG(INFO, "TLS files reloaded", "%s", "");
    server__judge_key_files(s->settings);
}
