/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path:
 *   1. a name is resolved by hand, symlink by symlink, and each entry on the way (a directory and a
 *      name in it) gets an inotify handle before it is looked at, so that no change falls between;
 *      the file itself gets one, too, for writes through another name of it (a bind mount);
 *   2. an event of such an entry starts the short timer, which lets several steps become one;
 *   3. the short timer resolves all names again, with fresh handles, and calls fn.
 * The long timer does the same, for file systems without events.
 * Failure modes:
 *  - an entry is missing: resolving ends there, and its directory's handle reports when it appears;
 *  - a directory gets no handle (not readable, no watches left), or there are more symlinks than
 *    the kernel follows: left to the long timer;
 *  - no memory for new handles: the old ones stay until the next event;
 *  - a file system hangs: the process that opens files hears of it first (contain/opener.h), and
 *    nothing is resolved here, for that would hang, too. The old handles stay. */
#include "loop/watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define SETTLE_MS 100 /* a file is often written in several steps */
#define LINKS_MAX 40  /* the kernel's own limit */

/* One handle; several of the same directory cost the kernel one watch. */
struct watch_entry {
    uv_fs_event_t uv;
    struct loop_watch *owner; /* NULL once it is not wanted any more */
    struct watch_entry *next;
    char *dir;
    char *name; /* NULL: dir is the file itself, and every event counts */
};

struct loop_watch {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    uint64_t interval_ms;
    struct loop_timer settle, interval;
    struct {
        char *given, *path; /* as it was given, and absolute */
    } * names;
    size_t count;
    struct watch_entry *entries;
};

/* A name that is being resolved: dir has no symlink in it and no slash at its end ("" is the root);
 * rest is what is still to be walked. */
struct walk {
    char dir[PATH_MAX];
    char rest[PATH_MAX];
    unsigned links;
};

/* --- handles --------------------------------------------------------------------------------- */

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    const struct watch_entry *n = handle->data;
    struct loop_watch *w = n->owner;

    (void)events;
    if (w == NULL || loop_timer_is_active(&w->settle))
        return;
    if (status == 0 && n->name != NULL && name != NULL && strcmp(name, n->name) != 0)
        return; /* another file of the same directory */
    if (loop_timer_start(w->loop, &w->settle, SETTLE_MS) != ERR_OK)
        w->fn(w->arg);
}

static void entry_free(struct watch_entry *n)
{
    free(n->dir);
    free(n->name);
    free(n);
}

static void on_closed(uv_handle_t *handle)
{
    entry_free(handle->data);
}

static void entries_close(struct watch_entry *n)
{
    while (n != NULL) {
        struct watch_entry *next = n->next;

        n->owner = NULL;
        uv_close((uv_handle_t *)&n->uv, on_closed);
        n = next;
    }
}

static bool has_entry(const struct loop_watch *w, const char *dir, const char *name)
{
    for (const struct watch_entry *n = w->entries; n != NULL; n = n->next)
        if (strcmp(n->dir, dir) == 0 && (name == NULL) == (n->name == NULL) &&
            (name == NULL || strcmp(n->name, name) == 0))
            return true;
    return false;
}

static enum err add_entry(struct loop_watch *w, const char *dir, const char *name)
{
    struct watch_entry *n;

    if (has_entry(w, dir, name))
        return ERR_OK;
    n = calloc(1, sizeof *n);
    if (n == NULL)
        return ERR_NOMEM;
    n->dir = strdup(dir);
    n->name = name == NULL ? NULL : strdup(name);
    if (n->dir == NULL || (name != NULL && n->name == NULL) ||
        uv_fs_event_init(&w->loop->uv, &n->uv) != 0) {
        entry_free(n);
        return ERR_NOMEM;
    }
    n->uv.data = n;
    n->owner = w;
    n->next = w->entries;
    w->entries = n;
    (void)uv_fs_event_start(&n->uv, on_event, dir[0] == '\0' ? "/" : dir, 0);
    return ERR_OK;
}

/* --- resolving ------------------------------------------------------------------------------- */

/* Puts the link's target before rest. False: it cannot be followed. */
static bool follow(struct walk *k, const char *path)
{
    char target[PATH_MAX];
    ssize_t got = readlink(path, target, sizeof target);
    size_t n = got > 0 ? (size_t)got : 0, rest_len = strlen(k->rest) + 1;

    if (n == 0 || ++k->links > LINKS_MAX || n + rest_len > sizeof k->rest)
        return false;
    memmove(k->rest + n, k->rest, rest_len);
    memcpy(k->rest, target, n);
    if (target[0] == '/')
        k->dir[0] = '\0';
    return true;
}

/* Moves one component on. False: the name cannot be resolved any further. */
static bool step(struct walk *k, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    int n;

    if (strcmp(name, ".") == 0)
        return true;
    if (strcmp(name, "..") == 0) {
        char *slash = strrchr(k->dir, '/');

        if (slash != NULL)
            *slash = '\0';
        return true;
    }
    n = snprintf(path, sizeof path, "%s/%s", k->dir, name);
    if (n < 0 || (size_t)n >= sizeof path || lstat(path, &st) != 0)
        return false;
    if (S_ISLNK(st.st_mode))
        return follow(k, path);
    memcpy(k->dir, path, (size_t)n + 1);
    return true;
}

static enum err resolve(struct loop_watch *w, const char *path)
{
    char name[NAME_MAX + 1];
    struct walk k = {.links = 0};

    if (strlen(path) >= sizeof k.rest)
        return ERR_OK; /* no system call would take it either */
    memcpy(k.rest, path, strlen(path) + 1);
    while (file_path_next(k.rest, name)) {
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            TRY(add_entry(w, k.dir, name)); /* before step looks at it */
        if (!step(&k, name))
            return ERR_OK;
    }
    if (k.rest[strspn(k.rest, "/")] != '\0')
        return ERR_OK; /* a name that is too long */
    return add_entry(w, k.dir, NULL);
}

/* Makes new handles for all names, then closes the old ones: the kernel drops the watch of a
 * directory that was deleted, also when it was made again. */
static enum err resolve_all(struct loop_watch *w)
{
    struct watch_entry *old = w->entries, *fresh;
    enum err e = ERR_OK;

    for (size_t i = 0; i < w->count; i++)
        if (!file_can_be_looked_at(w->names[i].given))
            return ERR_TIMEOUT;
    w->entries = NULL;
    for (size_t i = 0; i < w->count && e == ERR_OK; i++)
        e = resolve(w, w->names[i].path);
    if (e == ERR_OK) {
        entries_close(old);
        return ERR_OK;
    }
    fresh = w->entries;
    w->entries = old;
    entries_close(fresh);
    return e;
}

/* --- timers ---------------------------------------------------------------------------------- */

static void on_settled(struct loop_timer *t)
{
    struct loop_watch *w = CONTAINER_OF(t, struct loop_watch, settle);

    (void)!resolve_all(w);
    w->fn(w->arg);
}

static void on_interval(struct loop_timer *t)
{
    struct loop_watch *w = CONTAINER_OF(t, struct loop_watch, interval);

    if (loop_timer_start(w->loop, &w->interval, w->interval_ms) != ERR_OK)
        return;
    (void)!resolve_all(w);
    w->fn(w->arg);
}

/* --- life ------------------------------------------------------------------------------------ */

/* Relative to the working directory as it is now: it may change later. */
static char *absolute(const char *path)
{
    char *cwd, *out = NULL;

    if (path[0] == '/')
        return strdup(path);
    cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        return NULL;
    if (asprintf(&out, "%s/%s", cwd, path) < 0)
        out = NULL;
    free(cwd);
    return out;
}

static enum err copy_paths(struct loop_watch *w, const char *const *paths, size_t count)
{
    w->names = calloc(count + 1, sizeof *w->names);
    if (w->names == NULL)
        return ERR_NOMEM;
    for (; w->count < count; w->count++) {
        w->names[w->count].given = strdup(paths[w->count]);
        w->names[w->count].path = absolute(paths[w->count]);
        if (w->names[w->count].given == NULL || w->names[w->count].path == NULL) {
            free(w->names[w->count].given);
            free(w->names[w->count].path);
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

enum err loop_watch_new(struct loop *loop, const char *const *paths, size_t count,
                        uint64_t interval_ms, void (*fn)(void *arg), void *arg,
                        struct loop_watch **out)
{
    struct loop_watch *w = calloc(1, sizeof *w);
    enum err e;

    if (w == NULL)
        return ERR_NOMEM;
    *w = (struct loop_watch){.loop = loop, .fn = fn, .arg = arg, .interval_ms = interval_ms};
    loop_timer_init(&w->settle, on_settled);
    loop_timer_init(&w->interval, on_interval);
    e = copy_paths(w, paths, count);
    if (e == ERR_OK && resolve_all(w) == ERR_NOMEM)
        e = ERR_NOMEM;
    if (e == ERR_OK)
        e = loop_timer_start(loop, &w->interval, interval_ms);
    if (e == ERR_OK)
        e = loop_timer_start(loop, &w->settle, SETTLE_MS);
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
    entries_close(w->entries);
    loop_timer_fini(&w->settle);
    loop_timer_fini(&w->interval);
    for (size_t i = 0; i < w->count; i++) {
        free(w->names[i].given);
        free(w->names[i].path);
    }
    free(w->names);
    free(w);
}
