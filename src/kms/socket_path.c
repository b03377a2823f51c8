/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/socket_path_int.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define LINKS_MAX 40 /* as many as Linux follows */

struct walk {
    socket_weakness_fn fn;
    void *arg;
    char done[PATH_MAX]; /* the directory that was reached, without links; "" is / */
    char rest[PATH_MAX]; /* the way from there */
    mode_t done_mode;
    unsigned links;
    char said[2 * PATH_MAX]; /* weakness and path of each call of fn, one a line */
};

/* A directory may be met again behind a link: it is named once. */
static void say(struct walk *w, enum socket_weakness what, const char *path)
{
    char line[PATH_MAX + 8];
    size_t n = strlen(w->said);

    snprintf(line, sizeof line, "\n%d%s\n", (int)what, path);
    if (strstr(w->said, line) != NULL)
        return;
    snprintf(w->said + n, sizeof w->said - n, "%s", line);
    w->fn(w->arg, what, path);
}

static bool is_last(const struct walk *w)
{
    return w->rest[strspn(w->rest, "/")] == '\0';
}

static bool look_at_done(struct walk *w)
{
    struct stat st;

    if (lstat(w->done[0] == '\0' ? "/" : w->done, &st) != 0)
        return false;
    w->done_mode = st.st_mode;
    return true;
}

/* st: of what lies in the directory; NULL: nothing does, so that anybody may put it there. */
static void judge_dir(struct walk *w, const struct stat *st)
{
    bool is_open = (w->done_mode & S_IWOTH) != 0, is_sticky = (w->done_mode & S_ISVTX) != 0;
    bool is_ours = st != NULL && (st->st_uid == 0 || st->st_uid == geteuid());

    if (is_open && (!is_sticky || !is_ours || is_last(w)))
        say(w, SOCKET_IN_OPEN_DIR, w->done[0] == '\0' ? "/" : w->done);
}

/* path is a link: its target is the next part of the way. */
static bool follow(struct walk *w, const char *path)
{
    char target[PATH_MAX], rest[2 * PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);

    if (strcmp(path, "/var/run") !=
        0) /* a link in every distribution, and Kubernetes' examples use it */
        say(w, SOCKET_BEHIND_LINK, path);
    if (n <= 0 || ++w->links > LINKS_MAX)
        return false;
    target[n] = '\0';
    snprintf(rest, sizeof rest, "%s/%s", target, w->rest);
    if (strlen(rest) >= sizeof w->rest)
        return false;
    memcpy(w->rest, rest, strlen(rest) + 1);
    if (target[0] == '/')
        w->done[0] = '\0';
    return look_at_done(w);
}

static bool go_up(struct walk *w)
{
    char *slash = strrchr(w->done, '/');

    if (slash != NULL)
        *slash = '\0';
    return look_at_done(w);
}

/* One name of the way. True: there is more; *reached: that was the last one. */
static bool step(struct walk *w, bool *reached)
{
    char name[NAME_MAX + 1], path[2 * PATH_MAX];
    struct stat st;

    if (!file_path_next(w->rest, name))
        return false;
    if (strcmp(name, ".") == 0)
        return true;
    if (strcmp(name, "..") == 0)
        return go_up(w);
    snprintf(path, sizeof path, "%s/%s", w->done, name);
    if (strlen(path) >= sizeof w->done)
        return false;
    if (lstat(path, &st) != 0) {
        judge_dir(w, NULL);
        return false;
    }
    judge_dir(w, &st);
    if (S_ISLNK(st.st_mode))
        return follow(w, path);
    *reached = is_last(w);
    if (*reached && (st.st_mode & S_IWOTH) != 0)
        say(w, SOCKET_OPEN_TO_ALL, path);
    memcpy(w->done, path, strlen(path) + 1);
    w->done_mode = st.st_mode;
    return !*reached;
}

bool socket_path_look(const char *path, socket_weakness_fn fn, void *arg)
{
    struct walk w = {.fn = fn, .arg = arg};
    bool reached = false;

    if (path[0] == '@')
        return true;
    if (path[0] != '/' || strlen(path) >= sizeof w.rest || !look_at_done(&w))
        return false;
    snprintf(w.rest, sizeof w.rest, "%s", path);
    while (step(&w, &reached))
        ;
    return reached;
}

/* --- warnings --------------------------------------------------------------------------------- */

struct warning {
    const char *provider;
    bool only_socket;
};

static void warn(void *arg, enum socket_weakness what, const char *path)
{
    static const char *const reasons[SOCKET_WEAKNESS_END] = {
        [SOCKET_BEHIND_LINK] = "a symbolic link is on the way to the socket: whoever can change it "
                               "chooses the plugin, name the target itself",
        [SOCKET_IN_OPEN_DIR] = "everybody may write to the directory: whoever puts a socket there "
                               "gets the keys",
        [SOCKET_OPEN_TO_ALL] = "everybody may connect to the socket, and have keys unwrapped",
    };
    const struct warning *w = arg;

    if (w->only_socket && what != SOCKET_OPEN_TO_ALL)
        return;
    LOG(WARN, "KMS socket is not safe", "provider=%s path=%s reason=%s", w->provider, path,
        reasons[what]);
}

bool socket_path_warn(const char *provider, const char *path, bool only_socket)
{
    struct warning w = {provider, only_socket};

    return socket_path_look(path, warn, &w);
}
