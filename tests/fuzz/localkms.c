/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: kek_set_parse, service_method_of, service_call, wrap_open.
 * etcd-envelope-local-kms: a key file is refused with a reason or gives keys with different ids;
 * whatever a call says, it has an answer; what Encrypt gives Decrypt takes, as it is and in no
 * other form.
 *
 * Input: what it is (0: a key file; 1 to 3: the method; 4: a secret to be wrapped, behind a place
 * and a change of the byte there), the bytes. */
#include "localkms/service.h"

#include <string.h>

#include "base/secret.h"
#include "fuzz.h"
#include "localkms/wrap.h"

#define KEY "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"

static const struct kek_set *keys(void)
{
    static struct kek_set *set;
    char why[160];

    CHECK(secret_init() == ERR_OK);
    if (set == NULL)
        CHECK(kek_set_parse(BYTES_LIT("# two keys\n" KEY "MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlh"
                                      "YmNkZWY=\n"),
                            &set, why, sizeof why) == ERR_OK);
    return set;
}

static void key_file(struct bytes in)
{
    struct kek_set *set;
    char why[160] = "";

    if (kek_set_parse(in, &set, why, sizeof why) != ERR_OK) {
        CHECK(why[0] != '\0');
        return;
    }
    CHECK(set->count > 0 && set->count <= KEYFILE_KEYS_MAX);
    for (size_t i = 0; i < set->count; i++)
        CHECK(kek_set_find(set, bytes_str(set->keys[i].id)) == &set->keys[i]);
    kek_set_free(set);
    fuzz_deep();
}

static void call(enum service_method method, struct bytes request)
{
    struct service_answer a;

    service_call(keys(), method, request, &a);
    CHECK(a.message != NULL && (a.status == GRPC_OK) == (a.message[0] == '\0'));
    CHECK(a.status == GRPC_OK || a.body == NULL);
    CHECK(memchr(a.uid, '\0', sizeof a.uid) != NULL);
    for (const char *c = a.uid; *c != '\0'; c++)
        CHECK(*c > ' ' && *c < 0x7f && *c != '"');
    service_answer_fini(&a);
}

static void wrap(struct bytes in)
{
    uint8_t at = fuzz_u8(&in), change = fuzz_u8(&in), wrapped[256 + WRAP_OVERHEAD], plain[256];
    struct bytes secret = fuzz_take(&in, sizeof plain);
    const struct kek *kek = &keys()->keys[0];
    size_t n = secret.n + WRAP_OVERHEAD;

    if (secret.n == 0)
        return;
    CHECK(wrap_seal(kek, secret, wrapped) == ERR_OK);
    CHECK(wrap_open(kek, bytes_of(wrapped, n), plain) == ERR_OK);
    CHECK(bytes_eq(bytes_of(plain, secret.n), secret));
    CHECK(wrap_open(&keys()->keys[1], bytes_of(wrapped, n), plain) != ERR_OK);
    wrapped[at % n] ^= change;
    CHECK((wrap_open(kek, bytes_of(wrapped, n), plain) == ERR_OK) == (change == 0));
    fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t which = fuzz_u8(&in) % 5;

    (void)service_method_of(in);
    (void)keys();
    if (which == 0)
        key_file(in);
    else if (which == 4)
        wrap(in);
    else
        call((enum service_method)which, in);
    return 0;
}
