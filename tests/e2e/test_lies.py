#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An etcd that lies: swapped envelopes, planted plaintext, keys that nobody asked for, sub-messages given twice,
in Get, list, Txn, prev_kv and Watch. The client gets DATA_LOSS (in a watch: the end of that watch), never a
value; answers that are only unusual pass."""
import copy

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
from client import prefix_end
from fake_etcd import KV, WATCH
from harness import Code, envelope
from protos import kv, rpc

SECRET = b"the value that etcd must not be able to exchange"


def varint(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def number(num, value):
    return varint(num << 3) + varint(value)


class LyingEtcd(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.proxy = cls.env.proxy([cls.fake.url], cls.config)
        cls.client = cls.env.client(cls.proxy.target)

    def setUp(self):
        super().setUp()
        self.fake.lie = None
        self.fake.script = None

    def tearDown(self):
        self.fake.lie = self.fake.script = None
        super().tearDown()
        self.assertEqual(self.fake.problems, [])

    def lie(self, path, function):
        """Applies function(answer, request) to the answers of one method."""
        self.fake.lie = lambda p, request, answer: function(answer, request) if p == path else None

    def refused(self, function, *arguments, **keywords):
        text = self.assertStatus(Code.DATA_LOSS, function, *arguments, **keywords)
        self.assertNotIn(SECRET.decode(), text)
        return text

    def assertEnds(self, watch):
        """The watch is canceled, or the whole stream ends with DATA_LOSS; no value comes out."""
        try:
            answer = watch.next()
        except harness.grpc.RpcError as error:
            self.assertEqual(error.code(), Code.DATA_LOSS)
        else:
            self.assertTrue(answer.canceled, answer)
            self.assertEqual(answer.watch_id, watch.watch_id)
            self.assertEqual(len(answer.events), 0)
        watch.cancel()

    def sealed(self, key, value=SECRET):
        return envelope.seal(key, value)


class Honest(LyingEtcd):
    def test_the_fake_is_a_usable_etcd(self):
        key = self.secret()
        self.client.put(key, SECRET)
        self.assertEqual(self.client.value(key), SECRET)
        self.assertEqual(envelope.unseal(key, self.fake.store[key].value), SECRET)
        watch = self.client.watch(key, prev_kv=True)
        self.client.put(key, b"2", prev_kv=True)
        event = watch.events(1)[0]
        self.assertEqual((event.kv.value, event.prev_kv.value), (b"2", SECRET))
        watch.cancel()
        answer = self.client.txn([], [rpc.RequestOp(request_range=rpc.RangeRequest(key=key)),
                                      rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(
                                          key=key, prev_kv=True))])
        self.assertEqual(answer.responses[0].response_range.kvs[0].value, b"2")
        self.assertEqual(answer.responses[1].response_delete_range.prev_kvs[0].value, b"2")

    def test_unknown_fields_pass(self):
        key = self.secret()
        self.client.put(key, SECRET)
        extra = field(99, b"from the future") + number(98, 7)

        def add(answer, _):
            kvs = field(2, answer.kvs[0].SerializeToString() + extra)
            return field(1, answer.header.SerializeToString() + extra) + kvs + number(4, 1) + extra
        self.lie(KV + "Range", add)
        raw = self.client.unary(KV + "Range", rpc.RangeRequest(key=key), bytes)
        self.assertEqual(raw.count(extra), 3)
        self.assertEqual(rpc.RangeResponse.FromString(raw).kvs[0].value, SECRET)

    def test_unprotected_bytes_pass_as_they_are(self):
        """Odd but legal encodings of what does not concern us are forwarded byte for byte."""
        odd = b"\x20\x81\x80\x00" + b"\x0a\x80\x00" + b"\x20\x02" + field(77, b"x" * 300) + b"\x9d\x06abcd"
        self.fake.script = lambda call: call.path == KV + "Range" and (call.finish(odd), True)[1]
        self.assertEqual(self.client.unary(KV + "Range", rpc.RangeRequest(key=b"/other"), bytes), odd)

    def test_value_before_key(self):
        key = self.secret()
        record = field(5, self.sealed(key)) + number(3, 5) + field(1, key)
        self.lie(KV + "Range", lambda answer, _: number(4, 1) + field(2, record))
        self.assertEqual(self.client.value(key), SECRET)

    def test_nothing_but_a_header(self):
        self.lie(KV + "Range", lambda answer, _: b"")
        self.assertEqual(len(self.client.get(self.secret()).kvs), 0)


class Values(LyingEtcd):
    """What may stand in a KeyValue, in every place where one can be."""

    def bad_values(self, key):
        other = self.secret("other")
        good = self.sealed(key)
        yield "of another key", self.sealed(other)
        yield "plaintext", SECRET
        yield "empty", b""
        yield "cut", good[:-1]
        yield "longer", good + b"\0"
        yield "another provider", envelope.seal(key, SECRET, provider="other")
        yield "prefix only", b"k8s:enc:kms:v2:test:"
        yield "unwrappable", envelope.seal(key, SECRET)[:-80] + bytes(80)
        flipped = bytearray(good)
        flipped[90] ^= 1
        yield "a flipped bit", bytes(flipped)

    def test_get_and_list(self):
        key = self.secret()
        for name, value in self.bad_values(key):
            with self.subTest(name):
                self.fake.put(rpc.PutRequest(key=key, value=value))
                self.assertIn(key.decode(), self.refused(self.client.get, key))
                self.refused(self.client.list, self.secret(""))
                self.refused(self.client.get, b"\0", b"\0")
        self.fake.delete(rpc.DeleteRangeRequest(key=key))

    def test_prev_kv(self):
        key = self.secret()
        for name, value in self.bad_values(key):
            with self.subTest(name):
                self.fake.put(rpc.PutRequest(key=key, value=value))
                self.refused(self.client.put, key, b"new", prev_kv=True)
                self.fake.put(rpc.PutRequest(key=key, value=value))
                self.refused(self.client.delete, key, prev_kv=True)

    def test_txn(self):
        key = self.secret()
        reads = [rpc.RequestOp(request_range=rpc.RangeRequest(key=key)),
                 rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"x", prev_kv=True)),
                 rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, prev_kv=True))]
        reads.append(rpc.RequestOp(request_txn=rpc.TxnRequest(success=[reads[0]])))
        for name, value in self.bad_values(key):
            for op in reads:
                with self.subTest(name, op=op.WhichOneof("request")):
                    self.fake.put(rpc.PutRequest(key=key, value=value))
                    self.refused(self.client.txn, [], [op])

    def test_watch(self):
        key = self.secret()
        for name, value in self.bad_values(key):
            for prev in (False, True):
                with self.subTest(name, prev=prev):
                    watch = self.client.watch(key, prev_kv=prev)
                    self.fake.put(rpc.PutRequest(key=key, value=value))
                    answer = watch.next()
                    self.assertTrue(answer.canceled, answer)
                    self.assertEqual(answer.watch_id, watch.watch_id)
                    self.assertNotIn(SECRET, answer.SerializeToString())
                    self.assertTrue(watch.quiet(0.05))
                    watch.cancel()
                    self.fake.delete(rpc.DeleteRangeRequest(key=key))

    def test_keys_only_may_be_empty_and_nothing_else(self):
        key = self.secret()
        self.client.put(key, SECRET)
        self.assertEqual(self.client.get(key, keys_only=True).kvs[0].value, b"")
        self.lie(KV + "Range", lambda answer, _: setattr(answer.kvs[0], "value", SECRET))
        self.refused(self.client.get, key, keys_only=True)


class OutsideOfTheRequest(LyingEtcd):
    """A good envelope under its own key is still a lie if that key was not asked for."""

    def test_get(self):
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(mine, b"mine")
        self.client.put(other, SECRET)
        self.lie(KV + "Range", lambda answer, _: answer.kvs[0].CopyFrom(self.fake.store[other]))
        self.refused(self.client.get, mine)
        # An unprotected key as well: else a protected one could be answered as if it were plain.
        plain = kv.KeyValue(key=self.plain(), value=SECRET)
        self.lie(KV + "Range", lambda answer, _: answer.kvs[0].CopyFrom(plain))
        self.refused(self.client.get, mine)
        self.lie(KV + "Range", lambda answer, _: answer.kvs.add().CopyFrom(plain))
        self.refused(self.client.get, mine)
        near = kv.KeyValue(key=b"/registry/secretsx/" + self.name.encode(), value=SECRET)
        self.lie(KV + "Range", lambda answer, _: answer.kvs.add().CopyFrom(near))
        self.refused(self.client.list, b"/registry/secrets/")

    def test_ends_of_a_list(self):
        prefix = self.secret("b")
        self.client.put(prefix, b"in")
        for key in (self.secret("a\xff"), prefix_end(prefix), prefix_end(prefix) + b"x", prefix[:-1], b"\xff"):
            self.lie(KV + "Range", lambda answer, _: answer.kvs.add().CopyFrom(
                kv.KeyValue(key=key, value=envelope.seal(key, SECRET) if b"secrets" in key else SECRET)))
            self.refused(self.client.list, prefix)
        inside = prefix + b"\xff\xff"
        self.lie(KV + "Range", lambda answer, _: answer.kvs.add().CopyFrom(
            kv.KeyValue(key=inside, value=envelope.seal(inside, SECRET))))
        self.assertEqual(len(self.client.list(prefix).kvs), 2)

    def test_put_and_delete(self):
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(mine, b"mine")
        self.client.put(other, SECRET)
        foreign = self.fake.store[other]
        self.lie(KV + "Put", lambda answer, _: answer.prev_kv.CopyFrom(foreign))
        self.refused(self.client.put, mine, b"new", prev_kv=True)
        self.lie(KV + "DeleteRange", lambda answer, _: answer.prev_kvs.add().CopyFrom(foreign))
        self.refused(self.client.delete, mine, prev_kv=True)

    def test_txn(self):
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(mine, b"mine")
        self.client.put(other, SECRET)
        foreign = copy.deepcopy(self.fake.store[other])
        get = rpc.RequestOp(request_range=rpc.RangeRequest(key=mine))
        self.lie(KV + "Txn", lambda answer, _: answer.responses[0].response_range.kvs[0].CopyFrom(foreign))
        self.refused(self.client.txn, [], [get])
        deep = rpc.RequestOp(request_txn=rpc.TxnRequest(success=[get]))
        self.lie(KV + "Txn", lambda answer, _: answer.responses[0].response_txn.responses[0]
                 .response_range.kvs[0].CopyFrom(foreign))
        self.refused(self.client.txn, [], [deep])

    def test_watch(self):
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(other, SECRET)
        foreign = copy.deepcopy(self.fake.store[other])
        watch = self.client.watch(mine)
        self.lie(WATCH, lambda answer, _: answer.events[0].kv.CopyFrom(foreign) if answer.events else None)
        self.fake.put(rpc.PutRequest(key=mine, value=self.sealed(mine)))
        self.assertEnds(watch)

    def test_prev_kv_of_another_key(self):
        """Inside of the watched range, but not the event's key."""
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(mine, b"mine")
        self.client.put(other, SECRET)
        foreign = copy.deepcopy(self.fake.store[other])
        watch = self.client.watch(self.secret(""), prefix_end(self.secret("")), prev_kv=True)
        self.lie(WATCH, lambda answer, _: answer.events[0].prev_kv.CopyFrom(foreign) if answer.events else None)
        self.client.put(mine, b"new")
        self.assertEnds(watch)

    def test_unknown_watch_id(self):
        key = self.secret()
        watch = self.client.watch(key)
        self.lie(WATCH, lambda answer, _: setattr(answer, "watch_id", 4711) if answer.events else None)
        self.fake.put(rpc.PutRequest(key=key, value=self.sealed(key)))
        with self.assertRaises(harness.grpc.RpcError) as caught:
            answer = watch.next()
            self.assertNotIn(SECRET, answer.SerializeToString())
            self.assertTrue(answer.canceled)
            watch.next()
        self.assertEqual(caught.exception.code(), Code.DATA_LOSS)


class Operations(LyingEtcd):
    """Response i of a Txn answers operation i of the branch that succeeded names."""

    def get(self, key, **fields):
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, **fields))

    def test_operations(self):
        one, two = self.secret("one"), self.secret("two")
        self.client.put(one, b"1")
        self.client.put(two, b"2")
        ops = [self.get(one), self.get(two), self.get(one, keys_only=True)]
        answer = self.client.txn([], ops)
        self.assertEqual([r.response_range.kvs[0].value for r in answer.responses], [b"1", b"2", b""])

        lies = {
            "empty value": lambda a: setattr(a.responses[0].response_range.kvs[0], "value", b""),
            "swapped": lambda a: a.responses.append(a.responses.pop(0)),
            "one less": lambda a: a.responses.pop(),
            "one more": lambda a: a.responses.add().CopyFrom(a.responses[2]),
            "no member": lambda a: a.responses[1].Clear(),
            "another member": lambda a: a.responses[1].response_put.prev_kv.CopyFrom(
                a.responses[1].response_range.kvs[0]),
            "the other branch": lambda a: a.ClearField("succeeded"),
            "nothing": lambda a: a.ClearField("responses"),
        }
        for name, change in lies.items():
            with self.subTest(name):
                self.lie(KV + "Txn", lambda answer, _: change(answer) and None)
                self.refused(self.client.txn, [], ops)
                self.lie(KV + "Txn", lambda answer, _: change(answer.responses[0].response_txn) and None)
                self.refused(self.client.txn, [], [rpc.RequestOp(request_txn=rpc.TxnRequest(success=ops))])


class WatchIds(LyingEtcd):
    """An id that the client asked for has to come back; 0 leaves the choice to etcd."""

    def answers(self, ids, **fields):
        """The creates are answered with these ids."""
        left = list(ids)

        def lie(path, request, answer):
            if path == WATCH and answer.created:
                answer.watch_id = left.pop(0)
                for name, value in fields.items():
                    setattr(answer, name, value)
        self.fake.lie = lie

    def event(self, key, watch_id, value=SECRET):
        answer = rpc.WatchResponse(header=self.fake.header(), watch_id=watch_id)
        answer.events.add().kv.CopyFrom(kv.KeyValue(key=key, mod_revision=9, value=self.sealed(key, value)))
        self.call.message(answer)

    def test_in_another_order(self):
        a, b = self.secret("a"), self.secret("b")
        stream = self.client.watch_stream()
        creates = []

        def both(call):
            creates.append(call.payload)
            if len(creates) == 2:
                for watch_id in (6, 5):
                    call.message(rpc.WatchResponse(header=self.fake.header(), watch_id=watch_id, created=True))
                self.call = call
            return True
        self.fake.script = both
        stream.create(a, watch_id=5)
        stream.create(b, watch_id=6)
        self.assertEqual([stream.next().watch_id, stream.next().watch_id], [6, 5])
        self.event(b, 6, b"of b")
        self.assertEqual(stream.next().events[0].kv.value, b"of b")
        self.event(a, 5, b"of a")
        self.assertEqual(stream.next().events[0].kv.value, b"of a")
        stream.watch_id = 6
        self.event(a, 6)
        self.assertEnds(stream)

    def test_an_event_outside_ends_one_watch(self):
        a, b = self.secret("a"), self.secret("b")
        stream = self.client.watch_stream()
        stream.create(a)
        stream.create(b)
        ids = [stream.created().watch_id, stream.created().watch_id]
        self.call = self.fake.watchers[-1][0]
        self.event(b, ids[0])
        answer = stream.next()
        self.assertEqual((answer.watch_id, answer.canceled, len(answer.events)), (ids[0], True, 0))
        self.event(b, ids[1], b"of b")
        answer = stream.next()
        self.assertEqual((answer.watch_id, answer.events[0].kv.value), (ids[1], b"of b"))
        stream.cancel()

    def test_an_id_that_nobody_asked_for(self):
        for asked, given in ((5, 6), (5, 0), (5, -1)):
            stream = self.client.watch_stream()
            self.answers([given])
            stream.create(self.secret(), watch_id=asked)
            with self.assertRaises(harness.grpc.RpcError) as caught:
                stream.next()
            self.assertEqual(caught.exception.code(), Code.DATA_LOSS)

    def test_refused_creates_and_progress(self):
        stream = self.client.watch_stream()
        self.answers([-1], canceled=True, cancel_reason="mvcc: duplicate watch ID provided on the WatchStream")
        stream.create(self.secret(), watch_id=5)
        answer = stream.next()
        self.assertEqual((answer.watch_id, answer.created, answer.canceled), (-1, True, True))
        self.fake.lie = None
        stream.progress()
        self.assertEqual(stream.next().watch_id, -1)
        stream.create(self.secret())
        self.assertTrue(stream.next().created)
        stream.cancel()


class Unseen(LyingEtcd):
    """What the stored format cannot show, and README says so: an older value of the same key, the order of events. It
    passes as etcd told it; nothing is made up, and nothing left out."""

    def test_an_old_value_again(self):
        key = self.secret()
        self.client.put(key, b"old")
        old = self.fake.store[key].value
        self.client.put(key, b"new")
        self.fake.put(rpc.PutRequest(key=key, value=old))
        self.assertEqual(self.client.value(key), b"old")

    def test_events_twice_and_backwards(self):
        key, told = self.secret(), []
        watch = self.client.watch(key)
        call = self.fake.watchers[-1][0]
        for revision in (7, 9, 9, 8, 7):
            answer = rpc.WatchResponse(header=self.fake.header(), watch_id=self.fake.watchers[-1][1])
            answer.events.add().kv.CopyFrom(kv.KeyValue(key=key, mod_revision=revision, value=self.sealed(key, b"%d" % revision)))
            call.message(answer)
        while len(told) < 5:
            told += [(e.kv.mod_revision, e.kv.value) for e in watch.next().events]
        self.assertEqual(told, [(r, b"%d" % r) for r in (7, 9, 9, 8, 7)])
        watch.cancel()


class Doubled(LyingEtcd):
    """Parsers merge what is given twice; so a value could be moved from one key to another."""

    def both(self):
        mine, other = self.secret("mine"), self.secret("other")
        self.client.put(mine, b"mine")
        self.client.put(other, SECRET)
        return (mine, self.fake.store[mine].SerializeToString(), self.fake.store[other].SerializeToString(),
                self.fake.header().SerializeToString())

    def answer(self, path, data):
        self.lie(path, lambda answer, _: data)

    def test_key_or_value_twice(self):
        mine, record, other, header = self.both()
        value = self.fake.store[mine].value
        for name, broken in (("key", record + field(1, mine)), ("other key", field(1, self.secret("other")) + record),
                             ("value", record + field(5, value)), ("value first", field(5, value) + record),
                             ("empty value", record + field(5, b""))):
            with self.subTest(name):
                self.answer(KV + "Range", field(1, header) + field(2, broken) + number(4, 1))
                self.refused(self.client.get, mine)

    def test_wrong_wire_types(self):
        mine, record, _, header = self.both()
        for name, broken in (("value", field(1, mine) + number(5, 1)), ("key", number(1, 1) + record),
                             ("revision", record + field(3, b"x"))):
            with self.subTest(name):
                self.answer(KV + "Range", field(1, header) + field(2, broken))
                self.refused(self.client.get, mine)
        self.answer(KV + "Range", field(1, header) + number(2, 5))
        self.refused(self.client.get, mine)

    def test_value_without_key(self):
        mine, _, _, header = self.both()
        self.answer(KV + "Range", field(1, header) + field(2, field(5, self.fake.store[mine].value)))
        self.refused(self.client.get, mine)

    def test_malformed(self):
        mine, record, _, header = self.both()
        whole = field(1, header) + field(2, record)
        for data in (whole[:-1], whole + b"\x12", whole + b"\x0f", b"\xff" * 12, field(2, record[:-1]),
                     whole + b"\x00\x00"):
            self.answer(KV + "Range", data)
            self.refused(self.client.get, mine)

    def test_prev_kv_twice(self):
        mine, record, other, header = self.both()
        self.answer(KV + "Put", field(1, header) + field(2, record) + field(2, other))
        self.refused(self.client.put, mine, b"x", prev_kv=True)
        self.answer(KV + "Put", field(1, header) + field(2, record) + field(2, record))
        self.refused(self.client.put, mine, b"x", prev_kv=True)

    def test_header_twice(self):
        mine, record, _, header = self.both()
        self.answer(KV + "Range", field(1, header) + field(1, header) + field(2, record))
        self.refused(self.client.get, mine)

    def test_oneof_twice(self):
        mine, record, other, header = self.both()
        get = rpc.RequestOp(request_range=rpc.RangeRequest(key=mine))
        part = field(1, field(2, record))
        for name, op in (("same member", part + part), ("two members", part + field(2, field(2, record)))):
            with self.subTest(name):
                self.answer(KV + "Txn", field(1, header) + number(2, 1) + field(3, op))
                self.refused(self.client.txn, [], [get])

    def test_event_parts_twice(self):
        mine, record, other, header = self.both()
        for name, event in (("kv", field(2, record) + field(2, record)),
                            ("another kv", field(2, other) + field(2, record)),
                            ("prev_kv", field(2, record) + field(3, record) + field(3, record))):
            with self.subTest(name):
                watch = self.client.watch(mine, prev_kv=True)
                self.fake.lie = lambda path, _, answer: field(1, header) + number(2, answer.watch_id) + field(
                    11, event) if path == WATCH and answer.events else None
                self.fake.put(rpc.PutRequest(key=mine, value=self.fake.store[mine].value))
                self.assertEnds(watch)
                self.fake.lie = None

    def test_range_stream(self):
        mine, record, other, header = self.both()
        good = field(1, header) + field(2, record) + number(4, 1)
        call = self.client.channel.unary_stream(KV + "RangeStream", None, rpc.RangeStreamResponse.FromString)
        request = rpc.RangeRequest(key=mine).SerializeToString()

        def answers(data):
            self.fake.lie = lambda path, _, answer: data if path == KV + "RangeStream" else None
            return [k.value for a in call(request, timeout=10) for k in a.range_response.kvs]
        self.assertEqual(answers(field(1, good)), [b"mine"])
        for bad in (field(1, good) + field(1, good), field(1, field(1, header) + field(2, other)),
                    field(1, good + field(2, field(1, mine) + field(5, SECRET)))):
            self.refused(answers, bad)


class Large(LyingEtcd):
    """The same where the answer is beyond the streaming threshold and opened while it arrives."""
    COUNT = 40

    def fill(self):
        value = bytes(range(256)) * 400
        for i in range(self.COUNT):
            key = self.secret(f"{i:02}")
            self.fake.put(rpc.PutRequest(key=key, value=self.sealed(key, value)))
        return value

    def test_honest(self):
        value = self.fill()
        answer = self.client.list(self.secret(""))
        self.assertEqual([k.value for k in answer.kvs], [value] * self.COUNT)
        self.assertEqual((answer.count, answer.more), (self.COUNT, False))
        self.assertTrue(answer.HasField("header"))

    def test_one_bad_value_at_each_place(self):
        self.fill()
        for at in (0, 1, self.COUNT // 2, self.COUNT - 1):
            key = self.secret(f"{at:02}")
            for bad in (SECRET, self.sealed(self.secret("x"), b"y" * 100000), self.sealed(key, b"z" * 100000)[:-1]):
                self.lie(KV + "Range", lambda answer, _: setattr(answer.kvs[at], "value", bad))
                text = self.refused(self.client.list, self.secret(""))
                self.assertIn(key.decode(), text)

    def test_outside_and_doubled(self):
        self.fill()
        first = self.fake.store[self.secret("00")]
        for change in (lambda a: a.kvs[20].CopyFrom(kv.KeyValue(key=self.plain(), value=SECRET)),
                       lambda a: a.kvs.add().CopyFrom(kv.KeyValue(key=self.plain(), value=SECRET)),
                       lambda a: a.kvs[30].ClearField("key")):
            self.lie(KV + "Range", lambda answer, _: change(answer))
            self.refused(self.client.list, self.secret(""))
        self.lie(KV + "Range", lambda answer, _: answer.SerializeToString() + field(
            2, first.SerializeToString() + field(5, first.value)))
        self.refused(self.client.list, self.secret(""))

    def test_watch(self):
        """Events beyond the threshold, one of which is planted, outside, or does not open: that watch ends alone."""
        key, other = self.secret("00"), self.secret("other")
        value = bytes(range(256)) * 400
        for bad in (kv.KeyValue(key=key, value=SECRET), kv.KeyValue(key=other, value=self.sealed(other)),
                    kv.KeyValue(key=key, value=self.sealed(other))):
            for at in (0, 1, 15, 19):
                stream = self.client.watch_stream()
                stream.create(key)
                stream.create(other)
                ids = [stream.created().watch_id, stream.created().watch_id]
                call = self.fake.watchers[-1][0]
                answer = rpc.WatchResponse(header=self.fake.header(), watch_id=ids[0])
                for i in range(20):
                    event = kv.KeyValue(key=key, value=self.sealed(key, value))
                    event.CopyFrom(bad if i == at else event)
                    event.mod_revision = 100 + i
                    answer.events.add().kv.CopyFrom(event)
                call.message(answer)
                got = stream.next()
                while not got.canceled:
                    self.assertTrue(all(e.kv.value == value for e in got.events))
                    got = stream.next()
                self.assertEqual((got.watch_id, len(got.events)), (ids[0], 0))
                self.fake.put(rpc.PutRequest(key=other, value=self.sealed(other, b"2")))
                self.assertEqual(stream.events(1)[0].kv.value, b"2")
                stream.cancel()

    def test_malformed_at_the_end(self):
        self.fill()
        for tail in (b"\x12", b"\x12\xff\xff\xff\x7f", b"\x0f", field(1, b"\xff")):
            self.lie(KV + "Range", lambda answer, _: answer.SerializeToString() + tail)
            self.refused(self.client.list, self.secret(""))

    def test_the_connection_stays_usable(self):
        value = self.fill()
        self.lie(KV + "Range", lambda answer, _: setattr(answer.kvs[5], "value", SECRET))
        for _ in range(5):
            self.refused(self.client.list, self.secret(""))
        self.fake.lie = None
        self.assertEqual(self.client.value(self.secret("05")), value)
        self.assertEqual(len(self.client.list(self.secret("")).kvs), self.COUNT)

    def test_txn(self):
        value = self.fill()
        get = rpc.RequestOp(request_range=rpc.RangeRequest(
            key=self.secret(""), range_end=prefix_end(self.secret(""))))
        answer = self.client.txn([], [get, get])
        for part in answer.responses:
            self.assertEqual([k.value for k in part.response_range.kvs], [value] * self.COUNT)
        self.assertTrue(answer.succeeded)
        self.lie(KV + "Txn", lambda answer, _: setattr(answer.responses[1].response_range.kvs[7], "value", SECRET))
        self.refused(self.client.txn, [], [get, get])


class Filler(LyingEtcd):
    """What etcd has announced and not sent is not ours to make up: filler is at most 64 MiB, or what etcd has
    really sent. A status that can't come behind a whole message comes as a reset."""
    INTERNAL_ERROR = 2

    def announce(self, path, size, body, then):
        """Answers with a message of `size` bytes that begins with body, and goes on with then(call)."""
        def script(call):
            if call.path != path:
                return False
            call.raw(b"\0" + size.to_bytes(4, "big") + body)
            then(call)
            return True
        self.fake.script = script

    def planted(self):
        """A KeyValue whose value does not open."""
        return field(2, field(1, self.secret()) + field(5, SECRET))

    def begin(self, size, body, then):
        self.announce(KV + "Range", size, body, then)
        client = h2raw.Client(self.proxy.address)
        self.addCleanup(client.close)
        request = rpc.RangeRequest(key=self.secret()).SerializeToString()
        return client, client.start(KV + "Range", h2raw.grpc_message(request))

    def test_a_cut_answer(self):
        for size in (2 << 30, (64 << 20) + 100):
            client, sid = self.begin(size, field(2, field(1, self.secret())[:-3]), lambda call: call.trailers())
            stream = client.wait(sid)
            self.assertEqual(stream.reset, self.INTERNAL_ERROR)
            self.assertLess(len(stream.data), 1000)

    def test_a_lost_answer(self):
        client, sid = self.begin(2 << 30, self.planted(), lambda call: call.rst(2))
        stream = client.wait(sid)
        self.assertEqual(stream.reset, self.INTERNAL_ERROR)
        self.assertLess(len(stream.data), 1000)

    def test_an_answer_that_stops(self):
        """Nothing is made up while etcd is silent; others are not held up; the client may leave."""
        before = self.proxy.process.peak_mib()
        client, sid = self.begin(2 << 30, self.planted(), lambda call: None)
        with self.assertRaises(TimeoutError):
            client.wait(sid, 0.5)
        self.assertLess(len(client.stream(sid).data), 1000)
        self.assertIsNone(client.stream(sid).reset)
        self.fake.script = None
        self.client.put(self.secret("other"), b"1")
        self.assertEqual(self.client.value(self.secret("other")), b"1")
        client.close()
        harness.wait_until(lambda: KV + "Range" in self.fake.resets, what="the reset")
        if not harness.SANITIZED:
            self.assertLess(self.proxy.process.peak_mib(), before + 8)

    def test_small_rests_are_filled_at_once(self):
        """Up to 64 MiB, also when etcd is silent."""
        size = 20 << 20
        client, sid = self.begin(size, self.planted(), lambda call: None)
        stream = client.wait(sid, 30)
        self.assertEqual(stream.status, Code.DATA_LOSS.value[0])
        self.assertEqual(len(stream.data), size + 5)

    def test_the_status_arrives(self):
        """etcd sends all that it has announced: the client gets as many bytes, and the status."""
        chunk = field(2, field(1, self.secret()) + field(5, bytes(1 << 20)))
        for count in (3, 70):
            body = self.planted()

            def rest(call, count=count):
                for _ in range(count):
                    call.raw(chunk)
                call.trailers()
            size = len(body) + count * len(chunk)
            client, sid = self.begin(size, body, rest)
            stream = client.wait(sid, 60)
            self.assertEqual((stream.status, stream.reset), (Code.DATA_LOSS.value[0], None))
            self.assertEqual(len(stream.data), size + 5)
            rpc.RangeResponse.FromString(bytes(stream.data[5:]))
            client.close()

    def test_at_the_pace_of_etcd(self):
        """A rest of more than 64 MiB goes out as etcd sends it, never more."""
        chunk = field(2, field(1, self.secret()) + field(5, bytes(1 << 20)))
        calls = []
        client, sid = self.begin(2 << 30, self.planted(), calls.append)
        stream = client.stream(sid)
        sent = 5 + len(self.planted())
        for _ in range(4):
            client.wait_for(lambda: len(stream.data) > sent - 1000, 10, "filler")
            with self.assertRaises(TimeoutError):
                client.wait(sid, 0.1)
            self.assertLessEqual(len(stream.data), sent)
            calls[0].raw(chunk)
            sent += len(chunk)
        calls[0].trailers()
        self.assertEqual(client.wait(sid).reset, self.INTERNAL_ERROR)


if __name__ == "__main__":
    harness.main()
