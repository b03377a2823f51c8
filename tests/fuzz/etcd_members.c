/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: etcd_members_rewrite.
 * Whatever etcd answers, a client sees no client URL but those that we advertise.
 *
 * Input: options (1: MemberAdd, 2: pairs, 4: one pair only), seed, the answer. */
#include "oracle.h"

#include "etcd/members.h"

static const struct etcd_advertise_url one[] = {{NULL, "http://proxy:1"}};
static const struct etcd_advertise_url pairs[] = {{"m1", "http://proxy:1"},
                                                  {"m2", "http://proxy:2"}};

static void check_member(ProtobufCMessage *m, void *arg)
{
    const Etcdserverpb__Member *member = (const Etcdserverpb__Member *)m;

    (void)arg;
    if (m->descriptor != &etcdserverpb__member__descriptor)
        return;
    for (size_t i = 0; i < member->n_clienturls; i++)
        CHECK(bytes_has_prefix(bytes_str(member->clienturls[i]), BYTES_LIT("http://proxy:")));
}

static void check(enum etcd_content content, struct bytes out)
{
    const ProtobufCMessageDescriptor *d = oracle_answer(content);
    ProtobufCMessage *m;

    CHECK(oracle_well_formed(d, out));
    m = protobuf_c_message_unpack(d, NULL, out.n, out.p);
    if (m == NULL)
        return;
    oracle_walk(m, check_member, NULL);
    oracle_free(m);
    fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t options = fuzz_u8(&in);
    enum etcd_content content = (options & 1) != 0 ? ETCD_MEMBER_ADD : ETCD_MEMBERS;
    struct etcd_advertise adv = (options & 2) != 0
                                    ? (struct etcd_advertise){pairs, (options & 4) != 0 ? 1 : 2}
                                    : (struct etcd_advertise){one, 1};
    struct kit *k = kit_get(fuzz_u8(&in));
    struct chain msg, out = {0};
    struct buf b;

    kit_chain(k, in, 1 + kit_random(k, 8), &msg);
    if (etcd_members_rewrite(content, &adv, &k->pool, &msg, &out) == ERR_OK) {
        b = buf_chain(&out);
        check(content, buf_bytes(&b));
        buf_free(&b);
    } else {
        CHECK(out.len == 0);
    }
    CHECK(msg.len == 0);
    chain_fini(&msg);
    chain_fini(&out);
    kit_done(k);
    return 0;
}
