#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients share connections to etcd: does any of them delay or fail another, hear its answers, or miss the end of its
own? In clear and with TLS towards etcd."""
import os
import random
import threading
import time

import harness  # first: it sets the path to tests/fake
import bulk
import h2raw
from client import prefix_end
from harness import SANITIZED, wait_until
from protos import more, rpc

RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
MIB = 1 << 20
CLIENTS = 40 if SANITIZED else 200
SECONDS = 4 if SANITIZED else 8


def message(m):
    return h2raw.grpc_message(m.SerializeToString())


def create(key):
    return message(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, range_end=prefix_end(key))))


class Pool(harness.E2E):
    needs_proxy = True
    with_tls = False
    etcd_flags = ("--quota-backend-bytes", 4 << 30)

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls() if cls.with_tls else None
        cls.etcd = cls.env.etcd(tls=cls.tls, flags=cls.etcd_flags)
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path, cls.resources, cls.identity)
        cls.flags = ("--workers", "1")
        if cls.with_tls:
            cls.flags += ("--etcd-cafile", cls.tls.path("ca.crt"), "--etcd-certfile", cls.tls.path("client.crt"),
                          "--etcd-keyfile", cls.tls.path("client.key"))
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, flags=cls.flags)
        cls.target, cls.address = cls.proxy.target, cls.proxy.address
        cls.client = cls.env.client(cls.target)

    def connect(self, **options):
        client = h2raw.Client(self.address, **options)
        self.addCleanup(client.close)
        return client

    def assertOthersAreServed(self, seconds=2, limit=0.15, meanwhile=lambda: None):
        """A client of its own puts, gets and watches."""
        with self.env_client() as other:
            watch = other.watch(self.secret("beside"))
            times, end, count = [], time.monotonic() + seconds, 0
            while time.monotonic() < end:
                started = time.monotonic()
                other.put(self.secret("beside"), b"%d" % count, timeout=5)
                self.assertEqual(other.get(self.secret("beside"), timeout=5).kvs[0].value, b"%d" % count)
                self.assertEqual(watch.events(1, timeout=5)[0].kv.value, b"%d" % count)
                times.append(time.monotonic() - started)
                count += 1
                meanwhile()
                time.sleep(0.02)
            watch.cancel()
        times.sort()
        print(f"{self.id().split('.', 1)[1]}: {len(times)} rounds, {times[len(times) // 2] * 1000:.1f} ms in the middle, "
              f"{times[-1] * 1000:.1f} at most")
        if not SANITIZED:
            self.assertLess(times[-3], limit * 3)

    def env_client(self):
        client = harness.Client(self.target)

        class Closing:
            def __enter__(self):
                return client

            def __exit__(self, *_):
                client.close()
        return Closing()

    def test_how_many_connections(self):
        """A hundred clients, each with a watch and calls: two connections."""
        clients = [self.connect() for _ in range(100)]
        for i, client in enumerate(clients):
            sid = client.open(WATCH)
            client.send_data(sid, create(self.secret(f"{i:03}/")))
            client.wait_for(lambda: client.stream(sid).data, 10, "created")
            self.assertEqual(client.wait(client.start(RANGE, message(rpc.RangeRequest(key=self.secret())))).status, 0)
        wait_until(lambda: self.to_etcd() <= 3, 5, "few connections")
        print(f"{self.id()}: {self.to_etcd()} connections to etcd for {len(clients)} clients")

    def to_etcd(self):
        """Connections of the proxy, from the kernel's table."""
        inodes = set()
        for fd in os.listdir(f"/proc/{self.proxy.process.pid}/fd"):
            try:
                inodes.add(os.readlink(f"/proc/{self.proxy.process.pid}/fd/{fd}").removeprefix("socket:[").rstrip("]"))
            except FileNotFoundError:
                pass
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return sum(1 for row in rows
                   if row[2] == f"0100007F:{self.etcd.port:04X}" and row[3] == "01" and row[9] in inodes)

    @harness.timing
    def test_slow_list(self):
        """200 MiB, read at 1 MiB/s."""
        prefix = b"/registry/secrets/pool-list/"
        bulk.fill(self.client, prefix, 200 * MIB // 65536 // bulk.SCALE, 65536)
        slow = self.connect()
        sid = slow.open(RANGE)
        slow.no_credit.add(sid)
        slow.send_data(sid, bulk.list_request(prefix), True)
        slow.wait_for(lambda: len(slow.stream(sid).data) >= 65535, 60, "a full window")
        stream, started, credited = slow.stream(sid), time.monotonic(), 0

        def credit():
            nonlocal credited
            due = min(int((time.monotonic() - started) * MIB), len(stream.data)) - credited
            if due > 16384:
                slow.send_window_update(sid, due)
                credited += due
            slow.read(0.001)
        self.assertOthersAreServed(3, meanwhile=credit)
        self.assertFalse(stream.done)
        slow.send_rst(sid, h2raw.CANCEL)

    @harness.timing
    def test_readers_that_stopped(self):
        """Twenty watchers that read nothing, on the same connection as one that does."""
        stopped = [self.connect() for _ in range(20)]
        prefix = self.secret("stopped/")
        for client in stopped:
            client.auto_credit = client.credit_conn = False
            sid = client.open(WATCH)
            client.send_data(sid, create(prefix))
            client.wait_for(lambda: client.stream(sid).data, 10, "created")
        for i in range(64):
            self.client.put(prefix + b"%d" % i, bytes(64 * 1024))
        self.assertOthersAreServed(2)

    @harness.timing
    def test_a_thousand_streams(self):
        """Of one client: watches, leases, and calls without pause."""
        greedy = self.connect()
        count = 100 if SANITIZED else 500
        lease = self.client.grant(600).ID
        for i in range(count):
            greedy.send_data(greedy.open(WATCH), create(self.secret(f"many/{i}/")))
            greedy.send_data(greedy.open(KEEP_ALIVE), message(more.LeaseKeepAliveRequest(ID=lease)))
        stop, done = threading.Event(), []
        request = message(rpc.RangeRequest(key=b"/registry/", range_end=b"/registry0", limit=20))

        def calls():
            while not stop.is_set():
                ids = [greedy.start(RANGE, request) for _ in range(100)]
                greedy.wait_for(lambda: all(greedy.stream(i).done for i in ids), 60, "the calls")
                done.append(sum(greedy.streams.pop(i).status == 0 for i in ids))
        thread = threading.Thread(target=calls)
        thread.start()
        try:
            self.assertOthersAreServed(3, limit=0.3)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(set(done), {100})

    @harness.timing
    def test_odd_frames(self):
        """Clients whose frames are wrong lose their own connection, and nobody else's stream."""
        frames = [h2raw.pack_frame(h2raw.DATA, 0, 9, b"x"), h2raw.pack_frame(h2raw.WINDOW_UPDATE, 0, 0, bytes(4)),
                  h2raw.pack_frame(h2raw.SETTINGS, 0, 0, b"odd"), h2raw.pack_frame(h2raw.HEADERS, 4, 1, b"\xff" * 40),
                  h2raw.pack_frame(h2raw.CONTINUATION, 4, 1, b"x"), h2raw.pack_frame(99, 0, 77, b"unknown")]
        rng = harness.seed_of("odd frames")

        def odd():
            client = h2raw.Client(self.address)
            sid = client.open(WATCH)
            client.send_data(sid, create(self.secret("odd/")))
            put = client.open(PUT)
            client.send_data(put, b"\0\0\0\0\x20half of it")
            client.send_raw(rng.choice(frames))
            client.send_raw(bytes(rng.randrange(256) for _ in range(rng.randrange(60))))
            client.read(0.001)
            client.close()
        self.assertOthersAreServed(3, meanwhile=odd)

    def test_nobody_hears_anothers_answer(self):
        """Many clients, each with keys of its own; calls are cancelled and connections cut at random."""
        rng = harness.seed_of("answers")
        keys = [self.secret(f"own/{i:03}") for i in range(CLIENTS)]
        for i, key in enumerate(keys):
            self.client.put(key, b"value of %d " % i * rng.randrange(1, 400))
        stop, wrong, checked = time.monotonic() + SECONDS, [], [0] * CLIENTS
        seeds = [rng.randrange(1 << 30) for _ in range(CLIENTS)]

        def live(i):
            own = random.Random(seeds[i])
            client = h2raw.Client(self.address)
            request = message(rpc.RangeRequest(key=keys[i]))
            while time.monotonic() < stop:
                ids = [client.start(RANGE, request) for _ in range(own.randrange(1, 6))]
                for sid in list(ids):
                    if own.random() < 0.3:
                        client.send_rst(sid, h2raw.CANCEL)
                        ids.remove(sid)
                if own.random() < 0.05:
                    client.close()
                    client = h2raw.Client(self.address)
                    continue
                for sid in ids:
                    stream = client.wait(sid, 30)
                    answer = rpc.RangeResponse.FromString(h2raw.split_messages(stream.data)[0][0])
                    if stream.status != 0 or len(answer.kvs) != 1 or answer.kvs[0].key != keys[i] or \
                            not answer.kvs[0].value.startswith(b"value of %d " % i):
                        wrong.append((i, stream.status, answer.kvs[:1]))
                    checked[i] += 1
                client.streams.clear()
            client.close()
        threads = [threading.Thread(target=self.noting, args=(wrong, live, i)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"{self.id()}: {sum(checked)} answers of {CLIENTS} clients")
        self.assertEqual(wrong[:3], [])
        self.assertTrue(all(checked))

    @staticmethod
    def noting(wrong, live, i):
        try:
            live(i)
        except Exception as error:  # pylint: disable=broad-except
            wrong.append((i, repr(error)))

    def test_z_loss_of_etcd_ends_every_call_once(self):
        """Each stream ends, with UNAVAILABLE or etcd's own answer, and only once; then etcd is back."""
        clients = [self.connect() for _ in range(10)]
        lease = self.client.grant(600).ID
        for client in clients:
            for _ in range(5):
                client.send_data(client.open(WATCH), create(self.secret("lost/")))
                client.send_data(client.open(KEEP_ALIVE), message(more.LeaseKeepAliveRequest(ID=lease)))
            client.wait_for(lambda: all(s.data for s in client.streams.values()), 20, "answers")
        self.etcd.process.kill()
        for client in clients:
            client.wait_for(lambda: all(s.done for s in client.streams.values()), 10, "the end of each")
            for stream in client.streams.values():
                self.assertEqual((stream.status, stream.reset in (None, h2raw.NO_ERROR)), (14, True),
                                 (stream.reset, stream.message))
        self.etcd.start()
        wait_until(self.is_served, 20, "etcd again")

    def is_served(self):
        try:
            with self.env_client() as client:
                client.put(self.secret(), b"x", timeout=2)
            return True
        except harness.grpc.RpcError:
            return False


class PoolTls(Pool):
    with_tls = True


if __name__ == "__main__":
    harness.main()
