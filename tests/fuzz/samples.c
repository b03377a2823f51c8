/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: tools_samples_next, tools_sample_label, tools_problems_read.
 * Whatever a metrics listener answers: names, labels and their values lie within the text, and each
 * call brings the text's end nearer; problems are texts for people.
 *
 * Input: the text. */
#include "tools/problems.h"
#include "tools/samples.h"

#include "fuzz.h"

static void check_within(struct bytes all, struct bytes part)
{
    if (part.n > 0)
        CHECK(part.p >= all.p && part.p + part.n <= all.p + all.n);
}

static void check_text(const char *text, size_t cap)
{
    size_t n = strnlen(text, cap);

    CHECK(n < cap);
    for (size_t i = 0; i < n; i++)
        CHECK(text[i] >= ' ' && text[i] <= '~' && text[i] != '"');
}

static void check_problems(struct bytes all)
{
    static struct tools_problems problems;
    enum err e = tools_problems_read(all, &problems);

    CHECK(problems.count <= (e == ERR_OK ? TOOLS_PROBLEMS_MAX : 0));
    for (size_t i = 0; i < problems.count; i++) {
        const struct tools_problem *p = &problems.v[i];

        check_text(p->severity, sizeof p->severity);
        check_text(p->about, sizeof p->about);
        check_text(p->title, sizeof p->title);
        fuzz_deep();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"hash", "provider_name", "status", ""};
    struct bytes all = bytes_of(data, size), rest = all;
    struct tools_sample s;
    size_t left = rest.n;

    check_problems(all);
    while (tools_samples_next(&rest, &s)) {
        CHECK(rest.n < left);
        left = rest.n;
        CHECK(s.name.n > 0);
        check_within(all, s.name);
        check_within(all, s.labels);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct bytes label = tools_sample_label(&s, names[i]);

            check_within(s.labels, label);
            if (label.n > 0)
                fuzz_deep();
        }
    }
    return 0;
}
