#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Partitions: the network between proxy and etcd drops or refuses packets, both ways or one way only. Who finds out,
when, and is all as before when it heals? Root only: machines are network namespaces."""
import contextlib
import threading
import time

import harness  # first: it sets the path to tests/fake
import network
from harness import Code, wait_until
from protos import rpc

FOUND = 13  # seconds until a silent etcd is found: 10 s without a byte, 3 s for the answer to a PING
TIME_WAIT = 6  # of /proc/net/tcp


class Pair:
    """An etcd and a proxy, with a way between them that may be cut."""

    def __init__(self, test, number):
        self.network, self.name = test.network, f"pair{number}"
        self.ends = f"proxy{number}", f"etcd{number}"
        self.etcd = network.Etcd(test.env, self.network[self.ends[1]], name=self.ends[1])
        test.addClassCleanup(self.etcd.stop)
        self.etcd.wait_up()
        self.raw = self.etcd.client
        self.proxy = network.Proxy(test.env, self.network[self.ends[0]], [self.etcd.url], test.config, self.ends[0])
        test.addClassCleanup(self.proxy.stop)

    def key(self, name):
        return f"/registry/secrets/{self.name}/{name}".encode()

    def serves(self):
        with self.client() as client:
            try:
                client.put(self.key("serves"), b"x", timeout=2)
                return client.value(self.key("serves"), timeout=2) == b"x"
            except harness.grpc.RpcError:
                return False

    def client(self):
        return contextlib.closing(harness.Client(self.proxy.target))

    def unsent(self):
        """Sockets to etcd that a proxy has closed and that still hold bytes (beside the end, which counts as one),
        which the kernel would send once it can: by their own address."""
        with self.network[self.ends[0]], open("/proc/thread-self/net/tcp", encoding="ascii") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        return {row[1] for row in rows
                if row[2].endswith(f":{network.PORT:04X}") and row[9] == "0" and int(row[3], 16) != TIME_WAIT
                and int(row[4].split(":")[0], 16) > 1}


class Partition(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.network = network.make(cls.env, "proxy0", "etcd0", "proxy1", "etcd1")
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.pairs = harness.in_threads(2, lambda number: Pair(cls, number))

    def setUp(self):
        super().setUp()
        self.addCleanup(self.network.heal)

    def put(self, pair, client, i, ended):
        try:
            client.put(pair.key(str(i)), b"given up", timeout=60)
        except harness.grpc.RpcError as error:
            ended.append((time.monotonic(), error.code()))

    def silence(self, pair, **how):
        """All calls end with UNAVAILABLE, although their clients would wait longer, and what etcd has not got by then it
        never gets. Returns how long that took."""
        ended, earlier = [], pair.unsent()
        with pair.client() as client, pair.client() as other:
            for i in range(3):
                client.put(pair.key(str(i)), b"before")
            watch = other.watch(pair.key(""), pair.key("~"))
            began = time.monotonic()
            self.network.cut(*pair.cut, **how)
            writers = [threading.Thread(target=self.put, args=(pair, client, i, ended)) for i in range(3)]
            for writer in writers:
                writer.start()
            with self.assertRaises(harness.grpc.RpcError) as lost:
                watch.next(60)
            for writer in writers:
                writer.join()
        took = time.monotonic() - began
        self.assertEqual(lost.exception.code(), Code.UNAVAILABLE)
        self.assertEqual([code for _, code in ended], [Code.UNAVAILABLE] * 3)
        wait_until(lambda: not pair.unsent() - earlier, 3, "end of the closed sockets")
        return took

    def heals(self, pair, most):
        """Each key has been written at most so often, and is what was written last."""
        wait_until(pair.serves, 20, "service")
        with pair.client() as client:
            for i in range(3):
                self.assertLessEqual(pair.raw.get(pair.key(str(i))).kvs[0].version, most)
                client.put(pair.key(str(i)), b"after")
                self.assertEqual(client.value(pair.key(str(i))), b"after")

    @harness.timing
    def test_silence(self):
        """One etcd is cut off, another hears, but is not heard."""
        pairs = self.pairs
        pairs[0].cut, pairs[1].cut = pairs[0].ends, pairs[1].ends[::-1]
        times = harness.in_threads(2, lambda i: self.silence(pairs[i], is_one_way=i == 1))
        print(f"found after {times[0]:.1f} and {times[1]:.1f} s", flush=True)
        self.network.heal()
        self.heals(pairs[0], 1)
        self.heals(pairs[1], 2)
        for took in times:
            self.assertLess(took, FOUND + 3)

    def give_up(self, pair, i):
        with pair.client() as client, self.assertRaises(harness.grpc.RpcError) as lost:
            client.put(pair.key(f"given up {i}"), b"old", timeout=1)
        self.assertEqual(lost.exception.code(), Code.DEADLINE_EXCEEDED)

    def test_given_up(self):
        """What clients gave up is not delivered later, behind newer writes, however the proxy ends meanwhile."""
        pair = self.pairs[0]
        for end in (lambda p: p.process.kill(), lambda p: p.process.term(30)):
            wait_until(pair.serves, 20, "service")
            earlier = pair.unsent()
            self.network.cut(*pair.ends)
            harness.in_threads(8, lambda i: self.give_up(pair, i))
            end(pair.proxy)
            wait_until(lambda before=earlier: not pair.unsent() - before, 3, "end of the closed sockets")
            self.network.heal()
            pair.proxy.client.close()
            pair.proxy.start()
            for i in range(8):
                self.assertIsNone(pair.raw.value(pair.key(f"given up {i}")))

    def test_refused(self):
        """The network says so: a client learns at once that this way is closed, and nothing is lost when it heals."""
        pair = self.pairs[0]
        wait_until(pair.serves, 20, "service")
        self.network.cut(*pair.ends, how="unreachable")
        pair.proxy.process.kill()  # a new one has no connection that it could believe in
        pair.proxy.client.close()
        pair.proxy.start(wait=False)
        with pair.client() as client:
            def fails():
                put = client.channel.unary_unary("/etcdserverpb.KV/Put", None, None)
                message = rpc.PutRequest(key=pair.key("refused"), value=b"refused")
                self.assertStatus(Code.UNAVAILABLE, put, message.SerializeToString(), timeout=30)
                return "cannot reach etcd" in pair.proxy.process.log()
            wait_until(fails, 20, "attempts to reach etcd")
        self.network.heal()
        wait_until(pair.serves, 20, "service")
        self.assertIsNone(pair.raw.value(pair.key("refused")))


if __name__ == "__main__":
    harness.main()
