#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge: does everything become current by itself, once, within the rate, and only while all proxies agree?"""
import re
import signal
import subprocess
import time

from cluster_tool import new_key
from converge import PLACE, Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"


class Alone(Converge):
    def test_plaintext_becomes_current(self):
        """Counted first, rewritten after the time of agreement, each once; the gauges and the health check say so."""
        self.fill(200, 100)
        before = self.versions()
        proxy = self.begin_proxy("one", self.a, IDENTITY, after="3s")
        wait_until(lambda: self.counts(proxy), 20, "first look")
        self.assertEqual(self.counts(proxy)[1:], (0, 200, 0))
        self.assertEqual(self.versions(), before)
        self.counted(proxy, 201, 0, 0, 0)
        self.says(proxy, 200, "0 due")
        self.assertEqual(self.sealed_with(b"a"), 200)
        self.assertEqual(set(self.versions().values()), {2})
        self.assertEqual(proxy.metric("etcd_envelope_converge_rewritten_total"), 200)
        self.assertLess(abs(proxy.metric("etcd_envelope_stored_values_timestamp_seconds") - time.time()), 60)
        for i in range(0, 200, 20):
            key = b"/registry/secrets/ns%d/%07d" % (i % 10, i)
            self.assertEqual(proxy.client.value(key), self.value_of(i, 100))

    def test_off_by_default(self):
        self.fill(3, 100)
        proxy = self.env.proxy(self.etcd, self.configure(self.a, IDENTITY), name="off")
        self.addCleanup(self.end, proxy)
        self.assertEqual(self.health(proxy)[0], 404)
        self.assertIsNone(self.counts(proxy))
        self.assertEqual(len(self.raw.list(PLACE).kvs), 0)

    def test_what_lies_at_the_place(self):
        """Its name, hashes and nothing secret; all of it goes with the proxy."""
        secret = self.a.split("secret: ")[1].split("}")[0]
        proxy = self.begin_proxy("one", self.a, IDENTITY)
        wait_until(self.locked, 20, "lock")
        record, = self.registered()
        text = record.value.decode()
        self.assertIn("aesgcm:v1:a:", text)
        self.assertIn(f"127.0.0.1:{proxy.port}", text)
        self.assertNotIn(secret, text)
        self.assertGreater(record.lease, 0)
        self.assertEqual(self.locked().lease, record.lease)
        self.assertIn(f":{proxy.port}", self.locked().value.decode())
        # It is nobody's data: an etcd that holds nothing else is not one whose prefix is another.
        self.raw.delete(b"/registry/", b"/registry0")
        other = self.begin_proxy("two", self.a, IDENTITY)
        wait_until(lambda: len(self.registered()) == 2, 20, "the second one")
        self.assertNotIn("none under --etcd-prefix", other.process.log())
        self.raw.delete(b"/registry/", b"/registry0")
        _, err = self.tool("verify", self.configure(self.a))
        self.assertNotIn("none under --etcd-prefix", err)
        for each in proxy, other:
            self.end(each)
        wait_until(lambda: not self.raw.list(PLACE).kvs, 20, "end of what they registered")


    def test_each_state(self):
        """What does not open, planted plaintext and what ends by itself is counted, and left as it is."""
        old = self.local("aescbc", ("k1", new_key()))
        self.plain(2)
        self.raw.put(b"/registry/secrets/ns/lost", b"k8s:enc:secretbox:v1:lost:" + bytes(60))
        self.raw.put(b"/registry/secrets/ns/leased", b"plain", lease=self.raw.grant(600).ID)
        old_proxy = self.env.proxy(self.etcd, self.configure(old, name="old"), name="old")
        for i in range(3):
            old_proxy.client.put(b"/registry/secrets/ns/old%d" % i, b"old")
        self.end(old_proxy)
        proxy = self.begin_proxy("one", self.a, old, rate=500)
        self.counted(proxy, 4, 0, 3, 1)  # no identity: plaintext is not made authentic by sealing it
        self.assertEqual(self.versions()[b"/registry/secrets/ns/plain00000"], 1)
        self.change(proxy, self.a, old, IDENTITY)
        self.counted(proxy, 6, 0, 1, 1)
        self.assertEqual(self.versions()[b"/registry/secrets/ns/leased"], 1)
        self.assertEqual(self.versions()[b"/registry/secrets/ns/lost"], 1)

    def test_never_to_plaintext(self):
        """Identity first: what is sealed stays so, and is counted."""
        proxy = self.env.proxy(self.etcd, self.configure(self.a, name="before"), name="before")
        for i in range(5):
            proxy.client.put(b"/registry/secrets/ns/%d" % i, b"value")
        self.raw.delete(b"/registry/secrets/harness/ready")
        self.end(proxy)
        proxy = self.begin_proxy("one", IDENTITY, self.a, after="0s", flags=["--allow-identity-writes"])
        self.says(proxy, 200, "has the lock")
        self.change(proxy, IDENTITY, self.a, self.b)
        wait_until(lambda: (self.counts(proxy) or (0, 0, 0, 0))[1] == 5, 30, "a count")
        self.says(proxy, 200, "0 due at the last full look")
        self.assertEqual(set(self.versions().values()), {1})
        self.assertEqual(self.sealed_with(b"a"), 5)

    def test_new_key_id_of_a_plugin(self):
        """The plugin changes its key: seen at the next poll (up to a minute), or by a new rule set."""
        self.plain(20)
        proxy = self.begin_proxy("one", self.kms_provider(), IDENTITY)
        self.counted(proxy, 21, 0, 0, 0)
        self.kms.key_id = "key-2"
        if not harness.LONG:
            self.change(proxy, self.kms_provider(), "identity: {}  # anew")
        wait_until(lambda: {harness.envelope.parse(kv.value, "test").key_id for kv in self.stored()} == {"key-2"}, 90,
                   "all sealed with the new key id", 0.2)
        self.assertEqual(set(self.versions().values()), {3})

    def test_sighup_looks(self):
        """The next look would come in an hour. Whoever sends SIGHUP, with a file that has not changed, has it at once, and
        hears what was found."""
        self.plain(5)
        proxy = self.begin_proxy("one", self.a, IDENTITY, after="0s")
        self.counted(proxy, 6, 0, 0, 0)
        for i in range(1, 3):
            self.raw.put(b"/registry/secrets/ns/lost%d" % i, b"k8s:enc:aesgcm:v1:gone:" + bytes(60))
            proxy.process.signal(signal.SIGHUP)
            wait_until(lambda: "the configuration has not changed: all stored values are looked at" in proxy.process.log(), 20,
                       "what is done")
            self.counted(proxy, 6, 0, 0, i)
            self.assertEqual(len(re.findall(r"converge: looked at everything.* unreadable=%d" % i, proxy.process.log())), 1)

    def test_rate(self):
        self.plain(60)
        proxy = self.begin_proxy("one", self.a, IDENTITY, rate=20, after="0s")
        wait_until(lambda: self.sealed_with(b"a") > 0, 30, "first rewrite")
        began = time.monotonic()
        self.counted(proxy, 61, 0, 0, 0)
        self.assertGreater(time.monotonic() - began, 40 / 20)

    def test_usage(self):
        config = self.configure(self.a)
        for flags, text in ((["--converge-key", "/registry/x"], "--converge-key"), (["--converge-key", "/"], "--converge-key"),
                            (["--converge-key", "registry/"], "--converge-key"), (["--etcd-prefix", "/"], "--converge-key"),
                            (["--protect-prefix", "/etcd-envelope/x=secrets"], "--protect-prefix"),
                            (["--converge", "fast"], "a number from 0"), (["--converge-after", "-1s"], "a duration")):
            done = subprocess.run([self.binary, "serve", "--encryption-provider-config", config, "--converge", "5", *flags],
                                  capture_output=True, check=False, timeout=30)
            self.assertEqual(done.returncode, 2, flags)
            self.assertIn(text, done.stderr.decode())


if __name__ == "__main__":
    harness.main()
