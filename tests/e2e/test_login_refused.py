#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve before an etcd that refuses what the proxy asks on its own account: is it said once and shown, are clients served all
the same, and does it go on by itself when etcd does not refuse any more?"""
import json
import os
import re
import signal

from cluster_tool import ERROR, NOT_AS_WANTED, OK, PREFIX, USAGE
import harness
from harness import http_get, wait_until
from secured import KNOWN, NOT_TAKEN, OWN, PLACE, Login


class Refused(Login):
    def test_wrong_password(self):
        """Said once, shown, nobody is disturbed; the right one is taken at SIGHUP, and all goes on by itself."""
        self.fill(20)
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}", password="wrong")
        self.says(proxy, "proxy: etcdserver: authentication failed, invalid user ID or password")
        problem, = [p for p in self.problems(proxy) if p["about"] == "etcd"]
        self.assertEqual(problem["severity"], "warning")
        self.assertIn("invalid user ID or password", problem["reason"])
        self.assertIn("--etcd-password-file", problem["advice"])
        self.assertEqual(http_get(proxy.metrics_address, "/readyz")[0], 200)
        self.password(OWN)
        proxy.process.signal(signal.SIGHUP)
        self.converged(proxy, 20, b"k8s:enc:aesgcm:v1:a:")
        self.assertEqual([], self.problems(proxy))
        self.assertEqual(len(self.lines(proxy, NOT_TAKEN)), 1)

    def test_password_file_goes_wrong(self):
        """The old password stays."""
        self.enable()
        proxy = self.begin_proxy(self.a)
        self.says(proxy, KNOWN)
        self.password("two\nlines")
        self.says(proxy, "--etcd-password-file cannot be used")
        self.assertIn("one line", " ".join(p["reason"] for p in self.problems(proxy)))
        self.password(OWN)
        wait_until(lambda: self.problems(proxy) == [], 30, "it is well again")
        self.assertEqual(len(self.lines(proxy, "--etcd-password-file cannot be used")), 1)

    def test_password_file_becomes_a_pipe(self):
        """It is not waited for, and said."""
        self.enable()
        proxy = self.begin_proxy(self.a)
        self.says(proxy, KNOWN)
        path = self.env.path(self.name + ".password")
        pipe = path.with_suffix(".pipe")
        os.mkfifo(pipe, 0o600)
        os.replace(pipe, path)
        proxy.process.signal(signal.SIGHUP)
        self.says(proxy, "is a pipe or a device now")
        self.password(OWN)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.problems(proxy) == [], 30, "it is well again")

    def test_refused_while_rewriting(self):
        """It goes on as soon as etcd takes the user again, not when etcd's space would be looked at again."""
        self.fill(200)
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}", flags=["--converge", 20])
        self.says(proxy, KNOWN)
        wait_until(lambda: self.sealed() > 0, 30, "the first are rewritten")
        self.password("wrong")
        proxy.process.signal(signal.SIGHUP)
        self.says(proxy, NOT_TAKEN)
        self.says(proxy, "a pass has failed")
        self.password(OWN)
        proxy.process.signal(signal.SIGHUP)
        self.converged(proxy, 200, b"k8s:enc:aesgcm:v1:a:")
        wait_until(lambda: http_get(proxy.metrics_address, "/healthz/converge")[0] == 200, 30, "converge is well")

    def sealed(self):
        out = self.etcd.etcdctl("get", "--prefix", PREFIX.decode(), "--print-value-only", check=False).stdout
        return out.count(b"k8s:enc:aesgcm:v1:a:")

    def test_missing_permission(self):
        """Each thing that is refused is said once, although it is tried again and again."""
        self.fill(20)
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}", user="nothing", flags=["--log-level", "debug"])
        self.says(proxy, "debug converge: the lease has ended", 60)
        warnings = [re.sub(r"^\S+ ", "", line) for line in proxy.process.log().splitlines() if " warn " in line or " error " in line]
        self.assertEqual(sorted(warnings), sorted(set(warnings)))
        self.assertIn("permission denied", " ".join(warnings))
        self.assertIn("permission denied", " ".join(p["reason"] for p in self.problems(proxy)))
        self.addCleanup(self.etcd.etcdctl, "user", "revoke-role", "nothing", "proxy", user=False)
        self.etcd.etcdctl("user", "grant-role", "nothing", "proxy")
        proxy.process.signal(signal.SIGHUP)
        self.converged(proxy, 20, b"k8s:enc:aesgcm:v1:a:")
        wait_until(lambda: self.problems(proxy) == [], 30, "it is well")

    def test_nobody(self):
        """Without --etcd-user: clients are served, with their tokens; what the proxy cannot see is said, with what to do."""
        self.enable()
        proxy = self.begin_proxy(self.a, user=None, converge=False)
        proxy.process.signal(signal.SIGHUP)
        self.says(proxy, "whether all stored values open is not known")
        self.assertIn("--etcd-user", self.lines(proxy, "whether all stored values open is not known")[0])
        problem, = self.problems(proxy)
        self.assertIn("--etcd-user", problem["advice"])

    def check(self, *flags, status, env=None):
        out, _ = self.tool("check", self.configure(self.a, name=self.name), "--output", "json", *flags, status=status, env=env)
        return {(f["level"], f["text"]) for f in json.loads(out)["findings"] if f["what"] == "access"}

    def test_check_foretells_it(self):
        """With serve's own flags: what lacks, by where it lacks; nothing is written to find out."""
        self.raw.put(PREFIX + b"ns/one", b"k8s:enc:x")
        self.raw.delete(PREFIX + b"ns/one")
        login = ["--etcd-password-file", self.password(OWN), "--etcd-user"]
        self.assertEqual(self.check(status=OK), set())
        self.assertIn("no users now", self.only(self.check(*login, "proxy", status=OK)))
        self.enable()
        revision = self.etcd.etcdctl("endpoint", "status", "-w", "json").stdout.split(b'"revision":')[1].split(b",")[0]
        self.assertIn("rewrite what is protected", self.only(self.check(*login, "proxy", "--converge", "9", status=OK)))
        self.assertIn("read what is protected", self.only(self.check(*login, "reader", status=OK)))
        text = self.only(self.check(*login, "reader", "--converge", "9", status=NOT_AS_WANTED))
        for place in "/registry/secrets/", PLACE + "/", PLACE + "/proxies/":
            self.assertIn(place, text)
        self.assertIn("need read", self.only(self.check(*login, "nothing", status=ERROR)))
        self.assertIn("need read", self.only(self.check(status=ERROR)))
        self.assertIn("serve has no --etcd-user", self.only(self.check(status=OK, env={"ETCDCTL_USER": f"reader:{OWN}"})))
        self.tool("check", self.configure(self.a, name=self.name), *login, f"proxy:{OWN}", status=USAGE)
        self.assertEqual(revision, self.etcd.etcdctl("endpoint", "status", "-w", "json").stdout.split(b'"revision":')[1].split(b",")[0])

    def only(self, findings):
        (_, text), = findings
        return text

    def test_health_is_what_etcd_says(self):
        """An etcd with users answers health probes of nobody; so does the proxy, with and without a login."""
        self.enable()
        for user in None, "proxy", "nothing":
            proxy = self.begin_proxy(self.a, user=user, converge=False)
            for path in "/health", "/readyz", "/livez", "/version":
                self.assertEqual(http_get(proxy.address, path), http_get(("127.0.0.1", self.etcd.port), path))
            self.assertEqual(http_get(proxy.metrics_address, "/readyz")[0], 200)
            self.end(proxy)


if __name__ == "__main__":
    harness.main()
