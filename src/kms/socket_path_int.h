/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the path of a plugin's socket. Gives: what lets others put a plugin of their own there,
 * or use this one. Owns: nothing. Thread: any. Looks at the file system: at start and reload only.
 */
#ifndef KMS_SOCKET_PATH_INT_H
#define KMS_SOCKET_PATH_INT_H

#include "base/base.h"

enum socket_weakness {
    SOCKET_BEHIND_LINK,  /* a part of the way, or the socket, is a symbolic link */
    SOCKET_IN_OPEN_DIR,  /* everybody can rename or make what lies in this directory */
    SOCKET_OPEN_TO_ALL,  /* its mode lets everybody connect */
    SOCKET_WEAKNESS_END, /* their number */
};

/* Walks from / to the socket, through links. fn is called once for each path and weakness that is
 * found; the way ends where something is missing. A directory that everybody may write to but that
 * has the sticky bit, like /tmp, counts when the socket lies in it, or when what lies in it on the
 * way belongs neither to root nor to this process's user. path: absolute; an abstract socket ("@")
 * has no way. True when the end of the way, or an abstract socket, was reached. */
typedef void (*socket_weakness_fn)(void *arg, enum socket_weakness what, const char *path);
bool socket_path_look(const char *path, socket_weakness_fn fn, void *arg);
/* Logs a warning for each; with only_socket, for the socket's mode alone. Returns the same. */
bool socket_path_warn(const char *provider, const char *path, bool only_socket);

#endif
