#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""/statusz of the metrics listener: does it say what is protected by what, what is not well and what to do, and never a
secret? Its fields are those that README.md lists."""
import base64
import datetime
import http.client
import json
import os
import re
import signal

import harness
from harness import http_get, wait_until
from test_health import VALUE, sha256

FIGURES = {"calls_per_second", "failed_per_second", "sealed_per_second", "opened_per_second", "added_p50_ms",
           "added_p99_ms"}


def fields(value, path=""):
    """The names of all members, as a.b.c; [] stands behind those of arrays."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield f"{path}{name}"
            yield from fields(member, f"{path}{name}.")
    elif isinstance(value, list):
        for member in value:
            yield from fields(member, path[:-1] + "[].")


class Statusz(harness.E2E):
    needs_proxy = True

    def get(self, proxy=None):
        status, body = http_get((proxy or self.proxy).metrics_address, "/statusz", timeout=20)
        self.assertEqual(status, 200)
        return json.loads(body)

    def wait_for(self, condition, what, proxy=None, timeout=30):
        """The first status that fulfils the condition."""
        found = []

        def look():
            found[:] = [self.get(proxy)]
            return condition(found[0])
        try:
            wait_until(look, timeout, what, step=0.2)
        except AssertionError as problem:
            self.fail(f"{problem}: {json.dumps(found)[:3000]}")
        return found[0]

    def problem(self, status, about):
        found = [p for p in status["problems"] if p["about"] == about]
        self.assertEqual(len(found), 1, status["problems"])
        self.assertIn(found[0]["title"], status["summary"])
        for name in ("title", "effect", "advice"):
            self.assertTrue(found[0][name], found[0])
        return found[0]

    def assertTime(self, text, delta=120):
        when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        now = datetime.datetime.now(datetime.timezone.utc)
        self.assertLess(abs((when - now).total_seconds()), delta, text)


class Well(Statusz):
    def test_head(self):
        """No one keeps it, and it is taken for nothing else; HEAD has the same head."""
        for method in ("GET", "HEAD"):
            connection = http.client.HTTPConnection(*self.proxy.metrics_address, timeout=20)
            connection.request(method, "/statusz")
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.getheader("content-type"), answer.getheader("cache-control"),
                              answer.getheader("x-content-type-options")),
                             (200, "application/json", "no-store", "nosniff"))
            self.assertGreater(int(answer.getheader("content-length")), 500)
            self.assertEqual(bool(answer.read()), method == "GET")
            connection.close()

    def test_all_is_well(self):
        status = self.get()
        self.assertEqual((status["status"], status["summary"], status["problems"]), ("well", "All is well", []))
        self.assertTime(status["time"])
        self.assertEqual(status["etcd"], {"healthy": True, "reason": None, "endpoints": [
            {"url": self.etcd.url, "healthy": True, "reason": None}]})
        plugin = status["kms"][0]
        self.assertTime(plugin.pop("writes_until"), 400)
        self.assertEqual(status["kms"], [{
            "name": "test", "version": "v2", "endpoint": f"unix://{self.kms.path}", "healthy": True, "reason": None,
            "key_id_hash": sha256(b"key-1")}])
        self.assertEqual(status["protection"], [{
            "resources": [{"resource": r, "prefix": f"/registry/{r}", "unknown_kinds": False}
                          for r in ("configmaps", "secrets")],
            "writes": {"provider": "kms", "version": "v2", "name": "test", "key_id_hash": sha256(b"key-1")},
            "reads_only": []}])
        self.assertIsNone(status["coverage"])
        configuration = status["configuration"]
        self.assertEqual(configuration, {
            "file": str(self.config), "hash": sha256(self.config.read_bytes()), "automatic_reload": False,
            "in_force": True, "last_reload": None})
        self.assertEqual(status["certificates"], [])
        self.assertEqual(status["process"]["host"], os.uname().nodename)
        self.assertTime(status["process"]["started"], 600)
        self.assertGreaterEqual(status["process"]["connections"], 1)
        self.assertGreater(status["process"]["connection_limit"], status["process"]["connections"])
        self.assertGreater(status["memory"]["resident_bytes"], 1 << 20)
        self.assertLess(status["memory"]["held_bytes"], status["memory"]["limit_bytes"])

    def test_documented(self):
        """README lists the fields, and no others."""
        text = (harness.ROOT / "README.md").read_text()
        table = text.split("## Fields of /statusz")[1].split("\n## ")[0]
        listed = set()
        for row in re.findall(r"^\| (`.*?) \|", table, re.M):
            listed.update(re.findall(r"`([a-z0-9_.\[\]]+)`", row))
        have = {f for f in fields(self.get()) if not f.startswith("refusals.")}
        self.assertEqual(have - listed, set())
        # What is only there sometimes.
        rest = {f for f in listed - have if not f.startswith((
            "problems[].", "coverage.", "configuration.last_reload.", "certificates[].", "protection[].reads_only[]."))}
        self.assertEqual(rest, {"protection[].writes.key"})

    def test_traffic(self):
        before = self.get()["traffic"]["since_start"]
        for i in range(20):
            self.client.put(self.secret(str(i)), VALUE)
        self.client.list(self.secret(""))
        status = self.wait_for(lambda s: s["traffic"]["since_start"]["sealed"] >= before["sealed"] + 20
                               and s["traffic"]["since_start"]["calls"] >= before["calls"] + 21
                               and len(s["traffic"]["history"]["age_seconds"]) >= 2
                               and max(s["traffic"]["history"]["sealed_per_second"]) > 0, "traffic")
        self.assertGreaterEqual(status["traffic"]["since_start"]["opened"], before["opened"] + 20)
        minute, history = status["traffic"]["last_minute"], status["traffic"]["history"]
        self.assertEqual(set(minute), FIGURES | {"seconds"})
        self.assertGreater(minute["calls_per_second"], 0)
        self.assertLessEqual(0 < minute["added_p50_ms"] and minute["added_p50_ms"], minute["added_p99_ms"])
        self.assertEqual(set(history), FIGURES | {"age_seconds"})
        self.assertEqual({len(column) for column in history.values()}, {len(history["age_seconds"])})
        ages = history["age_seconds"]
        self.assertEqual(ages, sorted(ages, reverse=True))
        self.assertLessEqual(len(ages), 150)
        for calls, p50, p99 in zip(history["calls_per_second"], history["added_p50_ms"], history["added_p99_ms"]):
            self.assertGreaterEqual(calls, 0)
            self.assertEqual(p50 is None, p99 is None)
            self.assertTrue(p50 is None or p50 <= p99)

    def test_refusals(self):
        self.assertStatus(harness.Code.INVALID_ARGUMENT, self.client.put, b"", b"x")
        self.wait_for(lambda s: s["refusals"].get("empty_key", 0) >= 1, "refusal")


class Ill(Statusz):
    """Every test has its own plugin and proxy."""

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def setUp(self):
        super().setUp()
        self.kms = self.env.kms(name=self.name[:30])
        self.addCleanup(self.kms.stop)
        self.config = self.env.config(self.kms.path, name=self.name + ".yaml", timeout="1s")

    def start_proxy(self, servers=None, config=None, **options):
        proxy = self.env.proxy(servers or self.etcd, config or self.config, name=self.name, **options)
        self.addCleanup(proxy.stop)

        def listens():
            try:
                return http_get(proxy.metrics_address, "/livez")[0] == 200
            except OSError:
                return False
        wait_until(listens, 15, "listening proxy")
        return proxy

    def test_plugin_never_there(self):
        self.kms.stop()
        proxy = self.start_proxy(wait=False)
        status = self.wait_for(lambda s: s["status"] == "failing", "failing status", proxy)
        problem = self.problem(status, "kms")
        self.assertEqual((problem["severity"], problem["title"]), ("failing", "KMS plugin test is not well"))
        self.assertIn("cannot be written", problem["effect"])
        self.assertIn("connect: ", problem["reason"])
        self.assertIn(f"unix://{self.kms.path}", problem["advice"])
        plugin = status["kms"][0]
        self.assertEqual((plugin["healthy"], plugin["key_id_hash"], plugin["writes_until"]), (False, None, None))
        self.assertIn("connect: ", plugin["reason"])
        self.assertIsNone(status["protection"][0]["writes"]["key_id_hash"])
        self.kms.start()
        self.wait_for(lambda s: s["status"] == "well", "recovery", proxy)

    def test_plugin_that_says_it_is_unwell(self):
        """A name with markup, quotes and more in it, and words of the plugin's: JSON stays JSON."""
        self.kms.healthz = 'a "disk" is\n<b>full</b> \\ \u00e9'
        proxy = self.start_proxy(wait=False)
        status = self.wait_for(lambda s: s["status"] != "well", "warning", proxy)
        self.assertIn("<b>full</b> \\", self.problem(status, "kms")["reason"])

    def test_endpoints(self):
        """One of two away is a warning that names it, both are a failure."""
        mortal = self.env.etcd(name="mortal")
        dead = f"http://127.0.0.1:{harness.free_port()}"
        proxy = self.start_proxy(servers=[dead, mortal.url])
        status = self.wait_for(lambda s: s["etcd"]["endpoints"][0]["healthy"] is False, "dead endpoint", proxy)
        self.assertEqual((status["status"], status["etcd"]["healthy"]), ("warning", True))
        self.assertEqual(status["etcd"]["endpoints"][1], {"url": mortal.url, "healthy": True, "reason": None})
        self.assertEqual(self.problem(status, "etcd")["title"], f"etcd does not answer at {dead}")
        mortal.process.kill()
        status = self.wait_for(lambda s: s["status"] == "failing", "failing status", proxy)
        self.assertFalse(status["etcd"]["healthy"])
        self.assertIn("Connection refused", self.problem(status, "etcd")["reason"])
        self.assertEqual([e["healthy"] for e in status["etcd"]["endpoints"]], [False, False])
        mortal.start()
        self.wait_for(lambda s: s["etcd"]["endpoints"][1]["healthy"], "etcd's return", proxy)

    def test_local_keys_and_readers(self):
        """What seals, what only reads, what is left out: by names alone."""
        secrets = [base64.b64encode(os.urandom(32)).decode() for _ in range(3)]
        config = self.env.path(self.name + "-local.yaml")
        config.write_text(f"""apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aesgcm: {{keys: [{{name: first, secret: {secrets[0]}}}, {{name: second, secret: {secrets[1]}}}]}}
      - secretbox: {{keys: [{{name: third, secret: {secrets[2]}}}]}}
      - kms: {{apiVersion: v2, name: test, endpoint: 'unix://{self.kms.path}'}}
      - identity: {{}}
  - resources: [configmaps]
    providers: [identity: {{}}]
""")
        proxy = self.start_proxy(config=config)
        status = self.wait_for(lambda s: s["kms"][0]["healthy"], "plugin", proxy)
        body = json.dumps(status)
        for secret in secrets + ["key-1"]:
            self.assertNotIn(secret, body.replace("key-1.", ""))

        def way(provider, version, key):
            return {"provider": provider, "version": version, "name": None, "key": key}
        by_name = {g["resources"][0]["resource"]: g for g in status["protection"]}
        self.assertEqual(by_name["secrets"]["writes"], way("aesgcm", "v1", "first"))
        self.assertEqual(by_name["secrets"]["reads_only"], [
            way("aesgcm", "v1", "second"), way("secretbox", "v1", "third"),
            {"provider": "kms", "version": "v2", "name": "test", "key_id_hash": sha256(b"key-1")},
            way("identity", None, None)])
        self.assertEqual((by_name["configmaps"]["writes"], by_name["configmaps"]["reads_only"]), (None, []))

    def test_reload(self):
        proxy = self.start_proxy()
        good = self.config.read_text()
        self.config.write_text("nonsense")
        proxy.process.signal(signal.SIGHUP)
        status = self.wait_for(lambda s: s["configuration"]["last_reload"], "reload", proxy)
        reload = status["configuration"]["last_reload"]
        self.assertTime(reload["time"])
        self.assertEqual(reload["result"], "failure")
        self.assertTrue(reload["error"])
        self.assertFalse(status["configuration"]["in_force"])
        self.assertEqual((status["status"], self.problem(status, "configuration")["reason"]),
                         ("warning", reload["error"]))
        self.config.write_text(good + "# changed\n")
        proxy.process.signal(signal.SIGHUP)
        status = self.wait_for(lambda s: s["status"] == "well", "new configuration", proxy)
        self.assertEqual(status["configuration"]["last_reload"]["result"], "success")
        self.assertIsNone(status["configuration"]["last_reload"]["error"])
        self.assertEqual(status["configuration"]["hash"], sha256(self.config.read_bytes()))

    def test_unreadable_values(self):
        proxy = self.start_proxy()
        self.raw.put(self.secret(), b"k8s:enc:kms:v2:other:xx")
        self.assertStatus(harness.Code.DATA_LOSS, proxy.client.get, self.secret())
        status = self.wait_for(lambda s: s["status"] == "warning", "warning", proxy)
        self.assertEqual(self.problem(status, "values")["title"], "Stored values do not open")


class Secured(Statusz):
    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.etcd = cls.env.etcd(tls=cls.tls)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        path = cls.tls.path
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, tls=cls.tls, flags=[
            "--cert-file", path("server.crt"), "--key-file", path("server.key"), "--trusted-ca-file", path("ca.crt"),
            "--etcd-cafile", path("ca.crt"), "--etcd-certfile", path("client.crt"), "--etcd-keyfile",
            path("client.key")])

    def test_certificates(self):
        """Those of the tests end in 2 days: a warning for each."""
        status = self.get()
        self.assertEqual([c["certificate"] for c in status["certificates"]], ["server", "etcd_client"])
        for certificate in status["certificates"]:
            self.assertAlmostEqual(certificate["seconds_left"], 2 * 86400, delta=600)
        self.assertEqual([p["about"] for p in status["problems"]], ["certificate"] * 2)
        self.assertEqual(status["status"], "warning")
        self.assertIn(str(self.tls.path("server.crt")), status["problems"][0]["advice"])

    def test_files_that_cannot_be_used(self):
        good = self.tls.path("server.crt").read_bytes()
        self.tls.path("server.crt").write_bytes(b"nonsense")
        status = self.wait_for(lambda s: len(s["problems"]) == 3, "warning")
        problem = status["problems"][2]
        self.assertEqual(problem["title"], "TLS files have changed and cannot be used")
        self.assertIn("server.crt", problem["reason"])
        self.tls.path("server.crt").write_bytes(good)
        self.wait_for(lambda s: len(s["problems"]) == 2, "old file")


if __name__ == "__main__":
    harness.main()
