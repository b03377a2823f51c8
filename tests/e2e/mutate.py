# SPDX-License-Identifier: Apache-2.0
"""Thousands of malformed and unusual requests, each with a plaintext that must not reach etcd.

A Case is one call: its path, extra headers, the DATA to send and how it is cut. Values are MARKER and the
case's number, so that a leak names its case. Cases whose marker may legally go to etcd (it has become part of a
key or of a range, or the key is none that is protected) are not made: see `is_legal`.
"""
import re
import struct

import h2raw

MARKER = b"MARKER-of-plaintext-"
PUT, TXN = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"
VALUE_METHODS = ("/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign", "/v3electionpb.Election/Proclaim")


def varint(n, extra=0):
    """n, padded with `extra` over-long bytes."""
    out = bytearray()
    while n > 0x7f or extra:
        if n <= 0x7f:
            extra -= 1
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def tag(number, wire, extra=0):
    return varint(number << 3 | wire, extra)


def field(number, data, extra=0):
    return tag(number, 2) + varint(len(data), extra) + data


def number(num, value, extra=0):
    return tag(num, 0) + varint(value & (1 << 64) - 1, extra)


def read_varint(data, at):
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("varint")


def walk(data):
    """Yields (field number, bytes or None) as far as the bytes make sense."""
    at = 0
    try:
        while at < len(data):
            key, at = read_varint(data, at)
            num, wire = key >> 3, key & 7
            if wire == 0:
                _, at = read_varint(data, at)
                yield num, None
            elif wire == 1:
                at += 8
            elif wire == 5:
                at += 4
            elif wire == 2:
                size, at = read_varint(data, at)
                if at + size > len(data):
                    return
                yield num, data[at:at + size]
                at += size
    except ValueError:
        return


class Judge:
    """Could etcd be asked, legally, to store or use the marker of this request in clear?"""

    def __init__(self, protected):
        self.protected = protected  # the prefix, with its slash

    def put(self, data):
        keys = [d for n, d in walk(data) if n == 1 and d is not None]
        return any(not k.startswith(self.protected) or MARKER[:6] in k for k in keys)

    def txn(self, data, depth=0):
        if depth > 60:
            return False
        for n, part in walk(data):
            if part is None:
                continue
            if n == 1 and any(d and (m in (3, 64) and MARKER[:6] in d or m == 3 and not d.startswith(
                    self.protected)) for m, d in walk(part)):
                return True
            if n in (2, 3) and any(d is not None and self.op(m, d, depth) for m, d in walk(part)):
                return True
        return False

    def op(self, member, data, depth):
        if member in (1, 3):
            return MARKER[:6] in data
        if member == 2:
            return self.put(data)
        return member == 4 and self.txn(data, depth + 1)

    def is_legal(self, path, data):
        return self.put(data) if path == PUT else self.txn(data) if path == TXN else False


class Case:
    def __init__(self, name, path, data, extra=(), pieces=None, headers=None):
        self.name, self.path, self.extra, self.headers = name, path, list(extra), headers
        self.data = data      # with the gRPC prefix
        self.pieces = pieces  # list of byte strings: DATA frames; None = as usual

    def __repr__(self):
        return f"{self.name} {self.path} {self.extra} {self.data[:200].hex()}"


class Maker:
    """Makes cases from one random stream."""

    def __init__(self, rng, prefix):
        self.rng, self.prefix, self.judge = rng, prefix, Judge(prefix)
        self.count = self.skipped = 0

    def value(self):
        marker = MARKER + b"%08d-" % self.count
        shape = self.rng.randrange(8)
        if shape == 0:
            return marker
        if shape == 1:
            return b"k8s:enc:kms:v2:test:" + marker
        if shape == 2:
            return self.rng.randbytes(self.rng.randrange(3000)) + marker * 2
        if shape == 3:
            return marker * 400
        return marker * 3

    def key(self):
        tail = self.rng.choice([b"a", b"ns/name", b"", b"\0", b"\xff" * 5, b"x" * 300, b"/", b"..", b"../pods/a",
                                b"%d" % self.rng.randrange(1000)])
        return self.prefix + tail

    def pick(self, *functions):
        return self.rng.choice(functions)

    # --- good messages with odd parts ---

    def put_fields(self):
        fields = [field(1, self.key(), self.rng.choice([0, 0, 0, 1, 3])),
                  field(2, self.value(), self.rng.choice([0, 0, 0, 1, 3]))]
        for extra in (number(3, 0), number(4, 1), number(5, 0), number(6, 0), number(5, 1), number(3, -1)):
            if self.rng.random() < 0.08:
                fields.append(extra)
        return fields

    def odd_field(self):
        value = self.value()
        return self.rng.choice([
            field(2, value), field(1, self.key()), field(7, value), field(self.rng.randrange(1, 1 << 20), value),
            tag(2, 0) + b"\x01", tag(2, 1) + value[:8], tag(2, 5) + value[:4],
            tag(9, 3) + field(2, value) + tag(9, 4), tag(2, 3) + value + tag(2, 4), tag(9, 4), tag(0, 2) + field(2, value)[1:],
            b"\x16" + value, b"\x17" + value, tag(2, 2) + varint(1 << 40) + value, tag(2, 2) + b"\xff" * 11 + value,
            tag(1 << 29, 2) + varint(len(value)) + value, field(5, value), field(3, value), b"\x00", value,
            field(2, b""), field(1, b""), number(5, 1), field(19999, value)])

    def put(self):
        fields = self.put_fields()
        for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2, 3])):
            fields.insert(self.rng.randrange(len(fields) + 1), self.odd_field())
        if self.rng.random() < 0.3:
            self.rng.shuffle(fields)
        return b"".join(fields)

    def compare(self):
        fields = [number(2, self.rng.choice([0, 1, 2, 3, 3, 4, 9])), field(3, self.key())]
        fields.append(self.rng.choice([number(4, 1), number(6, 0), field(7, self.value()), field(7, self.value())]))
        if self.rng.random() < 0.2:
            fields.append(field(64, self.prefix + b"\xff"))
        if self.rng.random() < 0.2:
            fields.append(self.rng.choice([field(7, self.value()), number(4, 1), field(65, self.value())]))
        if self.rng.random() < 0.3:
            self.rng.shuffle(fields)
        return b"".join(fields)

    def op(self, depth=0):
        shape = self.rng.randrange(9)
        good = field(2, b"".join(self.put_fields()))
        if shape == 0:
            return field(2, self.put())
        if shape == 1 and depth < 30:
            return field(4, self.txn(depth + 1))
        if shape == 2:
            return good + self.rng.choice([good, field(1, field(1, self.key())), field(9, self.value()), field(2, b""),
                                           field(4, b""), number(2, 1)])
        if shape == 3:
            return self.rng.choice([field(1, field(1, self.key())), field(3, field(1, self.key()))]) + good
        if shape == 4:  # one put in two halves: some parsers merge them
            return field(2, field(1, self.key())) + field(2, field(2, self.value()))
        if shape == 5:
            return field(self.rng.choice([5, 9, 100]), b"".join(self.put_fields()))
        return good

    def txn(self, depth=0):
        parts = [field(self.rng.choice([2, 3]), self.op(depth)) for _ in range(self.rng.choice([1, 1, 2, 5]))]
        if self.rng.random() < 0.3:
            parts.insert(self.rng.randrange(len(parts) + 1), field(1, self.compare()))
        if self.rng.random() < 0.2:
            parts.insert(self.rng.randrange(len(parts) + 1), self.odd_field() if self.rng.random() < 0.5
                         else field(4, self.value()))
        if depth == 0 and self.rng.random() < 0.05:
            deep = field(2, b"".join(self.put_fields()))
            for _ in range(self.rng.choice([6, 14, 17, 40, 300])):
                deep = field(4, field(2, deep))
            parts.append(field(2, deep))
        return b"".join(parts)

    def damage(self, data):
        data = bytearray(data)
        for _ in range(self.rng.choice([1, 1, 2, 4])):
            at = self.rng.randrange(max(1, len(data)))
            at = at if self.rng.random() < 0.3 else at % 60
            what = self.rng.randrange(4)
            if what == 0 and at < len(data):
                data[at] ^= 1 << self.rng.randrange(8)
            elif what == 1:
                data[at:at] = self.rng.randbytes(self.rng.randrange(1, 4))
            elif what == 2:
                del data[at:at + self.rng.randrange(1, 4)]
            else:
                del data[len(data) - self.rng.randrange(1, 20):]
        return bytes(data)

    # --- whole calls ---

    def body(self):
        path = self.rng.choice([PUT, TXN])
        data = self.put() if path == PUT else self.txn()
        if self.rng.random() < 0.3:
            data = self.damage(data)
        return path, data

    def protobuf(self):
        path, data = self.body()
        return Case("protobuf", path, h2raw.grpc_message(data))

    def framing(self):
        path, data = self.body()
        good = h2raw.grpc_message(data)
        n = len(data)
        shapes = [
            (lambda: h2raw.grpc_message(data, self.rng.choice([1, 1, 2, 128, 255]))),
            (lambda: struct.pack(">BI", 0, max(0, n - self.rng.randrange(1, 9))) + data),
            (lambda: struct.pack(">BI", 0, n + self.rng.randrange(1, 9)) + data),
            (lambda: good + h2raw.grpc_message(data)), (lambda: h2raw.grpc_message(b"") + good),
            (lambda: good + self.rng.randbytes(self.rng.randrange(1, 9))), (lambda: good[:self.rng.randrange(len(good))]),
            (lambda: struct.pack(">BI", 0, 0xffffffff) + data), (lambda: data), (lambda: b""), (lambda: good)]
        data_out = self.rng.choice(shapes)()
        pieces = None
        if self.rng.random() < 0.5:
            pieces, at = [], 0
            while at < len(data_out):
                size = self.rng.choice([0, 1, 2, 3, 5, 100, 1000, 16384])
                pieces.append(data_out[at:at + size])
                at += size
            pieces = pieces or [b""]
            pieces = pieces[:40] + [b"".join(pieces[40:])[i:i + 16384] for i in range(0, len(b"".join(pieces[40:])), 16384)]
        return Case("framing", path, data_out, pieces=pieces)

    def headers(self):
        path, data = self.body()
        base = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
                "content-type": "application/grpc", "te": "trailers"}
        change = self.rng.choice([
            {"grpc-encoding": self.rng.choice(["gzip", "deflate", "snappy", "identity", "", "GZIP", "identity,gzip"])},
            {"content-type": self.rng.choice(["application/grpc+json", "application/json", "application/grpc-web",
                                              "text/plain", "", "application/grpcx"])},
            {":method": self.rng.choice(["GET", "PUT", "post", "CONNECT", "OPTIONS"])},
            {":path": self.rng.choice([path + "/", path + "?x", path.lower(), path.replace("KV", "Kv"), "/" + path,
                                       path[1:], "/v3/kv/put", path + "%20", path.replace("P", "%50"), "*",
                                       path.replace(".", "/"), path + "\t"])},
            {":path": self.rng.choice(VALUE_METHODS)},
            {":path": "/etcdserverpb.KV/" + self.rng.choice(["Nope", "PutStream", "Put2", ""])},
            {":scheme": "https"}, {"te": "gzip"}, {"te": None}, {"content-type": None},
            {"grpc-timeout": self.rng.choice(["0m", "1n", "99999999H", "x", "-1S", "123456789S"])},
            {"content-length": str(self.rng.choice([0, 5, len(data), len(data) + 5]))},
            {"expect": "100-continue"}, {"x-bin": "!!"}, {"trailer": "value"}, {":authority": "evil"}])
        base.update(change)
        path = base[":path"]
        return Case("headers " + repr(change), path, h2raw.grpc_message(data),
                    headers=[(k, v) for k, v in base.items() if v is not None])

    def next(self):
        """A case that has a status as its answer, whatever that is."""
        while True:
            self.count += 1
            kind = self.rng.random()
            case = self.protobuf() if kind < 0.6 else self.framing() if kind < 0.85 else self.headers()
            if not self.is_legal(case):
                return case
            self.skipped += 1

    def is_legal(self, case):
        path = "/" + case.path.removeprefix("/")  # etcd serves a path without its slash, too
        return path in (PUT, TXN) and self.any_message_legal(path, case.data)

    def any_message_legal(self, path, data):
        """Judged for every way to see messages in these bytes."""
        views = [data, data[5:]] + h2raw.split_messages(data)[0]
        return any(self.judge.is_legal(path, view) for view in views)

    def violence(self):
        """(name, list of raw byte strings) for a connection that may be closed over it."""
        self.count += 1
        rng, good = self.rng, h2raw.grpc_message(field(1, self.key()) + field(2, self.value()))
        enc = h2raw.hpack.Encoder()
        block = enc.encode([(":method", "POST"), (":scheme", "http"), (":path", PUT), (":authority", "a"),
                            ("content-type", "application/grpc"), ("te", "trailers")])
        frame, end, whole = h2raw.pack_frame, h2raw.END_STREAM, h2raw.END_HEADERS
        head = frame(h2raw.HEADERS, whole, 1, block)
        data = frame(h2raw.DATA, end, 1, good)
        trailers = frame(h2raw.HEADERS, whole | end, 1, enc.encode([("x-trailer", "1")]))
        return rng.choice([
            ("data on stream 0", [head, frame(h2raw.DATA, end, 0, good)]),
            ("data before headers", [data, head]),
            ("data on an idle stream", [head, frame(h2raw.DATA, end, 7, good), data]),
            ("data after the end", [head, data, data]),
            ("reset, then data", [head, frame(h2raw.RST_STREAM, 0, 1, b"\0\0\0\x08"), data]),
            ("even stream", [frame(h2raw.HEADERS, whole, 2, block), frame(h2raw.DATA, end, 2, good)]),
            ("unknown frame type", [head, frame(0x77, end, 1, good), data]),
            ("unknown frame type only", [head, frame(0xfa, 0xff, 1, good)]),
            ("push promise", [head, frame(h2raw.PUSH_PROMISE, whole, 1, b"\0\0\0\x02" + block), data]),
            ("padding", [head, frame(h2raw.DATA, end | h2raw.PADDED, 1, bytes([100]) + good + bytes(100))]),
            ("padding too long", [head, frame(h2raw.DATA, end | h2raw.PADDED, 1, bytes([255]) + good[:60])]),
            ("headers in the middle of headers", [frame(h2raw.HEADERS, 0, 1, block[:9]), data,
                                                  frame(h2raw.CONTINUATION, whole, 1, block[9:])]),
            ("continuation", [frame(h2raw.HEADERS, 0, 1, block[:9]), frame(h2raw.CONTINUATION, whole, 1, block[9:]), data]),
            ("request trailers", [head, frame(h2raw.DATA, 0, 1, good), trailers]),
            ("end in the middle, then more", [head, frame(h2raw.DATA, end, 1, good[:20]), frame(h2raw.DATA, end, 1, good[20:])]),
            ("frame too large", [head, struct.pack(">I", 1 << 20)[1:] + struct.pack(">BBI", 0, 1, 1) + good * 10]),
            ("window overflow", [head, frame(h2raw.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 3, data]),
            ("window of zero", [head, frame(h2raw.WINDOW_UPDATE, 0, 1, bytes(4)), data]),
            ("bad settings", [frame(h2raw.SETTINGS, 0, 0, b"\0\x05\0\0\0\0"), head, data]),
            ("bad hpack", [frame(h2raw.HEADERS, whole, 1, b"\xff\xff\xff\xff\xff"), data]),
            ("goaway, then a call", [frame(h2raw.GOAWAY, 0, 0, bytes(8)), head, data]),
            ("cut frame", [head, data[:-7]]),
            ("the same twice in one burst", [head + data, frame(h2raw.HEADERS, whole, 3, block), frame(h2raw.DATA, end, 3, good)]),
            ("priority games", [frame(h2raw.PRIORITY, 0, 1, b"\0\0\0\x01\xff"), head, data]),
            ("noise", [head, rng.randbytes(200), data])])


def leaked_cases(recordings):
    """The case numbers whose marker is in these byte strings."""
    return sorted({int(n) for r in recordings for n in re.findall(re.escape(MARKER) + rb"(\d{8})-", r)})
