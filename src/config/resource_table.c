/* SPDX-License-Identifier: Apache-2.0 */
#include "config/resource_table.h"

#include "base/base.h"

#define CORE(plural)                                                                               \
    {                                                                                              \
        plural, "", plural                                                                         \
    }
#define IN(group, plural)                                                                          \
    {                                                                                              \
        plural, group, plural                                                                      \
    }

#define ADMISSION "admissionregistration.k8s.io"
#define CERTIFICATES "certificates.k8s.io"
#define DRA "resource.k8s.io"
#define FLOWCONTROL "flowcontrol.apiserver.k8s.io"
#define NETWORKING "networking.k8s.io"
#define RBAC "rbac.authorization.k8s.io"
#define STORAGE "storage.k8s.io"

/* The prefix is the plural without the group (the API server's default resource prefix), with nine
 * exceptions that are older than the rule. Events exist in two groups, but are stored as the core
 * group's. */
const struct builtin_resource config__builtins[] = {
    CORE("configmaps"),
    {"endpoints", "", "services/endpoints"},
    CORE("events"),
    CORE("limitranges"),
    CORE("namespaces"),
    {"nodes", "", "minions"},
    CORE("persistentvolumeclaims"),
    CORE("persistentvolumes"),
    CORE("pods"),
    CORE("podtemplates"),
    {"replicationcontrollers", "", "controllers"},
    CORE("resourcequotas"),
    CORE("secrets"),
    CORE("serviceaccounts"),
    {"services", "", "services/specs"},
    IN("apps", "controllerrevisions"),
    IN("apps", "daemonsets"),
    IN("apps", "deployments"),
    IN("apps", "replicasets"),
    IN("apps", "statefulsets"),
    IN("autoscaling", "horizontalpodautoscalers"),
    IN("batch", "cronjobs"),
    IN("batch", "jobs"),
    IN("policy", "poddisruptionbudgets"),
    {"podsecuritypolicies", "policy", "podsecuritypolicy"}, /* up to Kubernetes 1.24 */
    {"ingresses", NETWORKING, "ingress"},
    IN(NETWORKING, "ingressclasses"),
    IN(NETWORKING, "ipaddresses"),
    IN(NETWORKING, "networkpolicies"),
    IN(NETWORKING, "servicecidrs"),
    IN("coordination.k8s.io", "leases"),
    IN("coordination.k8s.io", "leasecandidates"),
    IN("discovery.k8s.io", "endpointslices"),
    IN("node.k8s.io", "runtimeclasses"),
    IN(RBAC, "roles"),
    IN(RBAC, "rolebindings"),
    IN(RBAC, "clusterroles"),
    IN(RBAC, "clusterrolebindings"),
    IN(STORAGE, "csidrivers"),
    IN(STORAGE, "csinodes"),
    IN(STORAGE, "csistoragecapacities"),
    IN(STORAGE, "storageclasses"),
    IN(STORAGE, "volumeattachments"),
    IN(STORAGE, "volumeattributesclasses"),
    IN(ADMISSION, "mutatingwebhookconfigurations"),
    IN(ADMISSION, "validatingwebhookconfigurations"),
    IN(ADMISSION, "validatingadmissionpolicies"),
    IN(ADMISSION, "validatingadmissionpolicybindings"),
    IN(ADMISSION, "mutatingadmissionpolicies"),
    IN(ADMISSION, "mutatingadmissionpolicybindings"),
    IN(CERTIFICATES, "certificatesigningrequests"),
    IN(CERTIFICATES, "clustertrustbundles"),
    IN(CERTIFICATES, "podcertificaterequests"),
    IN("scheduling.k8s.io", "priorityclasses"),
    IN("scheduling.k8s.io", "podgroups"),
    IN("scheduling.k8s.io", "workloads"),
    IN(FLOWCONTROL, "flowschemas"),
    IN(FLOWCONTROL, "prioritylevelconfigurations"),
    IN(DRA, "deviceclasses"),
    IN(DRA, "devicetaintrules"),
    IN(DRA, "resourceclaims"),
    IN(DRA, "resourceclaimtemplates"),
    IN(DRA, "resourcepoolstatusrequests"),
    IN(DRA, "resourceslices"),
    IN("storagemigration.k8s.io", "storageversionmigrations"),
    IN("internal.apiserver.k8s.io", "storageversions"),
    {"customresourcedefinitions", "apiextensions.k8s.io",
     "apiextensions.k8s.io/customresourcedefinitions"},
    {"apiservices", "apiregistration.k8s.io", "apiregistration.k8s.io/apiservices"},
};
const size_t config__builtin_count = ARRAY_LEN(config__builtins);

const char *const config__never[] = {
    "health",       "ranges/serviceips", "ranges/secondaryserviceips", "ranges/servicenodeports",
    "masterleases", "peerserverleases",
};
const size_t config__never_count = ARRAY_LEN(config__never);

struct group_resource config__builtin_gr(const struct builtin_resource *row)
{
    return (struct group_resource){bytes_str(row->plural), bytes_str(row->group)};
}

bool config__is_builtin(struct group_resource gr)
{
    for (size_t i = 0; i < config__builtin_count; i++)
        if (config__group_resource_eq(config__builtin_gr(&config__builtins[i]), gr))
            return true;
    return false;
}

bool config__is_builtin_group(struct bytes group)
{
    for (size_t i = 0; i < config__builtin_count; i++)
        if (bytes_eq(bytes_str(config__builtins[i].group), group))
            return true;
    return false;
}

const char *config__group_of_plural(struct bytes plural)
{
    for (size_t i = 0; i < config__builtin_count; i++)
        if (bytes_eq(bytes_str(config__builtins[i].plural), plural))
            return config__builtins[i].group;
    return NULL;
}

static struct bytes first_segment(const char *prefix)
{
    return bytes_of(prefix, strcspn(prefix, "/"));
}

bool config__is_taken(struct bytes segment)
{
    for (size_t i = 0; i < config__builtin_count; i++)
        if (bytes_eq(first_segment(config__builtins[i].prefix), segment) ||
            bytes_eq(bytes_str(config__builtins[i].plural), segment))
            return true;
    for (size_t i = 0; i < config__never_count; i++)
        if (bytes_eq(first_segment(config__never[i]), segment))
            return true;
    return false;
}
