/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of one HTTP/1.1 request or response. Gives: its parts. Owns: what it copied.
 * Thread: any. Parsing is http-parser's. */
#ifndef HTTP1_HTTP1_H
#define HTTP1_HTTP1_H

#include "base/slice.h"

enum http1_state { HTTP1_BAD = 0, HTTP1_MORE, HTTP1_DONE };

/* --- request heads: bodies are refused --- */
#define HTTP1_TARGET_MAX 1024
struct http1_request {
    char method[16];
    char path[HTTP1_TARGET_MAX];  /* as sent, without the query; not decoded */
    char query[HTTP1_TARGET_MAX]; /* behind '?', "" when none */
};
struct http1_request_parser;
MUST_CHECK enum err http1_request_parser_new(struct http1_request_parser **out);
void http1_request_parser_free(struct http1_request_parser *p);
/* At most 16 KiB in all; more, a body or an upgrade is HTTP1_BAD. HTTP1_DONE: *out is filled. */
MUST_CHECK enum http1_state http1_request_feed(struct http1_request_parser *p, struct bytes in,
                                               struct http1_request *out);

/* --- responses, whole: for the requests that we make ourselves --- */
struct http1_response {
    int status;
    char content_type[128]; /* "" when absent */
    struct bytes body;      /* owned by the parser */
};
struct http1_response_parser;
/* max_body: a larger body is HTTP1_BAD. */
MUST_CHECK enum err http1_response_parser_new(size_t max_body, struct http1_response_parser **out);
void http1_response_parser_free(struct http1_response_parser *p);
/* eof: the peer closed, which ends a body without a length. */
MUST_CHECK enum http1_state http1_response_feed(struct http1_response_parser *p, struct bytes in,
                                                bool eof, struct http1_response *out);

/* Writes a whole response with Connection: close at the end of out. Errors: ERR_NOMEM. */
MUST_CHECK enum err http1_respond(struct chain *out, struct slab_pool *pool, int status,
                                  const char *content_type, struct bytes body);

#endif
