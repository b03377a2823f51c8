/* SPDX-License-Identifier: Apache-2.0 */
#include "config/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"
#include "config/config_int.h"

enum err digest_text(struct bytes text, char out[static DIGEST_TEXT_LEN])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    size_t used;

    if (EVP_Digest(text.p, text.n, digest, &len, EVP_sha256(), NULL) != 1)
        return ERR_CRYPTO;
    used = (size_t)snprintf(out, DIGEST_TEXT_LEN, "sha256:");
    for (unsigned i = 0; i < len; i++)
        used += (size_t)snprintf(out + used, DIGEST_TEXT_LEN - used, "%02x", digest[i]);
    return ERR_OK;
}

enum err digest_file(const char *path, char out[static DIGEST_TEXT_LEN])
{
    char reason[256];
    uint8_t *text;
    size_t len;
    enum err e;

    TRY(config__read_file(path, CONFIG_PIPES_REFUSED, &text, &len, reason, sizeof reason));
    e = digest_text(bytes_of(text, len), out);
    secret_wipe(text, len);
    free(text);
    return e;
}

void digest_files(const char *const *paths, size_t count, char out[static DIGEST_TEXT_LEN])
{
    char sum[DIGEST_TEXT_LEN] = "", both[2 * DIGEST_TEXT_LEN], one[DIGEST_TEXT_LEN];

    for (size_t i = 0; i < count; i++) {
        if (paths[i] == NULL || digest_file(paths[i], one) != ERR_OK)
            snprintf(one, sizeof one, "-");
        snprintf(both, sizeof both, "%s%s", sum, one);
        if (digest_text(bytes_str(both), sum) != ERR_OK)
            snprintf(sum, sizeof sum, "?");
    }
    snprintf(out, DIGEST_TEXT_LEN, "%s", sum);
}
