#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""TLS with client certificates and unix sockets, on both sides; who is let in and who is not."""
import os
import socket
import ssl
import stat
import threading

import harness  # first: it sets the path to tests/fake
import bulk
import h2raw
from harness import http_get, wait_until
from protos import rpc

VALUE = b"over another kind of socket"


class Sockets(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls(names=("client", "stranger"))
        cls.other = cls.env.tls("other")  # another authority
        cls.etcd = cls.env.etcd(unix=True)
        cls.raw = cls.etcd.client
        cls.tls_etcd = cls.env.etcd(name="tls-etcd", tls=cls.tls)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.upstream = ["--etcd-cafile", cls.tls.path("ca.crt"), "--etcd-certfile", cls.tls.path("client.crt"),
                        "--etcd-keyfile", cls.tls.path("client.key")]
        cls.server = ["--cert-file", cls.tls.path("server.crt"), "--key-file", cls.tls.path("server.key"),
                      "--trusted-ca-file", cls.tls.path("ca.crt"), "--client-cert-auth"]

    def start_proxy(self, servers=None, **options):
        proxy = self.env.proxy(servers or self.etcd, self.config, name=self.name, **options)
        self.addCleanup(proxy.stop)
        return proxy

    def roundtrip(self, client, raw):
        key = self.secret()
        client.put(key, VALUE)
        self.assertEqual(client.value(key), VALUE)
        self.assertSealed(key, VALUE, raw=raw)
        big = bulk.value_of(key, 1 << 20)
        client.put(self.secret("big"), big)
        self.assertEqual(client.value(self.secret("big")), big)
        watch = client.watch(key, prev_kv=True)
        client.put(key, b"new")
        event = watch.events(1)[0]
        self.assertEqual((event.kv.value, event.prev_kv.value), (b"new", VALUE))
        watch.cancel()
        keys = bulk.fill(client, self.secret("many/"), 300, 16384)
        bulk.check(client.list(self.secret("many/")), keys, 16384)

    def context(self, name="client", tls=None):
        tls = tls or self.tls
        context = ssl.create_default_context(cafile=self.tls.path("ca.crt"))
        context.check_hostname = False
        if name:
            context.load_cert_chain(tls.path(name + ".crt"), tls.path(name + ".key"))
        return context

    def test_tls_on_both_sides(self):
        proxy = self.start_proxy(self.tls_etcd, tls=self.tls, flags=self.server + self.upstream)
        self.roundtrip(proxy.client, self.tls_etcd.client)

    def test_tls_in_front_of_clear_text(self):
        proxy = self.start_proxy(tls=self.tls, flags=self.server)
        self.roundtrip(proxy.client, self.raw)
        # Without a certificate, with one of another authority, with TLS 1.1, without ALPN h2, in clear text: no.
        self.assertFalse(self.gets_in(proxy, self.context(None)))
        self.assertFalse(self.gets_in(proxy, self.context("client", self.other)))
        self.assertFalse(self.gets_in(proxy, None))
        old = self.context()
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertFalse(self.gets_in(proxy, old))
        self.assertTrue(self.gets_in(proxy, self.context()))
        # An authority alone asks for certificates, too.
        silent = self.start_proxy(tls=self.tls, flags=self.server[:-1])
        self.assertFalse(self.gets_in(silent, self.context(None)))
        self.assertTrue(self.gets_in(silent, self.context()))
        # HTTP/1.1 there, by ALPN and without it.
        for protocols in (["http/1.1"], None):
            context = self.context()
            if protocols:
                context.set_alpn_protocols(protocols)
            self.assertEqual(http_get(proxy.address, "/health", context=context)[0], 200)

    def gets_in(self, proxy, context):
        if context is not None:
            context.set_alpn_protocols(["h2"])
        try:
            client = h2raw.Client(proxy.address, context=context)
            stream = client.call("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"x").SerializeToString(), 3)
            return stream.status == 0
        except (OSError, ssl.SSLError, ConnectionError, TimeoutError):
            return False

    def test_alpn_is_h2(self):
        proxy = self.start_proxy(tls=self.tls, flags=self.server)
        context = self.context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(proxy.address) as s, context.wrap_socket(s) as t:
            self.assertEqual(t.selected_alpn_protocol(), "h2")
            self.assertIn(t.version(), ("TLSv1.2", "TLSv1.3"))

    def test_allowed_names(self):
        proxy = self.start_proxy(tls=self.tls, flags=self.server + ["--allowed-client-names", "client,somebody"])
        self.assertTrue(self.gets_in(proxy, self.context("client")))
        self.assertFalse(self.gets_in(proxy, self.context("stranger")))

    def test_upstream_is_verified(self):
        """etcd's certificate must be of the authority that was named, for the host that was named."""
        proxy = self.start_proxy(self.tls_etcd, wait=False, flags=["--etcd-cafile", self.other.path("ca.crt"),
                                 "--etcd-certfile", self.tls.path("client.crt"), "--etcd-keyfile", self.tls.path("client.key")])
        wait_until(lambda: not self.refused(proxy), 5, "listening")
        self.assertFalse(self.gets_in(proxy, None))
        wrong_host = self.start_proxy([f"https://127.0.0.2:{self.tls_etcd.port}"], wait=False, flags=self.upstream)
        wait_until(lambda: not self.refused(wrong_host), 5, "listening")
        self.assertFalse(self.gets_in(wrong_host, None))

    def test_upstream_has_to_choose_h2(self):
        """A server that chooses no protocol, or only speaks HTTP/1.1, gets no byte of HTTP/2."""
        got = []

        def serve(listener, context):
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    try:
                        with context.wrap_socket(sock, server_side=True) as tls:
                            got.append(tls.recv(100))
                    except OSError:  # ssl.SSLError, too
                        got.append(b"")
        for protocols in ([], ["http/1.1"]):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.path("server.crt"), self.tls.path("server.key"))
            if protocols:
                context.set_alpn_protocols(protocols)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                thread = threading.Thread(target=serve, args=(listener, context))
                thread.start()
                proxy = self.start_proxy([f"https://127.0.0.1:{listener.getsockname()[1]}"], wait=False,
                                         flags=self.upstream)
                wait_until(lambda: not self.refused(proxy), 5, "listening")
                self.assertFalse(self.gets_in(proxy, None))
                wait_until(lambda: "does not speak HTTP/2 (ALPN)" in proxy.process.log(), 5, "reason in the log")
                proxy.stop()
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        self.assertEqual(set(got), {b""})

    @staticmethod
    def refused(proxy):
        try:
            socket.create_connection(proxy.address, 1).close()
            return False
        except OSError:
            return True

    def test_unix_sockets_on_both_sides(self):
        path = str(self.env.path("client.sock"))
        proxy = self.start_proxy([f"unix://{self.etcd.socket}"], listen=[f"unix://{path}"])
        self.roundtrip(proxy.client, self.raw)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o077, 0)
        self.assertEqual(http_get(path, "/health")[0], 200)
        raw = h2raw.Client(path)
        self.assertEqual(raw.call("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"x").SerializeToString()).status, 0)
        raw.close()
        self.assertEqual(proxy.process.term(), 0)
        self.assertFalse(os.path.exists(path), "the socket file goes with the proxy")

    def test_several_listeners(self):
        path, port = str(self.env.path("second.sock")), harness.free_port()
        proxy = self.start_proxy(listen=[f"http://127.0.0.1:{port}", f"unix://{path}"], wait=False,
                                 flags=["--workers", "3"])
        one, two = self.env.client(f"127.0.0.1:{port}"), self.env.client("unix:" + path)
        wait_until(lambda: one.get(b"x"), what="answer")
        for i in range(10):
            one.put(self.secret(str(i)), VALUE)
            self.assertEqual(two.value(self.secret(str(i))), VALUE)
        self.assertTrue(proxy.process.alive())

    def test_clear_text_beyond_loopback_must_be_forced(self):
        for flags in ([], self.server[:4]):
            scheme = "https" if flags else "http"
            argv = [harness.program("etcd-envelope"), "serve", f"--listen-client-urls={scheme}://0.0.0.0:0",
                    f"--etcd-servers={self.etcd.url}", f"--encryption-provider-config={self.config}", *flags]
            process = self.env.start(self.name, argv)
            self.assertIn(process.popen.wait(10), (1, 2))
            self.assertIn("insecure-listen", process.log())


if __name__ == "__main__":
    harness.main()
