# SPDX-License-Identifier: Apache-2.0
"""A TCP relay in front of a real etcd that keeps every byte which goes to etcd."""
import collections
import socket
import struct
import threading

import h2raw


class Tap:
    def __init__(self, port):
        self.upstream = ("127.0.0.1", port)
        self.recordings = []  # one bytearray per connection
        self.open = []
        self.port = 0
        self.listen()
        self.url = f"http://127.0.0.1:{self.port}"

    def listen(self):
        """Also after stop(): on the same port again."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.upstream)
            except OSError:
                client.close()
                continue
            recording = bytearray()
            self.recordings.append(recording)
            self.open += [client, server]
            for source, sink, record in ((client, server, recording), (server, client, None)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.relay, args=(source, sink, record), daemon=True).start()

    @staticmethod
    def relay(source, sink, record):
        try:
            while data := source.recv(65536):
                if record is not None:
                    record += data
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def drop(self):
        """Cuts every connection."""
        for sock in self.open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []

    def stop(self):
        """As if etcd were gone: refuses connections and cuts those that there are."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which would keep the port
        except OSError:
            pass
        self.listener.close()
        self.drop()

    def bytes_seen(self):
        return sum(len(r) for r in self.recordings)

    def saw(self, needle):
        """Did these bytes go to etcd, raw, or across the DATA frames of one stream?"""
        return any(needle in bytes(r) or any(needle in d for d in data_of(bytes(r)))
                   for r in self.recordings)


def data_of(recording):
    """The DATA of every stream in the client's half of a connection."""
    streams, at = collections.defaultdict(bytearray), len(h2raw.PREFACE)
    while at + 9 <= len(recording):
        size = int.from_bytes(recording[at:at + 3], "big")
        kind, flags, sid = struct.unpack_from(">BBI", recording, at + 3)
        frame = h2raw.Frame(kind, flags, sid, recording[at + 9:at + 9 + size])
        if kind == h2raw.DATA:
            streams[sid] += h2raw.Conn.unpad(frame)
        at += 9 + size
    return streams.values()
