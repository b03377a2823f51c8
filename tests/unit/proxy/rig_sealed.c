/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of all tests with a rig: no value that a client puts under a protected key is among the
 * bytes that any etcd was sent, however the test ends. The values are noted as requests are made;
 * they are looked for at the end of the rig, and when a test fails because memory was out. */
#include "failing_alloc.h"
#include "rig.h"

#define VALUES 64u    /* the newest */
#define LOOKED_AT 32u /* bytes of each */
#define SHORTEST 5u   /* shorter ones come about by chance */

static struct {
    uint8_t v[LOOKED_AT];
    size_t n;
} values[VALUES];
static size_t value_count;
static const struct rig *watched;

void rig_note_value(const char *key, const void *value, size_t n)
{
    size_t i = value_count % VALUES;
    bool is_protected = strncmp(key, SECRET_KEY, strlen("/registry/secrets/")) == 0 ||
                        strncmp(key, LOCAL_KEY, strlen("/registry/configmaps/")) == 0;

    /* what arrives sealed may go on as it is */
    if (!is_protected || n < SHORTEST || memmem(value, n, "k8s:enc:", 8) == value)
        return;
    values[i].n = n < LOOKED_AT ? n : LOOKED_AT;
    memcpy(values[i].v, value, values[i].n);
    value_count++;
}

static bool has_value(const void *p, size_t n)
{
    for (size_t i = 0; n > 0 && i < value_count && i < VALUES; i++) {
        if (memmem(p, n, values[i].v, values[i].n) != NULL)
            return true;
    }
    return false;
}

bool rig_is_sealed(void)
{
    for (size_t i = 0; watched != NULL && i < watched->etcd_count; i++) {
        LIST_FOREACH(it, &watched->etcds[i]->recs) {
            const struct rec *s = LIST_ENTRY(it, struct rec, node);

            if (has_value(s->body, s->body_len) || has_value(s->headers, strlen(s->headers)))
                return false;
        }
    }
    return true;
}

void rig_watch_values(const struct rig *r)
{
    watched = r;
    value_count = 0;
    alloc_on_assertion(rig_is_sealed);
}
