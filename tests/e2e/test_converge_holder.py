#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge when the proxy that rewrites stands still or dies in the middle: another one goes on, each object is
rewritten once, and the first one changes nothing when it comes back."""
import signal

from converge import Converge, harness
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


if __name__ == "__main__":
    harness.main()
