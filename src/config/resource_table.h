/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds that Kubernetes (v1.36) itself stores, and where. */
#ifndef CONFIG_RESOURCE_TABLE_H
#define CONFIG_RESOURCE_TABLE_H

#include "config/config_int.h"

struct builtin_resource {
    const char *plural;
    const char *group;  /* "" core */
    const char *prefix; /* under the etcd prefix */
};

extern const struct builtin_resource config__builtins[];
extern const size_t config__builtin_count;

/* Under the etcd prefix, never transformed by kube-apiserver whatever the configuration says: it
 * reads and writes them beside its encrypting storage. (compact_rev_key lies outside of the
 * prefix.) */
extern const char *const config__never[];
extern const size_t config__never_count;

struct group_resource config__builtin_gr(const struct builtin_resource *row);
bool config__is_builtin(struct group_resource gr);
bool config__is_builtin_group(struct bytes group);
/* The group of the built-in kind with this plural, NULL when there is none. */
const char *config__group_of_plural(struct bytes plural);
/* Is PREFIX/segment where built-in kinds lie, or what is never transformed? */
bool config__is_taken(struct bytes segment);

#endif
