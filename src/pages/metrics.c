/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/metrics.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/registry.h"
#include "kms/text.h"
#include "net/tls.h"

/* What stands for this server in apiserver_id_hash: the name of its host, as every server of a
 * cluster needs another one. */
static void set_identity(void)
{
    char host[256] = "", hash[KMS_HASH_TEXT];

    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0')
        snprintf(host, sizeof host, "localhost");
    registry_identity(kms_hash_text(bytes_str(host), hash));
}

void pages__metrics_init(const struct server *server)
{
    const struct ruleset *rules = server_rules(server);
    struct timespec now;

    set_identity();
    registry_set(REGISTRY_BUILD_INFO, LABELS(ENVELOPE_VERSION), 1);
    clock_gettime(CLOCK_REALTIME, &now);
    registry_set(REGISTRY_START, NO_LABELS, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    if (rules != NULL)
        metric_config(rules->config->hash);
}

static void look_at_process(void)
{
    unsigned long long pages;
    struct rusage usage;
    double fds = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    DIR *dir = opendir("/proc/self/fd");

    if (f != NULL) {
        if (fscanf(f, "%*u %llu", &pages) == 1)
            registry_set(REGISTRY_RESIDENT, NO_LABELS,
                         (double)pages * (double)sysconf(_SC_PAGESIZE));
        fclose(f);
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        registry_set(REGISTRY_CPU, NO_LABELS,
                     (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (dir == NULL)
        return;
    while (readdir(dir) != NULL)
        fds++;
    closedir(dir);
    registry_set(REGISTRY_FDS, NO_LABELS, fds - 3); /* ".", ".." and the folder itself */
}

static void look_at_certificate(const struct net_tls *tls, const char *name)
{
    int64_t ends;

    if (tls != NULL && net_tls_expiry(tls, &ends))
        registry_set(REGISTRY_CERTIFICATE, LABELS(name), (double)ends);
}

static void look_at_plugins(const struct server *server)
{
    const struct ruleset *rules = server_rules(server);

    registry_forget(REGISTRY_KMS_HEALTHY); /* those of an older configuration */
    for (size_t i = 0; rules != NULL && i < rules->plugin_count; i++) {
        struct kms_plugin_state state;

        kms_manager_state(server_manager(server), i, &state);
        registry_set(REGISTRY_KMS_HEALTHY, LABELS(rules->plugins[i].provider->name),
                     state.is_healthy ? 1 : 0);
    }
}

enum err pages__metrics_write(const struct server *server, FILE *f)
{
    look_at_process();
    look_at_certificate(server_listen_tls(server), "server");
    look_at_certificate(server_etcd_tls(server), "etcd_client");
    look_at_plugins(server);
    return registry_write(f);
}
