/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests are gRPC calls of etcd's methods.
 *
 * etcd's server is grpc-go's transport in clear and Go's net/http behind TLS. They differ in what
 * they forgive, and clients have come to rely on either, so a request is good here when it is good
 * for one of the two, on both kinds of listeners: no :scheme, any :authority or none, any te, a
 * content-length that is wrong, a path without its slash. What is then passed on is built here: it
 * has to be good for both, since a field that etcd's HTTP/2 refuses can cost the whole connection.
 *
 * The path is the exception: net/http takes "/a/b?query", "http://host/a/b" and "%XX" as
 * "/a/b", too. A method is what it is called, so these are unknown methods, as they are in clear.
 *
 * Behind TLS etcd gives what has no gRPC content type to its HTTP handlers: health checks, metrics,
 * the JSON gateway. In clear it refuses that. Here, too, the looser of both counts, except for what
 * names a method of etcd: that is a gRPC client with a wrong content type, and is told so. */
#include "proxy/request.h"

#include <stdio.h>

#include "grpc/grpc.h"

#define PATH_MAX_LEN 64u /* no method of etcd has a longer path */
#define ECHO_MAX 48      /* of a client's value in an answer */

static enum request_verdict no_grpc(struct request_head *out, const char *http_status,
                                    enum grpc_status status, const char *what, struct bytes value,
                                    const char *wish)
{
    out->http_status = http_status;
    out->status = status;
    (void)snprintf(out->text, sizeof out->text, "%s \"%.*s\"%s", what,
                   (int)(value.n < ECHO_MAX ? value.n : ECHO_MAX),
                   value.n > 0 ? (const char *)value.p : "", wish);
    return REQUEST_NO_GRPC;
}

/* grpc-go takes a request when any of its content-type fields is gRPC's. */
static struct bytes grpc_type_of(struct h2_fields h, struct bytes first)
{
    if (grpc_content_type_ok(first))
        return first;
    for (size_t i = 0; i < h.count; i++) {
        if (bytes_eq(h.v[i].name, BYTES_LIT("content-type")) && grpc_content_type_ok(h.v[i].value))
            return h.v[i].value;
    }
    return (struct bytes){NULL, 0};
}

static const struct etcd_method *method_of(struct bytes path)
{
    uint8_t whole[PATH_MAX_LEN] = {'/'};

    if (path.n == 0 || path.p[0] == '/' || path.n >= sizeof whole)
        return etcd_method_find(path);
    memcpy(whole + 1, path.p, path.n);
    return etcd_method_find(bytes_of(whole, path.n + 1));
}

static bool is_http(const struct fields_head *f)
{
    return f->method.n > 0 && f->path.n > 0 && method_of(f->path) == NULL &&
           !bytes_has_prefix(f->content_type, BYTES_LIT("application/grpc"));
}

enum request_verdict request_judge(struct h2_fields h, struct request_head *out)
{
    NOT_CLEARED struct fields_head f;

    fields_look(h, &f);
    out->method = NULL;
    out->http_method = f.method;
    out->path = f.path;
    out->authority = f.authority;
    out->encoding = f.encoding;
    out->has_timeout = f.timeout.n > 0;
    out->content_type = grpc_type_of(h, f.content_type);
    if (out->content_type.n == 0 && is_http(&f))
        return REQUEST_HTTP;
    if (out->content_type.n == 0)
        return no_grpc(out, "415", GRPC_INVALID_ARGUMENT, "invalid gRPC request content-type",
                       f.content_type, "");
    if (out->has_timeout && !grpc_timeout_parse(f.timeout, &out->timeout_ns))
        return no_grpc(out, "400", GRPC_INTERNAL, "malformed grpc-timeout:", f.timeout, "");
    if (!bytes_eq(f.method, BYTES_LIT("POST")))
        return no_grpc(out, "405", GRPC_INTERNAL, "Received a HEADERS frame with :method", f.method,
                       " which should be POST");
    out->method = method_of(f.path);
    if (out->method == NULL)
        return REQUEST_UNKNOWN_METHOD;
    if (f.encoding.n > 0 && !bytes_eq(f.encoding, BYTES_LIT("identity")))
        return REQUEST_COMPRESSED;
    return REQUEST_GOOD;
}

/* Letters, digits and -._~%!$&'()*+,;=:@[] */
static const bool in_authority[256] = {
    ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['0' ... '9'] = true, ['$' ... '.'] = true,
    ['!'] = true,         ['_'] = true,         ['~'] = true,         [':'] = true,
    [';'] = true,         ['='] = true,         ['@'] = true,         ['['] = true,
    [']'] = true,
};

/* RFC 3986 section 3.2. etcd does not look, but what is between us and etcd may. */
static bool is_legal_authority(struct bytes a)
{
    for (size_t i = 0; i < a.n; i++)
        if (!in_authority[a.p[i]])
            return false;
    return a.n > 0;
}

enum err request_for_etcd(struct fields *f, struct objects *o, struct h2_fields h,
                          const struct request_head *head)
{
    static const struct bytes plain = BYTES_LIT("application/grpc");
    static const struct bytes proto = BYTES_LIT("application/grpc+proto");
    struct bytes authority =
        is_legal_authority(head->authority) ? head->authority : BYTES_LIT("localhost");

    TRY(fields_new(f, o, h.count + 8,
                   fields_bytes(h) + authority.n + sizeof "grpc-timeout" + GRPC_TIMEOUT_MAX));
    fields_add_static(f, BYTES_LIT(":method"), BYTES_LIT("POST"));
    fields_add_static(f, BYTES_LIT(":scheme"), BYTES_LIT("http"));
    fields_add_static(f, BYTES_LIT(":path"), bytes_of(head->method->path, head->method->path_len));
    fields_add(f, BYTES_LIT(":authority"), authority);
    /* We read the message as protobuf, so etcd is not told of any other encoding. */
    fields_add_static(f, BYTES_LIT("content-type"),
                      bytes_eq(head->content_type, proto) ? proto : plain);
    fields_add_passed(f, h);
    fields_add_static(f, BYTES_LIT("te"), BYTES_LIT("trailers"));
    fields_add_static(f, BYTES_LIT("grpc-accept-encoding"), BYTES_LIT("identity"));
    return ERR_OK;
}
