/* SPDX-License-Identifier: Apache-2.0 */
/* KMS v2. One check:
 *   1. Status;
 *   2. lifecycle_on_status says whether a new seed is due; then a new random seed is sent to
 *      Encrypt from secret memory;
 *   3. an answer that lifecycle_on_wrapped accepts becomes the write DEK;
 *   4. plugin_end_check.
 * Failure modes: as in plugin.c. */
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/randpool.h"
#include "base/metric_series.h"
#include "kms/codec_int.h"
#include "kms/exposure_int.h"
#include "kms/plugin_int.h"
#include "kms/text.h"

#define SERVICE "/v2.KeyManagementService/"

static void note_status_key_id(const struct plugin *p, struct bytes key_id)
{
    enum err e = dek_key_id_validate(key_id);
    char hash[KMS_HASH_TEXT];
    struct timespec now;

    if (e != ERR_OK) {
        series_add(SERIES_INVALID_KEY_ID,
                   LABELS(e == ERR_KEY_ID_EMPTY ? "empty" : "too_long", p->provider->name), 1);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    series_set(SERIES_KEY_ID_STATUS_TIME, LABELS(kms_hash_text(key_id, hash), p->provider->name),
               (double)now.tv_sec);
}

/* --- the check -------------------------------------------------------------------------------- */

/* The first one of this plugin, as of a start or a reload, is no news of the KMS's. */
static void set_dek(struct plugin *p, struct dek *dek)
{
    enum log_level level = p->is_of_tool ? LOG_DEBUG : LOG_INFO;
    bool is_first = p->dek == NULL;
    char hash[KMS_HASH_TEXT];

    dek_drop(p->dek);
    p->dek = dek;
    kms_hash_text(dek->id.key_id, hash);
    if (log_is_on(level))
        log_write(level, is_first ? "KMS key" : "new KMS key", "provider=\"%s\" key_id_hash=%s",
                  p->provider->name, hash);
}

static void wrap_failed(struct plugin *p, const char *text)
{
    lifecycle_on_wrap_error(&p->life, plugin_time(p), text, p->uid);
    plugin_end_check(p, false);
}

/* The answer of Encrypt was read: judge it. */
static void take_wrapped(struct plugin *p, const struct dek_id *id)
{
    struct dek *dek = NULL;
    enum err e;

    if (kms_answer_exposes(id, bytes_of(p->seed, PLUGIN_SECRET_LEN))) {
        metric_refused(ERR_DEK_SOURCE_EXPOSED);
        wrap_failed(p, KMS_EXPOSURE_TEXT);
        return;
    }
    if (lifecycle_on_wrapped(&p->life, plugin_time(p), id, p->uid) != LIFECYCLE_INSTALL) {
        plugin_end_check(p, false);
        return;
    }
    e = dek_new(id, bytes_of(p->seed, PLUGIN_SECRET_LEN), &dek);
    if (e == ERR_NOMEM) {
        p->on_no_room(p);
        e = dek_new(id, bytes_of(p->seed, PLUGIN_SECRET_LEN), &dek);
    }
    if (e != ERR_OK) {
        wrap_failed(p, err_reason(e));
        return;
    }
    lifecycle_installed(&p->life, plugin_time(p));
    set_dek(p, dek);
    plugin_end_check(p, true);
}

static void on_encrypt(void *arg, const struct client_answer *a)
{
    struct plugin *p = arg;
    struct codec_wrapped w;
    char text[256];
    enum err e;

    p->call = NULL;
    plugin_note_call(p, SERVICE "Encrypt", p->call_began_ns, a);
    if (a->err != ERR_OK || a->status != GRPC_OK) {
        wrap_failed(p, plugin_call_text(a, text, sizeof text));
        return;
    }
    e = codec_wrapped_read(a->body, &w);
    if (e != ERR_OK) {
        wrap_failed(p, e == ERR_NOMEM ? "out of memory" : "malformed answer");
        return;
    }
    take_wrapped(p, &w.id);
    codec_wrapped_fini(&w);
}

static enum err ask_encrypt(struct plugin *p)
{
    struct codec_request req;
    enum err e;

    p->uid[0] = '\0';
    TRY(plugin_make_secret(p, &p->seed));
    TRY(random_uuid(p->uid));
    TRY(codec_encrypt_write(bytes_of(p->seed, PLUGIN_SECRET_LEN), p->uid, &req));
    p->call_began_ns = loop_hrtime_ns();
    e = client_call(p->client, SERVICE "Encrypt", codec_request_bytes(&req), p->timeout_ms,
                    on_encrypt, p, &p->call);
    codec_request_fini(&req);
    return e;
}

static void status_failed(struct plugin *p, const char *text)
{
    lifecycle_on_status_error(&p->life, plugin_time(p), text);
    plugin_end_check(p, false);
}

static void take_status(struct plugin *p, const struct lifecycle_status *s)
{
    enum lifecycle_do next = lifecycle_on_status(&p->life, plugin_time(p), s);

    if (next == LIFECYCLE_WRAP) {
        enum err e = ask_encrypt(p);

        if (e != ERR_OK)
            wrap_failed(p, err_reason(e));
        return;
    }
    plugin_end_check(p, next == LIFECYCLE_EXTENDED);
}

static void on_status(void *arg, const struct client_answer *a)
{
    struct plugin *p = arg;
    struct codec_status s;
    char text[256];
    enum err e;

    p->call = NULL;
    plugin_note_call(p, SERVICE "Status", p->call_began_ns, a);
    if (a->err != ERR_OK || a->status != GRPC_OK) {
        status_failed(p, plugin_call_text(a, text, sizeof text));
        return;
    }
    e = codec_status_read(a->body, &s);
    if (e != ERR_OK) {
        status_failed(p, e == ERR_NOMEM ? "out of memory" : "malformed answer");
        return;
    }
    note_status_key_id(p, s.s.key_id);
    take_status(p, &s.s);
    codec_status_fini(&s);
}

static void check(struct plugin *p)
{
    enum err e;

    p->call_began_ns = loop_hrtime_ns();
    e = client_call(p->client, SERVICE "Status", (struct bytes){0}, p->timeout_ms, on_status, p,
                    &p->call);
    if (e != ERR_OK)
        status_failed(p, err_reason(e));
}

/* --- unwrapping ------------------------------------------------------------------------------- */

static enum err decrypt_write(const struct dek_id *id, struct codec_request *req)
{
    char uid[37];

    TRY(random_uuid(uid));
    return codec_decrypt_write(id, uid, req);
}

static enum err decrypt_read(struct bytes body, union plugin_secret *room, struct bytes *out)
{
    enum err e = codec_secret_read(body, &room->v2);

    *out = room->v2.secret;
    return e;
}

static void decrypt_fini(union plugin_secret *room)
{
    codec_secret_fini(&room->v2);
}

static void note_cache(const struct plugin *p, size_t count, size_t max)
{
    (void)max;
    series_set(SERIES_DEK_SOURCES, LABELS(p->provider->name), (double)count);
}

const struct plugin_ops plugin_v2_ops = {
    .is_polled = true,
    .has_latencies = true,
    .check = check,
    .decrypt = SERVICE "Decrypt",
    .decrypt_write = decrypt_write,
    .decrypt_read = decrypt_read,
    .decrypt_fini = decrypt_fini,
    .note_cache = note_cache,
};
