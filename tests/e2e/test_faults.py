#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An etcd that fails in ways that a real one seldom does: answers cut in the middle, GOAWAY, REFUSED_STREAM, odd
statuses and trailers, compressed answers, silence. No fault may turn into a success, a half value, or a status
that makes clients repeat writes."""
import socket
import threading
import time

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
from fake_etcd import KV, WATCH
from harness import Code, envelope, wait_until
from protos import more, rpc

# A client repeats writes on these (clientv3); the proxy never makes them up.
NEVER = (Code.CANCELLED, Code.DEADLINE_EXCEEDED)


class LateEtcd(fake_etcd.FakeEtcd):
    """Says nothing on a new connection for a while."""
    delay = 0

    def serve(self, sock):
        time.sleep(self.delay)
        super().serve(sock)


class Faults(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.proxy = cls.env.proxy([cls.fake.url], cls.config)
        cls.target, cls.address = cls.proxy.target, cls.proxy.address

    def setUp(self):
        super().setUp()
        self.fake.script = self.fake.lie = None
        self.client = harness.Client(self.target)
        self.addCleanup(self.client.close)

    def tearDown(self):
        self.fake.script = self.fake.lie = None
        super().tearDown()
        self.assertEqual(self.fake.problems, [])

    def script(self, path, action, times=None):
        """action(call) answers calls of this path (the first `times` of them)."""
        left = [times]

        def run(call):
            if call.path != path or left[0] == 0:
                return False
            if left[0] is not None:
                left[0] -= 1
            action(call)
            return True
        self.fake.script = run

    def fails(self, codes, function, *arguments, **keywords):
        try:
            answer = function(*arguments, **keywords)
        except harness.grpc.RpcError as error:
            self.assertIn(error.code(), codes, error.details())
            return error
        self.fail(f"no error but {answer!r:.200}")


class Statuses(Faults):
    def test_errors_pass_byte_by_byte(self):
        for number, text in ((11, "etcdserver: mvcc: required revision has been compacted"), (14, "etcdserver: no leader"),
                             (8, "etcdserver: mvcc: database space exceeded"), (5, "caf%C3%A9 100%25 sure"), (2, ""),
                             (16, "etcdserver: invalid auth token"), (3, "etcdserver: user name is empty")):
            for headers_first in (False, True):
                def answer(call):
                    if headers_first:
                        call.headers()
                    call.trailers(number, text, extra=[("x-etcd", "trailer"), ("x-bin", "AAEC")])
                self.script(KV + "Put", answer)
                error = self.fails([c for c in Code if c.value[0] == number], self.client.put, self.secret(), b"x")
                self.assertEqual(error.details(), text.replace("%C3%A9", "é").replace("%25", "%"))
                self.assertIn(("x-etcd", "trailer"), error.trailing_metadata())

    def test_answer_metadata_passes(self):
        def answer(call):
            call.headers(extra=[("x-head", "1"), ("access-control-allow-origin", "*"), ("trailer", "grpc-status")])
            call.message(rpc.RangeResponse(header=self.fake.header()))
            call.trailers(extra=[("x-tail", "2")])
        self.script(KV + "Range", answer)
        _, call = self.client.unary_with_call(KV + "Range", rpc.RangeRequest(key=self.secret()), rpc.RangeResponse)
        self.assertIn(("x-head", "1"), call.initial_metadata())
        self.assertIn(("x-tail", "2"), call.trailing_metadata())

    def test_request_metadata(self):
        seen = {}
        self.script(KV + "Range", lambda call: (seen.update(call.metadata), call.finish(
            rpc.RangeResponse(header=self.fake.header()))))
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        stream = raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString(), extra=[
            ("token", "t" * 3000), ("hasleader", "true"), ("traceparent", "00-1-2-3"), ("x-bin", "AAE"),
            ("grpc-timeout", "20S"), ("grpc-accept-encoding", "gzip")])
        self.assertEqual(stream.status, 0)
        self.assertEqual(seen["token"], "t" * 3000)
        self.assertEqual((seen["hasleader"], seen["traceparent"]), ("true", "00-1-2-3"))
        self.assertIn("x-bin", seen)
        self.assertNotIn("grpc-encoding", seen)
        self.assertIn(seen.get("grpc-accept-encoding", "identity"), ("identity",))
        timeout = seen["grpc-timeout"]
        scale = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1, "M": 60, "H": 3600}[timeout[-1]]
        self.assertLessEqual(len(timeout), 9)
        self.assertLessEqual(int(timeout[:-1]) * scale, 20)
        self.assertGreater(int(timeout[:-1]) * scale, 15)

    def test_no_status_at_all(self):
        def answer(call):
            call.message(rpc.PutResponse(header=self.fake.header()))
            call.conn.send_trailers(call.id, [("x", "y")])
        self.script(KV + "Put", answer)
        self.fails([c for c in Code if c not in NEVER and c != Code.OK], self.client.put, self.secret(), b"x")

    def test_http_errors(self):
        for status in ("404", "503", "421"):
            def answer(call):
                call.conn.send_headers(call.id, [(":status", status), ("content-type", "text/plain")])
                call.conn.send_data(call.id, b"no such thing", True)
            self.script(KV + "Range", answer)
            self.fails([c for c in Code if c not in NEVER and c != Code.OK], self.client.get, self.secret())


class Cut(Faults):
    def message(self):
        key = self.secret()
        answer = rpc.RangeResponse(header=self.fake.header(), count=1)
        answer.kvs.add(key=key, value=envelope.seal(key, b"v" * 5000), mod_revision=3)
        return answer.SerializeToString()

    def cuts(self, data):
        return [0, 1, 20, len(data) // 2, len(data) - 1]

    def test_frames_out_of_order(self):
        """RFC 9113 section 8.1: headers, data, trailers that end the stream."""
        def send(call, *steps):
            for step in steps:
                if step == "data":
                    call.conn.send_data(call.id, h2raw.grpc_message(b""))
                elif step == "end":
                    call.conn.send_data(call.id, b"", True)
                elif step == "headers":
                    call.headers()
                elif step.startswith("100"):
                    call.conn.send_headers(call.id, [(":status", "100")], step.endswith("end"))
                else:
                    call.conn.send_trailers(call.id, [("grpc-status", "0"), ("grpc-message", "")])
        for steps in (("data",), ("data", "headers", "trailers"), ("end",), ("headers", "headers", "trailers"),
                      ("headers", "headers", "headers"), ("headers", "data", "headers", "data", "trailers"),
                      ("100", "end"), ("100 end",), ("100", "data", "headers", "trailers"),
                      ("headers", "data", "headers", "end")):
            for key in self.secret(), self.plain():
                with self.subTest(steps=steps, key=key):
                    self.script(KV + "Range", lambda call, steps=steps: send(call, *steps))
                    self.fails((Code.INTERNAL, Code.UNAVAILABLE, Code.UNKNOWN), self.client.get, key, timeout=5)
        self.fake.script = None
        self.client.put(self.secret(), b"x")
        self.assertEqual(self.client.value(self.secret()), b"x")

    def test_pseudo_headers_where_none_belong(self):
        """Malformed by RFC 9113 section 8.3, so no answer."""
        for head, tail in (([(":path", "/x")], []), ([(":status", "200")], []), ([], [(":status", "500")])):
            def answer(call):
                call.headers(extra=head)
                call.message(rpc.RangeResponse(header=self.fake.header()))
                call.trailers(0, "", tail)
            self.script(KV + "Range", answer)
            self.fails((Code.UNAVAILABLE,), self.client.get, self.secret())

    def test_cut_by_trailers(self):
        data = self.message()
        for keep in self.cuts(data):
            for status in (0, 13, 14):
                self.script(KV + "Range", lambda call: (call.cut(data, keep), call.trailers(status, "etcd's")))
                self.fails((Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS), self.client.get, self.secret())

    def test_cut_by_reset(self):
        data = self.message()
        for keep in self.cuts(data):
            for code in (h2raw.NO_ERROR, h2raw.INTERNAL_ERROR, h2raw.CANCEL, h2raw.REFUSED_STREAM,
                         h2raw.ENHANCE_YOUR_CALM):
                self.script(KV + "Range", lambda call: (call.cut(data, keep), call.rst(code)))
                self.fails((Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS, Code.RESOURCE_EXHAUSTED),
                           self.client.get, self.secret())

    def test_cut_by_end_of_stream_without_trailers(self):
        data = self.message()
        for keep in self.cuts(data):
            self.script(KV + "Range", lambda call: (call.cut(data, keep), call.raw(b"", True)))
            self.fails((Code.INTERNAL, Code.UNAVAILABLE, Code.UNKNOWN, Code.DATA_LOSS), self.client.get, self.secret())

    def test_whole_message_without_trailers_is_no_success(self):
        data = self.message()
        self.script(KV + "Range", lambda call: call.raw(h2raw.grpc_message(data), True))
        self.fails([c for c in Code if c not in NEVER and c != Code.OK], self.client.get, self.secret())

    def test_cut_by_close(self):
        data = self.message()
        for keep in self.cuts(data):
            self.script(KV + "Range", lambda call: (call.cut(data, keep), call.conn.close()), times=1)
            self.fails((Code.UNAVAILABLE, Code.INTERNAL), self.client.get, self.secret())
        self.fake.script = None
        self.assertEqual(len(self.client.get(self.secret()).kvs), 0)

    def test_large_answer_cut(self):
        """Beyond the threshold the beginning is out already: still no success."""
        answer = rpc.RangeResponse(header=self.fake.header(), count=40)
        for i in range(40):
            key = self.secret(f"{i:02}")
            answer.kvs.add(key=key, value=envelope.seal(key, b"v" * 100000), mod_revision=3)
        data = answer.SerializeToString()
        for keep in (1500000, 3000000, len(data) - 1):
            for end in (lambda c: c.trailers(0), lambda c: c.trailers(14, "x"), lambda c: c.rst(h2raw.CANCEL),
                        lambda c: c.conn.close()):
                self.script(KV + "Range", lambda call: (call.cut(data, keep), end(call)), times=1)
                self.fails((Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS), self.client.list, self.secret(""))
        self.script(KV + "Range", lambda call: call.finish(data), times=1)
        self.assertEqual(len(self.client.list(self.secret("")).kvs), 40)

    def test_two_messages_in_a_unary_answer(self):
        data = self.message()
        self.script(KV + "Range", lambda call: (call.message(data), call.finish(data)))
        self.fails([c for c in Code if c not in NEVER and c != Code.OK], self.client.get, self.secret())

    def test_compressed_answer(self):
        data = self.message()
        self.script(KV + "Range", lambda call: (call.message(data, flag=1), call.trailers()))
        self.fails((Code.INTERNAL,), self.client.get, self.secret())

        def announced(call):
            call.headers(extra=[("grpc-encoding", "gzip")])
            call.message(data, flag=1)
            call.trailers()
        self.script(KV + "Range", announced)
        self.fails((Code.INTERNAL,), self.client.get, self.secret())

    def test_write_whose_answer_is_cut_is_sent_once(self):
        before = len(self.fake.requests(KV + "Put"))
        self.script(KV + "Put", lambda call: (call.cut(b"x" * 100, 10), call.conn.close()))
        self.fails((Code.UNAVAILABLE, Code.INTERNAL), self.client.put, self.secret(), b"x")
        time.sleep(0.3)
        self.assertEqual(len(self.fake.requests(KV + "Put")), before + 1)


class Connections(Faults):
    def test_upstream_lost_under_a_call(self):
        for path, call in ((KV + "Put", lambda: self.client.put(self.secret(), b"x")),
                           (KV + "Range", lambda: self.client.get(self.secret()))):
            self.script(path, lambda c: c.conn.close(), times=1)
            self.fails((Code.UNAVAILABLE,), call)
        self.fake.script = None
        self.client.put(self.secret(), b"x")
        self.assertEqual(self.client.value(self.secret()), b"x")

    def test_upstream_lost_under_a_watch(self):
        watch = self.client.watch(self.secret())
        self.fake.drop_connections()
        with self.assertRaises(harness.grpc.RpcError) as caught:
            watch.next()
        self.assertEqual(caught.exception.code(), Code.UNAVAILABLE)
        again = self.client.watch(self.secret())
        self.client.put(self.secret(), b"x")
        self.assertEqual(again.events(1)[0].kv.value, b"x")
        again.cancel()

    def test_lost_upstream_ends_only_its_own_link(self):
        other = harness.Client(self.target)
        self.addCleanup(other.close)
        watch = other.watch(self.secret())
        keep = self.fake.watchers[-1][0].conn
        for conn in list(self.fake.conns):
            if conn is not keep:
                conn.close()
        wait_until(lambda: self.works(self.client), 5, "recovery")
        self.client.put(self.secret(), b"x")
        self.assertEqual(watch.events(1)[0].kv.value, b"x")
        watch.cancel()

    def works(self, client):
        try:
            client.get(self.secret(), timeout=1)
            return True
        except harness.grpc.RpcError:
            return False

    def test_refused_stream_reaches_the_client_as_such(self):
        """The client repeats it by itself, transparently."""
        self.script(KV + "Put", lambda call: call.rst(h2raw.REFUSED_STREAM), times=1)
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        request = rpc.PutRequest(key=self.secret(), value=b"x").SerializeToString()
        stream = raw.call(KV + "Put", request)
        self.assertTrue(stream.reset == h2raw.REFUSED_STREAM or stream.status == Code.UNAVAILABLE.value[0],
                        (stream.reset, stream.status))
        self.assertEqual(raw.call(KV + "Put", request).status, 0)

    def test_goaway_with_lower_last_id(self):
        """Calls above the id are refused (the client may repeat them), the ones below finish."""
        held, seen = [], threading.Event()

        def hold(call):
            held.append(call)
            if len(held) == 3:
                seen.set()
        self.script(KV + "Range", hold, times=3)
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        ids = [raw.start(KV + "Range", h2raw.grpc_message(rpc.RangeRequest(key=self.secret(str(i)))
                                                           .SerializeToString())) for i in range(3)]
        for _ in range(100):
            raw.read(0.05)
            if seen.is_set():
                break
        self.assertTrue(seen.is_set())
        held.sort(key=lambda c: c.id)
        conn = held[0].conn
        conn.send_goaway(held[0].id)
        held[0].finish(rpc.RangeResponse(header=self.fake.header()))
        streams = [raw.wait(i) for i in ids]
        outcomes = sorted((s.reset, s.status) for s in streams if s.reset is not None)
        self.assertEqual([r for r, _ in outcomes], [h2raw.REFUSED_STREAM] * 2, [(s.reset, s.status) for s in streams])
        self.assertEqual([s.status for s in streams if s.reset is None], [0])
        # New calls go to a new connection.
        self.assertEqual(raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)

    def test_graceful_goaway(self):
        """As grpc-go does it: 2^31-1, then the real id. A watch below goes on."""
        watch = self.client.watch(self.secret())
        conn = self.fake.watchers[-1][0].conn
        conn.send_goaway(0x7fffffff)
        time.sleep(0.05)
        conn.send_goaway(max(conn.streams))
        self.client.put(self.secret(), b"x")
        self.assertEqual(watch.events(1)[0].kv.value, b"x")
        watch.cancel()

    def test_goaway_ends_with_the_last_stream(self):
        """A server that leaves the closing to us: the old connection is closed behind its last stream, however that
        ends, and not before."""
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        endings = {"answer": lambda call, sid: call.finish(rpc.RangeResponse(header=self.fake.header())),
                   "reset": lambda call, sid: call.rst(h2raw.CANCEL),
                   "cancel": lambda call, sid: raw.send_rst(sid, h2raw.CANCEL)}
        for name, end in endings.items():
            with self.subTest(name):
                held = []
                self.script(KV + "Range", held.append, times=2)
                request = h2raw.grpc_message(rpc.RangeRequest(key=self.plain()).SerializeToString())
                ids = [raw.start(KV + "Range", request) for _ in range(2)]
                wait_until(lambda: len(held) == 2, 5, "two calls")
                held.sort(key=lambda call: call.id)
                conn = held[0].conn
                conn.send_goaway(held[1].id)
                self.assertEqual(raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)
                end(held[0], ids[0])
                raw.wait_for(lambda: raw.stream(ids[0]).done or name == "cancel", 5, "the first one's end")
                time.sleep(0.3)
                self.assertFalse(conn.closed)
                held[1].finish(rpc.RangeResponse(header=self.fake.header()))
                self.assertEqual(raw.wait(ids[1]).status, 0)
                wait_until(lambda: conn.closed, 5, "the end of the connection")
                self.assertEqual(raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)

    def test_goaway_of_a_client_ends_with_its_last_call(self):
        held = []
        self.script(KV + "Range", held.append, times=1)
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        sid = raw.start(KV + "Range", h2raw.grpc_message(rpc.RangeRequest(key=self.plain()).SerializeToString()))
        wait_until(lambda: held, 5, "the call")
        raw.send_goaway(0)
        while raw.read(0.3):
            pass
        self.assertFalse(raw.closed)
        held[0].finish(rpc.RangeResponse(header=self.fake.header()))
        self.assertEqual(raw.wait(sid).status, 0)
        for _ in range(100):
            if raw.closed:
                break
            raw.read(0.05)
        self.assertTrue(raw.closed)
        self.assertFalse(held[0].conn.closed)  # others use it
        self.assertTrue(self.works(self.client))

    def test_trailers_need_no_window(self):
        """A message that fills the client's window to the byte, and the status a moment later."""
        for settings, size in (({h2raw.INITIAL_WINDOW_SIZE: 1000}, 1000), ({h2raw.INITIAL_WINDOW_SIZE: 1 << 20}, 65535)):
            message = rpc.RangeResponse(header=self.fake.header())
            message.kvs.add(key=self.plain(), value=b"v" * (size - 200))
            message.kvs[0].value += b"v" * (size - 5 - message.ByteSize())
            self.assertEqual(message.ByteSize() + 5, size)

            def answer(call):
                call.message(message)
                threading.Timer(0.2, call.trailers).start()
            self.script(KV + "Range", answer, times=1)
            raw = h2raw.Client(self.address, settings)
            self.addCleanup(raw.close)
            raw.auto_credit = raw.credit_conn = False
            stream = raw.call(KV + "Range", rpc.RangeRequest(key=self.plain()).SerializeToString(), timeout=5)
            self.assertEqual((stream.status, len(stream.data)), (0, size))

    @harness.timing
    def test_etcd_that_comes_back_silent(self):
        """Calls wait a second for it, however much they send and however long it was away; then UNAVAILABLE."""
        for away in (0, 0.65):
            fake = fake_etcd.FakeEtcd()
            proxy = self.env.proxy([fake.url], self.config, name="silent")
            self.addCleanup(proxy.stop)
            raw = h2raw.Client(proxy.address)
            self.addCleanup(raw.close)
            self.assertEqual(raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)
            # The loss that the log tells of has to be this client's: a call that meets a connection in the moment it
            # dies, and of which nothing was sent, does not wait but gets REFUSED_STREAM.
            proxy.client.close()
            wait_until(lambda: len(fake.conns) == 1, what="one connection")
            fake.stop()
            wait_until(lambda: "connection to etcd lost" in proxy.process.log(), what="loss", step=0.002)
            started = time.monotonic()
            stream = raw.stream(raw.open(WATCH))
            time.sleep(away)
            with socket.create_server(("127.0.0.1", fake.port)):
                raw.send_data(stream.id, h2raw.grpc_message(bytes(15 << 20)))
                raw.wait(stream.id, 5)
                took, sent = time.monotonic() - started, (15 << 20) - sum(len(data) for data, _, _ in stream.queue)
            self.assertEqual(stream.status, Code.UNAVAILABLE.value[0], (stream.message, stream.reset))
            self.assertLess(sent, 4 << 20)
            self.assertGreater(took, 0.7)
            self.assertLess(took, 5 if harness.SANITIZED else 1.3)

    def test_etcd_that_greets_and_leaves(self):
        """By GOAWAY or by closing: it is dialled again and again, but with 50 ms between."""
        for leave in (lambda s: s.sendall(h2raw.pack_frame(h2raw.GOAWAY, 0, 0, bytes(8))), lambda s: s.close()):
            fake = fake_etcd.FakeEtcd()
            self.addCleanup(fake.stop)
            proxy = self.env.proxy([fake.url], self.config, name="leaving")
            self.addCleanup(proxy.stop)
            raw = h2raw.Client(proxy.address)
            self.addCleanup(raw.close)
            self.assertEqual(raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)
            proxy.client.close()
            dials = []

            def serve(sock):
                dials.append(sock)
                self.addCleanup(sock.close)
                sock.sendall(h2raw.pack_frame(h2raw.SETTINGS, 0, 0))
                leave(sock)
            fake.serve = serve
            fake.drop_connections()
            wait_until(lambda: len(dials) >= 4, 5, "dials")
            before = len(dials)
            time.sleep(1)
            self.assertLess(len(dials) - before, 60)

    @harness.timing
    def test_etcd_away(self):
        """A call waits at most about a second, then UNAVAILABLE; the link closes, clients look elsewhere."""
        fake = fake_etcd.FakeEtcd()
        proxy = self.env.proxy([fake.url], self.config, name="lonely")
        client = harness.Client(proxy.target)
        client.get(b"x")
        raw = h2raw.Client(proxy.address)
        raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString())
        fake.stop()
        started = time.monotonic()
        stream = None
        try:
            stream = raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString(), timeout=5)
            # A call that comes when the link says goodbye already was not processed, and is told so.
            self.assertIn((stream.status, stream.reset), ((Code.UNAVAILABLE.value[0], None), (None, 7)))
        except ConnectionError:
            pass
        self.assertLess(time.monotonic() - started, 3)
        try:
            raw.wait_for(lambda: raw.goaway is not None or raw.closed, 3, "GOAWAY")
        except ConnectionError:
            pass
        # A new connection does not get SETTINGS while there is no etcd.
        new = h2raw.Client(proxy.address)
        frame = new.read(1.5)
        self.assertTrue(frame is None, frame)
        client.close()
        proxy.stop()

    def test_messages_that_wait_for_the_redial(self):
        """A stream that begins while etcd is redialled is not read without end, and goes on afterwards."""
        fake = LateEtcd()
        self.addCleanup(fake.stop)
        proxy = self.env.proxy([fake.url], self.config, name="late")
        self.addCleanup(proxy.stop)
        raw = h2raw.Client(proxy.address)
        self.addCleanup(raw.close)
        raw.call(KV + "Range", rpc.RangeRequest(key=b"x").SerializeToString())
        fake.delay = 0.5
        fake.drop_connections()
        time.sleep(0.1)
        sid = raw.open(WATCH)
        create = rpc.WatchCreateRequest(key=b"k" * 500000)
        for _ in range(20):
            raw.send_data(sid, h2raw.grpc_message(rpc.WatchRequest(create_request=create).SerializeToString()))
        while raw.read(0.15) is not None:
            pass
        self.assertGreater(sum(len(item[0]) for item in raw.stream(sid).queue), 8000000)
        raw.wait_for(lambda: len(h2raw.split_messages(raw.stream(sid).data)[0]) == 20, 10, "20 created answers")

    def test_slow_etcd(self):
        """Answers after 0.1 to 5 s: no time of ours ends a call, and one beside them is served."""
        times = [0.1, 1, 2, 5] * 25
        rng = harness.seed_of(self.name)
        rng.shuffle(times)
        self.fake.put(rpc.PutRequest(key=self.plain(), value=b"slow"))

        def later(call):
            try:
                call.finish(self.fake.range(rpc.RangeRequest.FromString(call.payload)))
            except OSError:
                pass

        def script(call):
            if call.path != KV + "Range" or rpc.RangeRequest.FromString(call.payload).key != self.plain():
                return False
            threading.Timer(times.pop(), later, (call,)).start()
            return True
        self.fake.script = script
        calls = [self.client.start(KV + "Range", rpc.RangeRequest(key=self.plain()), rpc.RangeResponse, 60)
                 for _ in range(len(times))]
        wait_until(lambda: sum(c.done() for c in calls) >= 20, 30, "the quick ones")
        self.client.put(self.secret(), b"beside", timeout=20)
        for call in calls:
            self.assertEqual(call.result(60).kvs[0].value, b"slow")
        self.assertEqual(times, [])

    @harness.timing
    def test_keepalive_finds_a_silent_etcd(self):
        if not harness.LONG:
            self.skipTest("takes 15 s")
        self.script(KV + "Range", lambda call: time.sleep(60), times=1)  # the reading thread sleeps
        started = time.monotonic()
        self.fails((Code.UNAVAILABLE,), self.client.get, self.secret(), timeout=40)
        self.assertLess(time.monotonic() - started, 20)

    def test_cancel_travels_upstream(self):
        self.script(KV + "Range", lambda call: None, times=1)
        before = len(self.fake.resets)
        future = self.client.channel.unary_unary(KV + "Range").future(
            rpc.RangeRequest(key=self.secret()).SerializeToString())
        wait_until(lambda: any(rpc.RangeRequest.FromString(p).key == self.secret()
                               for p in self.fake.requests(KV + "Range")), what="request upstream")
        future.cancel()
        wait_until(lambda: len(self.fake.resets) > before, 5, "reset upstream")

    def test_client_gone_cancels_all(self):
        watches = [self.client.watch(self.secret(str(i))) for i in range(5)]
        self.assertEqual(len([w for w in self.fake.watchers if w[2].startswith(self.secret(""))]), 5)
        self.client.close()
        wait_until(lambda: not [w for w in self.fake.watchers if w[2].startswith(self.secret(""))], 5,
                   "end of the watches")
        del watches

    def test_request_reaches_etcd_whole(self):
        """Nothing of a unary request goes upstream before its END_STREAM."""
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        body = h2raw.grpc_message(rpc.PutRequest(key=self.plain(), value=b"slow").SerializeToString())
        sid = raw.open(KV + "Put")
        raw.send_data(sid, body)
        time.sleep(0.3)
        self.assertFalse([p for p in self.fake.requests(KV + "Put") if self.plain() in p])
        raw.send_data(sid, b"", True)
        self.assertEqual(raw.wait(sid).status, 0)

    def test_unknown_answers_to_streams(self):
        """etcd before 3.7 has no RangeStream: its refusal passes."""
        self.script(KV + "RangeStream", lambda call: call.trailers(12, "unknown method RangeStream for service"))
        call = self.client.channel.unary_stream(KV + "RangeStream", None, rpc.RangeStreamResponse.FromString)
        error = self.fails((Code.UNIMPLEMENTED,), lambda: list(call(b"\x0a\x01a", timeout=5)))
        self.assertEqual(error.details(), "unknown method RangeStream for service")

    def test_range_stream_chunks(self):
        keys = [self.secret(f"{i:03}") for i in range(100)]
        end = fake_etcd.prefix_end(self.secret(""))

        def answer(call):
            for i, key in enumerate(keys):
                piece = rpc.RangeStreamResponse()
                piece.range_response.kvs.add(key=key, value=envelope.seal(key, key * 10), mod_revision=3)
                if i == len(keys) - 1:
                    piece.range_response.count = len(keys)
                    piece.range_response.header.CopyFrom(self.fake.header())
                call.message(piece)
            call.trailers()
        self.script(KV + "RangeStream", answer)
        call = self.client.channel.unary_stream(KV + "RangeStream", None, rpc.RangeStreamResponse.FromString)
        answers = list(call(rpc.RangeRequest(key=self.secret(""), range_end=end).SerializeToString(), timeout=10))
        self.assertEqual([k.value for a in answers for k in a.range_response.kvs], [k * 10 for k in keys])
        self.assertEqual(answers[-1].range_response.count, 100)
        self.assertTrue(answers[-1].range_response.HasField("header"))

    def test_large_range_stream_message(self):
        """Split between KeyValues, header and count in the last piece, no filler: every piece exact."""
        keys = [self.secret(f"{i:03}") for i in range(60)]
        whole = rpc.RangeStreamResponse()
        whole.range_response.header.CopyFrom(self.fake.header())
        whole.range_response.count = len(keys)
        for key in keys:
            whole.range_response.kvs.add(key=key, value=envelope.seal(key, key * 2000), mod_revision=3)
        self.script(KV + "RangeStream", lambda call: call.finish(whole))
        call = self.client.channel.unary_stream(KV + "RangeStream", None, None)
        end = fake_etcd.prefix_end(self.secret(""))
        pieces = list(call(rpc.RangeRequest(key=self.secret(""), range_end=end).SerializeToString(), timeout=10))
        answers = [rpc.RangeStreamResponse.FromString(p) for p in pieces]
        self.assertEqual([k.value for a in answers for k in a.range_response.kvs], [k * 2000 for k in keys])
        self.assertEqual([a.range_response.count for a in answers if a.range_response.count], [60])
        self.assertTrue(answers[-1].range_response.HasField("header"))
        for piece in pieces:
            self.assertNotIn(b"\xfa\xe1\x09", piece, "no filler in a stream")

    def test_watch_answer_without_header_is_not_passed(self):
        """Go's client would crash: etcd always sends one, and so do we."""
        watch = self.client.watch(self.secret())
        self.fake.lie = lambda path, _, answer: answer.ClearField("header") if path == WATCH and answer.events else None
        self.client.put(self.secret(), b"x")
        try:
            answer = watch.next(5)
            self.assertTrue(answer.canceled or answer.HasField("header") or answer.events)
        except harness.grpc.RpcError as error:
            self.assertNotIn(error.code(), NEVER + (Code.INTERNAL,))
        watch.cancel()


class Members(Faults):
    def test_several_members_without_a_map(self):
        """The member that the proxy is attached to gets its URL, the others none; names and ids stay."""
        self.fake.members = [fake_etcd.kv_member("one", [self.fake.url], 2), fake_etcd.kv_member(
            "two", ["http://127.0.0.1:9"], 3), fake_etcd.kv_member("", [], 4)]
        try:
            answer = self.client.unary("/etcdserverpb.Cluster/MemberList", more.MemberListRequest(), rpc.MemberListResponse)
        finally:
            self.fake.members = self.fake.members[:1]
        self.assertEqual([(m.ID, m.name) for m in answer.members], [(2, "one"), (3, "two"), (4, "")])
        urls = [u for m in answer.members for u in m.clientURLs]
        self.assertEqual(set(urls), {self.proxy.listen[0]}, "at least one, and none past the proxy")


if __name__ == "__main__":
    harness.main()
