/* SPDX-License-Identifier: Apache-2.0 */
/* Holders are few, and looked for when a connection comes, so a list will do. Failure modes: no
 * memory for a holder: its connection is closed. */
#include "proxy/holder.h"

#include <stdlib.h>
#include <string.h>

static struct holder *find(const struct list *holders, const char *who)
{
    LIST_FOREACH(it, holders) {
        struct holder *h = LIST_ENTRY(it, struct holder, node);

        if (strcmp(h->who, who) == 0)
            return h;
    }
    return NULL;
}

struct holder *holder_join(struct list *holders, const char *who)
{
    struct holder *h = find(holders, who);
    size_t n = strlen(who) + 1;

    if (h == NULL) {
        h = calloc(1, sizeof *h + n);
        if (h == NULL)
            return NULL;
        memcpy(h->who, who, n);
        h->holders = holders;
        list_push(holders, &h->node);
    }
    h->link_count++;
    return h;
}

bool holder_is_behind(const struct holder *h)
{
    LIST_FOREACH(it, h->holders) {
        const struct holder *other = LIST_ENTRY(it, struct holder, node);

        if (other->hungry > 0 && other->claims < h->claims)
            return true;
    }
    return false;
}

void holder_leave(struct holder *h)
{
    if (--h->link_count > 0)
        return;
    list_remove(&h->node);
    free(h);
}
