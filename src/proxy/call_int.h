/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of a call only: call.c (its life), call_admit.c (which requests are
 * calls, and the answers to those that are not). */
#ifndef PROXY_CALL_INT_H
#define PROXY_CALL_INT_H

#include "proxy/call.h"
#include "proxy/request.h"

/* call.c */
void call__set_state(struct call *c, enum call_state to);
/* http_status other than "200": before anything else was answered. */
void call__answer_status(struct call *c, const char *http_status, enum grpc_status status,
                         const char *text, bool refuse_encoding);
/* Our side of the client's stream is over. A client that goes on sending is not read any more. */
void call__down_ended(struct call *c);

/* call_admit.c */
/* True when the request may go on; else it has been answered, or will be as a probe. */
bool call__admit(struct call *c, struct h2_fields h, struct request_head *head);
/* The client does not wait for the answer to a probe any more, if there is one. */
void call__probe_cancel(struct call *c);

#endif
