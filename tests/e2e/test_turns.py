#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One worker, shared by a client that makes much work and one that makes little: does the latter have its turns?"""
import threading
import time

import harness  # first: it sets the path to tests/fake
import h2raw
from harness import SANITIZED, Code
from protos import rpc

PUT = "/etcdserverpb.KV/Put"
TXN = "/etcdserverpb.KV/Txn"
MIB = 1 << 20
VALUE = b"what the honest client has stored"


class Turns(harness.E2E):
    needs_proxy = True
    proxy_flags = ("--workers", "1")
    etcd_flags = ("--max-request-bytes", 32 * MIB, "--max-txn-ops", 10000)

    def connect(self):
        client = h2raw.Client(self.address)
        self.addCleanup(client.close)
        return client

    def beside(self, attack):
        """Runs attack in a thread; until it is over each read and write of the honest client takes less than a second."""
        key = self.secret("honest")
        self.client.put(key, VALUE)
        thread = threading.Thread(target=attack)
        thread.start()
        took = []
        while thread.is_alive() or not took:
            started = time.monotonic()
            self.assertEqual(self.client.value(key), VALUE)
            self.client.put(key, VALUE)
            took.append(time.monotonic() - started)
        thread.join()
        print(f"{self.name}: {len(took)} times, {sorted(took)[len(took) // 2] * 1000:.1f} ms in the middle, "
              f"{max(took) * 1000:.1f} at most")
        self.assertLess(max(took), 1)

    @harness.timing
    def test_frames_of_one_byte(self):
        """61 MiB of them: a put of 6 MiB that never ends."""
        client = self.connect()
        sid = client.open(PUT)
        count = (8 if SANITIZED else 61) * MIB // 10
        head = h2raw.grpc_message(b"")[:1] + (15 * MIB).to_bytes(4, "big")
        client.send_data(sid, head)
        part = h2raw.pack_frame(h2raw.DATA, 0, sid, b"x") * 65536

        def attack():
            for _ in range(count // 65536):
                client.send_raw(part)

        self.beside(attack)

    @harness.timing
    def test_txns_of_16_mib(self):
        """One after the other, of many small values and of few large ones."""
        def txn(count, size):
            return h2raw.grpc_message(rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(
                key=self.secret(f"{n:05}"), value=b"v" * size)) for n in range(count)]).SerializeToString())

        def attack():
            for message in (txn(4096, 8), txn(4000, 3900), txn(128, 100 << 10), txn(1, 15 * MIB)):
                client = self.connect()
                stream = client.wait(client.start(TXN, message), 60)
                self.statuses.append(stream.status)

        self.statuses = []
        self.beside(attack)
        self.assertEqual(self.statuses, [0, 0, 0, 0])

    def test_fields_without_end(self):
        """8 million unknown fields: to be walked, and of no use to anybody."""
        fields = bytes([15 << 3, 1]) * (8 * MIB - 100)
        put = rpc.PutRequest(key=self.plain(), value=b"x").SerializeToString()
        client = self.connect()
        for path, message in ((PUT, put + fields), ("/etcdserverpb.KV/Range", fields)):
            stream = client.call(path, message, 60)
            self.assertEqual(stream.status, Code.INVALID_ARGUMENT.value[0], stream.message)
        self.assertIsNone(self.raw.value(self.plain()))


if __name__ == "__main__":
    harness.main()
