#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge when the proxy that rewrites stands still or dies in the middle: another one goes on, each object is
rewritten once, and the first one changes nothing when it comes back. And who may not have the lock only counts."""
import os
import signal
import subprocess

from converge import PLACE, Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"


class Holder(Converge):
    def rewritten(self):
        return self.sealed_with(b"a")

    def test_stopped_then_killed(self):
        """The one with the lock stands still in the middle; another one goes on when its lease has ended; the first one wakes
        up and changes nothing any more. Then the second one is killed, and the first one goes on."""
        count = 200 if not harness.LONG else 1500
        self.fill(count, 100)
        proxies = [self.begin_proxy(n, self.a, IDENTITY, rate=40) for n in ("one", "two")]
        wait_until(lambda: self.rewritten() > 10, 30, "rewrites")
        holder = wait_until(lambda: [p for p in proxies if self.has_lock(p)], 20, "holder")[0]
        other = next(p for p in proxies if p is not holder)
        holder.process.signal(signal.SIGSTOP)
        wait_until(lambda: self.has_lock(other), 40, "another holder")
        at = self.rewritten()
        wait_until(lambda: self.rewritten() > at + 10, 30, "rewrites by the other one")
        holder.process.signal(signal.SIGCONT)
        self.says(holder, 200, f":{other.port})")
        other.process.kill()
        wait_until(lambda: self.rewritten() == count, 60, "all rewritten")
        self.assertEqual(set(self.versions().values()), {2})
        self.assertEqual(len(self.registered()), 1)


class Auth(Converge):
    """An etcd with users, known by their certificates. The proxy's may read and write all but the lock."""

    @classmethod
    def start(cls):
        super().start()
        cls.etcd.stop()
        cls.certificates = cls.env.tls(names=("root", "client"))
        cls.etcd = cls.env.etcd(name="users", tls=cls.certificates)
        cls.etcdctl("user", "add", "root", "--no-password")
        cls.etcdctl("user", "grant-role", "root", "root")
        cls.etcdctl("role", "add", "proxy")
        for kind, key in (("readwrite", b"/registry/"), ("readwrite", PLACE + b"/proxies/"), ("read", PLACE + b"/")):
            cls.etcdctl("role", "grant-permission", "proxy", kind, key.decode(), "--prefix")
        cls.etcdctl("user", "add", "client", "--no-password")
        cls.etcdctl("user", "grant-role", "client", "proxy")
        cls.raw = cls.env.client(f"127.0.0.1:{cls.etcd.port}", cls.certificates.credentials("root"))

    @classmethod
    def etcdctl(cls, *argv):
        path = cls.certificates.path
        subprocess.run([harness.etcd_program("etcdctl"), "--endpoints", cls.etcd.url, "--cacert", path("ca.crt"), "--cert",
                        path("root.crt"), "--key", path("root.key"), *argv], check=True, capture_output=True, timeout=30,
                       env={**os.environ, "ETCDCTL_API": "3"})

    def test_without_permission_for_the_lock(self):
        self.etcdctl("auth", "enable")
        self.addCleanup(self.etcdctl, "auth", "disable")
        self.plain(20)
        path = self.certificates.path
        proxy = self.begin_proxy("one", self.a, IDENTITY, after="0s", flags=[
            "--etcd-cafile", path("ca.crt"), "--etcd-certfile", path("client.crt"), "--etcd-keyfile", path("client.key")])
        self.says(proxy, 500, "etcd refuses this proxy the lock /etcd-envelope/lock: PERMISSION_DENIED")
        wait_until(lambda: (self.counts(proxy) or (0, 0, 0, 0))[2] == 20, 30, "a count")
        self.assertEqual(len(self.registered()), 1)
        self.assertEqual(set(self.versions().values()), {1})
        self.assertEqual(proxy.client.value(b"/registry/secrets/ns/plain00000")[:3], b"k8s")
        # Once it is allowed, it rewrites.
        self.etcdctl("role", "grant-permission", "proxy", "readwrite", (PLACE + b"/lock").decode())
        wait_until(lambda: self.sealed_with(b"a") == 20, 60, "all rewritten")


if __name__ == "__main__":
    harness.main()
