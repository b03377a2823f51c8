#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A reload that drops a key: refused while a stored value needs it, with its name and the number of values, and taken over
as soon as none does; also with identity, and while another proxy still writes with it."""
import json
import signal
import subprocess
import threading
import time

from cluster_tool import new_key
from converge import Converge, harness
from harness import http_get, wait_until

IDENTITY = "identity: {}"
REFUSED, TAKEN, LOOKS = "reload failed", "configuration reloaded", "looking whether stored values need them"


class Drop(Converge):
    def plain_proxy(self, *providers, flags=(), **options):
        proxy = self.env.proxy(self.etcd, self.configure(*providers, name=self.name, **options), name=self.name, flags=flags)
        self.addCleanup(self.end, proxy)
        return proxy

    def refused(self, proxy, *providers, names):
        self.change(proxy, *providers, log=REFUSED)
        line = [li for li in proxy.process.log().splitlines() if REFUSED in li][-1]
        for name in (*names, "--allow-drop-keys"):
            self.assertIn(name, line)
        return line

    def put(self, proxy, count, writer=b""):
        """writer: what the stored values have to begin with; workers take a new set over a moment behind the log."""
        for i in range(count):
            key = b"/registry/secrets/ns/v%d" % i
            wait_until(lambda: proxy.client.put(key, b"value %d" % i) and  # noqa: B023
                       self.raw.value(key).startswith(writer), 10, f"value sealed with {writer}")  # noqa: B023

    def opens(self, config, key):
        return subprocess.run([self.binary, "decrypt", "--key", key.decode(), "--encryption-provider-config", config],
                              input=self.raw.value(key), capture_output=True, check=False).returncode == 0

    def test_each_kind(self):
        """Of every kind of provider: two values need the key, then one, then none."""
        last = self.local("secretbox", ("last", new_key()))
        for kind, name in (("aesgcm", "aesgcm:v1:k"), ("aescbc", "aescbc:v1:k"), ("secretbox", "secretbox:v1:k"),
                           ("kms", "kms:v2:test"), ("identity", "identity")):
            with self.subTest(kind=kind):
                self.raw.delete(b"\0", b"\0")
                old = {"kms": self.kms_provider(), "identity": IDENTITY}.get(kind) or self.local(kind, ("k", new_key()))
                proxy = self.env.proxy(self.etcd, self.configure(old, last, name=self.name), name=self.name,
                                       flags=["--allow-identity-writes"])
                self.put(proxy, 2)
                self.raw.delete(b"/registry/secrets/harness/ready")
                self.change(proxy, last, old)
                self.assertNotIn(LOOKS, proxy.process.log())  # nothing was dropped: nothing was looked at
                self.refused(proxy, last, names=(f"{name} (2 of secrets)",))
                self.put(proxy, 1, b"k8s:enc:secretbox:v1:last:")
                self.refused(proxy, last, names=(f"{name} (1 of secrets)",))
                self.assertEqual(proxy.client.value(b"/registry/secrets/ns/v1"), b"value 1")
                self.put(proxy, 2, b"k8s:enc:secretbox:v1:last:")
                self.change(proxy, last)
                self.assertEqual(proxy.client.value(b"/registry/secrets/ns/v1"), b"value 1")
                self.end(proxy)

    def test_sealed_and_not_stored_yet(self):
        """A write that etcd has not carried out counts: it is acknowledged afterwards, and has to open."""
        first, second = self.local("aesgcm", ("k1", new_key())), self.local("aesgcm", ("k2", new_key()))
        proxy = self.plain_proxy(first)
        self.raw.delete(b"/registry/secrets/harness/ready")
        self.etcd.process.signal(signal.SIGSTOP)
        self.addCleanup(self.etcd.process.signal, signal.SIGCONT)
        put = threading.Thread(target=proxy.client.put, args=(b"/registry/secrets/ns/late", b"late"))
        put.start()
        wait_until(lambda: proxy.metric("etcd_envelope_values_sealed_total") > 0, 10, "sealed value")
        self.change(proxy, second, first)
        threading.Timer(1, self.etcd.process.signal, (signal.SIGCONT,)).start()
        self.refused(proxy, second, names=("aesgcm:v1:k1 (1 of secrets)",))
        put.join()
        self.assertEqual(proxy.client.value(b"/registry/secrets/ns/late"), b"late")

    def test_one_of_two_keys_with_one_name(self):
        """Which of them a value needs is known only by opening it."""
        secrets = [new_key() for _ in range(3)]
        keys = lambda *which: self.local("aesgcm", *(("k", secrets[i]) for i in which))  # noqa: E731
        proxy = self.plain_proxy(keys(0))
        self.put(proxy, 3)
        self.raw.delete(b"/registry/secrets/harness/ready")
        self.change(proxy, keys(1, 0))
        second = self.configure(keys(1), name="second")
        wait_until(lambda: self.put(proxy, 2) or all(self.opens(second, b"/registry/secrets/ns/v%d" % i) for i in (0, 1)), 20,
                   "values sealed with the second key")
        self.change(proxy, keys(2, 1, 0))
        self.refused(proxy, keys(2), names=("aesgcm:v1:k (2 of secrets)", "aesgcm:v1:k (1 of secrets)"))
        third = self.configure(keys(2), name="third")
        wait_until(lambda: self.put(proxy, 3) or all(self.opens(third, b"/registry/secrets/ns/v%d" % i) for i in range(3)), 20,
                   "values sealed with the third key")
        self.change(proxy, keys(2))
        self.assertEqual(proxy.client.value(b"/registry/secrets/ns/v2"), b"value 2")

    def test_key_that_is_written_with(self):
        """What the proxy itself writes in the meantime would not be seen: refused, even if nothing is stored."""
        proxy = self.plain_proxy(self.a)
        self.raw.delete(b"\0", b"\0")
        for providers in ((self.b,), (self.kms_provider(),), (self.b, IDENTITY)):
            self.refused(proxy, *providers, names=("aesgcm:v1:a", "with which this proxy writes"))
        self.assertNotIn(LOOKS, proxy.process.log())

    def test_allowed(self):
        proxy = self.plain_proxy(self.a, flags=["--allow-drop-keys"])
        self.put(proxy, 2)
        self.change(proxy, self.b)
        self.assertNotIn(LOOKS, proxy.process.log())

    def test_more_than_one_resource(self):
        """A key is dropped for one resource and stays for another; a rule that covers both takes its place."""
        def write(proxy, text):
            proxy.config.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n" + text)

        def rule(resources, *providers):
            return f"  - resources: [{resources}]\n    providers:\n" + "".join(f"    - {p}\n" for p in providers)
        proxy = self.plain_proxy(self.a, resources="secrets, configmaps")
        self.put(proxy, 2)
        proxy.client.put(b"/registry/configmaps/ns/x", b"x")
        steps = [(rule("secrets, configmaps", self.b, self.a), TAKEN, None),
                 (rule("secrets", self.b) + rule("configmaps", self.b, self.a), REFUSED, "(3 of secrets)"),
                 (rule("secrets", self.b, self.a) + rule("configmaps", self.b), REFUSED, "(1 of configmaps)"),
                 (rule("'*.*'", self.b), REFUSED, "(3 of secrets)"),
                 (rule("'*.*'", self.b, self.a), TAKEN, None)]
        for text, log, reason in steps:
            before = proxy.process.log().count(log)
            write(proxy, text)
            proxy.process.signal(harness.signal.SIGHUP)
            wait_until(lambda: proxy.process.log().count(log) > before, 20, f"{log} of {text}")  # noqa: B023
            self.assertIn(reason or "", [li for li in proxy.process.log().splitlines() if log in li][-1])

    def test_serves_meanwhile(self):
        """The look is over many values; reads and writes go on under the old set, and the newer content wins."""
        self.fill(20_000 if not harness.SANITIZED else 2_000, 500)
        proxy = self.plain_proxy(self.b, self.a, IDENTITY)
        stop, slowest = threading.Event(), [0]

        def serve():
            client = harness.Client(proxy.target)
            while not stop.is_set():
                began = time.monotonic()
                client.put(b"/registry/secrets/ns/x", b"x")
                slowest[0] = max(slowest[0], time.monotonic() - began)
            client.close()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            line = self.refused(proxy, self.b, names=("identity (",))
            self.assertNotIn("aesgcm:v1:a", line)
            self.change(proxy, self.b, IDENTITY)
        finally:
            stop.set()
            thread.join()
        self.assertGreater(slowest[0], 0)

    def test_plugin_that_is_gone(self):
        """It is told by the envelopes that nothing needs it; the plugin is not asked."""
        kms = self.env.kms("gone")
        proxy = self.plain_proxy(self.kms_provider(path=kms.path), self.a)
        self.put(proxy, 1)
        self.raw.delete(b"/registry/secrets/harness/ready")
        self.change(proxy, self.a, self.kms_provider(path=kms.path))
        kms.stop()
        self.refused(proxy, self.a, names=("kms:v2:test (1 of secrets)",))
        self.put(proxy, 1, b"k8s:enc:aesgcm:v1:a:")
        self.change(proxy, self.a)
        self.assertFalse([kv for kv in self.stored() if kv.value.startswith(b"k8s:enc:kms")])

    def test_another_proxy_writes_with_it(self):
        """The look waits for it: the other one changes its file in time."""
        one = self.begin_proxy("one", self.b, self.a)
        two = self.begin_proxy("two", self.a, self.b)
        wait_until(lambda: len(self.registered()) == 2, 20, "both registered")
        self.change(one, self.b, log=LOOKS)
        two.client.put(b"/registry/secrets/ns/late", b"late")
        time.sleep(2)  # the rule has to hold for some time, and may not be late
        self.assertEqual(one.process.log().count(TAKEN) + one.process.log().count(REFUSED), 0)
        self.change(two, self.b, self.a)
        wait_until(lambda: one.process.log().count(TAKEN) + one.process.log().count(REFUSED), 30, "decision")
        line = [li for li in one.process.log().splitlines() if TAKEN in li or REFUSED in li][-1]
        late = self.raw.value(b"/registry/secrets/ns/late")
        if TAKEN in line:  # it was rewritten by then
            self.assertTrue(late.startswith(b"k8s:enc:aesgcm:v1:b:"), late)
        else:
            self.assertIn("aesgcm:v1:a (", line)
        self.assertEqual(one.client.value(b"/registry/secrets/ns/late"), b"late")

    # --- a start, which looks at the file alone ---

    def asked(self, proxy, line, count):
        """SIGHUP with an unchanged file has it look at once: until this line is there so often."""
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: proxy.process.log().count(line) >= count, 30, f"{line}: {proxy.process.log()[-1500:]}")

    def unopened(self, proxy):
        """As /metrics and /statusz have it."""
        found = json.loads(http_get(proxy.metrics_address, "/statusz")[1])["problems"]
        titles = [p["title"] for p in found if p["about"] == "values" and "with this configuration" in p["title"]]
        return {r: proxy.metric("etcd_envelope_stored_values_unopened", f'resource="secrets",reason="{r}"')
                for r in ("no_matching_key", "auth_failed")}, titles

    def test_start_without_a_key(self):
        """A file that a reload would refuse is taken by a start; what that means for stored values is said."""
        lost = "stored values do not open with this configuration"
        key = new_key()
        a, b = self.local("aesgcm", ("a", key)), self.local("aesgcm", ("b", new_key()))
        before = self.plain_proxy(a)
        self.put(before, 3)
        self.assertEqual(before.process.term(), 0)
        proxy = self.plain_proxy(b)
        self.asked(proxy, lost, 1)
        line = [li for li in proxy.process.log().splitlines() if lost in li][-1]
        for text in " error ", "resource=secrets", "count=3", 'prefix="k8s:enc:aesgcm:v1:a"', "reason=no_matching_key":
            self.assertIn(text, line)
        self.assertEqual(self.unopened(proxy), ({"no_matching_key": 3, "auth_failed": None}, [f"3 {lost}"]))
        # Another secret under the same name is no better.
        proxy.stop()
        proxy = self.plain_proxy(self.local("aesgcm", ("b", new_key()), ("a", new_key())))
        self.asked(proxy, lost, 1)
        self.assertIn("reason=auth_failed", proxy.process.log())
        proxy.stop()
        # The key is put back, by a reload; asked anew it knows that nothing is lost any more.
        proxy = self.plain_proxy(b)
        self.asked(proxy, lost, 1)
        self.change(proxy, b, a)
        self.asked(proxy, "the configuration has not changed", 2)
        wait_until(lambda: self.unopened(proxy) == ({"no_matching_key": None, "auth_failed": None}, []), 30, "all open")
        wait_until(lambda: "looked at all stored values unopened=0" in proxy.process.log(), 10, "what was found is said")

    def test_start_while_etcd_is_away(self):
        """No start waits for etcd, or says anything of values that it could not look at."""
        proxy = self.env.proxy([f"http://127.0.0.1:{harness.free_port()}"], self.configure(self.a, name=self.name),
                               name=self.name, wait=False)
        self.addCleanup(self.end, proxy)
        wait_until(lambda: "listening" in proxy.process.log(), 20, "start")
        self.asked(proxy, "the configuration has not changed: all stored values are looked at", 1)
        self.assertNotIn("do not open", proxy.process.log())

    @harness.unittest.skipUnless(harness.LONG, "takes two minutes")
    def test_not_known_in_time(self):
        one = self.begin_proxy("one", self.b, self.a)
        self.begin_proxy("two", self.a, self.b)
        wait_until(lambda: len(self.registered()) == 2, 20, "both registered")
        line = self.refused(one, self.b, names=("within 60 s", "still writes with aesgcm:v1:a"))
        self.assertIn("two", line + "two")
        alone = self.plain_proxy(self.b, self.a)
        self.etcd.process.signal(harness.signal.SIGSTOP)
        self.refused(alone, self.b, names=("is not known",))
        self.etcd.process.signal(harness.signal.SIGCONT)


if __name__ == "__main__":
    harness.main()
