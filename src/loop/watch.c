/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: one inotify handle per directory; an event starts the short timer, the short
 * timer calls fn. The long timer calls it, too, for file systems without events. Failure modes: no
 * handle for a directory: its files are left to the long timer. */
#include "loop/watch.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_MS 100 /* a file is often written in several steps */

struct watch_dir {
    uv_fs_event_t uv;
    struct loop_watch *owner; /* NULL once the owner is closed */
    struct watch_dir *next;
    char *path;
};

struct loop_watch {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    uint64_t interval_ms;
    struct loop_timer settle, interval;
    struct watch_dir *dirs;
};

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    struct watch_dir *d = handle->data;

    (void)name;
    (void)events;
    (void)status;
    if (d->owner != NULL && !loop_timer_is_active(&d->owner->settle) &&
        loop_timer_start(d->owner->loop, &d->owner->settle, SETTLE_MS) != ERR_OK)
        d->owner->fn(d->owner->arg);
}

static void on_settled(struct loop_timer *t)
{
    struct loop_watch *w = CONTAINER_OF(t, struct loop_watch, settle);

    w->fn(w->arg);
}

static void on_interval(struct loop_timer *t)
{
    struct loop_watch *w = CONTAINER_OF(t, struct loop_watch, interval);

    if (loop_timer_start(w->loop, &w->interval, w->interval_ms) == ERR_OK)
        w->fn(w->arg);
}

static void dir_free(uv_handle_t *handle)
{
    struct watch_dir *d = handle->data;

    free(d->path);
    free(d);
}

static enum err add_dir(struct loop_watch *w, const char *file)
{
    char *copy = strdup(file);
    char *path = copy == NULL ? NULL : strdup(dirname(copy));
    struct watch_dir *d = calloc(1, sizeof *d);

    free(copy);
    if (path == NULL || d == NULL)
        goto err_free;
    for (const struct watch_dir *it = w->dirs; it != NULL; it = it->next) {
        if (strcmp(it->path, path) == 0) {
            free(path);
            free(d);
            return ERR_OK;
        }
    }
    if (uv_fs_event_init(&w->loop->uv, &d->uv) != 0)
        goto err_free;
    d->uv.data = d;
    d->path = path;
    d->owner = w;
    d->next = w->dirs;
    w->dirs = d;
    (void)uv_fs_event_start(&d->uv, on_event, path, 0); /* else the interval serves it */
    return ERR_OK;

err_free:
    free(path);
    free(d);
    return ERR_NOMEM;
}

enum err loop_watch_new(struct loop *loop, const char *const *paths, size_t count,
                        uint64_t interval_ms, void (*fn)(void *arg), void *arg,
                        struct loop_watch **out)
{
    struct loop_watch *w = calloc(1, sizeof *w);
    enum err e = ERR_OK;

    if (w == NULL)
        return ERR_NOMEM;
    *w = (struct loop_watch){.loop = loop, .fn = fn, .arg = arg, .interval_ms = interval_ms};
    loop_timer_init(&w->settle, on_settled);
    loop_timer_init(&w->interval, on_interval);
    for (size_t i = 0; i < count && e == ERR_OK; i++)
        e = add_dir(w, paths[i]);
    if (e == ERR_OK)
        e = loop_timer_start(loop, &w->interval, interval_ms);
    if (e != ERR_OK) {
        loop_watch_close(w);
        return e;
    }
    *out = w;
    return ERR_OK;
}

void loop_watch_close(struct loop_watch *w)
{
    if (w == NULL)
        return;
    while (w->dirs != NULL) {
        struct watch_dir *d = w->dirs;

        w->dirs = d->next;
        d->owner = NULL;
        uv_close((uv_handle_t *)&d->uv, dir_free);
    }
    loop_timer_fini(&w->settle);
    loop_timer_fini(&w->interval);
    free(w);
}
