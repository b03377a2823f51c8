#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the proxy says of values and keys: nothing. Log at its most talkative, pages, metrics and errors are searched for
pieces of them in every spelling; why a value does not open is not to be told from the error; and what /metrics has
depends on no value."""
import base64
import hashlib
import os
import re
import signal
import subprocess
import unittest

import harness  # first: it sets the path to tests/fake
import h2raw
from client import prefix_end
from harness import Code, envelope, fake_kms, http_get, wait_until
from protos import rpc
from test_local_keys import Key
from test_reload import HEAD, kms_of, local, rule

PUT, TXN = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"
PIECE = 9  # bytes; a multiple of three, so base64 of a piece is part of base64 of the whole
PAGES = ("/", "/metrics", "/statusz", "/configz", "/healthz?verbose", "/readyz?verbose", "/livez?verbose", "/version")


def spellings(piece):
    yield piece.decode("latin-1")
    yield piece.hex()
    yield piece.hex().upper()
    yield base64.b64encode(piece).decode()
    yield base64.urlsafe_b64encode(piece).decode()
    yield "".join(f"\\x{b:02x}" for b in piece)
    yield "".join(f"\\u{b:04x}" for b in piece)
    yield "".join(f"%{b:02X}" for b in piece)


def found(needle, text):
    """Is any piece of these bytes there?"""
    return any(word in text for at in range(len(needle) - PIECE + 1) for word in spellings(needle[at:at + PIECE]))


class Spellings(unittest.TestCase):
    def test_spellings(self):
        """Each is found as a program would have written it."""
        secret = bytes(range(200, 232))
        for text in (base64.b64encode(b"a" + secret), base64.b64encode(b"ab" + secret), secret.hex().encode(), secret,
                     subprocess.run(["base64"], input=secret, capture_output=True, check=True).stdout):
            self.assertTrue(found(secret, f"x{text.decode('latin-1')}y"))
        self.assertFalse(found(secret, base64.b64encode(secret[::-1]).decode()))


class Base(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.start_peers()
        cls.seeds = []

        def wrapping(seed):
            cls.seeds.append(seed)
            return fake_kms.wrap(cls.kms.key_id, seed)
        cls.kms.wrapping = wrapping
        cls.keys = [Key("aesgcm", "gcm"), Key("secretbox", "box"), Key("aescbc", "cbc")]
        cls.good = HEAD + rule(["secrets"], kms_of(cls.kms.path), *map(local, cls.keys)) + \
            rule(["configmaps"], local(cls.keys[1]))
        cls.config.write_text(cls.good)
        cls.config.chmod(0o600)
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, flags=["--log-level=debug", "--stream-threshold=30000"])
        cls.client = cls.proxy.client
        cls.marker = os.urandom(PIECE)
        cls.value = cls.marker * 8

    def bad_values(self, key):
        """What may lie in etcd and does not open, by the reason."""
        good, gcm, box = envelope.seal(key, self.value), self.keys[0], self.keys[1]

        def flipped(stored, at):
            return stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1:]
        parsed = envelope.parse(good)
        return {
            "wrong tag": flipped(good, good.index(parsed.encrypted_data) + len(parsed.encrypted_data) - 1),
            "of another key": envelope.seal(key + b"x", self.value),
            "refused by the plugin": envelope.seal(key, self.value, wrapped=os.urandom(60)),
            "another key id": envelope.seal(key, self.value).replace(b"key-1", b"key-9"),
            "no envelope": b"k8s:enc:kms:v2:test:" + self.value,
            "cut": good[:-1],
            "another provider": b"k8s:enc:kms:v2:gone:" + self.value,
            "wrong tag, aesgcm": flipped(gcm.seal(key, self.value), len(gcm.prefix) + 20),
            "wrong tag, secretbox": flipped(box.seal(key, self.value), len(box.prefix) + 30),
            "no such local key": Key("aesgcm", "gone").seal(key, self.value),
            "another local key of that name": Key("aesgcm", "gcm").seal(key, self.value),
            "plaintext": self.value,
            "empty": b"",
        }

    def fails(self, function, *arguments, **options):
        """The error, as its client sees it: status, text, trailers."""
        with self.assertRaises(harness.grpc.RpcError) as caught:
            function(*arguments, **options)
        error = caught.exception
        return error.code(), error.details(), tuple(error.trailing_metadata() or ())


class Texts(Base):
    def test_one_text(self):
        """Whoever may write etcd, and sees what a client is told, learns of no key whether it was there or did not fit."""
        key, seen = self.secret(), {}
        for name, stored in self.bad_values(key).items():
            self.raw.put(key, stored)
            seen[name] = [self.fails(self.client.get, key), self.fails(self.client.list, key),
                          self.fails(self.client.get, b"\0", b"\0"),
                          self.fails(self.client.txn, [], [rpc.RequestOp(request_range=rpc.RangeRequest(key=key))]),
                          self.canceled(key)]
        self.raw.delete(key)
        first = next(iter(seen.values()))
        self.assertEqual([answer[0] for answer in first[:-1]], [Code.DATA_LOSS] * 4)
        self.assertIn(key.decode(), first[0][1])
        for name, answers in seen.items():
            with self.subTest(name):
                self.assertEqual(answers, first)

    def canceled(self, key):
        """The reason that a watch which begins with this value is given."""
        watch = self.client.watch(key, start_revision=self.raw.get(key).kvs[0].mod_revision)
        answer = watch.next()
        self.assertTrue(answer.canceled, answer)
        watch.cancel()
        return answer.cancel_reason


class Silence(Base):
    def use(self):
        """Everything that a value can go through."""
        prefix = self.secret("good/")
        watch = self.client.watch(prefix, prefix_end(prefix), prev_kv=True)
        for number in range(4):
            self.client.put(prefix + b"%d" % number, self.value * (1 + 500 * (number % 2)))
            self.client.put(prefix + b"%d" % number, self.value, prev_kv=True)
        self.client.put(f"/registry/configmaps/{self.name}/a".encode(), self.value)
        for key in self.keys:
            at = self.secret(key.name)
            self.raw.put(at, key.seal(at, self.value))
            self.assertEqual(self.client.value(at), self.value)
        self.raw.put(prefix + b"cold", envelope.seal(prefix + b"cold", self.value * 600, seed=self.cold))
        self.assertEqual(len(self.client.list(prefix).kvs), 5)
        self.client.txn([], [rpc.RequestOp(request_put=rpc.PutRequest(key=prefix + b"0", value=self.value, prev_kv=True)),
                             rpc.RequestOp(request_range=rpc.RangeRequest(key=prefix + b"1"))])
        watch.events(10)
        watch.cancel()

    def refused_values(self):
        for name, stored in self.bad_values(self.secret("bad")).items():
            self.raw.put(self.secret("bad"), stored)
            yield name, self.fails(self.client.get, self.secret("bad"))
            yield name, self.fails(self.client.list, self.secret(""))
        self.raw.delete(self.secret("bad"))

    def refused_requests(self):
        key = self.secret("request")
        put = rpc.PutRequest(key=key, value=self.value).SerializeToString()
        unknown = b"\xfa\x01" + bytes([len(self.value)]) + self.value
        for name, path, body in (
                ("doubled", PUT, put + put), ("unknown field", PUT, put + unknown), ("cut", PUT, put[:-1]),
                ("no key", PUT, rpc.PutRequest(value=self.value).SerializeToString()),
                ("sealed by nobody", PUT, rpc.PutRequest(key=key, value=b"k8s:enc:kms:v2:test:" + self.value).SerializeToString()),
                ("ignore_value", PUT, rpc.PutRequest(key=key, value=self.value, ignore_value=True).SerializeToString()),
                ("compared", TXN, rpc.TxnRequest(compare=[rpc.Compare(target=3, key=key, value=self.value)]).SerializeToString()),
                ("no method", "/v3lockpb.Lock/Lock", put), ("too large", PUT, put + bytes(17 << 20))):
            yield name, self.fails(self.client.unary, path, body, bytes)
        raw = h2raw.Client(self.proxy.address)
        self.addCleanup(raw.close)
        for flag in 1, 2:
            stream = raw.wait(raw.start(PUT, h2raw.grpc_message(put, flag=flag)))
            yield f"flag {flag}", (stream.status, stream.message, tuple((stream.trailers or {}).items()))

    def bad_reloads(self):
        """Files with a key in them that are not taken."""
        new = Key("aesgcm", "new")
        for text in (self.good.replace("secrets", "secrets'"), HEAD + rule(["secrets"], local(new)) + "nonsense: [\n",
                     HEAD + rule(["secrets"], local(Key("aesgcm", "short", 15)), local(new)),
                     HEAD + rule(["secrets"], local(new), local(new).replace("aesgcm", "nonsense")), HEAD + rule(
                         ["secrets"], local(new).replace("=", "!")), HEAD + rule(["secrets"], local(new)).replace("name", "nam")):
            before = self.proxy.process.log().count("reload failed")
            self.proxy.config.write_text(text)
            self.proxy.process.signal(signal.SIGHUP)
            wait_until(lambda n=before: self.proxy.process.log().count("reload failed") > n, 20, "a refusal")
        self.proxy.config.write_text(self.good)
        return new.secret

    def plugin_unwell(self):
        """Its check fails in every way; then it is asked for a DEK, in vain."""
        self.kms.error = {"Encrypt": (Code.INTERNAL, "mood"), "Decrypt": (Code.UNAVAILABLE, "mood")}
        self.kms.key_id = "key-2"
        key = self.secret("unknown")
        self.raw.put(key, envelope.seal(key, self.value))
        yield "plugin away", self.fails(self.client.get, key, timeout=1)
        self.kms.error, self.kms.key_id = {}, "key-1"
        self.raw.delete(key)

    def test_nothing_is_said(self):
        self.__class__.cold = os.urandom(32)
        self.use()
        said = [*self.refused_values(), *self.refused_requests(), *self.plugin_unwell()]
        new = self.bad_reloads()
        stored = envelope.parse(self.raw.value(self.secret("good/0")))
        needles = {
            "value": self.value, "hash of the value": hashlib.sha256(self.value).digest(), "seed": self.seeds[0],
            "cold seed": self.cold, "wrapped seed": stored.encrypted_dek_source,
            "derived key": envelope.derive(self.seeds[0], stored.encrypted_data[:32]), "key of a bad file": new,
            "ciphertext": stored.encrypted_data, **{key.kind: key.secret for key in self.keys}}
        texts = {path: http_get(self.proxy.metrics_address, path)[1].decode("latin-1") for path in PAGES}
        texts.update({f"error {number}, {name}": repr(error) for number, (name, error) in enumerate(said)})
        texts["log"] = self.proxy.process.log_path.read_text(encoding="latin-1")
        for where, text in texts.items():
            for name, needle in needles.items():
                self.assertFalse(found(needle, text), f"{name} in {where}: {text[-3000:]}")
        # The search sees what there is: names of keys are in the log at this level.
        self.assertTrue(found(self.secret("bad"), texts["log"]))
        self.assertIn("auth_failed", texts["/metrics"])


class Metrics(Base):
    # What comes with time, whatever clients do: the looks at etcd, the plugin's checks.
    BY_THEMSELVES = ("etcd_envelope_stored_values", "etcd_envelope_etcd_healthy", "etcd_envelope_problems",
                     "apiserver_envelope_encryption_kms_operations", "apiserver_envelope_encryption_key_id_hash_status")

    def series(self):
        """All names with their labels; a bucket's bound is one of them."""
        _, body = http_get(self.proxy.metrics_address, "/metrics")
        return {line.rsplit(" ", 1)[0] for line in body.decode().splitlines()
                if not line.startswith(("#", *self.BY_THEMSELVES))}

    def calls(self, value):
        key = self.secret()
        for _ in range(3):
            self.client.put(key, value, prev_kv=True)
            self.client.list(key)
        self.client.delete(key, prev_kv=True)
        # Workers hand over what they count a little later.
        counted = self.deletions()
        self.client.delete(key)
        wait_until(lambda: self.deletions() > counted, 10, "its count")

    def deletions(self):
        return self.proxy.metric("etcd_envelope_grpc_calls_total", "DeleteRange") or 0

    def test_no_series_by_value(self):
        """Values of other contents and sizes add none: what is told apart is methods, providers and outcomes."""
        self.calls(b"a")
        before = self.series()
        for size in (0, 100, 10000, 1000000):
            self.calls(os.urandom(size))
        self.assertEqual(self.series(), before)

    def test_buckets_are_of_time(self):
        """A histogram of lengths would tell what values have which."""
        self.calls(b"a")
        families = {re.match(r"(\w+)_bucket\{", line)[1] for line in self.series() if "_bucket{" in line}
        self.assertGreater(len(families), 2)
        for name in families:
            self.assertTrue(name.endswith("_seconds"), name)


if __name__ == "__main__":
    harness.main()
