/* SPDX-License-Identifier: Apache-2.0 */
/* The manager of one plugin and one key ring, on one loop in the calling thread:
 *   1. the manager checks the plugin; on_primed is called after the first check, good or bad;
 *   2. by then the manager has posted the write DEK to our mailbox, so we post a mail of our own,
 *      which is delivered after it;
 *   3. when that mail comes the ring is asked: the write DEK it has, another one takes a wait;
 *   4. all is closed, and the loop ends.
 * Failure modes:
 *  - the plugin cannot be used: why is the reason that the check found;
 *  - it does not answer for the DEK within LIMIT_KEY_WAIT_MS, or refuses: the ring's error. */
#include "tools/fetch.h"

#include <stdlib.h>

#include "kms/keyring.h"
#include "kms/manager.h"
#include "tools/words.h"

struct fetch {
    struct loop loop;
    struct mailbox box;
    struct kms_manager *manager;
    struct keyring *ring;
    struct provider provider; /* a copy with slot 0: there is just this plugin */
    struct kms_plugin_opts plugin;
    const struct dek_id
        *id; /* NULL: a DEK to write with, where each value has its own: a new one */
    struct key_wait wait;
    struct mail behind_news;
    enum err err;
    struct dek *dek;
    char *why;
    size_t why_len;
};

static void on_closed(void *arg)
{
    struct fetch *f = arg;

    mailbox_close(&f->box);
    loop_stop(&f->loop);
}

static void close_all(struct fetch *f)
{
    if (f->ring != NULL) {
        kms_manager_leave(f->manager, f->ring);
        keyring_free(f->ring);
        f->ring = NULL;
    }
    if (f->manager != NULL)
        kms_manager_close(f->manager, on_closed, f);
    else
        on_closed(f);
}

/* dek: a reference, taken. */
static void finish(struct fetch *f, enum err e, struct dek *dek)
{
    f->err = e;
    f->dek = dek;
    close_all(f);
}

static void fail(struct fetch *f, enum err e)
{
    const char *name = f->provider.name;

    switch (e) {
    case ERR_KMS_AWAY:
        snprintf(f->why, f->why_len, "KMS provider %s (%s) did not answer in time", name,
                 f->plugin.endpoint);
        break;
    case ERR_KMS_ERROR:
    case ERR_BAD_DEK_SIZE:
    case ERR_DEK_SOURCE_EXPOSED:
        snprintf(f->why, f->why_len, "%s: %s", err_reason(e), tools_words(e));
        break;
    default:
        snprintf(f->why, f->why_len, "KMS provider %s gives no key: %s", name, tools_words(e));
        break;
    }
    finish(f, e, NULL);
}

static void on_key(struct key_wait *w)
{
    struct fetch *f = w->user;

    if (w->err == ERR_OK)
        finish(f, ERR_OK, w->dek);
    else
        fail(f, w->err);
}

static void on_behind_news(struct mail *self, bool delivered)
{
    struct fetch *f = CONTAINER_OF(self, struct fetch, behind_news);
    struct dek *dek = NULL;
    enum err e;

    if (!delivered)
        return;
    f->wait = (struct key_wait){.on_done = on_key, .user = f};
    if (f->id == NULL && provider_traits(&f->provider)->has_dek_per_value) {
        e = keyring_wrap(f->ring, &f->provider, &f->wait);
    } else if (f->id == NULL) {
        e = keyring_write_key(f->ring, &f->provider, &dek);
        if (e == ERR_OK)
            dek_ref(dek);
    } else {
        e = keyring_get(f->ring, &f->provider, f->id, &f->wait);
        dek = f->wait.dek;
    }
    if (e == ERR_OK)
        finish(f, e, dek);
    else if (e != ERR_AGAIN)
        fail(f, e);
}

static void on_primed(void *arg)
{
    struct fetch *f = arg;
    struct kms_plugin_state state;

    kms_manager_state(f->manager, 0, &state);
    if (!state.has_state) {
        snprintf(f->why, f->why_len, "KMS provider %s (%s) cannot be used: %s", f->provider.name,
                 f->plugin.endpoint, state.why);
        finish(f, ERR_NO_STATE, NULL);
        return;
    }
    f->behind_news.deliver = on_behind_news;
    mailbox_post(&f->box, &f->behind_news);
}

static enum err begin(struct fetch *f)
{
    const struct kms_manager_opts o = {
        .loop = &f->loop, .plugins = &f->plugin, .plugin_count = 1, .is_of_tool = true};

    TRY(kms_manager_new(&o, &f->manager));
    TRY(keyring_new(&f->loop, kms_manager_mailbox(f->manager), &f->box, 1, &f->ring));
    TRY(kms_manager_join(f->manager, &f->box, f->ring));
    kms_manager_on_primed(f->manager, on_primed, f);
    return ERR_OK;
}

enum err tools_fetch_dek(const struct ruleset *rules, const struct provider *provider,
                         const struct dek_id *id, struct dek **out, char *why, size_t why_len)
{
    struct fetch f = {.provider = *provider, .id = id, .why = why, .why_len = why_len};
    enum err e;

    *out = NULL;
    CHECK(provider->slot < rules->plugin_count);
    f.plugin = rules->plugins[provider->slot];
    f.provider.slot = 0;
    f.plugin.provider = &f.provider;
    snprintf(why, why_len, "cannot set up the connection to KMS provider %s", provider->name);
    TRY(loop_init(&f.loop));
    e = mailbox_init(&f.box, &f.loop);
    if (e != ERR_OK) {
        loop_fini(&f.loop);
        return e;
    }
    e = begin(&f);
    if (e != ERR_OK)
        finish(&f, e, NULL);
    loop_run(&f.loop);
    mailbox_fini(&f.box);
    loop_fini(&f.loop);
    *out = f.dek;
    return f.err;
}
