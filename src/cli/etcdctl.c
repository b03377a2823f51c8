/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli_int.h"

#define URLS_MAX 4096

static const char *given(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* etcdctl takes "HOST:PORT", too: https where it has a certificate or an authority. */
static enum err endpoints(const char *text, char out[static URLS_MAX])
{
    bool is_tls = given("ETCDCTL_CACERT") != NULL || given("ETCDCTL_CERT") != NULL;
    size_t at = 0;

    for (;;) {
        size_t n = strcspn(text, ",");
        bool has_scheme = memmem(text, n, "://", 3) != NULL;
        int len = snprintf(out + at, URLS_MAX - at, "%s%.*s%s",
                           has_scheme ? ""
                           : is_tls   ? "https://"
                                      : "http://",
                           (int)n, text, text[n] == ',' ? "," : "");

        if (len < 0 || (size_t)len >= URLS_MAX - at)
            return ERR_CONFIG;
        at += (size_t)len;
        if (text[n] == '\0')
            return ERR_OK;
        text += n + 1;
    }
}

/* What neither overrides nor loses anything: our own variable goes before it, the file behind. */
static enum err stand_for(const char *ours, const char *value)
{
    if (value == NULL || given(ours) != NULL)
        return ERR_OK;
    return setenv(ours, value, 1) == 0 ? ERR_OK : ERR_NOMEM;
}

static enum err not_followed(const char *name, const char *instead, char *why, size_t why_len)
{
    snprintf(why, why_len, "%s is set, but not supported: %s", name, instead);
    return ERR_CONFIG;
}

enum err cli__etcdctl_environment(char *why, size_t why_len)
{
    const char *insecure = given("ETCDCTL_INSECURE_SKIP_TLS_VERIFY");
    const char *servers = given("ETCDCTL_ENDPOINTS");
    char urls[URLS_MAX];

    if (given("ETCDCTL_USER") != NULL)
        return not_followed("ETCDCTL_USER",
                            "give a client certificate that etcd takes for a user "
                            "(--etcd-certfile), and unset it",
                            why, why_len);
    if (insecure != NULL && strcmp(insecure, "false") != 0 && strcmp(insecure, "0") != 0)
        return not_followed(
            "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
            "give the authority of etcd's certificate (--etcd-cafile), and unset it", why, why_len);
    snprintf(why, why_len, "ETCDCTL_ENDPOINTS is too long");
    if (servers != NULL)
        TRY(endpoints(servers, urls));
    TRY(stand_for("ETCD_ENVELOPE_ETCD_SERVERS", servers == NULL ? NULL : urls));
    TRY(stand_for("ETCD_ENVELOPE_ETCD_CAFILE", given("ETCDCTL_CACERT")));
    TRY(stand_for("ETCD_ENVELOPE_ETCD_CERTFILE", given("ETCDCTL_CERT")));
    return stand_for("ETCD_ENVELOPE_ETCD_KEYFILE", given("ETCDCTL_KEY"));
}
