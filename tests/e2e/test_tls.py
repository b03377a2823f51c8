#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS is spoken: a scan of all versions and all 65,536 suites of every TLS listener, and a look at what the proxy
offers etcd. Only TLS 1.2 with ECDHE and AEAD, and 1.3; no compression, no renegotiation, no session is taken up again."""
import socket
import ssl
import subprocess
import threading
import time

import harness  # first: it sets the path to tests/fake
import hello
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import wait_until
from hello import SSL3, TLS10, TLS11, TLS12, TLS13

SUITES_13 = {0x1301, 0x1302, 0x1303}       # AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305
ECDSA_12 = {0xc02b, 0xc02c, 0xcca9}        # ECDHE with the same three
RSA_12 = {0xc02f, 0xc030, 0xcca8}
HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECODE_ERROR, PROTOCOL_VERSION = 40, 47, 50, 70  # alerts


class Scan(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.tls.issue("rsa", key=rsa.generate_private_key(65537, 2048))
        cls.start_peers()
        # Client port and metrics port, with a certificate of each kind: name -> (address, suites of TLS 1.2).
        cls.listeners = {}
        for name, suites in (("server", ECDSA_12), ("rsa", RSA_12)):
            metrics = harness.free_port()
            proxy = cls.env.proxy(cls.etcd, cls.config, name=f"proxy-{name}", tls=cls.tls, flags=[
                "--cert-file", cls.tls.path(name + ".crt"), "--key-file", cls.tls.path(name + ".key"),
                "--trusted-ca-file", cls.tls.path("ca.crt"), "--listen-metrics-urls", f"https://127.0.0.1:{metrics}"])
            cls.listeners[name] = proxy.address, suites
            cls.listeners[name + ", metrics"] = ("127.0.0.1", metrics), suites
        for (address, _) in cls.listeners.values():
            wait_until(lambda a=address: cls.listens(a), 20, f"listener at {address}")

    @staticmethod
    def listens(address):
        try:
            socket.create_connection(address, 5).close()
            return True
        except OSError:
            return False

    def test_suites(self):
        for name, (address, suites) in self.listeners.items():
            with self.subTest(name):
                self.assertEqual(set(hello.accepted(address, TLS12)), suites)
                self.assertEqual(set(hello.accepted(address, TLS13)), SUITES_13)

    def test_old_versions(self):
        """Whatever they offer: an alert, no ServerHello."""
        everything = sorted(ECDSA_12 | RSA_12 | {0x002f, 0x0035, 0x000a, 0xc009, 0xc013, 0x0005, 0x0001})
        for name, (address, _) in self.listeners.items():
            for version in SSL3, TLS10, TLS11:
                with self.subTest(f"{name}, {version:#06x}"):
                    self.assertIn(hello.ask(address, version, everything), (PROTOCOL_VERSION, HANDSHAKE_FAILURE))

    def test_what_is_agreed_on(self):
        """No compression, no ticket and no session, although they are offered; renegotiation is at least secured."""
        for name, (address, suites) in self.listeners.items():
            with self.subTest(name):
                answer = hello.ask(address, TLS12, sorted(suites), compressions=b"\1\0")
                self.assertEqual(answer.version, TLS12)
                self.assertEqual(answer.compressions, [0])
                self.assertEqual(answer.session, b"")
                self.assertNotIn(hello.TICKET, answer.extensions)
                self.assertEqual(answer.extensions[hello.RENEGOTIATION], b"\0")
                self.assertIn(hello.ask(address, TLS12, sorted(suites), compressions=b"\1"),
                              (DECODE_ERROR, ILLEGAL_PARAMETER))  # the one of OpenSSL 3.0, the other of 3.5
                answer = hello.ask(address, TLS13, sorted(SUITES_13))
                self.assertEqual(answer.extensions[hello.VERSIONS], b"\3\4")
                self.assertNotIn(hello.EARLY_DATA, answer.extensions)

    def context(self, version):
        context = ssl.create_default_context(cafile=str(self.tls.path("ca.crt")))
        context.load_cert_chain(self.tls.path("client.crt"), self.tls.path("client.key"))
        context.minimum_version = context.maximum_version = version
        return context

    def test_no_session_is_taken_up_again(self):
        for name, (address, _) in self.listeners.items():
            for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
                with self.subTest(f"{name}, {version.name}"):
                    context, session = self.context(version), None
                    for _ in range(2):
                        with socket.create_connection(address, 10) as sock, \
                                context.wrap_socket(sock, server_hostname="localhost", session=session) as secure:
                            secure.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                            self.assertTrue(secure.recv(1))
                            self.assertFalse(secure.session_reused)
                            session = secure.session
                            self.assertFalse(session and session.has_ticket)

    def test_no_renegotiation(self):
        for name, (address, _) in self.listeners.items():
            with self.subTest(name):
                client = subprocess.Popen(
                    ["openssl", "s_client", "-connect", "%s:%d" % address, "-tls1_2", "-cert", self.tls.path("client.crt"),
                     "-key", self.tls.path("client.key"), "-CAfile", self.tls.path("ca.crt")],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                lines = []
                reader = threading.Thread(target=lambda c=client, l=lines: l.extend(c.stdout))
                reader.start()
                try:
                    wait_until(lambda l=lines: "Verify return code: 0 (ok)" in "".join(l), 20, "handshake")
                    client.stdin.write("R\n")  # its command for this
                    client.stdin.flush()
                    wait_until(lambda l=lines: "no renegotiation" in "".join(l), 20, f"refusal: {lines[-5:]}")
                finally:
                    client.stdin.close()
                    client.kill()
                    client.wait()
                    reader.join()


class Upstream(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)

    def test_what_is_offered_to_etcd(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        listener.settimeout(20)
        port = listener.getsockname()[1]
        proxy = self.env.proxy([f"https://localhost:{port}"], self.config, wait=False,
                               flags=["--etcd-cafile", self.tls.path("ca.crt")])
        self.addCleanup(proxy.stop)
        self.env.client(proxy.target).start("/etcdserverpb.KV/Range", harness.envelope.obj.EncryptedObject())
        offers = []
        deadline = time.monotonic() + 20
        while len(offers) < 3 and time.monotonic() < deadline:  # connections for calls, health and looks alike
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(10)
                kind, body = hello.read_record(sock)
                self.assertEqual((kind, body[0]), (hello.HANDSHAKE, 1))
                offers.append(hello.Hello(hello.Reader(body[1:]).vector(3), False))
        self.assertEqual(len(offers), 3)
        for offer in offers:
            self.assertEqual(set(offer.suites) - {hello.SCSV}, SUITES_13 | ECDSA_12 | RSA_12)
            self.assertEqual(offer.compressions, [0])
            versions = hello.Reader(offer.extensions[hello.VERSIONS]).vector(1)
            self.assertEqual({versions[i:i + 2] for i in range(0, len(versions), 2)}, {b"\3\4", b"\3\3"})
            self.assertNotIn(hello.TICKET, offer.extensions)
            self.assertNotIn(hello.EARLY_DATA, offer.extensions)
            self.assertIn(b"localhost", offer.extensions[hello.SERVER_NAME])


if __name__ == "__main__":
    harness.main()
