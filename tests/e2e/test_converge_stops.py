#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge when it can't go on: the plugin is away, or etcd has no room. It says so, goes on counting where it can,
keeps nobody else from writing, and goes on by itself."""
from converge import Converge, harness
from harness import envelope, wait_until

IDENTITY = "identity: {}"


class Plugin(Converge):
    def test_away_in_the_middle(self):
        """Every value has a DEK of its own, so the plugin is asked for each. It goes, and comes back."""
        self.sealed(200, "key-0")
        kms = self.env.kms("going")
        kms.delay["Decrypt"] = 0.05
        proxy = self.begin_proxy("one", self.kms_provider(path=kms.path), rate=100, after="0s")
        current = lambda: sum(envelope.parse(kv.value, "test").key_id == "key-1" for kv in self.stored())  # noqa: E731
        wait_until(lambda: kms.calls["Decrypt"] > 20, 30, "unwraps")
        kms.stop()
        self.says(proxy, 500, "KMS provider test", timeout=40)
        self.assertLess(current(), 200)
        kms.start()
        wait_until(lambda: current() == 200, 60, "all rewritten")
        self.assertEqual(set(self.versions().values()), {2})


class Space(Converge):
    @classmethod
    def start(cls):
        super().start()
        cls.etcd.stop()
        cls.etcd = cls.env.etcd(name="small", flags=["--quota-backend-bytes", str(24 << 20)])
        cls.raw = cls.etcd.client

    def test_stops_before_the_quota_and_at_the_alarm(self):
        """At 80 % of etcd's quota: the others still can write. It goes on counting."""
        self.fill(6_000, 2000)
        proxy = self.begin_proxy("one", self.a, IDENTITY, rate=100_000, after="0s")
        self.says(proxy, 500, "--converge-max-db-size is 19 MiB (80 % of etcd's quota)", timeout=40)
        self.raw.put(b"/registry/pods/x", b"x")
        wait_until(lambda: (self.counts(proxy) or (0, 0, 0, 0))[2] > 0, 30, "count of what is left")
        left = self.counts(proxy)
        self.assertGreater(left[0] + left[2], 5_999)
        self.assertEqual(proxy.client.value(b"/registry/secrets/ns0/0000000"), self.value_of(0, 2000))
        self.end(proxy)
        proxy = self.begin_proxy("two", self.a, IDENTITY, rate=100_000, after="0s", flags=["--converge-max-db-size", "1GiB"])
        self.says(proxy, 500, "NOSPACE", timeout=60)
        sealed = self.sealed_with(b"a")
        self.assertLess(sealed, 6_000)


if __name__ == "__main__":
    harness.main()
