#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge: all was current for a proxy, which would look again in an hour. Do its counts follow what the others, and
tools, rewrite meanwhile?"""
import signal

from converge import Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"


class Told(Converge):
    def begin_all(self, *names, after):
        """Proxies that have counted 20 current values, and rest; the first one has the lock."""
        proxies = []
        for name in names:
            proxies.append(self.begin_proxy(name, self.a, self.b, IDENTITY, after=after))
            wait_until(lambda: self.locked() and self.has_lock(proxies[0]), 20, "lock")
            wait_until(lambda: len(self.registered()) == len(proxies), 20, "registered")
        for i in range(20):
            proxies[0].client.put(b"/registry/secrets/ns/%d" % i, b"value")
        self.raw.delete(b"/registry/secrets/harness/ready")
        for proxy in proxies:
            proxy.process.signal(signal.SIGHUP)
            self.counted(proxy, 20, 0, 0, 0)
        return proxies

    def test_by_a_tool(self):
        proxies = self.begin_all("one", "two", after="1h")
        before = self.locked()
        self.tool("reencrypt", self.configure(self.b, self.a, name="other"), "--rate", 0)
        self.assertEqual(self.sealed_with(b"b"), 20)
        now = self.locked()
        self.assertGreater(now.mod_revision, before.mod_revision)
        self.assertEqual((now.create_revision, now.value, now.lease), (before.create_revision, before.value, before.lease))
        for proxy in proxies:
            self.counted(proxy, 0, 20, 0, 0)
        # One that has nothing to rewrite tells nobody.
        self.tool("reencrypt", self.configure(self.b, self.a, name="other"), "--rate", 0)
        self.assertEqual(self.locked().mod_revision, now.mod_revision)

    def test_by_the_one_that_rewrites(self):
        one, two = self.begin_all("one", "two", after="0s")
        self.plain(10)
        one.process.signal(signal.SIGHUP)  # it alone looks, and so rewrites
        self.counted(one, 30, 0, 0, 0)
        self.counted(two, 30, 0, 0, 0)
        self.assertEqual(self.sealed_with(b"a"), 30)
        self.assertTrue(self.has_lock(one))

    def test_without_proxies(self):
        """There is no lock: a tool leaves none."""
        self.plain(3)
        self.tool("reencrypt", self.configure(self.a, IDENTITY), "--rate", 0)
        self.assertEqual(list(self.raw.list(b"/etcd-envelope").kvs), [])


if __name__ == "__main__":
    harness.main()
