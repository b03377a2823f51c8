/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by verify.c, which runs, and verify_report.c, which says what came of it. */
#ifndef TOOLS_VERIFY_INT_H
#define TOOLS_VERIFY_INT_H

#include "sweep/source_etcd.h"
#include "base/json.h"
#include "tools/progress.h"
#include "tools/verify.h"

struct verify {
    struct tools_cluster *c;
    const struct tools_verify_opts *o;
    struct sweep_source *source;
    struct sweep *sweep;
    struct sweep_position position; /* at the end */
    struct tools_counts counts;
    struct tools_progress progress;
    struct json json;
    char server[NET_URL_MAX];
    int64_t began_s, ended_s; /* seconds since 1970 */
    bool is_done;
    bool has_key_changed; /* of a plugin, during the run: what was current then is not by now */
};

/* Several key ids of the plugin that writes cannot all be the present one. Only asked where nothing
 * was opened. */
bool tools__verify_has_several_key_ids(const struct verify *v);
void tools__verify_report(struct verify *v, enum tools_verify_result result);
/* One line, or one element of the array, about a value. */
void tools__verify_list(struct verify *v, const struct sweep_value *value);

#endif
