#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve --converge with several proxies: nothing is rewritten while any of them writes with another key or lacks it, each
object is rewritten at most once, and nothing that anybody writes meanwhile is lost."""
import random
import threading
import time

from converge import Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"
FOR_S = 600 if harness.LONG else 4  # so long proxies that differ are watched


class Several(Converge):
    def assert_untouched(self, before, seconds=FOR_S):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertEqual(self.versions(), before)
            time.sleep(0.2)

    def test_different_write_keys(self):
        """Nothing is rewritten while they differ; when they agree, each object that is due is, once."""
        self.plain(20)
        one = self.begin_proxy("one", self.a, self.b, IDENTITY, after="0s")
        two = self.begin_proxy("two", self.b, self.a, IDENTITY, after="0s")
        wait_until(lambda: len(self.registered()) == 2, 20, "both registered")
        self.says(one, 500, f":{two.port})")
        self.says(two, 500, f":{one.port})")
        # The first one may have rewritten what there was before the second one came. From here on nobody may.
        for i, proxy in enumerate((one, two)):
            for k in range(10):
                proxy.client.put(b"/registry/secrets/ns/by%d-%d" % (i, k), b"value")
        before = self.versions()
        self.assert_untouched(before)
        self.assertIn("secrets", self.health(one)[1])
        self.change(two, self.a, self.b, IDENTITY)
        wait_until(lambda: self.sealed_with(b"a") == 40, 30, "all current")
        for proxy in one, two:
            self.says(proxy, 200, "")
        for key, version in self.versions().items():
            self.assertLessEqual(version, before[key] + 1)

    def test_one_lacks_the_new_key(self):
        proxies = [self.begin_proxy(n, self.a, after="0s") for n in ("one", "two")]
        for i in range(20):
            proxies[0].client.put(b"/registry/secrets/ns/%d" % i, b"value")
        self.change(proxies[0], self.b, self.a)
        self.says(proxies[0], 500, "it writes secrets with aesgcm:v1:a:")
        before = self.versions()
        self.assert_untouched(before)

    def test_after_a_key_change(self):
        """Not before they have agreed for --converge-after, even though the one has been alone before."""
        one = self.begin_proxy("one", self.a, self.b, after="4s")
        for i in range(10):
            one.client.put(b"/registry/secrets/ns/%d" % i, b"value")
        wait_until(self.locked, 20, "lock")
        began = time.monotonic()
        self.change(one, self.b, self.a)
        wait_until(lambda: self.sealed_with(b"b") == 10, 30, "all rewritten", 0.05)
        self.assertGreater(time.monotonic() - began, 4)
        self.assertEqual(set(self.versions().values()), {2})

    # --- a rolling reload while others write ---

    def writer(self, number, proxy, stop, last):
        client = harness.Client(proxy.target)
        self.keep_writing(client, b"/registry/secrets/ns-w%d/" % number, 40, stop, last, random.Random(number))
        client.close()

    def test_rolling_reload(self):
        """Three proxies, one after the other, first as a reader and then as the writer: all is current at the end, each
        object that nobody else wrote was rewritten once, and every writer finds what it wrote."""
        self.problems, count = [], 200
        self.fill(count, 100)
        proxies = [self.begin_proxy(n, self.a, IDENTITY, after="2s", rate=300) for n in ("one", "two", "three")]
        stop, last = threading.Event(), [{}, {}, {}]
        threads = [threading.Thread(target=self.writer, args=(i, proxies[i], stop, last[i])) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            filled = lambda: [kv for kv in self.stored() if not kv.key.startswith(b"/registry/secrets/ns-w")]  # noqa: E731
            wait_until(lambda: all(kv.value.startswith(b"k8s:enc:aesgcm:v1:a:") for kv in filled()), 40, "plaintext brought in")
            for proxy in proxies:
                self.change(proxy, self.a, self.b)
            for proxy in proxies:
                self.change(proxy, self.b, self.a)
            wait_until(lambda: all(kv.value.startswith(b"k8s:enc:aesgcm:v1:b:") for kv in filled()), 60, "all rewritten anew")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(self.problems, [])
        wait_until(lambda: self.sealed_with(b"b") == len(self.stored()), 60, "what writers left is current, too")
        self.assertEqual({kv.version for kv in filled()}, {3})
        for i in range(count):
            self.assertEqual(proxies[i % 3].client.value(b"/registry/secrets/ns%d/%07d" % (i % 10, i)), self.value_of(i, 100))
        stored = {kv.key for kv in self.stored()}
        for mine in last:
            for key, value in mine.items():
                self.assertEqual(proxies[0].client.value(key), value)
                self.assertEqual(key in stored, value is not None)


if __name__ == "__main__":
    harness.main()
