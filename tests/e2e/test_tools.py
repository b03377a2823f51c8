#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""encrypt, decrypt and inspect: one value each, by the rules of serve. The golden values go through the program as
it is used; so do values that the proxy wrote, and what encrypt writes is read by the proxy."""
import base64
import hashlib
import json
import os
import subprocess

import harness  # first: it sets the path to tests/fake
from harness import Code, envelope, fake_kms, wait_until

OK, ERROR, USAGE, NOT_AS_WANTED, UNREADABLE, UNREACHABLE = 0, 1, 2, 3, 4, 75
GOLDEN = harness.ROOT / "tests" / "golden"
KEY = "/registry/secrets/default/db-password"


def new_key(size=32):
    return base64.b64encode(os.urandom(size)).decode()


def vectors(name):
    return json.loads((GOLDEN / (name + ".json")).read_text())


def differences():
    """{(file, id): answer}: where this program answers otherwise than the genuine code, on purpose."""
    lines = (line.split() for line in (GOLDEN / "DIFFERENCES").read_text().splitlines())
    return {(words[0], words[1]): words[2] for words in lines if words and not words[0].startswith("#")}


class Tools(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope")

    def tool(self, name, *flags, stdin=b"", env=None):
        """(exit status, standard output, standard error as text)"""
        done = subprocess.run([self.binary, name, *map(os.fspath, flags)], input=stdin, capture_output=True, timeout=60,
                              env={**os.environ, **(env or {})}, check=False)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def configure(self, providers, name=None, resources="secrets"):
        """A configuration file; providers: the YAML of the list's elements in flow style."""
        path = self.env.path((name or self.name) + ".yaml")
        path.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                        f"  - resources: [{resources}]\n    providers:\n" + "".join(f"    - {p}\n" for p in providers))
        path.chmod(0o600)
        return path

    def kms_provider(self, socket, name="test"):
        return f"kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{socket}', timeout: 1s}}"

    def encrypt(self, config, value, key=KEY, flags=(), status=OK):
        got, out, err = self.tool("encrypt", "--key", key, "--encryption-provider-config", config, *flags, stdin=value)
        self.assertEqual(got, status, err)
        if status != OK:
            self.assertEqual(out, b"")
            return err
        self.assertEqual(err, "")
        return out

    def decrypt(self, config, stored, key=KEY, flags=(), status=OK):
        got, out, err = self.tool("decrypt", "--key", key, "--encryption-provider-config", config, *flags, stdin=stored)
        self.assertEqual(got, status, err)
        if status != OK:
            self.assertEqual(out, b"")
            return err
        self.assertEqual(err, "")
        return out

    def inspect(self, stored, status, *flags):
        got, out, err = self.tool("inspect", "--output", "json", *flags, stdin=stored)
        self.assertEqual((got, err), (status, ""))
        text = self.tool("inspect", *flags, stdin=stored)
        self.assertEqual((text[0], text[2]), (status, ""))
        return json.loads(out)

    # --- golden values ---

    def run_vectors(self, name, socket="", skip=()):
        """Every value of the file that stands there whole, through decrypt. Returns how many there were."""
        count, known, file = 0, differences(), vectors(name)
        for i, v in enumerate(file["vectors"]):
            if v["op"] not in ("encrypt", "decrypt") or "hex" not in v.get("stored", {}) or v["resource"] != "secrets":
                continue
            key = bytes.fromhex(v["etcd_key_hex"])
            if not key.startswith(b"/registry/secrets/") or v["id"].startswith(skip) or harness.SANITIZED and i % 16 != 0:
                continue
            text = v.get("detail", {}).get("encryption_configuration") or file["encryption_configuration"]
            config = self.env.path(name + ".yaml")
            config.write_text(text.replace("/run/kms.sock", socket))
            count += 1
            with self.subTest(vector=v["id"]):
                self.run_vector(v, config, key, known.get((name, v["id"])))
        return count

    def run_vector(self, v, config, key, known):
        expect = v["expect"]
        status, out, err = self.tool("decrypt", "--key", key, "--encryption-provider-config", config,
                                     "--allow-identity-writes", stdin=bytes.fromhex(v["stored"]["hex"]))
        if known not in (None, "ok") or known is None and not expect["ok"]:
            self.assertEqual((status, out), (UNREADABLE, b""), err)
            self.assertIn(known or expect["class"], err)
        else:
            self.assertEqual(status, OK, err)
            self.assertEqual(hashlib.sha256(out).hexdigest(), expect.get("plaintext_sha256") or v["plaintext_sha256"])

    def test_golden_local_keys(self):
        for kind in "aesgcm", "aescbc", "secretbox":
            for name in kind, kind + "-names", kind + "-rotated", kind + "-overlap":
                self.assertGreaterEqual(self.run_vectors(name), 0 if harness.SANITIZED else 3, name)

    def test_golden_kms_v2(self):
        plugin = self.env.kms("golden", key_id="kid-1")
        # Not by the plugin's rule: what it answers, or that it never did, stands in the vector. union-3: identity alone.
        odd = ("kmsv2-seed-dek-", "kmsv2-gcmkey-dek-", "kmsv2-seed-keyid-", "kmsv2-gcmkey-keyid-",
               "kmsv2-seed-wrong-dek", "kmsv2-gcmkey-wrong-dek", "never-healthy-", "union-3-")
        for name, at_least in ("kmsv2-seed", 10), ("kmsv2-read-seed", 30), ("kmsv2-read-gcmkey", 30), ("union-stale", 10):
            self.assertGreaterEqual(self.run_vectors(name, plugin.path, odd),
                                    1 if harness.SANITIZED else at_least, name)

    # --- both ways ---

    def test_round_trip_local_keys(self):
        for kind, size in (("aesgcm", 16), ("aesgcm", 32), ("aescbc", 24), ("aescbc", 32), ("secretbox", 32)):
            config = self.configure([f"{kind}: {{keys: [{{name: k, secret: '{new_key(size)}'}}]}}"])
            for value in b"", b"v", os.urandom(16), os.urandom(100000):
                with self.subTest(kind=kind, size=size, length=len(value)):
                    stored = self.encrypt(config, value)
                    self.assertTrue(stored.startswith(f"k8s:enc:{kind}:v1:k:".encode()))
                    self.assertNotEqual(stored, self.encrypt(config, value))
                    self.assertEqual(self.decrypt(config, stored), value)
                    shown = self.inspect(stored, OK)
                    self.assertEqual((shown["provider"], shown["key_name"]), (kind, "k"))
            other = KEY + "-2"
            if kind == "aesgcm":
                self.assertIn("auth_failed", self.decrypt(config, stored, other, status=UNREADABLE))
            else:
                self.assertEqual(self.decrypt(config, stored, other), value)  # these do not bind it to its key

    def test_local_kms(self):
        keys, socket = self.env.path("kek"), self.env.path("local.sock")
        keys.write_text(new_key() + "\n")
        keys.chmod(0o600)
        plugin = self.env.start("local-kms", [harness.program("etcd-envelope-local-kms"), "--listen", f"unix://{socket}",
                                              "--key-file", keys])
        self.addCleanup(plugin.kill)
        wait_until(socket.exists, what="socket")
        config = self.configure([self.kms_provider(socket, "local")])
        for value in b"", b"sealed by the local plugin", os.urandom(1 << 20):
            stored = self.encrypt(config, value)
            self.assertEqual(self.decrypt(config, stored), value)
            shown, parsed = self.inspect(stored, OK), envelope.parse(stored, "local")
            self.assertEqual(shown["key_id"], parsed.key_id)
            self.assertEqual(shown["key_id_hash"], "sha256:" + hashlib.sha256(parsed.key_id.encode()).hexdigest())
            self.assertEqual(shown["plaintext_length"], len(value))
        self.assertIn("auth_failed", self.decrypt(config, stored, KEY + "x", status=UNREADABLE))

    def test_with_the_proxy(self):
        etcd, plugin = self.env.etcd(), self.env.kms("with-the-proxy", annotations={"a.example.com": b"12345"})
        config = self.configure([self.kms_provider(plugin.path)])
        proxy = self.env.proxy(etcd, config)
        key, value = self.secret(), b"k8s\0written through the proxy"
        proxy.client.put(key, value)
        stored = etcd.client.value(key)
        self.assertEqual(self.decrypt(config, stored, key), value)
        shown = self.inspect(stored, OK)
        parsed = envelope.parse(stored)
        self.assertEqual({k: shown[k] for k in shown if k not in ("problems", "notes")}, {
            "form": "envelope", "length": len(stored), "provider": "kms", "version": "v2", "name": "test",
            "key_id": "key-1", "key_id_hash": "sha256:" + hashlib.sha256(b"key-1").hexdigest(),
            "source_type": "HKDF_SHA256_XNONCE_AES_GCM_SEED", "wrapped_dek_length": len(parsed.encrypted_dek_source),
            "annotations": [{"key": "a.example.com", "length": 5}], "encrypted_data_length": len(parsed.encrypted_data),
            "info_length": 32, "nonce_length": 12, "ciphertext_length": len(value), "tag_length": 16,
            "plaintext_length": len(value)})
        self.assertEqual((shown["problems"], shown["notes"]), ([], []))
        planted = self.encrypt(config, b"made by the tool", key)
        self.assertEqual(envelope.unseal(key, planted), b"made by the tool")
        etcd.client.put(key, planted)
        self.assertEqual(proxy.client.value(key), b"made by the tool")
        etcd.client.put(key, self.encrypt(config, b"x", key + b"-other"))
        self.assertStatus(Code.DATA_LOSS, proxy.client.value, key)

    # --- the plugin in trouble ---

    def test_kms_away(self):
        plugin = self.env.kms("away")
        config = self.configure([self.kms_provider(plugin.path)])
        stored = self.encrypt(config, b"value")
        plugin.stop()
        for err in (self.encrypt(config, b"value", status=UNREACHABLE),
                    self.decrypt(config, stored, status=UNREACHABLE)):
            self.assertIn("KMS provider test", err)
            self.assertIn(plugin.path, err)
            self.assertNotIn("value", err.split("KMS provider", 1)[0])

    def test_kms_not_usable(self):
        plugin = self.env.kms("bad")
        config = self.configure([self.kms_provider(plugin.path)])
        stored = self.encrypt(config, b"value")
        plugin.error["Encrypt"] = (Code.INTERNAL, "no \x1b[31mHSM")
        err = self.encrypt(config, b"value", status=UNREACHABLE)
        self.assertIn("HSM", err)
        self.assertNotIn("\x1b", err)
        self.decrypt(config, stored, status=UNREACHABLE)  # as in serve: it was never healthy
        plugin.error = {"Status": (Code.PERMISSION_DENIED, "who are you")}
        self.assertIn("who are you", self.encrypt(config, b"value", status=UNREACHABLE))
        plugin.error = {"Decrypt": (Code.INVALID_ARGUMENT, "never seen")}
        self.assertIn("kms_error", self.decrypt(config, stored, status=UNREADABLE))
        plugin.error = {}
        plugin.wrong_dek = True
        self.assertIn("auth_failed", self.decrypt(config, stored, status=UNREADABLE))
        plugin.wrong_dek = False
        self.assertEqual(self.decrypt(config, stored), b"value")

    def test_only_the_plugin_that_is_needed(self):
        one, two = self.env.kms("one"), self.env.kms("two", key_id="key-2")
        old = self.configure([self.kms_provider(one.path, "one")], "old")
        both = self.configure([self.kms_provider(two.path, "two"), self.kms_provider(one.path, "one"),
                               f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}", "identity: {}"], "both")
        stored = self.encrypt(old, b"of the first plugin")
        calls = sum(two.calls.values())
        self.assertEqual(self.decrypt(both, stored), b"of the first plugin")
        self.assertEqual(sum(two.calls.values()), calls)
        one.stop()
        fresh = self.encrypt(both, b"of the second plugin")
        self.assertEqual(envelope.parse(fresh, "two").key_id, "key-2")
        self.assertEqual(self.decrypt(both, fresh), b"of the second plugin")
        self.assertEqual(self.decrypt(both, b"plain"), b"plain")
        self.decrypt(both, stored, status=UNREACHABLE)

    # --- which providers apply ---

    def test_what_is_protected(self):
        config = self.configure([f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"])
        for key in "/registry/pods/a/b", "/registry/secretsfoo", "/other/secrets/a", "secrets":
            for name in "encrypt", "decrypt":
                status, out, err = self.tool(name, "--key", key, "--encryption-provider-config", config, stdin=b"value")
                self.assertEqual((status, out), (ERROR, b""))
                self.assertIn("not protected", err)
        flags = ["--etcd-prefix=/other", "--protect-prefix", "/app=secrets"]
        for key in "/other/secrets/a", "/app/x":
            stored = self.encrypt(config, b"value", key, flags)
            self.assertEqual(self.decrypt(config, stored, key, flags), b"value")
        self.encrypt(config, b"value", KEY, flags, status=ERROR)
        env = {"ETCD_ENVELOPE_ENCRYPTION_PROVIDER_CONFIG": str(config), "ETCD_ENVELOPE_ETCD_PREFIX": "/other"}
        status, stored, err = self.tool("encrypt", "--key=/other/secrets/a", stdin=b"value", env=env)
        self.assertEqual((status, err), (OK, ""))
        settings = self.env.path("settings.yaml")
        settings.write_text(f"encryption-provider-config: {config}\netcd-prefix: /other\n")
        self.assertEqual(self.tool("decrypt", "--config-file", settings, "--key=/other/secrets/a", stdin=stored),
                         (OK, b"value", ""))

    def test_identity(self):
        gcm = f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"
        strict, mixed = self.configure([gcm], "strict"), self.configure([gcm, "identity: {}"], "mixed")
        first = self.configure(["identity: {}", gcm], "first")
        self.assertEqual(self.decrypt(mixed, b"plain"), b"plain")
        self.assertEqual(self.decrypt(mixed, b""), b"")
        for plain in b"plain", b"", b"k8s:enc":
            self.assertIn("no_matching_prefix", self.decrypt(strict, plain, status=UNREADABLE))
        self.assertIn("no_matching_prefix", self.decrypt(mixed, b"k8s:enc:foo", status=UNREADABLE))
        self.assertIn("--allow-identity-writes", self.encrypt(first, b"plain", status=ERROR))
        allow = ["--allow-identity-writes"]
        self.assertEqual(self.encrypt(first, b"plain", flags=allow), b"plain")
        self.assertEqual(self.decrypt(first, self.encrypt(mixed, b"sealed")), b"sealed")  # reading needs no leave to write
        for config in mixed, first:  # never an envelope in an envelope, nor a plaintext that looks like one
            self.assertIn("sealed already", self.encrypt(config, b"k8s:enc:x", flags=allow, status=ERROR))

    def test_kms_v1(self):
        plugin = self.env.kms("v1")
        config = self.configure([f"kms: {{apiVersion: v1, name: old, endpoint: 'unix://{plugin.path}'}}"], "v1")
        self.assertIn("--allow-kms-v1-writes", self.encrypt(config, b"plain", status=ERROR))
        stored = self.encrypt(config, b"plain", flags=["--allow-kms-v1-writes"])
        self.assertEqual(envelope.unseal_v1(KEY.encode(), stored)[0], b"plain")
        self.assertEqual(self.decrypt(config, stored), b"plain")
        self.assertIn("auth_failed", self.decrypt(config, stored, key=KEY + "x", status=UNREADABLE))

    # --- inspect ---

    def test_inspect_plaintext(self):
        for value, kind in ((b"", "empty"), (b"k8s\0\n\x0c\n\x02v1", "Kubernetes protobuf"), (b' {"a": "hidden"}', "JSON"),
                            (b"k8s:enc", "unknown"), (b"\xffhidden", "unknown")):
            shown = self.inspect(value, NOT_AS_WANTED)
            self.assertEqual((shown["form"], shown["looks_like"], shown["length"]), ("plaintext", kind, len(value)))
            self.assertNotIn(b"hidden", self.tool("inspect", stdin=value)[1])

    def test_inspect_malformed(self):
        head, obj = b"k8s:enc:kms:v2:test:", envelope.obj.EncryptedObject
        good = obj(encrypted_data=b"d" * 60, key_id="k", encrypted_dek_source=b"w", encrypted_dek_source_type=1)
        cases = {
            "unknown_provider": [b"k8s:enc:", b"k8s:enc:rot13:v1:k:", b"k8s:enc:kms:v3:n:"],
            "no_name": [b"k8s:enc:kms:v2:test", b"k8s:enc:aesgcm:v1:", b"k8s:enc:kms:v1:" + b"n" * 5000 + b":"],
            "protobuf_malformed": [head + b"\x0a", head + good.SerializeToString()[:-1], head + b"\x0f"],
            "encrypted_data_empty": [head, head + b"\x0a\x00"],
            "key_id_empty": [head], "dek_source_empty": [head],
            "too_short": [head + self.change(good, encrypted_data=b"d" * 59), b"k8s:enc:aesgcm:v1:k:" + b"d" * 27,
                          b"k8s:enc:aesgcm:v1:k:", b"k8s:enc:aescbc:v1:k:" + b"d" * 15, b"k8s:enc:secretbox:v1:k:" + b"d" * 39,
                          b"k8s:enc:kms:v1:n:\0\x01w" + b"d" * 27],
            "key_id_too_long": [head + self.change(good, key_id="k" * 1025)],
            "dek_source_too_long": [head + self.change(good, encrypted_dek_source=b"w" * 1025)],
            "unknown_dek_source_type": [head + self.change(good, encrypted_dek_source_type=7)],
            "annotations_invalid": [head + self.change(good, annotations={"A": b""}),
                                    head + self.change(good, annotations={"a.b": b"v" * 32766})],
            "invalid_utf8": [head + good.SerializeToString().replace(b"\x12\x01k", b"\x12\x01\xff")],
            "bad_block_size": [b"k8s:enc:aescbc:v1:k:" + b"d" * 33],
            "v1_bad_length_prefix": [b"k8s:enc:kms:v1:n:", b"k8s:enc:kms:v1:n:\0\x02w", b"k8s:enc:kms:v1:a:b:xy"],
        }
        for name, values in cases.items():
            for value in values:
                with self.subTest(problem=name, value=value[:40]):
                    shown = self.inspect(value, UNREADABLE)
                    self.assertEqual(shown["form"], "malformed")
                    self.assertIn(name, [p["class"] for p in shown["problems"]])
        self.assertEqual(self.inspect(head + good.SerializeToString(), OK)["plaintext_length"], 0)
        shown = self.inspect(head + good.SerializeToString() + b"\n", UNREADABLE)
        self.assertEqual([n["class"] for n in shown["notes"]], ["line_feed"])

    def change(self, message, annotations=None, **fields):
        copy = type(message).FromString(message.SerializeToString())
        for name, value in fields.items():
            setattr(copy, name, value)
        for name, value in (annotations or {}).items():
            copy.annotations[name] = value
        return copy.SerializeToString()

    def test_inspect_kinds(self):
        shown = self.inspect(b"k8s:enc:kms:v1:a:b:\0\x03abc" + b"d" * 40, OK)
        self.assertEqual([shown[k] for k in ("version", "name", "wrapped_dek_length", "ciphertext_length")],
                         ["v1", "a:b", 3, 12])
        shown = self.inspect(b"k8s:enc:aescbc:v1:k:" + b"d" * 48, OK)
        self.assertEqual([shown[k] for k in ("plaintext_length_min", "plaintext_length_max")], [16, 31])
        stored = envelope.seal(b"k", b"value", key_id="\u00e9\x1b[0m", source_type=0)
        shown = self.inspect(stored, OK)
        self.assertEqual((shown["key_id_hex"], shown["source_type"]), ("\u00e9\x1b[0m".encode().hex(), "AES_GCM_KEY"))
        self.assertNotIn("info_length", shown)
        self.assertNotIn(b"\x1b", self.tool("inspect", stdin=stored)[1])
        text = self.tool("inspect", stdin=envelope.seal(b"k", b"value", annotations={"a.b": b"x" * 7}))[1].decode()
        for line in ("form:            well-formed envelope", "provider:        kms v2", "name:            test",
                     "key id:          key-1", "annotation:      a.b, 7 bytes", "plaintext:       5 bytes"):
            self.assertIn(line + "\n", text)

    def test_encodings(self):
        config = self.configure([f"secretbox: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"])
        stored = self.encrypt(config, b"value")
        wrapped = base64.encodebytes(stored)
        for encoding, text in (("base64", base64.b64encode(stored)), ("base64", wrapped), ("hex", stored.hex().encode()),
                               ("hex", stored.hex(" ").upper().encode() + b"\n"), ("raw", stored)):
            flags = ["--input", encoding]
            self.assertEqual(self.decrypt(config, text, flags=flags), b"value")
            self.assertEqual(self.inspect(text, OK, *flags)["length"], len(stored))
        for encoding, text in (("base64", b"a"), ("base64", b"ab=="[:3]), ("base64", b"ab==c"), ("base64", b"a-_b"),
                               ("base64", b"abcd===="), ("hex", b"abc"), ("hex", b"0g"), ("hex", b"0x00")):
            for name, flags in (("inspect", ()), ("decrypt", ("--key", KEY, "--encryption-provider-config", config))):
                status, out, err = self.tool(name, "--input", encoding, *flags, stdin=text)
                self.assertEqual((status, out), (ERROR, b""), text)
                self.assertIn(f"not {encoding}", err)

    # --- use and limits ---

    def test_usage(self):
        config = self.configure([f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"])
        for argv in (["encrypt"], ["decrypt"], ["encrypt", "--key", KEY], ["encrypt", "--key"], ["decrypt", "--key="],
                     ["encrypt", "--encryption-provider-config", config], ["decrypt", "--key", KEY, "--input", "rot13"],
                     ["decrypt", "--key", KEY, "--encryption-provider-config", config, "--input", "rot13"],
                     ["encrypt", "--key", KEY, "--input", "raw"], ["encrypt", "--kye", KEY], ["inspect", "--key", KEY],
                     ["inspect", "file"], ["inspect", "--output", "yaml"], ["inspect", "--output"], ["explain"]):
            status, out, err = self.tool(*argv)
            self.assertEqual((status, out), (USAGE, b""), argv)
            self.assertNotEqual(err, "")
        for name in "encrypt", "decrypt", "inspect":
            for flag in "--help", "-h":
                status, out, err = self.tool(name, "--key", KEY, flag) if name != "inspect" else self.tool(name, flag)
                self.assertEqual((status, err), (OK, ""))
                self.assertIn(f"usage: etcd-envelope {name}".encode(), out)
                self.assertIn(b"Exit status", out)
        missing = self.env.path("missing.yaml")
        self.assertIn(str(missing), self.encrypt(missing, b"v", status=ERROR))

    def test_size_limit(self):
        config = self.configure([f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"])
        largest = bytes(16 << 20)
        self.assertEqual(self.inspect(largest, NOT_AS_WANTED)["length"], 16 << 20)
        self.assertEqual(len(self.encrypt(config, largest)), (16 << 20) + 28 + len("k8s:enc:aesgcm:v1:k:"))
        for name, flags in (("inspect", ()), ("encrypt", ("--key", KEY, "--encryption-provider-config", config))):
            status, out, err = self.tool(name, *flags, stdin=largest + b"x")
            self.assertEqual((status, out), (ERROR, b""))
            self.assertIn("larger than 16 MiB", err)

    def test_output_that_fails(self):
        config = self.configure([f"aesgcm: {{keys: [{{name: k, secret: '{new_key()}'}}]}}"])
        for argv in (["encrypt", "--key", KEY, "--encryption-provider-config", config], ["inspect"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([self.binary, *map(os.fspath, argv)], input=b"value", stdout=full,
                                      stderr=subprocess.PIPE, timeout=60, check=False)
            self.assertEqual(done.returncode, ERROR)
            self.assertIn(b"cannot write", done.stderr)

    def test_no_secret_on_standard_error(self):
        secret, value = new_key(), b"the-plaintext-itself"
        config = self.configure([f"aesgcm: {{keys: [{{name: k, secret: '{secret}'}}]}}"])
        stored = self.encrypt(config, value, flags=["--log-level=debug"])
        damaged = stored[:-1] + bytes([stored[-1] ^ 1])
        for err in (self.decrypt(config, damaged, flags=["--log-level=debug"], status=UNREADABLE),
                    self.decrypt(config, value, flags=["--log-level=debug"], status=UNREADABLE)):
            for text in secret, base64.b64decode(secret).hex(), value.decode():
                self.assertNotIn(text, err)


if __name__ == "__main__":
    harness.main()
