#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that write, read, list, watch and give up, through TLS on both sides, while everything round them fails in
turn: etcd killed or held, connections cut, the proxy killed, drained or reloaded, the plugin away, slow or with another
key. The history is held to etcd's own (tests/fake/history.py): nothing acknowledged is lost, nothing is doubled or
stale, no watch has a gap, and nothing that is protected lies in etcd in clear.

Environment: CHAOS_S (seconds; default: each fault once, with E2E_LONG 180 s), E2E_SEED."""
import signal
import time
import unittest

import harness  # first: it sets the path to tests/fake
import history
import tap
from chaos import BACK, BACK_ETCD, Run
from harness import Code, LONG, wait_until
from history import DELETE, PUT, Event, Item
from test_local_keys import Key
from test_reload import HEAD, kms_of, local, rule


class Chaos(Run, harness.E2E):
    kinds = 3
    number = 1  # of the plugin's key
    # A plugin that is away at the start may be asked again only after a check of 3 s that fails, and 10 s.
    back = {"etcd_killed": BACK_ETCD, "etcd_held": BACK_ETCD, "connections_cut": BACK_ETCD, "etcd_unreachable": BACK_ETCD,
            "kms_away_at_the_start": 13}

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.etcd = cls.env.etcd(tls=cls.tls)
        cls.etcds = [cls.etcd]
        cls.kms = cls.env.kms()
        cls.way = tap.Tap(cls.etcd.port)
        cls.addClassCleanup(cls.way.stop)
        cls.gcm = Key("aesgcm", "second")
        kms = kms_of(cls.kms.path)
        cls.files = [HEAD + rule(["secrets"], kms, local(cls.gcm)), HEAD + rule(["secrets"], local(cls.gcm), kms)]
        folder = cls.env.path("conf")
        folder.mkdir()
        cls.config = folder / "encryption.yaml"
        cls.write_config(cls.files[0])
        path = cls.tls.path
        flags = ["--cert-file", path("server.crt"), "--key-file", path("server.key"), "--trusted-ca-file", path("ca.crt"),
                 "--etcd-cafile", path("ca.crt"), "--etcd-certfile", path("client.crt"), "--etcd-keyfile", path("client.key"),
                 "--workers=3", "--stream-threshold=30000", "--shutdown-timeout=2s"]
        cls.proxy = cls.env.proxy([f"https://127.0.0.1:{cls.way.port}"], cls.config, tls=cls.tls, flags=flags)

    @classmethod
    def write_config(cls, text):
        new = cls.config.with_name("new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(cls.config)

    def connect(self):
        return harness.Client(self.proxy.target, self.tls.credentials())

    def opened(self, key, stored):
        return self.gcm.open(key, stored) if stored.startswith(self.gcm.prefix) else super().opened(key, stored)

    # --- faults: each ends with everything as it was ---

    def etcd_killed(self):
        self.etcd.process.kill()
        time.sleep(self.pause())
        self.etcd.client.close()
        self.etcd.start()

    def etcd_held(self):
        """Sometimes, in a long run, until the proxy's PING has not been answered in time."""
        self.etcd.process.signal(signal.SIGSTOP)
        time.sleep(16 if LONG and self.rng.random() < 0.3 else self.pause())
        self.etcd.process.signal(signal.SIGCONT)

    def connections_cut(self):
        for _ in range(3):
            self.way.drop()
            time.sleep(self.pause() / 3)

    def etcd_unreachable(self):
        self.way.stop()
        time.sleep(self.pause())
        self.way.listen()

    def proxy_killed(self):
        self.assertTrue(self.proxy.process.alive(), self.proxy.process.log()[-3000:])
        self.proxy.process.kill()
        self.restart()

    def restart(self):
        self.logs.append(self.proxy.process.log_path)
        self.proxy.client.close()
        self.proxy.start(wait=False)

    def proxy_drained(self):
        self.assertEqual(self.proxy.process.term(30), 0, self.proxy.process.log()[-3000:])
        self.restart()

    def reloads_with_rotation(self):
        """The first provider changes and changes back, twice; each time the plugin has another key."""
        for _ in range(4):
            self.number += 1
            self.kms.key_id = f"key-{self.number}"
            self.files.reverse()
            self.reload(self.files[0], "configuration reloaded")
            time.sleep(self.pause() / 2)
        self.reload("{{{", "reload failed")
        self.reload(self.files[0], None)

    def reload(self, text, line):
        """SIGHUP; a line says that it is over (None: the file is as it was)."""
        before = line and self.proxy.process.log().count(line)
        self.write_config(text)
        self.proxy.process.signal(signal.SIGHUP)
        if line:
            wait_until(lambda: self.proxy.process.log().count(line) > before, 20, line)

    def certificates_replaced(self):
        self.tls.issue("server")
        self.tls.issue("client")
        self.proxy.process.signal(signal.SIGHUP)
        time.sleep(self.pause())

    def kms_away(self):
        self.kms.stop()
        time.sleep(self.pause())
        self.kms.start()

    def kms_away_at_the_start(self):
        self.kms.stop()
        self.proxy_killed()
        time.sleep(self.pause())
        self.kms.start()

    def kms_slow_and_refusing(self):
        self.kms.delay["Decrypt"] = 0.2
        self.kms.error = {"Encrypt": (Code.INTERNAL, "mood")}
        self.reload(self.files[0], None)
        time.sleep(self.pause())
        self.kms.delay.clear()
        self.kms.error = {}

    FAULTS = (etcd_killed, etcd_held, connections_cut, etcd_unreachable, proxy_killed, proxy_drained,
              reloads_with_rotation, certificates_replaced, kms_away, kms_away_at_the_start, kms_slow_and_refusing)

    def test_chaos(self):
        self.run_chaos()


class Service(unittest.TestCase):
    """Is it noticed when service comes back late?"""

    def judged(self, seconds, pace=0.01):
        run = Run()
        run.done, run.paces = {"fault": [(0.3, s) for s in seconds]}, [pace] * 3
        return run.is_slow("fault")

    def test_bounds(self):
        limit = BACK * (5 if harness.SANITIZED else 1)
        for seconds, is_slow in (([limit - 0.1], False), ([limit + 0.1], True), ([limit + 1, limit + 1, 0.1], True),
                                 ([limit + 1, 0.1, 0.1], False), ([0.1, limit + 1, limit + 1], True)):
            self.assertEqual(self.judged(seconds), is_slow, seconds)
        self.assertFalse(self.judged([limit + 0.9], pace=0.2))
        self.assertTrue(self.judged([limit + 1.1], pace=0.2))


class Checker(unittest.TestCase):
    """Would the history show it if it were so? An honest one passes; each kind of lie in it is found."""

    def setUp(self):
        self.now, self.events = 0, []
        self.history = history.History(self.tick)

    def tick(self):
        self.now += 1
        return self.now

    def put(self, key, value, revision, known=True):
        op = self.history.begin({key: value})
        self.events.append(Event(revision, PUT, key, value))
        if known:
            self.history.answered(op, revision)
        else:
            self.history.unknown(op)
        return op

    def honest(self):
        """Two keys; a call of unknown outcome, one whose condition did not hold, a deletion, reads, a watch."""
        self.put(b"/a/1", b"one", 2)
        self.put(b"/a/2", b"two", 3, known=False)
        refused = self.history.begin({b"/a/1": b"never"})
        self.history.answered(refused, 3, {b"/a/1": Item(b"one", 2, 2, 1)}, refused=True)
        self.put(b"/a/1", b"three", 4)
        deletion = self.history.begin(deletes=[b"/a/2"])
        self.events.append(Event(5, DELETE, b"/a/2", None))
        self.history.answered(deletion, 5, deleted=1)
        listing = self.history.begin()
        self.history.answered(listing, 5, {b"/a/1": Item(b"three", 4, 2, 2)}, listed=b"/a/")
        watched = self.history.watch(b"/a/", 2)
        told = self.told()
        watched.answer(3, told[:2])
        watched.answer(5, told[2:])
        watched.answer(6, [])
        return self.history.ops, watched

    def told(self):
        """What an honest watch says of it all."""
        items = Item(b"one", 2, 2, 1), Item(b"two", 3, 3, 1), Item(b"three", 4, 2, 2), None
        return list(zip(self.events, (None, None, b"one", b"two"), items))

    def found(self, word):
        problems = self.history.check(history.Truth(self.events))
        self.assertTrue(any(p.startswith(word) for p in problems), (word, problems))

    def test_honest(self):
        self.honest()
        self.assertEqual(self.history.check(history.Truth(self.events)), [])

    def test_lost(self):
        self.honest()
        del self.events[2]
        self.found("lost")

    def test_lost_deletion(self):
        self.honest()
        del self.events[3]
        self.found("lost: the deletion")

    def test_doubled(self):
        self.honest()
        self.events.append(Event(6, PUT, b"/a/2", b"two"))
        self.found("doubled")

    def test_doubled_deletion(self):
        self.honest()
        self.put(b"/a/2", b"again", 6)
        self.events.append(Event(7, DELETE, b"/a/2", None))
        self.found("doubled: nobody deleted")

    def test_invented(self):
        self.honest()
        self.events.append(Event(6, PUT, b"/a/2", b"nobody's"))
        self.found("invented")

    def test_refused_but_there(self):
        self.honest()
        self.events.append(Event(6, PUT, b"/a/1", b"never"))
        self.found("refused")

    def test_wrong_read(self):
        for item in (Item(b"one", 4, 2, 2), Item(b"three", 2, 2, 2), Item(b"three", 4, 4, 2), Item(b"three", 4, 2, 1), None):
            with self.subTest(item):
                self.setUp()
                ops, _ = self.honest()
                ops[-1].reads[b"/a/1"] = item
                self.found("wrong")

    def test_incomplete_list(self):
        ops, _ = self.honest()
        ops[-1].reads.clear()
        self.found("wrong")

    def test_stale_read(self):
        self.honest()
        op = self.history.begin()
        self.history.answered(op, 4, {b"/a/1": Item(b"three", 4, 2, 2)})
        self.found("stale")

    def test_write_before_its_call(self):
        self.honest()
        for known in True, False:
            op = self.history.begin({b"/a/3": b"early"})
            self.events.insert(3, Event(4, PUT, b"/a/3", b"early"))
            self.history.unknown(op)
            if known:
                self.history.answered(op, 4)
            self.found("stale")
            self.setUp()
            self.honest()

    def test_watches(self):
        def gap(w):
            del w.events[1]

        def end(w):
            del w.events[-1]

        def twice(w):
            w.answer(5, w.events[-1:])

        def order(w):
            w.events[0:2] = w.events[1::-1]

        def before(w):
            w.events[2] = w.events[2][0], b"two", w.events[2][2]

        def creation(w):
            w.events[2] = *w.events[2][:2], Item(b"three", 4, 4, 1)

        def progress(w):
            w.events, w.next = [], 2
            w.answer(3, [])
            w.answer(5, self.told())

        def split(w):
            w.events, w.next = [], 2
            w.answer(2, self.told()[:1])
            w.answer(2, [(Event(2, PUT, b"/a/4", b"same revision"), None, Item(b"same revision", 2, 2, 1))])
        for lie in gap, end, twice, order, before, creation, progress, split:
            with self.subTest(lie.__name__):
                self.setUp()
                _, watched = self.honest()
                lie(watched)
                self.assertNotEqual(self.history.check(history.Truth(self.events)), [])


if __name__ == "__main__":
    harness.main()
