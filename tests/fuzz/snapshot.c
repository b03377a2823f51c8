/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: snapshot_bolt_open, snapshot_cursor_next, snapshot_store_open, snapshot_store_read.
 * However the file looks, reading it ends and stays inside of it; what the index has can be read,
 * is in order, and lies where it says.
 *
 * Input: options (1: the checksums of the meta pages are made right; 2: reads fail behind a place,
 * as in a file that shrinks), the file. */
#include "snapshot/store.h"

#include <string.h>

#include "fuzz.h"

struct file {
    struct buf bytes;
    size_t cut;
};

static enum err read_file(void *arg, uint64_t at, uint8_t *out, size_t n)
{
    const struct file *f = arg;

    CHECK(at <= f->bytes.n && n <= f->bytes.n - at);
    if (at + n > f->cut)
        return ERR_FILE_DAMAGED;
    memcpy(out, f->bytes.p + at, n);
    return ERR_OK;
}

/* A random change of a meta page would end all that is to come. */
static void seal_meta(struct buf *b, size_t at)
{
    uint64_t h = UINT64_C(14695981039346656037);

    if (at + 80 > b->n)
        return;
    for (size_t i = at + 16; i < at + 72; i++)
        h = (h ^ b->p[i]) * UINT64_C(1099511628211);
    for (size_t i = 0; i < 8; i++)
        b->p[at + 72 + i] = (uint8_t)(h >> 8 * i);
}

/* Some keys are not wanted. */
static bool is_wanted(void *arg, struct bytes key)
{
    (void)arg;
    CHECK(key.n > 0);
    return key.p[key.n - 1] != 'x';
}

static void check_store(struct snapshot_store *s, const struct file *f)
{
    struct bytes last = {0};

    for (size_t i = 0; i < snapshot_store_count(s); i++) {
        const struct snapshot_entry *e = snapshot_store_at(s, i);
        struct bytes kv;

        CHECK(is_wanted(NULL, e->key) && !e->is_deleted);
        CHECK(i == 0 || bytes_cmp(last, e->key) < 0);
        CHECK(snapshot_store_seek(s, e->key) == i);
        last = e->key;
        if (snapshot_store_read(s, e, &kv) != ERR_OK) {
            CHECK(f->cut != SIZE_MAX);
            continue;
        }
        CHECK(bytes_eq(kv, bytes_of(f->bytes.p + e->value_at, e->value_len)));
    }
    CHECK(snapshot_store_facts(s)->revision >= 1);
    if (snapshot_store_count(s) > 1)
        fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t options = fuzz_u8(&in);
    struct file f = {.bytes = buf_of(in), .cut = SIZE_MAX};
    struct snapshot_store_opts o = {.is_wanted = is_wanted};
    char why[SNAPSHOT_WHY_MAX] = "";
    struct snapshot_store *s;

    if ((options & 1) != 0) {
        seal_meta(&f.bytes, 0);
        seal_meta(&f.bytes, SNAPSHOT_PAGE_MIN);
    }
    if ((options & 2) != 0)
        f.cut = (size_t)(options >> 2) * 256;
    o.input = (struct snapshot_input){.read = read_file, .arg = &f, .size = f.bytes.n};
    if (snapshot_store_open(&o, &s, why) == ERR_OK) {
        check_store(s, &f);
        snapshot_store_close(s);
    } else {
        CHECK(why[0] != '\0' && strlen(why) < sizeof why);
    }
    buf_free(&f.bytes);
    return 0;
}
