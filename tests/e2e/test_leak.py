#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No plaintext of a protected key reaches etcd, whatever a client sends: thousands of mutated Puts and Txns,
wrong gRPC framing, odd headers, HTTP/2 abuse, with every byte on the way to etcd recorded. The positive control
sends the same kinds of requests under an unprotected prefix and must find the plaintext.

E2E_CASES=N sets the number of cases, E2E_SEED the seed (it is printed)."""
import base64
import os
import random
import socket
import sys
import time

import harness  # first: it sets the path to tests/fake
import h2raw
import mutate
import tap
from harness import LONG, SANITIZED, seed_of

CASES = int(os.environ.get("E2E_CASES", 60000 if LONG else 1500 if SANITIZED else 6000))
STREAMS = 25  # calls at a time on one connection


class Sender:
    """Sends cases and counts the answers."""

    def __init__(self, address):
        self.address, self.conn = address, None
        self.statuses, self.closed = {}, 0
        self.unanswered = []

    def connection(self):
        if self.conn is None or self.conn.closed or self.conn.goaway or self.conn.next_id > 20000:
            if self.conn is not None:
                self.conn.close()
            self.conn = h2raw.Client(self.address)
        return self.conn

    def send(self, conn, case):
        sid = conn.open(case.path, case.extra, case.headers)
        if case.pieces is None:
            conn.send_data(sid, case.data, True)
        else:
            for i, piece in enumerate(case.pieces):
                conn.send_data(sid, piece, i == len(case.pieces) - 1)
        return sid

    def run(self, cases):
        """All of them at once; those that a closed connection took along are repeated alone, once."""
        left = self.attempt(cases)
        for case in left:
            if self.attempt([case]):
                self.closed += 1

    def attempt(self, cases):
        conn = self.connection()
        sent = [(self.send(conn, case), case) for case in cases]
        try:
            conn.wait_for(lambda: all(conn.stream(s).done for s, _ in sent), 15, "answers")
        except TimeoutError:
            self.unanswered += [case for s, case in sent if not conn.stream(s).done]
            return []
        except ConnectionError:
            pass
        for sid, case in sent:
            stream = conn.stream(sid)
            if stream.done:
                key = stream.status
                if key is None:
                    key = "http " + stream.headers[":status"] if stream.headers else f"reset {stream.reset}"
                self.statuses[key] = self.statuses.get(key, 0) + 1
            if stream.ended or stream.reset is not None:
                conn.streams.pop(sid, None)
                continue
        return [case for s, case in sent if s in conn.streams]


class Leaks(harness.E2E):
    needs_proxy = True
    PROTECTED, OPEN = b"/registry/secrets/", b"/registry/pods/"

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client
        cls.tap = tap.Tap(cls.etcd.port)
        cls.addClassCleanup(cls.tap.stop)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.proxy = cls.env.proxy([cls.tap.url], cls.config)
        cls.client = cls.env.client(cls.proxy.target)

    def leaked(self):
        recordings = [bytes(r) for r in self.tap.recordings]
        joined = [bytes(d) for r in recordings for d in tap.data_of(r)]
        return mutate.leaked_cases(recordings + joined)

    def check_rest(self):
        """What lies under the protected prefix is envelopes, and the program lives."""
        for record in self.raw.list(self.PROTECTED).kvs:
            self.assertTrue(record.value.startswith(b"k8s:enc:kms:v2:test:"), (record.key, record.value[:40]))
            self.assertNotIn(mutate.MARKER, record.value)
        self.client.put(self.secret(), b"alive")
        self.assertEqual(self.client.value(self.secret()), b"alive")
        self.assertNotIn(mutate.MARKER.decode(), self.proxy.process.log())

    def test_mutated_requests(self):
        rng = seed_of(self.id())
        maker, sender = mutate.Maker(rng, self.PROTECTED), Sender(self.proxy.address)
        known, sent, started = {}, 0, time.monotonic()
        while sent < CASES:
            batch = [maker.next() for _ in range(STREAMS)]
            sent += STREAMS
            known[maker.count] = batch
            sender.run(batch)
        print(f"{sent} cases in {time.monotonic() - started:.0f} s ({maker.skipped} would have been legal), answers: "
              f"{sender.statuses}, connections lost: {sender.closed}", file=sys.stderr)
        leaked = self.leaked()
        self.assertFalse(leaked, self.explain(leaked, known))
        self.assertEqual(sender.unanswered, [], "no answer")
        self.assertEqual(sender.closed, 0, "a call closed its whole connection")
        self.assertGreater(sender.statuses.get(0, 0), sent // 50, "some are in order and stored")
        for code in (3, 12, 13):
            self.assertIn(code, sender.statuses)
        # Never what makes clients repeat writes; 4 only where the client itself set the deadline.
        self.assertNotIn(1, sender.statuses)
        self.assertNotIn(f"reset {h2raw.CANCEL}", sender.statuses)
        self.check_rest()

    @staticmethod
    def explain(leaked, known):
        if not leaked:
            return ""
        cases = [case for batch in known.values() for case in batch if b"%08d-" % leaked[0] in case.data]
        return f"{len(leaked)} cases leaked: {leaked}; the first: {cases}"

    def test_what_may_pass(self):
        """What the oracle leaves out: a Put of an unprotected key, by either spelling of the path that etcd serves."""
        maker = mutate.Maker(random.Random(5), self.PROTECTED)
        for key, legal in ((b"/regastry/secrets/a", True), (b"/registry/secrets/a", False)):
            body = mutate.field(1, key) + mutate.field(2, mutate.MARKER)
            for path in (mutate.PUT, mutate.PUT[1:]):
                with self.subTest(key=key, path=path):
                    self.assertEqual(maker.is_legal(mutate.Case("", path, h2raw.grpc_message(body))), legal)

    def test_http2_abuse(self):
        rng = seed_of(self.id())
        maker = mutate.Maker(rng, self.PROTECTED)
        count = max(60, CASES // 20)
        names = {}
        for _ in range(count):
            name, frames = maker.violence()
            names[maker.count] = name
            conn = h2raw.Client(self.proxy.address)
            try:
                for frame in frames:
                    conn.send_raw(frame)
                for _ in range(40):
                    if conn.closed or conn.streams.get(1) and conn.streams[1].done:
                        break
                    if conn.read(0.03) is None and not conn.closed:
                        break
            finally:
                conn.close()
        leaked = self.leaked()
        self.assertEqual(leaked, [], [names.get(n) for n in leaked])
        self.check_rest()

    def test_http1_abuse(self):
        marker = mutate.MARKER + b"00000000-"
        value = base64.b64encode(marker).decode()
        key = base64.b64encode(self.PROTECTED + b"x").decode()
        body = f'{{"key":"{key}","value":"{value}"}}'.encode()
        for line in (b"POST /v3/kv/put", b"POST /v3beta/kv/put", b"PUT /v2/keys/x", b"GET /health", b"POST /health",
                     b"POST /etcdserverpb.KV/Put", b"CONNECT etcd:1", b"GET http://x/v3/kv/put", b"POST /v3/kv/txn"):
            for head in (b"Content-Length: %d\r\n" % len(body), b"Transfer-Encoding: chunked\r\n",
                         b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"):
                with socket.create_connection(self.proxy.address, 5) as s:
                    try:
                        s.sendall(line + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + b"\r\n" +
                                  body + marker)
                        s.settimeout(0.5)
                        while s.recv(65536):
                            pass
                    except OSError:
                        pass
        self.assertEqual(self.leaked(), [])
        self.assertFalse(self.tap.saw(value.encode()))
        self.check_rest()

    def test_kms_away(self):
        """The same with a plugin that was never there: everything is refused, nothing passes in clear."""
        config = self.env.config(self.env.path("nowhere.sock"), name="nowhere.yaml")
        proxy = self.env.proxy([self.tap.url], config, name="keyless", wait=False)
        harness.wait_until(lambda: self.answers(proxy), 10, "listening proxy")
        rng = seed_of(self.id())
        maker, sender = mutate.Maker(rng, self.PROTECTED), Sender(proxy.address)
        maker.count = 50000000
        for _ in range(8):
            sender.run([maker.next() for _ in range(STREAMS)])
        # Those of the other tests of this class are judged there.
        self.assertFalse([n for n in self.leaked() if 50000000 <= n < 60000000])
        self.assertEqual(sender.statuses.get(0, 0), 0, "nothing can be stored without a key")
        self.assertEqual(sender.unanswered, [])
        proxy.stop()

    @staticmethod
    def answers(proxy):
        try:
            return h2raw.Client(proxy.address).read(0.5) is not None
        except OSError:
            return False

    def test_positive_control(self):
        """Under an unprotected prefix the same harness finds the plaintext: raw, in frames, and in etcd."""
        maker, sender = mutate.Maker(random.Random(5), self.OPEN), Sender(self.proxy.address)
        maker.count = 90000000
        for _ in range(8):
            sender.run([maker.next() for _ in range(STREAMS)])
        found = [n for n in self.leaked() if n >= 90000000]
        self.assertGreater(len(found), 20)
        stored = [r.value for r in self.raw.list(self.OPEN).kvs if mutate.MARKER in r.value]
        self.assertGreater(len(stored), 0)
        # Not in the way of the other tests of this class.
        self.tap.recordings.clear()
        self.tap.drop()
        harness.wait_until(lambda: self.alive_again(), 10, "a new connection")

    def alive_again(self):
        try:
            self.client.get(b"x", timeout=1)
            return True
        except harness.grpc.RpcError:
            return False


if __name__ == "__main__":
    harness.main()
