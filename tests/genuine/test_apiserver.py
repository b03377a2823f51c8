#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A genuine kube-apiserver with the proxy in front of etcd: does it notice? ENVELOPE_APISERVER names its binary, which
tests/genuine.sh builds; the rest is as in tests/e2e. E2E_COUNT: how many secrets (5,000)."""
import base64
import http.client
import json
import os
import pathlib
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from cluster_tool import ClusterTool, new_key  # noqa: E402
import harness  # noqa: E402
from harness import wait_until  # noqa: E402

COUNT = int(os.environ.get("E2E_COUNT", 5000))
PROTECTED = "secrets, configmaps, crontabs.stable.example.com"
SECRETS, MAPS = "/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/configmaps"
TABS = "/apis/stable.example.com/v1/namespaces/default/crontabs"
MARK = b"genuine-marker-"  # in every protected value, and nowhere in etcd's files
SLOW = 120  # seconds that only a failure takes
CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
       "metadata": {"name": "crontabs.stable.example.com"},
       "spec": {"group": "stable.example.com", "scope": "Namespaced",
                "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


class Refused(Exception):
    """An answer other than 2xx."""


class Apiserver:
    """kube-apiserver and a client of it. flags: what it is told besides."""

    def __init__(self, env, etcd_url, flags=()):
        self.env, self.port = env, harness.free_port()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        key, tokens = env.path("sa.key"), env.path("tokens.csv")
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
            tokens.write_text('token,admin,admin,"system:masters"\n')
        self.argv = [os.environ["ENVELOPE_APISERVER"], "--etcd-servers", etcd_url, "--bind-address", "127.0.0.1",
                     "--secure-port", self.port, "--cert-dir", env.path("apiserver"), "--token-auth-file", tokens,
                     "--authorization-mode", "AlwaysAllow", "--service-account-issuer", "https://kubernetes.default.svc",
                     "--service-account-signing-key-file", key, "--service-account-key-file", key,
                     "--service-cluster-ip-range", "10.0.0.0/24", "--disable-admission-plugins", "ServiceAccount",
                     "--endpoint-reconciler-type", "none", "--insecure-port", "0", *flags]
        self.start()

    def start(self):
        self.process = self.env.start("apiserver", self.argv)
        wait_until(self.is_ready, SLOW, "kube-apiserver", 0.2)

    def is_ready(self):
        if not self.process.alive():
            raise AssertionError(self.process.log()[-3000:])
        try:
            return self.request("GET", "/readyz")[0] == 200 and self.get("/api/v1/namespaces/default") is not None
        except (OSError, Refused, http.client.HTTPException):
            return False

    def connection(self, timeout=SLOW):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)

    def request(self, method, path, body=None, kind="application/json"):
        connection = self.connection()
        try:
            connection.request(method, path, body and json.dumps(body),
                               {"Authorization": "Bearer token", "Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method, path, body=None, **options):
        status, text = self.request(method, path, body, **options)
        if status >= 300:
            raise Refused(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text)

    def get(self, path):
        return self.call("GET", path)

    def list(self, path, limit=0, resource_version=None):
        """All objects by name, and the list's resourceVersion."""
        items, token = {}, ""
        while True:
            query = f"?limit={limit}" + (f"&continue={token}" if token else "")
            if resource_version is not None:
                query += f"&resourceVersion={resource_version}"
            page = self.get(path + query)
            for item in page["items"]:
                assert item["metadata"]["name"] not in items, item["metadata"]["name"]
                items[item["metadata"]["name"]] = item
            token = page["metadata"].get("continue", "")
            if not token:
                return items, page["metadata"]["resourceVersion"]

    def watch(self, path, resource_version, enough, timeout=SLOW):
        """Events from resource_version on, until enough(events)."""
        connection, events = self.connection(timeout), []
        try:
            connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=1&resourceVersion={resource_version}",
                               headers={"Authorization": "Bearer token"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Refused(f"watch {path}: {answer.status} {answer.read()[:300]}")
            while not enough(events):
                line = answer.readline()
                if not line:
                    raise AssertionError(f"the watch ended after {len(events)} events")
                events.append(json.loads(line))
            return events
        finally:
            connection.close()


def body(kind, name, value, version="v1"):
    metadata, text = {"name": name, "namespace": "default"}, MARK.decode() + value
    if kind == "Secret":
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata,
                "data": {"v": base64.b64encode(text.encode()).decode()}}
    if kind == "ConfigMap":
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {"v": text}}
    return {"apiVersion": "stable.example.com/v1", "kind": kind, "metadata": metadata, "spec": {"v": text}}


def value_of(item):
    if item.get("kind") == "CronTab" or "spec" in item:
        return item["spec"]["v"][len(MARK):]
    text = item["data"]["v"]
    return (text if text.startswith(MARK.decode()) else base64.b64decode(text).decode())[len(MARK):]


def in_shares(count, work, threads=8):
    """work(i) for each i below count, shared by threads."""
    def share(first):
        for i in range(first, count, threads):
            work(i)
    harness.in_threads(threads, share)


class Genuine(ClusterTool):
    def setUp(self):
        """An etcd for each test, whose files tell of that test alone."""
        self.name = self.id().split("_")[-1]
        self.etcd = self.env.etcd(name=self.name, flags=["--quota-backend-bytes", "8000000000"])
        self.raw = self.etcd.client
        super().setUp()

    def begin(self, *providers, flags=(), others=()):
        """others: more proxies, that the apiserver knows, too."""
        self.yaml = self.configure(*providers, resources=PROTECTED)
        self.proxy = self.env.proxy(self.etcd, self.yaml, wait=False)
        self.addCleanup(self.proxy.stop)
        wait_until(self.proxy_is_ready, SLOW, "the proxy")
        self.api = Apiserver(self.env, ",".join(f"http://127.0.0.1:{p.port}" for p in (self.proxy, *others)), flags)
        self.addCleanup(lambda: self.api.process.kill())
        self.api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        wait_until(lambda: self.serves(TABS), SLOW, "the custom resource")

    def proxy_is_ready(self):
        """Without the key that the harness writes, which is no Secret."""
        try:
            return harness.http_get(self.proxy.metrics_address, "/readyz")[0] == 200
        except OSError:
            return False

    def serves(self, path):
        return self.api.request("GET", path)[0] == 200

    def create_all(self, count):
        in_shares(count, lambda i: self.api.call("POST", SECRETS, body("Secret", f"s{i:05}", f"secret {i}")))
        for i in range(50):
            self.api.call("POST", MAPS, body("ConfigMap", f"m{i:02}", f"map {i}"))
            self.api.call("POST", TABS, body("CronTab", f"t{i:02}", f"tab {i}"))
        self.want = {SECRETS: {f"s{i:05}": f"secret {i}" for i in range(count)},
                     MAPS: {f"m{i:02}": f"map {i}" for i in range(50)}, TABS: {f"t{i:02}": f"tab {i}" for i in range(50)}}

    def check_all(self, of=(SECRETS, MAPS, TABS)):
        """Lists from etcd, by pages of two sizes and whole, and of the watch cache say what was written."""
        for path in of:
            quorum, _ = self.api.list(path)
            names = [n for n in quorum if n in self.want[path]]
            self.assertEqual({n: value_of(quorum[n]) for n in names}, self.want[path])
            for limit in (7 if len(names) < 100 else 499, 500):
                self.assertEqual(self.api.list(path, limit)[0], quorum)
            wait_until(lambda: self.api.list(path, resource_version=0)[0] == quorum, SLOW, f"cache of {path}")  # noqa: B023

    def check_etcd(self):
        """What is protected is sealed; the marker is in no file of etcd's."""
        sealed = 0
        for prefix in (b"/registry/secrets/", b"/registry/configmaps/", b"/registry/stable.example.com/crontabs/"):
            for kv in self.raw.get(prefix, prefix[:-1] + b"0").kvs:
                self.assertTrue(kv.value.startswith(b"k8s:enc:"), (kv.key, kv.value[:60]))
                sealed += 1
        self.assertGreaterEqual(sealed, sum(map(len, self.want.values())))
        self.assertTrue(self.raw.get(b"/registry/namespaces/default").kvs[0].value.startswith(b"k8s\0"))
        for file in pathlib.Path(self.etcd.data).rglob("*"):
            if file.is_file():
                self.assertNotIn(MARK, file.read_bytes(), file)
                self.assertNotIn(base64.b64encode(MARK)[:16], file.read_bytes(), file)

    def check_watch(self):
        """Each change is told once, in order, with what it was changed to."""
        _, since = self.api.list(SECRETS, 1)
        told = []
        for i in range(40):
            self.api.call("POST", SECRETS, body("Secret", f"w{i}", "created"))
            item = self.api.get(f"{SECRETS}/w{i}")
            item["data"] = body("Secret", "x", f"changed {i}")["data"]
            self.api.call("PUT", f"{SECRETS}/w{i}", item)
            self.api.call("DELETE", f"{SECRETS}/w{i}")
            told += [("ADDED", f"w{i}", "created"), ("MODIFIED", f"w{i}", f"changed {i}"), ("DELETED", f"w{i}", f"changed {i}")]
        events = [e for e in self.api.watch(SECRETS, since, lambda all_: sum(e["type"] != "BOOKMARK" for e in all_) == len(told))
                  if e["type"] != "BOOKMARK"]
        self.assertEqual([(e["type"], e["object"]["metadata"]["name"], value_of(e["object"])) for e in events], told)
        versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
        self.assertEqual(versions, sorted(set(versions)))

    def check_conflicts(self):
        """Optimistic concurrency: of writers who read the same version one wins."""
        self.api.call("POST", MAPS, body("ConfigMap", "counter", "0"))

        def add(_):
            while True:
                item = self.api.get(f"{MAPS}/counter")
                item["data"] = body("ConfigMap", "x", str(int(value_of(item)) + 1))["data"]
                if self.api.request("PUT", f"{MAPS}/counter", item)[0] == 200:
                    return
        in_shares(60, add, 6)
        self.assertEqual(value_of(self.api.get(f"{MAPS}/counter")), "60")
        patched = self.api.call("PATCH", f"{MAPS}/counter", {"data": {"other": "x"}}, kind="application/merge-patch+json")
        self.assertEqual(patched["data"]["other"], "x")
        self.assertEqual(self.api.request("POST", MAPS, body("ConfigMap", "counter", "0"))[0], 409)
        self.api.call("DELETE", f"{MAPS}/counter")
        self.assertEqual(self.api.request("GET", f"{MAPS}/counter")[0], 404)

    def write_on(self, number, stop, last, rng):
        """A client that repeats what was refused, and keeps book of what was acknowledged."""
        mark = 0
        while not stop.is_set():
            name, mark = f"writer{number}-{rng.randrange(20)}", mark + 1
            try:
                status, text = self.api.request("GET", f"{SECRETS}/{name}")
                if status == 404:
                    status, text = self.api.request("POST", SECRETS, body("Secret", name, str(mark)))
                elif status == 200:
                    item = json.loads(text)
                    if name in last and int(value_of(item)) < last[name]:
                        self.problems.append(f"{name}: {value_of(item)} after {last[name]}")
                    item["data"] = body("Secret", name, str(mark))["data"]
                    status, text = self.api.request("PUT", f"{SECRETS}/{name}", item)
                if status in (200, 201):
                    last[name] = mark
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    def during_writes(self, what, seconds=5):
        """Runs what() beside writers; afterwards nothing acknowledged is missing."""
        self.problems, stop, last = [], threading.Event(), [{}, {}, {}]
        threads = [threading.Thread(target=self.write_on, args=(i, stop, last[i], random.Random(i))) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: all(len(book) > 5 for book in last), SLOW, "writers")
            what()
            marks = [max(book.values()) for book in last]
            wait_until(lambda: all(max(b.values()) > m for b, m in zip(last, marks)), SLOW, "writers go on")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(self.problems, [])
        items, _ = self.api.list(SECRETS)
        for book in last:
            for name, mark in book.items():
                self.assertGreaterEqual(int(value_of(items[name])), mark, name)
        for book in last:
            for name in book:
                self.api.call("DELETE", f"{SECRETS}/{name}")

    def restart_proxy(self):
        self.proxy.stop()
        self.proxy.start(wait=False)
        wait_until(self.proxy_is_ready, SLOW, "the proxy")

    def rotate(self):
        """The plugin's key. It is looked at once a minute, and when another configuration is taken over."""
        self.kms.key_id = "key-2"
        self.configure(self.kms_provider(timeout="10s"), "identity: {}", resources=PROTECTED)
        before = self.proxy.metric("etcd_envelope_reload_successes_total")
        self.proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.proxy.metric("etcd_envelope_reload_successes_total") > before, SLOW, "reload")
        self.tool("reencrypt", self.yaml, "--rate", "0")

    def check_compaction(self):
        """What is compacted is 410 Gone, as with etcd, and a list begun anew works."""
        first = self.api.get(SECRETS + "?limit=10")
        self.api.call("PATCH", f"{SECRETS}/s00000", {"metadata": {"labels": {"a": "b"}}}, kind="application/merge-patch+json")
        revision = self.raw.get(b"x").header.revision
        self.raw.compact(revision)
        status, text = self.api.request("GET", f"{SECRETS}?limit=10&continue={first['metadata']['continue']}")
        self.assertEqual(status, 410, text)
        # Without the cache's help: a list at an exact version.
        status, text = self.api.request("GET", f"{SECRETS}?limit=10&resourceVersion={revision - 1}&resourceVersionMatch=Exact")
        self.assertEqual(status, 410, text)

    def test_a_clusters_life(self):
        self.begin(self.kms_provider(timeout="10s"), flags=["--etcd-compaction-interval", "30s"])
        self.create_all(COUNT)
        self.check_all()
        self.check_watch()
        self.check_conflicts()
        self.check_etcd()
        with self.subTest("restart of the apiserver"):
            self.assertEqual(self.api.process.term(60), 0)
            self.api.start()
            self.check_all()
        with self.subTest("the proxy killed and started again"):
            self.during_writes(self.restart_proxy)
            self.check_all()
            self.check_watch()
        with self.subTest("etcd killed and started again"):
            self.during_writes(lambda: (self.etcd.stop(), self.etcd.start()))
            self.raw = self.etcd.client
            self.check_all()
        with self.subTest("rotation"):
            _, since = self.api.list(SECRETS, 1)
            self.during_writes(self.rotate)
            self.assertEqual([k["state"] for r in self.verify(self.yaml)["resources"] for k in r["keys"]],
                             ["current key"] * 3)
            events = self.api.watch(SECRETS, since, lambda e: len({x["object"]["metadata"]["name"] for x in e
                                                                   if x["type"] == "MODIFIED"} & set(self.want[SECRETS])) == COUNT)
            self.assertNotIn("ERROR", {e["type"] for e in events})
            self.check_all()
        with self.subTest("compaction"):
            self.check_compaction()
            self.check_all()
            self.check_watch()
        self.check_etcd()
        self.assertEqual(self.proxy.metric("etcd_envelope_decryption_failures_total") or 0, 0)

    def test_large_lists(self):
        """Lists of 50 MiB by several at a time, none of them helped by the cache."""
        self.begin(self.kms_provider(timeout="10s"))
        size, self.want = 850 * 1024, {SECRETS: {}}
        for i in range(60):
            self.want[SECRETS][f"l{i:02}"] = f"{i:02}" * (size // 2)
        in_shares(60, lambda i: self.api.call("POST", SECRETS, body("Secret", f"l{i:02}", self.want[SECRETS][f"l{i:02}"])), 4)
        in_shares(6, lambda i: self.check_list(500 if i % 2 else 0), 3)
        self.check_etcd()
        self.assertLess(self.proxy.process.peak_mib(), 240)

    def check_list(self, limit):
        items, _ = self.api.list(SECRETS, limit)
        self.assertEqual({n: value_of(i) for n, i in items.items()} == self.want[SECRETS], True)

    def test_two_proxies(self):
        """One of two goes for good, then the other is started anew."""
        provider = self.kms_provider(timeout="10s")
        other = self.env.proxy(self.etcd, self.configure(provider, resources=PROTECTED), name="other", wait=False)
        self.begin(provider, others=[other])
        self.create_all(100)
        self.during_writes(other.stop)
        self.check_all()
        self.during_writes(self.restart_proxy)
        self.check_all()
        self.check_watch()
        self.check_etcd()

    def check_moves(self, kind, *keys):
        """What kube-apiserver itself sealed is read through the proxy, and the other way round."""
        count = min(COUNT, 200)
        self.begin(self.local(kind, *keys))
        self.create_all(count)
        self.check_etcd()
        self.api.process.term(60)
        native = Apiserver(self.env, self.etcd.url, ["--encryption-provider-config", str(self.yaml)])
        self.addCleanup(lambda: native.process.kill())
        through, self.api = self.api, native
        self.check_all((SECRETS, MAPS))  # kube-apiserver encrypts custom resources since 1.26 only
        for i in range(count):
            native.call("PUT", f"{SECRETS}/s{i:05}", body("Secret", f"s{i:05}", f"native {i}"))
        native.process.term(60)
        self.want[SECRETS] = {f"s{i:05}": f"native {i}" for i in range(count)}
        self.api = through
        through.start()
        self.check_all()
        self.check_etcd()

    def test_moves_secretbox(self):
        self.check_moves("secretbox", ("k1", new_key()))

    def test_moves_aescbc(self):
        self.check_moves("aescbc", ("k1", new_key()))

    def test_moves_aesgcm(self):
        self.check_moves("aesgcm", ("k1", new_key()))


if __name__ == "__main__":
    if "ENVELOPE_APISERVER" not in os.environ:
        raise unittest.SkipTest("ENVELOPE_APISERVER names no kube-apiserver")
    harness.main()
