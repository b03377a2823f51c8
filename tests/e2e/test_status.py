#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""status: several proxies side by side. Does it see who differs, who is not well, who is gone?"""
import json
import signal
import subprocess

from cluster_tool import NOT_AS_WANTED, OK, UNREACHABLE, USAGE, ClusterTool, new_key
import harness
from harness import Code


class Status(ClusterTool):
    def status(self, *urls, flags=(), status=OK):
        done = subprocess.run([self.binary, "status", "--metrics-urls", ",".join(urls), "--output", "json", *map(str, flags)],
                              capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def url(self, proxy):
        return f"http://127.0.0.1:{proxy.metrics_port}"

    def test_two_that_agree(self):
        config = self.configure(self.kms_provider())
        a, b = (self.env.proxy(self.etcd, config, name=n) for n in "ab")
        a.client.put(b"/registry/secrets/ns/a", b"x")
        report = self.status(self.url(a), self.url(b))
        self.assertTrue(report["all_agree"])
        first, second = report["proxies"]
        self.assertEqual(first["configuration"], second["configuration"])
        self.assertTrue(first["write_keys"].startswith("kms v2 test sha256:"), first)
        self.assertGreater(first["values_sealed"], 0)
        done = subprocess.run([self.binary, "status", "--metrics-urls", self.url(a), "--metrics-urls", self.url(b)],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, OK)
        self.assertIn("2 of 2 answer, 2 are well, and all that answer agree", done.stdout)
        for proxy in a, b:
            proxy.stop()
        report = self.status(self.url(a), status=UNREACHABLE)
        self.assertEqual((first["problems"], first["problem_list"]), (0, []))
        self.assertFalse(report["proxies"][0]["answers"])

    def test_other_configuration(self):
        a = self.env.proxy(self.etcd, self.configure(self.kms_provider(), name="one"), name="a")
        b = self.env.proxy(self.etcd, self.configure(self.kms_provider(), "identity: {}", name="two"), name="b")
        self.assertEqual(self.status(self.url(a), self.url(b), status=NOT_AS_WANTED)["differ_in"], "configuration")
        a.stop()
        b.stop()

    def test_last_reload_failed(self):
        """All have the same old configuration, for the new file was refused: they agree, but are not well until the file
        is one that they took."""
        config = self.configure(self.kms_provider())
        good = config.read_text()
        proxy = self.env.proxy(self.etcd, config, name="a")
        self.assertFalse(self.status(self.url(proxy))["proxies"][0]["last_reload_failed"])
        for text in (good, good + "# another one\n"):
            config.write_text("kind: Nonsense\n")
            proxy.process.signal(signal.SIGHUP)
            harness.wait_until(lambda: not self.status_is_well(proxy), 20, "failed reload")
            report = self.status(self.url(proxy), status=NOT_AS_WANTED)
            self.assertTrue(report["all_agree"])
            self.assertTrue(report["proxies"][0]["last_reload_failed"])
            config.write_text(text)
            proxy.process.signal(signal.SIGHUP)
            harness.wait_until(lambda: self.status_is_well(proxy), 20, "reload")
        proxy.stop()

    def test_other_write_key(self):
        """The same file, but one has the plugin's new key id, and the other not yet."""
        config = self.configure(self.kms_provider())
        a = self.env.proxy(self.etcd, config, name="a")
        self.kms.key_id = "key-2"
        b = self.env.proxy(self.etcd, config, name="b")
        self.assertEqual(self.status(self.url(a), self.url(b), status=NOT_AS_WANTED)["differ_in"], "write key")
        a.stop()
        b.stop()

    def test_what_is_written_with(self):
        """The first of the list, not the plugin that is only read with; and what the page warns of is not well."""
        config = self.configure(self.local("secretbox", ("k1", new_key())), self.kms_provider())
        proxy = self.env.proxy(self.etcd, config, name="a")
        self.assertEqual(self.status(self.url(proxy))["proxies"][0]["write_keys"], "secretbox v1 k1")
        key = self.secret("damaged")
        proxy.client.put(key, b"v" * 100)
        self.raw.put(key, self.raw.value(key)[:-1] + b"?")
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, key)
        harness.wait_until(lambda: not self.status_is_well(proxy), 20, "problem")
        report = self.status(self.url(proxy), status=NOT_AS_WANTED)
        self.assertEqual((report["all_agree"], report["proxies"][0]["problems"]), (True, 1))
        self.assertEqual(report["proxies"][0]["problem_list"],
                         [{"severity": "warning", "about": "values", "title": "Stored values do not open"}])
        done = subprocess.run([self.binary, "status", "--metrics-urls", self.url(proxy)], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertRegex(done.stdout, r"problems +1: its page says more.*\n +warning: Stored values do not open\n")
        proxy.stop()

    def test_plaintext_writes(self):
        """On the way back to plaintext: each resource is named, and nothing hangs behind identity."""
        config = self.configure("identity: {}", self.local("aesgcm", ("a", new_key())), resources="secrets, configmaps")
        proxy = self.env.proxy(self.etcd, config, name="a", flags=["--allow-identity-writes"])
        found = self.status(self.url(proxy), status=NOT_AS_WANTED)["proxies"][0]
        self.assertEqual(found["write_keys"], "identity")
        self.assertEqual([p["title"] for p in found["problem_list"]], ["New values of configmaps, secrets are stored as plaintext"])
        proxy.stop()

    def test_not_well(self):
        kms = self.env.kms("ill")
        proxy = self.env.proxy(self.etcd, self.configure(self.kms_provider(path=kms.path)), name="a")
        kms.stop()
        dead = self.env.proxy([f"http://127.0.0.1:{harness.free_port()}"], self.configure(self.kms_provider(), name="other"),
                              name="dead", wait=False)
        harness.wait_until(lambda: "listening" in dead.process.log(), 10, "proxy")
        report = self.status(self.url(dead), status=NOT_AS_WANTED)
        self.assertEqual((report["proxies"][0]["etcd_healthy"], report["proxies"][0]["ready"]), (False, False))
        harness.wait_until(lambda: not self.status_is_well(proxy), 90, "unhealthy plugin", step=1)
        proxy.stop()
        dead.stop()

    def status_is_well(self, proxy):
        done = subprocess.run([self.binary, "status", "--metrics-urls", self.url(proxy)], capture_output=True, timeout=60,
                              check=False)
        self.assertIn(done.returncode, (OK, NOT_AS_WANTED))
        return done.returncode == OK

    def test_who_else(self):
        """etcd has metrics, too, and is no proxy."""
        report = self.status(self.etcd.url, status=UNREACHABLE)
        self.assertIn("no etcd-envelope", report["proxies"][0]["error"])

    def test_usage(self):
        for flags in ([], ["--metrics-urls", "gopher://x"], ["--metrics-urls", ""], ["--metrics-urls"],
                      ["--metrics-urls", "http://127.0.0.1:1", "--output", "xml"], ["--nope"], ["http://127.0.0.1:1"]):
            done = subprocess.run([self.binary, "status", *flags], capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, USAGE, flags)
        done = subprocess.run([self.binary, "status", "--help"], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (OK, b""))


if __name__ == "__main__":
    harness.main()
