#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Odd request headers, one after the other: what etcd answers in clear (its server is grpc-go's transport), what it
answers behind TLS (net/http's, which is stricter), and what the proxy answers on both."""
import ssl

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
from harness import DIRECT
from protos import rpc

PATH = "/etcdserverpb.KV/Range"
KEY = b"/registry/secrets/headers/a"
BODY = h2raw.grpc_message(rpc.RangeRequest(key=KEY).SerializeToString())
METHOD, SCHEME, TARGET = (":method", "POST"), (":scheme", "http"), (":path", PATH)
AUTHORITY = (":authority", "localhost")
PSEUDO = (METHOD, SCHEME, TARGET, AUTHORITY)
TYPE, TE = ("content-type", "application/grpc"), ("te", "trailers")
GRPC = (TYPE, TE)
GOOD = PSEUDO + GRPC


def authority(*values):
    return (METHOD, SCHEME, TARGET, *((":authority", v) for v in values), *GRPC)


def without(name):
    return tuple(f for f in GOOD if f[0] != name)


def changed(name, *values):
    """The good headers, with these values for the field."""
    at = [f[0] for f in GOOD].index(name)
    return (*GOOD[:at], *((name, v) for v in values), *GOOD[at + 1:])


def more(*fields):
    return (*GOOD, *fields)


SIZE = str(len(BODY))
# Name, headers, etcd's answer in clear, etcd's behind TLS, and the proxy's on both where that is another one than
# "ok" (if one of etcd's is) or the first of them.
TABLE = [
    ("good", GOOD, "ok", "ok"),
    ("no field at all", (), "http 415 status 3", "rst 1"),
    ("content-type alone", (TYPE,), "http 405 status 13", "rst 1"),
    ("authority of clientv3 3.5.0", authority("#initially=[http://127.0.0.1:2379]"), "ok", "ok"),
    ("authority of two endpoints", authority("#initially=[https://10.0.0.1:2379;https://10.0.0.2:2379]"), "ok", "ok"),
    ("authority is a socket's path", authority("/run/etcd/proxy.sock"), "ok", "ok"),
    ("authority is empty", authority(""), "ok", "ok"),
    ("authority missing", authority(), "ok", "ok"),
    ("authority twice", authority("localhost", "localhost"), "rst 1", "rst 1"),
    ("authority with a space", authority("a b"), "ok", "ok"),
    ("authority with user", authority("user@localhost"), "ok", "ok"),
    ("authority with high bits", authority("h\u00f6st"), "ok", "ok"),
    ("authority with LF", authority("a\nb"), "rst 1", "rst 1"),
    ("authority percent-encoded", authority("%2Frun%2Fetcd%2Fproxy.sock"), "ok", "ok"),
    ("host instead of authority", (*authority(), ("host", "localhost")), "ok", "ok"),
    ("host beside authority", more(("host", "elsewhere")), "ok", "ok"),
    ("host twice", more(("host", "a"), ("host", "b")), "http 400 status 13", "ok"),
    ("host twice, no authority", (*authority(), ("host", "a"), ("host", "b")), "http 400 status 13", "ok"),
    ("host is no host", (*authority(), ("host", "#a b")), "ok", "ok"),
    ("scheme missing", without(":scheme"), "ok", "rst 1"),
    ("scheme https", changed(":scheme", "https"), "ok", "ok"),
    ("scheme unknown", changed(":scheme", "ftp"), "ok", "rst 1"),
    ("scheme empty", changed(":scheme", ""), "ok", "rst 1"),
    ("scheme twice", changed(":scheme", "http", "http"), "rst 1", "rst 1"),
    ("method missing", without(":method"), "http 405 status 13", "rst 1"),
    ("method empty", changed(":method", ""), "http 405 status 13", "rst 1"),
    ("method GET", changed(":method", "GET"), "http 405 status 13", "http 405"),
    ("method HEAD", changed(":method", "HEAD"), "http 405 status 13", "http 405"),
    ("method PUT", changed(":method", "PUT"), "http 405 status 13", "http 405"),
    ("method OPTIONS", changed(":method", "OPTIONS"), "http 405 status 13", "http 200"),
    ("method CONNECT", changed(":method", "CONNECT"), "http 405 status 13", "rst 1"),
    ("method of CONNECT alone", ((":method", "CONNECT"), AUTHORITY, *GRPC), "http 405 status 13", "http 404"),
    ("method in small letters", changed(":method", "post"), "http 405 status 13", "http 405"),
    ("method twice", changed(":method", "POST", "POST"), "rst 1", "rst 1"),
    ("path missing", without(":path"), "status 12", "rst 1"),
    ("path empty", changed(":path", ""), "status 12", "rst 1"),
    ("path without slash", changed(":path", PATH[1:]), "ok", "rst 1"),
    ("path is a star", changed(":path", "*"), "status 12", "goaway 0"),
    ("path with query", changed(":path", PATH + "?a=b"), "status 12", "ok", "status 12"),
    ("path with fragment", changed(":path", PATH + "#a"), "status 12", "status 12"),
    ("path absolute", changed(":path", "http://localhost" + PATH), "status 12", "ok", "status 12"),
    ("path percent-encoded", changed(":path", "/etcdserverpb%2EKV/Range"), "status 12", "ok", "status 12"),
    ("path twice", changed(":path", PATH, PATH), "rst 1", "rst 1"),
    ("pseudo unknown", ((":foo", "bar"), *GOOD), "rst 1", "rst 1"),
    ("pseudo of answers", ((":status", "200"), *GOOD), "rst 1", "rst 1"),
    ("pseudo protocol", ((":protocol", "websocket"), *GOOD), "rst 1", "rst 1"),
    ("pseudo behind others", (METHOD, SCHEME, TYPE, TARGET, AUTHORITY, TE), "rst 1", "rst 1"),
    ("te missing", without("te"), "ok", "ok"),
    ("te empty", changed("te", ""), "ok", "ok"),
    ("te gzip", changed("te", "gzip"), "ok", "http 400"),
    ("te trailers and deflate", changed("te", "trailers, deflate"), "ok", "http 400"),
    ("te twice", changed("te", "trailers", "trailers"), "ok", "http 400"),
    ("content-type missing", without("content-type"), "http 415 status 3", "http 404"),
    ("content-type empty", changed("content-type", ""), "http 415 status 3", "http 404"),
    ("content-type json", changed("content-type", "application/json"), "http 415 status 3", "http 404"),
    ("content-type text", changed("content-type", "text/plain"), "http 415 status 3", "http 404"),
    ("content-type +proto", changed("content-type", "application/grpc+proto"), "ok", "ok"),
    ("content-type +json", changed("content-type", "application/grpc+json"), "ok", "ok"),
    ("content-type with parameter", changed("content-type", "application/grpc;charset=utf-8"), "ok", "ok"),
    ("content-type of grpc-web", changed("content-type", "application/grpc-web"), "http 415 status 3", "http 415"),
    ("content-type in capitals", changed("content-type", "Application/GRPC"), "http 415 status 3", "http 404"),
    ("content-type twice", changed("content-type", "application/grpc", "application/grpc"), "ok", "ok"),
    ("content-type twice, second odd", changed("content-type", "application/grpc", "text/plain"), "ok", "ok"),
    ("content-type twice, first odd", changed("content-type", "text/plain", "application/grpc"), "ok", "http 404"),
    ("connection keep-alive", more(("connection", "keep-alive")), "rst 1", "http 400"),
    ("connection close", more(("connection", "close")), "rst 1", "http 400"),
    ("connection empty", more(("connection", "")), "rst 1", "http 400"),
    ("keep-alive", more(("keep-alive", "timeout=5")), "ok", "http 400"),
    ("proxy-connection", more(("proxy-connection", "keep-alive")), "ok", "http 400"),
    ("upgrade", more(("upgrade", "h2c")), "ok", "http 400"),
    ("transfer-encoding chunked", more(("transfer-encoding", "chunked")), "ok", "http 400"),
    ("transfer-encoding odd", more(("transfer-encoding", "gzip")), "ok", "http 400"),
    ("trailer announced", more(("trailer", "x-sum")), "ok", "ok"),
    ("expect", more(("expect", "100-continue")), "ok", "http 100 status 0"),
    ("http2-settings", more(("http2-settings", "AAMAAABkAAQAAP__")), "ok", "ok"),
    ("content-length right", more(("content-length", SIZE)), "ok", "ok"),
    ("content-length too small", more(("content-length", "1")), "ok", "rst 1"),
    ("content-length too large", more(("content-length", "1000")), "ok", "ok"),
    ("content-length zero", more(("content-length", "0")), "ok", "rst 1"),
    ("content-length no number", more(("content-length", "many")), "ok", "rst 1"),
    ("content-length negative", more(("content-length", "-1")), "ok", "rst 1"),
    ("content-length twice", more(("content-length", SIZE), ("content-length", SIZE)), "ok", "ok"),
    ("content-length twice, odd", more(("content-length", SIZE), ("content-length", "1")), "ok", "ok"),
    ("name in capitals", more(("X-Foo", "a")), "rst 1", "rst 1"),
    ("name empty", more(("", "a")), "rst 1", "rst 1"),
    ("name with a space", more(("x foo", "a")), "rst 1", "rst 1"),
    ("name with a colon", more(("x:foo", "a")), "rst 1", "rst 1"),
    ("name with LF", more(("x\nfoo", "a")), "rst 1", "rst 1"),
    ("name with NUL", more(("x\0foo", "a")), "rst 1", "rst 1"),
    ("name with high bits", more((b"x-f\xc3\xb6", "a")), "rst 1", "rst 1"),
    ("name of odd tokens", more(("x!#$%&'*+-.^_`|~9", "a")), "ok", "ok"),
    ("value empty", more(("x-foo", "")), "ok", "ok"),
    ("value with CR", more(("x-foo", "a\rb")), "rst 1", "rst 1"),
    ("value with LF", more(("x-foo", "a\nb")), "rst 1", "rst 1"),
    ("value with NUL", more(("x-foo", "a\0b")), "rst 1", "rst 1"),
    ("value with a control byte", more(("x-foo", "a\x01b")), "rst 1", "rst 1"),
    ("value with DEL", more(("x-foo", "a\x7fb")), "rst 1", "rst 1"),
    ("value with TAB", more(("x-foo", "a\tb")), "ok", "ok"),
    ("value with spaces around", more(("x-foo", " a ")), "ok", "ok"),
    ("value with high bits", more((b"x-foo", b"h\xc3\xb6\xff")), "ok", "ok"),
    ("path with LF", changed(":path", PATH + "\n"), "rst 1", "rst 1"),
    ("method with NUL", changed(":method", "PO\0ST"), "rst 1", "rst 1"),
    ("content-type with CR", changed("content-type", "application/grpc\r"), "rst 1", "rst 1"),
    ("grpc-status in a request", more(("grpc-status", "3")), "ok", "ok"),
    ("grpc-foo", more(("grpc-foo", "bar")), "ok", "ok"),
    ("grpc-encoding identity", more(("grpc-encoding", "identity")), "ok", "ok"),
    ("grpc-encoding identity twice", more(("grpc-encoding", "identity"), ("grpc-encoding", "identity")), "ok", "ok"),
    ("grpc-encoding gzip, second", more(("grpc-encoding", "identity"), ("grpc-encoding", "gzip")), "ok", "ok"),
    ("grpc-encoding gzip", more(("grpc-encoding", "gzip")), "ok", "ok", "status 12"),
    ("grpc-timeout", more(("grpc-timeout", "5S")), "ok", "ok"),
    ("grpc-timeout empty", more(("grpc-timeout", "")), "http 400 status 13", "ok"),
    ("grpc-timeout odd", more(("grpc-timeout", "5 S")), "http 400 status 13", "http 400"),
    ("grpc-timeout long", more(("grpc-timeout", "123456789S")), "http 400 status 13", "http 400"),
    ("grpc-timeout zero", more(("grpc-timeout", "0S")), "status 4", "status 4"),
    ("grpc-timeout twice", more(("grpc-timeout", "5S"), ("grpc-timeout", "6S")), "ok", "ok"),
    ("binary metadata", more(("x-bin", "AAEC")), "ok", "ok"),
    ("binary metadata that is none", more(("x-bin", "*!")), "http 400 status 13", "http 400", "status 13"),
    ("cookie in crumbs", more(("cookie", "a=b"), ("cookie", "c=d")), "ok", "ok"),
    ("user-agent twice", more(("user-agent", "a"), ("user-agent", "b")), "ok", "ok"),
    ("grpc-accept-encoding", more(("grpc-accept-encoding", "gzip")), "ok", "ok"),
]


def outcome(client, sid):
    """What came of the call, in a word or two."""
    stream = client.stream(sid)
    try:
        client.wait_for(lambda: stream.done or client.goaway, 5)
    except TimeoutError:
        return "nothing"
    except ConnectionError:
        return "closed"
    if stream.headers is not None:
        http = stream.headers.get(":status")
        if stream.status is None or http != "200":
            return f"http {http}" + ("" if stream.status is None else f" status {stream.status}")
        return "ok" if stream.status == 0 else f"status {stream.status}"
    if stream.reset is not None:
        return f"rst {stream.reset}"
    # net/http ends the whole connection when DATA follows on a stream that it has reset.
    return f"goaway {client.goaway[1]}".replace("goaway 1", "rst 1")


class Headers(harness.E2E):
    """The proxy that listens in clear stands before the etcd with TLS, and the other way round: what is good for
    one side is not always good for the other, and must not get there."""

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.context = ssl.create_default_context(cafile=cls.tls.path("ca.crt"))
        cls.context.load_cert_chain(cls.tls.path("client.crt"), cls.tls.path("client.key"))
        cls.context.set_alpn_protocols(["h2"])
        cls.etcd = cls.env.etcd()
        cls.tls_etcd = cls.env.etcd(name="tls-etcd", tls=cls.tls)
        if DIRECT:
            cls.clear, cls.secure = (("127.0.0.1", e.port) for e in (cls.etcd, cls.tls_etcd))
            return
        config = cls.env.config(cls.env.kms().path)
        to_tls = ["--etcd-cafile", cls.tls.path("ca.crt"), "--etcd-certfile", cls.tls.path("client.crt"),
                  "--etcd-keyfile", cls.tls.path("client.key")]
        listen_tls = ["--cert-file", cls.tls.path("server.crt"), "--key-file", cls.tls.path("server.key"),
                      "--trusted-ca-file", cls.tls.path("ca.crt")]
        cls.proxy = cls.env.proxy(cls.tls_etcd, config, flags=to_tls)
        cls.tls_proxy = cls.env.proxy(cls.etcd, config, name="tls-proxy", tls=cls.tls, flags=listen_tls)
        cls.clear, cls.secure = cls.proxy.address, cls.tls_proxy.address

    def both(self):
        for address, context in ((self.clear, None), (self.secure, self.context)):
            client = h2raw.Client(address, context=context)
            self.addCleanup(client.close)
            yield client

    def check(self, client, sid, wanted):
        self.assertEqual(outcome(client, sid), wanted)
        if not DIRECT:  # what is wrong with a request costs the request, not the connection
            self.assertEqual(client.call(PATH, BODY[5:]).status, 0)

    def test_table(self):
        for name, headers, in_clear, behind_tls, *other in TABLE:
            ours = other[0] if other else "ok" if "ok" in (in_clear, behind_tls) else in_clear
            for client, etcds in zip(self.both(), (in_clear, behind_tls)):
                with self.subTest(name=name, tls=isinstance(client.sock, ssl.SSLSocket)):
                    sid = client.open(PATH, headers=list(headers))
                    client.send_data(sid, BODY, end_stream=True)
                    self.check(client, sid, etcds if DIRECT else ours)

    def test_refusals_in_words(self):
        """As grpc-go's server words them."""
        for headers, message in ((changed(":method", "GET"),
                                  'Received a HEADERS frame with :method "GET" which should be POST'),
                                 (changed("content-type", "text/plain"),
                                  'invalid gRPC request content-type "text/plain"'),
                                 (without(":path"), 'malformed method name: ""')):
            for client in list(self.both())[:1 if DIRECT else 2]:
                sid = client.open(PATH, headers=list(headers), end_stream=True)
                self.assertEqual(client.wait(sid).message, message)

    def test_trailers_of_requests(self):
        """gRPC has none. net/http reads over them; grpc-go ends the connection."""
        for name, trailers, end, wanted in (("legal", [("x-sum", "1")], True, "ok"),
                                            ("pseudo", [(":path", "/x")], True, "rst 1"),
                                            ("capitals", [("X-Sum", "1")], True, "rst 1"),
                                            ("LF", [("x-sum", "a\nb")], True, "rst 1"),
                                            ("not at the end", [("x-sum", "1")], False, "rst 1")):
            if DIRECT and wanted != "ok":
                continue  # etcd may have answered before it reads them
            for client in list(self.both())[1 if DIRECT else 0:]:
                with self.subTest(name=name):
                    sid = client.open(PATH, headers=list(GOOD))
                    client.send_data(sid, BODY)
                    client.send_headers(sid, trailers, end)
                    self.check(client, sid, wanted)


    def test_large_metadata(self):
        """A token of 64 KiB; 120,000 bytes in all. etcd takes 1 MiB behind TLS and more in clear."""
        for name, fields in (("token", [("token", "aZ0_" * 16000)]),
                             ("authorization", [("authorization", "Bearer " + "x" * 65000)]),
                             ("many fields", [(f"x-{i}", "v" * 80) for i in range(900)]),
                             ("large fields", [(f"x-{i}", "v" * 11500) for i in range(10)])):
            for client in self.both():
                with self.subTest(name=name):
                    sid = client.open(PATH, extra=fields)
                    client.send_data(sid, BODY, end_stream=True)
                    self.check(client, sid, "ok")

    def test_too_large_metadata(self):
        if DIRECT:
            self.skipTest("the proxy's limit is the lower one")
        for client in self.both():
            self.check(client, client.start(PATH, BODY, [(f"x-{i}", "v" * 9000) for i in range(16)]), "http 431")
            self.assertEqual(client.peer_settings[6], 128 * 1024)  # so that clients need not try


class Upstream(harness.E2E):
    needs_proxy = True

    def answers(self, script):
        self.fake.script = lambda call: call.path == PATH and (script(call), True)[1]
        self.addCleanup(setattr, self.fake, "script", None)
        client = h2raw.Client(self.address)
        self.addCleanup(client.close)
        return client

    def test_large_metadata_arrives_whole(self):
        """In both directions, headers and trailers."""
        token, many = "t" * 65000, [(f"x-{i}", "v" * 9000 + str(i)) for i in range(6)]
        seen = {}

        def script(call):
            seen.update(call.metadata)
            call.headers(extra=[("x-head", "h" * 60000), *many])
            call.message(rpc.RangeResponse(header=self.fake.header()))
            call.trailers(0, "", [("x-tail", "t" * 60000), *many])
        client = self.answers(script)
        stream = client.wait(client.start(PATH, BODY, [("token", token), *many]))
        self.assertEqual(stream.status, 0)
        self.assertEqual({n: seen.get(n) for n, _ in many}, dict(many))
        self.assertEqual(seen["token"], token)
        for fields, name, value in ((stream.headers, "x-head", "h" * 60000), (stream.trailers, "x-tail", "t" * 60000)):
            self.assertEqual(fields[name], value)
            self.assertEqual({n: fields.get(n) for n, _ in many}, dict(many))

    def test_illegal_answers(self):
        """An etcd that breaks HTTP's rules: UNAVAILABLE for that call, whichever block it is in."""
        illegal = ([("x-foo", "a\r\ngrpc-status: 0")], [("x-foo", "a\nb")], [("x-foo", "a\0b")], [("x-foo", "a\x7f")],
                   [("X-Foo", "a")], [("x foo", "a")], [("", "a")], [(":status", "200")], [(":path", "/")],
                   [("grpc-status", "0"), ("grpc-status", "7")])

        def script(call):
            fields, place = call.stream.user
            call.headers(extra=fields if place == "headers" else ())
            call.message(rpc.RangeResponse(header=self.fake.header()))
            call.trailers(0, "", fields if place == "trailers" else ())

        def run(call):
            call.stream.user = case
            if case[1] == "alone":
                call.trailers(0, "", case[0])
            else:
                script(call)
        client = self.answers(run)
        case = ((), "headers")
        self.assertEqual(client.wait(client.start(PATH, BODY)).status, 0)
        conns = list(self.fake.conns)
        for fields in illegal:
            for place in ("headers", "trailers", "alone"):
                case = (fields, place)
                with self.subTest(case=case):
                    stream = client.wait(client.start(PATH, BODY))
                    self.assertEqual((stream.status, stream.reset), (14, None), stream.message)
                    self.assertNotIn("x-foo", {**stream.headers, **(stream.trailers or {})})
        # grpc-status before the last block, even if it is the only one there.
        case = ([("grpc-status", "0")], "headers")
        self.assertEqual(client.wait(client.start(PATH, BODY)).status, 14)
        case = ((), "headers")
        self.assertEqual(client.wait(client.start(PATH, BODY)).status, 0)
        self.assertEqual(self.fake.conns, conns, "a call costs no connection")
        self.assertEqual(self.fake.problems, [])

    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.proxy = cls.env.proxy([cls.fake.url], cls.env.config(cls.env.kms().path))
        cls.address = cls.proxy.address

    def test_what_etcd_gets(self):
        """Nothing that ends at a proxy, nothing twice that may come once, an authority that is one."""
        seen = []

        def script(call):
            if call.path == PATH:
                seen.append(call.metadata)
            return False
        self.fake.script = script
        client = h2raw.Client(self.address)
        self.addCleanup(client.close)
        for name, headers, in_clear, behind_tls, *other in TABLE:
            if other or "ok" not in (in_clear, behind_tls) or "high bits" in name:
                continue  # the fake reads UTF-8 only
            sid = client.open(PATH, headers=list(headers))
            client.send_data(sid, BODY, end_stream=True)
            with self.subTest(name=name):
                self.assertEqual(outcome(client, sid), "ok")
                got = seen.pop()
                self.assertFalse(set(got) & {"host", "connection", "keep-alive", "proxy-connection", "upgrade",
                                             "transfer-encoding", "content-length", "expect", "http2-settings",
                                             "grpc-encoding"})
                self.assertEqual({n: v for n, v in got.items() if n in (":method", ":scheme", ":path", "te")},
                                 {":method": "POST", ":scheme": "http", ":path": PATH, "te": "trailers"})
                self.assertIn(got["content-type"], ("application/grpc", "application/grpc+proto"))
                self.assertRegex(got[":authority"], r"^[-A-Za-z0-9._~%!$&'()*+,;=:@\[\]]+$")
        self.assertEqual(self.fake.problems, [])


if __name__ == "__main__":
    harness.main()
