#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lists of 200 MiB in memory that depends on the largest value: the proxy's resident memory stays below 64 MiB
for values of 2 KiB, 64 KiB and 1.4 MiB, with clients of large and of 64 KiB windows, with a cold and slow KMS."""
import os
import time

import harness  # first: it sets the path to tests/fake
import bulk
from client import prefix_end
from harness import DIRECT, SANITIZED, envelope
from protos import rpc

TOTAL = (200 << 20) // bulk.SCALE
LIMIT_MIB = 64


class Large(harness.E2E):
    etcd_flags = ("--quota-backend-bytes", 4 << 30)

    @classmethod
    def start(cls):
        super().start()
        cls.sets = {}

    def data(self, size):
        """The prefix and keys of a set of values of this size, filled once."""
        if size not in self.sets:
            prefix = b"/registry/secrets/large%d/" % size
            self.sets[size] = prefix, bulk.fill(self.client, prefix, TOTAL // size, size)
        return self.sets[size]

    def fresh_proxy(self):
        """One that has read nothing yet: its peak is that of the test."""
        if DIRECT:
            return None
        proxy = self.env.proxy(self.etcd, self.config, name="fresh")
        self.addCleanup(proxy.stop)
        return proxy

    def assertSmall(self, proxy):
        if DIRECT or SANITIZED:
            return
        print(f"{self.name}: peak {proxy.process.peak_mib():.1f} MiB")
        self.assertLess(proxy.process.peak_mib(), LIMIT_MIB)

    def lists(self, size):
        bulk.need_memory(self, 2500)
        prefix, keys = self.data(size)
        for key in keys[:: max(1, len(keys) // 10)]:
            self.assertSealed(key, bulk.value_of(key, size))
        proxy = self.fresh_proxy()
        address = proxy.address if proxy else self.address
        # A client whose windows grow (gRPC's own), then one of 64 KiB.
        client = self.env.client(proxy.target if proxy else self.target)
        bulk.check(client.get(prefix, prefix_end(prefix), timeout=120), keys, size)
        self.assertSmall(proxy)
        bulk.check(bulk.raw_list(address, prefix), keys, size)
        self.assertSmall(proxy)
        client.close()

    def test_values_of_2_kib(self):
        self.lists(2048)

    def test_values_of_64_kib(self):
        self.lists(65536)

    def test_values_of_1400_kib(self):
        self.lists(1400 << 10)

    def test_put_and_get_of_1400_kib(self):
        key, value = self.secret(), bulk.value_of(b"x", 1400 << 10)
        self.client.put(key, value)
        self.assertEqual(self.client.value(key), value)
        self.assertSealed(key, value)

    def test_a_large_value_comes_last(self):
        """An answer above --stream-threshold that ends with a value of more than a lane's turn: as large as was
        announced, whichever method and level it is."""
        def last(op, depth):
            for _ in range(depth):
                op = rpc.RequestOp(request_txn=rpc.TxnRequest(success=[op]))
            return op

        def innermost(answer):
            part = answer.responses[0]
            while part.HasField("response_txn"):
                part = part.response_txn.responses[0]
            return part

        client, key = self.client, self.secret()
        for size in (1 << 20, (1 << 20) + 1, 1400 << 10):
            value = bulk.value_of(b"x", size)
            put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"new", prev_kv=True))
            delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, prev_kv=True))
            get = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
            cases = {"put": lambda: client.put(key, b"new", prev_kv=True).prev_kv,
                     "delete": lambda: client.delete(key, prev_kv=True).prev_kvs[0],
                     "range": lambda: client.get(key).kvs[0]}
            for depth in (0, 2):  # in a Txn, and in a Txn inside of two others
                cases[f"txn put {depth}"] = lambda d=depth: innermost(
                    client.txn([], [last(put, d)])).response_put.prev_kv
                cases[f"txn delete {depth}"] = lambda d=depth: innermost(
                    client.txn([], [last(delete, d)])).response_delete_range.prev_kvs[0]
                cases[f"txn range {depth}"] = lambda d=depth: innermost(
                    client.txn([], [last(get, d)])).response_range.kvs[0]
            for name, call in cases.items():
                with self.subTest(name, size=size):
                    client.put(key, value)
                    self.assertEqual(call().value, value)

    def test_5000_values_of_4_kib_in_one_range(self):
        prefix = self.secret("")
        keys = bulk.fill(self.client, prefix, 5000, 4096)
        for _ in range(3):
            bulk.check(self.client.list(prefix), keys, 4096)

    def test_cold_and_slow_kms(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        prefix, keys = self.data(65536)
        self.kms.delay["Decrypt"] = 0.005
        try:
            proxy = self.fresh_proxy()
            bulk.check(bulk.raw_list(proxy.address, prefix), keys, 65536)
            self.assertSmall(proxy)
        finally:
            self.kms.delay["Decrypt"] = 0

    def test_many_keys_cold(self):
        """500 DEKs that nobody has yet, 5 ms each: unwrapped side by side, each once."""
        if DIRECT:
            self.skipTest("needs the proxy")
        prefix, deks, per_dek = self.secret(""), 500 // bulk.SCALE, 8
        keys = [prefix + b"%06d" % i for i in range(deks * per_dek)]
        seeds = [os.urandom(32) for _ in range(deks)]
        wrapped = [harness.fake_kms.wrap("key-1", s) for s in seeds]
        for at in range(0, len(keys), 64):
            ops = []
            for i in range(at, min(at + 64, len(keys))):
                value = bulk.value_of(keys[i], 2048)
                ops.append(rpc.RequestOp(request_put=rpc.PutRequest(key=keys[i], value=seal_with(
                    keys[i], value, seeds[i % deks], wrapped[i % deks]))))
            self.raw.txn([], ops)
        self.kms.delay["Decrypt"] = 0.005
        try:
            proxy = self.fresh_proxy()
            before = self.kms.calls["Decrypt"]
            started = time.monotonic()
            bulk.check(proxy.client.list(prefix), keys, 2048)
            took = time.monotonic() - started
            print(f"{self.name}: {took:.2f} s, {self.kms.calls['Decrypt'] - before} unwraps, at most "
                  f"{self.kms.max_in_flight['Decrypt']} at a time")
            self.assertLessEqual(self.kms.calls["Decrypt"] - before, deks)
            self.assertGreater(self.kms.max_in_flight["Decrypt"], 1)
            self.assertSmall(proxy)
            # Now they are known.
            bulk.check(proxy.client.list(prefix), keys, 2048)
            self.assertLessEqual(self.kms.calls["Decrypt"] - before, deks)
        finally:
            self.kms.delay["Decrypt"] = 0

    def test_large_lists_side_by_side(self):
        if DIRECT or SANITIZED:
            self.skipTest("needs the proxy, unsanitized")
        bulk.need_memory(self, 4000)
        prefix, keys = self.data(65536)
        proxy = self.fresh_proxy()
        for answer in harness.in_threads(3, lambda _: bulk.raw_list(proxy.address, prefix)):
            bulk.check(answer, keys, 65536)
        print(f"{self.name}: peak {proxy.process.peak_mib():.1f} MiB")
        self.assertLess(proxy.process.peak_mib(), LIMIT_MIB)


def seal_with(key, value, seed, wrapped):
    """As envelope.seal, with a wrapped DEK made before."""
    info, nonce = os.urandom(32), os.urandom(12)
    data = info + nonce + envelope.AESGCM(envelope.derive(seed, info)).encrypt(nonce, value, key)
    return b"k8s:enc:kms:v2:test:" + envelope.obj.EncryptedObject(
        encrypted_data=data, key_id="key-1", encrypted_dek_source=wrapped,
        encrypted_dek_source_type=1).SerializeToString()


if __name__ == "__main__":
    harness.main()
