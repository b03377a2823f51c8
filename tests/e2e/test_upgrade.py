#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A rolling upgrade, and the way back: proxies of two versions before one etcd. Is anything lost, unreadable or in clear while
they are mixed; is a rotation possible then; what does a proxy do with what another version says of itself?

E2E_OLD names a folder with the programs of another version, which then plays the old part (the new one plays both without it).
What a version that does not exist yet may register is written by the test."""
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

from cluster_tool import new_key
from converge import PLACE, Converge, harness
from harness import wait_until

IDENTITY = "identity: {}"
OLD = os.environ.get("E2E_OLD")
NEW = pathlib.Path(harness.program("etcd-envelope"))
WAIT_S = 30 if harness.LONG else 3  # so long is looked whether something is not done


class Either(harness.Proxy):
    """A proxy that is stopped and started as one version or the other, on its port."""

    def __init__(self, env, servers, config, name, flags=(), program=NEW):
        self.program = program
        super().__init__(env, servers, config, name=name, flags=flags)

    def argv(self):
        given = super().argv()
        takes = subprocess.run([self.program, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        kept, skip = [], False
        for word in given[1:]:  # flags that an older version does not have are left out, as an administrator would
            skip = word.startswith("--") and f"{word} " not in takes and f"{word}\n" not in takes or \
                skip and not word.startswith("--")
            if not skip:
                kept.append(word)
        return [str(self.program), *kept]

    def become(self, program):
        assert self.process.term(30) == 0, self.process.log()[-2000:]
        self.client.close()
        self.program = program
        self.start()


class Upgrade(Converge):
    @classmethod
    def start(cls):
        super().start()
        cls.old = pathlib.Path(OLD) / "etcd-envelope" if OLD else NEW

    def either(self, name, *providers, flags=("--converge", 500, "--converge-after", "1s"), program=None):
        proxy = Either(self.env, [self.etcd.url], self.configure(*providers, name=f"{self.name}-{name}"), f"{self.name}-{name}",
                       flags=flags, program=program or self.old)
        self.addCleanup(self.end, proxy)
        return proxy

    # --- clients that go on whatever is restarted ---

    def writer(self, number, proxies, stop, last):
        """Each write goes through one proxy and is read through another; who is not there is asked again, as clientv3
        does with UNAVAILABLE. Writes are of one key each and only grow, so that a write made twice does no harm."""
        rng, mark = random.Random(number), 0
        while not stop.is_set():
            key, mark = b"/registry/secrets/ns-w%d/%02d" % (number, rng.randrange(20)), mark + 1
            value = b"k8s\0writer %d mark %d" % (number, mark)
            self.anyhow(rng, proxies, lambda client: client.put(key, value, timeout=20))  # noqa: B023
            last[key] = value
            if self.anyhow(rng, proxies, lambda client: client.value(key, timeout=20)) != value:  # noqa: B023
                self.problems.append((key, mark))
            time.sleep(0.01)

    @staticmethod
    def anyhow(rng, proxies, call):
        deadline = time.monotonic() + 90
        while True:
            client = harness.Client(rng.choice(proxies).target)
            try:
                return call(client)
            except harness.grpc.RpcError as error:
                if error.code() not in (harness.Code.UNAVAILABLE, harness.Code.DEADLINE_EXCEEDED) or time.monotonic() > deadline:
                    raise
            finally:
                client.close()

    def in_clear(self):
        """What lies in etcd as a writer wrote it."""
        return [kv.key for kv in self.stored() if not kv.value.startswith(b"k8s:enc:")]

    def each_reads_all(self, proxies, last):
        for proxy in proxies:
            for values in last:
                for key, value in values.items():
                    self.assertEqual(proxy.client.value(key), value, (proxy.name, key))

    def rotate(self, proxies, before, after):
        """By the runbook: the new key as a reader on all, then first on all, while clients go on."""
        for providers in ((before, after), (after, before)):
            for proxy in proxies:
                self.change(proxy, *providers)

    def with_clients(self, proxies, work):
        """Runs work() while three clients write and read; each ends with what it wrote last, as does each proxy."""
        self.problems, errors, stop, last = [], [], threading.Event(), [{} for _ in range(3)]

        def run(i):
            try:
                self.writer(i, proxies, stop, last[i])
            except BaseException as error:  # noqa: B036 - shown below
                errors.append(error)
        threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: errors or all(last), 30, "first writes")
            work()
            seen = [len(values) for values in last]
            self.assertTrue(all(seen))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual((self.problems, errors), ([], []))
        self.assertEqual(self.in_clear(), [])
        self.each_reads_all(proxies, last)

    def test_there_and_back(self):
        """Three proxies become new one after the other, rotate a key while one is still old, and become old again."""
        proxies = [self.either(n, self.a) for n in ("one", "two", "three")]

        def work():
            for proxy in proxies[:2]:
                proxy.become(NEW)
            self.rotate(proxies, self.a, self.b)  # mixed: two new, one old
            wait_until(lambda: self.sealed_with(b"b") > 0, 30, "writes with the new key")
            proxies[2].become(NEW)
            for proxy in proxies:  # and back to the older version, which has to read all of it
                proxy.become(self.old)
        self.with_clients(proxies, work)

    def test_plugin(self):
        """The same with a KMS plugin whose key changes while they are mixed: values of either version open in the other."""
        proxies = [self.either("one", self.kms_provider()), self.either("two", self.kms_provider(), program=NEW)]

        def work():
            self.kms.key_id = "key-2"
            proxies[0].become(NEW)
            proxies[1].become(self.old)
        self.with_clients(proxies, work)

    def test_status_of_both(self):
        """The new version's status reads an old proxy's answers. (An older one may not say with which key it writes; then
        they are not said to agree.)"""
        one, two = self.either("one", self.a), self.either("two", self.a, program=NEW)
        urls = ",".join(f"http://127.0.0.1:{p.metrics_port}" for p in (one, two))
        done = subprocess.run([str(NEW), "status", "--metrics-urls", urls, "--output", "json"], capture_output=True, timeout=60,
                              check=False)
        first, second = json.loads(done.stdout)["proxies"]
        for field in "answers", "ready", "kms_healthy", "etcd_healthy":
            self.assertEqual((first[field], second[field]), (True, True), field)
        self.assertEqual(first["configuration"], second["configuration"])
        self.assertEqual(json.loads(done.stdout)["all_agree"], first["write_keys"] == second["write_keys"])

    # --- what another version may register ---

    FOREIGN = (
        ("newer", "etcd-envelope 2\nname of a newer version\nkeys in a form that nobody knows yet\n"),
        ("older", "etcd-envelope 0\nrule /registry/secrets/ secrets - -\n"),
        ("binary", "\x08\x01\x12\x04\0\0\0\0"),
        ("empty", ""),
    )

    def register(self, name, text):
        """As a proxy of another version would: under a lease. Returns the lease."""
        lease = self.raw.grant(3600).ID
        self.raw.put(PLACE + b"/proxies/" + name.encode(), text.encode(), lease=lease)
        return lease

    def reload(self, proxy):
        """With a file that says the same in other words."""
        before = proxy.process.log().count("configuration reloaded")
        proxy.config.write_text(proxy.config.read_text() + "# as before\n")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: proxy.process.log().count("configuration reloaded") > before, 30, "reload")

    def same_rules(self, text_of_a_proxy):
        """A record with the rules of this one and another number in its first line, and one with a line more."""
        yield "other-number", text_of_a_proxy.replace("etcd-envelope 1\n", "etcd-envelope 7\n")
        yield "more-words", text_of_a_proxy.rstrip("\n") + " more\n"

    def test_unknown_registrations(self):
        """Each alone: nothing is rewritten while it is there, all else goes on, and a reload too; when it ends so does that."""
        proxy = self.begin_proxy("new", self.b, self.a, IDENTITY, after="0s")
        wait_until(self.registered, 20, "registration")
        wait_until(self.locked, 20, "lock")
        mine = self.registered()[0].value.decode()
        foreign = [*self.FOREIGN, *self.same_rules(mine)]
        for number, (name, text) in enumerate(foreign if harness.LONG else foreign[::2]):
            with self.subTest(name):
                lease = self.register(name, text)
                self.says(proxy, 500, "not understood")
                self.assertTrue(f"/proxies/{name}" in self.health(proxy)[1] or "name " in text, self.health(proxy))
                key = b"/registry/secrets/ns/%d" % number
                self.raw.put(key, b"k8s\0old plaintext")  # due from here on
                self.assertEqual(proxy.client.value(key), b"k8s\0old plaintext")
                proxy.client.put(key + b"-new", b"sealed meanwhile")
                self.assertTrue(self.raw.value(key + b"-new").startswith(b"k8s:enc:aesgcm:v1:b:"))
                self.assertEqual(harness.http_get(proxy.metrics_address, "/readyz")[0], 200)
                self.reload(proxy)
                self.assertEqual(self.raw.value(key), b"k8s\0old plaintext", "nothing is rewritten while it is there")
                self.raw.revoke(lease)
                self.says(proxy, 200, "")
                wait_until(lambda: self.raw.value(key).startswith(b"k8s:enc:"), 60, f"rewritten after {name}")  # noqa: B023

    def test_a_key_is_not_dropped_meanwhile(self):
        """A reload that drops a key waits for what is not understood to end: its proxy may still write with that key."""
        proxy = self.begin_proxy("new", self.b, self.a, after="0s")
        wait_until(lambda: self.registered(), 20, "registration")
        lease = self.register(*self.FOREIGN[0])
        before = proxy.process.log().count("configuration reloaded")
        self.configure(self.b, name=proxy.config.stem)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "looking whether stored values need them" in proxy.process.log(), 20, "look")
        time.sleep(WAIT_S)  # it would be taken over at once
        self.assertEqual(proxy.process.log().count("configuration reloaded"), before)
        if harness.LONG:
            wait_until(lambda: "/proxies/newer is not understood" in proxy.process.log(), 90, "refusal that names it")
            proxy.process.signal(signal.SIGHUP)
        # A proxy of that version wrote with it until its end, and its value is seen.
        self.put_sealed_with_a()
        self.raw.revoke(lease)
        wait_until(lambda: "it drops keys that stored values need: aesgcm:v1:a (1 of secrets)" in proxy.process.log(), 60,
                   "refusal")

    def put_sealed_with_a(self):
        other = self.env.proxy(self.etcd, self.configure(self.a, name=f"{self.name}-other"), name=f"{self.name}-other")
        other.client.put(b"/registry/secrets/ns/late", b"written with the old key")
        self.raw.delete(b"/registry/secrets/harness/ready")
        other.stop()


if __name__ == "__main__":
    harness.main()
