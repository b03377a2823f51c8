# SPDX-License-Identifier: Apache-2.0
"""Many or large values: written fast, checked without keeping them."""
import hashlib

import harness  # first: it sets the path to tests/fake
import h2raw
from client import prefix_end
from protos import rpc

RANGE = "/etcdserverpb.KV/Range"


def value_of(key, size):
    """The value of a key: different for every key, cheap to make again."""
    seed = hashlib.sha256(key).digest()
    return (seed * (size // 32 + 1))[:size]


def fill(client, prefix, count, size, batch_bytes=1 << 20):
    """Writes `count` values of `size` bytes below prefix; returns the keys."""
    keys = [prefix + b"%06d" % i for i in range(count)]
    per_txn = max(1, min(128, batch_bytes // size))
    method = client.channel.unary_unary("/etcdserverpb.KV/Txn", None, None)
    waiting = []
    for at in range(0, count, per_txn):
        ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=k, value=value_of(k, size)))
               for k in keys[at:at + per_txn]]
        waiting.append(method.future(rpc.TxnRequest(success=ops).SerializeToString(), timeout=120,
                                     wait_for_ready=True))
        if len(waiting) >= 8:
            waiting.pop(0).result()
    for future in waiting:
        future.result()
    return keys


def check(answer, keys, size):
    """answer (a RangeResponse) holds these keys with their values, and no more."""
    got = [(k.key, k.value) for k in answer.kvs]
    if len(got) != len(keys):
        raise AssertionError(f"{len(got)} values instead of {len(keys)}")
    for key, (have, value) in zip(keys, got):
        if have != key or value != value_of(key, size):
            raise AssertionError(f"{key}: {have} with {len(value)} bytes")
    if answer.count != len(keys) or not answer.HasField("header"):
        raise AssertionError("count or header is missing")


def list_request(prefix):
    return h2raw.grpc_message(rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix)).SerializeToString())


def raw_list(address, prefix, timeout=120, settings=None):
    """Lists with a client whose windows never grow beyond 64 KiB. Returns the RangeResponse."""
    client = h2raw.Client(address, settings)
    try:
        stream = client.wait(client.start(RANGE, list_request(prefix)), timeout)
        if stream.status != 0:
            raise AssertionError(f"status {stream.status} {stream.message} reset {stream.reset}")
        messages, rest = h2raw.split_messages(stream.data)
        if len(messages) != 1 or rest:
            raise AssertionError(f"{len(messages)} messages and {len(rest)} bytes")
        return rpc.RangeResponse.FromString(messages[0])
    finally:
        client.close()


def need_memory(test, mib):
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(line.split()[1]) for line in f if line.startswith("MemAvailable"))
    if free < mib * 1024:
        test.skipTest(f"needs {mib} MiB of free memory")


SCALE = 16 if harness.SANITIZED else 1
