/* SPDX-License-Identifier: Apache-2.0 */
/* KMS v1. One check:
 *   1. Version, until it was answered right once: nothing else is asked before;
 *   2. Encrypt of a random secret, like that of a write, then Decrypt of what came.
 * kube-apiserver's health check does the same with the word "ping", which may stand in a wrapped
 * secret by chance: that a plugin wraps nothing would not show.
 * There are no polls as long as a check was good: whoever asks for health starts the next one. A
 * DEK for a value: made here, sent to Encrypt, handed on with the wrapped form.
 * Failure modes: whatever fails ends the check as bad; the next one comes after 10 s, or sooner
 * when somebody waits for the plugin (unwrap.c). */
#include <stdio.h>

#include "base/metrics.h"
#include "base/metric_series.h"
#include "base/secret.h"
#include "kms/codec_int.h"
#include "kms/exposure_int.h"
#include "kms/plugin_int.h"
#include "kms/text.h"

#define SERVICE "/v1beta1.KeyManagementService/"

static bool wraps_nothing(struct bytes wrapped, const uint8_t *secret)
{
    const struct dek_id id = {.type = DEK_KMS_V1_KEY, .wrapped = wrapped};

    return kms_answer_exposes(&id, bytes_of(secret, PLUGIN_SECRET_LEN));
}

static void end_check(struct plugin *p, const char *section, const char *text, bool is_reached)
{
    lifecycle_v1_end(&p->life, plugin_time(p), section, text);
    plugin_end_check(p, is_reached);
}

static bool has_failed(const struct client_answer *a)
{
    return a->err != ERR_OK || a->status != GRPC_OK;
}

/* Sends one request of the check, within what is left of its section's time. Takes req. */
static enum err ask(struct plugin *p, const char *method, struct codec_request *req,
                    void (*fn)(void *arg, const struct client_answer *a))
{
    uint64_t now = loop_now_ms(p->loop);
    uint64_t left = p->check_ends_ms > now ? p->check_ends_ms - now : 1;
    enum err e = client_call(p->client, method, codec_request_bytes(req), left, fn, p, &p->call);

    codec_request_fini(req);
    return e;
}

/* --- the check -------------------------------------------------------------------------------- */

static void take_decrypted(struct plugin *p, const struct client_answer *a)
{
    struct codec_v1_answer plain;
    char text[256];
    enum err e;

    if (has_failed(a)) {
        end_check(p, "decrypt", plugin_call_text(a, text, sizeof text), false);
        return;
    }
    e = codec_v1_secret_read(a->body, &plain);
    if (e == ERR_OK && (plain.value.n != PLUGIN_SECRET_LEN ||
                        !secret_eq(plain.value.p, p->seed, PLUGIN_SECRET_LEN)))
        e = ERR_KMS_ERROR;
    codec_v1_answer_fini(&plain);
    end_check(p, "decrypt", e == ERR_OK ? NULL : "it does not give back what was encrypted", false);
}

static void on_decrypted(void *arg, const struct client_answer *a)
{
    struct plugin *p = arg;

    p->call = NULL;
    take_decrypted(p, a);
}

static void ask_decrypt(struct plugin *p, struct bytes wrapped)
{
    struct codec_request req;
    enum err e = codec_v1_decrypt_write(wrapped, &req);

    p->check_ends_ms = loop_now_ms(p->loop) + p->timeout_ms;
    if (e == ERR_OK)
        e = ask(p, SERVICE "Decrypt", &req, on_decrypted);
    if (e != ERR_OK)
        end_check(p, "decrypt", err_reason(e), false);
}

static void on_encrypted(void *arg, const struct client_answer *a)
{
    struct plugin *p = arg;
    struct codec_v1_answer wrapped;
    char text[256];
    enum err e;

    p->call = NULL;
    if (has_failed(a)) {
        end_check(p, "encrypt", plugin_call_text(a, text, sizeof text), false);
        return;
    }
    e = codec_v1_wrapped_read(a->body, &wrapped);
    if (e != ERR_OK) {
        end_check(p, "encrypt", e == ERR_NOMEM ? "out of memory" : "malformed answer", false);
        return;
    }
    if (wraps_nothing(wrapped.value, p->seed)) {
        metric_refused(ERR_DEK_SOURCE_EXPOSED);
        end_check(p, "encrypt", KMS_EXPOSURE_TEXT, false);
    } else {
        ask_decrypt(p, wrapped.value);
    }
    codec_v1_answer_fini(&wrapped);
}

static void ask_encrypt(struct plugin *p)
{
    struct codec_request req;
    enum err e = plugin_random_secret(p, &p->seed);

    if (e == ERR_OK)
        e = codec_v1_encrypt_write(bytes_of(p->seed, PLUGIN_SECRET_LEN), &req);
    if (e == ERR_OK)
        e = ask(p, SERVICE "Encrypt", &req, on_encrypted);
    if (e != ERR_OK)
        end_check(p, "encrypt", err_reason(e), false);
}

/* Writes why the version is not right; false: it is. */
static bool is_wrong_version(const struct client_answer *a, char *text, size_t cap)
{
    struct codec_v1_answer version;
    char clean[64], call[192];
    bool is_wrong;

    if (has_failed(a)) {
        snprintf(text, cap, "failed get version from remote KMS provider: %s",
                 plugin_call_text(a, call, sizeof call));
        return true;
    }
    if (codec_v1_version_read(a->body, &version) != ERR_OK) {
        snprintf(text, cap, "failed get version from remote KMS provider: malformed answer");
        return true;
    }
    is_wrong = !bytes_eq(version.value, BYTES_LIT(CODEC_V1_VERSION));
    snprintf(text, cap, "KMS provider api version %s is not supported, only %s is supported",
             kms_clean_text(version.value, clean, sizeof clean), CODEC_V1_VERSION);
    codec_v1_answer_fini(&version);
    return is_wrong;
}

static void on_version(void *arg, const struct client_answer *a)
{
    struct plugin *p = arg;
    char text[320];

    p->call = NULL;
    if (is_wrong_version(a, text, sizeof text)) {
        end_check(p, "encrypt", text, false);
        return;
    }
    lifecycle_v1_reached(&p->life);
    p->on_checked(p, true); /* what waits for the plugin may go on now */
    ask_encrypt(p);
}

static void check(struct plugin *p)
{
    struct codec_request req;
    enum err e;

    p->check_ends_ms = loop_now_ms(p->loop) + p->timeout_ms;
    if (p->life.has_state) {
        ask_encrypt(p);
        return;
    }
    e = codec_v1_version_write(&req);
    if (e == ERR_OK)
        e = ask(p, SERVICE "Version", &req, on_version);
    if (e != ERR_OK)
        end_check(p, "encrypt", err_reason(e), false);
}

/* --- wrapping --------------------------------------------------------------------------------- */

static void on_wrapped(void *arg, const struct client_answer *a)
{
    struct plugin_unwrap *u = arg;
    struct plugin_answer out = {.verdict = plugin_judge(a)};
    struct codec_v1_answer wrapped = {0};

    u->call = NULL;
    if (out.verdict == PLUGIN_UNWRAPPED) {
        out.err = codec_v1_wrapped_read(a->body, &wrapped);
        out.secret = bytes_of(u->secret, PLUGIN_SECRET_LEN);
        out.id = (struct dek_id){.type = DEK_KMS_V1_KEY, .wrapped = wrapped.value};
        if (out.err != ERR_OK) {
            out.verdict = out.err == ERR_NOMEM ? PLUGIN_FAILED : PLUGIN_REFUSES;
            snprintf(out.why, sizeof out.why, "malformed answer");
        } else if (wraps_nothing(wrapped.value, u->secret)) {
            out.err = ERR_DEK_SOURCE_EXPOSED;
            out.verdict = PLUGIN_REFUSES;
            snprintf(out.why, sizeof out.why, KMS_EXPOSURE_TEXT);
        }
    } else {
        out.err = a->err == ERR_NOMEM ? ERR_NOMEM : ERR_NO_WRITE_KEY;
        plugin_call_text(a, out.why, sizeof out.why);
    }
    u->on_done(u, &out); /* may free u */
    codec_v1_answer_fini(&wrapped);
}

static enum err wrap(struct plugin *p, uint64_t timeout_ms, struct plugin_unwrap *u)
{
    struct codec_request req;
    enum err e;

    TRY(plugin_make_secret(p, &u->secret));
    u->plugin = p;
    u->began_ns = loop_hrtime_ns();
    e = codec_v1_encrypt_write(bytes_of(u->secret, PLUGIN_SECRET_LEN), &req);
    if (e == ERR_OK) {
        e = client_call(p->client, SERVICE "Encrypt", codec_request_bytes(&req), timeout_ms,
                        on_wrapped, u, &u->call);
        codec_request_fini(&req);
    }
    return e; /* the secret goes with u: plugin_unwrap_cancel */
}

/* --- unwrapping ------------------------------------------------------------------------------- */

static enum err decrypt_write(const struct dek_id *id, struct codec_request *req)
{
    return codec_v1_decrypt_write(id->wrapped, req);
}

static enum err decrypt_read(struct bytes body, union plugin_secret *room, struct bytes *out)
{
    enum err e = codec_v1_secret_read(body, &room->v1);

    *out = room->v1.value;
    return e;
}

static void decrypt_fini(union plugin_secret *room)
{
    codec_v1_answer_fini(&room->v1);
}

static void note_cache(const struct plugin *p, size_t count, size_t max)
{
    (void)p;
    series_set(SERIES_V1_FILL, NO_LABELS, (double)count / (double)max);
}

const struct plugin_ops plugin_v1_ops = {
    .check = check,
    .decrypt = SERVICE "Decrypt",
    .decrypt_write = decrypt_write,
    .decrypt_read = decrypt_read,
    .decrypt_fini = decrypt_fini,
    .wrap = wrap,
    .note_cache = note_cache,
};
