#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Very many streams on one connection: watches and leases that mostly wait. Does a call beside them go on, what does
each of them cost, and who says when it is enough?"""
import time

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
from harness import DIRECT, SANITIZED
from protos import more, rpc

RANGE, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
GET = h2raw.grpc_message(rpc.RangeRequest(key=b"/registry/secrets/streams/a").SerializeToString())
COUNT = 300 if SANITIZED else 1500


def create(i):
    request = rpc.WatchCreateRequest(key=b"/registry/secrets/streams/%06d" % i)
    return h2raw.grpc_message(rpc.WatchRequest(create_request=request).SerializeToString())


def open_streams(client, path, messages, timeout=60):
    """One stream for each message; returns the ids when each was answered or has ended."""
    ids = []
    for message in messages:
        ids.append(client.open(path))
        client.send_data(ids[-1], message)
        if len(ids) % 200 == 0:
            client.wait_for(lambda: has_answer(client, ids[-1]), timeout)
    client.wait_for(lambda: all(has_answer(client, sid) for sid in ids), timeout)
    return ids


def has_answer(client, sid):
    return client.stream(sid).done or client.stream(sid).data


class Base(harness.E2E):
    def connect(self, address=None):
        client = h2raw.Client(address or self.address)
        self.addCleanup(client.close)
        return client

    def assertRange(self, client):
        self.assertEqual(client.wait(client.start(RANGE, GET), 10).status, 0)

    @staticmethod
    def limit_of(address):
        """What is announced, and what comes of one stream more."""
        client = h2raw.Client(address)
        client.wait(client.start(RANGE, GET))
        limit = client.peer_settings[h2raw.MAX_CONCURRENT_STREAMS]
        ids = open_streams(client, WATCH, map(create, range(limit)))
        above = client.start(RANGE, GET)
        client.wait(above)
        code = client.stream(above).reset
        client.send_rst(ids[0], h2raw.CANCEL)
        harness.wait_until(lambda: client.wait(client.start(RANGE, GET)).status == 0, 10, "a free stream")
        client.close()
        return limit, code


class Streams(Base):
    def test_watches_and_a_range(self):
        client = self.connect()
        ids = open_streams(client, WATCH, map(create, range(COUNT)))
        self.assertFalse([i for i in ids if client.stream(i).done])
        self.assertRange(client)
        # Each of them is alive: the last one and the first one hear of their keys.
        for i in (0, COUNT - 1):
            stream = client.stream(ids[i])
            before = len(stream.data)
            self.client.put(b"/registry/secrets/streams/%06d" % i, b"v")
            client.wait_for(lambda: len(stream.data) > before, 10, f"event of watch {i}")
        for sid in ids:  # all at once, as when a client stops
            client.send_rst(sid, h2raw.CANCEL)
        self.assertRange(client)

    def test_leases_and_a_range(self):
        client = self.connect()
        leases = [self.client.grant(600).ID for _ in range(20)]
        ids = open_streams(client, KEEP_ALIVE, (h2raw.grpc_message(more.LeaseKeepAliveRequest(
            ID=leases[i % 20]).SerializeToString()) for i in range(COUNT)))
        self.assertFalse([i for i in ids if client.stream(i).done])
        self.assertRange(client)

    def test_what_is_announced(self):
        """etcd says nothing in clear, which means the same as its default."""
        client = self.connect()
        self.assertRange(client)
        self.assertEqual(client.peer_settings.get(h2raw.MAX_CONCURRENT_STREAMS, 0xffffffff), 0xffffffff)

    def test_limit_of_etcd(self):
        """A limit of etcd's own is announced, so that calls above it wait where they wait in front of etcd."""
        etcd = self.env.etcd(name="limited", flags=["--max-concurrent-streams", "30"])
        address = ("127.0.0.1", etcd.port) if DIRECT else self.env.proxy(etcd, self.config, name="of-etcd").address
        self.assertEqual(self.limit_of(address), (30, h2raw.REFUSED_STREAM))


class Limits(Base):
    needs_proxy = True

    def start_proxy(self, *flags):
        proxy = self.env.proxy(self.etcd, self.config, name=self.name, flags=flags)
        self.addCleanup(proxy.stop)
        return proxy

    def test_limit_by_flag(self):
        self.assertEqual(self.limit_of(self.start_proxy("--max-concurrent-streams", "25").address),
                         (25, h2raw.REFUSED_STREAM))

    @harness.timing
    def test_what_an_idle_stream_costs(self):
        count = COUNT if SANITIZED else 10000
        proxy = self.start_proxy("--workers", "1")
        client = self.connect(proxy.address)
        self.assertRange(client)
        before = proxy.process.proc_status("VmRSS")
        open_streams(client, WATCH, map(create, range(count)))
        cost = (proxy.process.proc_status("VmRSS") - before) * 1024 / count
        print(f"{self.name}: {cost:.0f} bytes for each of {count} watch streams")
        started = time.monotonic()
        self.assertRange(client)
        if SANITIZED:
            return
        self.assertLess(cost, 4096)
        self.assertLess(time.monotonic() - started, 1)
        client.close()
        harness.wait_until(lambda: proxy.process.proc_status("VmRSS") < before + 8192, 15, "memory given back")

    def test_streams_are_memory(self):
        """What waits counts in --memory-limit: one client's streams end before another's call does."""
        proxy = self.start_proxy("--workers", "1", "--max-request-bytes", "1MiB", "--memory-limit", "8MiB")
        before = proxy.process.rss_mib()
        greedy, other = self.connect(proxy.address), self.connect(proxy.address)
        watch = other.open(WATCH)
        other.send_data(watch, create(0))
        other.wait_for(lambda: other.stream(watch).data)
        ids = open_streams(greedy, WATCH, map(create, range(8000)))
        ended = [greedy.stream(i) for i in ids if greedy.stream(i).done]
        self.assertGreater(len(ended), 4000)
        self.assertLessEqual({(s.status, s.reset) for s in ended}, {(8, None), (8, h2raw.NO_ERROR),
                                                                    (None, h2raw.ENHANCE_YOUR_CALM)})
        self.assertRange(other)
        self.assertFalse(other.stream(watch).done)
        if not SANITIZED:
            self.assertLess(proxy.process.peak_mib(), before + 24)


class OtherLimit(Base):
    """An etcd that changes its limit while the connection lives, as only a strange one does."""
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.proxy = cls.env.proxy([cls.fake.url], cls.env.config(cls.env.kms().path))
        cls.address = cls.proxy.address


class LowerLimit(OtherLimit):
    def test_calls_go_elsewhere(self):
        """More than it allows on one connection go over another one; and each can be cancelled."""
        held = []

        def hold(call):
            if call.path != RANGE or held:
                return False
            held.append(call)
            return True

        def put(value):
            request = rpc.PutRequest(key=b"/registry/pods/streams/a", value=value)
            return client.start("/etcdserverpb.KV/Put", h2raw.grpc_message(request.SerializeToString()))

        client = self.connect()
        watch = open_streams(client, WATCH, [create(0)])[0]
        for conn in self.fake.conns:
            conn.send_settings({h2raw.MAX_CONCURRENT_STREAMS: 1})
        harness.wait_until(lambda: all(conn.settings_acked >= 2 for conn in self.fake.conns), 5, "SETTINGS taken")
        self.fake.script = hold
        first = client.start(RANGE, GET)
        harness.wait_until(lambda: held, 5, "the call")
        self.assertEqual(client.wait(put(b"second")).status, 0)
        another = open_streams(client, WATCH, [create(1)])[0]
        self.assertFalse(client.stream(another).done or client.stream(watch).done)
        for sid in (first, watch, another):
            client.send_rst(sid, h2raw.CANCEL)
        self.assertEqual(client.wait(put(b"third")).status, 0)
        self.assertEqual(self.fake.problems, [])


class NoStreams(OtherLimit):
    def test_none_for_a_while(self):
        """etcd allows no stream, then many: calls wait, on the connections that there are, and are made."""
        client = self.connect()
        client.wait(client.start(RANGE, GET))
        self.fake.settings[h2raw.MAX_CONCURRENT_STREAMS] = 0
        for conn in list(self.fake.conns):
            before = conn.settings_acked
            conn.send_settings({h2raw.MAX_CONCURRENT_STREAMS: 0})
            harness.wait_until(lambda: conn.settings_acked > before or conn.closed, 5, "SETTINGS taken")
        watch = client.open(WATCH)
        client.send_data(watch, create(0))
        calls = [client.start(RANGE, GET) for _ in range(10)]
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            client.read(end - time.monotonic())
        self.assertLess(len(self.fake.conns), 10)
        self.assertEqual([i for i in calls + [watch] if client.stream(i).done], [])
        del self.fake.settings[h2raw.MAX_CONCURRENT_STREAMS]
        for conn in list(self.fake.conns):
            conn.send_settings({h2raw.MAX_CONCURRENT_STREAMS: 100})
        self.assertEqual({client.wait(i).status for i in calls}, {0})
        client.wait_for(lambda: client.stream(watch).data, 5, "the watch")
        self.assertEqual(self.fake.problems, [])


if __name__ == "__main__":
    harness.main()
