/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of an EncryptionConfiguration (apiserver.config.k8s.io/v1): which fields there are, and
 * of which type. Strict, as kube-apiserver decodes it: unknown and doubled fields are errors, and
 * names are compared with their case. null stands for a field that is absent, whatever its type. */
#include "config/config_int.h"

#include <stdio.h>

#define FIELDS_TEXT 128u

enum shape_kind { SHAPE_MAP, SHAPE_SEQ, SHAPE_TEXT, SHAPE_DURATION, SHAPE_INT32 };

struct shape;

struct shape_field {
    const char *name;
    const struct shape *shape;
};

struct shape {
    enum shape_kind kind;
    const struct shape *item;         /* SHAPE_SEQ */
    const struct shape_field *fields; /* SHAPE_MAP */
    size_t field_count;
};

#define MAP_OF(list)                                                                               \
    {                                                                                              \
        SHAPE_MAP, NULL, list, ARRAY_LEN(list)                                                     \
    }
#define SEQ_OF(shape)                                                                              \
    {                                                                                              \
        SHAPE_SEQ, &(shape), NULL, 0                                                               \
    }

static const struct shape text = {SHAPE_TEXT, NULL, NULL, 0};
static const struct shape duration = {SHAPE_DURATION, NULL, NULL, 0};
static const struct shape int32 = {SHAPE_INT32, NULL, NULL, 0};
static const struct shape texts = SEQ_OF(text);

static const struct shape_field key_fields[] = {{"name", &text}, {"secret", &text}};
static const struct shape key = MAP_OF(key_fields);
static const struct shape key_list = SEQ_OF(key);

static const struct shape_field local_fields[] = {{"keys", &key_list}};
static const struct shape local = MAP_OF(local_fields);

static const struct shape identity = {SHAPE_MAP, NULL, NULL, 0};

static const struct shape_field kms_fields[] = {{"apiVersion", &text},
                                                {"name", &text},
                                                {"cachesize", &int32},
                                                {"endpoint", &text},
                                                {"timeout", &duration}};
static const struct shape kms = MAP_OF(kms_fields);

static const struct shape_field provider_fields[] = {{"aesgcm", &local},
                                                     {"aescbc", &local},
                                                     {"secretbox", &local},
                                                     {"identity", &identity},
                                                     {"kms", &kms}};
static const struct shape provider = MAP_OF(provider_fields);
static const struct shape provider_list = SEQ_OF(provider);

static const struct shape_field entry_fields[] = {{"resources", &texts},
                                                  {"providers", &provider_list}};
static const struct shape entry = MAP_OF(entry_fields);
static const struct shape entry_list = SEQ_OF(entry);

static const struct shape_field root_fields[] = {
    {"apiVersion", &text}, {"kind", &text}, {"resources", &entry_list}};
static const struct shape root_shape = MAP_OF(root_fields);

static void check(struct report *r, const struct shape *s, const struct node *n, const char *path);

static void wrong_type(struct report *r, const char *path, const char *wanted, const struct node *n)
{
    config__report(r, path, "Invalid value: expected %s, cannot unmarshal %s", wanted,
                   config__kind_name(n->kind));
}

static const struct shape_field *find_field(const struct shape *s, const struct node *name)
{
    if (name->kind != NODE_STRING || strlen(name->text) != name->text_len)
        return NULL;
    for (size_t i = 0; i < s->field_count; i++)
        if (strcmp(s->fields[i].name, name->text) == 0)
            return &s->fields[i];
    return NULL;
}

/* "aesgcm, aescbc, ...": what could stand there. */
static const char *field_names(const struct shape *s, char out[static FIELDS_TEXT])
{
    size_t at = 0;

    snprintf(out, FIELDS_TEXT, "none");
    for (size_t i = 0; i < s->field_count && at < FIELDS_TEXT; i++)
        at += (size_t)snprintf(out + at, FIELDS_TEXT - at, "%s%s", i > 0 ? ", " : "",
                               s->fields[i].name);
    return out;
}

static void check_map(struct report *r, const struct shape *s, const struct node *n,
                      const char *path)
{
    uint32_t seen = 0;

    if (n->kind != NODE_MAP) {
        wrong_type(r, path, "a mapping", n);
        return;
    }
    for (size_t i = 0; i + 1 < n->count; i += 2) {
        const struct node *name = n->items[i];
        const struct shape_field *f = find_field(s, name);
        char quoted[CONFIG_QUOTE_MAX];
        char sub[CONFIG_PATH_MAX];
        char names[FIELDS_TEXT];

        if (f == NULL) {
            config__report(r, path, "strict decoding error: unknown field %s (known: %s)",
                           config__quote(name->text, name->text_len, quoted),
                           field_names(s, names));
            continue;
        }
        snprintf(sub, sizeof(sub), "%s%s%s", path, path[0] != '\0' ? "." : "", f->name);
        if (seen & 1u << (f - s->fields))
            config__report(r, sub, "strict decoding error: duplicate field, it is already set");
        seen |= 1u << (f - s->fields);
        check(r, f->shape, n->items[i + 1], sub);
    }
}

static void check_seq(struct report *r, const struct shape *s, const struct node *n,
                      const char *path)
{
    char sub[CONFIG_PATH_MAX];

    if (n->kind != NODE_SEQ) {
        wrong_type(r, path, "a list", n);
        return;
    }
    for (size_t i = 0; i < n->count; i++) {
        snprintf(sub, sizeof(sub), "%s[%zu]", path, i);
        check(r, s->item, n->items[i], sub);
    }
}

static void check_text(struct report *r, const struct shape *s, const struct node *n,
                       const char *path)
{
    const char *problem;
    int64_t ns;

    if (n->kind != NODE_STRING) {
        wrong_type(r, path, "a string", n);
    } else if (strlen(n->text) != n->text_len) {
        config__report(r, path, "Invalid value: must not contain a NUL byte");
    } else if (s->kind == SHAPE_DURATION && (problem = config__duration(n->text, &ns)) != NULL) {
        char quoted[CONFIG_QUOTE_MAX];

        config__report(r, path, "Invalid value: %s: %s %s",
                       config__quote(n->text, n->text_len, quoted), problem, quoted);
    }
}

static void check(struct report *r, const struct shape *s, const struct node *n, const char *path)
{
    if (n->kind == NODE_NULL)
        return;
    switch (s->kind) {
    case SHAPE_MAP:
        check_map(r, s, n, path);
        break;
    case SHAPE_SEQ:
        check_seq(r, s, n, path);
        break;
    case SHAPE_TEXT:
    case SHAPE_DURATION:
        check_text(r, s, n, path);
        break;
    case SHAPE_INT32:
        if (n->kind != NODE_INT)
            wrong_type(r, path, "an integer", n);
        else if (n->number < INT32_MIN || n->number > INT32_MAX)
            config__report(r, path, "Invalid value: cannot unmarshal number %.40s of type int32",
                           n->text);
        break;
    }
}

/* There is one version with two names; the second one comes from a mistake in old documentation. */
static void check_kind(struct report *r, const struct node *root)
{
    const char *version = config__get_text(root, "apiVersion");
    const char *kind = config__get_text(root, "kind");
    char quoted_kind[CONFIG_QUOTE_MAX];
    char quoted_version[CONFIG_QUOTE_MAX];

    if (kind[0] == '\0')
        config__report(r, "kind", "Required value: Object 'Kind' is missing");
    if (version[0] == '\0')
        config__report(r, "apiVersion", "Required value: Object 'apiVersion' is missing");
    if (kind[0] == '\0' || version[0] == '\0')
        return;
    if (strcmp(version, "apiserver.config.k8s.io/v1") == 0 &&
        strcmp(kind, "EncryptionConfiguration") == 0)
        return;
    if (strcmp(version, "v1") == 0 && strcmp(kind, "EncryptionConfig") == 0)
        return;
    config__report(r, "apiVersion",
                   "Invalid value: no kind %s is registered for version %s, expected kind "
                   "EncryptionConfiguration of apiserver.config.k8s.io/v1",
                   config__quote(kind, strlen(kind), quoted_kind),
                   config__quote(version, strlen(version), quoted_version));
}

void config__check_schema(struct report *r, const struct node *root)
{
    if (root->kind != NODE_MAP) {
        config__report(r, "", "couldn't get version/kind: expected a mapping, cannot unmarshal %s",
                       config__kind_name(root->kind));
        return;
    }
    check(r, &root_shape, root, "");
    check_kind(r, root);
}
