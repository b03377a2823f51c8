# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand: one connection, frame by frame, so that a test can say exactly what goes over the wire
(and say it wrongly). Both the fake etcd and the raw client of the tests stand on it.

A Conn reads frames in whatever thread calls read(); sending is locked and may come from any thread.
Flow control: DATA is queued per stream and leaves as the peer's windows allow; what is received is
credited at once unless auto_credit is off (for all streams, or for those in no_credit).
"""
import collections
import socket
import ssl
import struct
import threading
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM = 11
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
DEFAULT_WINDOW = 65535

Frame = collections.namedtuple("Frame", "type flags stream payload")


def pack_frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def grpc_message(payload, flag=0):
    return struct.pack(">BI", flag, len(payload)) + payload


def split_messages(data):
    """The whole gRPC messages in data, and what is left over."""
    messages, at = [], 0
    while len(data) - at >= 5:
        size = struct.unpack_from(">I", data, at + 1)[0]
        if len(data) - at - 5 < size:
            break
        messages.append(bytes(data[at + 5:at + 5 + size]))
        at += 5 + size
    return messages, bytes(data[at:])


class Stream:
    def __init__(self, sid, send_window):
        self.id = sid
        self.headers = None      # first header list, as a dict
        self.trailers = None
        self.data = bytearray()
        self.ended = False       # END_STREAM received
        self.reset = None        # error code of a received RST_STREAM
        self.send_window = send_window
        self.queue = collections.deque()  # of (bytes, end) not yet sent
        self.user = None         # for whoever drives the connection

    @property
    def done(self):
        return self.ended or self.reset is not None

    @property
    def status(self):
        """grpc-status as a number; None when there is none."""
        for fields in (self.trailers, self.headers):
            if fields and "grpc-status" in fields:
                return int(fields["grpc-status"])
        return None

    @property
    def message(self):
        for fields in (self.trailers, self.headers):
            if fields and "grpc-message" in fields:
                return fields["grpc-message"]
        return ""


class Conn:
    def __init__(self, sock, is_client, settings=None, record=False):
        self.sock = sock
        self.is_client = is_client
        self.lock = threading.RLock()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.buffer = bytearray()
        self.received = bytearray() if record else None  # every byte read
        self.streams = {}
        self.next_id = 1 if is_client else 2
        self.peer_settings = {}
        self.peer_window = DEFAULT_WINDOW  # initial window of streams, as the peer set it
        self.send_window = DEFAULT_WINDOW
        self.max_frame = 16384
        self.goaway = None       # (last stream id, code, debug)
        self.closed = False
        self.auto_credit = True
        self.credit_conn = True
        self.no_credit = set()
        self.pings_acked = self.settings_acked = 0
        self.block = None        # (stream id, END_STREAM?, fragments) of headers under way
        self.need_preface = not is_client
        if is_client:
            self.send_raw(PREFACE)
        self.send_settings(settings or {})

    # --- sending ---

    def send_raw(self, data):
        with self.lock:
            try:
                self.send_all(data)
            except (OSError, ssl.SSLError):
                self.closed = True

    def send_all(self, data, patience=60):
        """The socket's own would give up when the time that a read may take is over, and nobody knew how much had gone."""
        view, deadline = memoryview(data), time.monotonic() + patience
        while view:
            try:
                view = view[self.sock.send(view):]
            except socket.timeout:
                if time.monotonic() > deadline:
                    raise

    def send_frame(self, kind, flags, stream, payload=b""):
        self.send_raw(pack_frame(kind, flags, stream, payload))

    def send_settings(self, settings):
        payload = b"".join(struct.pack(">HI", k, v) for k, v in settings.items())
        self.send_frame(SETTINGS, 0, 0, payload)

    def send_headers(self, stream, headers, end_stream=False):
        with self.lock:
            block = self.encoder.encode(headers)
            pieces = [block[at:at + 16384] for at in range(0, len(block), 16384)] or [b""]
            for i, piece in enumerate(pieces):
                flags = END_STREAM if end_stream and i == 0 else 0
                flags |= END_HEADERS if i == len(pieces) - 1 else 0
                self.send_frame(CONTINUATION if i else HEADERS, flags, stream, piece)

    def send_rst(self, stream, code):
        self.send_frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def send_goaway(self, last, code=NO_ERROR, debug=b""):
        self.send_frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)

    def send_window_update(self, stream, amount):
        self.send_frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", amount))

    def stream(self, sid):
        with self.lock:
            if sid not in self.streams:
                self.streams[sid] = Stream(sid, self.peer_window)
            return self.streams[sid]

    def send_data(self, sid, data, end_stream=False):
        """Queues DATA; it leaves as windows allow (now, if they do)."""
        with self.lock:
            self.stream(sid).queue.append((bytes(data), end_stream, None))
            self.pump(sid)

    def send_trailers(self, sid, trailers):
        """Trailers behind whatever DATA still waits."""
        with self.lock:
            self.stream(sid).queue.append((b"", True, trailers))
            self.pump(sid)

    def pump(self, sid):
        with self.lock:
            stream = self.stream(sid)
            while stream.queue:
                data, end, trailers = stream.queue.popleft()
                if trailers is not None:
                    self.send_headers(sid, trailers, end_stream=True)
                    continue
                room = min(self.send_window, stream.send_window, self.max_frame)
                if data and room <= 0:
                    stream.queue.appendleft((data, end, None))
                    return
                piece, rest = data[:room] if data else b"", data[room:] if data else b""
                self.send_window -= len(piece)
                stream.send_window -= len(piece)
                self.send_frame(DATA, END_STREAM if end and not rest else 0, sid, piece)
                if rest:
                    stream.queue.appendleft((rest, end, None))

    # --- receiving ---

    def read(self, timeout=None):
        """Reads and handles one frame. Returns it; None at end of file or on a time-out."""
        frame = self.next_frame(timeout)
        if frame is not None:
            self.handle(frame)
        return frame

    def next_frame(self, timeout):
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.need_preface and len(self.buffer) >= len(PREFACE):
                del self.buffer[:len(PREFACE)]
                self.need_preface = False
            if not self.need_preface and len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + size:
                    kind, flags, sid = struct.unpack_from(">BBI", self.buffer, 3)
                    payload = bytes(self.buffer[9:9 + size])
                    del self.buffer[:9 + size]
                    return Frame(kind, flags, sid & 0x7fffffff, payload)
            if not self.fill(deadline):
                return None

    def fill(self, deadline):
        try:
            self.sock.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = self.sock.recv(65536)
        except socket.timeout:
            return False
        except (OSError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return False
        if self.received is not None:
            self.received += data
        self.buffer += data
        return True

    def handle(self, frame):
        name = {DATA: self.on_data, HEADERS: self.on_headers, CONTINUATION: self.on_continuation,
                RST_STREAM: self.on_rst, SETTINGS: self.on_settings, PING: self.on_ping,
                GOAWAY: self.on_goaway, WINDOW_UPDATE: self.on_window}.get(frame.type)
        if name:
            name(frame)

    @staticmethod
    def unpad(frame):
        if frame.flags & PADDED:
            return frame.payload[1:len(frame.payload) - frame.payload[0]]
        return frame.payload

    def on_data(self, frame):
        stream = self.stream(frame.stream)
        stream.data += self.unpad(frame)
        size = len(frame.payload)
        if size and self.credit_conn:
            self.send_window_update(0, size)
        if frame.flags & END_STREAM:
            stream.ended = True
        elif size and self.auto_credit and frame.stream not in self.no_credit:
            self.send_window_update(frame.stream, size)

    def on_headers(self, frame):
        payload = self.unpad(frame)
        if frame.flags & PRIORITY_FLAG:
            payload = payload[5:]
        self.block = [frame.stream, bool(frame.flags & END_STREAM), payload]
        if frame.flags & END_HEADERS:
            self.end_headers()

    def on_continuation(self, frame):
        if self.block:
            self.block[2] += frame.payload
            if frame.flags & END_HEADERS:
                self.end_headers()

    def end_headers(self):
        sid, end, block = self.block
        self.block = None
        fields = {}
        for name, value in self.decoder.decode(block):
            fields[name] = value if name not in fields else fields[name] + "," + value
        stream = self.stream(sid)
        if stream.headers is None:
            stream.headers = fields
        else:
            stream.trailers = fields
        stream.ended = stream.ended or end

    def on_rst(self, frame):
        self.stream(frame.stream).reset = struct.unpack(">I", frame.payload)[0]

    def on_settings(self, frame):
        if frame.flags & ACK:
            self.settings_acked += 1
            return
        with self.lock:
            for at in range(0, len(frame.payload), 6):
                key, value = struct.unpack_from(">HI", frame.payload, at)
                self.peer_settings[key] = value
                if key == INITIAL_WINDOW_SIZE:
                    for stream in self.streams.values():
                        stream.send_window += value - self.peer_window
                    self.peer_window = value
                elif key == MAX_FRAME_SIZE:
                    self.max_frame = min(value, 1 << 20)
            self.send_frame(SETTINGS, ACK, 0)
            for sid in list(self.streams):
                self.pump(sid)

    def on_ping(self, frame):
        if frame.flags & ACK:
            self.pings_acked += 1
        else:
            self.send_frame(PING, ACK, 0, frame.payload)

    def on_goaway(self, frame):
        last, code = struct.unpack_from(">II", frame.payload)
        self.goaway = (last & 0x7fffffff, code, frame.payload[8:])

    def on_window(self, frame):
        amount = struct.unpack(">I", frame.payload)[0]
        with self.lock:
            if frame.stream == 0:
                self.send_window += amount
                for sid in list(self.streams):
                    self.pump(sid)
            else:
                self.stream(frame.stream).send_window += amount
                self.pump(frame.stream)

    def close(self):
        self.closed = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def connect(address, timeout=5, context=None, source=None):
    """address: (host, port) or a unix socket's path. With an ssl context: TLS, ALPN h2. source: the address to come from.
    """
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(address)
    else:
        sock = socket.create_connection(address, timeout, source and (source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname=address[0])
    return sock


class Client(Conn):
    """A client that makes gRPC calls, well formed or not."""

    def __init__(self, address, settings=None, context=None, record=False, source=None):
        super().__init__(connect(address, context=context, source=source), True, settings, record)
        self.authority = address if isinstance(address, str) else f"{address[0]}:{address[1]}"

    def headers(self, path, extra=()):
        return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
                ("content-type", "application/grpc"), ("te", "trailers"), *extra]

    def open(self, path, extra=(), headers=None, end_stream=False):
        with self.lock:
            sid = self.next_id
            self.next_id += 2
            self.stream(sid)
            self.send_headers(sid, self.headers(path, extra) if headers is None else headers, end_stream)
            return sid

    def start(self, path, body, extra=()):
        """A unary call with body as its DATA (gRPC prefix included); returns the stream id."""
        sid = self.open(path, extra)
        self.send_data(sid, body, end_stream=True)
        return sid

    def wait(self, sid, timeout=10):
        """Reads until the stream is done. Returns it; TimeoutError or ConnectionError otherwise."""
        return self.wait_for(lambda: self.stream(sid).done, timeout, sid) and self.stream(sid)

    def wait_for(self, condition, timeout=10, what="condition"):
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what} after {timeout} s")
            if self.read(left) is None and self.closed:
                if condition():
                    break
                raise ConnectionError(f"closed while waiting for {what}; goaway {self.goaway}")
        return True

    def call(self, path, payload, timeout=10, extra=()):
        """A whole unary call of one message. Returns the stream."""
        return self.wait(self.start(path, grpc_message(payload), extra), timeout)
