#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""aescbc, aesgcm and secretbox, whose keys stand in the configuration: what lies in etcd opens by the rules of the
format (cryptography's AES, libsodium's secretbox), and the other way round; rotation; migration; damage."""
import base64
import ctypes
import os

import harness
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from harness import Code

SODIUM = ctypes.CDLL("libsodium.so.23")


class Key:
    """One key of one kind, as another program would use it."""

    def __init__(self, kind, name, size=32):
        self.kind, self.name, self.secret = kind, name, os.urandom(size)
        self.prefix = f"k8s:enc:{kind}:v1:{name}:".encode()

    def yaml(self):
        return f"          - name: {self.name}\n            secret: {base64.b64encode(self.secret).decode()}\n"

    def seal(self, key, value):
        return self.prefix + getattr(self, "seal_" + self.kind)(key, value)

    def open(self, key, stored):
        assert stored.startswith(self.prefix), stored[:60]
        return getattr(self, "open_" + self.kind)(key, stored[len(self.prefix):])

    def seal_aesgcm(self, key, value):
        nonce = os.urandom(12)
        return nonce + AESGCM(self.secret).encrypt(nonce, value, key)

    def open_aesgcm(self, key, data):
        return AESGCM(self.secret).decrypt(data[:12], data[12:], key)

    def seal_aescbc(self, _, value):
        iv, pad = os.urandom(16), padding.PKCS7(128).padder()
        cipher = Cipher(algorithms.AES(self.secret), modes.CBC(iv)).encryptor()
        return iv + cipher.update(pad.update(value) + pad.finalize()) + cipher.finalize()

    def open_aescbc(self, _, data):
        pad = padding.PKCS7(128).unpadder()
        cipher = Cipher(algorithms.AES(self.secret), modes.CBC(data[:16])).decryptor()
        return pad.update(cipher.update(data[16:]) + cipher.finalize()) + pad.finalize()

    def seal_secretbox(self, _, value):
        nonce, out = os.urandom(24), ctypes.create_string_buffer(len(value) + 16)
        assert SODIUM.crypto_secretbox_easy(out, value, ctypes.c_ulonglong(len(value)), nonce, self.secret) == 0
        return nonce + out.raw

    def open_secretbox(self, _, data):
        out, box = ctypes.create_string_buffer(max(len(data) - 40, 1)), data[24:]
        assert SODIUM.crypto_secretbox_open_easy(out, box, ctypes.c_ulonglong(len(box)), data[:24], self.secret) == 0
        return out.raw[:len(data) - 40]


def configuration(*providers):
    """providers: lists of keys of one kind, or "identity"."""
    text = ("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
            "  - resources: [secrets]\n    providers:\n")
    for keys in providers:
        if keys == "identity":
            text += "      - identity: {}\n"
        else:
            text += f"      - {keys[0].kind}:\n          keys:\n" + "".join(key.yaml() for key in keys)
    return text


KINDS = ("aesgcm", "aescbc", "secretbox")
SIZES = (0, 1, 15, 16, 17, 100, 1000, 70000, 1000000)


class LocalKeys(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def start_proxy(self, *providers, flags=()):
        """A proxy of this test's own; one that runs is ended first."""
        if getattr(self, "proxy", None):
            self.proxy.stop()
        config = self.env.path(self.name + ".yaml")
        config.write_text(configuration(*providers))
        config.chmod(0o600)
        self.proxy = self.env.proxy(self.etcd, config, name="proxy-" + self.name, flags=flags)
        self.client = self.proxy.client

    def tearDown(self):
        super().tearDown()
        if getattr(self, "proxy", None):
            self.assertEqual(self.proxy.process.term(), 0)

    def test_every_kind_both_ways(self):
        for kind, bits in [(k, b) for k in KINDS for b in (16, 24, 32) if k != "secretbox" or b == 32]:
            with self.subTest(kind=kind, size=bits):
                key = Key(kind, "key1", bits)
                self.start_proxy([key])
                for size in SIZES:
                    name, value = self.secret(f"{kind}-{bits}-{size}"), os.urandom(size)
                    self.client.put(name, value)
                    stored = self.raw.value(name)
                    self.assertEqual(key.open(name, stored), value)
                    self.assertEqual(self.client.value(name), value)
                    self.raw.put(name, key.seal(name, value[::-1]))
                    self.assertEqual(self.client.value(name), value[::-1])
                listed = {kv.key: kv.value for kv in self.client.get(
                    self.secret(f"{kind}-{bits}-"), self.secret(f"{kind}-{bits}.")).kvs}
                self.assertEqual(sorted(map(len, listed.values())), sorted(SIZES))

    def test_rotation(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                old, new = Key(kind, "old"), Key(kind, "new")
                one, two = self.secret(kind + "-one"), self.secret(kind + "-two")
                self.start_proxy([old])
                self.client.put(one, b"written with the old key")
                self.start_proxy([old, new])  # every proxy can read it
                self.client.put(two, b"still the old one")
                self.assertEqual(old.open(two, self.raw.value(two)), b"still the old one")
                self.start_proxy([new, old])  # it writes now
                self.assertEqual(self.client.value(one), b"written with the old key")
                self.client.put(one, b"written with the new key")
                self.assertEqual(new.open(one, self.raw.value(one)), b"written with the new key")
                self.client.put(two, b"this, too")
                self.start_proxy([new])
                self.assertEqual(self.client.value(one), b"written with the new key")
                self.assertEqual(self.client.value(two), b"this, too")

    def test_move_from_kind_to_kind(self):
        cbc, gcm, box = Key("aescbc", "k"), Key("aesgcm", "k"), Key("secretbox", "k")
        name = self.secret()
        self.start_proxy([cbc], "identity")
        self.raw.put(name, b"plaintext of before")
        self.assertEqual(self.client.value(name), b"plaintext of before")
        self.client.put(name, b"v1")
        for providers in ([gcm], [cbc], "identity"), ([box], [gcm], "identity"), ([cbc], [box]):
            before = self.client.value(name)
            self.start_proxy(*providers)
            self.assertEqual(self.client.value(name), before)
            self.client.put(name, before + b"!")
            self.assertEqual(providers[0][0].open(name, self.raw.value(name)), before + b"!")

    def seal_unambiguously(self, key, wrong, name, value):
        """With aescbc one of 256 values opens under a wrong key as well, as garbage."""
        while True:
            sealed = key.seal(name, value)
            try:
                wrong.open(name, wrong.prefix + sealed[len(key.prefix):])
            except (AssertionError, ValueError, InvalidTag):
                return sealed

    def test_one_name_for_two_keys_and_nested_names(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                a, other, ab = Key(kind, "a"), Key(kind, "a"), Key(kind, "a:b")
                self.start_proxy([a, other], [ab])
                for i, key in enumerate((a, other, ab)):
                    name, value = self.secret(f"{kind}-{i}"), b"of this key %d" % i
                    self.raw.put(name, self.seal_unambiguously(key, other if key is a else a, name, value))
                    self.assertEqual(self.client.value(name), b"of this key %d" % i)

    def test_a_value_that_arrives_sealed(self):
        cbc, gcm, box, foreign = Key("aescbc", "k"), Key("aesgcm", "k"), Key("secretbox", "k"), Key("aesgcm", "k")
        self.start_proxy([gcm], [box], [cbc])
        name = self.secret()
        for key in gcm, box:  # proved by its tag: it stays
            sealed = key.seal(name, b"sealed by the client")
            self.client.put(name, sealed)
            self.assertEqual(self.raw.value(name), sealed)
            self.assertEqual(self.client.value(name), b"sealed by the client")
        self.client.put(name, cbc.seal(name, b"proved by nothing"))
        self.assertEqual(gcm.open(name, self.raw.value(name)), b"proved by nothing")
        for sealed in foreign.seal(name, b"x"), gcm.seal(b"/registry/secrets/other", b"x"), b"k8s:enc:aescbc:v1:k:":
            self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, name, sealed)
        self.assertEqual(gcm.open(name, self.raw.value(name)), b"proved by nothing")

    def test_damage_is_data_loss(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                key, name = Key(kind, "k"), self.secret(kind)
                self.start_proxy([key])
                stored = key.seal(name, b"value")
                damaged = [stored[:-1], stored[:len(key.prefix)], stored[:len(key.prefix) + 16],
                           stored.replace(b":k:", b":other:"), stored.replace(b"v1", b"v2", 1), b"plain", b"k8s:enc:"]
                if kind != "aescbc":
                    damaged += [stored[:i] + bytes([stored[i] ^ 1]) + stored[i + 1:]
                                for i in (len(key.prefix), len(key.prefix) + 13, len(stored) - 1)]
                for bad in damaged:
                    self.raw.put(name, bad)
                    self.assertIn(name.decode(), self.assertStatus(Code.DATA_LOSS, self.client.value, name))
                self.raw.delete(name)

    def test_watch(self):
        old, new, cbc = Key("secretbox", "old"), Key("secretbox", "new"), Key("aescbc", "k")
        self.start_proxy([new, old], [cbc])
        prefix = self.secret("")
        watch = self.client.watch(prefix, prefix[:-1] + b"0", prev_kv=True)
        for i, key in enumerate((old, new, cbc)):
            name = self.secret(str(i))
            self.raw.put(name, key.seal(name, b"one"))
            self.client.put(name, b"two")
        events = watch.events(6)
        self.assertEqual([(e.kv.value, e.prev_kv.value) for e in events], [(b"one", b""), (b"two", b"one")] * 3)
        watch.cancel()

    def test_no_secret_in_the_log(self):
        key = Key("aesgcm", "named-key")
        self.start_proxy([key])
        self.client.put(self.secret(), b"a value that is not to be logged")
        self.assertEqual(self.proxy.process.term(), 0)
        log = self.proxy.process.log()
        self.proxy = None
        self.assertIn("k8s:enc:aesgcm:v1:", log)
        for text in base64.b64encode(key.secret).decode(), key.secret.hex(), "not to be logged":
            self.assertNotIn(text, log)


if __name__ == "__main__":
    harness.main()
