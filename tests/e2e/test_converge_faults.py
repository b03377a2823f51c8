#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge when something goes away in the middle: etcd, its keys, its history. All is current at the end, and each
object was rewritten once. And who may not have the lock only counts."""
import os
import subprocess
import time

from converge import PLACE, Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"


class Etcd(Converge):
    def restart(self):
        self.etcd.stop()
        self.etcd.start()
        type(self).raw = self.etcd.client

    def test_restarted_and_compacted(self):
        count = 400
        self.fill(count, 100)
        self.begin_proxy("one", self.a, IDENTITY, rate=100, after="0s")
        wait_until(lambda: self.sealed_with(b"a") > 20, 30, "rewrites")
        self.restart()
        at = self.sealed_with(b"a")
        wait_until(lambda: self.sealed_with(b"a") > min(at + 20, count - 1), 30, "rewrites behind the restart")
        while self.sealed_with(b"a") < count:
            self.raw.compact(self.raw.put(b"/registry/pods/x", b"x").header.revision, physical=False)
            time.sleep(0.05)
        self.assertEqual(set(self.versions().values()), {2})

    def test_lock_and_record_deleted(self):
        """By whoever may: they are made again, and nothing is rewritten twice."""
        count = 200
        self.fill(count, 100)
        proxy = self.begin_proxy("one", self.a, IDENTITY, rate=50, after="0s")
        wait_until(lambda: self.sealed_with(b"a") > 5, 30, "rewrites")
        for key in b"/etcd-envelope/lock", self.registered()[0].key:
            self.raw.delete(key)
            wait_until(lambda: self.locked() and self.registered(), 20, "a new lock")
        self.raw.revoke(self.locked().lease)
        wait_until(lambda: self.sealed_with(b"a") == count, 40, "all rewritten")
        self.assertEqual(set(self.versions().values()), {2})
        self.says(proxy, 200, "has the lock")


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
