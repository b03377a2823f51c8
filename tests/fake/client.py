# SPDX-License-Identifier: Apache-2.0
"""A gRPC client of etcd, independent of ours and of etcd's: python3-grpcio and generated messages."""
import queue
import threading

import grpc

from protos import more, rpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
           ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
           ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 3000),
           ("grpc.max_reconnect_backoff_ms", 500)]


def prefix_end(prefix):
    """The end of the range of all keys that begin with prefix."""
    key = bytearray(prefix)
    while key:
        if key[-1] < 0xff:
            key[-1] += 1
            return bytes(key)
        key.pop()
    return b"\0"


class Client:
    """Every instance has a connection of its own."""

    def __init__(self, target, credentials=None, options=()):
        options = OPTIONS + list(options)
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            self.channel = grpc.secure_channel(target, credentials, options)

    def close(self):
        self.channel.close()

    def unary(self, path, request, response, timeout=30, metadata=()):
        """One call; request: a message or raw bytes, response: a class, or bytes for raw bytes."""
        if not isinstance(request, bytes):
            request = request.SerializeToString()
        deserialize = None if response is bytes else response.FromString
        call = self.channel.unary_unary(path, None, deserialize)
        # Always wait_for_ready: without it a call to a server that is away fails at once, and gRPC's
        # core, which moves its sockets only while a call waits, would take seconds to connect.
        return call(request, timeout=timeout, metadata=tuple(metadata), wait_for_ready=True)

    def start(self, path, request, response=rpc.PutResponse, timeout=30):
        """One call that goes on by itself: its future."""
        call = self.channel.unary_unary(path, None, response.FromString)
        return call.future(request.SerializeToString(), timeout=timeout, wait_for_ready=True)

    def unary_with_call(self, path, request, response, timeout=30, metadata=()):
        call = self.channel.unary_unary(path, None, response.FromString)
        return call.with_call(request.SerializeToString(), timeout=timeout, metadata=tuple(metadata),
                              wait_for_ready=True)

    def kv(self, method, request, response, **options):
        return self.unary("/etcdserverpb.KV/" + method, request, response, **options)

    # --- KV ---

    def put(self, key, value, timeout=30, **fields):
        return self.kv("Put", rpc.PutRequest(key=key, value=value, **fields), rpc.PutResponse,
                       timeout=timeout)

    def get(self, key, end=b"", timeout=30, **fields):
        return self.kv("Range", rpc.RangeRequest(key=key, range_end=end, **fields), rpc.RangeResponse,
                       timeout=timeout)

    def value(self, key, **options):
        """The value of one key, None when it isn't there."""
        kvs = self.get(key, **options).kvs
        return kvs[0].value if kvs else None

    def list(self, prefix, **fields):
        return self.get(prefix, prefix_end(prefix), **fields)

    def delete(self, key, end=b"", timeout=30, **fields):
        return self.kv("DeleteRange", rpc.DeleteRangeRequest(key=key, range_end=end, **fields),
                       rpc.DeleteRangeResponse, timeout=timeout)

    def txn(self, compare=(), success=(), failure=(), timeout=30):
        return self.kv("Txn", rpc.TxnRequest(compare=compare, success=success, failure=failure),
                       rpc.TxnResponse, timeout=timeout)

    def compact(self, revision, physical=True):
        return self.kv("Compact", more.CompactionRequest(revision=revision, physical=physical),
                       more.CompactionResponse)

    # --- leases ---

    def lease(self, method, request, response, **options):
        return self.unary("/etcdserverpb.Lease/" + method, request, response, **options)

    def grant(self, ttl):
        return self.lease("LeaseGrant", more.LeaseGrantRequest(TTL=ttl), more.LeaseGrantResponse)

    def revoke(self, lease):
        return self.lease("LeaseRevoke", more.LeaseRevokeRequest(ID=lease), more.LeaseRevokeResponse)

    def time_to_live(self, lease, keys=True):
        return self.lease("LeaseTimeToLive", more.LeaseTimeToLiveRequest(ID=lease, keys=keys),
                          more.LeaseTimeToLiveResponse)

    def keep_alive(self):
        return Stream(self.channel, "/etcdserverpb.Lease/LeaseKeepAlive", more.LeaseKeepAliveResponse)

    # --- watches ---

    def watch_stream(self, metadata=()):
        return Watch(self.channel, "/etcdserverpb.Watch/Watch", rpc.WatchResponse, metadata)

    def watch(self, key, end=b"", **fields):
        """A stream with one watch, created and confirmed."""
        stream = self.watch_stream()
        stream.create(key, end, **fields)
        stream.watch_id = stream.created().watch_id
        return stream


class Stream:
    """A bidirectional call: send() and next() from the test's own thread."""
    END = object()

    def __init__(self, channel, path, response, metadata=()):
        self.requests = queue.Queue()
        self.answers = queue.Queue()
        self.error = None
        method = channel.stream_stream(path, lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                                       response.FromString)
        self.call = method(iter(self.requests.get, self.END), metadata=tuple(metadata))
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        try:
            for answer in self.call:
                self.answers.put(answer)
        except grpc.RpcError as error:
            self.error = error
        self.answers.put(self.END)

    def send(self, message):
        self.requests.put(message)

    def half_close(self):
        self.requests.put(self.END)

    def next(self, timeout=10):
        """The next answer. Raises the call's error when it has ended, TimeoutError when nothing comes."""
        try:
            answer = self.answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout} s") from None
        if answer is self.END:
            self.answers.put(self.END)
            raise self.error or EOFError("the call ended")
        return answer

    def quiet(self, seconds):
        """True if nothing arrives for so long."""
        try:
            answer = self.answers.get(timeout=seconds)
        except queue.Empty:
            return True
        self.answers.queue.appendleft(answer)
        return False

    def cancel(self):
        self.call.cancel()
        self.requests.put(self.END)


class Watch(Stream):
    watch_id = None

    def create(self, key, end=b"", **fields):
        self.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, range_end=end, **fields)))

    def created(self):
        answer = self.next()
        assert answer.created and not answer.canceled, answer
        return answer

    def stop(self, watch_id):
        self.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id)))

    def progress(self):
        self.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def events(self, count, timeout=10):
        """The next `count` events, as a list; answers without events are skipped."""
        events = []
        while len(events) < count:
            answer = self.next(timeout)
            assert not answer.canceled, answer
            events += answer.events
        return events
