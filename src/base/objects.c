/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: an object is taken from the free list of its class, else from the unused rest
 * (fresh) of the newest chunk, else from a new chunk; freed, it goes to its class's list. Chunks go
 * back to libc only in objects_trim: until then their number follows the peak.
 *
 *   | class | chunk | object ... |     16 bytes in front of each object: class is the index into
 *                                      sizes, or CLASS_LARGE (malloc)
 *
 * Failure modes: no memory for a chunk: NULL, and nothing has changed. */
#include "base/objects.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_LEN (64u * 1024)
#define CLASS_LARGE 0xffffffffu

struct head {
    _Alignas(16) uint32_t class;
    union {
        size_t len;                  /* of a large object */
        struct objects_chunk *chunk; /* of others */
    };
};
_Static_assert(sizeof(struct head) == 16, "objects stay aligned");

struct objects_chunk {
    struct objects_chunk *next;
    size_t used; /* bytes in objects, handed out or free */
    size_t idle; /* objects_trim: bytes in free ones */
    _Alignas(16) uint8_t data[];
};

/* Sizes with the head: in steps that waste at most a third. */
static const uint16_t sizes[OBJECTS_CLASSES] = {32,  48,  64,   80,   96,   112,  128,
                                                160, 192, 224,  256,  320,  384,  512,
                                                640, 768, 1024, 1536, 1792, 2560, 4096};

#ifdef __SANITIZE_ADDRESS__
/* Under the sanitizer every object comes from malloc, so that overruns and use after free show. */
static uint32_t class_of(struct objects *o, size_t n)
{
    (void)o;
    (void)sizes;
    (void)n;
    return CLASS_LARGE;
}
#else
static uint32_t class_of(struct objects *o, size_t n)
{
    if (n > OBJECTS_MAX)
        return CLASS_LARGE;
    if (o->class_of[OBJECTS_MAX / 16] == 0) /* first use */
        for (uint32_t i = OBJECTS_CLASSES; i-- > 0;)
            memset(o->class_of, (int)i, sizes[i] / 16 + 1u);
    return o->class_of[(n + 15) / 16];
}
#endif

static void *large_new(size_t n)
{
    struct head *h = n > SIZE_MAX - sizeof *h ? NULL : malloc(sizeof *h + n);

    if (h == NULL)
        return NULL;
    h->class = CLASS_LARGE;
    h->len = n;
    return h + 1;
}

static bool chunk_add(struct objects *o)
{
    struct objects_chunk *c = malloc(sizeof *c + CHUNK_LEN);

    if (c == NULL)
        return false;
    c->used = c->idle = 0;
    o->chunk_count++;
    c->next = o->chunks;
    o->chunks = c;
    o->fresh = c->data;
    o->fresh_len = CHUNK_LEN;
    return true;
}

void *objects_alloc(struct objects *o, size_t n)
{
    uint32_t class = class_of(o, n + sizeof(struct head));
    struct head *h;

    if (class == CLASS_LARGE) {
        void *p = large_new(n);

        o->live += p != NULL;
        return p;
    }
    h = o->free[class];
    if (h != NULL) {
        memcpy(&o->free[class], h + 1, sizeof(void *));
    } else {
        if (o->fresh_len < sizes[class] && !chunk_add(o))
            return NULL;
        h = (struct head *)(void *)o->fresh;
        h->chunk = o->chunks; /* the newest: fresh points into it */
        h->chunk->used += sizes[class];
        o->fresh += sizes[class];
        o->fresh_len -= sizes[class];
    }
    h->class = class;
    o->live++;
    return h + 1;
}

/* Inlined where the size is known, memset becomes "rep stos", which is slower for a few hundred
 * bytes than libc's. */
NEVER_INLINE void *objects_calloc(struct objects *o, size_t count, size_t n)
{
    void *p;

    if (n != 0 && count > SIZE_MAX / n)
        return NULL;
    p = objects_alloc(o, count * n);
    if (p != NULL)
        memset(p, 0, count * n);
    return p;
}

void objects_free(struct objects *o, void *p)
{
    struct head *h;

    if (p == NULL)
        return;
    h = (struct head *)p - 1;
    DCHECK(o->live > 0);
    o->live--;
    if (h->class == CLASS_LARGE) {
        free(h);
        return;
    }
    DCHECK(h->class < OBJECTS_CLASSES);
    memcpy(p, &o->free[h->class], sizeof(void *));
    o->free[h->class] = h;
}

static size_t room_of(const void *p)
{
    const struct head *h = (const struct head *)p - 1;

    return h->class == CLASS_LARGE ? h->len : sizes[h->class] - sizeof *h;
}

void *objects_realloc(struct objects *o, void *p, size_t n)
{
    void *fresh;
    size_t room;

    if (p == NULL)
        return objects_alloc(o, n);
    room = room_of(p);
    if (n <= room && n > 0)
        return p;
    if (n == 0) {
        objects_free(o, p);
        return NULL;
    }
    fresh = objects_alloc(o, n);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, room);
    objects_free(o, p);
    return fresh;
}

/* Of a free object: the next in its list. */
static struct head *next_free(const struct head *h)
{
    struct head *next;

    memcpy(&next, h + 1, sizeof next);
    return next;
}

static void count_idle(struct objects *o)
{
    for (struct objects_chunk *c = o->chunks; c != NULL; c = c->next)
        c->idle = 0;
    for (size_t i = 0; i < OBJECTS_CLASSES; i++)
        for (struct head *h = o->free[i]; h != NULL; h = next_free(h))
            h->chunk->idle += sizes[i];
}

static bool is_idle(const struct objects *o, const struct objects_chunk *c)
{
    return c != o->chunks && c->idle == c->used; /* fresh points into the newest: it stays */
}

/* Takes the objects of idle chunks out of the free lists; the others keep their order. */
static void forget_idle(struct objects *o)
{
    for (size_t i = 0; i < OBJECTS_CLASSES; i++) {
        void *at = &o->free[i]; /* the link that will point to the next object that stays */

        for (struct head *h = o->free[i]; h != NULL; h = next_free(h)) {
            if (is_idle(o, h->chunk))
                continue;
            memcpy(at, &h, sizeof h);
            at = h + 1;
        }
        memset(at, 0, sizeof(void *));
    }
}

void objects_trim(struct objects *o)
{
    struct objects_chunk **at = &o->chunks;

    count_idle(o);
    forget_idle(o);
    while (*at != NULL) {
        struct objects_chunk *c = *at;

        if (is_idle(o, c)) {
            *at = c->next;
            o->chunk_count--;
            free(c);
        } else {
            at = &c->next;
        }
    }
}

void objects_fini(struct objects *o)
{
    CHECK(o->live == 0);
    while (o->chunks != NULL) {
        struct objects_chunk *c = o->chunks;

        o->chunks = c->next;
        free(c);
    }
    *o = (struct objects){0};
}
