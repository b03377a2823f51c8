# SPDX-License-Identifier: Apache-2.0
"""What chaos runs share: clients and watchers that keep a history while faults come in turn, and the verdict on it.

Environment: CHAOS_S (seconds; default: each fault once, with E2E_LONG 180 s), E2E_SEED."""
import collections
import os
import random
import statistics
import threading
import time

import harness
import history
from client import prefix_end
from harness import Code, LONG, SANITIZED, envelope, wait_until
from history import DELETE, PUT, Event, Item
from protos import rpc

SECONDS = float(os.environ.get("CHAOS_S", 180 if LONG else 0))
MARKER, CLEAR = b"CHAOS-PLAINTEXT", b"chaos-in-clear"
SECRETS, PODS = b"/registry/secrets/chaos/", b"/registry/pods/chaos/"
# What a call may end with while its servers come and go. Anything else is a verdict on a value or a request.
# UNKNOWN is etcd's, for errors that have no code of their own ("raft proposal dropped").
MAY_BE = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.FAILED_PRECONDITION, Code.UNKNOWN)
CLIENTS = 5
BACK, BACK_ETCD = 2, 5  # seconds from the end of a fault to service, of the proxy or a plugin, and of etcd
AGAIN = 3               # what took longer is done so often in all, and the middle of that counts


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
            stream = client.watch_stream(self.run.metadata)
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
                e.prev_kv.value if e.HasField("prev_kv") else None, item_of(e.kv) if is_put else None)


class Run:
    """One half of a class of tests; the other has FAULTS (functions that leave everything as it was), connect(), the
    proxy, and in etcds those whose data is looked at in the end."""
    needs_proxy = True
    metadata = ()   # of watches
    back = {}       # seconds to service behind a fault, by its name, where it is not BACK
    kinds = 2       # of stored values: in clear, and sealed in this many ways

    def failed(self, error):
        self.codes[error.code()] += 1
        is_ours = error.code() == Code.UNKNOWN and error.details().startswith("etcd-envelope:")
        if is_ours or error.code() not in MAY_BE and not error.details().startswith("etcdserver:"):
            self.problems.append(f"{error.code().name}: {error.details()}")

    def pause(self):
        return 0.2 + self.rng.random() * (1.5 if LONG else 0.4)

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
        """Every fault in an order of its own, over and over, then again those that were slow to end."""
        over = time.monotonic() + SECONDS
        while not self.done or time.monotonic() < over:
            self.disturb_by(self.FAULTS)
        while slow := [f for f in self.FAULTS if self.is_slow(f.__name__) and len(self.done[f.__name__]) < AGAIN]:
            self.disturb_by(slow)

    def disturb_by(self, faults):
        """Waits for service behind each; and asks for it once more, for the machine's pace."""
        for fault in self.rng.sample(faults, len(faults)):
            began = time.monotonic()
            fault(self)
            healed = time.monotonic()
            wait_until(self.serves, 60, f"service after {fault.__name__}")
            back = time.monotonic()
            self.serves()
            self.done[fault.__name__].append((healed - began, back - healed))
            self.paces.append(time.monotonic() - back)
            time.sleep(self.pause())

    def time_to_service(self, name):
        return statistics.median_low(back for _, back in self.done[name])

    def may_take(self, name):
        """A start and its handshakes are worth some calls, which on a busy machine take their time without any fault."""
        return self.back.get(name, BACK) * (5 if SANITIZED else 1) + 5 * statistics.median(self.paces)

    def is_slow(self, name):
        return self.time_to_service(name) > self.may_take(name)

    def run_chaos(self):
        self.rng = harness.seed_of(self.name)
        self.history = history.History(time.monotonic)
        self.problems, self.codes, self.logs, self.paces = [], collections.Counter(), [], []
        self.done = collections.defaultdict(list)
        self.given_up, stop = threading.Event(), threading.Event()
        first = self.etcds[0].client.get(b"x").header.revision + 1
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
        deadline = time.monotonic() + 60
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
        return envelope.unseal(key, stored)  # ValueError: it is no envelope

    def truth(self, first):
        """etcd's own history, which nobody compacts."""
        watch = self.etcds[0].client.watch(b"\0", b"\0", start_revision=first)
        last, events, ways = self.etcds[0].client.get(b"x").header.revision, [], collections.Counter()
        while not events or events[-1].revision < last:
            for e in watch.next(60).events:
                key, value = e.kv.key, e.kv.value
                is_ours = key.startswith((SECRETS, PODS))
                if is_ours and e.type == e.PUT:
                    ways[value[:15] if key.startswith(SECRETS) else b"clear"] += 1
                    value = self.opened(key, value)
                events.append(Event(e.kv.mod_revision, PUT if e.type == e.PUT else DELETE, key,
                                    value if e.type == e.PUT else None))
        watch.cancel()
        print(f"stored: {dict(ways)}", file=harness.sys.stderr)
        self.assertEqual(len(ways), self.kinds, "values in clear, and sealed by each provider")
        return history.Truth(e for e in events if e.key.startswith((SECRETS, PODS)))

    def judge(self, first, watchers):
        truth = self.truth(first)
        ops = self.history.ops
        answered = sum(op.revision is not None for op in ops)
        print(f"{len(ops)} calls, {answered} answered, {len(truth.events)} events, "
              f"{sum(w.streams for w in watchers)} watch streams; failures: "
              f"{ {code.name: n for code, n in self.codes.items()} }", file=harness.sys.stderr)
        for name, times in sorted(self.done.items()):
            print(f"{name}: {len(times)} times, service back after at most {max(t for _, t in times):.1f} s, of "
                  f"{self.may_take(name):.1f}", file=harness.sys.stderr)
        self.assertEqual(self.problems, [])
        self.assertEqual(self.history.check(truth)[:5], [])
        self.assertGreater(answered, len(self.done) * 3)
        self.assertEqual({f.__name__ for f in self.FAULTS}, set(self.done))
        self.assertEqual([name for name in self.done if self.is_slow(name)], [], "slow to serve again")
        self.judge_files()

    def judge_files(self):
        for etcd in self.etcds:
            etcd.process.kill()
            at_rest = b"".join(path.read_bytes() for path in etcd.data.rglob("*") if path.is_file())
            self.assertIn(CLEAR, at_rest)
            self.assertNotIn(MARKER, at_rest)
        self.assertEqual(self.proxy.process.term(30), 0)
        for path in self.logs + [self.proxy.process.log_path]:
            text = path.read_text(errors="replace")
            for word in "Sanitizer", "runtime error", "CHECK", MARKER.decode():
                self.assertNotIn(word, text)

    def tearDown(self):
        pass  # the test has ended the proxy
