#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on the client port: every probe is sent to etcd and through the proxy, and the answers are compared."""
import collections
import socket
import ssl

import harness  # first: it sets the path to tests/fake
from harness import DIRECT

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
    if body.startswith(b"["):  # etcd lists its checks in random order
        body = b"\n".join(sorted(body.split(b"\n")))
    status = int(lines[0].split()[1]) if lines[0] else 0
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
