#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge when proxies end, begin and rewrite for each other: what one has counted does not stay as it was when
another one has rewritten it, and nobody has to wait for, or is blamed for, what lies at the place of one that is gone."""
import signal
import time

from converge import Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"


class Handover(Converge):
    def test_counts_follow_what_others_rewrite(self):
        """Whoever has the lock, the other one's counts are not left as they were before the rewriting."""
        self.plain(50)
        one = self.begin_proxy("one", self.a, self.b, IDENTITY, after="2s")
        two = self.begin_proxy("two", self.b, self.a, IDENTITY, after="2s")
        for proxy in one, two:
            wait_until(lambda p=proxy: sum((self.counts(p) or (0,))[1:]) >= 50, 30, "a look before")
        self.change(two, self.a, self.b, IDENTITY)
        for proxy in one, two:
            self.counted(proxy, 51, 0, 0, 0, timeout=90)  # with that of the harness
            self.says(proxy, 200, "0 due at the last full look, ")

    def test_clean_stop(self):
        """SIGTERM takes back the lock and the registration, even if etcd takes a moment for it."""
        proxy = self.begin_proxy("one", self.a, after="0s", flags=["--shutdown-timeout", "60s"])
        self.says(proxy, 200, "this proxy has the lock")
        proxy.client.close()  # nothing has to be drained: the end does not wait for that
        wait_until(lambda: proxy.metric("etcd_envelope_links") == 0, 10, "no connection")
        self.etcd.process.signal(signal.SIGSTOP)
        try:
            proxy.process.signal(signal.SIGTERM)
            time.sleep(0.5)
        finally:
            self.etcd.process.signal(signal.SIGCONT)
        self.assertEqual(proxy.process.popen.wait(30), 0)
        # The lease, were it left, would last for 7 s more at least.
        wait_until(lambda: not self.registered() and not self.locked(), 5, "nothing registered")

    def test_restart_with_other_keys(self):
        """Killed, and started with another configuration while its lease still runs, it does not blame itself."""
        proxy = self.begin_proxy("one", self.a, after="0s")
        self.says(proxy, 200, "this proxy has the lock")
        proxy.process.kill()
        self.configure(self.b, self.a, name=proxy.config.stem)
        proxy.start()
        said = []
        wait_until(lambda: said.append(self.health(proxy)) or "this proxy has the lock" in said[-1][1], 60, "the lock again")
        self.assertEqual([s for s in said if f":{proxy.port}): " in s[1]], [])


if __name__ == "__main__":
    harness.main()
