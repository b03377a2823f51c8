/* SPDX-License-Identifier: Apache-2.0 */
/* EncryptedObject for a human reader: finds the parts, also of an object that is not valid. Whether
 * it is valid is decided by envelope_identify. As there, the last of a repeated field counts and a
 * known number with another wire type is an unknown field. */
#include "tools/object.h"

#include <stdlib.h>

#include "pb/pb.h"

enum {
    FIELD_DATA = 1,
    FIELD_KEY_ID = 2,
    FIELD_DEK_SOURCE = 3,
    FIELD_ANNOTATION = 4,
    FIELD_TYPE = 5
};
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

/* More cannot be valid: all of them have 32 KiB, and each has 3 bytes at least ("a.b"). */
#define ANNOTATIONS_MAX (LIMIT_ANNOTATIONS / 3 + 1)

/* False: malformed. */
static bool look_at_entry(struct bytes in, struct dek_annotation *a)
{
    struct pb_span f;
    enum pb_result r;

    *a = (struct dek_annotation){0};
    while ((r = pb_span_next(&in, &f)) == PB_FIELD) {
        if (f.number == ENTRY_KEY && f.wire == PB_LEN)
            a->key = f.value;
        else if (f.number == ENTRY_VALUE && f.wire == PB_LEN)
            a->value = f.value;
    }
    return r == PB_END;
}

static bool take_annotation(struct tools_object *o, struct bytes entry)
{
    struct dek_annotation a;

    if (!look_at_entry(entry, &a))
        return false;
    if (o->id.annotation_count < ANNOTATIONS_MAX)
        o->annotations[o->id.annotation_count++] = a;
    return true;
}

/* False: malformed. seen: a bit for each field that came before. */
static bool take_field(struct tools_object *o, const struct pb_span *f, uint32_t *seen)
{
    bool is_type = f->number == FIELD_TYPE && f->wire == PB_VARINT;
    bool is_known =
        is_type || (f->number >= FIELD_DATA && f->number <= FIELD_ANNOTATION && f->wire == PB_LEN);
    uint32_t bit;

    if (!is_known) {
        o->unknown_count++;
        return true;
    }
    if (f->number == FIELD_ANNOTATION)
        return take_annotation(o, f->value);
    bit = 1u << f->number;
    o->doubled_count += (*seen & bit) != 0;
    *seen |= bit;
    if (is_type)
        o->id.type = (uint32_t)f->varint; /* an enum is the low 32 bits */
    else if (f->number == FIELD_DATA)
        o->data = f->value;
    else if (f->number == FIELD_KEY_ID)
        o->id.key_id = f->value;
    else
        o->id.wrapped = f->value;
    return true;
}

enum err tools_object_look(struct bytes in, struct tools_object *out)
{
    struct pb_span f;
    enum pb_result r;
    uint32_t seen = 0;

    *out = (struct tools_object){0};
    out->annotations = calloc(ANNOTATIONS_MAX, sizeof *out->annotations);
    if (out->annotations == NULL)
        return ERR_NOMEM;
    while ((r = pb_span_next(&in, &f)) == PB_FIELD)
        if (!take_field(out, &f, &seen))
            break;
    out->is_whole = r == PB_END;
    out->id.annotations = out->annotations;
    return dek_annotations_sort(out->annotations, &out->id.annotation_count);
}

void tools_object_fini(struct tools_object *o)
{
    free(o->annotations);
    *o = (struct tools_object){0};
}
