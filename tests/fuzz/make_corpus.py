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
    return HEADER + num(2, n) + b"".join(field(3, kv(value=b"old" * (i + 1))) for i in range(n))


def txn_answer(depth=0):
    body = HEADER + num(2, 1) + b"".join(field(3, o) for o in (
        op(1, range_answer(2)), op(2, put_answer()), op(3, delete_answer(1)), op(2, HEADER)))
    return body + (field(3, op(4, txn_answer(depth - 1))) if depth else b"")


def event(kind=0, key=SECRET, value=b"v", revision=5, prev=b""):
    return (num(1, kind) if kind else b"") + field(2, kv(key, value, revision)) + prev


def watch_answer(events=3, watch_id=0, more=b""):
    wid = num(2, watch_id) if watch_id else b""
    return HEADER + wid + more + b"".join(field(11, event(revision=5 + i // 2, value=b"w" * (9 * i + 1))) for i in range(events))


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
    # The last event fails after an earlier revision and says no revision of its own: nothing between may be lost.
    "watch-late-without-revision": (4, HEADER + field(11, event()) + field(11, event(revision=6))
                                    + field(11, field(2, field(1, ELSEWHERE) + field(5, b"v")))),
    "watch-late-prev": (4, HEADER + field(11, event()) + field(11, event(revision=6)) + field(11, field(3, kv()))),
    "watch-prev-other": (4, HEADER + field(11, event(prev=field(3, kv(OPEN))))),
    "stream": (5, field(1, range_answer())),
    "stream-empty": (5, b""),
}
DAMAGE = [b"", struct.pack("<HB", 40, 1), struct.pack("<HB", 75, 0x80), struct.pack("<HB", 61, 0)]


def etcd_seeds():
    for name, (content, body) in REQUESTS.items():
        yield "etcd_scan", name, bytes([content, 0, 1, 2]) + body
        yield "etcd_scan", "marked-" + name, bytes([content, 1, 3, 4]) + body.replace(MARKER, b"v" * len(MARKER))
        # lane_oracle and the answers count contents differently: Range first.
        other = {0: 1, 1: 2, 2: 0, 3: 3, 4: 4}[content]
        yield "lane_oracle", "request-" + name, bytes([2 * other, 5, 6]) + body
    for i, (name, (content, body)) in enumerate(ANSWERS.items()):
        yield "etcd_answer", "clear-" + name, bytes([content, 2 * (i % 2), 1, 2]) + body
        yield "etcd_answer", "sealed-" + name, bytes([content, 1, 3, 4]) + body
        damage = DAMAGE[1 + i % 3]
        yield "etcd_answer", "damaged-" + name, bytes([content, 0x41, 7, 8]) + damage + body
        yield "lane_oracle", "answer-" + name, bytes([2 * content + 1, 9, 10]) + body
        for option in (1, 5, 9, 0x43, 17, 21):
            yield "etcd_large", f"{name}-{option:02x}", bytes([content, option, 11, 12, i]) \
                + (damage if option & 0xc0 else b"") + body


def secrets_answer(n, size=20):
    kvs = b"".join(field(2, kv(SECRET + bytes([97 + i % 26]), bytes([97 + i % 26]) * size, i + 1)) for i in range(n))
    return HEADER + kvs + num(3, 1) + num(4, n)


def direct_seeds():
    """Answers of the usual form, and those that stop being so somewhere."""
    one = field(2, kv())
    bodies = {  # number of the content in the target's table: name, message
        "secrets": (0, secrets_answer(8)),
        "secrets-long": (0, secrets_answer(3, 700)),
        "then-open": (0, HEADER + one * 2 + field(2, kv(OPEN)) + one),
        "then-unknown": (0, HEADER + one * 2 + field(77, b"abc") + one),
        "then-header": (0, HEADER + one * 2 + HEADER),
        "then-outside": (0, HEADER + one * 2 + field(2, kv(ELSEWHERE))),
        "then-empty": (0, HEADER + one * 2 + field(2, kv(value=b""))),
        "then-two-values": (0, HEADER + one * 2 + field(2, kv() + field(5, b"again"))),
        "then-value-first": (0, HEADER + one * 2 + field(2, field(5, b"value") + field(1, SECRET))),
        "then-cut": (0, HEADER + one * 2 + one[:-2]),
        "no-lease": (0, HEADER + field(2, kv()[:-2]) * 3),
        "watch": (1, watch_answer(5)),
        "watch-prev": (1, HEADER + field(11, event(prev=field(3, kv(value=b"before")))) * 2),
        "watch-deleted": (1, deleted()),
        "watch-typed": (1, HEADER + field(11, num(1, 0) + b"\x08\x00" + event())),
        "watch-other-id": (1, watch_answer(3, 1)),
        "watch-late-id": (1, HEADER + field(11, event()) + num(2, 1)),
        "watch-late-open": (1, HEADER + field(11, event()) + field(11, event(key=OPEN, revision=6))),
        "watch-fragment": (1, watch_answer(3, 1, num(7, 1))),
        "txn": (4, txn_answer()),
        "stream": (5, field(1, secrets_answer(6))),
        "delete": (6, delete_answer(4)),
        "put": (7, put_answer()),
    }
    for i, (name, (content, body)) in enumerate(bodies.items()):
        for option in (0, 2):
            yield "etcd_direct", f"{name}-{option}", bytes([content, option, 11 + i, 12, 0xff]) + body
        yield "etcd_direct", name + "-key-missing", bytes([content, 2 * (i % 2), 13, 14, 0x03]) + body
        yield "etcd_direct", name + "-damaged", bytes([content, 0x40 + 2 * (i % 2), 15, 16, 0xff]) + DAMAGE[1 + i % 3] + body
        yield "etcd_direct", name + "-clear", bytes([content, 8 + 2 * (i % 2), 17, 18, 0xff]) + body


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


def member(name=b"m1", mid=6, urls=(b"http://10.0.0.1:2379",)):
    return num(1, mid) + field(2, name) + field(3, b"http://10.0.0.1:2380") + b"".join(field(4, u) for u in urls)


def member_seeds():
    for name, (options, body) in {
        "list": (0, HEADER + field(2, member()) + field(2, member(b"m2", 7))),
        "pairs": (2, HEADER + field(2, member()) + field(2, member(b"m2", 7))),
        "one-pair": (6, HEADER + field(2, member()) + field(2, member(b"m2", 7))),
        "add": (1, HEADER + field(2, member(b"", 8, ())) + field(3, member()) + field(3, member(b"m2", 7))),
        "many-urls": (0, HEADER + field(2, member(urls=(b"http://a:1", b"http://b:2", b"")) + num(5, 1))),
        "unknown": (0, HEADER + field(2, field(9, b"new") + member()) + field(8, b"x")),
        "nobody": (2, HEADER + field(2, member(b"other"))),
        "empty": (0, b""),
        "two-headers": (0, HEADER + HEADER + field(2, member())),
        "wrong-wire": (0, HEADER + field(2, member() + num(4, 7))),
    }.items():
        yield "etcd_members", name, bytes([options, 3]) + body


def stored_type_0(key, fields):
    """A value that only reading code knows: the nonce and the AES key are those of fuzz.c's last DEK."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    nonce = bytes(range(12))
    data = nonce + AESGCM(b"\x04" * 32).encrypt(nonce, b"type 0 plaintext", key)
    parts = {1: field(1, data), 2: field(2, b"key-1"), 3: field(3, b"D" * 40), 5: num(5, 0), 9: field(9, b"unknown")}
    return b"k8s:enc:kms:v2:one:" + b"".join(parts[f] for f in fields)


def envelope_seeds():
    key = SECRET
    head = bytes([len(key)]) + key
    for i, plain in enumerate((b"", b"v", b"k8s\x00\n\x0c" + b"x" * 100, b"y" * 3000)):
        yield "envelope_open", f"sealed-{i}", bytes([1 | i << 2, 5, i]) + head + plain
        yield "envelope_open", f"other-key-{i}", bytes([3, 5, i]) + head + plain
        for j, (at, what) in enumerate(((3, 1), (25, 8), (30, 1), (70, 1), (80, 0), (130, 2), (150, 4))):
            yield "envelope_open", f"damaged-{i}-{j}", bytes([0x41, 6, j]) + struct.pack("<HB", at, what) + head + plain
        yield "seal_open", f"{i}", bytes([7, i, 9, 30 * i, i]) + head + plain
        yield "seal_open", f"no-key-{i}", bytes([8, i, 2, 77, i, 0]) + plain
    for first in range(4):
        for i, plain in enumerate((b"", b"v" * 15, b"w" * 16, b"z" * 500)):
            for option in (1, 3):
                yield "envelope_local", f"sealed-{first}-{i}-{option}", bytes([option | first << 2, 5, i]) + head + plain
            for at, what in ((14, 1), (19, 1), (22, 8), (40, 1), (60, 0)):
                yield "envelope_local", f"damaged-{first}-{i}-{at}", bytes([0x41 | first << 2, 6, at]) \
                    + struct.pack("<HB", at, what) + head + plain
    for name, body in (("v1-length", b"kms:v1:old:\xff\xff"), ("v1-none", b"kms:v1:old:"), ("v1-short", b"kms:v1:old:\0\7wrapped" + b"x" * 27),
                       ("no-name", b"aesgcm:v1:xxxx"), ("cbc-block", b"aescbc:v1:k:" + b"i" * 32), ("box", b"secretbox:v1:k:2:" + b"n" * 24)):
        yield "envelope_local", name, bytes([0, 1, 1]) + head + b"k8s:enc:" + body
    for name, fields in {"type-0": (1, 2, 3), "ordered": (1, 2, 3, 5), "reversed": (3, 2, 1), "unknown": (9, 1, 2, 3, 9),
                         "twice": (1, 1, 2, 3), "no-id": (1, 3), "no-data": (2, 3)}.items():
        for cut in (0, 1, 4):
            yield "envelope_open", f"{name}-{cut}", bytes([cut, cut, 9]) + head + stored_type_0(key, fields)
    yield "envelope_open", "plain", bytes([4, 0, 0]) + head + b"in clear"
    yield "envelope_open", "plain-strict", bytes([0, 0, 0]) + head + b"in clear"


CONFIG_HEAD = b"apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
KMS = b"  - kms: {apiVersion: v2, name: one, endpoint: unix:///run/kms.sock, timeout: 3s}\n"
AES = b"  - aesgcm: {keys: [{name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n"
JSON = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [
    {"resources": ["secrets", "configmaps", "widgets.example.com"],
     "providers": [{"kms": {"apiVersion": "v2", "name": "one", "endpoint": "unix:///run/kms.sock"}}, {"identity": {}}]}]}


def config_text(resources, providers):
    return CONFIG_HEAD + b"- resources: [" + resources + b"]\n  providers:\n" + providers


def config_seeds():
    texts = {
        "kms": config_text(b"secrets", KMS), "kms-identity": config_text(b"secrets, configmaps", KMS + b"  - identity: {}\n"),
        "aesgcm": config_text(b"secrets", AES), "every": config_text(b"'*.*'", KMS), "group": config_text(b"'*.apps'", KMS),
        "core": config_text(b"'*.'", KMS), "custom": config_text(b"foos.example.com", KMS),
        "overlap": config_text(b"secrets, '*.'", KMS), "twice": config_text(b"secrets, secrets", KMS),
        "two": config_text(b"secrets", KMS) + b"- resources: ['*.*']\n  providers:\n" + b"  - identity: {}\n" + KMS.replace(b"one", b"two"),
        "v1": config_text(b"secrets", b"  - kms: {name: old, endpoint: 'unix:///@kms', cachesize: 5}\n"),
        "bad-secret": config_text(b"secrets", AES.replace(b"MDEy", b"####")), "no-providers": config_text(b"secrets", b"  []\n"),
        "anchor": config_text(b"secrets", b"  - &a kms: &b {name: one}\n  - *a\n"), "json": json.dumps(JSON).encode(),
        "json-cut": json.dumps(JSON).encode()[:-9], "documents": config_text(b"secrets", KMS) + b"---\nkind: Other\n",
        "tabs": b"apiVersion:\tv1\n", "empty": b"", "null": b"~\n", "deep": b"[" * 60, "utf16": "kind: x".encode("utf-16"),
        "block": config_text(b"secrets", b"  - kms:\n      apiVersion: v2\n      name: |\n        one\n      endpoint: >-\n        unix:///a\n"),
        "unknown": config_text(b"secrets", KMS.replace(b"timeout", b"timeouts")),
    }
    for i, (name, text) in enumerate(texts.items()):
        yield "config", name, bytes([i % 16]) + text
        yield "config", name + "-v1", bytes([1]) + text
    for case in json.loads((GOLDEN / "config-validation.json").read_text())["vectors"][::6]:
        text = case["detail"]["encryption_configuration"].encode()
        if 100 < len(text) < 2000:
            yield "config", "golden-" + case["id"], bytes([3 if case["detail"]["reload"] else 1]) + text


def http1_seeds():
    for name, text in {
        "health": b"GET /health?exclude=NOSPACE&serializable=true HTTP/1.1\r\nHost: x\r\n\r\n", "http10": b"GET /metrics HTTP/1.0\r\n\r\n",
        "head": b"HEAD /version HTTP/1.1\r\nHost: x\r\n\r\n", "post": b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "chunked": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "absolute": b"GET http://a/b HTTP/1.1\r\n\r\n",
        "upgrade": b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        "fragment": b"GET /a#b HTTP/1.1\r\n\r\n", "connect": b"CONNECT a:1 HTTP/1.1\r\n\r\n", "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "long": b"GET /" + b"a" * 1030 + b" HTTP/1.1\r\n\r\n", "empty-query": b"GET /health? HTTP/1.1\r\n\r\n",
    }.items():
        yield "http1", "request-" + name, bytes([0, 5]) + text
    for name, text in {"dots": b"/a/./b//../c%2Fd", "clean": b"/healthz/ping", "bad": b"/%zz", "query": b"verbose&exclude=ping&exclude=k%4Ds&exclude=%"}.items():
        yield "http1", "path-" + name, bytes([0, 5]) + text
    for name, text in {
        "length": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "eof": b"HTTP/1.0 503 No\r\n\r\nreason",
        "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "switch": b"HTTP/1.1 101 Sw\r\nUpgrade: x\r\n\r\n",
        "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "large": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "304": b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
    }.items():
        for options in (1, 3):
            yield "http1", f"response-{name}-{options}", bytes([options, 6]) + text


def header_fields(*pairs):
    names = [b":method", b":path", b":authority", b":scheme", b"content-type", b"grpc-encoding", b"grpc-timeout", b"grpc-status", b"te",
             b"connection", b"host", b"x-test", b"user-agent", b"authorization", b"accept-encoding", b"content-length"]
    return b"".join((bytes([names.index(n)]) if n in names else bytes([64 + len(n)]) + n) + bytes([len(v)]) + v for n, v in pairs)


def request_seeds():
    call = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/etcdserverpb.KV/Put"), (b":authority", b"127.0.0.1:2379"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers")]

    def without(name, *more):
        return [f for f in call if f[0] != name] + list(more)

    for name, fields in {
        "call": call, "more": call + [(b"grpc-timeout", b"5S"), (b"x-test", b"1"), (b"user-agent", b"grpc-go"), (b"token", b"t")],
        "no-slash": without(b":path", (b":path", b"etcdserverpb.Watch/Watch")), "query": without(b":path", (b":path", b"/etcdserverpb.KV/Put?a")),
        "lower": without(b":path", (b":path", b"/etcdserverpb.kv/put")), "lock": without(b":path", (b":path", b"/v3lockpb.Lock/Lock")),
        "get": without(b":method", (b":method", b"GET")), "proto": without(b"content-type", (b"content-type", b"application/grpc+proto")),
        "json": without(b"content-type", (b"content-type", b"application/json")), "no-type": without(b"content-type"),
        "two-types": without(b"content-type", (b"content-type", b"text/plain"), (b"content-type", b"application/grpc;v=1")),
        "gzip": call + [(b"grpc-encoding", b"gzip")], "identity": call + [(b"grpc-encoding", b"identity")], "identity-gzip": call + [(b"grpc-encoding", b"identity"), (b"grpc-encoding", b"gzip")],
        "timeout": call + [(b"grpc-timeout", b"123456789S")], "hop": call + [(b"connection", b"x"), (b"host", b"y"), (b"content-length", b"5"), (b"upgrade", b"h2c")],
        "authority": without(b":authority", (b":authority", b"a b/%")), "two-paths": call + [(b":path", b"/etcdserverpb.KV/Txn")],
        "probe": [(b":method", b"GET"), (b":path", b"/health"), (b":scheme", b"https")], "empty": [],
    }.items():
        yield "request", name, header_fields(*fields)


def settings_seeds():
    for name, text in {
        "flags": b"--etcd-servers=https://a:2379,https://b:2379\n--max-request-bytes=2MiB\n--shutdown-timeout=1m30s\n--workers=2\n",
        "prefixes": b"--protect-prefix=/a=b\n--protect-prefix=/c=d\n--converge=100\n--converge-key=/x//y/\n--etcd-prefix=/registry\n",
        "environment": b"ETCD_ENVELOPE_LOG_LEVEL=debug\nETCD_ENVELOPE_ALLOWED_CLIENT_NAMES=\nETCD_ENVELOPE_LOG_FORMAT=json\n",
        "file": b"---\nlisten-client-urls: http://127.0.0.1:1,unix://a.sock\nlog-level: warn\nmemory-limit: 64MiB\nallow-unprotect: true\n",
        "file-json": b'---\n{"etcd-servers": "http://127.0.0.1:2379", "workers": 4}\n', "file-twice": b"---\nworkers: 1\nworkers: 2\n",
        "file-list": b"---\n- a\n", "file-empty": b"--log-level=error\n---\n", "near": b"--etcd-server=a\n", "needs": b"--cert-file\n",
        "pair": b"--cert-file=a\n", "tls": b"--listen-client-urls=https://:1\n--cert-file=a\n--key-file=b\n--trusted-ca-file=c\n--allowed-client-names=x\n",
        "duration": b"--stall-timeout=1h2m3.5s\n---\n{}\n", "bad-size": b"--memory-limit=1TiB\n", "bad-bool": b"--allow-unprotect=maybe\n",
        "url": b"url https://[::1]:2379/\nurl unix:///run/a.sock\nurl unix:a\nurl unixs://@x\nurl http://user@h:1\nurl http://h:99999\nurl unix://n:1\n",
        "kms": b"kms unix:///run/kms.sock\nkms unix:///@kms\nkms unix:///a%2Fb?c\nkms unix:///%00\nkms tcp://x\nkms UNIX://h/p\n",
        "listen": b"LISTEN_FDS=3\nLISTEN_PID=1\nLISTEN_FDNAMES=a:b:\n", "print": b"--print-config\n--help\n", "word": b"-x\nserve\n",
    }.items():
        yield "settings", name, text


def record_seeds():
    head = b"etcd-envelope 1\nname host%20a http://127.0.0.1:1\nconfig sha256:00\n"
    one = head + b"rule /registry/secrets/ secrets aesgcm:v1:k:abcd aesgcm:v1:k:abcd,identity\n"
    kms = head + b"rule /registry/secrets/ secrets kms:v2:p:00112233 kms:v2:p:,identity\n"
    unknown = kms.replace(b"00112233", b"?")
    two = one + b"rule /registry/configmaps/ configmaps - -\n"
    for name, a, b in (("same", one, one.replace(b"host%20a", b"b")), ("kms", kms, kms), ("unknown", unknown, unknown), ("half-known", kms, unknown),
                       ("other-key", one, one.replace(b"abcd aes", b"efgh aes")), ("not-opened", one, one.replace(b"aesgcm:v1:k:abcd,", b"")),
                       ("more", two, one), ("two", two, two), ("no-rules", head, head), ("empty", b"", b""), ("words", head + b"rule  \n", one),
                       ("no-writes", head + b"rule a b  c\n", head + b"rule a b  c\n"), ("name", b'\nname a"b%20%\x7f\nrule x', one)):
        yield "record", name, a + b"\0" + b


def tool_seeds():
    for name, data in {
        "base64": b"\1" + b"AAEC\nAwQ=\n", "base64-bad": b"\1A===", "hex": b"\2" + b"00 ff\n7F", "hex-odd": b"\2abc", "raw": b"\0abc",
        "object": b"\3" + field(1, b"D" * 40) + field(2, b"key") + field(3, b"W") + field(4, field(1, b"a.b") + field(2, b"v")) + num(5, 1),
        "doubled": b"\3" + field(2, b"k") + field(2, b"l") + num(2, 3) + num(9, 1), "cut": b"\3" + field(3, b"W" * 20)[:9], "group": b"\3\x0b\x0c",
    }.items():
        yield "tools_value", name, data


def localkms_seeds():
    key = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    for name, data in {
        "keys": b"\0# mine\n\n" + key + b"\n" + key.replace(b"MDEy", b"MTEy") + b"\r\n", "twice": b"\0" + key + b"\n" + key, "short": b"\0" + key[4:], "none": b"\0#\n",
        "status": b"\1", "encrypt": b"\2" + field(1, b"S" * 32) + field(2, b"uid-1"), "encrypt-empty": b"\2" + field(2, b'a"\x01'), "bad": b"\2\xff",
        "decrypt": b"\3" + field(1, b"\1" + b"W" * 60) + field(2, b"u") + field(3, b"local-4d60c1e0ee0fcc0fbf8fbbfca9e5e0f3"), "decrypt-bad": b"\3\x0a\x7f",
        "decrypt-note": b"\3" + field(3, b"k") + field(4, field(1, b"a.b")), "wrap": b"\4\x05\x01" + b"S" * 32, "wrap-same": b"\4\x05\x00" + b"S" * 16,
    }.items():
        yield "localkms", name, data


def kms_seeds():
    for which, name, body in (
        (0, "ok", field(1, b"v2") + field(2, b"ok") + field(3, b"key-1")), (0, "sick", field(1, b"v2") + field(2, b"disk \"full\"\n")),
        (0, "beta", field(1, b"v2beta1") + field(2, b"ok") + field(3, b"k") + field(3, b"l")), (0, "nul", field(3, b"a\x00b")),
        (0, "latin1", field(2, b"\xe9t\xe9")), (0, "empty", b""), (0, "unknown", field(9, b"x") + num(8, 1) + field(3, b"k")),
        (1, "plain", field(1, b"W" * 60) + field(2, b"key-1")),
        (1, "annotated", field(1, b"W") + field(2, b"key") + b"".join(field(3, field(1, k) + field(2, v)) for k, v in (
            (b"kek.example.com", b"v7"), (b"a.b", b""), (b"kek.example.com", b"v8"), (b"zone.kms.example.org", b"\x00\xff")))),
        (1, "bare-entry", field(1, b"W") + field(2, b"key") + field(3, b"")), (1, "bad-domain", field(1, b"W") + field(2, b"k") + field(3, field(1, b"Not A Domain"))),
        (1, "nul-annotation", field(1, b"W") + field(2, b"k") + field(3, field(1, b"a\x00.b"))), (1, "no-id", field(1, b"W")),
        (2, "seed", field(1, bytes(range(32)))), (2, "twice", field(1, b"a" * 32) + field(1, b"b" * 32)), (2, "cut", field(1, b"a" * 32)[:20]),
    ):
        yield "kms_codec", name, bytes([which]) + body


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def h2_seeds():
    block = b"".join(literal(n, v) for n, v in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"x")))
    headers, data = frame(1, 4, 1, block), frame(0, 1, 1, b"hello world")
    status = b"\x88" + literal(b"content-type", b"application/grpc")
    trailers = frame(1, 5, 1, literal(b"grpc-status", b"0"))
    server = {
        "request": headers + data, "whole": headers + frame(0, 0, 1, b"hel") + frame(0, 8, 1, b"\x04lo \0\0\0\0") + frame(6, 0, 0, b"01234567")
        + frame(0, 0, 1) + frame(0x77, 3, 1, b"what?") + frame(1, 5, 1, literal(b"x-check", b"sum")),
        "continued": frame(1, 0, 1, block[:20]) + frame(9, 4, 1, block[20:]) + data, "reset": headers + frame(3, 0, 1, b"\0\0\0\x08"),
        "rapid": b"".join(frame(1, 4, 2 * i + 1, block) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(20)),
        "many": b"".join(frame(1, 4, 2 * i + 1, block) for i in range(14)), "window-0": frame(4, 0, 0, b"\0\4\0\0\0\0") + headers + data + frame(8, 0, 1, b"\0\0\0\x09"),
        "window-over": headers + frame(8, 0, 1, b"\x7f\xff\xff\xff"), "settings": frame(4, 0, 0, b"\0\1\0\0\0\0\0\5\0\xff\xff\xff\0\6\0\0\0\x10") + headers + data,
        "pings": frame(6, 0, 0, b"01234567") * 30, "goaway": headers + frame(7, 0, 0, b"\0\0\0\0\0\0\0\0bye"), "even": frame(1, 5, 2, block),
        "priority": frame(2, 0, 3, b"\0\0\0\1\x10") + headers + data, "push": frame(5, 4, 1, b"\0\0\0\2" + block), "upper": frame(1, 5, 1, block + literal(b"X", b"y")),
        "no-path": frame(1, 5, 1, literal(b":method", b"POST")), "table": frame(1, 5, 1, b"\x3f\xe1\xff\x03" + block), "big": frame(0, 0, 1)[:3] + b"junk",
        "empty-data": headers + frame(0, 0, 1) * 40, "data-first": data, "length": frame(1, 4, 1, block + literal(b"content-length", b"5")) + data,
    }
    client = {
        "answer": frame(4, 1, 0) + frame(1, 4, 1, status) + frame(0, 0, 1, b"\0\0\0\0\1x") + trailers, "only": frame(1, 5, 1, status + literal(b"grpc-status", b"14")),
        "informational": frame(1, 4, 1, literal(b":status", b"103")) + frame(1, 4, 1, status) + trailers, "goaway": frame(7, 0, 0, b"\0\0\0\1\0\0\0\0"),
        "refused": frame(3, 0, 3, b"\0\0\0\7"), "unknown-stream": frame(1, 4, 9, status), "no-status": frame(1, 4, 1, literal(b"a", b"b")),
        "promise": frame(5, 4, 1, b"\0\0\0\2" + block), "others": b"".join(frame(1, 5, s, status) for s in (1, 3, 5)),
        "limit": frame(4, 0, 0, b"\0\3\0\0\0\1") + frame(1, 4, 1, status) + trailers,
    }
    for name, body in server.items():
        yield "h2_feed", name, bytes([0, 4]) + body
    for name in ("request", "whole", "many", "window-0"):
        for options in (4, 8, 16):
            yield "h2_feed", f"{name}-{options}", bytes([options, 5]) + server[name]
    yield "h2_feed", "bare", bytes([2, 7]) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\0\3\0\0\0\x64") + server["whole"]
    yield "h2_feed", "http1", bytes([2, 7]) + b"GET / HTTP/1.1\r\n\r\n"
    for name, body in client.items():
        yield "h2_feed", "client-" + name, bytes([1, 6]) + body


def sample_seeds():
    """What metrics listeners say."""
    golden = (GOLDEN / "metrics.txt").read_bytes()
    for i in range(0, min(len(golden), 12000), 1500):
        yield "samples", f"golden-{i}", golden[i:i + 1500]
    for name, text in {"labels": b'a{hash="x",status="\\"}"} 1\nb 2', "cut": b'a{hash="x', "none": b"a{} 1\n#x\n{} 2",
                       "order": b'a{status="success",hash=""} NaN\n'}.items():
        yield "samples", name, text
    yield "samples", "statusz", (b'{"summary": "x", "problems": [{"severity": "warning", "about": "values", "title": "a \\"b\\"", '
                                 b'"more": [{}]}, {"title": "c"}], "etcd": {"problems": []}}')


def message_seeds():
    """Answers to the requests of our own."""
    def kv(key, value, more=b""):
        return field(2, field(1, key) + num(2, 3) + num(3, 9) + num(4, 1) + (field(5, value) if value else b"") + more)
    page = HEADER + kv(SECRET, b"v") + kv(CONFIG, b"", num(6, 77)) + num(3, 1) + num(4, 9)
    status = HEADER + field(2, b"3.6.0") + num(3, 4096) + num(9, 2048) + field(8, b"memberID:1 alarm:NOSPACE ") + num(12, 1 << 31)
    for name, body in {"page": page, "none": HEADER, "no-key": HEADER + field(2, field(5, b"v")), "status": status,
                       "twice": HEADER + field(2, field(1, b"a") + field(1, b"b")), "wrong": field(2, num(1, 5)),
                       "done": HEADER + num(2, 1) + field(3, field(2, HEADER)),
                       "conflict": HEADER + field(3, field(1, page))}.items():
        for cut in (0, 1, 7):
            yield "etcd_message", f"{name}-{cut}", body[:len(body) - cut]


# RFC 7541 appendix C.3 to C.6: the blocks of requests (kind 0) and answers (1), in clear and Huffman-coded.
HPACK_BLOCKS = {
    "requests": (0, ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
                     "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"]),
    "requests-coded": (0, ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
                           "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"]),
    "answers": (1, ["3fe1014803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e"
                    "1768747470733a2f2f7777772e6578616d706c652e636f6d", "4803333037c1c0bf",
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b"
                    "48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31"]),
    "answers-coded": (1, ["3fe101488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9"
                          "ae82ae43d3", "4883640effc1c0bf",
                          "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960"
                          "d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"]),
}


def hpack_block(block, kind=0, more=0):
    return bytes([kind | 8 | more]) + len(block).to_bytes(2, "little") + block


def hpack_list(fields, step=3, more=0):
    """Names of one byte are numbers in the target's table."""
    out = bytes([step | more, len(fields)])
    for name, value in fields:
        out += (name if len(name) == 1 else bytes([199 + len(name)]) + name) + bytes([len(value)]) + value
    return out


def hpack_seeds():
    known = hpack_block(bytes.fromhex("8286040461626364"), 0, 16)
    plain = [(b"\0", b"/etcdserverpb.KV/Range"), (b"\3", b"application/grpc"), (b"\6", b"trailers")]
    timed = [*plain, (b"\7", b"4999m")]
    secret = [*plain, (b"\5", b"bearer"), (b"\4", b"basic")]
    for name, (kind, blocks) in HPACK_BLOCKS.items():
        yield "hpack", name, b"".join(hpack_block(bytes.fromhex(b), kind, 16) for b in blocks) + hpack_list(plain, 3, 16)
    for name, block in {
        "index-0": "80", "index-none": "be", "integer-cut": "ff", "integer-long": "ff8080808080808000",
        "integer-over": "ff80feffff0f", "string-cut": "00056162", "eos": "000484ffffffff", "padding": "00018100",
        "padding-long": "00018207ff", "update-late": "823f00", "update-large": "3fe21f", "update-twice": "203fe11f82",
        "update-only": "3fe11f", "names-empty": "000000", "insert-large": "3f0140036162630131", "upper": "000141016282",
    }.items():
        yield "hpack", name, known + hpack_list(timed, 3, 16) + hpack_block(bytes.fromhex(block), 0, 16)
    lists = b"".join(hpack_list([*plain, (bytes([7]), b"%dm" % n)], 5) + hpack_list([*plain, (b"x-new", b"%d" % n)], 4, 16)
                     for n in range(20))
    sizes = b"".join(b"\6" + n.to_bytes(2, "little") + hpack_list(timed, 3, 16) for n in (0, 60, 200, 4096, 4999))
    yield "hpack", "lists", known + lists + hpack_list(secret, 3, 16) + hpack_list(secret, 5)
    yield "hpack", "sizes", known + sizes + lists
    yield "hpack", "limits", bytes([0 | 16 | 32, 90, 0, 9, 4]) + bytes.fromhex("82868484") + bytes([7 | 32, 255, 0, 2]) + known


# --- etcd's database, as bbolt lays it out: pages of 1 KiB ---

PAGE = 1024


def db_page(number, kind, elements):
    """A branch (1): (name, page); a leaf (2): (flags, name, value)."""
    head, data = b"", b""
    for i, element in enumerate(elements):
        at = (len(elements) - i) * 16 + len(data)
        if kind == 1:
            name, page = element
            head, data = head + struct.pack("<IIQ", at, len(name), page), data + name
        else:
            flags, name, value = element
            head, data = head + struct.pack("<IIII", flags, at, len(name), len(value)), data + name + value
    size = 16 + len(head) + len(data)
    return struct.pack("<QHHI", number, kind, len(elements), max(0, -(-size // PAGE) - 1)) + head + data


def db_meta(number, root, pages, transaction):
    meta = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, pages, transaction)
    check = 14695981039346656037
    for byte in meta:
        check = (check ^ byte) * 1099511628211 & (1 << 64) - 1
    return struct.pack("<QHHI", number, 4, 0, 0) + meta + struct.pack("<Q", check)


def db_record(revision, key, value, sub=0):
    """value None: a deletion."""
    name = struct.pack(">Q", revision) + b"_" + struct.pack(">Q", sub) + (b"t" if value is None else b"")
    stored = field(1, key) + (b"" if value is None else num(2, revision) + num(3, revision) + num(4, 1) + field(5, value))
    return 0, name, stored


def db_file(records, per_leaf=0):
    """per_leaf 0: the keys lie in the top level."""
    pages, level = [b"", b""], []
    add = lambda kind, elements: pages.extend(db_spread(db_page(len(pages), kind, elements))) or None  # noqa: E731
    for i in range(0, len(records) if per_leaf else 0, max(1, per_leaf)):
        level.append((records[i][1], len(pages)))
        add(2, records[i:i + per_leaf])
    while len(level) > 1:
        above = []
        for i in range(0, len(level), 3):
            above.append((level[i][0], len(pages)))
            add(1, level[i:i + 3])
        level = above
    keys = struct.pack("<QQ", level[0][1], 0) if level else struct.pack("<QQ", 0, 0) + db_page(0, 2, records)
    revision = struct.pack(">Q", 3) + b"_" + bytes(8)
    meta = struct.pack("<QQ", 0, 0) + db_page(0, 2, [(0, b"consistent_index", struct.pack(">Q", 9)),
                                                     (0, b"finishedCompactRev", revision)])
    root = len(pages)
    add(2, [(1, b"key", keys), (1, b"meta", meta)])
    for number in (0, 1):
        pages[number] = db_meta(number, root, len(pages), 5 + number)
    return b"".join(p.ljust(PAGE, b"\0") for p in pages)


def db_spread(page):
    return [page[i:i + PAGE] for i in range(0, len(page), PAGE)]


def snapshot_seeds():
    history = [db_record(2, SECRET, b"one"), db_record(3, CONFIG, b"two"), db_record(3, OPEN, b"three", 1),
               db_record(4, SECRET, b"four"), db_record(5, CONFIG, None), db_record(6, b"/x", b"not wanted"),
               db_record(7, ELSEWHERE + b"y", b"7" * 40)]
    yield "snapshot", "inline", b"\1" + db_file(history)
    yield "snapshot", "leaf", b"\1" + db_file(history, 20)
    yield "snapshot", "tree", b"\1" + db_file(history, 1)
    yield "snapshot", "overflow", b"\1" + db_file([*history, db_record(8, SECRET, b"v" * 2500), db_record(9, OPEN, b"")], 3)
    yield "snapshot", "shrinks", bytes([3 | 15 << 2]) + db_file(history, 2)
    yield "snapshot", "meta-0-bad", b"\0" + bytes(PAGE) + db_file(history)[PAGE:]
    yield "snapshot", "empty", b"\1" + db_file([])


GROUPS = [pb_seeds, grpc_seeds, etcd_seeds, direct_seeds, member_seeds, message_seeds, envelope_seeds, config_seeds, http1_seeds, request_seeds,
          settings_seeds, record_seeds, tool_seeds, localkms_seeds,
          sample_seeds, kms_seeds, h2_seeds, hpack_seeds, snapshot_seeds]


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
