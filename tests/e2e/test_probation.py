#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A configuration whose KMS plugin does not answer is on probation for 10 s: refused if it stays away, taken over
when it comes, forgotten when the file changes once more. The old set seals all the while."""
import signal
import threading
import time

import harness
from harness import wait_until
from test_local_keys import Key
from test_reload import HEAD, Base, kms_of, local, rule

PROBATION_S = 10


class Probation(Base):
    def setUp(self):
        super().setUp()
        self.old = Key("aesgcm", "old")

    def start_one(self, name, *flags):
        """A proxy under a local key, and a plugin that is not there yet."""
        kms = self.env.kms(name=f"{self.name}-{name}")
        self.addCleanup(kms.stop)
        kms.stop()
        texts = [HEAD + rule(["secrets"], local(self.old)),
                 HEAD + rule(["secrets"], kms_of(kms.path), local(self.old))]
        proxy = self.start_proxy(texts[0], *flags, name=name)
        self.write(proxy.config, texts[1])
        return proxy, kms, texts

    def keep_writing(self, proxy, stop, problems):
        """Under the old key, without a failure."""
        client, at = harness.Client(proxy.target), self.secret(proxy.name)
        while not stop.is_set():
            try:
                client.put(at, b"value")
                self.assertEqual(self.old.open(at, self.raw.value(at)), b"value")
                self.assertEqual(client.value(at), b"value")
            except Exception as error:  # noqa: B902 - shown by the test
                problems.append(error)
            time.sleep(0.1)
        client.close()

    def test_probation(self):
        """All cases at once: the time is what it takes."""
        stays_away = self.start_one("stays-away")
        comes = self.start_one("comes")
        taken_back = self.start_one("taken-back")
        replaced = self.start_one("replaced")
        by_event = self.start_one("by-event", "--encryption-provider-config-automatic-reload")
        stopped = self.start_one("stopped")
        all_of_them = stays_away, comes, taken_back, replaced, by_event, stopped
        stop, problems = threading.Event(), []
        writers = [threading.Thread(target=self.keep_writing, args=(case[0], stop, problems))
                   for case in (stays_away, taken_back, by_event)]
        for writer in writers:
            writer.start()
        began = time.monotonic()
        for proxy, *_ in all_of_them:
            if proxy is not by_event[0]:
                proxy.process.signal(signal.SIGHUP)
        time.sleep(1)
        for proxy, *_ in all_of_them:
            self.assertEqual((self.reloads(proxy), self.failures(proxy)), (0, 0), proxy.name)

        # The file goes back to what is in force: what was on probation is not wanted any more.
        proxy, kms, texts = taken_back
        self.write(proxy.config, texts[0])
        proxy.process.signal(signal.SIGHUP)
        # A bad file does not let through what stood there before, either.
        proxy, kms, _ = replaced
        self.write(proxy.config, "{{{")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.failures(replaced[0]) == 1, 10, "refusal")
        # The end does not wait for it.
        self.assertEqual(stopped[0].process.term(8), 0)
        for case in comes, taken_back, replaced:
            case[1].start()
        wait_until(lambda: self.reloads(comes[0]) == 1, 8, "take-over once the plugin is there")
        self.wait_sealed(comes[0], self.secret("comes"), b"k8s:enc:kms:v2:")

        for proxy, *_ in (stays_away, by_event):
            wait_until(lambda p=proxy: self.failures(p) == 1, 20, "refusal")
            self.assertGreater(time.monotonic() - began, PROBATION_S - 1)
            self.assertIn(harness.PLUGIN, proxy.process.log().splitlines()[-1])
        stop.set()
        for writer in writers:
            writer.join()
        self.assertEqual(problems, [])
        for proxy, *_ in (stays_away, taken_back, replaced, by_event):
            self.assertEqual(self.reloads(proxy), 0, proxy.name)
            at = self.secret(proxy.name + "-last")
            proxy.client.put(at, b"value")
            self.assertEqual(self.old.open(at, self.raw.value(at)), b"value")


if __name__ == "__main__":
    harness.main()
