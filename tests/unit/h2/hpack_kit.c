/* SPDX-License-Identifier: Apache-2.0 */
#include "hpack_kit.h"

void setup(struct fix *f)
{
    *f = (struct fix){0};
    assert_int_equal(h2__hpack_in_init(&f->in, &f->mem), ERR_OK);
}

void teardown(struct fix *f)
{
    h2__hpack_in_fini(&f->in);
    h2__hpack_in_fini(&f->in); /* of nothing */
    objects_fini(&f->mem);
}

static uint8_t nibble(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; *hex != '\0'; hex += 2, n++)
        out[n] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
    return n;
}

enum err decode_as(struct fix *f, const char *hex, enum h2__block kind,
                   struct h2__hpack_limits limits)
{
    uint8_t block[BLOCK_MAX];

    return h2__hpack_decode(&f->in, bytes_of(block, from_hex(hex, block)), kind, limits, &f->h);
}

enum err decode(struct fix *f, const char *hex)
{
    return decode_as(f, hex, H2__ANSWER, NO_LIMITS);
}

bool is_known(const struct fix *f)
{
    return f->h != &f->in.headers;
}

static char *put(char *to, struct bytes b, const char *end)
{
    for (size_t i = 0; i < b.n; i++) /* so that the sanitizer sees each read */
        *to++ = (char)b.p[i];
    while (*end != '\0')
        *to++ = *end++;
    return to;
}

const char *text_of(const struct h2__headers *h)
{
    static char text[2048];
    char *to = text;

    for (size_t i = 0; i < h->count; i++)
        to = put(put(to, h->v[i].name, ": "), h->v[i].value, "\n");
    *to = '\0';
    return text;
}

void know(struct fix *f, const char *hex)
{
    for (int i = 0; i < 3; i++)
        assert_int_equal(decode_as(f, hex, H2__REQUEST, NO_LIMITS), ERR_OK);
}
