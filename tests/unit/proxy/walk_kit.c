/* SPDX-License-Identifier: Apache-2.0 */
#include "walk_kit.h"

#include "pb/pb.h"

void walk_check_whole(const struct rec *c)
{
    size_t len = 0;

    for (size_t i = 0; i < rig_message_count(c); i++)
        len += 5 + rig_message_at(c, i).n;
    if (c->trailers_count > 0)
        assert_int_equal(len, c->body_len);
}

static void check_value(struct bytes kv, size_t len)
{
    struct bytes v = len == 0 ? bytes_of(NULL, 0) : field_of(kv, 5);

    assert_int_equal(v.n, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(v.p[i], 'x');
}

void walk_check_list(const struct rec *c, const struct speech *t)
{
    struct bytes m;
    struct pb_span f;
    size_t i = 0;

    if (rig_status(c) != 0 || rig_message_count(c) == 0)
        return;
    m = rig_message_at(c, 0);
    while (pb_span_next(&m, &f) == PB_FIELD) {
        if (f.number != 2)
            continue;
        assert_in_range(i, 0, t->line_count - 1);
        assert_false(t->lines[i].is_bad);
        check_value(f.value, t->lines[i++].len);
    }
    assert_int_equal(i, t->line_count);
}

/* The next message of a watch's stream is this line; a bad one is told as the watch's end. */
static void check_line(struct bytes m, const struct line *l)
{
    struct line got = {0};
    struct bytes value = {NULL, 0};
    struct pb_span f;

    while (pb_span_next(&m, &f) == PB_FIELD) {
        if (f.number == 2)
            got.id = f.varint;
        got.is_created = got.is_created || f.number == 3;
        got.is_canceled = got.is_canceled || f.number == 4;
        if (f.number == 11)
            value = field_of(f.value, 2);
    }
    assert_int_equal(got.id, l->id);
    assert_int_equal(got.is_created, l->is_created);
    assert_int_equal(got.is_canceled, l->is_canceled || l->is_bad);
    if (!got.is_created && !got.is_canceled)
        check_value(value, l->len);
}

void walk_check_watch(const struct rec *c, const struct speech *t)
{
    bool is_over[LINES_MAX] = {false};
    size_t i = 0, count = rig_message_count(c);

    for (size_t k = 0; k < t->line_count && t->lines[k].end <= t->at; k++) {
        const struct line *l = &t->lines[k];

        if (is_over[l->id])
            continue;
        if (i < count)
            check_line(rig_message_at(c, i), l);
        else
            assert_int_equal(c->close_count, 1);
        i++;
        is_over[l->id] = l->is_bad;
    }
    assert_true(count <= i);
}
