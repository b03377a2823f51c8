#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Watch: ordered, complete, opened; progress never overtakes; a value that does not open ends one watch."""
import random
import time

import harness  # first: it sets the path to tests/fake
from client import prefix_end
from harness import Code, DIRECT, wait_until
from protos import kv, rpc


class Watch(harness.E2E):
    def mine(self, **fields):
        """A watch of this test's protected keys."""
        prefix = self.secret("")
        stream = self.client.watch(prefix, prefix_end(prefix), **fields)
        self.addCleanup(stream.cancel)
        return stream

    def test_events(self):
        watch = self.mine(prev_kv=True)
        key = self.secret()
        self.client.put(key, b"one")
        self.client.put(key, b"two")
        self.client.delete(key)
        first, second, third = watch.events(3)
        self.assertEqual((first.type, first.kv.key, first.kv.value), (kv.Event.PUT, key, b"one"))
        self.assertFalse(first.HasField("prev_kv"))
        self.assertEqual((second.kv.value, second.prev_kv.value), (b"two", b"one"))
        self.assertEqual((third.type, third.kv.value), (kv.Event.DELETE, b""))
        self.assertEqual((third.prev_kv.key, third.prev_kv.value), (key, b"two"))

    def test_mixed_keys(self):
        stream = self.client.watch(b"/registry/", b"/registry0", prev_kv=True)
        self.addCleanup(stream.cancel)
        for key in (self.secret(), self.plain()):
            self.client.put(key, key + b" value")
            self.assertEqual(stream.events(1)[0].kv.value, key + b" value")

    def test_history(self):
        """From an old revision: the catch-up answer bundles many revisions."""
        key = self.secret()
        start = self.client.put(key, b"0").header.revision
        for i in range(1, 300):
            self.client.put(key, str(i).encode())
        watch = self.mine(start_revision=start, prev_kv=True)
        events = watch.events(300)
        self.assertEqual([e.kv.value for e in events], [str(i).encode() for i in range(300)])
        self.assertEqual([e.prev_kv.value for e in events[1:]], [str(i).encode() for i in range(299)])
        revisions = [e.kv.mod_revision for e in events]
        self.assertEqual(revisions, sorted(revisions))

    def test_a_txn_arrives_whole(self):
        watch = self.mine()
        keys = [self.secret(f"{i}") for i in range(20)]
        for round_ in range(10):
            value = str(round_).encode()
            self.client.txn([], [rpc.RequestOp(request_put=rpc.PutRequest(key=k, value=value)) for k in keys])
            answer = watch.next()
            self.assertEqual([e.kv.value for e in answer.events], [value] * 20)
            self.assertEqual(len({e.kv.mod_revision for e in answer.events}), 1)

    def test_large_history(self):
        """More than the streaming threshold in one catch-up answer: pieces, each of whole revisions."""
        key, value = self.secret(), random.Random(1).randbytes(200000)
        start = self.client.put(key, b"0" + value).header.revision
        for i in range(1, 40):
            self.client.put(key, str(i).encode() + value)
        watch = self.mine(start_revision=start)
        seen = []
        while len(seen) < 40:
            answer = watch.next(20)
            self.assertTrue(answer.HasField("header"))
            self.assertEqual(answer.watch_id, watch.watch_id)
            self.assertFalse(answer.fragment)
            seen += [e.kv.value for e in answer.events]
        self.assertEqual(seen, [str(i).encode() + value for i in range(40)])

    def test_large_txn_stays_one_answer_without_fragment(self):
        """One revision is one answer, whatever its size."""
        watch = self.mine()
        value = random.Random(2).randbytes(140000)
        ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=self.secret(f"{i:02}"), value=value)) for i in range(10)]
        self.client.txn([], ops)
        answer = watch.next(20)
        self.assertEqual(len(answer.events), 10)
        self.assertTrue(all(e.kv.value == value for e in answer.events))

    def test_fragments(self):
        watch = self.mine(fragment=True)
        value = random.Random(3).randbytes(140000)
        for i in range(10):
            self.client.put(self.secret(f"{i:02}"), value)
        first = self.raw.list(self.secret("")).kvs[0].create_revision
        again = self.mine(fragment=True, start_revision=first)
        self.assertEqual([e.kv.key for e in watch.events(10)], [self.secret(f"{i:02}") for i in range(10)])
        keys, answers = [], 0
        while len(keys) < 10:
            answer = again.next(20)
            answers += 1
            keys += [e.kv.key for e in answer.events]
            self.assertTrue(all(e.kv.value == value for e in answer.events))
            if len(keys) == 10:
                self.assertFalse(answer.fragment, "the last piece says so")
        self.assertEqual(keys, [self.secret(f"{i:02}") for i in range(10)])

    def test_cancel(self):
        watch = self.mine()
        watch.stop(watch.watch_id)
        answer = watch.next()
        self.assertTrue(answer.canceled)
        self.assertEqual(answer.watch_id, watch.watch_id)
        self.client.put(self.secret(), b"x")
        self.assertTrue(watch.quiet(0.3))

    def test_several_watches_of_a_stream(self):
        stream = self.client.watch_stream()
        self.addCleanup(stream.cancel)
        ids = {}
        for name in ("a", "b", "c"):
            stream.create(self.secret(name), watch_id=0)
            ids[stream.created().watch_id] = self.secret(name)
        self.assertEqual(len(ids), 3)
        stream.create(self.secret("chosen"), watch_id=77)
        self.assertEqual(stream.created().watch_id, 77)
        ids[77] = self.secret("chosen")
        for key in ids.values():
            self.client.put(key, key)
        for _ in range(4):
            answer = stream.next()
            self.assertEqual([e.kv.key for e in answer.events], [ids[answer.watch_id]])
            self.assertEqual(answer.events[0].kv.value, ids[answer.watch_id])
        stream.create(self.secret("again"), watch_id=77)
        twice = stream.next()
        self.assertTrue(twice.canceled, twice)

    def test_progress(self):
        watch = self.mine()
        time.sleep(0.2)
        revision = self.client.put(self.secret(), b"x").header.revision
        watch.events(1)
        # 3.5 answers only when all watchers of the stream are synced: ask again.
        for _ in range(50):
            watch.progress()
            try:
                answer = watch.next(0.5)
                break
            except TimeoutError:
                pass
        else:
            self.fail("no progress answer")
        self.assertEqual(len(answer.events), 0)
        self.assertEqual(answer.watch_id, -1)
        self.assertTrue(answer.HasField("header"))
        self.assertGreaterEqual(answer.header.revision, revision)

    def test_progress_is_truthful(self):
        """Everything up to the revision of a progress answer has been delivered before it."""
        watch = self.mine()
        expected = {}
        for i in range(200):
            expected[self.client.put(self.secret(), str(i).encode() * 50).header.revision] = i
            watch.progress()
        seen, last = set(), max(expected)
        deadline = time.monotonic() + 20
        while last not in seen and time.monotonic() < deadline:
            answer = watch.next(20)
            for event in answer.events:
                seen.add(event.kv.mod_revision)
            if not answer.events:
                missing = {r for r in expected if r <= answer.header.revision} - seen
                self.assertFalse(missing, f"progress {answer.header.revision} overtook {sorted(missing)}")
        self.assertEqual(seen, set(expected))

    def test_progress_notify_flag_and_filters(self):
        watch = self.mine(filters=[rpc.WatchCreateRequest.NOPUT], progress_notify=True, prev_kv=True)
        self.client.put(self.secret(), b"x")
        self.client.delete(self.secret())
        event = watch.events(1)[0]
        self.assertEqual((event.type, event.prev_kv.value), (kv.Event.DELETE, b"x"))

    def test_compacted_start(self):
        first = self.client.put(self.secret(), b"1").header.revision
        last = self.client.put(self.secret(), b"2").header.revision
        self.client.compact(last)
        stream = self.client.watch_stream()
        self.addCleanup(stream.cancel)
        stream.create(self.secret(), start_revision=first)
        self.assertTrue(stream.created())
        answer = stream.next()
        self.assertTrue(answer.canceled)
        self.assertEqual(answer.compact_revision, last)

    def test_all_keys(self):
        stream = self.client.watch(b"\0", b"\0")
        self.addCleanup(stream.cancel)
        self.client.put(self.secret(), b"x")
        self.assertEqual(stream.events(1)[0].kv.value, b"x")

    def test_half_close(self):
        """etcd ignores it; events go on."""
        watch = self.mine()
        watch.half_close()
        time.sleep(0.1)
        self.client.put(self.secret(), b"x")
        self.assertEqual(watch.events(1)[0].kv.value, b"x")

    def test_abandoned_watches_go_away_upstream(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        wait_until(lambda: self.watchers() == 0, what="end of the watchers of the tests before")
        streams = [self.mine() for _ in range(20)]
        wait_until(lambda: self.watchers() >= 20, what="watchers in etcd")
        for stream in streams:
            stream.cancel()
        wait_until(lambda: self.watchers() == 0, what="end of the watchers in etcd")

    def watchers(self):
        _, body = harness.http_get(("127.0.0.1", self.etcd.port), "/metrics")
        for line in body.decode().splitlines():
            if line.startswith("etcd_debugging_mvcc_watcher_total "):
                return float(line.split()[1])
        self.fail("no such metric")

    def test_creates_without_end(self):
        """The keys of a stream's watches are held to the answers, so they are bounded."""
        if DIRECT:
            self.skipTest("needs the proxy")
        stream = self.client.watch_stream()
        self.addCleanup(stream.cancel)
        with self.assertRaises(harness.grpc.RpcError) as caught:
            for i in range(64):
                stream.create(self.plain(str(i)) + b"k" * (1 << 20))
                stream.created()
        self.assertEqual(caught.exception.code(), Code.RESOURCE_EXHAUSTED)
        self.assertGreater(i, 10)
        self.client.watch(self.plain()).cancel()

    def test_many_streams(self):
        watches = [self.mine() for _ in range(50)]
        self.client.put(self.secret(), b"for all")
        for watch in watches:
            self.assertEqual(watch.events(1)[0].kv.value, b"for all")


class BadValue(harness.E2E):
    """An event that does not open ends its watch, and no other."""
    needs_proxy = True

    def test_only_that_watch_ends(self):
        stream = self.client.watch_stream()
        self.addCleanup(stream.cancel)
        good, bad = self.secret("good"), self.secret("bad")
        stream.create(good)
        good_id = stream.created().watch_id
        stream.create(bad)
        bad_id = stream.created().watch_id
        self.client.put(bad, b"fine")
        self.assertEqual(stream.next().events[0].kv.value, b"fine")
        self.plant(bad, b"", stored=b"plaintext at rest")
        answer = stream.next()
        self.assertTrue(answer.canceled)
        self.assertEqual(answer.watch_id, bad_id)
        self.assertTrue(answer.HasField("header"))
        self.assertEqual(answer.compact_revision, 0)
        self.assertIn(bad.decode(), answer.cancel_reason)
        self.assertNotIn("plaintext at rest", answer.cancel_reason)
        self.assertEqual(len(answer.events), 0)
        # Nothing more for that id, etcd's own canceled answer included; the other one goes on.
        self.client.put(bad, b"fine again")
        self.client.put(good, b"still here")
        answer = stream.next()
        self.assertEqual((answer.watch_id, answer.events[0].kv.value), (good_id, b"still here"))
        self.assertTrue(stream.quiet(0.3))
        # The list shows why.
        self.plant(bad, b"", stored=b"plaintext at rest")
        self.assertStatus(Code.DATA_LOSS, self.client.get, bad)

    def test_bad_prev_kv(self):
        key = self.secret()
        self.plant(key, b"", stored=b"plaintext at rest")
        watch = self.client.watch(key, prev_kv=True)
        without = self.client.watch(key)
        self.addCleanup(watch.cancel)
        self.addCleanup(without.cancel)
        self.client.put(key, b"good")
        self.assertEqual(without.events(1)[0].kv.value, b"good")
        self.assertTrue(watch.next().canceled)

    def test_events_before_it_are_delivered(self):
        key = self.secret()
        start = self.client.put(key, b"0").header.revision
        for i in range(1, 10):
            self.client.put(key, str(i).encode())
        self.plant(key, b"", stored=b"k8s:enc:kms:v2:test:broken")
        for i in range(3):
            self.client.put(key, b"after")
        watch = self.client.watch(key, start_revision=start)
        self.addCleanup(watch.cancel)
        values = []
        while True:
            answer = watch.next()
            if answer.canceled:
                break
            values += [e.kv.value for e in answer.events]
        self.assertEqual(values, [str(i).encode() for i in range(10)])

    def test_half_closed_stream_ends_with_data_loss(self):
        watch = self.client.watch(self.secret())
        self.addCleanup(watch.cancel)
        watch.half_close()
        time.sleep(0.2)
        self.plant(self.secret(), b"", stored=b"plaintext at rest")
        with self.assertRaises(harness.grpc.RpcError) as caught:
            while not watch.next().canceled:
                pass
        self.assertEqual(caught.exception.code(), Code.DATA_LOSS)

    def test_delete_of_a_bad_value_is_fine(self):
        key = self.secret()
        self.plant(key, b"", stored=b"plaintext at rest")
        watch = self.client.watch(key)
        self.addCleanup(watch.cancel)
        self.client.delete(key)
        self.assertEqual(watch.events(1)[0].type, kv.Event.DELETE)


if __name__ == "__main__":
    harness.main()
