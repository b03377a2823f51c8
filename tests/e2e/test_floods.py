#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2's known floods, each by a client of its own, over and over: who floods is cut off, an honest client on the same
worker notices nothing, etcd hears of none of it, and no memory stays behind."""
import struct
import threading
import time

import harness  # first: it sets the path to tests/fake
import h2raw
from fake_etcd import FakeEtcd
from h2raw import pack_frame
from harness import SANITIZED

PUT = "/etcdserverpb.KV/Put"
VALUE = b"what the honest client has stored"
BATCH = 1000          # frames of one write
MOST = 60 * BATCH     # frames of one flood: many times what is cut
CUT = (h2raw.ENHANCE_YOUR_CALM, h2raw.PROTOCOL_ERROR)


def settings(*pairs):
    return pack_frame(h2raw.SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


class Block:
    """A request's header block that may be sent over and over: after the first time all its fields are in the table."""

    def __init__(self, client, extra=()):
        fields = client.headers(PUT, extra)
        client.send_headers(client.next_id, fields, end_stream=True)
        client.next_id += 2
        client.encoder.encode(fields)
        self.client, self.bytes = client, client.encoder.encode(fields)

    def begin(self, flags=h2raw.END_HEADERS):
        """HEADERS of a new stream, and its id."""
        sid = self.client.next_id
        self.client.next_id += 2
        return pack_frame(h2raw.HEADERS, flags, sid, self.bytes), sid


def same(*frames):
    """A flood of these frames; with an open stream, 1, that they may be about."""
    def start(client):
        client.open(PUT)
        batch = b"".join(frames) * (BATCH // len(frames))
        return lambda: batch
    return start


def streams(frame_of, extra=(), flags=h2raw.END_HEADERS):
    """A flood of new streams, with a frame behind each request."""
    def start(client):
        block = Block(client, extra)

        def batch():
            pieces = []
            for _ in range(BATCH // 2):
                headers, sid = block.begin(flags)
                pieces += headers, frame_of(sid)
            return b"".join(pieces)
        return batch
    return start


def header_block_without_end(client):
    first = pack_frame(h2raw.HEADERS, 0, 1, b"\x83")
    parts = iter([first])
    rest = pack_frame(h2raw.CONTINUATION, 0, 1, b"\0\1a\1b" * 10) * (BATCH // 10)
    return lambda: next(parts, rest)


def empty_continuations(client):
    parts = iter([pack_frame(h2raw.HEADERS, 0, 1, b"\x83")])
    rest = pack_frame(h2raw.CONTINUATION, 0, 1) * BATCH
    return lambda: next(parts, rest)


RST = struct.pack(">I", h2raw.CANCEL)
FLOODS = {
    "rapid reset": streams(lambda sid: pack_frame(h2raw.RST_STREAM, 0, sid, RST)),
    "made to reset by windows": streams(lambda sid: pack_frame(h2raw.WINDOW_UPDATE, 0, sid, b"\x7f\xff\xff\xff")),
    "made to reset by headers": streams(lambda sid: b"", extra=[("Upper", "case")],
                                        flags=h2raw.END_HEADERS | h2raw.END_STREAM),
    "header block without end": header_block_without_end,
    "CONTINUATION, empty": empty_continuations,
    "SETTINGS": same(settings()),
    "SETTINGS, windows to and fro": same(settings((4, 0)), settings((4, 65535))),
    "SETTINGS, tables to and fro": same(settings((1, 0)), settings((1, 4096))),
    "SETTINGS, 100 entries": same(settings(*[(4, 65535)] * 100)),
    "PING": same(pack_frame(h2raw.PING, 0, 0, b"01234567")),
    "PING, answers to nothing": same(pack_frame(h2raw.PING, h2raw.ACK, 0, b"01234567")),
    "DATA, empty": same(pack_frame(h2raw.DATA, 0, 1)),
    "PRIORITY": same(pack_frame(h2raw.PRIORITY, 0, 1, b"\0\0\0\0\5")),
    "WINDOW_UPDATE": same(pack_frame(h2raw.WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "WINDOW_UPDATE of a stream": same(pack_frame(h2raw.WINDOW_UPDATE, 0, 1, b"\0\0\0\1")),
    "unknown frames": same(pack_frame(0x42, 0, 0, b"x")),
}


class Floods(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.fake = FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.proxy = cls.env.proxy([cls.fake.url], cls.config, flags=["--workers", "1"])

    def flood(self, name, is_read):
        """Until it is cut off; the code that it is told, or None where nothing of it came through any more."""
        client = h2raw.Client(self.proxy.address)
        try:
            client.wait_for(lambda: client.peer_settings, 20, "SETTINGS")
            batch = FLOODS[name](client)
            for _ in range(0, MOST, BATCH):
                client.send_raw(batch())
                if client.closed:
                    break
                while is_read and client.read(0.0005):
                    pass
            # What was sent before the end came lies in front of it.
            while not client.closed and client.goaway is None:
                if client.read(20) is None:
                    break
            while not client.closed and client.read(20):
                pass
            self.assertTrue(client.closed, f"{name} goes on")
            return client.goaway and client.goaway[1]
        finally:
            client.close()

    def upstream(self):
        """How many Puts etcd has heard of: begun, not only whole ones. (The proxy itself asks for other things.)"""
        return sum(call.path == PUT for conn in self.fake.conns + self.fake.old for call in list(conn.calls.values()))

    def flood_all(self, is_read):
        """is_read: whether the one who floods reads what it is answered; if not the end may be all that it sees."""
        for name in FLOODS:
            with self.subTest(name, is_read=is_read):
                self.assertIn(self.flood(name, is_read), CUT if is_read else (*CUT, None))

    def test_cut_off(self):
        """And nothing stays behind, here or at etcd."""
        before, sizes = self.upstream(), []
        for is_read in (True, False, True):
            self.flood_all(is_read)
            sizes.append(self.proxy.process.rss_mib())
        print(f"RSS {sizes}")
        self.assertEqual(self.upstream(), before)
        self.assertEqual(self.fake.problems, [])
        if not SANITIZED:
            self.assertLess(sizes[-1], sizes[0] * 1.05 + 2)

    def honest(self, over, times):
        key = self.secret("honest")
        while not over.is_set():
            started = time.monotonic()
            self.proxy.client.put(key, VALUE)
            self.assertEqual(self.proxy.client.value(key), VALUE)
            times.append(time.monotonic() - started)

    @harness.timing
    def test_beside_an_honest_client(self):
        over, times = threading.Event(), []
        before = self.upstream()
        honest = threading.Thread(target=self.honest, args=(over, times))
        honest.start()
        try:
            self.flood_all(is_read=False)
        finally:
            over.set()
            honest.join()
        print(f"{len(times)} times, {sorted(times)[len(times) // 2] * 1000:.1f} ms in the middle, "
              f"{max(times) * 1000:.0f} at most")
        self.assertEqual(self.upstream(), before + len(times))
        if not SANITIZED:
            self.assertLess(max(times), 1)


if __name__ == "__main__":
    harness.main()
