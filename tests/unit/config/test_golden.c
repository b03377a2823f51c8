/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors made by genuine Kubernetes code: which configuration is accepted, what a refusal says
 * and at which path, and which entry a resource selects. What we say otherwise on purpose is listed
 * in DIFFERENCES ("FILE ID: our answer and why"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "config/encryption.h"
#include "config/resources.h"

/* What the genuine text says, and what ours has to say then. One line of the genuine text may match
 * several rows; a genuine text that matches none fails the test. */
static const struct {
    const char *genuine;
    const char *ours;
} meanings[] = {
    {"is a mandatory field for a key", "is a mandatory field for a key"},
    {"is a mandatory field for a provider", "is a mandatory field for a provider"},
    {"is a mandatory field for a kms", "is a mandatory field for a kms"},
    {"cachesize should be a positive value, or negative to disable",
     "cachesize should be a positive value, or negative to disable"},
    {"cachesize is not supported in v2", "cachesize is not supported in v2"},
    {"only v1 and v2 are supported", "only v1 and v2 are supported"},
    {"timeout should be a positive value", "timeout should be a positive value"},
    {"missing unit in duration", "missing unit in duration"},
    {"invalid duration", "invalid duration"},
    {"only unix is supported", "only unix is supported"},
    {"invalid URL escape", "invalid URL escape"},
    {"missing protocol scheme", "missing protocol scheme"},
    {"must not contain ':'", "must not contain ':'"},
    {"duplicate KMS provider name", "duplicate KMS provider name"},
    {"secret is not of the expected length", "head -c 32 /dev/urandom | base64"},
    {"expected one of [32]", "expected one of [32]"},
    {"expected one of [16 24 32]", "expected one of [16 24 32]"},
    {"secrets must be base64 encoded", "secrets must be base64 encoded"},
    {"at least one", "at least one"},
    {"more than one provider specified in a single element",
     "more than one provider specified in a single element"},
    {"does not contain any of the expected providers",
     "does not contain any of the expected providers"},
    {"unknown field", "unknown field"},
    {"already set in map", "duplicate field"},
    {"duplicate field", "duplicate field"},
    {"cannot unmarshal number 3000000000", "cannot unmarshal number 3000000000"},
    {"cannot unmarshal number", "cannot unmarshal"},
    {"cannot unmarshal string", "cannot unmarshal"},
    {"cannot unmarshal array", "cannot unmarshal a list"},
    {"no kind", "no kind"},
    {"got unexpected config type", "no kind"},
    {"Object 'Kind' is missing", "Object 'Kind' is missing"},
    {"Object 'apiVersion' is missing", "Object 'apiVersion' is missing"},
    {"is empty", "is empty"},
    {"couldn't get version/kind", "couldn't get version/kind"},
    {"should not contain capital letters", "should not contain capital letters"},
    {"use '*.' to encrypt all", "use '*.' to encrypt all"},
    {"across groups is not supported", "across groups is not supported"},
    {"stored using the 'events' API group", "stored using the 'events' API group"},
    {"'extensions' group has been removed", "'extensions' group has been removed"},
    {"do not have REST API/s", "do not have REST API/s"},
    {"the same resource cannot be specified multiple times",
     "the same resource cannot be specified multiple times"},
    {"using overlapping resources", "using overlapping resources"},
    {"is masked by earlier rule", "is masked by earlier rule"},
};

static json_t *load(const char *name)
{
    char path[512];
    json_error_t error;
    json_t *file;

    snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, name);
    file = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (file == NULL)
        fail_msg("%s: %s", path, error.text);
    return file;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    assert_non_null(text);
    return text;
}

/* Is "FILE ID:" the beginning of a line of DIFFERENCES? */
static bool is_listed(const char *file, const char *id)
{
    char wanted[256];
    char line[1024];
    bool found = false;
    FILE *f = fopen(GOLDEN_DIR "/DIFFERENCES", "r");

    if (f == NULL)
        return false;
    snprintf(wanted, sizeof(wanted), "%s %s:", file, id);
    while (!found && fgets(line, sizeof(line), f) != NULL)
        found = strncmp(line, wanted, strlen(wanted)) == 0;
    fclose(f);
    return found;
}

/* The part of a genuine line that says where: "resources[0].providers[0].kms.name", or of an
 * unknown field the path of what it stands in. "" when the line has none. */
static void path_of(const char *genuine, char *out, size_t cap)
{
    const char *p = strstr(genuine, "resources[");
    size_t n;

    out[0] = '\0';
    if (p == NULL)
        return;
    n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[].");
    if (strstr(genuine, "unknown field") != NULL)
        while (n > 0 && p[n - 1] != '.')
            n--;
    while (n > 0 && p[n - 1] == '.')
        n--;
    assert_true(n < cap);
    memcpy(out, p, n);
    out[n] = '\0';
}

static void check_meaning(const char *id, const char *genuine, const char *ours)
{
    char path[256];
    size_t matched = 0;

    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (strstr(genuine, meanings[i].genuine) == NULL)
            continue;
        matched++;
        if (strstr(ours, meanings[i].ours) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", id, ours, meanings[i].ours);
    }
    if (matched == 0)
        fail_msg("%s: no meaning known for \"%s\"", id, genuine);
    path_of(genuine, path, sizeof(path));
    if (strstr(ours, path) == NULL)
        fail_msg("%s: \"%s\" does not name %s", id, ours, path);
}

static void check_config(const char *file, const json_t *vector)
{
    const json_t *detail = json_object_get(vector, "detail");
    const json_t *expect = json_object_get(vector, "expect");
    const char *id = text_of(vector, "id");
    const char *text = text_of(detail, "encryption_configuration");
    struct enc_options o = {.is_reload = json_is_true(json_object_get(detail, "reload"))};
    bool is_wanted = json_is_true(json_object_get(expect, "ok"));
    struct enc_config *c;
    char why[2048];
    enum err e = enc_config_parse(bytes_str(text), &o, &c, why, sizeof(why));

    if (is_listed(file, id)) {
        /* A listed difference that is none any more has to go from the list. */
        if ((e == ERR_OK) == is_wanted)
            fail_msg("%s is listed as a difference, but is none", id);
    } else if ((e == ERR_OK) != is_wanted) {
        fail_msg("%s: wanted %s, got %s: %s", id, is_wanted ? "ok" : "an error", err_reason(e),
                 why);
    } else if (e != ERR_OK) {
        assert_int_equal(e, ERR_CONFIG);
        assert_null(c);
        check_meaning(id, text_of(expect, "go_error"), why);
    }
    if (strstr(why, "AAAAAAAA") != NULL)
        fail_msg("%s: a secret in \"%s\"", id, why);
    enc_config_free(c);
}

static void test_config_validation(void **state)
{
    json_t *file = load("config-validation.json");
    json_t *vectors = json_object_get(file, "vectors");
    json_t *vector;
    size_t i;

    (void)state;
    assert_true(json_array_size(vectors) > 200);
    json_array_foreach(vectors, i, vector)
        check_config("config-validation.json", vector);
    json_decref(file);
}

static void check_selection(const struct enc_config *c, const char *id, const char *resource,
                            const char *key_name)
{
    size_t indexes[16];
    size_t count = enc_config_select(c, resource, indexes, ARRAY_LEN(indexes));
    const char *ours = count == 0 ? "identity" : c->entries[indexes[0]].providers[0].keys[0].name;

    if (strcmp(ours, key_name) != 0)
        fail_msg("%s: %s instead of %s", id, ours, key_name);
}

static void check_selection_file(const char *name)
{
    struct enc_options o = {0};
    struct enc_config *c;
    char why[512];
    json_t *file = load(name);
    const char *text = text_of(file, "encryption_configuration");
    json_t *vectors = json_object_get(file, "vectors");
    json_t *vector;
    size_t i;

    assert_int_equal(enc_config_parse(bytes_str(text), &o, &c, why, sizeof(why)), ERR_OK);
    assert_true(json_array_size(vectors) > 0);
    json_array_foreach(vectors, i, vector) {
        const char *group = text_of(json_object_get(vector, "detail"), "group");
        char resource[256];

        snprintf(resource, sizeof(resource), "%s%s%s",
                 text_of(json_object_get(vector, "detail"), "resource"),
                 group[0] != '\0' ? "." : "", group);
        check_selection(c, text_of(vector, "id"), resource,
                        text_of(json_object_get(vector, "expect"), "key_name"));
    }
    enc_config_free(c);
    json_decref(file);
}

static void test_resource_selection(void **state)
{
    (void)state;
    check_selection_file("resource-selection.json");
    check_selection_file("resource-selection-2.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_validation),
        cmocka_unit_test(test_resource_selection),
    };

    if (secret_init() != ERR_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
