/* SPDX-License-Identifier: Apache-2.0 */
#include "config/resources_int.h"

size_t config__select_exact(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                            size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < c->entry_count; i++) {
        const struct enc_entry *e = &c->entries[i];
        size_t k = 0;

        while (k < e->resource_count &&
               !config__group_resource_eq(config__group_resource(e->resources[k]), gr))
            k++;
        if (k == e->resource_count)
            continue;
        if (count < max)
            indexes[count] = i;
        count++;
    }
    return count;
}

size_t config__select(const struct enc_config *c, struct group_resource gr, size_t *indexes,
                      size_t max)
{
    struct group_resource in_group = {BYTES_LIT("*"), gr.group};
    struct group_resource all = {BYTES_LIT("*"), BYTES_LIT("*")};
    size_t count = config__select_exact(c, gr, indexes, max);

    if (count == 0)
        count = config__select_exact(c, in_group, indexes, max);
    return count != 0 ? count : config__select_exact(c, all, indexes, max);
}

size_t enc_config_select(const struct enc_config *c, const char *resource, size_t *indexes,
                         size_t max)
{
    return config__select(c, config__group_resource(resource), indexes, max);
}
