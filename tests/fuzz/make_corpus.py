#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of tests/fuzz/corpus/: make_corpus.py [FOLDER]. Files that a fuzzer found are not touched.

The messages are written by hand, field by field, so that odd ones can be written too."""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
SECRET, CONFIG, MOVING = b"/registry/secrets/default/a", b"/registry/configmaps/kube-system/b", b"/registry/moving/c"
OPEN, ELSEWHERE, MARKER = b"/registry/open/d", b"/elsewhere/x", b"PLAINTEXT-MARKER"


def varint(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
    return out + bytes([n])


def num(number, value):
    return varint(number << 3) + varint(value)


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def put(key=SECRET, value=MARKER, more=b""):
    return field(1, key) + field(2, value) + more


def ranged(key=b"/registry/", end=b"/registry0", more=b""):
    return field(1, key) + field(2, end) + more


def op(member, body):
    return field(member, body)


def compare(key=SECRET, target=num(2, 2), union=num(6, 4)):
    return target + field(3, key) + union


def txn(success=(), failure=(), compares=()):
    return b"".join([field(1, c) for c in compares] + [field(2, o) for o in success] + [field(3, o) for o in failure])


def nested(depth, body):
    for _ in range(depth):
        body = txn([op(4, body)])
    return body


HEADER = field(1, num(1, 5) + num(2, 6) + num(3, 99) + num(4, 2))


def kv(key=SECRET, value=b"value", revision=7):
    return field(1, key) + num(2, 3) + num(3, revision) + num(4, 1) + field(5, value) + num(6, 11)


def range_answer(n=3, size=20, more=True):
    keys = [SECRET, CONFIG, OPEN, b"/registry/secrets/default/b", b"/registry/pods/p"]
    return HEADER + b"".join(field(2, kv(keys[i % 5], bytes([97 + i % 26]) * size, i + 1)) for i in range(n)) \
        + (num(3, 1) if more else b"") + num(4, n)


def put_answer(key=SECRET):
    return HEADER + field(2, kv(key))


def delete_answer(n=2):
    return HEADER + num(2, n) + b"".join(field(3, kv(value=b"old" * i)) for i in range(n))


def txn_answer(depth=0):
    body = HEADER + num(2, 1) + b"".join(field(3, o) for o in (
        op(1, range_answer(2)), op(2, put_answer()), op(3, delete_answer(1)), op(2, HEADER)))
    return body + (field(3, op(4, txn_answer(depth - 1))) if depth else b"")


def event(kind=0, key=SECRET, value=b"v", revision=5, prev=b""):
    return (num(1, kind) if kind else b"") + field(2, kv(key, value, revision)) + prev


def watch_answer(events=3, watch_id=0, more=b""):
    wid = num(2, watch_id) if watch_id else b""
    return HEADER + wid + more + b"".join(field(11, event(revision=5 + i // 2, value=b"w" * 9 * i)) for i in range(events))


def deleted():
    return HEADER + field(11, num(1, 1) + field(2, field(1, SECRET) + num(3, 9)) + field(3, kv()))


REQUESTS = {  # number of the content in the targets' tables: name, message
    "put": (0, put()),
    "put-config": (0, put(CONFIG)),
    "put-moving": (0, put(MOVING)),
    "put-open": (0, put(OPEN)),
    "put-elsewhere": (0, put(ELSEWHERE)),
    "put-empty-value": (0, field(1, SECRET)),
    "put-value-first": (0, field(2, MARKER) + field(1, SECRET) + num(3, 8) + num(4, 1)),
    "put-ignore-value": (0, field(1, SECRET) + num(5, 1)),
    "put-ignore-value-with-value": (0, put(more=num(5, 1))),
    "put-two-keys": (0, put(ELSEWHERE) + field(1, SECRET)),
    "put-two-values": (0, put() + field(2, b"other")),
    "put-unknown": (0, put(more=field(77, MARKER))),
    "put-group": (0, put(more=b"\x0b\x12\x03abc\x0c")),
    "put-overlong": (0, b"\x8a\x00" + b"\x9b\x00" + SECRET + field(2, MARKER)),
    "put-fake-seal": (0, put(value=b"k8s:enc:kms:v2:one:" + field(1, MARKER) + field(2, b"key-1") + field(3, b"A" * 40) + num(5, 1))),
    "put-large": (0, put(value=b"x" * 3000)),
    "txn-put": (1, txn([op(2, put())])),
    "txn-create": (1, txn([op(2, put(more=num(3, 7)))], [op(1, ranged(SECRET, b""))], [compare()])),
    "txn-many": (1, txn([op(2, put()), op(2, put(CONFIG)), op(2, put(ELSEWHERE, b"z"))], [op(3, ranged()), op(2, put())])),
    "txn-nested": (1, nested(3, txn([op(2, put())]))),
    "txn-deep": (1, nested(9, txn([op(2, put())]))),
    "txn-two-members": (1, txn([op(2, put()) + op(1, ranged())])),
    "txn-value-compare": (1, txn([op(2, put())], (), [compare(target=num(2, 3), union=field(7, MARKER))])),
    "txn-range-compare": (1, txn((), (), [compare(ELSEWHERE, num(2, 3), field(7, b"v")) + field(64, b"/s")])),
    "range": (2, ranged()),
    "range-sorted": (2, ranged(more=num(3, 500) + num(5, 1) + num(6, 4))),
    "range-keys": (2, ranged(SECRET, b"", num(8, 1))),
    "delete": (3, ranged(SECRET, b"", num(3, 1))),
    "watch-create": (4, field(1, ranged(more=num(3, 9) + num(4, 1) + field(5, b"\x00\x01") + num(6, 1) + num(8, 1)))),
    "watch-cancel": (4, field(2, num(1, 4))),
    "watch-progress": (4, field(3, b"")),
}
ANSWERS = {
    "range": (0, range_answer()),
    "range-one": (0, range_answer(1, 0, False)),
    "range-many": (0, range_answer(24, 33)),
    "range-large": (0, range_answer(2, 1500)),
    "range-empty": (0, HEADER),
    "range-unknown": (0, HEADER + field(77, b"abc") + field(2, kv()) + num(78, 5) + field(2, kv(CONFIG))),
    "range-two-values": (0, HEADER + field(2, kv() + field(5, b"again"))),
    "range-value-first": (0, HEADER + field(2, field(5, b"value") + field(1, SECRET))),
    "range-no-key": (0, HEADER + field(2, field(5, b"value"))),
    "range-outside": (0, HEADER + field(2, kv(ELSEWHERE))),
    "put": (1, put_answer()),
    "put-none": (1, HEADER),
    "txn": (2, txn_answer()),
    "txn-nested": (2, txn_answer(2)),
    "txn-two-members": (2, HEADER + field(3, op(1, range_answer(1)) + op(2, put_answer()))),
    "delete": (3, delete_answer()),
    "watch": (4, watch_answer()),
    "watch-many": (4, watch_answer(9)),
    "watch-other": (4, watch_answer(2, 1)),
    "watch-unknown-id": (4, watch_answer(2, 9)),
    "watch-created": (4, watch_answer(0, 2, num(3, 1))),
    "watch-canceled": (4, watch_answer(0, 1, num(4, 1) + num(5, 8) + field(6, b"compacted"))),
    "watch-fragment": (4, watch_answer(3, 1, num(7, 1))),
    "watch-deleted": (4, deleted()),
    "watch-prev": (4, HEADER + field(11, event(prev=field(3, kv(value=b"before"))))),
    "watch-prev-other": (4, HEADER + field(11, event(prev=field(3, kv(OPEN))))),
    "stream": (5, field(1, range_answer())),
    "stream-empty": (5, b""),
}
DAMAGE = [b"", struct.pack("<HB", 40, 1), struct.pack("<HB", 75, 0x80), struct.pack("<HB", 61, 0)]


def etcd_seeds():
    for name, (content, body) in REQUESTS.items():
        yield "etcd_scan", name, bytes([content, 0, 1, 2]) + body
        yield "etcd_scan", "marked-" + name, bytes([content, 1, 3, 4]) + body.replace(MARKER, b"v")
        # lane_oracle and the answers count contents differently: Range first.
        other = {0: 1, 1: 2, 2: 0, 3: 3, 4: 4}[content]
        yield "lane_oracle", "request-" + name, bytes([2 * other, 5, 6]) + body
    for i, (name, (content, body)) in enumerate(ANSWERS.items()):
        yield "etcd_answer", "clear-" + name, bytes([content, 2 * (i % 2), 1, 2]) + body
        yield "etcd_answer", "sealed-" + name, bytes([content, 1, 3, 4]) + body
        damage = DAMAGE[1 + i % 3]
        yield "etcd_answer", "damaged-" + name, bytes([content, 0x41, 7, 8]) + damage + body
        yield "lane_oracle", "answer-" + name, bytes([2 * content + 1, 9, 10]) + body
        for option in (1, 5, 9, 0x43):
            yield "etcd_stream", f"{name}-{option:02x}", bytes([content, option, 11, 12, i]) \
                + (damage if option & 0xc0 else b"") + body


def pb_seeds():
    for name, body in {
        "nothing": b"", "varints": num(1, 0) + num(2, 1 << 63) + num(536870911, 300), "fixed": b"\x0d1234\x1112345678",
        "group": b"\x0b\x13\x14\x08\x01\x0c", "group-open": b"\x0b\x08\x01", "group-crossed": b"\x0b\x13\x0c\x14",
        "field-0": b"\x00\x01", "wire-7": b"\x0f", "overlong": b"\x88\x80\x00\x81\x80\x80\x00",
        "eleven": b"\x08" + b"\xff" * 10 + b"\x01", "cut": field(1, b"abc")[:-1], "utf8": field(1, "aß€😀".encode()),
        "surrogate": field(1, b"\xed\xa0\x80"), "nested": field(1, field(2, field(3, num(4, 5)))),
        "long-length": b"\x0a\xff\xff\xff\xff\x0f", "message": txn_answer(2), "deep-groups": b"\x0b" * 140,
    }.items():
        yield "pb", name, b"\x05" + body


def grpc_seeds():
    for name, body in {
        "nothing": b"", "prefix": b"\x00\x00\x00\x01\x02", "compressed": b"\x01\xff\xff\xff\xff", "second": b"1S",
        "eight": b"99999999H", "nine": b"123456789n", "milli": b"20000000m", "zero": b"0u", "letter": b"12x",
        "message": "Schlüssel 100% weg\n".encode(), "escapes": b"%41%zz%4%", "grpc": b"application/grpc",
        "proto": b"application/grpc+proto", "web": b"application/grpc-web", "charset": b"application/grpc;a=b",
    }.items():
        yield "grpc", name, bytes([3, 9]) + body
        yield "grpc", name + "-wide", bytes([4, 255]) + body


GROUPS = [pb_seeds, grpc_seeds, etcd_seeds]


def main(argv):
    folder = pathlib.Path(argv[1]) if len(argv) > 1 else HERE / "corpus"
    count = 0
    for seeds in GROUPS:
        for target, name, data in seeds():
            path = folder / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            count += 1
    print(f"{count} seeds in {folder}")


if __name__ == "__main__":
    main(sys.argv)
