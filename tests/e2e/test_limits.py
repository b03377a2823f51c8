#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that begin things and do not get on, or come in numbers: who ends when, is an honest client beside them served,
and what does etcd hear of it?"""
import contextlib
import resource
import socket
import ssl
import struct
import threading
import time

import harness  # first: it sets the path to tests/fake
import h2raw
from client import Client, prefix_end
from fake_etcd import FakeEtcd
from harness import SANITIZED, http_get, wait_until
from protos import rpc

RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
SETTINGS = b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64"
KEY = b"/registry/pods/limits/a"
EACH = 3   # clients of a kind
STALL = 6  # --stall-timeout, seconds


def message(m):
    return h2raw.grpc_message(m.SerializeToString())


class Limits(harness.E2E):
    """Between a fake etcd, which counts, and clients of every kind."""
    needs_proxy = True
    proxy_flags = ("--workers", "2")
    with_tls = False

    @classmethod
    def start(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if hard != resource.RLIM_INFINITY else 4096, hard))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        cls.fake = FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.tls = cls.env.tls(names=("client", "other")) if cls.with_tls else None
        flags = cls.proxy_flags
        if cls.tls:
            flags += ("--cert-file", cls.tls.path("server.crt"), "--key-file", cls.tls.path("server.key"),
                      "--trusted-ca-file", cls.tls.path("ca.crt"))
        cls.proxy = cls.env.proxy([cls.fake.url], cls.config, flags=flags, tls=cls.tls)
        cls.client = cls.proxy.client
        cls.client.put(KEY, b"v" * 1000)

    def count(self, reason):
        return self.proxy.metric("etcd_envelope_refused_total", f'reason="{reason}"')

    def raw(self, first=b"", source=None, certificate="client"):
        sock = socket.create_connection(self.proxy.address, 10, source and (source, 0))
        if self.tls:
            context = ssl.create_default_context(cafile=self.tls.path("ca.crt"))
            context.load_cert_chain(self.tls.path(certificate + ".crt"), self.tls.path(certificate + ".key"))
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(first)
        self.addCleanup(sock.close)
        return sock

    def greeted(self, **options):
        """A connection that speaks HTTP/2: its SETTINGS are answered."""
        sock = self.raw(h2raw.PREFACE + SETTINGS, **options)
        sock.settimeout(20)
        self.assertEqual(sock.recv(9)[3], h2raw.SETTINGS)
        return sock

    @contextlib.contextmanager
    def honest(self):
        """Clients beside the block: one that is connected, whose times are given, and one that connects each time, which
        a crowd at the door may keep for as long as it takes to send that away."""
        times, problems, over = [], [], threading.Event()

        def run():
            while not over.wait(0.2):
                try:
                    started = time.monotonic()
                    self.assertEqual(self.client.get(KEY, timeout=20).kvs[0].value, b"v" * 1000)
                    times.append(time.monotonic() - started)
                    new = Client(self.proxy.target, options=[("grpc.use_local_subchannel_pool", 1)])
                    with contextlib.closing(new):
                        self.assertEqual(new.get(KEY, timeout=20).kvs[0].value, b"v" * 1000)
                except Exception as problem:  # noqa: B902 - shown below
                    problems.append(problem)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield times
            wait_until(lambda: problems or len(times) > 3, 60, "honest calls")
        finally:
            over.set()
            thread.join()
        self.assertEqual(problems, [])
        print(f"{self.name}: {len(times)} honest calls, {max(times) * 1000:.0f} ms at most")


class Slow(Limits):
    proxy_flags = ("--workers", "2", "--stall-timeout", f"{STALL}s")

    def until_closed(self, first):
        sock = self.raw(first)
        sock.settimeout(60)
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        return "closed"

    def connect(self, **options):
        client = h2raw.Client(self.proxy.address, **options)
        self.addCleanup(client.close)
        return client

    def half_a_header_block(self):
        """Says no more, for no other frame may come between. Returns the code of the last frame, a GOAWAY."""
        sock = self.greeted()
        sock.sendall(h2raw.pack_frame(h2raw.HEADERS, 0, 1, b"\x83"))
        sock.settimeout(60)
        received = b""
        while data := sock.recv(65536):
            received += data
        return received[-1] if received[-14] == h2raw.GOAWAY else None

    def unary(self, data, **options):
        client = self.connect(**options)
        sid = client.open(PUT)
        client.send_data(sid, data)
        client.wait(sid, 60)
        return client.stream(sid).reset

    def half_a_watch_request(self):
        client = self.connect()
        sid = client.open(WATCH)
        client.send_data(sid, b"\0\0\0\0\x50half")
        return client.wait(sid, 60).status

    def no_window(self, path, request, end):
        client = self.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
        sid = client.open(path)
        client.wait_for(lambda: client.peer_settings, 10, "SETTINGS")
        client.send_data(sid, request, end)
        stream = client.wait(sid, 60)
        self.assertEqual(bytes(stream.data), b"")
        return stream.status if stream.status is not None else stream.reset

    @harness.timing
    def test_who_begins_and_does_not_get_on(self):
        """And who is idle stays."""
        put = message(rpc.PutRequest(key=KEY, value=b"x" * 1000))
        get = message(rpc.RangeRequest(key=KEY))
        create = message(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=KEY, range_end=prefix_end(KEY))))
        kinds = [  # what, seconds, how it ends, counted as
            (lambda: self.until_closed(b""), 5, "closed", "slow_preface"),
            (lambda: self.until_closed(b"PRI"), 5, "closed", "slow_preface"),
            (lambda: self.until_closed(h2raw.PREFACE[:-1]), 5, "closed", "slow_preface"),
            (lambda: self.until_closed(h2raw.PREFACE), 10, "closed", "slow_settings"),
            (lambda: self.until_closed(h2raw.PREFACE + SETTINGS[:12]), 10, "closed", "slow_settings"),
            (self.half_a_header_block, 10, h2raw.ENHANCE_YOUR_CALM, "slow_headers"),
            (lambda: self.unary(b""), 30, h2raw.ENHANCE_YOUR_CALM, "request_stalled"),
            (lambda: self.unary(put[:100]), 30, h2raw.ENHANCE_YOUR_CALM, "request_stalled"),
            (lambda: self.unary(put), 30, h2raw.ENHANCE_YOUR_CALM, "request_stalled"),
            (self.half_a_watch_request, 30, 14, "request_stalled"),
            (lambda: self.no_window(RANGE, get, True), STALL, h2raw.ENHANCE_YOUR_CALM, "reader_stalled"),
            (lambda: self.no_window(WATCH, create, False), STALL, 14, "reader_stalled"),
        ]
        counts = {}
        for kind in kinds:
            counts.setdefault(kind[3], [self.count(kind[3]), 0])[1] += EACH
        idle = self.connect()
        watch = idle.open(WATCH)
        idle.send_data(watch, create)
        idle.wait_for(lambda: idle.stream(watch).data, 10, "created")

        def listen():  # and answer PINGs
            while not idle.closed:
                idle.read(None)
        threading.Thread(target=listen, daemon=True).start()
        puts = len(self.fake.requests(PUT))

        def one(i):
            started = time.monotonic()
            return kinds[i % len(kinds)][0](), time.monotonic() - started
        with self.honest() as times:
            ends = harness.in_threads(EACH * len(kinds), one)
        if not SANITIZED:
            self.assertLess(max(times), 1)
        for i, (outcome, seconds) in enumerate(ends):
            _, limit, wanted, reason = kinds[i % len(kinds)]
            with self.subTest(kind=i % len(kinds), reason=reason):
                self.assertEqual(outcome, wanted)
                self.assertGreater(seconds, limit - 1.5)
                if not SANITIZED:
                    self.assertLess(seconds, limit + 10)
        for reason, (before, more) in counts.items():
            wait_until(lambda r=reason, n=before + more: self.count(r) == n, 10, f"count of {reason}")
        self.assertEqual(len(self.fake.requests(PUT)), puts)
        self.assertFalse(idle.stream(watch).done)
        self.client.put(KEY, b"v" * 1000)
        wait_until(lambda: b"v" * 1000 in idle.stream(watch).data, 10, "the event")
        idle.send_rst(watch, h2raw.CANCEL)


class Shield(Limits):
    proxy_flags = ("--workers", "1")  # each has a connection to etcd

    @harness.timing
    def test_100_abusive_connections_cost_etcd_nothing(self):
        """No connection, no stream, no request beyond those of the honest client."""
        put = message(rpc.PutRequest(key=KEY, value=b"abuse" * 100))
        self.client.get(KEY)
        conns = len(self.fake.conns) + len(self.fake.old)
        calls, streams = len(self.fake.calls), self.streams()
        with self.honest() as times:
            kept = []
            for i in range(20):
                kept.append(self.raw(b"PRI"))
                kept.append(self.raw(h2raw.PREFACE))
                kept.append(self.raw(b"GET /v3/kv/range HTTP/1.1\r\nHost: x\r\n\r\n"))
                client = h2raw.Client(self.proxy.address)
                self.addCleanup(client.close)
                client.send_frame(h2raw.HEADERS, 0, 1, b"\x83")
                client = h2raw.Client(self.proxy.address)
                self.addCleanup(client.close)
                for _ in range(20):  # begun, and given up
                    sid = client.open(PUT)
                    client.send_data(sid, put[:-1])
                    client.send_rst(sid, h2raw.CANCEL)
                client.send_data(client.open(PUT), put[:-1])  # begun
            time.sleep(1)
        self.assertEqual(len(self.fake.conns) + len(self.fake.old) - conns, 0)
        self.assertEqual(len(self.fake.calls) - calls, 2 * len(times))
        self.assertEqual(self.streams() - streams, 2 * len(times))
        self.assertFalse(self.fake.saw(b"abuse"))
        if not SANITIZED:
            self.assertLess(max(times), 1)
        self.assertEqual(self.fake.problems, [])

    def test_who_does_not_greet_is_not_heard_of(self):
        """By a proxy that nobody else uses: etcd sees no connection before a client's SETTINGS are whole."""
        fake = FakeEtcd()
        self.addCleanup(fake.stop)
        proxy = self.env.proxy([fake.url], self.config, name="unused", wait=False)
        greeting = h2raw.PREFACE + SETTINGS

        def connect():
            with contextlib.suppress(OSError):
                return socket.create_connection(proxy.address, 10)
        wait_until(connect, 10, "the listener").close()
        wait_until(lambda: fake.calls and not proxy.metric("etcd_envelope_links"), 10, "its own look at etcd")
        conns = len(fake.conns) + len(fake.old)
        socks = [socket.create_connection(proxy.address, 10) for _ in range(2 * len(greeting))]
        for i, sock in enumerate(socks):
            self.addCleanup(sock.close)
            sock.sendall(greeting[:i // 2])
        wait_until(lambda: proxy.metric("etcd_envelope_links") == len(socks), 10, "all of them")
        time.sleep(0.5)
        self.assertEqual(len(fake.conns) + len(fake.old), conns)
        socks[-1].sendall(greeting[(len(socks) - 1) // 2:])
        wait_until(lambda: len(fake.conns) + len(fake.old) == conns + 1, 10, "a connection to etcd")

    def streams(self):
        return sum(len(c.calls) for c in self.fake.conns + self.fake.old)


class Number(Limits):
    proxy_flags = ("--workers", "2", "--max-connections", "20")

    def test_the_newest_goes_but_for_who_has_less_than_its_share(self):
        refused, shared = self.count("connection_limit"), self.count("connection_share")
        crowd = [self.greeted() for _ in range(19)]  # and the harness' own, which is not idle
        self.client.get(KEY)
        with self.honest_without_new():
            for _ in range(5):
                newest = self.raw(h2raw.PREFACE + SETTINGS)
                self.assertGone(newest)
            wait_until(lambda: self.count("connection_limit") == refused + 5, 10, "their count")
            status, body = http_get(self.proxy.metrics_address, "/readyz")
            self.assertEqual(status, 500)
            self.assertIn(b"[-]shedding failed", body)
            self.assertEqual(http_get(self.proxy.metrics_address, "/readyz?exclude=shedding")[0], 200)
            others = [self.greeted(source="127.0.0.2") for _ in range(10)]
            wait_until(lambda: self.count("connection_share") == shared + 10, 10, "ten of the crowd gone")
            self.assertGone(self.raw(h2raw.PREFACE + SETTINGS, source="127.0.0.2"))  # it has its share
        self.assertTrue(all(self.is_open(s) for s in others))
        # Those that were idle for longest, with GOAWAY.
        wait_until(lambda: sum(self.is_open(s) for s in crowd) == 9, 10, "ten of the crowd gone")
        self.assertIn(h2raw.pack_frame(h2raw.GOAWAY, 0, 0, struct.pack(">II", 0, 0)), self.read_all(crowd[0]))
        for sock in crowd + others:
            sock.close()
        wait_until(lambda: self.proxy.metric("etcd_envelope_links") <= 1, 10, "all gone")
        self.greeted().close()

    @contextlib.contextmanager
    def honest_without_new(self):
        """The one that is connected is served all the time; a new one has no seat."""
        yield
        self.assertEqual(self.client.get(KEY, timeout=10).kvs[0].value, b"v" * 1000)

    received = None

    def read_all(self, sock):
        return self.received.get(sock, b"")

    def is_open(self, sock):
        self.received = {} if self.received is None else self.received
        sock.setblocking(False)
        try:
            while True:
                data = sock.recv(65536)
                if not data:
                    return False
                self.received[sock] = self.received.get(sock, b"") + data
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def assertGone(self, sock):
        wait_until(lambda: not self.is_open(sock), 5, "end of the connection")


class NumberByName(Number):
    """Of one address, told apart by their certificates."""
    with_tls = True

    def test_the_newest_goes_but_for_who_has_less_than_its_share(self):
        shared = self.count("connection_share")
        crowd = [self.greeted() for _ in range(19)]
        self.client.get(KEY)
        self.assertGone(self.raw(h2raw.PREFACE + SETTINGS))
        other = self.greeted(certificate="other")
        wait_until(lambda: self.count("connection_share") == shared + 1, 10, "one of the crowd gone")
        self.assertTrue(self.is_open(other))
        self.assertEqual(self.client.get(KEY, timeout=10).kvs[0].value, b"v" * 1000)
        for sock in crowd:
            sock.close()


    def test_a_handshake_that_does_not_begin(self):
        started, before = time.monotonic(), self.count("slow_handshake")
        sock = socket.create_connection(self.proxy.address, 10)
        self.addCleanup(sock.close)
        sock.settimeout(60)
        self.assertEqual(sock.recv(1), b"")
        self.assertGreater(time.monotonic() - started, 8.5)
        wait_until(lambda: self.count("slow_handshake") == before + 1, 10, "its count")


class Descriptors(Limits):
    proxy_flags = ("--workers", "1", "--max-connections", "1000")

    def start_with(self, soft, hard):
        proxy = self.env.proxy([self.fake.url], self.config, name=f"proxy-{hard}", flags=self.proxy_flags, wait=False)
        proxy.stop()
        limits = f"ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$@\""
        proxy.process = self.env.start(f"proxy-{hard}-limited", ["sh", "-c", limits, "sh", *proxy.argv()])
        proxy.client = self.env.client(proxy.target)
        proxy.wait_ready()
        return proxy

    def test_as_many_as_may_be(self):
        """The soft limit is raised; what the hard one does not allow is said, and the rest is served."""
        plenty, few = self.start_with(300, 3900), self.start_with(300, 800)
        for proxy, hard in ((plenty, 3900), (few, 800)):
            limits = (self.env.path(f"/proc/{proxy.process.pid}/limits")).read_text()
            self.assertRegex(limits, rf"Max open files +{hard} +{hard} ")
        self.assertNotIn("descriptors are too few", plenty.process.log())
        self.assertIn("descriptors are too few", few.process.log())
        socks = []
        for _ in range(1000):  # more than there are descriptors
            with contextlib.suppress(OSError):
                socks.append(socket.create_connection(few.address, 10))
                self.addCleanup(socks[-1].close)
                socks[-1].sendall(h2raw.PREFACE + SETTINGS)
        self.assertEqual(http_get(few.metrics_address, "/livez")[0], 200)
        few.client.put(KEY, b"v" * 1000)
        self.assertEqual(few.metric("etcd_envelope_refused_total", 'reason="no_descriptor"'), 0)
        self.assertGreater(few.metric("etcd_envelope_refused_total", 'reason="connection_limit"'), 0)


class Opening(Limits):
    proxy_flags = ("--workers", "1", "--memory-limit", "64MiB")

    @harness.timing
    def test_1100_that_say_pri(self):
        with self.honest() as times:
            for i in range(1100):
                self.raw(b"PRI")
                if i % 100 == 0:
                    self.assertEqual(http_get(self.proxy.metrics_address, "/livez")[0], 200)
            if not SANITIZED:
                self.assertLess(self.proxy.process.rss_mib(), 60)
        if not SANITIZED:
            self.assertLess(max(times), 1)
        self.assertGreater(self.count("opening_limit"), 100)
        self.assertLessEqual(self.proxy.metric("etcd_envelope_links"), 450)  # 409 may be opening


class StaysAsItWas(Limits):
    def test_resets_and_pings_of_an_honest_client(self):
        """5,000 calls that time out at once, 200 PINGs: no reason to part."""
        client = h2raw.Client(self.proxy.address)
        self.addCleanup(client.close)
        get = message(rpc.RangeRequest(key=KEY))
        for _ in range(5000):
            client.send_rst(client.start(RANGE, get), h2raw.CANCEL)
        for _ in range(200):
            client.send_frame(h2raw.PING, 0, 0, b"12345678")
        client.wait_for(lambda: client.pings_acked == 200, 30, "the answers to PING")
        self.assertEqual(client.wait(client.start(RANGE, get)).status, 0)
        self.assertIsNone(client.goaway)

    def test_what_is_given_up_ends_at_etcd(self):
        """1,000 calls that etcd does not answer: each of which it has heard, it hears the end of."""
        key = b"/registry/pods/limits/silent"
        get = message(rpc.RangeRequest(key=key))

        def asked():
            return sum(rpc.RangeRequest.FromString(payload).key == key for payload in self.fake.requests(RANGE))
        self.fake.script = lambda call: call.path == RANGE and rpc.RangeRequest.FromString(call.payload).key == key
        self.addCleanup(setattr, self.fake, "script", None)
        before = self.fake.resets.count(RANGE)
        client = h2raw.Client(self.proxy.address)
        self.addCleanup(client.close)
        ids = [client.start(RANGE, get) for _ in range(1000)]
        wait_until(lambda: asked() == 1000, 30, "all of them at etcd")
        for sid in ids:
            client.send_rst(sid, h2raw.CANCEL)
        wait_until(lambda: self.fake.resets.count(RANGE) - before == 1000, 30, "their ends")
        self.client.get(KEY)


if __name__ == "__main__":
    harness.main()
