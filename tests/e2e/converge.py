# SPDX-License-Identifier: Apache-2.0
"""What the tests of `serve --converge` and of reloads that drop keys share: several proxies before one etcd, each with a
file of its own."""
import signal

from cluster_tool import ClusterTool, new_key
from client import prefix_end
import harness
from harness import http_get, wait_until

PLACE = b"/etcd-envelope"
STATES = ("current", "older", "plaintext", "unreadable")


class Converge(ClusterTool):
    """Each test begins with an empty etcd and starts its own proxies."""

    def setUp(self):
        super().setUp()
        self.a, self.b = (self.local("aesgcm", (n, new_key())) for n in ("a", "b"))

    # --- proxies ---

    def begin_proxy(self, name, *providers, rate=1000, after="1s", flags=(), servers=None, **options):
        proxy = self.env.proxy(servers or [self.etcd.url], self.configure(*providers, name=f"{self.name}-{name}"),
                               name=f"{self.name}-{name}",
                               flags=["--converge", rate, "--converge-after", after, *flags], **options)
        self.addCleanup(self.end, proxy)
        return proxy

    def end(self, proxy):
        if proxy.process.alive():
            self.assertEqual(proxy.process.term(30), 0, proxy.process.log()[-2000:])

    def change(self, proxy, *providers, log="configuration reloaded", timeout=90):
        """Another content of its file and SIGHUP; waits for this line in the log."""
        before = proxy.process.log().count(log)
        self.configure(*providers, name=proxy.config.stem)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: proxy.process.log().count(log) > before, timeout, f"{log}:\n{proxy.process.log()[-1500:]}")

    def health(self, proxy):
        status, text = http_get(proxy.metrics_address, "/healthz/converge")
        return status, text.decode()

    def says(self, proxy, status, text, timeout=30):
        def does():
            self.heard = self.health(proxy)
            return self.heard[0] == status and text in self.heard[1]
        try:
            wait_until(does, timeout, f"{status} with {text}", 0.1)
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {self.heard}; {proxy.process.log()[-1500:]}") from None

    def counts(self, proxy, resource="secrets"):
        """What its gauges say, in the order of STATES; None: no full look yet."""
        found = [proxy.metric("etcd_envelope_stored_values", f'resource="{resource}",state="{s}"') for s in STATES]
        return None if found[0] is None else tuple(map(int, found))

    def counted(self, proxy, *counts, timeout=60):
        """Waits for a full look that has these counts."""
        def are():
            self.heard = self.counts(proxy)
            return self.heard == counts
        try:
            wait_until(are, timeout, f"counts {counts}", 0.1)
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {self.heard}, {self.health(proxy)}; {proxy.process.log()[-1500:]}") from None

    # --- what lies in etcd ---

    def locked(self):
        """The lock as a KeyValue; None: there is none."""
        kvs = self.raw.get(PLACE + b"/lock").kvs
        return kvs[0] if kvs else None

    def has_lock(self, proxy):
        lock = self.locked()
        return lock is not None and f":{proxy.port})" in lock.value.decode()

    def registered(self):
        return self.raw.list(PLACE + b"/proxies/").kvs

    def sealed_with(self, key_name):
        """So many stored secrets are sealed with the local key of this name."""
        return sum(kv.value.startswith(b"k8s:enc:aesgcm:v1:" + key_name + b":") for kv in self.stored())

    def stored(self):
        return self.raw.get(b"/registry/secrets/ns", prefix_end(b"/registry/secrets/ns")).kvs

    def versions(self):
        return {kv.key: kv.version for kv in self.stored()}


__all__ = ["Converge", "PLACE", "harness"]
