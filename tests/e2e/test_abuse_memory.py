#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients (and an etcd) that want the proxy to hold as much as it can be made to: does the process stay within
--memory-limit, and is an honest client beside them served? And do large honest loads pass with default flags?"""
import contextlib
import resource
import signal
import struct
import threading
import time

import harness  # first: it sets the path to tests/fake
import bulk
import envelope
import fake_etcd
import h2raw
from client import prefix_end
from harness import LONG, SANITIZED, Code
from protos import rpc

PUT, TXN, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", bulk.RANGE
MIB = 1 << 20
LIMIT = 64 * MIB
BESIDE = 48e6           # bytes that the process may have beside --memory-limit
DEFAULT_RSS = 256e6     # with default flags
HONEST_SECONDS = 1.0    # for each call of an honest client
CONNECTIONS = 1100


def scaled(few, many):
    return many if LONG else few


class Honest(threading.Thread):
    """A client that puts and gets a protected value over and over, on a connection of its own."""

    def __init__(self, proxy, key, size=180):
        super().__init__(daemon=True)
        self.client = harness.Client(proxy.target)
        self.key, self.times, self.errors, self.over = key, [], [], threading.Event()
        self.value = b"h" * size
        self.once()  # connected, and the key is known
        self.times.clear()
        self.start()

    def once(self):
        times = self.times
        for call in (lambda: self.client.put(self.key, self.value, timeout=30),
                     lambda: self.client.get(self.key, timeout=30)):
            started = time.monotonic()
            try:
                call()
            except harness.grpc.RpcError as error:
                self.errors.append(f"{error.code().name}: {error.details()}")
            times.append(time.monotonic() - started)

    def run(self):
        while not self.over.wait(0.02):
            self.once()

    def stop(self):
        self.over.set()
        self.join()
        self.client.close()


class Base(harness.E2E):
    needs_proxy = True
    etcd_flags = ("--quota-backend-bytes", 4 << 30)

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd(flags=cls.etcd_flags)
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path, cls.resources, cls.identity)

    def begin(self, limit=LIMIT, servers=None, flags=()):
        if limit:
            flags = ["--memory-limit", str(limit), *flags]
        self.limit = limit
        self.proxy = self.env.proxy(servers or self.etcd, self.config, name=self.name, flags=flags)
        self.addCleanup(self.proxy.stop)

    def connect(self, **options):
        client = h2raw.Client(self.proxy.address, **options)
        self.addCleanup(client.close)
        return client

    def check_memory(self):
        peak = self.proxy.process.peak_mib() * MIB
        allowed = self.limit + BESIDE if self.limit else DEFAULT_RSS
        print(f"{self.name}: peak RSS {peak / 1e6:.0f} MB of {allowed / 1e6:.0f}", flush=True)
        if not SANITIZED:
            self.assertLess(peak, allowed)


def pour(clients, sids, frame, size, count, deadline=30):
    """Sends `count` of these frames on each stream, as the windows allow, and reads meanwhile. size: what one takes of
    a window. Ends early where the proxy ends it."""
    left = {id(c): count for c in clients}
    until = time.monotonic() + deadline
    while any(left.values()) and time.monotonic() < until:
        is_stuck = True
        for client, sid in zip(clients, sids):
            stream = client.stream(sid)
            if client.closed or stream.done:
                left[id(client)] = 0
            room = min(client.send_window, stream.send_window) // size
            n = min(left[id(client)], room, 4096)
            if n > 0:
                is_stuck = False
                client.send_raw(frame * n)
                client.send_window -= n * size
                stream.send_window -= n * size
                left[id(client)] -= n
            while not client.closed and client.read(0.0005):
                pass
        if is_stuck:
            time.sleep(0.01)
    return count * len(clients) - sum(left.values())


def padded(sid, data, pad, flags=0):
    return h2raw.pack_frame(h2raw.DATA, h2raw.PADDED | flags, sid, bytes([pad]) + data + bytes(pad))


class Abuse(Base):
    @classmethod
    def start(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * CONNECTIONS)), hard))
        super().start()

    def begin(self, size=180, **options):
        super().begin(**options)
        self.honest = Honest(self.proxy, self.secret("honest"), size)

    def end(self, seconds=HONEST_SECONDS):
        """What came of it, for the honest client and for the machine."""
        self.honest.stop()
        times, errors = sorted(self.honest.times), self.honest.errors
        print(f"{self.name}: honest: {len(times)} calls, {len(errors)} refused {sorted(set(errors))}, median "
              f"{times[len(times) // 2] * 1000:.0f} ms, at most {times[-1] * 1000:.0f}")
        self.check_memory()
        self.assertEqual(errors, [])
        if not SANITIZED:
            self.assertLess(times[-1], seconds)

    @harness.timing
    def test_padded_bytes(self):
        """One Put that never ends, a byte to a frame, in a cloud of padding."""
        self.begin()
        client = self.connect()
        sid = client.open(PUT)
        client.send_data(sid, struct.pack(">BI", 0, 15 * MIB))
        sent = pour([client], [sid], padded(sid, b"x", 255), 257, scaled(100, 400) * MIB // 266, scaled(15, 120))
        print(f"{self.name}: {sent} frames")
        self.end()

    @harness.timing
    def test_single_bytes(self):
        """Puts that come in frames of a byte: the lists of pieces are larger than the pieces."""
        self.begin()
        clients = [self.connect() for _ in range(4)]
        sids = []
        for client in clients:
            sids.append(client.open(PUT))
            client.send_data(sids[-1], struct.pack(">BI", 0, 15 * MIB))
        sent = pour(clients, sids, h2raw.pack_frame(h2raw.DATA, 0, sids[0], b"x"), 1, scaled(MIB // 2, 15 * MIB),
                    scaled(15, 300))
        print(f"{self.name}: {sent} frames")
        self.end()

    @harness.timing
    def test_large_keys(self):
        """Ranges of huge keys, by a client that takes no answer."""
        self.begin()
        client = self.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
        body = h2raw.grpc_message(rpc.RangeRequest(key=self.secret("k" * 1900000)).SerializeToString())
        ids = [client.start(RANGE, body) for _ in range(scaled(60, 300))]
        until = time.monotonic() + scaled(15, 60)
        while time.monotonic() < until and any(client.stream(i).queue and not client.stream(i).done for i in ids):
            client.read(0.05)
        time.sleep(0.5)
        self.end()

    @harness.timing
    def test_plans_of_many_transactions(self):
        """All become whole at once, and are sealed in turns: what their plans take meanwhile is memory, too."""
        self.begin()
        client, txn = self.connect(), rpc.TxnRequest()
        for i in range(4090):
            txn.success.add().request_put.CopyFrom(rpc.PutRequest(key=self.secret(str(i)), value=b"v"))
        body = h2raw.grpc_message(txn.SerializeToString())
        ids = [client.open(TXN) for _ in range(scaled(80, 250))]
        for sid in ids:
            client.send_data(sid, body[:-1])
        until = time.monotonic() + scaled(15, 60)
        while time.monotonic() < until and any(client.stream(i).queue and not client.stream(i).done for i in ids):
            client.read(0.01)
        for sid in ids:
            if not client.stream(sid).done and not client.stream(sid).queue:
                client.send_data(sid, body[-1:], end_stream=True)
        while time.monotonic() < until and not client.closed and not all(client.stream(i).done for i in ids):
            client.read(0.01)
        self.end()

    @harness.timing
    def test_uploads_short_of_their_end(self):
        """Large Puts on four connections, all but a byte, with default flags."""
        self.begin(limit=None)
        self.upload(connections=4, calls=scaled(5, 20), seconds=scaled(6, 40))

    @harness.timing
    def test_uploads_beside_large_calls(self):
        """More of them beside a client whose calls take memory, too: room goes round by connection. (Where it went by who
        came first such a call waited for 10 s. unit/proxy/test_lane_credit.c has the rule, without a clock.)"""
        self.begin(size=1400 << 10, flags=["--workers", "1"])
        self.upload(connections=12, calls=8, seconds=scaled(4, 40), most=4)

    @harness.timing
    def test_one_address_with_many_connections(self):
        """60 connections of one address, each with little, beside a client whose calls take memory, too: room goes round by
        client. (Where it went by connection such a call waited for 10 s, and was refused. unit/proxy/test_holder.c has
        the rule, without a clock.)"""
        for workers in (1, 2, 4) if LONG else (1, 2):
            with self.subTest(workers=workers):
                self.begin(size=1400 << 10, flags=["--workers", str(workers)])
                self.upload(connections=60, calls=1, seconds=scaled(3, 30), most=5, size=1400 << 10, source="127.0.0.2")
                self.proxy.stop()
                self.proxy = None

    def upload(self, connections, calls, seconds, most=HONEST_SECONDS, size=15 * MIB, **options):
        body = h2raw.grpc_message(rpc.PutRequest(key=self.secret("big"), value=bytes(size)).SerializeToString())
        clients = [self.connect(**options) for _ in range(connections)]
        for client in clients:
            for _ in range(calls):
                client.send_data(client.open(PUT), body[:-1])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for client in clients:
                client.read(0.002)
        self.end(most)

    @harness.timing
    def test_three_bytes(self):
        """Connections that say "PRI" and no more."""
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * CONNECTIONS:
            self.skipTest("too few file descriptors")
        self.begin()
        socks = []
        for _ in range(CONNECTIONS):
            socks.append(h2raw.connect(self.proxy.address))
            self.addCleanup(socks[-1].close)
            socks[-1].sendall(b"PRI")
        time.sleep(1)
        self.end()

    @harness.timing
    def test_lists_that_wait_for_the_kms(self):
        """Plans of many values are larger than the values."""
        self.begin()
        seed = bytes(range(32))
        prefix = self.secret("many/")
        values = 2800
        wrapped = envelope.fake_kms.wrap("key-1", seed)
        for at in range(0, values, 100):
            ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=k, value=envelope.seal(k, b"v" * 40, seed=seed,
                                                                                       wrapped=wrapped)))
                   for k in (prefix + b"%06d" % i for i in range(at, at + 100))]
            self.raw.channel.unary_unary("/etcdserverpb.KV/Txn", None, None)(
                rpc.TxnRequest(success=ops).SerializeToString(), timeout=30)
        self.kms.delay["Decrypt"] = 8
        self.addCleanup(self.kms.delay.clear)
        clients = [self.connect() for _ in range(4)]
        for client in clients:
            for _ in range(15):
                client.start(RANGE, bulk.list_request(prefix))
        until = time.monotonic() + 4
        while time.monotonic() < until:
            for client in clients:
                client.read(0.01)
        self.end()

    @harness.timing
    def test_padded_bytes_of_etcd(self):
        """An etcd whose one answer never ends, a byte to a frame, in a cloud of padding."""
        fake = fake_etcd.FakeEtcd()
        self.addCleanup(fake.stop)
        self.begin(servers=[fake.url])
        victim, frames, over = self.secret("victim"), scaled(60, 200) * MIB // 266, threading.Event()
        sent = []

        def lie(call):
            if call.path != RANGE or rpc.RangeRequest.FromString(call.payload).key != victim:
                return False
            threading.Thread(target=dribble, args=(call,), daemon=True).start()
            return True

        def dribble(call):
            conn, sid = call.conn, call.id
            call.headers()
            conn.send_data(sid, struct.pack(">BI", 0, 900000))
            frame, left, until = padded(sid, b"x", 255), frames, time.monotonic() + 20
            while left > 0 and time.monotonic() < until and not conn.closed:
                n = min(left, conn.send_window // 257, conn.stream(sid).send_window // 257, 2048)
                if n <= 0:
                    time.sleep(0.005)
                    continue
                with conn.lock:
                    conn.send_window -= n * 257
                    conn.stream(sid).send_window -= n * 257
                    conn.send_raw(frame * n)
                left -= n
            sent.append(frames - left)
            over.set()
        fake.script = lie
        client = self.connect()
        client.start(RANGE, h2raw.grpc_message(rpc.RangeRequest(key=victim).SerializeToString()))
        self.assertTrue(over.wait(30))
        print(f"{self.name}: {sent[0]} frames")
        self.assertEqual(fake.problems, [])
        self.end()


class StandingStill(Base):
    def test_etcd_that_does_not_read(self):
        """More than the limit is sent to an etcd that is stopped: it is not kept, and who is answered well is stored once."""
        self.begin()
        self.addCleanup(self.etcd.process.signal, signal.SIGCONT)
        self.etcd.process.signal(signal.SIGSTOP)
        calls = []
        for _ in range(5):
            client = self.connect()
            for _ in range(20):
                key = self.secret(f"{len(calls):03}")
                put = rpc.PutRequest(key=key, value=bulk.value_of(key, MIB)).SerializeToString()
                calls.append((key, client, client.start(PUT, h2raw.grpc_message(put))))
        clients = list({id(client): client for _, client, _ in calls}.values())
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for client in clients:
                client.read(0.002)
        self.etcd.process.signal(signal.SIGCONT)
        for key, client, sid in calls:
            with contextlib.suppress(ConnectionError):
                client.wait(sid, 60)
        self.check_memory()
        ends = [client.stream(sid).status for _, client, sid in calls]
        print(f"{self.name}: { {end: ends.count(end) for end in set(ends)} }", flush=True)
        self.assertGreater(ends.count(0), 0)
        self.assertLessEqual(set(ends), {0, Code.RESOURCE_EXHAUSTED.value[0], Code.UNAVAILABLE.value[0], None}, "None: reset")
        stored = {kv.key: kv for kv in self.proxy.client.list(self.secret(""), timeout=60).kvs}
        self.assertEqual({kv.version for kv in stored.values()}, {1})
        for (key, _, _), end in zip(calls, ends):
            if end == 0:
                self.assertTrue(stored[key].value == bulk.value_of(key, MIB), key)


class OwnBound(Base):
    """--stream-memory-limit: one call alone may not have all of its connection's memory."""
    etcd_flags = ("--max-request-bytes", 16 << 20)

    def large_revision(self, prefix):
        """Has a client of the bounded proxy watch events of 7 MiB that belong together, which another proxy lets in. Returns
        how many came."""
        stream, came = self.proxy.client.watch(prefix, prefix_end(prefix)), 0
        self.writer.client.txn(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=prefix + b"%d" % i, value=bytes(MIB)))
                                        for i in range(7)])
        while came < 7:
            came += len(stream.next(timeout=20).events)
        return came

    def test_a_revision_that_is_too_large(self):
        self.writer = self.env.proxy(self.etcd, self.config, name="writer")
        self.addCleanup(self.writer.stop)
        for limit in (8, 1):
            with self.subTest(mib=limit):
                self.begin(flags=["--max-request-bytes", str(MIB), "--stream-memory-limit", str(limit * MIB)])
                prefix = self.secret(f"{limit}/")
                if limit == 8:
                    self.assertEqual(self.large_revision(prefix), 7)
                else:
                    with self.assertRaises(harness.grpc.RpcError) as caught:
                        self.large_revision(prefix)
                    self.assertEqual(caught.exception.code(), harness.grpc.StatusCode.RESOURCE_EXHAUSTED)
                    self.assertIn("stream_memory", caught.exception.details())
                self.assertEqual(len(self.proxy.client.list(prefix, keys_only=True).kvs), 7)
                self.proxy.stop()
                self.proxy = None


class HonestLoads(Base):
    """Whatever an apiserver does at its start passes, with default flags."""
    WORKERS = (1, 2, 4)

    def run_all(self, count, start):
        """start(i) begins a call; all of them end well, and the process stays within its bound."""
        for workers in self.WORKERS:
            with self.subTest(workers=workers):
                self.begin(limit=None, flags=["--workers", str(workers)])
                method = start(self.proxy.client.channel)
                began = time.monotonic()
                futures = [method(i) for i in range(count)]
                for future in futures:
                    future.result()
                print(f"{self.name}: {workers} workers, {time.monotonic() - began:.1f} s")
                self.check_memory()
                self.proxy.stop()
                self.proxy = None

    def test_concurrent_puts(self):
        """100 of nearly what etcd takes, on one connection."""
        size = 1400 << 10

        def start(channel):
            method = channel.unary_unary(PUT, None, None)
            return lambda i: method.future(rpc.PutRequest(key=self.secret(f"{i % 10}"), value=bulk.value_of(
                b"%d" % i, size)).SerializeToString(), timeout=60)
        self.run_all(100, start)

    def lists(self, count, total, size):
        prefix = self.secret("") + b"list/"
        keys = bulk.fill(self.filler(), prefix, total // size, size)
        request = rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix)).SerializeToString()

        def start(channel):
            method = channel.unary_unary(RANGE, None, lambda m: len(rpc.RangeResponse.FromString(m).kvs))

            def call(i):
                future = method.future(request, timeout=120)
                future.add_done_callback(lambda f: f.exception() or self.assertEqual(f.result(), len(keys)))
                return future
            return call
        self.run_all(count, start)

    def filler(self):
        proxy = self.env.proxy(self.etcd, self.config, name="filler")
        self.addCleanup(proxy.stop)
        return proxy.client

    def test_many_lists(self):
        """300 at once."""
        self.lists(300, scaled(100, 400) << 10, 1 << 10)

    def test_large_lists(self):
        """20 at once."""
        self.lists(20, scaled(5, 50) * MIB, 10 << 10)


if __name__ == "__main__":
    harness.main()
