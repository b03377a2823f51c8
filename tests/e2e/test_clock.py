#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps, and certificates expire: nothing but certificates depends on it, and those only while a
connection is made. (It is the proxy's clock alone that is moved.)"""
import contextlib
import datetime
import os
import signal
import ssl

import harness  # first: it sets the path to tests/fake
import bent
import tap
from cryptography import x509
from harness import Code, wait_until

HOUR, DAY = 3600, 86400


class Jumps(harness.OwnProxies):
    def test_jumps(self):
        """Calls, watches, keys and connections go on as if nothing was, also while the plugin is away."""
        proxy = self.start_proxy(kind=bent.Proxy, flags=["--log-level=debug"])
        self.plant(self.secret("bad"), b"x", b"plain")
        client = self.env.client(proxy.target)
        watch = client.watch(self.secret())
        links = proxy.metric("etcd_envelope_links")
        self.kms.stop()
        try:
            for number, seconds in enumerate((HOUR, -HOUR, 400 * DAY, -400 * DAY, 0)):
                proxy.bend(seconds)
                for i in range(20):
                    value = b"%d-%d" % (number, i)
                    client.put(self.secret(), value, timeout=5)
                    self.assertEqual(client.value(self.secret(), timeout=5), value)
                    self.assertEqual(watch.events(1)[0].kv.value, value)
                with contextlib.closing(harness.Client(proxy.target)) as other:
                    self.assertEqual(other.value(self.secret(), timeout=5), value)
                # The clock did jump: the log says so.
                self.assertStatus(Code.DATA_LOSS, client.get, self.secret("bad"))
                wait_until(lambda s=seconds: abs(proxy.clock() - s) < 60, 10, f"a line {seconds} s away")
        finally:
            self.kms.start()
        self.assertSealed(self.secret(), value)
        self.assertGreaterEqual(proxy.metric("etcd_envelope_links"), links)
        watch.cancel()


class Certificates(harness.OwnProxies):
    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.start_peers(cls.tls)
        cls.way = tap.Tap(cls.etcd.port)
        cls.addClassCleanup(cls.way.stop)

    def flags(self, tls):
        return ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"), "--trusted-ca-file",
                tls.path("ca.crt"), "--etcd-cafile", self.tls.path("ca.crt"), "--etcd-certfile", self.tls.path("client.crt"),
                "--etcd-keyfile", self.tls.path("client.key")]

    @staticmethod
    def handshake(address, tls):
        """None, or why there is no connection. TLS 1.2: there a refused client certificate shows in the handshake."""
        context = ssl.create_default_context(cafile=str(tls.path("ca.crt")))
        context.load_cert_chain(tls.path("client.crt"), tls.path("client.key"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            with harness.socket.create_connection(address, 5) as sock, \
                    context.wrap_socket(sock, server_hostname="localhost"):
                return None
        except (ssl.SSLError, OSError) as error:
            return str(error)

    def test_by_the_proxys_clock(self):
        """Too late and too early: neither clients nor etcd get a new connection; what is open stays."""
        port = harness.free_port()
        proxy = self.start_proxy([f"https://127.0.0.1:{self.way.port}"], kind=bent.Proxy, flags=self.flags(self.tls),
                                 listen=[f"unix://{self.env.path('clear.sock')}", f"https://127.0.0.1:{port}"])
        address = "127.0.0.1", port
        client = self.env.client(f"127.0.0.1:{port}", self.tls.credentials())
        client.put(self.secret(), b"0")
        watch = client.watch(self.secret())
        self.assertIsNone(self.handshake(address, self.tls))
        for seconds in 3 * DAY, -3 * HOUR:
            proxy.bend(seconds)
            self.assertIn("alert", self.handshake(address, self.tls))
            client.put(self.secret(), b"%d" % seconds)
            self.assertEqual(watch.events(1)[0].kv.value, b"%d" % seconds)
            proxy.bend(0)
            self.assertIsNone(self.handshake(address, self.tls))
        for seconds, word in ((3 * DAY, "expired"), (-3 * HOUR, "not yet valid")):
            proxy.bend(seconds)
            self.way.drop()
            wait_until(lambda w=word: not self.puts(proxy) and w in proxy.process.log(), 20, word)
            proxy.bend(0)
            wait_until(lambda: self.puts(proxy), 20, "etcd")
        with self.assertRaises(harness.grpc.RpcError) as ended:
            watch.next(10)
        self.assertEqual(ended.exception.code(), Code.UNAVAILABLE)

    def puts(self, proxy):
        """A new client, in clear, does."""
        with contextlib.closing(harness.Client(proxy.target)) as client:
            try:
                client.put(self.secret(), b"again", timeout=1)
                return True
            except harness.grpc.RpcError:
                return False

    def test_expired_and_replaced(self):
        """The proxy's own, by everybody's clock: what is open stays, nobody new believes it; then the next one."""
        tls = self.env.tls(self.name)
        proxy = self.env.proxy([f"https://127.0.0.1:{self.way.port}"], self.config, name=self.name, tls=tls,
                               flags=self.flags(tls))
        self.addCleanup(proxy.stop)
        client = self.env.client(proxy.target, tls.credentials())
        watch = client.watch(self.secret())
        tls.issue("next", life=datetime.timedelta(seconds=3))
        end = x509.load_pem_x509_certificate(tls.path("next.crt").read_bytes()).not_valid_after
        for kind in "key", "crt":
            os.replace(tls.path(f"next.{kind}"), tls.path(f"server.{kind}"))
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "expired" in (self.handshake(proxy.address, tls) or ""), 20, f"expiry at {end}")
        client.put(self.secret(), b"old connection")
        self.assertEqual(watch.events(1)[0].kv.value, b"old connection")
        tls.issue("server")
        wait_until(lambda: self.handshake(proxy.address, tls) is None, 20, "the new certificate")
        client.put(self.secret(), b"still open")
        self.assertEqual(watch.events(1)[0].kv.value, b"still open")
        watch.cancel()


if __name__ == "__main__":
    harness.main()
