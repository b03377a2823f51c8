/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a field list an HTTP message (RFC 9113 sections 8.2 and 8.3): asked of each field
 * while its block is decoded, for requests, answers and trailers alike. nghttp2's checks of whole
 * messages would not do: they refuse what etcd's servers take (an :authority with other characters
 * than RFC 3986 has, a missing :scheme, te, content-length, keep-alive and the like).
 *
 * What is refused is what both of etcd's servers refuse, grpc-go's transport (in clear) and Go's
 * net/http (behind TLS): names that are no tokens in lower case, control bytes in values,
 * pseudo-header fields that are unknown, given twice, behind other fields or in trailers, and the
 * connection field of a request. Whether the request's pseudo-header fields are there, and what
 * they say, is for the owner to judge. */
#include "h2/h2_int.h"

#define PSEUDO                                                                                     \
    (H2__IS_METHOD | H2__IS_SCHEME | H2__IS_PATH | H2__IS_AUTHORITY | H2__IS_STATUS |              \
     H2__IS_UNKNOWN)

/* By kind of block. */
static const uint8_t pseudo_allowed[] = {
    [H2__REQUEST] = H2__IS_METHOD | H2__IS_SCHEME | H2__IS_PATH | H2__IS_AUTHORITY,
    [H2__ANSWER] = H2__IS_STATUS,
    [H2__TRAILERS] = 0,
};

static bool is_control(uint8_t b)
{
    return (b < 0x20 && b != '\t') || b == 0x7f;
}

/* RFC 9110 section 5.5: bytes above 0x7f are allowed. Eight bytes at a time, since bearer tokens of
 * 64 KiB pass here. The test of eight bytes also stops at a tab, which is legal; the loop behind it
 * decides. */
static bool value_is_legal(struct bytes v)
{
    static const uint64_t ones = 0x0101010101010101u;
    size_t i = 0;

    for (; i + 8 <= v.n; i += 8) {
        uint64_t w, below_space, del;

        memcpy(&w, v.p + i, 8);
        below_space = (w - ones * 0x20) & ~w;
        del = ((w ^ ones * 0x7f) - ones) & ~(w ^ ones * 0x7f);
        if (((below_space | del) & ones * 0x80) == 0)
            continue;
        for (size_t k = i; k < i + 8; k++)
            if (is_control(v.p[k]))
                return false;
    }
    for (; i < v.n; i++)
        if (is_control(v.p[i]))
            return false;
    return true;
}

static unsigned pseudo_of(struct bytes name)
{
    if (bytes_eq(name, BYTES_LIT(":method")))
        return H2__IS_METHOD;
    if (bytes_eq(name, BYTES_LIT(":scheme")))
        return H2__IS_SCHEME;
    if (bytes_eq(name, BYTES_LIT(":path")))
        return H2__IS_PATH;
    if (bytes_eq(name, BYTES_LIT(":authority")))
        return H2__IS_AUTHORITY;
    return bytes_eq(name, BYTES_LIT(":status")) ? H2__IS_STATUS : H2__IS_UNKNOWN;
}

bool h2__message_is_secret(struct bytes name)
{
    return bytes_eq(name, BYTES_LIT("authorization")) || bytes_eq(name, BYTES_LIT("token"));
}

unsigned h2__message_name(struct bytes name)
{
    if (name.n > 0 && name.p[0] == ':')
        return pseudo_of(name);
    if (nghttp2_check_header_name(name.p, name.n) == 0)
        return H2__BAD_NAME;
    if (h2__message_is_secret(name))
        return H2__IS_SECRET;
    return bytes_eq(name, BYTES_LIT("connection")) ? H2__IS_CONNECTION : 0;
}

unsigned h2__message_value(struct bytes value)
{
    return value_is_legal(value) ? 0 : H2__BAD_VALUE;
}

size_t h2__field_size(size_t name_len, size_t value_len)
{
    return name_len + value_len + 32;
}

void h2__message_begin(struct h2__headers *h, enum h2__block kind)
{
    h->kind = kind;
    h->seen = 0;
    h->has_regular = false;
    h->is_malformed = false;
}

void h2__message_class(struct h2__headers *h, unsigned class)
{
    if ((class & (H2__BAD_NAME | H2__BAD_VALUE)) != 0)
        h->is_malformed = true;
    if ((class & PSEUDO) == 0) {
        h->has_regular = true;
        if (h->kind == H2__REQUEST && (class & H2__IS_CONNECTION) != 0)
            h->is_malformed = true;
        return;
    }
    if ((class & pseudo_allowed[h->kind]) == 0 || (class & h->seen) != 0 || h->has_regular)
        h->is_malformed = true;
    h->seen |= class & PSEUDO;
}

void h2__message_field(struct h2__headers *h, struct bytes name, struct bytes value)
{
    h2__message_class(h, h2__message_name(name) | h2__message_value(value));
}
