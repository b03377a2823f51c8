#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""etcd-envelope-local-kms: as a KMS v2 plugin for any client, and with the proxy; key file rules, rotation."""
import base64
import os
import signal
import stat

import harness  # first: it sets the path to tests/fake
import h2raw
from harness import Code, envelope, wait_until
from protos import kms

SERVICE = "/v2.KeyManagementService/"


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


class LocalKms(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope-local-kms")

    def setUp(self):
        super().setUp()
        self.keys = self.env.path(self.name + ".keys")
        self.socket = str(self.env.path(self.name + ".sock"))
        self.write_keys(new_key())

    def write_keys(self, *keys):
        self.keys.write_text("# test keys\n\n" + "\n".join(keys) + "\n")
        self.keys.chmod(0o600)

    def start_plugin(self):
        self.plugin = self.env.start("local-kms", [self.binary, "--listen", f"unix://{self.socket}",
                                                   "--key-file", self.keys])
        self.addCleanup(self.plugin.kill)
        self.client = self.env.client("unix:" + self.socket)
        wait_until(lambda: os.path.exists(self.socket) or not self.plugin.alive(), what="socket")
        self.assertTrue(self.plugin.alive(), self.plugin.log())

    def status(self):
        return self.client.unary(SERVICE + "Status", kms.StatusRequest(), kms.StatusResponse, timeout=5)

    def encrypt(self, plaintext):
        return self.client.unary(SERVICE + "Encrypt", kms.EncryptRequest(plaintext=plaintext, uid="u"),
                                 kms.EncryptResponse, timeout=5)

    def decrypt(self, answer, **changes):
        fields = {"ciphertext": answer.ciphertext, "key_id": answer.key_id, "annotations": answer.annotations}
        fields.update(changes)
        return self.client.unary(SERVICE + "Decrypt", kms.DecryptRequest(uid="u", **fields), kms.DecryptResponse,
                                 timeout=5).plaintext

    def test_protocol(self):
        self.start_plugin()
        status = self.status()
        self.assertEqual((status.version, status.healthz), ("v2", "ok"))
        self.assertTrue(0 < len(status.key_id) <= 1024)
        seed = os.urandom(32)
        one, two = self.encrypt(seed), self.encrypt(seed)
        self.assertNotEqual(one.ciphertext, two.ciphertext)
        self.assertNotIn(seed, one.ciphertext)
        self.assertEqual(one.key_id, status.key_id)
        self.assertTrue(0 < len(one.ciphertext) <= 1024)
        self.assertEqual((self.decrypt(one), self.decrypt(two)), (seed, seed))
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode) & 0o077, 0, "the socket is ours alone")

    def test_authorities(self):
        """kube-apiserver sends "localhost" since 1.32, before that the socket's path, percent-encoded since gRPC
        1.57; others send nothing. No Go plugin looks at it, nor at the scheme or te."""
        self.start_plugin()
        body = h2raw.grpc_message(kms.StatusRequest().SerializeToString())
        base = [(":method", "POST"), (":path", SERVICE + "Status"), ("content-type", "application/grpc")]
        client = h2raw.Client(self.socket)
        self.addCleanup(client.close)
        for odd in ([(":authority", a)] for a in ("localhost", self.socket, self.socket.replace("/", "%2F"), "", "a b")):
            for more in ([], [(":scheme", "http")], [(":scheme", "")]):
                sid = client.open("", headers=more + odd + base + [("te", "gzip"), ("content-length", "99")])
                client.send_data(sid, body, end_stream=True)
                self.assertEqual(client.wait(sid).status, 0, odd + more)
        sid = client.open("", headers=base)  # none at all
        client.send_data(sid, body, end_stream=True)
        self.assertEqual(client.wait(sid).status, 0)
        sid = client.open("", headers=base + [("x", "a\nb")])
        self.assertEqual(client.wait(sid).reset, h2raw.PROTOCOL_ERROR)

    def test_refusals(self):
        self.start_plugin()
        good = self.encrypt(b"x" * 32)
        flipped = bytes([good.ciphertext[0] ^ 1]) + good.ciphertext[1:]
        for changes in ({"ciphertext": flipped}, {"ciphertext": good.ciphertext[:-1]}, {"ciphertext": b""},
                        {"key_id": "local-" + "0" * 32}, {"key_id": ""}):
            with self.assertRaises(harness.grpc.RpcError) as caught:
                self.decrypt(good, **changes)
            self.assertNotIn(caught.exception.code(), (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED))
        self.assertStatus(Code.UNIMPLEMENTED, self.client.unary, SERVICE + "Nope", kms.StatusRequest(), bytes)
        self.assertStatus(Code.UNIMPLEMENTED, self.client.unary, "/v1beta1.KeyManagementService/Version",
                          kms.StatusRequest(), bytes)
        self.assertEqual(self.decrypt(good), b"x" * 32)

    def test_key_file_rules(self):
        for mode in (0o644, 0o640, 0o604, 0o660):
            self.keys.chmod(mode)
            plugin = self.env.start("bad-mode", [self.binary, "--listen", f"unix://{self.socket}", "--key-file", self.keys])
            self.assertNotEqual(plugin.popen.wait(5), 0, oct(mode))
        secret = new_key()
        for keys in ((), ("not base64!",), (base64.b64encode(b"short").decode(),), (secret, "x" + secret)):
            self.write_keys(*keys)
            plugin = self.env.start("bad-key", [self.binary, "--listen", f"unix://{self.socket}", "--key-file", self.keys])
            self.assertNotEqual(plugin.popen.wait(5), 0, keys)
            self.assertNotIn(secret, plugin.log())

    def test_generate_key(self):
        path = self.env.path("fresh.key")
        run = lambda: self.env.start("generate", [self.binary, "--generate-key", path]).popen.wait(5)  # noqa: E731
        self.assertEqual(run(), 0)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        first = path.read_text()
        self.assertNotEqual(run(), 0, "never overwrites")
        self.assertEqual(path.read_text(), first)

    def test_rotation_by_reload(self):
        """The first key wraps, all unwrap; a bad file at SIGHUP changes nothing."""
        old, new = new_key(), new_key()
        self.write_keys(old)
        self.start_plugin()
        sealed = self.encrypt(b"s" * 32)
        self.write_keys(new, old)
        self.plugin.signal(signal.SIGHUP)
        wait_until(lambda: self.status().key_id != sealed.key_id, 5, "new key id")
        self.assertEqual(self.decrypt(sealed), b"s" * 32)
        again = self.encrypt(b"s" * 32)
        self.assertNotEqual(again.key_id, sealed.key_id)
        self.write_keys("rubbish")
        self.plugin.signal(signal.SIGHUP)
        self.assertEqual(self.decrypt(again), b"s" * 32)
        self.assertEqual(self.status().key_id, again.key_id)
        self.write_keys(new)
        self.plugin.signal(signal.SIGHUP)
        wait_until(lambda: self.refuses(sealed), 5, "end of the old key")

    def refuses(self, sealed):
        try:
            self.decrypt(sealed)
            return False
        except harness.grpc.RpcError:
            return True

    def test_same_key_file_same_key_id(self):
        self.start_plugin()
        sealed, key_id = self.encrypt(b"s" * 32), self.status().key_id
        self.plugin.kill()
        os.unlink(self.socket)
        self.start_plugin()
        self.assertEqual(self.status().key_id, key_id)
        self.assertEqual(self.decrypt(sealed), b"s" * 32)

    def test_sigterm(self):
        self.start_plugin()
        self.status()
        self.assertEqual(self.plugin.term(), 0)

    def test_with_the_proxy(self):
        self.start_plugin()
        etcd = self.env.etcd()
        config = self.env.config(self.socket, name="local.yaml", provider="local")
        proxy = self.env.proxy(etcd, config)
        key, value = self.secret(), b"sealed by the local plugin"
        proxy.client.put(key, value)
        stored = etcd.client.value(key)
        parsed = envelope.parse(stored, "local")
        self.assertEqual(parsed.key_id, self.status().key_id)
        self.assertNotIn(value, stored)
        # The DEK source opens by the plugin, and the value by the format's rules.
        seed = self.decrypt(kms.EncryptResponse(ciphertext=parsed.encrypted_dek_source, key_id=parsed.key_id,
                                                annotations=parsed.annotations))
        data = parsed.encrypted_data
        opened = envelope.AESGCM(envelope.derive(seed, data[:32])).decrypt(data[32:44], data[44:], key)
        self.assertEqual(opened, value)
        proxy.stop()
        again = self.env.proxy(etcd, config)
        self.assertEqual(again.client.value(key), value)


if __name__ == "__main__":
    harness.main()
