#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that write, read, list, watch and give up, through TLS on both sides, while everything round them fails in
turn: etcd killed or held, connections cut, the proxy killed, drained or reloaded, the plugin away, slow or with another
key. The history is held to etcd's own (tests/fake/history.py): nothing acknowledged is lost, nothing is doubled or
stale, no watch has a gap, and nothing that is protected lies in etcd in clear.

Environment: CHAOS_S (seconds; default: each fault once, with E2E_LONG 180 s), E2E_SEED."""
import collections
import os
import random
import signal
import threading
import time
import unittest

import harness  # first: it sets the path to tests/fake
import history
import tap
from client import prefix_end
from harness import Code, LONG, envelope, wait_until
from history import DELETE, PUT, Event, Item
from protos import rpc
from test_local_keys import Key
from test_reload import HEAD, kms_of, local, rule

SECONDS = float(os.environ.get("CHAOS_S", 180 if LONG else 0))
MARKER, CLEAR = b"CHAOS-PLAINTEXT", b"chaos-in-clear"
SECRETS, PODS = b"/registry/secrets/chaos/", b"/registry/pods/chaos/"
# What a call may end with while its servers come and go. Anything else is a verdict on a value or a request.
MAY_BE = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.FAILED_PRECONDITION)
CLIENTS = 5


def item_of(kv):
    return Item(kv.value, kv.mod_revision, kv.create_revision, kv.version)


class Worker:
    """One client: its calls, one after the other, in the history."""

    def __init__(self, number, run, rng):
        self.number, self.run, self.rng, self.count = number, run, rng, 0
        self.client = run.connect()
        self.known = {}  # key -> mod_revision, as it was last seen

    def key(self):
        return PODS + b"%d" % self.rng.randrange(3) if self.rng.random() < 0.2 else SECRETS + b"%d" % self.rng.randrange(8)

    def value(self, key):
        self.count += 1
        head = MARKER if key.startswith(SECRETS) else CLEAR
        return head + b" %d/%d " % (self.number, self.count) + b"." * self.rng.choice((0, 10, 300, 300, 3000, 40000))

    def until(self, stop):
        while not stop.is_set():
            action = self.rng.choices((self.put, self.transaction, self.delete, self.get, self.list),
                                      (4, 3, 1, 4, 1))[0]
            action()
        self.client.close()

    def call(self, op, method, request, response):
        """The answer, or None if there is none. Some calls have hardly any time, some are cancelled."""
        dice, timeout = self.rng.random(), 2
        if dice < 0.06:
            timeout = self.rng.random() * 0.02
        try:
            if dice > 0.95:
                call = self.client.start("/etcdserverpb.KV/" + method, request, response, timeout)
                time.sleep(self.rng.random() * 0.01)
                call.cancel()
                return call.result()
            return self.client.kv(method, request, response, timeout=timeout)
        except harness.grpc.FutureCancelledError:
            pass
        except harness.grpc.RpcError as error:
            self.run.failed(error)
        self.run.history.unknown(op)
        return None

    def put(self):
        key = self.key()
        value = self.value(key)
        op = self.run.history.begin({key: value})
        answer = self.call(op, "Put", rpc.PutRequest(key=key, value=value), rpc.PutResponse)
        if answer:
            self.known[key] = answer.header.revision
            self.run.history.answered(op, answer.header.revision)

    def transaction(self):
        """As kube-apiserver writes: only if nobody else has; and sometimes another key at the same revision."""
        key = self.key()
        puts = {key: self.value(key)}
        if self.rng.random() < 0.3:
            other = self.key()
            puts[other] = self.value(other)
        op = self.run.history.begin(puts)
        answer = self.call(op, "Txn", rpc.TxnRequest(
            compare=[rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key,
                                 mod_revision=self.known.get(key, 0))],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=k, value=v)) for k, v in puts.items()],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))]), rpc.TxnResponse)
        if not answer:
            return
        reads = {}
        if answer.succeeded:
            self.known.update(dict.fromkeys(puts, answer.header.revision))
        else:
            reads = self.reads([key], answer.responses[0].response_range)
        self.run.history.answered(op, answer.header.revision, reads, refused=not answer.succeeded)

    def delete(self):
        key = self.key()
        op = self.run.history.begin(deletes=[key])
        answer = self.call(op, "DeleteRange", rpc.DeleteRangeRequest(key=key), rpc.DeleteRangeResponse)
        if answer:
            self.known[key] = 0
            self.run.history.answered(op, answer.header.revision, deleted=answer.deleted)

    def reads(self, keys, answer):
        reads = dict.fromkeys(keys)
        reads.update({kv.key: item_of(kv) for kv in answer.kvs})
        self.known.update({key: item.mod_revision if item else 0 for key, item in reads.items()})
        return reads

    def get(self):
        key = self.key()
        op = self.run.history.begin()
        answer = self.call(op, "Range", rpc.RangeRequest(key=key), rpc.RangeResponse)
        if answer:
            self.run.history.answered(op, answer.header.revision, self.reads([key], answer))

    def list(self):
        op = self.run.history.begin()
        answer = self.call(op, "Range", rpc.RangeRequest(key=SECRETS, range_end=prefix_end(SECRETS)), rpc.RangeResponse)
        if answer:
            self.run.history.answered(op, answer.header.revision, self.reads([], answer), listed=SECRETS)


class Watcher:
    """Follows a prefix over as many streams as it takes, until it has been told of revision `last`."""

    def __init__(self, run, prefix, first):
        self.run, self.prefix, self.watched = run, prefix, run.history.watch(prefix, first)
        self.last, self.streams = None, 0

    def is_done(self):
        return self.last is not None and self.watched.next > self.last or self.run.given_up.is_set()

    def follow(self):
        while not self.is_done():
            client = self.run.connect()
            stream = client.watch_stream()
            stream.create(self.prefix, prefix_end(self.prefix), start_revision=self.watched.next, prev_kv=True)
            self.streams += 1
            try:
                self.read(stream)
            except harness.grpc.RpcError as error:
                self.run.failed(error)
                time.sleep(0.02)
            stream.cancel()
            client.close()

    def read(self, stream):
        silent = count = 0
        while not self.is_done() and silent < 20:  # a stream that is silent for 6 s is opened anew
            count += 1
            if count % 16 == 0:
                stream.progress()
            try:
                answer = stream.next(0.3)
            except TimeoutError:
                silent += 1
                continue
            silent = 0
            if answer.canceled:
                self.run.problems.append(f"watch canceled: {answer.cancel_reason}")
                return
            if answer.created:
                continue
            self.watched.answer(answer.header.revision, [self.event(e) for e in answer.events])

    @staticmethod
    def event(e):
        is_put = e.type == e.PUT
        return (Event(e.kv.mod_revision, PUT if is_put else DELETE, e.kv.key, e.kv.value if is_put else None),
                e.prev_kv.value if e.HasField("prev_kv") else None)


class Chaos(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.etcd = cls.env.etcd(tls=cls.tls)
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

    # --- what the workers use ---

    def connect(self):
        return harness.Client(self.proxy.target, self.tls.credentials())

    def failed(self, error):
        self.codes[error.code()] += 1
        if error.code() not in MAY_BE and not error.details().startswith("etcdserver:"):
            self.problems.append(f"{error.code().name}: {error.details()}")

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

    def pause(self):
        return 0.2 + self.rng.random() * (3 if LONG else 0.4)

    def serves(self):
        """A protected value is written and read on a new connection."""
        client = self.connect()
        try:
            client.put(b"/registry/secrets/probe", b"x", timeout=1)
            return client.value(b"/registry/secrets/probe", timeout=1) == b"x"
        except harness.grpc.RpcError:
            return False
        finally:
            client.close()

    def disturb(self):
        """Every fault in an order of its own, over and over; waits for service behind each."""
        faults, over = [], time.monotonic() + SECONDS
        while True:
            if not faults:
                if self.done and time.monotonic() > over:
                    return
                faults = list(self.FAULTS)
                self.rng.shuffle(faults)
            fault = faults.pop()
            began = time.monotonic()
            fault(self)
            healed = time.monotonic()
            wait_until(self.serves, 30, f"service after {fault.__name__}")
            self.done[fault.__name__].append((healed - began, time.monotonic() - healed))
            time.sleep(self.pause())

    # --- the test ---

    def test_chaos(self):
        self.rng = harness.seed_of("chaos")
        self.history = history.History(time.monotonic)
        self.problems, self.codes, self.logs = [], collections.Counter(), []
        self.done, self.number = collections.defaultdict(list), 1
        self.given_up, stop = threading.Event(), threading.Event()
        first = self.etcd.client.get(b"x").header.revision + 1
        workers = [Worker(i, self, random.Random(self.rng.random())) for i in range(CLIENTS)]
        watchers = [Watcher(self, prefix, first) for prefix in (SECRETS, SECRETS, PODS)]
        threads = [threading.Thread(target=worker.until, args=(stop,)) for worker in workers]
        following = [threading.Thread(target=watcher.follow) for watcher in watchers]
        for thread in threads + following:
            thread.start()
        try:
            self.disturb()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            self.finish(watchers, following)
        self.judge(first, watchers)

    def finish(self, watchers, threads):
        """The last write of each prefix; watchers end when they have been told of it, or have had their time."""
        worker = Worker(CLIENTS, self, random.Random(0))
        for prefix in PODS, SECRETS:
            value = worker.value(prefix)
            op = self.history.begin({prefix + b"last": value})
            answer = worker.client.put(prefix + b"last", value)
            self.history.answered(op, answer.header.revision)
            for watcher in watchers:
                if watcher.prefix == prefix:
                    watcher.last = answer.header.revision
        worker.client.close()
        deadline = time.monotonic() + 30
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.1))
        self.given_up.set()
        for thread in threads:
            thread.join()
        self.problems += [f"the watch of {w.prefix} was not told of the end" for w in watchers if w.watched.next <= w.last]

    def opened(self, key, stored):
        """What etcd has, opened without the proxy."""
        if key.startswith(PODS):
            return stored
        if stored.startswith(self.gcm.prefix):
            return self.gcm.open(key, stored)
        return envelope.unseal(key, stored)  # ValueError: it is no envelope

    def truth(self, first):
        """etcd's own history, which nobody compacts."""
        watch = self.etcd.client.watch(b"\0", b"\0", start_revision=first)
        last, events, ways = self.etcd.client.get(b"x").header.revision, [], collections.Counter()
        while not events or events[-1].revision < last:
            for e in watch.next(10).events:
                key, value = e.kv.key, e.kv.value
                is_ours = key.startswith((SECRETS, PODS))
                if is_ours and e.type == e.PUT:
                    ways[value[:15] if key.startswith(SECRETS) else b"clear"] += 1
                    value = self.opened(key, value)
                events.append(Event(e.kv.mod_revision, PUT if e.type == e.PUT else DELETE, key,
                                    value if e.type == e.PUT else None))
        watch.cancel()
        print(f"stored: {dict(ways)}", file=harness.sys.stderr)
        self.assertEqual(len(ways), 3, "both kinds of key are written with, and pods in clear")
        return history.Truth(e for e in events if e.key.startswith((SECRETS, PODS)))

    def judge(self, first, watchers):
        truth = self.truth(first)
        ops = self.history.ops
        answered = sum(op.revision is not None for op in ops)
        print(f"{len(ops)} calls, {answered} answered, {len(truth.events)} events, "
              f"{sum(w.streams for w in watchers)} watch streams; failures: "
              f"{ {code.name: n for code, n in self.codes.items()} }", file=harness.sys.stderr)
        for name, times in sorted(self.done.items()):
            print(f"{name}: {len(times)} times, service back after at most {max(t for _, t in times):.1f} s",
                  file=harness.sys.stderr)
        self.assertEqual(self.problems, [])
        self.assertEqual(self.history.check(truth)[:5], [])
        self.assertGreater(answered, len(self.done) * 3)
        self.assertEqual({f.__name__ for f in self.FAULTS}, set(self.done))

        self.etcd.process.kill()
        at_rest = b"".join(path.read_bytes() for path in self.etcd.data.rglob("*") if path.is_file())
        self.assertIn(CLEAR, at_rest)
        self.assertNotIn(MARKER, at_rest)
        self.assertEqual(self.proxy.process.term(30), 0)
        for path in self.logs + [self.proxy.process.log_path]:
            text = path.read_text(errors="replace")
            for word in "Sanitizer", "runtime error", "CHECK", MARKER.decode():
                self.assertNotIn(word, text)

    def tearDown(self):
        pass  # the test has ended the proxy


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
        befores = [None, None, b"one", b"two"]
        watched.answer(3, list(zip(self.events[:2], befores[:2])))
        watched.answer(5, list(zip(self.events[2:], befores[2:])))
        watched.answer(6, [])
        return self.history.ops, watched

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
            w.events[2] = w.events[2][0], b"two"

        def progress(w):
            w.events, w.next = [], 2
            w.answer(3, [])
            w.answer(5, list(zip(self.events, [None, None, b"one", b"two"])))

        def split(w):
            w.events, w.next = [], 2
            w.answer(2, [(self.events[0], None)])
            w.answer(2, [(Event(2, PUT, b"/a/4", b"same revision"), None)])
        for lie in gap, end, twice, order, before, progress, split:
            with self.subTest(lie.__name__):
                self.setUp()
                _, watched = self.honest()
                lie(watched)
                self.assertNotEqual(self.history.check(history.Truth(self.events)), [])


if __name__ == "__main__":
    harness.main()
