#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""etcdctl, a clientv3 program, through the proxy: as it behaves with etcd itself."""
import json
import os
import re
import subprocess
import time

import harness  # first: it sets the path to tests/fake
from harness import DIRECT, wait_until

VALUE = "open sesame"


class Etcdctl(harness.E2E):
    def run_ctl(self, *arguments, stdin="", check=True, endpoint=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        environment["ETCDCTL_API"] = "3"
        done = subprocess.run([harness.etcd_program("etcdctl"), "--endpoints", endpoint or self.target, *arguments],
                              input=stdin, capture_output=True, text=True, timeout=30, env=environment)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def ctl(self, *arguments, **options):
        return self.run_ctl(*arguments, **options).stdout.rstrip("\n")

    def background(self, *arguments):
        path = self.env.path(f"{self.name}-{len(self.env.processes)}.out")
        process = harness.Process([harness.etcd_program("etcdctl"), "--endpoints", self.target, *arguments], path,
                                  {"ETCDCTL_API": "3"})
        self.addCleanup(process.kill)
        return process

    def test_put_get_del(self):
        key = self.secret().decode()
        self.assertEqual(self.ctl("put", key, VALUE), "OK")
        self.assertSealed(self.secret(), VALUE.encode())
        self.assertEqual(self.ctl("get", key, "--print-value-only"), VALUE)
        self.assertEqual(self.ctl("put", key, "new", "--prev-kv").splitlines(), ["OK", key, VALUE])
        self.assertEqual(self.ctl("get", key, "--print-value-only", "--consistency", "s"), "new")
        self.assertEqual(self.ctl("del", key, "--prev-kv").splitlines(), ["1", key, "new"])
        self.assertEqual(self.ctl("get", key), "")

    def test_value_by_stdin_and_prefix(self):
        for i in range(5):
            self.ctl("put", self.secret(str(i)).decode(), stdin=f"{VALUE} {i}")
        prefix = self.secret("").decode()
        self.assertEqual(self.ctl("get", prefix, "--prefix", "--print-value-only").split("\n"),
                         [f"{VALUE} {i}" for i in range(5)])
        self.assertEqual(self.ctl("get", prefix, "--prefix", "--keys-only").split(),
                         [self.secret(str(i)).decode() for i in range(5)])
        if "--count-only" in self.ctl("get", "--help"):  # since 3.5
            self.assertIn('"Count" : 5', self.ctl("get", prefix, "--prefix", "--count-only", "--write-out", "fields"))
        self.assertEqual(len(json.loads(self.ctl("get", prefix, "--prefix", "--limit", "2", "-w", "json"))["kvs"]), 2)
        self.assertEqual(self.ctl("del", prefix, "--prefix"), "5")

    def test_txn(self):
        key = self.secret().decode()
        self.ctl("put", key, VALUE)
        answer = self.ctl("txn", stdin=f'version("{key}") = "1"\n\nput {key} changed\nget {key}\n\nget {key}\n\n')
        self.assertEqual(answer.split()[:1], ["SUCCESS"])
        self.assertIn("changed", answer)
        self.assertSealed(self.secret(), b"changed")
        answer = self.ctl("txn", stdin=f'version("{key}") = "1"\n\nput {key} never\n\nget {key}\n\n')
        self.assertEqual(answer.split()[0], "FAILURE")
        self.assertIn("changed", answer)
        refused = self.run_ctl("txn", stdin=f'value("{key}") = "changed"\n\nput {key} never\n\n\n', check=False)
        if not DIRECT:
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("InvalidArgument", refused.stderr)

    def test_watch(self):
        prefix = self.secret("").decode()
        watch = self.background("watch", prefix, "--prefix", "--prev-kv")
        time.sleep(0.5)
        self.ctl("put", prefix + "a", VALUE)
        self.ctl("put", prefix + "a", "second")
        self.ctl("del", prefix + "a")
        wait_until(lambda: watch.log().count("DELETE") == 1, 10, "events")
        wait_until(lambda: watch.log().split().count("second") == 2, 5, "the last prev_kv")
        lines = watch.log().split()
        self.assertEqual([w for w in lines if w in ("PUT", "DELETE")], ["PUT", "PUT", "DELETE"])
        self.assertIn("open", lines)

    def test_watch_from_a_revision(self):
        key = self.secret().decode()
        first = json.loads(self.ctl("put", key, "r1", "-w", "json"))["header"]["revision"]
        self.ctl("put", key, "r2")
        watch = self.background("watch", key, "--rev", str(first))
        wait_until(lambda: watch.log().split() == ["PUT", key, "r1", "PUT", key, "r2"], 10, "both events")

    def test_lease(self):
        lease = re.search(r"lease ([0-9a-f]+) granted", self.ctl("lease", "grant", "50")).group(1)
        self.ctl("put", self.secret().decode(), VALUE, "--lease", lease)
        self.assertIn(self.secret().decode(), self.ctl("lease", "timetolive", lease, "--keys"))
        self.assertIn("keepalived", self.ctl("lease", "keep-alive", "--once", lease))
        self.assertIn(lease, self.ctl("lease", "list"))
        self.assertIn("revoked", self.ctl("lease", "revoke", lease))
        self.assertEqual(self.ctl("get", self.secret().decode()), "")

    def test_members_and_endpoints(self):
        members = json.loads(self.ctl("member", "list", "-w", "json"))["members"]
        self.assertEqual(members[0]["clientURLs"], [f"http://{self.target}"])
        status = json.loads(self.ctl("endpoint", "status", "--cluster", "-w", "json"))
        self.assertEqual([s["Endpoint"] for s in status], [f"http://{self.target}"])
        self.assertIn("is healthy", self.run_ctl("endpoint", "health").stdout + self.run_ctl("endpoint", "health").stderr)
        self.assertEqual(self.ctl("endpoint", "hashkv", "-w", "json").count("Endpoint"), 1)
        self.assertIn("Finished defragmenting", self.ctl("defrag"))
        self.assertEqual(self.ctl("alarm", "list"), "")

    def test_lock_and_election_on_unprotected_keys(self):
        """etcdctl's are made of KV and leases (the concurrency package)."""
        name = self.plain("lock").decode()
        answer = self.ctl("lock", name, "echo", "inside")
        self.assertIn("inside", answer)
        elect = self.background("elect", self.plain("elect").decode(), "me")
        wait_until(lambda: "me" in elect.log(), 10, "leadership")
        observe = self.background("elect", "--listen", self.plain("elect").decode())
        wait_until(lambda: "me" in observe.log(), 10, "observation")

    def test_lock_on_a_protected_key(self):
        self.assertIn("inside", self.ctl("lock", self.secret("lock").decode(), "echo", "inside"))

    def test_snapshot(self):
        self.ctl("put", self.secret().decode(), VALUE * 3)
        path = self.env.path("snapshot.db")
        self.ctl("snapshot", "save", str(path))
        data = path.read_bytes()
        self.assertIn(self.secret(), data)
        if not DIRECT:
            self.assertNotIn(VALUE.encode(), data)

    def test_compaction_and_history(self):
        key = self.secret().decode()
        first = json.loads(self.ctl("put", key, "one", "-w", "json"))["header"]["revision"]
        last = json.loads(self.ctl("put", key, "two", "-w", "json"))["header"]["revision"]
        self.assertEqual(self.ctl("get", key, "--rev", str(first), "--print-value-only"), "one")
        self.ctl("compact", str(last))
        failed = self.run_ctl("get", key, "--rev", str(first), check=False)
        self.assertIn("required revision has been compacted", failed.stderr)

    def test_check_perf(self):
        if not harness.LONG:
            self.skipTest("takes a minute")
        self.assertIn("PASS", self.ctl("check", "perf", "--prefix", self.secret("perf").decode()))


class Auth(harness.E2E):
    """Users and tokens pass through; a class of its own, since it changes etcd."""

    def test_token_auth(self):
        ctl = Etcdctl.run_ctl
        run = lambda *a, **k: ctl(self, *a, **k)  # noqa: E731
        run("user", "add", "root:rootpw")
        run("user", "grant-role", "root", "root")
        run("user", "add", "jo:jopw")
        run("role", "add", "reader")
        run("role", "grant-permission", "reader", "read", "/registry/secrets/", "--prefix")
        run("user", "grant-role", "jo", "reader")
        run("auth", "enable")
        try:
            self.assertIn("user name is empty", run("get", "x", check=False).stderr)
            run("--user", "root:rootpw", "put", "/registry/secrets/auth", VALUE)
            self.assertIn(VALUE, run("--user", "jo:jopw", "get", "/registry/secrets/auth").stdout)
            self.assertIn("permission denied", run("--user", "jo:jopw", "put", "/registry/secrets/auth", "x",
                                                   check=False).stderr)
            self.assertIn("authentication failed", run("--user", "jo:wrong", "get", "x", check=False).stderr)
        finally:
            run("--user", "root:rootpw", "auth", "disable")


if __name__ == "__main__":
    harness.main()
