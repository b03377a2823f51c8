# SPDX-License-Identifier: Apache-2.0
"""An etcd for what a real one won't do: it keeps a small store and answers KV, Watch and MemberList
honestly, until a test gives it a `lie` or a `script`. It remembers every byte that it receives.

  lie(path, request, response)  may change the response message, or return other bytes to send instead
  script(call)                  is asked first for every call whose request is complete (for Watch: at
                                every message); returns True when it has answered in its own way
"""
import socket
import threading

import h2raw
from client import prefix_end  # noqa: F401 - for tests
from protos import kv, more, rpc

KV = "/etcdserverpb.KV/"
WATCH = "/etcdserverpb.Watch/Watch"
REQUESTS = {KV + "Range": rpc.RangeRequest, KV + "Put": rpc.PutRequest, KV + "Txn": rpc.TxnRequest,
            KV + "DeleteRange": rpc.DeleteRangeRequest, KV + "Compact": more.CompactionRequest,
            KV + "RangeStream": rpc.RangeRequest, WATCH: rpc.WatchRequest,
            "/etcdserverpb.Cluster/MemberList": more.MemberListRequest,
            "/etcdserverpb.Maintenance/Status": more.StatusRequest}


class Call:
    """One call as the server sees it, with every honest and dishonest way to answer."""

    def __init__(self, conn, stream):
        self.conn, self.stream, self.id = conn, stream, stream.id
        self.path = stream.headers.get(":path", "")
        self.metadata = stream.headers
        self.payload = b""       # the message at hand
        self.taken = 0           # bytes of stream.data already split
        self.answered = False    # headers are out

    def headers(self, extra=(), status="200"):
        self.answered = True
        self.conn.send_headers(self.id, [(":status", status), ("content-type", "application/grpc"), *extra])

    def raw(self, data, end=False):
        if not self.answered:
            self.headers()
        self.conn.send_data(self.id, data, end)

    def message(self, payload, flag=0):
        if not isinstance(payload, bytes):
            payload = payload.SerializeToString()
        self.raw(h2raw.grpc_message(payload, flag))

    def trailers(self, status=0, text="", extra=()):
        fields = [("grpc-status", str(status)), ("grpc-message", text), *extra]
        if self.answered:
            self.conn.send_trailers(self.id, fields)
        else:
            self.answered = True
            self.conn.send_headers(self.id, [(":status", "200"), ("content-type", "application/grpc"),
                                             *fields], end_stream=True)

    def finish(self, payload):
        self.message(payload)
        self.trailers()

    def cut(self, payload, keep):
        """Announces the whole payload, sends only `keep` bytes of it."""
        if not isinstance(payload, bytes):
            payload = payload.SerializeToString()
        self.raw(h2raw.grpc_message(payload)[:5 + keep])

    def rst(self, code):
        self.conn.send_rst(self.id, code)


class ServerConn(h2raw.Conn):
    def __init__(self, server, sock):
        self.server, self.calls = server, {}
        super().__init__(sock, False, server.settings, record=True)

    def run(self):
        while not self.closed:
            frame = self.read(None)
            if frame is None:
                break
            if frame.type in (h2raw.HEADERS, h2raw.DATA, h2raw.CONTINUATION):
                self.advance(frame.stream)
            elif frame.type == h2raw.RST_STREAM and frame.stream in self.calls:
                self.server.on_reset(self.calls[frame.stream])
        self.server.on_closed(self)

    def advance(self, sid):
        stream = self.stream(sid)
        if stream.headers is None:
            return
        call = self.calls.get(sid)
        if call is None:
            call = self.calls[sid] = Call(self, stream)
        messages, rest = h2raw.split_messages(stream.data[call.taken:])
        call.taken = len(stream.data) - len(rest)
        for message in messages:
            call.payload = message
            with self.server.lock:
                self.server.calls.append((call.path, message))
            if call.path == WATCH:
                self.server.on_message(call)
        if stream.ended and call.path != WATCH:
            self.server.on_message(call)


class FakeEtcd:
    def __init__(self, settings=None):
        self.settings = settings or {h2raw.INITIAL_WINDOW_SIZE: 1 << 20}
        self.lock = threading.RLock()
        self.store, self.revision = {}, 1
        self.watchers = []       # [call, watch id, key, end, prev_kv]
        self.next_watch = 0
        self.calls = []          # (path, payload) in order of arrival
        self.conns, self.old = [], []
        self.lie = self.script = None
        self.resets = []         # paths of calls that the client reset
        self.problems = []       # exceptions of the fake itself: a test must find none
        self.members = [kv_member("fake", ["http://127.0.0.1:1"])]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    # --- connections ---

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        conn = ServerConn(self, sock)
        with self.lock:
            self.conns.append(conn)
        try:
            conn.run()
        except Exception as problem:  # noqa: B902 - shown by the test
            self.problems.append(problem)
            conn.close()

    def on_closed(self, conn):
        with self.lock:
            self.watchers = [w for w in self.watchers if w[0].conn is not conn]
            if conn in self.conns:
                self.conns.remove(conn)
                self.old.append(conn)

    def on_reset(self, call):
        with self.lock:
            self.resets.append(call.path)
            self.watchers = [w for w in self.watchers if w[0] is not call]

    def drop_connections(self):
        for conn in list(self.conns):
            conn.close()

    def stop(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which would keep the port
        except OSError:
            pass
        self.listener.close()
        self.drop_connections()

    def saw(self, needle):
        """Did these bytes arrive, in the raw stream or across the DATA frames of one stream?"""
        with self.lock:
            conns = self.conns + self.old
        return any(needle in bytes(c.received) or any(needle in bytes(s.data) for s in c.streams.values())
                   for c in conns)

    def requests(self, path):
        with self.lock:
            return [payload for p, payload in self.calls if p == path]

    # --- calls ---

    def on_message(self, call):
        if self.script is not None and self.script(call):
            return
        if call.path not in REQUESTS:
            return call.trailers(12, f"unknown method {call.path}")
        request = REQUESTS[call.path].FromString(call.payload)
        if call.path == WATCH:
            return self.on_watch(call, request)
        with self.lock:
            answer = self.answer(call.path, request)
        answer = self.distort(call.path, request, answer)
        if call.path == KV + "RangeStream":
            call.message(answer)
            return call.trailers()
        call.finish(answer)

    def distort(self, path, request, answer):
        if self.lie is not None:
            other = self.lie(path, request, answer)
            return answer if other is None else other
        return answer

    def header(self):
        return rpc.ResponseHeader(cluster_id=1, member_id=2, revision=self.revision, raft_term=3)

    def answer(self, path, request):
        name = path.rsplit("/", 1)[1]
        if name == "RangeStream":
            return rpc.RangeStreamResponse(range_response=self.range(request))
        if name == "MemberList":
            return rpc.MemberListResponse(header=self.header(), members=self.members)
        if name == "Status":
            return more.StatusResponse(header=self.header(), version="3.5.16")
        if name == "Compact":
            return more.CompactionResponse(header=self.header())
        return {"Range": self.range, "Put": self.put, "Txn": self.txn,
                "DeleteRange": self.delete}[name](request)

    def keys(self, key, end):
        if not end:
            return [key] if key in self.store else []
        return sorted(k for k in self.store if k >= key and (end == b"\0" or k < end))

    def range(self, request):
        keys = self.keys(request.key, request.range_end)
        limit = request.limit or len(keys)
        answer = rpc.RangeResponse(header=self.header(), count=len(keys), more=len(keys) > limit)
        for key in [] if request.count_only else keys[:limit]:
            record = answer.kvs.add()
            record.CopyFrom(self.store[key])
            if request.keys_only:
                record.value = b""
        return answer

    def put(self, request):
        self.revision += 1
        old = self.store.get(request.key)
        new = kv.KeyValue(key=request.key, create_revision=old.create_revision if old else self.revision,
                          mod_revision=self.revision, version=old.version + 1 if old else 1,
                          value=old.value if request.ignore_value and old else request.value,
                          lease=request.lease)
        self.store[request.key] = new
        self.notify(kv.Event(type=kv.Event.PUT, kv=new, prev_kv=old))
        answer = rpc.PutResponse(header=self.header())
        if request.prev_kv and old:
            answer.prev_kv.CopyFrom(old)
        return answer

    def delete(self, request):
        self.revision += 1
        answer = rpc.DeleteRangeResponse(header=self.header())
        for key in self.keys(request.key, request.range_end):
            old = self.store.pop(key)
            answer.deleted += 1
            if request.prev_kv:
                answer.prev_kvs.add().CopyFrom(old)
            gone = kv.KeyValue(key=key, mod_revision=self.revision)
            self.notify(kv.Event(type=kv.Event.DELETE, kv=gone, prev_kv=old))
        return answer

    def holds(self, compare):
        record = self.store.get(compare.key)
        field = compare.WhichOneof("target_union")
        if field in ("value", None):
            return True
        have = getattr(record, field) if record else 0
        want = getattr(compare, field)
        return [have == want, have > want, have < want, have != want][compare.result]

    def txn(self, request):
        ok = all(self.holds(c) for c in request.compare)
        answer = rpc.TxnResponse(succeeded=ok)
        for op in request.success if ok else request.failure:
            which = op.WhichOneof("request")
            part = {"request_range": self.range, "request_put": self.put, "request_txn": self.txn,
                    "request_delete_range": self.delete}[which](getattr(op, which))
            getattr(answer.responses.add(), which.replace("request", "response")).CopyFrom(part)
        answer.header.CopyFrom(self.header())
        return answer

    # --- watches ---

    def on_watch(self, call, request):
        with self.lock:
            which = request.WhichOneof("request_union")
            answer = rpc.WatchResponse(header=self.header())
            if which == "create_request":
                create = request.create_request
                answer.watch_id, answer.created = self.next_watch, True
                self.next_watch += 1
                self.watchers.append([call, answer.watch_id, create.key, create.range_end, create.prev_kv])
            elif which == "cancel_request":
                answer.watch_id, answer.canceled = request.cancel_request.watch_id, True
                self.watchers = [w for w in self.watchers
                                 if w[0] is not call or w[1] != answer.watch_id]
            else:
                answer.watch_id = -1
            call.message(self.distort(WATCH, request, answer))

    def notify(self, event):
        for call, watch_id, key, end, prev_kv in list(self.watchers):
            at = event.kv.key
            if at != key and not (end and at >= key and (end == b"\0" or at < end)):
                continue
            answer = rpc.WatchResponse(header=self.header(), watch_id=watch_id)
            answer.events.add().CopyFrom(event)
            if not prev_kv:
                answer.events[0].ClearField("prev_kv")
            call.message(self.distort(WATCH, None, answer))


def kv_member(name, urls, member_id=7):
    return rpc.Member(ID=member_id, name=name, peerURLs=["http://127.0.0.1:2"], clientURLs=urls)
