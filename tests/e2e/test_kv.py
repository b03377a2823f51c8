#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Put, Range, DeleteRange, Txn: what a client sees is what it would see of etcd itself, and what lies in
etcd is an envelope where the key is protected, and the client's bytes where it is not."""
import random

import harness  # first: it sets the path to tests/fake
import h2raw
from client import prefix_end
from harness import Code, DIRECT, envelope
from protos import rpc

VALUE = b"a value that must not be found in etcd"


def put(key, value, **fields):
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, **fields))


def get(key, end=b"", **fields):
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end, **fields))


def delete(key, end=b"", **fields):
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end, **fields))


def nested(success=(), failure=(), compare=()):
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=compare, success=success, failure=failure))


def absent(key):
    """Compare: the key does not exist, as kube-apiserver says it."""
    return rpc.Compare(target=rpc.Compare.MOD, key=key, mod_revision=0)


class Put(harness.E2E):
    def test_put_and_get(self):
        key = self.secret()
        answer = self.client.put(key, VALUE)
        self.assertSealed(key, VALUE)
        got = self.client.get(key)
        self.assertEqual([k.value for k in got.kvs], [VALUE])
        self.assertEqual(got.count, 1)
        self.assertEqual(got.kvs[0].mod_revision, answer.header.revision)
        self.assertEqual(got.header.member_id, self.raw.get(key).header.member_id)

    def test_sizes(self):
        for size in (1, 2, 15, 16, 17, 59, 60, 127, 128, 255, 256, 4095, 16383, 16384, 65535, 65536, 70000,
                     300000, 1400000):
            key, value = self.secret(str(size)), random.Random(size).randbytes(size)
            self.client.put(key, value)
            self.assertSealed(key, value)
            self.assertEqual(self.client.value(key), value, size)

    def test_empty_value_is_sealed(self):
        key = self.secret()
        self.client.put(key, b"")
        self.assertSealed(key, b"")
        self.assertEqual(self.client.value(key), b"")

    def test_value_of_our_own_look(self):
        """A plaintext that looks like part of an envelope is a plaintext."""
        for value in (b"k8s:enc", b"k8s:en", b" k8s:enc:kms:v2:test:", b"\0" * 100, b"\xff" * 100):
            self.client.put(self.secret(), value)
            self.assertEqual(self.client.value(self.secret()), value)
            self.assertSealed(self.secret(), value)

    def test_two_writes_differ_in_etcd(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        stored = set()
        for _ in range(20):
            self.client.put(self.secret(), VALUE)
            stored.add(self.raw.value(self.secret()))
        self.assertEqual(len(stored), 20)
        data = {envelope.parse(s).encrypted_data[:44] for s in stored}
        self.assertEqual(len(data), 20, "info and nonce are fresh for every write")

    def test_prev_kv(self):
        key = self.secret()
        self.client.put(key, b"first")
        answer = self.client.put(key, b"second", prev_kv=True)
        self.assertEqual((answer.prev_kv.key, answer.prev_kv.value), (key, b"first"))
        gone = self.client.delete(key, prev_kv=True)
        self.assertEqual([k.value for k in gone.prev_kvs], [b"second"])
        self.assertEqual(gone.deleted, 1)
        self.assertFalse(self.client.put(key, b"third", prev_kv=True).HasField("prev_kv"))

    def test_ignore_value_keeps_the_envelope(self):
        key = self.secret()
        self.client.put(key, VALUE)
        stored = self.raw.value(key)
        lease = self.client.grant(60).ID
        self.client.put(key, b"", ignore_value=True, lease=lease)
        self.assertEqual(self.raw.value(key), stored)
        self.assertEqual(self.client.get(key).kvs[0].lease, lease)
        self.client.put(key, b"with lease kept", ignore_lease=True)
        got = self.client.get(key).kvs[0]
        self.assertEqual((got.value, got.lease), (b"with lease kept", lease))
        self.assertSealed(key, b"with lease kept")

    def test_etcds_own_refusals(self):
        for prefix in (self.secret(), self.plain()):
            self.client.put(prefix, b"x")
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, prefix, b"x", ignore_value=True,
                              text="etcdserver: value is provided")
            self.assertStatus(Code.NOT_FOUND, self.client.put, prefix, b"x", lease=4242,
                              text="etcdserver: requested lease not found")
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, b"", b"x",
                          text="etcdserver: key is not provided")
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, self.secret("no"), b"",
                          ignore_value=True, text="etcdserver: key not found")

    def test_too_large_for_etcd(self):
        for key in (self.secret(), self.plain()):
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, key, b"x" * 1600000,
                              text="etcdserver: request is too large")

    def test_unprotected_keys_are_untouched(self):
        value = b"not secret " * 10
        for key in (self.plain(), b"/registry/secretsfoo/" + self.name.encode(), b"/other/secrets/a",
                    b"registry/secrets/a", b"/registry/services/specs/a", b"compact_rev_key"):
            self.client.put(key, value)
            self.assertEqual(self.raw.value(key), value, key)
            self.assertEqual(self.client.value(key), value)
        # Bytes that look sealed are nobody's business there.
        self.client.put(self.plain(), b"k8s:enc:kms:v2:test:garbage")
        self.assertEqual(self.client.value(self.plain()), b"k8s:enc:kms:v2:test:garbage")

    def test_the_key_itself_is_protected(self):
        """/registry/secrets without a slash, too."""
        for key in (b"/registry/secrets", b"/registry/secrets/", b"/registry/secrets//x",
                    b"/registry/configmaps/ns/\xff\x00name"):
            self.client.put(key, VALUE)
            self.assertSealed(key, VALUE)
            self.assertEqual(self.client.value(key), VALUE)
            self.client.delete(key)

    def test_planted_by_kubernetes(self):
        """Values that the proxy did not write: type 0 and 1, with and without annotations."""
        key = self.secret()
        for options in ({}, {"source_type": 0}, {"annotations": {"a.example.org": b"1", "b.example.org": b""}},
                        {"key_id": "another-key"}):
            if DIRECT:
                self.skipTest("needs the proxy")
            self.plant(key, VALUE, **options)
            self.assertEqual(self.client.value(key), VALUE, options)


class Range(harness.E2E):
    def fill(self, count=50):
        """count protected keys and as many unprotected ones; {key: value}"""
        self.all = {}
        for i in range(count):
            for key in (self.secret(f"{i:04}"), self.plain(f"{i:04}")):
                self.all[key] = f"value {i} of {key.decode()}".encode()
                self.client.put(key, self.all[key])
        return self.all

    def as_dict(self, answer):
        return {k.key: k.value for k in answer.kvs}

    def test_lists(self):
        everything = self.fill()
        prefix = self.secret("")
        mine = {k: v for k, v in everything.items() if k.startswith(prefix)}
        answer = self.client.list(prefix)
        self.assertEqual(self.as_dict(answer), mine)
        self.assertEqual([k.key for k in answer.kvs], sorted(mine))
        self.assertEqual(answer.count, len(mine))
        # from-key, everything, mixed: each value as its own key says
        for key, end in ((b"/registry/", b"\0"), (b"\0", b"\0"), (b"/registry/", b"/registry0")):
            got = self.as_dict(self.client.get(key, end))
            self.assertEqual({k: v for k, v in got.items() if k in everything}, everything)

    def test_pages(self):
        everything, prefix = self.fill(), self.secret("")
        key, pages, got = prefix, 0, {}
        while True:
            page = self.client.get(key, prefix_end(prefix), limit=7)
            got.update(self.as_dict(page))
            pages += 1
            if not page.more:
                break
            key = page.kvs[-1].key + b"\0"
        self.assertEqual(pages, 8)
        self.assertEqual(got, {k: v for k, v in everything.items() if k.startswith(prefix)})

    def test_options(self):
        self.fill(10)
        prefix = self.secret("")
        keys = self.client.list(prefix, keys_only=True)
        self.assertEqual([k.value for k in keys.kvs], [b""] * 10)
        self.assertEqual(len(keys.kvs), 10)
        count = self.client.list(prefix, count_only=True)
        self.assertEqual((count.count, len(count.kvs)), (10, 0))
        down = self.client.list(prefix, sort_order=rpc.RangeRequest.DESCEND, sort_target=rpc.RangeRequest.KEY)
        self.assertEqual([k.key for k in down.kvs], sorted((k.key for k in keys.kvs), reverse=True))
        self.assertEqual(len({k.value for k in down.kvs}), 10)
        ser = self.client.list(prefix, serializable=True)
        self.assertEqual(len(ser.kvs), 10)
        revision = self.client.put(self.secret("0000"), b"newer").header.revision
        old = self.client.get(self.secret("0000"), revision=revision - 1)
        self.assertNotEqual(old.kvs[0].value, b"newer")
        newer = self.client.list(prefix, min_mod_revision=revision)
        self.assertEqual([k.value for k in newer.kvs], [b"newer"])

    def test_sort_by_value_is_refused(self):
        self.fill(3)
        by_value = {"sort_target": rpc.RangeRequest.VALUE}
        for order in (rpc.RangeRequest.NONE, rpc.RangeRequest.ASCEND, rpc.RangeRequest.DESCEND):
            for key, end in ((self.secret(""), prefix_end(self.secret(""))), (b"\0", b"\0"),
                             (b"/registry/", b"/registry0"), (b"/registry/pods", b"\0")):
                if not DIRECT:
                    self.assertStatus(Code.INVALID_ARGUMENT, self.client.get, key, end, sort_order=order,
                                      **by_value)
        plain = self.client.list(self.plain(""), sort_order=rpc.RangeRequest.DESCEND, **by_value)
        self.assertEqual([k.value for k in plain.kvs], sorted((k.value for k in plain.kvs), reverse=True))
        self.assertEqual(len(plain.kvs), 3)

    def test_compacted_is_passed_on(self):
        first = self.client.put(self.secret(), b"1").header.revision
        last = self.client.put(self.secret(), b"2").header.revision
        self.client.compact(last)
        text = self.assertStatus(Code.OUT_OF_RANGE, self.client.get, self.secret(), revision=first)
        self.assertEqual(text, "etcdserver: mvcc: required revision has been compacted")
        text = self.assertStatus(Code.OUT_OF_RANGE, self.client.get, self.secret(), revision=1 << 40)
        self.assertEqual(text, "etcdserver: mvcc: required revision is a future revision")

    def test_plaintext_at_rest_is_refused(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        key = self.secret()
        for stored in (b"plain text", b"k8s:enc:aescbc:v1:key1:" + b"x" * 64, b"k8s:enc:kms:v2:other:" + b"x" * 64,
                       b"k8s:enc:kms:v2:test:", b"k8s:enc:kms:v2:test:" + b"\xff" * 50, b"k8s:enc:"):
            self.raw.put(key, stored)
            text = self.assertStatus(Code.DATA_LOSS, self.client.get, key)
            self.assertIn(key.decode(), text)
            self.assertNotIn("plain text", text)
            # One bad value spoils a list that it is in, and only that.
            self.assertStatus(Code.DATA_LOSS, self.client.list, b"/registry/secrets/" + self.name.encode())
            self.assertEqual(self.client.get(key, keys_only=True).kvs[0].value, b"")
        self.raw.put(key, b"")  # an empty value is plaintext, too
        self.assertStatus(Code.DATA_LOSS, self.client.get, key)
        self.raw.delete(key)

    def test_swapped_envelopes_are_refused(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        one, two = self.secret("one"), self.secret("two")
        self.client.put(one, b"1" * 40)
        self.client.put(two, b"2" * 40)
        stored = self.raw.value(one)
        self.raw.put(two, stored)
        self.assertStatus(Code.DATA_LOSS, self.client.get, two)
        self.assertEqual(self.client.value(one), b"1" * 40)
        self.assertIn("%", self.bad_key(b"/registry/secrets/\xff\n%" + b"x" * 400))

    def bad_key(self, key):
        self.raw.put(key, b"plain")
        text = self.assertStatus(Code.DATA_LOSS, self.client.get, key)
        self.assertLess(len(text), 500, "keys are cut at 256 bytes")
        self.raw.delete(key)
        return text

    def test_every_bit_flip_is_refused(self):
        """Of one envelope: a bit of each byte, a long run all of them (as unit/envelope/test_open.c does)."""
        if DIRECT or harness.SANITIZED:
            self.skipTest("needs the proxy, unsanitized")
        key = self.secret()
        stored = envelope.seal(key, VALUE)
        bits = range(len(stored) * 8) if harness.LONG else [8 * i + i % 8 for i in range(len(stored))]
        for bit in bits:
            damaged = bytearray(stored)
            damaged[bit // 8] ^= 1 << bit % 8
            self.raw.put(key, bytes(damaged))
            try:
                value = self.client.value(key)
            except harness.grpc.RpcError as error:
                self.assertEqual(error.code(), Code.DATA_LOSS, (bit, error.details()))
            else:
                self.fail(f"bit {bit}: {value!r}")
        self.raw.delete(key)


class Txn(harness.E2E):
    def test_create_update_delete_as_kubernetes_does(self):
        key = self.secret()
        created = self.client.txn([absent(key)], [put(key, b"one")])
        self.assertTrue(created.succeeded)
        self.assertSealed(key, b"one")
        again = self.client.txn([absent(key)], [put(key, b"other")])
        self.assertFalse(again.succeeded)
        self.assertEqual(len(again.responses), 0)
        revision = created.header.revision
        same = rpc.Compare(target=rpc.Compare.MOD, key=key, mod_revision=revision)
        updated = self.client.txn([same], [put(key, b"two")], [get(key)])
        self.assertTrue(updated.succeeded)
        conflict = self.client.txn([same], [put(key, b"three")], [get(key)])
        self.assertFalse(conflict.succeeded)
        self.assertEqual(conflict.responses[0].response_range.kvs[0].value, b"two")
        same.mod_revision = updated.header.revision
        gone = self.client.txn([same], [delete(key)], [get(key)])
        self.assertTrue(gone.succeeded)
        self.assertIsNone(self.client.value(key))

    def test_both_branches_and_nesting_are_sealed(self):
        keys = [self.secret(f"k{i}") for i in range(6)]
        plain = self.plain()
        ops = [put(keys[0], VALUE), put(plain, VALUE), nested(
            success=[put(keys[1], VALUE), nested(success=[put(keys[2], VALUE), get(keys[1])])],
            failure=[put(keys[3], VALUE)])]
        answer = self.client.txn([], ops, [put(keys[4], VALUE)])
        self.assertTrue(answer.succeeded)
        for key in keys[:3]:
            self.assertSealed(key, VALUE)
        self.assertEqual(self.raw.value(plain), VALUE)
        inner = answer.responses[2].response_txn.responses[1].response_txn
        self.assertEqual(inner.responses[1].response_range.kvs[0].value, VALUE)
        failed = self.client.txn([absent(keys[0])], ops, [put(keys[4], VALUE), nested(
            failure=[], success=[put(keys[5], VALUE, prev_kv=True)])])
        self.assertFalse(failed.succeeded)
        self.assertSealed(keys[4], VALUE)
        self.assertSealed(keys[5], VALUE)
        self.assertIsNone(self.raw.value(keys[3]))

    def test_prev_kvs_in_answers(self):
        one, two = self.secret("one"), self.secret("two")
        self.client.put(one, b"1")
        self.client.put(two, b"2")
        answer = self.client.txn([], [put(one, b"11", prev_kv=True), delete(two, prev_kv=True),
                                      get(self.secret(""), prefix_end(self.secret("")))])
        self.assertEqual(answer.responses[0].response_put.prev_kv.value, b"1")
        self.assertEqual(answer.responses[1].response_delete_range.prev_kvs[0].value, b"2")
        self.assertEqual([k.value for k in answer.responses[2].response_range.kvs], [b"11"])

    def test_128_operations(self):
        """etcd's limit stays etcd's."""
        keys = [self.secret(f"{i:03}") for i in range(129)]
        self.client.txn([], [put(k, k * 3) for k in keys[:128]])
        for key in keys[:128:16]:
            self.assertSealed(key, key * 3)
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [], [put(k, b"x") for k in keys],
                          text="etcdserver: too many operations in txn request")
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [], [put(keys[0], b"x")] * 2,
                          text="etcdserver: duplicate key given in txn request")

    def test_value_compare_is_refused(self):
        key = self.secret()
        self.client.put(key, VALUE)
        for compare in (rpc.Compare(target=rpc.Compare.VALUE, key=key, value=VALUE),
                        rpc.Compare(target=rpc.Compare.VALUE, key=b"/registry/", range_end=b"/registry0",
                                    value=VALUE),
                        rpc.Compare(target=rpc.Compare.VALUE, key=b"\0", range_end=b"\0", value=VALUE),
                        rpc.Compare(target=rpc.Compare.VALUE, key=key),
                        rpc.Compare(target=rpc.Compare.MOD, key=key, value=VALUE)):
            if DIRECT:
                continue
            for ops in ([put(self.plain(), b"x")], [put(key, b"x")], []):
                self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [compare], ops)
            inside = nested(compare=[compare], success=[put(self.plain(), b"x")])
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [], [inside])
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [], [], [inside])
        plain = self.plain()
        self.client.put(plain, VALUE)
        same = rpc.Compare(target=rpc.Compare.VALUE, key=plain, value=VALUE)
        self.assertTrue(self.client.txn([same], [put(plain, b"y")]).succeeded)
        self.assertFalse(self.client.txn([same], [put(plain, b"z")]).succeeded)

    def test_other_compares_work(self):
        key = self.secret()
        self.client.put(key, b"1")
        kv = self.client.get(key).kvs[0]
        lease = self.client.grant(60).ID
        for compare in (rpc.Compare(target=rpc.Compare.VERSION, key=key, version=kv.version),
                        rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=kv.create_revision),
                        rpc.Compare(target=rpc.Compare.MOD, key=key, mod_revision=kv.mod_revision),
                        rpc.Compare(target=rpc.Compare.LEASE, key=key, lease=0),
                        rpc.Compare(result=rpc.Compare.NOT_EQUAL, target=rpc.Compare.LEASE, key=key, lease=lease)):
            self.assertTrue(self.client.txn([compare], [get(key)]).succeeded, compare)

    def test_depth(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        op = put(self.secret(), VALUE)
        for _ in range(5):
            op = nested(success=[op])
        self.client.txn([], [op])
        self.assertSealed(self.secret(), VALUE)
        for depth in (40, 2000):
            op = put(self.secret(), VALUE).SerializeToString()
            for _ in range(depth):
                inner = b"\x12" + varint(len(op)) + op            # TxnRequest.success
                op = b"\x22" + varint(len(inner)) + inner          # RequestOp.request_txn
            request = b"\x12" + varint(len(op)) + op
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.unary, "/etcdserverpb.KV/Txn", request, bytes)

    def test_all_or_nothing(self):
        """A Txn with one part that is refused does nothing at all."""
        if DIRECT:
            self.skipTest("needs the proxy")
        self.plant(self.secret("bad"), b"", stored=b"plaintext")
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.txn, [], [
            put(self.secret("good"), VALUE), put(self.secret("sealed"), b"k8s:enc:kms:v2:test:nonsense")])
        self.assertIsNone(self.raw.value(self.secret("good")))
        self.raw.delete(self.secret("bad"))


class AlreadySealed(harness.E2E):
    needs_proxy = True

    def test_own_envelope_is_stored_as_it_is(self):
        key = self.secret()
        sealed = envelope.seal(key, VALUE)
        self.client.put(key, sealed)
        self.assertEqual(self.raw.value(key), sealed)
        self.assertEqual(self.client.value(key), VALUE)

    def test_others_are_refused(self):
        key = self.secret()
        for value in (envelope.seal(self.secret("other"), VALUE), envelope.seal(key, VALUE)[:-1],
                      envelope.seal(key, VALUE, provider="unknown"), b"k8s:enc:", b"k8s:enc:aescbc:v1:k:xx",
                      b"k8s:enc:kms:v2:test:"):
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, key, value)
        self.assertIsNone(self.raw.value(key))


class Identity(harness.E2E):
    """identity listed behind kms: plaintext is read, never written."""
    identity = True
    needs_proxy = True

    def test_plaintext_is_read_and_sealed_on_write(self):
        key = self.secret()
        self.raw.put(key, VALUE)
        self.assertEqual(self.client.value(key), VALUE)
        self.client.put(key, VALUE)
        self.assertSealed(key, VALUE)
        self.raw.put(key, b"")
        self.assertEqual(self.client.value(key), b"")
        self.raw.put(key, b"k8s:enc:kms:v2:gone:" + b"x" * 40)
        self.assertStatus(Code.DATA_LOSS, self.client.get, key)


class RefusedRequests(harness.E2E):
    """Well formed, but not to be decided safely: INVALID_ARGUMENT; not parseable: INTERNAL."""
    needs_proxy = True

    def put_bytes(self, data):
        return self.client.unary("/etcdserverpb.KV/Put", data, bytes)

    def refused(self, code, data, path="/etcdserverpb.KV/Put"):
        self.assertStatus(code, self.client.unary, path, data, bytes)
        self.assertIsNone(self.raw.value(self.secret()))

    def test_put(self):
        key, value = field(1, self.secret()), field(2, VALUE)
        bad = Code.INVALID_ARGUMENT
        self.refused(bad, key + value + value)
        self.refused(bad, key + key + value)
        self.refused(bad, field(1, self.plain()) + key + value)
        self.refused(bad, key + value + field(77, b"unknown"))
        self.refused(bad, key + value + tag(77, 0) + b"\x01")
        self.refused(bad, key + tag(2, 0) + b"\x01")
        self.refused(bad, key + value + tag(9, 3) + tag(9, 4))
        self.refused(bad, key + value + field(3, b"x"))
        self.refused(Code.INTERNAL, key + value[:-1])
        self.refused(Code.INTERNAL, key + value + b"\x12")
        self.refused(Code.INTERNAL, key + value + tag(0, 0) + b"\x01")
        self.refused(Code.INTERNAL, key + value + b"\x18" + b"\xff" * 11)
        self.refused(Code.INTERNAL, key + value + b"\x1e")

    def test_put_in_any_order(self):
        """Legal: any order, over-long varints."""
        key, value = field(1, self.secret()), field(2, VALUE)
        for data in (value + key, b"\x8a\x00" + key[1:] + value,
                     b"\x0a" + bytes([len(self.secret()) | 0x80, 0x80, 0x00]) + self.secret() + value,
                     tag(4, 0) + b"\x80\x00" + value + key):
            self.put_bytes(data)
            self.assertSealed(self.secret(), VALUE)
            self.raw.delete(self.secret())

    def test_unknown_fields_pass_on_unprotected_keys(self):
        self.put_bytes(field(1, self.plain()) + field(2, VALUE) + field(77, b"unknown"))
        self.assertEqual(self.raw.value(self.plain()), VALUE)

    def test_txn(self):
        put_op = field(2, field(1, self.secret()) + field(2, VALUE))
        plain_op = field(2, field(1, self.plain()) + field(2, b"x"))
        txn = "/etcdserverpb.KV/Txn"
        bad = Code.INVALID_ARGUMENT
        self.refused(bad, field(2, put_op + plain_op), txn)
        self.refused(bad, field(2, plain_op + put_op), txn)
        self.refused(bad, field(2, put_op + put_op), txn)
        self.refused(bad, field(2, field(1, field(1, b"a")) + put_op), txn)
        self.refused(bad, field(2, put_op) + field(9, b"x"), txn)
        self.refused(bad, field(2, put_op + field(9, b"x")), txn)
        self.refused(bad, field(3, put_op + tag(9, 0) + b"\x01"), txn)
        self.refused(bad, field(2, put_op) + field(1, field(3, b"a") + field(99, b"x")), txn)
        self.refused(Code.INTERNAL, field(2, put_op)[:-2], txn)

    def test_message_framing(self):
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        body = field(1, self.secret()) + field(2, VALUE)
        put = "/etcdserverpb.KV/Put"

        def status(data, **options):
            return raw.wait(raw.start(put, data, **options)).status
        good = h2raw.grpc_message(body)
        self.assertEqual(status(good[:-1]), Code.INTERNAL.value[0])
        self.assertEqual(status(good[:3]), Code.INTERNAL.value[0])
        self.assertNotEqual(status(good + good), 0)
        self.assertNotEqual(status(good + b"\0"), 0)
        self.assertNotEqual(status(b""), 0)
        self.assertIsNone(self.raw.value(self.secret()))
        # In pieces of one byte, each in a frame of its own: legal.
        sid = raw.open(put)
        for i in range(len(good)):
            raw.send_data(sid, good[i:i + 1], i == len(good) - 1)
        self.assertEqual(raw.wait(sid).status, 0)
        self.assertSealed(self.secret(), VALUE)

    def test_compressed(self):
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        body = field(1, self.secret()) + field(2, VALUE)
        for path in ("/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseGrant",
                     "/etcdserverpb.Maintenance/Status"):
            for data, extra in ((h2raw.grpc_message(body, flag=1), ()),
                                (h2raw.grpc_message(body, flag=1), [("grpc-encoding", "gzip")]),
                                (h2raw.grpc_message(body), [("grpc-encoding", "gzip")])):
                stream = raw.wait(raw.start(path, data, extra))
                self.assertEqual(stream.status, Code.UNIMPLEMENTED.value[0], path)
                self.assertEqual((stream.trailers or stream.headers).get("grpc-accept-encoding")
                                 or stream.headers.get("grpc-accept-encoding"), "identity")
        stream = raw.wait(raw.start("/etcdserverpb.KV/Put", h2raw.grpc_message(body),
                                    [("grpc-encoding", "identity")]))
        self.assertEqual(stream.status, 0)

    def test_gzip_by_a_real_client(self):
        client = self.env.client(self.target, options=[("grpc.default_compression_algorithm", 2)])
        self.assertStatus(Code.UNIMPLEMENTED, client.put, self.secret(), VALUE * 20)
        self.assertIsNone(self.raw.value(self.secret()))

    def test_message_over_the_limit(self):
        """Refused on the 5-byte prefix: the body need not come."""
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        sid = raw.open("/etcdserverpb.KV/Put")
        raw.send_data(sid, b"\0" + (17 << 20).to_bytes(4, "big") + b"x")
        stream = raw.wait(sid)
        self.assertEqual(stream.status, Code.RESOURCE_EXHAUSTED.value[0])
        self.assertIn("larger than max", stream.message)

    def test_methods(self):
        lock, election = "/v3lockpb.Lock/", "/v3electionpb.Election/"
        for path in (lock + "Lock", lock + "Unlock", election + "Campaign", election + "Proclaim",
                     election + "Leader", election + "Observe", election + "Resign", "/etcdserverpb.KV/Nope",
                     "/etcdserverpb.KV/put", "/etcdserverpb.kv/Put", "/etcdserverpb.KV/Put/", "//etcdserverpb.KV/Put",
                     "/a.B/C", "/", "/etcdserverpb.KV", "/grpc.reflection.v1.ServerReflection/Info"):
            self.assertStatus(Code.UNIMPLEMENTED, self.client.unary, path,
                              field(1, self.secret()) + field(2, VALUE) + field(3, VALUE), bytes)
        found = self.raw.list(self.secret(""))
        self.assertEqual(len(found.kvs), 0)


def varint(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def tag(number, wire):
    return varint(number << 3 | wire)


def field(number, data):
    return tag(number, 2) + varint(len(data)) + data


if __name__ == "__main__":
    harness.main()
