/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the path and message of a call of Kubernetes' KMS v2 service. Gives: its answer message
 * or a gRPC status. Owns: nothing. Thread: the owner's. No I/O. */
#ifndef LOCALKMS_SERVICE_H
#define LOCALKMS_SERVICE_H

#include "localkms/keyfile.h"

#define SERVICE_REQUEST_MAX (64u * 1024)

enum service_method { SERVICE_UNKNOWN = 0, SERVICE_STATUS, SERVICE_ENCRYPT, SERVICE_DECRYPT };

enum service_method service_method_of(struct bytes path);

struct service_answer {
    enum grpc_status status;
    const char *message; /* static text; "" when OK */
    uint8_t *body;       /* heap, wiped by service_answer_fini; NULL unless OK and not empty */
    size_t body_len;
    char uid[64]; /* of the request, fit for a log line */
};

void service_call(const struct kek_set *keys, enum service_method method, struct bytes request,
                  struct service_answer *out);
void service_answer_fini(struct service_answer *a);

#endif
