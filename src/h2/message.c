/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a field list an HTTP message (RFC 9113 sections 8.2 and 8.3): asked of each field
 * while its block is decoded, for requests, answers and trailers alike. nghttp2's own checks of
 * whole messages would not do: they refuse what etcd's servers take (an :authority with other characters than RFC 3986 has,
 * a missing :scheme, te, content-length, keep-alive and the like).
 *
 * What is refused is what both of etcd's servers refuse, grpc-go's transport (in clear) and Go's
 * net/http (behind TLS): names that are no tokens in lower case, control bytes in values,
 * pseudo-header fields that are unknown, given twice, behind other fields or in trailers, and the
 * connection field of a request. Whether the request's pseudo-header fields are there, and what
 * they say, is for the owner to judge. */
#include "h2/h2_int.h"

enum { SEEN_METHOD = 1, SEEN_SCHEME = 2, SEEN_PATH = 4, SEEN_AUTHORITY = 8, SEEN_STATUS = 16 };

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

static unsigned pseudo_of(struct bytes name, enum h2__block kind)
{
    if (kind == H2__ANSWER)
        return bytes_eq(name, BYTES_LIT(":status")) ? SEEN_STATUS : 0;
    if (kind != H2__REQUEST)
        return 0;
    if (bytes_eq(name, BYTES_LIT(":method")))
        return SEEN_METHOD;
    if (bytes_eq(name, BYTES_LIT(":scheme")))
        return SEEN_SCHEME;
    if (bytes_eq(name, BYTES_LIT(":path")))
        return SEEN_PATH;
    return bytes_eq(name, BYTES_LIT(":authority")) ? SEEN_AUTHORITY : 0;
}

static bool field_is_legal(struct h2__headers *h, struct bytes name, struct bytes value)
{
    if (name.n > 0 && name.p[0] == ':') {
        unsigned bit = pseudo_of(name, h->kind);

        if (bit == 0 || (h->seen & bit) != 0 || h->has_regular)
            return false;
        h->seen |= bit;
        return value_is_legal(value);
    }
    h->has_regular = true;
    if (h->kind == H2__REQUEST && bytes_eq(name, BYTES_LIT("connection")))
        return false;
    return nghttp2_check_header_name(name.p, name.n) != 0 && value_is_legal(value);
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

void h2__message_field(struct h2__headers *h, struct bytes name, struct bytes value)
{
    if (!h->is_malformed && !field_is_legal(h, name, value))
        h->is_malformed = true;
}
