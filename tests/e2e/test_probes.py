#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plain HTTP on the client port: every probe is sent to etcd and through the proxy, over HTTP/1.1 and over HTTP/2, and
the answers are compared."""
import collections
import contextlib
import signal
import socket
import ssl
import threading

import harness  # first: it sets the path to tests/fake
import h2raw
from harness import DIRECT
from protos import rpc

Answer = collections.namedtuple("Answer", "status allow location type body")
HOST = b"Host: x\r\nConnection: close\r\n"
CHECKS = ("serializable_read", "linearizable_read", "data_corruption", "ping", "nope", "PING", "a%20b", "read%69ndex")
TARGETS = (
    "/health", "/livez", "/readyz", "/version",
    "/readyz?verbose", "/livez?verbose", "/readyz?verbose=false", "/livez?exclude=serializable_read",
    "/readyz?verbose&exclude=data_corruption", "/readyz?exclude=nope", "/readyz?exclude=a;b", "/readyz?exclude=%",
    "/health?serializable=true", "/health?serializable=x", "/health?exclude=NOSPACE", "/health?x=y", "/version?x=1",
    *(f"/{page}/{check}{query}" for page in ("livez", "readyz") for check in CHECKS for query in ("", "?verbose")),
    "/livez/serializable_read/", "/livez/serializable_read/x", "/livez/", "/readyz/", "/health/", "/health/x",
    "/version/", "/metrics/", "/metrics/x", "/livezz", "/LIVEZ", "/Health", "/", "/foo",
    "//livez", "//livez?verbose", "/./livez", "/x/../livez", "/livez/../version", "/livez//ping", "/livez/./ping?a=b&c",
    "/li%76ez", "/livez%3Fverbose", "/livez/%73erializable_read", "/health%2f", "/%2e/livez", "/livez%", "/livez%zz",
    "http://127.0.0.1/health", "https://a.b/readyz?verbose", "foo://x/health", "http://127.0.0.1:99/livez/ping",
    "http://x/../livez", "http://x/nope", "health", "*", "/health#x", "/livez?verbose#x", "/livez#/x?verbose",
)
METHODS = ("HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND")
METHOD_TARGETS = ("/health", "/readyz", "/livez?verbose", "/livez/serializable_read", "/livez/ping", "/readyz/",
                  "/version", "/", "/foo", "//livez", "*", "http://x/health")
# What etcd serves and we do not: the JSON gateway, which would return ciphertext and store plaintext, and its inside.
NOT_SERVED = ("/v3/kv/range", "/v3/kv/put", "/v3", "/v3/", "/v3beta/kv/put", "/v2/keys", "/debug/vars", "/debug/pprof/",
              "/health/../v3/kv/put", "//v3/kv/range", "/livez/../debug/vars", "http://x/v3/kv/range", "/v3%2fkv/range",
              "/livez/../v3/kv/put", "/livez/%2e%2e/v3/kv/put", "/%76%33/kv/range")


def parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin1").split("\r\n")
    fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
    if fields.get("transfer-encoding") == "chunked":
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[:int(size, 16)], rest[int(size, 16) + 2:]
        body = whole
    return answer_of(int(lines[0].split()[1]) if lines[0] else 0, fields, body)


def answer_of(status, fields, body):
    if body.startswith(b"["):  # etcd lists its checks in random order
        body = b"\n".join(sorted(body.split(b"\n")))
    if status in (301, 400):  # the texts are for people, and with a redirect for none of our clients
        fields["content-type"], body = "", b""
    return Answer(status, fields.get("allow"), fields.get("location"), fields.get("content-type", ""), body)


class Probes(harness.E2E):
    """In clear."""
    context = None

    @classmethod
    def ask(cls, address, request):
        s = socket.create_connection(address, 10)
        if cls.context:
            s = cls.context.wrap_socket(s, server_hostname="localhost")
        with s:
            data = b""
            try:
                s.sendall(request)
                while more := s.recv(65536):
                    data += more
            except (ConnectionResetError, ssl.SSLEOFError):
                pass
            return parse(data)

    def compare(self, request):
        direct = self.ask(("127.0.0.1", self.etcd.port), request)
        through = self.ask(self.address, request)
        self.assertEqual(through, direct, request)

    def test_targets(self):
        for target in TARGETS:
            with self.subTest(target):
                self.compare(f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")

    def test_methods(self):
        for method in METHODS:
            for target in METHOD_TARGETS:
                with self.subTest(f"{method} {target}"):
                    self.compare(f"{method} {target} HTTP/1.1\r\n".encode() + HOST + b"Content-Length: 0\r\n\r\n")

    def test_shapes(self):
        """HTTP/1.0 (HAProxy's httpchk), bodies, upgrades."""
        upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        for request in (b"OPTIONS / HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n",
                        b"OPTIONS /v3/kv/put HTTP/1.1\r\n" + HOST + b"\r\n",
                        b"HEAD /readyz?verbose HTTP/1.0\r\n\r\n",
                        b"GET /health HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nabcd",
                        b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nabcd",
                        b"GET /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                        b"GET /health HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n",
                        b"GET /readyz?verbose HTTP/1.1\r\n" + HOST + b"Accept-Encoding: gzip\r\nOrigin: http://a\r\n\r\n"):
            with self.subTest(request):
                self.compare(request)

    def test_metrics(self):
        for method in ("GET", "POST", "HEAD"):
            request = f"{method} /metrics HTTP/1.1\r\n".encode() + HOST + b"Content-Length: 0\r\n\r\n"
            answer = self.ask(self.address, request)
            self.assertEqual(answer[:4], self.ask(("127.0.0.1", self.etcd.port), request)[:4])
            self.assertEqual(b"etcd_server_has_leader" in answer.body, method != "HEAD")

    def test_not_served(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        for method in ("GET", "POST", "HEAD", "PUT"):
            for target in NOT_SERVED:
                answer = self.ask(self.address, f"{method} {target} HTTP/1.1\r\n".encode() + HOST +
                                  b"Content-Length: 2\r\n\r\n{}")
                self.assertEqual(answer.status, 404, (method, target))

    def test_header_injection(self):
        """What a redirect repeats can't end its line."""
        if DIRECT:
            self.skipTest("needs the proxy")
        for target in ("//livez?a%0d%0aSet-Cookie:b", "//livez%0d%0aSet-Cookie:b", "/livez/../%0d%0aX:y"):
            answer = self.ask(self.address, f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
            self.assertIn(answer.status, (301, 404))
            self.assertNotIn("\n", answer.location or "")


class ProbesOverTls(Probes):
    """The same with certificates, and ALPN that says http/1.1."""
    alpn = ("http/1.1",)

    @classmethod
    def start(cls):
        cls.tls = tls = cls.env.tls()
        cls.etcd = cls.env.etcd(tls=tls)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.context = ssl.create_default_context(cafile=tls.path("ca.crt"))
        cls.context.load_cert_chain(tls.path("client.crt"), tls.path("client.key"))
        if cls.alpn:
            cls.context.set_alpn_protocols(list(cls.alpn))
        if DIRECT:
            cls.address = ("127.0.0.1", cls.etcd.port)
            return
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, tls=tls, flags=[
            "--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"), "--trusted-ca-file",
            tls.path("ca.crt"), "--etcd-cafile", tls.path("ca.crt"), "--etcd-certfile", tls.path("client.crt"),
            "--etcd-keyfile", tls.path("client.key")])
        cls.address = cls.proxy.address


class ProbesWithoutAlpn(ProbesOverTls):
    alpn = ()


class ProbesOverHttp2(ProbesOverTls):
    """ALPN that says h2: etcd's handlers answer what has no gRPC content type. Requests are kept as text, of which the
    first line and the fields that HTTP/2 has, too, are sent."""
    alpn = ("h2",)

    @classmethod
    def ask(cls, address, request):
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        fields = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        fields = [(n, v) for n, v in fields if n in ("content-length", "content-type", "accept-encoding", "origin")]
        return cls.request(address, method, target, fields, body)

    @classmethod
    def request(cls, address, method, target, fields=(), body=b"", end=True):
        with contextlib.closing(h2raw.Client(address, context=cls.context)) as client:
            sid = client.open("", headers=cls.headers(method, target, fields), end_stream=end and not body)
            if body:
                client.send_data(sid, body, end_stream=end)
            try:
                return cls.answer(client, sid)
            except ConnectionError:
                return Answer(0, None, None, "", b"")

    @staticmethod
    def headers(method, target, fields=()):
        return [(":method", method), (":scheme", "https"), (":path", target), (":authority", "x"), *fields]

    @staticmethod
    def answer(client, sid):
        client.wait_for(lambda: client.stream(sid).done or client.goaway and client.goaway[1] != h2raw.NO_ERROR)
        stream = client.stream(sid)
        if stream.headers is None:  # what HTTP/1.1 answers with 400, net/http resets here
            return Answer(400, None, None, "", b"")
        assert "grpc-status" not in stream.headers and stream.trailers is None, (stream.headers, stream.trailers)
        length = stream.headers.get("content-length")
        if length is not None and stream.data:
            assert int(length) == len(stream.data), (length, stream.data)
        return answer_of(int(stream.headers[":status"]), stream.headers, bytes(stream.data))

    def test_content_types(self):
        """Not gRPC's, or none."""
        for kind in ("", "application/json", "text/plain", "application/x-www-form-urlencoded", "Application/GRPC"):
            for method, target in (("GET", "/health"), ("POST", "/health"), ("GET", "/foo"), ("OPTIONS", "/")):
                with self.subTest(f"{kind}: {method} {target}"):
                    self.compare(f"{method} {target} HTTP/1.1\r\nContent-Type: {kind}\r\n\r\n".encode())

    def test_odd_methods(self):
        for method in ("FOO", "get", "head", "M-SEARCH", "a.b", "QUERY"):
            for target in ("/health", "/foo", "/livez?verbose"):
                with self.subTest(f"{method} {target}"):
                    self.compare(f"{method} {target} HTTP/1.1\r\n\r\n".encode())

    def test_bodies(self):
        """Dropped, whether they end or not; a large one is not waited for."""
        for target, body, end in (("/health", b"ab", False), ("/health", b"a" * 300000, True), ("/foo", b"{}", False),
                                  ("/readyz", b"a" * 60000, False), ("/health", b"{}", True)):
            with self.subTest(target=target, size=len(body), end=end):
                answers = [self.request(address, "POST", target, [("content-type", "application/json")], body, end)
                           for address in (("127.0.0.1", self.etcd.port), self.address)]
                self.assertEqual(*answers)

    def test_beside_calls(self):
        """A connection carries both, and more probes than may be under way at a time, one after the other."""
        client = h2raw.Client(self.address, context=self.context)
        self.addCleanup(client.close)
        for _ in range(100):
            sid = client.open("", headers=self.headers("GET", "/health"), end_stream=True)
            call = client.start("/etcdserverpb.KV/Range",
                                h2raw.grpc_message(rpc.RangeRequest(key=b"/registry/x").SerializeToString()))
            self.assertEqual(self.answer(client, sid)[:4], (200, None, None, "text/plain; charset=utf-8"))
            self.assertEqual(client.wait(call).status, 0)

    def test_no_request_is_split(self):
        """What :method and :path say stays in the one line that etcd gets."""
        if DIRECT:
            self.skipTest("needs the proxy")
        for method, target in (("GET /v3/x HTTP/1.1", "/health"), ("GET ", "/health"), ("GET", "/health HTTP/1.1"),
                               ("GET", "/health?a b"), ("CONNECT", "/health"), ("A" * 40, "/health"), ("G:T", "/health"),
                               ("GET", "/health?" + "a" * 2000)):
            self.assertEqual(self.request(self.address, method, target).status, 400, (method, target))


class ProbesInClear(harness.E2E):
    """etcd's port without TLS speaks gRPC only; the proxy answers there, too."""
    needs_proxy = True

    def test_clear(self):
        client = h2raw.Client(self.address)
        self.addCleanup(client.close)
        for method, target, status in (("GET", "/health", 200), ("HEAD", "/health", 405), ("OPTIONS", "/", 200),
                                       ("GET", "/foo", 404), ("POST", "/v3/kv/range", 404)):
            sid = client.open("", headers=ProbesOverHttp2.headers(method, target), end_stream=True)
            self.assertEqual(ProbesOverHttp2.answer(client, sid).status, status, (method, target))

    def test_grpc(self):
        """What looks like gRPC is answered in its form."""
        client = h2raw.Client(self.address)
        self.addCleanup(client.close)
        grpc_type = [("content-type", "application/grpc")]
        for method, target, fields, http, status in (
                ("GET", "/health", grpc_type, "405", 13), ("POST", "/health", grpc_type, "200", 12),
                ("POST", "/etcdserverpb.KV/Range", [], "415", 3), ("GET", "/etcdserverpb.KV/Range", [], "415", 3),
                ("POST", "/health", [("content-type", "application/grpc-web")], "415", 3)):
            sid = client.open("", headers=ProbesOverHttp2.headers(method, target, fields), end_stream=True)
            stream = client.wait(sid)
            self.assertEqual((stream.headers[":status"], stream.status), (http, status), (method, target))


class SlowEtcd(harness.E2E):
    """Before etcd stands one that takes probes and says nothing: only HTTP/2 gets through."""
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        cls.addClassCleanup(cls.listener.close)
        cls.held = []  # connections of probes, as long as the proxy has them open
        threading.Thread(target=cls.accept, daemon=True).start()
        cls.proxy = cls.env.proxy([f"http://127.0.0.1:{cls.listener.getsockname()[1]}"],
                                  cls.env.config(cls.env.kms().path))

    @classmethod
    def accept(cls):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = cls.listener.accept()
                threading.Thread(target=cls.serve, args=(sock,), daemon=True).start()

    @classmethod
    def serve(cls, sock):
        with sock, contextlib.suppress(OSError):
            first = sock.recv(4096)
            if first.startswith(b"PRI "):
                with socket.create_connection(("127.0.0.1", cls.etcd.port)) as etcd:
                    etcd.sendall(first)
                    threading.Thread(target=cls.copy, args=(etcd, sock), daemon=True).start()
                    cls.copy(sock, etcd)
                return
            cls.held.append(sock)
            while sock.recv(4096):
                pass
            cls.held.remove(sock)

    @staticmethod
    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def setUp(self):
        super().setUp()
        self.raw_client = h2raw.Client(self.proxy.address)
        self.addCleanup(self.raw_client.close)

    def probes(self, count):
        return [self.raw_client.open("", headers=ProbesOverHttp2.headers("GET", "/health"), end_stream=True)
                for _ in range(count)]

    def held_become(self, count):
        harness.wait_until(lambda: len(self.held) == count, what=f"{count} connections of probes, not {len(self.held)}")

    def served(self):
        payload = rpc.RangeRequest(key=b"/registry/x").SerializeToString()
        self.assertEqual(self.raw_client.call("/etcdserverpb.KV/Range", payload).status, 0)

    def test_reset(self):
        """The question to etcd ends with the stream that it is asked for, and nobody touches that stream again."""
        for _ in range(5):
            sids = self.probes(20)
            self.held_become(20)
            self.served()
            for sid in sids:
                self.raw_client.send_rst(sid, h2raw.CANCEL)
            self.held_become(0)
            self.served()

    def test_connection_lost(self):
        self.probes(20)
        self.held_become(20)
        self.raw_client.close()
        self.held_become(0)

    def test_bound(self):
        """So many at a time; what is more was not looked at, and may be repeated."""
        sids = self.probes(50)
        self.held_become(32)
        self.raw_client.wait_for(lambda: sum(self.raw_client.stream(sid).done for sid in sids) == 18)
        refused = [sid for sid in sids if self.raw_client.stream(sid).done]
        self.assertEqual(refused, sids[32:])
        self.assertEqual({self.raw_client.stream(sid).reset for sid in refused}, {h2raw.REFUSED_STREAM})
        for sid in sids[:10]:
            self.raw_client.send_rst(sid, h2raw.CANCEL)
        self.held_become(22)
        more = self.probes(11)
        self.held_become(32)
        self.assertEqual(self.raw_client.wait(more[-1]).reset, h2raw.REFUSED_STREAM)
        for sid in (*sids[10:32], *more[:10]):
            self.raw_client.send_rst(sid, h2raw.CANCEL)
        self.held_become(0)

    def test_drain(self):
        """A proxy that is told to end does so: it waits for no probe beyond the probe's own time."""
        proxy = self.env.proxy(self.proxy.servers, self.proxy.config, name="draining")
        client = h2raw.Client(proxy.address)
        self.addCleanup(client.close)
        sid = client.open("", headers=ProbesOverHttp2.headers("GET", "/health"), end_stream=True)
        with socket.create_connection(proxy.address) as old:
            old.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
            self.held_become(2)
            proxy.process.signal(signal.SIGTERM)
            self.assertEqual(ProbesOverHttp2.answer(client, sid).status, 503)
            self.assertEqual(proxy.process.popen.wait(15), 0)
            self.held_become(0)

    def test_silence(self):
        sid, = self.probes(1)
        answer = ProbesOverHttp2.answer(self.raw_client, sid)
        self.assertEqual(answer.status, 503)
        self.assertIn(b'"health":"false"', answer.body)
        self.held_become(0)
        self.served()


class EtcdAway(harness.E2E):
    needs_proxy = True

    def test_etcd_away(self):
        """No probe says that all is well when etcd is gone, OPTIONS neither."""
        self.etcd.process.kill()
        for request in (b"GET /health", b"GET /livez/ping", b"OPTIONS /", b"GET /readyz?verbose"):
            answer = Probes.ask(self.proxy.address, request + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            self.assertEqual(answer.status, 503, request)


if __name__ == "__main__":
    harness.main()
