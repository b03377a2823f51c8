/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: converge_record_compare, _name, _rules, _is_complete, _is_understood, _writes.
 * Records lie in etcd, where anybody may have written them. Whatever they say: the verdict is the
 * same from both sides, a record agrees with itself only when it is complete, and its name can
 * stand in a line of a log.
 *
 * Input: two records, with a NUL between them. */
#include "converge/record.h"

#include <string.h>

#include "fuzz.h"

static char *take_text(struct bytes *in)
{
    const uint8_t *end = in->n == 0 ? NULL : memchr(in->p, '\0', in->n);
    struct bytes b = fuzz_take(in, end == NULL ? in->n : (size_t)(end - in->p));
    char *text = malloc(b.n + 1);

    CHECK(text != NULL);
    if (b.n > 0)
        memcpy(text, b.p, b.n);
    text[b.n] = '\0';
    (void)fuzz_take(in, 1);
    return text;
}

static void check_name(const char *record)
{
    char name[CONVERGE_NAME_MAX];

    CHECK(converge_record_name(record, name) == name && strlen(name) < sizeof name);
    for (const char *c = name; *c != '\0'; c++)
        CHECK(*c >= ' ' && *c < 0x7f && *c != '"');
}

static enum converge_difference compare(const char *mine, const char *theirs)
{
    char why[160] = "";
    enum converge_difference d = converge_record_compare(mine, theirs, why, sizeof why);

    CHECK(memchr(why, '\0', sizeof why) != NULL);
    CHECK((d == CONVERGE_AGREES) == (why[0] == '\0'));
    return d;
}

static void check_alone(const char *record)
{
    const char *rules = converge_record_rules(record);
    struct key_rule rule = {.prefix = "/registry/secrets", .resource = "secrets"};
    const struct key_rules mine = {.v = &rule, .count = 1};

    CHECK(rules[0] == '\0' || strncmp(rules, "rule ", 5) == 0);
    check_name(record);
    if (!converge_record_is_complete(record))
        CHECK(compare(record, record) != CONVERGE_AGREES);
    (void)converge_record_writes(record, &mine, 0, "aesgcm:v1:k:00");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    char *mine = take_text(&in), *theirs = take_text(&in);
    enum converge_difference d = compare(mine, theirs);

    /* As every proxy's own is. */
    if (converge_record_is_understood(mine) && converge_record_is_understood(theirs))
        CHECK((d == CONVERGE_AGREES) == (compare(theirs, mine) == CONVERGE_AGREES));
    check_alone(mine);
    check_alone(theirs);
    if (d == CONVERGE_AGREES && converge_record_rules(mine)[0] != '\0')
        fuzz_deep();
    free(mine);
    free(theirs);
    return 0;
}
