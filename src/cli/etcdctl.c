/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli_int.h"

#define URLS_MAX 4096
#define OUR_SERVERS "ETCD_ENVELOPE_ETCD_SERVERS"

static const char *given(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool is_off(const char *value)
{
    return strcmp(value, "0") == 0 || strcasecmp(value, "f") == 0 ||
           strcasecmp(value, "false") == 0;
}

/* etcdctl takes "HOST:PORT", too: https where it has a certificate or an authority, or is told not
 * to talk in clear text. */
static bool wants_tls(void)
{
    const char *clear = given("ETCDCTL_INSECURE_TRANSPORT");

    return given("ETCDCTL_CACERT") != NULL || given("ETCDCTL_CERT") != NULL ||
           (clear != NULL && is_off(clear));
}

static enum err endpoints(const char *text, bool is_tls, char out[static URLS_MAX])
{
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

static enum err servers(bool is_tls, char *why, size_t why_len)
{
    const char *text = given("ETCDCTL_ENDPOINTS");
    char urls[URLS_MAX];

    if (text == NULL)
        return ERR_OK;
    snprintf(why, why_len, "ETCDCTL_ENDPOINTS is too long");
    TRY(endpoints(text, is_tls, urls));
    return stand_for(OUR_SERVERS, urls);
}

static enum err environment(char *why, size_t why_len)
{
    const char *insecure = given("ETCDCTL_INSECURE_SKIP_TLS_VERIFY");

    if (insecure != NULL && !is_off(insecure))
        return not_followed(
            "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
            "give the authority of etcd's certificate (--etcd-cafile), and unset it", why, why_len);
    TRY(servers(wants_tls(), why, why_len));
    TRY(stand_for("ETCD_ENVELOPE_ETCD_CAFILE", given("ETCDCTL_CACERT")));
    TRY(stand_for("ETCD_ENVELOPE_ETCD_CERTFILE", given("ETCDCTL_CERT")));
    return stand_for("ETCD_ENVELOPE_ETCD_KEYFILE", given("ETCDCTL_KEY"));
}

enum err cli__settings(int argc, char *const argv[], struct settings **out, char *why,
                       size_t why_len)
{
    bool is_ours = given(OUR_SERVERS) != NULL || given("ETCDCTL_ENDPOINTS") == NULL;

    *out = NULL;
    TRY(environment(why, why_len));
    TRY(settings_parse(argc, argv, out, why, why_len));
    if (is_ours || ((*out)->etcd_cafile == NULL && (*out)->etcd_certfile == NULL))
        return ERR_OK;
    /* Wherever these were given: etcdctl's servers are not talked to in clear text then. */
    settings_free(*out);
    *out = NULL;
    unsetenv(OUR_SERVERS);
    TRY(servers(true, why, why_len));
    return settings_parse(argc, argv, out, why, why_len);
}
