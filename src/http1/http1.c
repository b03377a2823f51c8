/* SPDX-License-Identifier: Apache-2.0 */
/* Heads and responses of HTTP/1.1, on http-parser.
 *
 * A request: callbacks collect the target and the flags; at the end of the head the verdict is made
 * and parsing stops, so that nothing behind it is looked at.
 *
 * A response: the body is collected, up to the caller's limit, until the message is complete.
 *
 * Failure modes: whatever http-parser refuses, whatever is longer than its limit, and whatever two
 * readers could understand differently (a body where none is allowed, a transfer coding that is not
 * chunked) is HTTP1_BAD, and stays so. */
#include "http1/http1.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX (16u * 1024)

/* Visible ASCII: what a target or a field value may hold without any escaping (RFC 9110 5.5). */
static bool is_visible(char c)
{
    return c > ' ' && c < 0x7f;
}

/* http-parser lets a space in a field name pass; readers differ about it (RFC 9112 section 5.1). */
static bool is_field_name(const char *at, size_t n)
{
    return memchr(at, ' ', n) == NULL;
}

/* --- requests --- */

struct http1_request_parser {
    http_parser parser;
    enum http1_state state;
    size_t fed;
    size_t target_len;
    char target[HTTP1_TARGET_MAX];
    struct http1_request request; /* valid in HTTP1_DONE */
};

static int on_request_url(http_parser *parser, const char *at, size_t n)
{
    struct http1_request_parser *p = parser->data;

    if (n >= sizeof p->target - p->target_len)
        return 1; /* stops the parser with an error */
    memcpy(p->target + p->target_len, at, n);
    p->target_len += n;
    p->target[p->target_len] = '\0';
    return 0;
}

static int on_request_field(http_parser *parser, const char *at, size_t n)
{
    (void)parser;
    return is_field_name(at, n) ? 0 : 1;
}

/* Where the path of the target begins: behind the authority in absolute-form (RFC 9112 section
 * 3.2.2). NULL: there is none. */
static const char *find_path(const char *target)
{
    const char *authority = strstr(target, "://");

    if (target[0] == '/' || strcmp(target, "*") == 0)
        return target;
    if (authority == NULL || authority > target + strcspn(target, "/?#"))
        return NULL;
    authority += strlen("://");
    return authority + strcspn(authority, "/?");
}

/* target: n bytes and a NUL. */
static bool take_target(const char *target, size_t n, struct http1_request *out)
{
    const char *path = find_path(target), *query;
    size_t path_len;

    if (path == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_visible(target[i]))
            return false;
    path_len = strcspn(path, "?");
    query = path + path_len + (path[path_len] == '?');
    (void)snprintf(out->path, sizeof out->path, "%.*s", (int)path_len, path);
    if (path_len == 0)
        (void)snprintf(out->path, sizeof out->path, "/");
    memcpy(out->query, query, strlen(query) + 1);
    return true;
}

static bool has_no_body(const http_parser *parser)
{
    return !parser->uses_transfer_encoding &&
           (parser->content_length == 0 || parser->content_length == UINT64_MAX);
}

/* Always returns an error: the head is all that we want to have parsed. */
static int on_request_head(http_parser *parser)
{
    struct http1_request_parser *p = parser->data;

    if (parser->http_major != 1 || parser->method == HTTP_CONNECT ||
        !take_target(p->target, p->target_len, &p->request))
        return -1;
    p->request.has_body = !has_no_body(parser);
    p->request.wants_upgrade = parser->upgrade;
    (void)snprintf(p->request.method, sizeof p->request.method, "%s",
                   http_method_str(parser->method));
    p->state = HTTP1_DONE;
    return -1;
}

enum err http1_request_parser_new(struct http1_request_parser **out)
{
    struct http1_request_parser *p = calloc(1, sizeof *p);

    *out = p;
    if (p == NULL)
        return ERR_NOMEM;
    http_parser_init(&p->parser, HTTP_REQUEST);
    p->parser.data = p;
    p->state = HTTP1_MORE;
    return ERR_OK;
}

void http1_request_parser_free(struct http1_request_parser *p)
{
    free(p);
}

enum http1_state http1_request_feed(struct http1_request_parser *p, struct bytes in,
                                    struct http1_request *out)
{
    static const http_parser_settings settings = {
        .on_url = on_request_url,
        .on_header_field = on_request_field,
        .on_headers_complete = on_request_head,
    };
    size_t room = HEAD_MAX - p->fed;

    if (p->state == HTTP1_MORE && in.n > 0) {
        size_t n = in.n < room ? in.n : room;

        (void)http_parser_execute(&p->parser, &settings, (const char *)in.p, n);
        p->fed += n;
        if (p->state == HTTP1_MORE &&
            (HTTP_PARSER_ERRNO(&p->parser) != HPE_OK || p->fed == HEAD_MAX))
            p->state = HTTP1_BAD;
    }
    if (p->state == HTTP1_DONE)
        *out = p->request;
    return p->state;
}

/* RFC 9110 section 5.6.2. */
static bool is_token(struct bytes b)
{
    for (size_t i = 0; i < b.n; i++)
        if (!is_visible((char)b.p[i]) || strchr("\"(),/:;<=>?@[\\]{}", b.p[i]) != NULL)
            return false;
    return b.n > 0;
}

bool http1_request_of(struct bytes method, struct bytes target, struct http1_request *out)
{
    char text[HTTP1_TARGET_MAX];

    if (method.n >= sizeof out->method || target.n >= sizeof text || !is_token(method) ||
        bytes_eq(method, BYTES_LIT("CONNECT")))
        return false;
    *out = (struct http1_request){0};
    memcpy(out->method, method.p, method.n);
    if (target.n > 0)
        memcpy(text, target.p, target.n);
    text[target.n] = '\0';
    return take_target(text, target.n, out);
}

/* --- responses --- */

struct http1_response_parser {
    http_parser parser;
    enum http1_state state;
    bool is_in_body; /* the final head is complete */
    size_t head_fed;
    size_t max_body;
    uint8_t *body;
    size_t body_len, body_cap;
    bool is_in_value; /* the last header callback was for a value */
    char name[16];
    size_t name_len;
    char *field; /* where the value of the header goes; NULL: nobody wants it */
    size_t field_cap;
    bool is_head; /* the answer to HEAD: no body follows, whatever the head says */
    struct http1_response response;
};

/* The fields that are of use: their values are kept. */
static void choose_field(struct http1_response_parser *p)
{
    struct http1_response *r = &p->response;

    p->field = NULL;
    if (p->is_in_body) /* a trailer */
        return;
    if (p->name_len == strlen("content-type") &&
        strncasecmp(p->name, "content-type", p->name_len) == 0) {
        p->field = r->content_type;
        p->field_cap = sizeof r->content_type;
    } else if (p->name_len == strlen("allow") && strncasecmp(p->name, "allow", p->name_len) == 0) {
        p->field = r->allow;
        p->field_cap = sizeof r->allow;
    }
}

static int on_response_field(http_parser *parser, const char *at, size_t n)
{
    struct http1_response_parser *p = parser->data;

    if (!is_field_name(at, n))
        return 1;
    if (p->is_in_value)
        p->name_len = 0;
    p->is_in_value = false;
    for (size_t i = 0; i < n && p->name_len < sizeof p->name; i++)
        p->name[p->name_len++] = at[i];
    choose_field(p);
    return 0;
}

static int on_response_value(http_parser *parser, const char *at, size_t n)
{
    struct http1_response_parser *p = parser->data;
    size_t have;

    p->is_in_value = true;
    if (p->field == NULL)
        return 0;
    have = strlen(p->field);
    if (n >= p->field_cap - have)
        return 1;
    for (size_t i = 0; i < n; i++)
        if (!is_visible(at[i]) && at[i] != ' ')
            return 1; /* refused: the value may end up in the head of an answer of ours */
    memcpy(p->field + have, at, n);
    p->field[have + n] = '\0';
    return 0;
}

static bool is_informational(const http_parser *parser)
{
    return parser->status_code >= 100 && parser->status_code < 200;
}

static int on_response_head(http_parser *parser)
{
    struct http1_response_parser *p = parser->data;
    bool is_chunked = (parser->flags & F_CHUNKED) != 0;

    if (parser->http_major != 1 || parser->upgrade || parser->status_code == 101 ||
        parser->status_code < 100)
        return -1;
    if (is_informational(parser)) {
        p->response.content_type[0] = p->response.allow[0] = '\0';
        return 0;
    }
    if (parser->uses_transfer_encoding && !is_chunked)
        return -1;
    if (!p->is_head && !is_chunked && parser->content_length != UINT64_MAX &&
        parser->content_length > p->max_body)
        return -1;
    p->response.status = (int)parser->status_code;
    p->is_in_body = true;
    return p->is_head ? 1 : 0; /* 1 tells http-parser that there is no body */
}

static bool reserve_body(struct http1_response_parser *p, size_t need)
{
    size_t cap = p->body_cap == 0 ? 4096 : p->body_cap;
    uint8_t *body;

    if (need <= p->body_cap)
        return true;
    while (cap < need)
        cap *= 2;
    body = realloc(p->body, cap);
    if (body == NULL)
        return false;
    p->body = body;
    p->body_cap = cap;
    return true;
}

static int on_response_body(http_parser *parser, const char *at, size_t n)
{
    struct http1_response_parser *p = parser->data;

    if (n > p->max_body - p->body_len || !reserve_body(p, p->body_len + n))
        return 1;
    memcpy(p->body + p->body_len, at, n);
    p->body_len += n;
    return 0;
}

static int on_response_end(http_parser *parser)
{
    struct http1_response_parser *p = parser->data;

    if (is_informational(parser))
        return 0;
    p->response.body = bytes_of(p->body, p->body_len);
    p->state = HTTP1_DONE;
    return -1; /* stop: what follows is not HTTP */
}

enum err http1_response_parser_new(size_t max_body, bool is_head,
                                   struct http1_response_parser **out)
{
    struct http1_response_parser *p = calloc(1, sizeof *p);

    *out = p;
    if (p == NULL)
        return ERR_NOMEM;
    http_parser_init(&p->parser, HTTP_RESPONSE);
    p->parser.data = p;
    p->state = HTTP1_MORE;
    p->max_body = max_body;
    p->is_head = is_head;
    return ERR_OK;
}

void http1_response_parser_free(struct http1_response_parser *p)
{
    if (p == NULL)
        return;
    free(p->body);
    free(p);
}

/* Feeds once; n == 0 tells http-parser that the peer closed. */
static void response_execute(struct http1_response_parser *p, const void *at, size_t n)
{
    static const http_parser_settings settings = {
        .on_header_field = on_response_field,
        .on_header_value = on_response_value,
        .on_headers_complete = on_response_head,
        .on_body = on_response_body,
        .on_message_complete = on_response_end,
    };

    (void)http_parser_execute(&p->parser, &settings, at, n);
    if (p->state == HTTP1_MORE && HTTP_PARSER_ERRNO(&p->parser) != HPE_OK)
        p->state = HTTP1_BAD;
}

enum http1_state http1_response_feed(struct http1_response_parser *p, struct bytes in, bool eof,
                                     struct http1_response *out)
{
    while (p->state == HTTP1_MORE && in.n > 0) {
        size_t room = HEAD_MAX - p->head_fed;
        size_t n = p->is_in_body || in.n < room ? in.n : room;

        response_execute(p, in.p, n);
        in = bytes_of(in.p + n, in.n - n);
        if (p->is_in_body)
            continue;
        p->head_fed += n;
        if (p->state == HTTP1_MORE && p->head_fed == HEAD_MAX)
            p->state = HTTP1_BAD;
    }
    if (p->state == HTTP1_MORE && eof) {
        response_execute(p, "", 0);
        if (p->state == HTTP1_MORE) /* closed before the first byte */
            p->state = HTTP1_BAD;
    }
    if (p->state == HTTP1_DONE)
        *out = p->response;
    return p->state;
}

/* --- writing --- */

enum err http1_respond(struct chain *out, struct slab_pool *pool, int status,
                       const char *content_type, const char *fields, struct bytes body,
                       bool is_head)
{
    bool has_type = content_type != NULL && content_type[0] != '\0';
    char text[512];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\n%s%.200s%s", status,
                     http_status_str((enum http_status)status), has_type ? "Content-Type: " : "",
                     has_type ? content_type : "", has_type ? "\r\n" : "");

    CHECK(n > 0 && (size_t)n < sizeof text);
    TRY(chain_push_copy(out, pool, text, (size_t)n, 0));
    if (fields[0] != '\0')
        TRY(chain_push_copy(out, pool, fields, strlen(fields), 0));
    n = snprintf(text, sizeof text, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.n);
    TRY(chain_push_copy(out, pool, text, (size_t)n, 0));
    return is_head ? ERR_OK : chain_push_copy(out, pool, body.p, body.n, 0);
}

static enum err push_field(struct chain *out, struct slab_pool *pool, const char *name,
                           const char *value)
{
    if (value == NULL || value[0] == '\0')
        return ERR_OK;
    TRY(chain_push_copy(out, pool, name, strlen(name), 0));
    TRY(chain_push_copy(out, pool, value, strlen(value), 0));
    return chain_push_copy(out, pool, "\r\n", 2, 0);
}

enum err http1_reply_write(struct chain *out, struct slab_pool *pool, const struct http1_reply *r)
{
    char line[128];

    (void)snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", r->status,
                   http_status_str((enum http_status)r->status));
    TRY(chain_push_copy(out, pool, line, strlen(line), 0));
    TRY(push_field(out, pool, "Allow: ", r->allow));
    TRY(push_field(out, pool, "Location: ", r->location));
    TRY(push_field(out, pool, "Content-Type: ", r->content_type));
    (void)snprintf(line, sizeof line, "%zu", r->body.n);
    if (!r->is_head)
        TRY(push_field(out, pool, "Content-Length: ", line));
    TRY(push_field(out, pool, "Connection: ", "close"));
    TRY(chain_push_copy(out, pool, "\r\n", 2, 0));
    return r->is_head ? ERR_OK : chain_push_copy(out, pool, r->body.p, r->body.n, 0);
}
