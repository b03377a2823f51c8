/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that kube-apiserver has for an EncryptionConfiguration whose fields and types are
 * right, with its meaning and the path as it writes it. Two steps as there: first everything that
 * is wrong with the document, then, only if nothing is, what goes wrong when the provider lists are
 * put together.
 *
 * No message shows a secret, nor anything that stands in the place of one. */
#include "config/config_int.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <wctype.h>

#include "base/fips.h"

#define NEW_KEY_HINT "make one of 32 bytes with: head -c 32 /dev/urandom | base64"

struct checker {
    struct report *r;
    const struct enc_options *o;
    locale_t utf8;          /* 0: not there */
    const char **kms_names; /* of the providers so far */
    size_t kms_count;
    size_t kms_cap;
};

/* --- resource names --- */

/* Decodes one character; the readers have made sure that the text is UTF-8. */
static const char *next_char(const char *p, wint_t *c)
{
    unsigned char first = (unsigned char)*p++;
    unsigned more = first < 0xc0 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    wint_t v = first < 0x80 ? first : first & (0x3fu >> more);

    for (; more > 0 && *p != '\0'; more--)
        v = v << 6 | ((unsigned char)*p++ & 0x3f);
    *c = v;
    return p;
}

/* A letter is a capital when it has a lower-case form. Without a UTF-8 locale we can't tell for
 * letters beyond ASCII, and refuse. */
static bool has_capital(const struct checker *ck, const char *name)
{
    while (*name != '\0') {
        wint_t c;

        name = next_char(name, &c);
        if (c >= 'A' && c <= 'Z')
            return true;
        if (c > 0x7f && (ck->utf8 == (locale_t)0 || towlower_l(c, ck->utf8) != c))
            return true;
    }
    return false;
}

static const char *resource_name_problem(const struct checker *ck, const char *name)
{
    struct group_resource gr = config__group_resource(name);

    if (has_capital(ck, name))
        return "resource name should not contain capital letters";
    if (strcmp(name, "*") == 0)
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all "
               "resources";
    if (strcmp(name, "apiserveripinfo") == 0 || strcmp(name, "serviceipallocations") == 0 ||
        strcmp(name, "servicenodeportallocations") == 0)
        return "resources which do not have REST API/s cannot be encrypted";
    if (bytes_eq(gr.group, BYTES_LIT("events.k8s.io")))
        return "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use "
               "'events' instead in the config file";
    if (bytes_eq(gr.group, BYTES_LIT("extensions")))
        return "'extensions' group has been removed and cannot be used for encryption";
    if (bytes_eq(gr.group, BYTES_LIT("*")) && !bytes_eq(gr.plural, BYTES_LIT("*")))
        return "encrypting the same resource across groups is not supported";
    return NULL;
}

static const char *item_text(const struct node *seq, size_t i)
{
    return seq->items[i]->kind == NODE_STRING ? seq->items[i]->text : "";
}

static void check_resource_names(struct checker *ck, const struct node *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        const char *name = item_text(names, i);
        const char *problem = resource_name_problem(ck, name);
        char quoted[CONFIG_QUOTE_MAX];
        char sub[CONFIG_PATH_MAX];

        if (problem == NULL)
            continue;
        snprintf(sub, sizeof(sub), "%s[%zu]", path, i);
        config__report(ck->r, sub, "Invalid value: %s: %s",
                       config__quote(name, strlen(name), quoted), problem);
    }
}

static bool is_wildcard(struct group_resource gr)
{
    return bytes_eq(gr.plural, BYTES_LIT("*"));
}

/* Does wildcard a cover b? */
static bool covers(struct group_resource a, struct group_resource b)
{
    return is_wildcard(a) && (bytes_eq(a.group, b.group) || bytes_eq(a.group, BYTES_LIT("*")));
}

static void list_names(const struct node *names, char *out, size_t cap)
{
    size_t used = (size_t)snprintf(out, cap, "[");

    for (size_t i = 0; i < names->count && used + 1 < cap; i++) {
        const char *name = item_text(names, i);
        char quoted[CONFIG_QUOTE_MAX];

        used += (size_t)snprintf(out + used, cap - used, "%s%s", i > 0 ? "," : "",
                                 config__quote(name, strlen(name), quoted));
    }
    if (used + 1 < cap)
        snprintf(out + used, cap - used, "]");
}

static int compare_names(const void *a, const void *b)
{
    const struct group_resource *x = a;
    const struct group_resource *y = b;
    int c = bytes_cmp(x->plural, y->plural);

    return c != 0 ? c : bytes_cmp(x->group, y->group);
}

/* Doubled names are neighbours once the names are sorted; the wildcards are few. */
static void find_overlap(struct group_resource *v, size_t count, bool *is_doubled,
                         bool *is_overlapping)
{
    qsort(v, count, sizeof(*v), compare_names);
    for (size_t i = 0; i < count; i++) {
        *is_doubled |= i > 0 && config__group_resource_eq(v[i - 1], v[i]);
        for (size_t k = 0; is_wildcard(v[i]) && !*is_overlapping && k < count; k++)
            *is_overlapping = k != i && covers(v[i], v[k]);
    }
}

static void check_resource_overlap(struct checker *ck, const struct node *names, const char *path)
{
    struct group_resource *v = calloc(names->count, sizeof(*v));
    bool is_doubled = false;
    bool is_overlapping = false;
    char list[512];

    if (v == NULL) {
        ck->r->is_out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < names->count; i++)
        v[i] = config__group_resource(item_text(names, i));
    find_overlap(v, names->count, &is_doubled, &is_overlapping);
    free(v);
    if (!is_doubled && !is_overlapping)
        return;
    list_names(names, list, sizeof(list));
    if (is_doubled)
        config__report(ck->r, path,
                       "Invalid value: %s: the same resource cannot be specified multiple times",
                       list);
    if (is_overlapping)
        config__report(
            ck->r, path,
            "Invalid value: %s: using overlapping resources such as 'secrets' and '*.' in "
            "the same resource list is not allowed as they will be masked",
            list);
}

/* --- keys --- */

static void check_key(struct checker *ck, const struct node *key, const char *path,
                      bool is_secretbox)
{
    const struct node *secret = config__get(key, "secret");
    char sub[CONFIG_PATH_MAX];
    size_t len;

    if (config__get_text(key, "name")[0] == '\0') {
        snprintf(sub, sizeof(sub), "%s.name", path);
        config__report(ck->r, sub, "Required value: name is a mandatory field for a key");
    }
    snprintf(sub, sizeof(sub), "%s.secret", path);
    if (secret == NULL || secret->text_len == 0)
        config__report(ck->r, sub,
                       "Required value: secret is a mandatory field for a key (" NEW_KEY_HINT ")");
    else if (!config__base64(secret->text, secret->text_len, NULL, &len))
        config__report(ck->r, sub, "Invalid value: \"REDACTED\": secrets must be base64 encoded");
    else if (len != 32 && (is_secretbox || (len != 16 && len != 24)))
        config__report(
            ck->r, sub,
            "Invalid value: \"REDACTED\": secret is not of the expected length, got %zu, "
            "expected one of %s (" NEW_KEY_HINT ")",
            len, is_secretbox ? "[32]" : "[16 24 32]");
}

static void check_keys(struct checker *ck, const struct node *local, const char *path,
                       bool is_secretbox)
{
    size_t count = config__get_count(local, "keys");
    char sub[CONFIG_PATH_MAX];

    if (count == 0) {
        snprintf(sub, sizeof(sub), "%s.keys", path);
        config__report(ck->r, sub, "Required value: at least one keys is required");
    }
    for (size_t i = 0; i < count; i++) {
        snprintf(sub, sizeof(sub), "%s.keys[%zu]", path, i);
        check_key(ck, config__get(local, "keys")->items[i], sub, is_secretbox);
    }
}

/* --- kms --- */

static void PRINTF_LIKE(5, 6) invalid_kms(struct checker *ck, const char *path, const char *field,
                                          const char *value, const char *fmt, ...)
{
    char sub[CONFIG_PATH_MAX];
    char quoted[CONFIG_QUOTE_MAX];
    char reason[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);
    snprintf(sub, sizeof(sub), "%s.%s", path, field);
    config__report(ck->r, sub, "Invalid value: %s: %s", config__quote(value, strlen(value), quoted),
                   reason);
}

static bool is_name_used(const struct checker *ck, const char *name)
{
    for (size_t i = 0; i < ck->kms_count; i++)
        if (strcmp(ck->kms_names[i], name) == 0)
            return true;
    return false;
}

static void remember_name(struct checker *ck, const char *name)
{
    if (ck->kms_count == ck->kms_cap) {
        size_t cap = ck->kms_cap == 0 ? 8 : ck->kms_cap * 2;
        const char **names = realloc(ck->kms_names, cap * sizeof(*names));

        if (names == NULL) {
            ck->r->is_out_of_memory = true;
            return;
        }
        ck->kms_names = names;
        ck->kms_cap = cap;
    }
    ck->kms_names[ck->kms_count++] = name;
}

/* v2 names are always unique in the file; v1 names have to be so under automatic reload only, as in
 * kube-apiserver. */
static void check_kms_name(struct checker *ck, const char *name, bool is_v1, const char *path)
{
    char sub[CONFIG_PATH_MAX];

    if (name[0] == '\0') {
        snprintf(sub, sizeof(sub), "%s.name", path);
        config__report(ck->r, sub, "Required value: name is a mandatory field for a provider");
    }
    if (!is_v1 && strchr(name, ':') != NULL)
        invalid_kms(ck, path, "name", name,
                    "invalid KMS provider name %.100s, must not contain ':'", name);
    if ((ck->o->is_reload || !is_v1) && is_name_used(ck, name))
        invalid_kms(ck, path, "name", name,
                    "duplicate KMS provider name %.100s, names must be unique", name);
    remember_name(ck, name);
}

static void check_kms_endpoint(struct checker *ck, const char *endpoint, const char *path)
{
    char scheme[CONFIG_SCHEME_MAX];
    const char *problem;
    char *socket_path;

    if (endpoint[0] == '\0') {
        invalid_kms(ck, path, "endpoint", "", "endpoint is a mandatory field for a kms");
        return;
    }
    socket_path = malloc(strlen(endpoint) + 1);
    if (socket_path == NULL) {
        ck->r->is_out_of_memory = true;
        return;
    }
    problem = config__endpoint(endpoint, scheme, socket_path);
    free(socket_path);
    if (problem != NULL)
        invalid_kms(ck, path, "endpoint", endpoint, "invalid endpoint for kms provider, error: %s",
                    problem);
    else if (strcmp(scheme, "unix") != 0)
        invalid_kms(ck, path, "endpoint", endpoint,
                    "unsupported scheme \"%s\" for KMS provider, only unix is supported", scheme);
}

static void check_kms_cache_size(struct checker *ck, const struct node *size, bool is_v1,
                                 const char *path)
{
    char sub[CONFIG_PATH_MAX];

    if (size == NULL)
        return;
    snprintf(sub, sizeof(sub), "%s.cachesize", path);
    if (!is_v1)
        config__report(ck->r, sub, "Invalid value: %.0f: cachesize is not supported in v2",
                       size->number);
    else if ((int)size->number == 0)
        config__report(
            ck->r, sub,
            "Invalid value: 0: cachesize should be a positive value, or negative to disable");
}

static void check_kms(struct checker *ck, const struct node *kms, const char *path)
{
    const char *version = config__get_text(kms, "apiVersion");
    const struct node *timeout = config__get(kms, "timeout");
    bool is_v1 = version[0] == '\0' || strcmp(version, "v1") == 0;
    int64_t ns = 1;

    check_kms_name(ck, config__get_text(kms, "name"), is_v1, path);
    if (timeout != NULL && config__duration(timeout->text, &ns) == NULL && ns <= 0)
        invalid_kms(ck, path, "timeout", timeout->text, "timeout should be a positive value");
    check_kms_endpoint(ck, config__get_text(kms, "endpoint"), path);
    check_kms_cache_size(ck, config__get(kms, "cachesize"), is_v1, path);
    if (!is_v1 && strcmp(version, "v2") != 0)
        invalid_kms(ck, path, "apiVersion", version,
                    "unsupported apiVersion for KMS provider, only v1 and v2 are supported");
}

/* --- providers, entries --- */

static void check_provider(struct checker *ck, const struct node *provider, const char *path)
{
    static const char *const names[] = {"kms", "aesgcm", "aescbc", "secretbox", "identity"};
    const char *found = NULL;
    size_t count = 0;
    char sub[CONFIG_PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (config__get(provider, names[i]) == NULL)
            continue;
        found = found == NULL ? names[i] : found;
        count++;
    }
    if (count == 0) {
        config__report(ck->r, path,
                       "Invalid value: provider does not contain any of the expected providers: "
                       "KMS, AESGCM, AESCBC, Secretbox, Identity");
        return;
    }
    if (count > 1)
        config__report(
            ck->r, path,
            "Invalid value: more than one provider specified in a single element, should "
            "split into different list elements");
    snprintf(sub, sizeof(sub), "%s.%s", path, found);
    if (found == names[0])
        check_kms(ck, config__get(provider, found), sub);
    else if (found != names[4])
        check_keys(ck, config__get(provider, found), sub, found == names[3]);
    if (found == names[3] && fips_is_on())
        config__report(ck->r, sub, "Forbidden: " FIPS_NO_SECRETBOX);
}

static void check_entry(struct checker *ck, const struct node *entry, const char *path)
{
    const struct node *names = config__get(entry, "resources");
    size_t provider_count = config__get_count(entry, "providers");
    char sub[CONFIG_PATH_MAX];

    snprintf(sub, sizeof(sub), "%s.resources", path);
    if (names == NULL || names->count == 0) {
        config__report(ck->r, sub, "Required value: at least one %s is required", sub);
    } else {
        check_resource_overlap(ck, names, sub);
        check_resource_names(ck, names, sub);
    }
    if (provider_count == 0) {
        snprintf(sub, sizeof(sub), "%s.providers", path);
        config__report(ck->r, sub, "Required value: at least one %s is required", sub);
    }
    for (size_t i = 0; i < provider_count; i++) {
        snprintf(sub, sizeof(sub), "%s.providers[%zu]", path, i);
        check_provider(ck, config__get(entry, "providers")->items[i], sub);
    }
}

/* --- putting the lists together --- */

/* "secrets." is shown as "secrets", "*." as it is. */
static void show_name(struct group_resource gr, char *out, size_t cap)
{
    bool has_dot = gr.group.n > 0 || is_wildcard(gr);

    snprintf(out, cap, "%.*s%s%.*s", (int)(gr.plural.n < 100 ? gr.plural.n : 100), gr.plural.p,
             has_dot ? "." : "", (int)(gr.group.n < 100 ? gr.group.n : 100), gr.group.p);
}

/* Does a wildcard in the first "before" entries cover the name? Then *by is that wildcard. */
static bool is_masked(const struct node *entries, size_t before, struct group_resource gr,
                      struct group_resource *by)
{
    for (size_t i = 0; i < before; i++) {
        const struct node *names = config__get(entries->items[i], "resources");

        for (size_t k = 0; k < names->count; k++) {
            *by = config__group_resource(item_text(names, k));
            if (covers(*by, gr))
                return true;
        }
    }
    return false;
}

static void check_masks(struct checker *ck, const struct node *entries, size_t index)
{
    const struct node *names = config__get(entries->items[index], "resources");

    for (size_t k = 0; k < names->count; k++) {
        struct group_resource gr = config__group_resource(item_text(names, k));
        struct group_resource by;
        char masked[256];
        char masking[256];
        char path[CONFIG_PATH_MAX];

        if (!is_masked(entries, index, gr, &by))
            continue;
        show_name(gr, masked, sizeof(masked));
        show_name(by, masking, sizeof(masking));
        snprintf(path, sizeof(path), "resources[%zu].resources[%zu]", index, k);
        config__report(ck->r, path, "resource \"%s\" is masked by earlier rule \"%s\"", masked,
                       masking);
    }
}

void config__validate(struct report *r, const struct node *root, const struct enc_options *o)
{
    const struct node *entries = config__get(root, "resources");
    struct checker ck = {.r = r, .o = o};
    char path[CONFIG_PATH_MAX];

    if (entries == NULL || entries->count == 0) {
        config__report(r, "resources", "Required value: at least one resources is required");
        return;
    }
    ck.utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    for (size_t i = 0; i < entries->count; i++) {
        snprintf(path, sizeof(path), "resources[%zu]", i);
        check_entry(&ck, entries->items[i], path);
    }
    for (size_t i = 0; i < entries->count && config__report_result(r) == ERR_OK; i++) {
        check_masks(&ck, entries, i);
    }
    if (ck.utf8 != (locale_t)0)
        freelocale(ck.utf8);
    free(ck.kms_names);
}
