/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of one HTTP/1.1 request or response. Gives: its parts. Owns: what it copied.
 * Thread: any. Parsing is http-parser's. */
#ifndef HTTP1_HTTP1_H
#define HTTP1_HTTP1_H

#include "base/slice.h"

enum http1_state { HTTP1_BAD = 0, HTTP1_MORE, HTTP1_DONE };

/* --- request heads --- */
#define HTTP1_TARGET_MAX 1024
struct http1_request {
    char method[16];
    char path[HTTP1_TARGET_MAX];  /* as sent, without the query; not decoded. "*" for all of it */
    char query[HTTP1_TARGET_MAX]; /* behind '?', "" when none */
    bool has_body;                /* one follows; it is not read here */
    bool wants_upgrade;           /* to another protocol; ignoring it is allowed */
};
struct http1_request_parser;
MUST_CHECK enum err http1_request_parser_new(struct http1_request_parser **out);
void http1_request_parser_free(struct http1_request_parser *p);
/* Any method is reported; what to do with it is the caller's policy. A target is a path, a whole
 * URL (of which the path counts) or "*"; '#' is a character like another, as in Go. At most 16 KiB
 * in all; more, CONNECT, another target or another major version than 1 is HTTP1_BAD. HTTP1_DONE:
 * *out is filled, and what follows in the input is ignored. Further calls return the same
 * verdict. */
MUST_CHECK enum http1_state http1_request_feed(struct http1_request_parser *p, struct bytes in,
                                               struct http1_request *out);

/* The same of a request that came over HTTP/2, by its :method and :path. False: no HTTP/1.1 request
 * could say it, or what is HTTP1_BAD there. */
MUST_CHECK bool http1_request_of(struct bytes method, struct bytes target,
                                 struct http1_request *out);

enum http1_path { HTTP1_PATH_BAD = 0, HTTP1_PATH_CLEAN, HTTP1_PATH_UNCLEAN };
/* Decodes %XX, then resolves "//", "." and "..", as the router of Go's net/http does. UNCLEAN:
 * something was resolved; Go answers with a redirect to out. BAD: not decodable, or no path. */
MUST_CHECK enum http1_path http1_path_clean(const char path[static HTTP1_TARGET_MAX],
                                            char out[static HTTP1_TARGET_MAX]);

/* --- responses, whole: for the requests that we make ourselves --- */
struct http1_response {
    int status;
    char content_type[128]; /* "" when absent */
    char allow[128];        /* the field Allow of a 405; "" when absent */
    struct bytes body;      /* owned by the parser */
};
struct http1_response_parser;
/* max_body: a larger body is HTTP1_BAD. is_head: it answers HEAD, so that no body follows. */
MUST_CHECK enum err http1_response_parser_new(size_t max_body, bool is_head,
                                              struct http1_response_parser **out);
void http1_response_parser_free(struct http1_response_parser *p);
/* eof: the peer closed cleanly, which ends a body without a length. Informational (1xx) responses
 * are skipped; 101, a compressed transfer or more than 16 KiB of head is HTTP1_BAD. HTTP1_DONE:
 * *out is filled; the verdict stays. */
MUST_CHECK enum http1_state http1_response_feed(struct http1_response_parser *p, struct bytes in,
                                                bool eof, struct http1_response *out);

/* Writes a response with Connection: close at the end of out. content_type: "" or NULL for none.
 * fields: more fields, whole lines of "Name: value" with CR LF; "" for none. is_head: it answers
 * HEAD, so the body is only counted. Errors: ERR_NOMEM. */
MUST_CHECK enum err http1_respond(struct chain *out, struct slab_pool *pool, int status,
                                  const char *content_type, const char *fields, struct bytes body,
                                  bool is_head);

/* A response that is more than that; texts may be NULL. */
struct http1_reply {
    int status;
    const char *content_type, *allow, *location;
    struct bytes body;
    bool is_head; /* it answers HEAD: no body, and no Content-Length either */
};
MUST_CHECK enum err http1_reply_write(struct chain *out, struct slab_pool *pool,
                                      const struct http1_reply *r);

#endif
