# SPDX-License-Identifier: Apache-2.0
"""TLS handshakes up to the first answer, by hand: any version, any suite, whether a TLS library still knows it or not."""
import os
import socket
import struct

SSL3, TLS10, TLS11, TLS12, TLS13 = range(0x0300, 0x0305)
SCSV = 0x00ff
ALERT, HANDSHAKE = 21, 22
SERVER_NAME, GROUPS, FORMATS, SIGNATURES, ALPN, TICKET, VERSIONS, PSK_MODES, KEY_SHARE, EARLY_DATA, RENEGOTIATION = \
    0, 10, 11, 13, 16, 35, 43, 45, 51, 42, 0xff01


def vector(size, body):
    """With its length in front, of so many bytes."""
    return len(body).to_bytes(size, "big") + body


def extension(number, body):
    return struct.pack(">H", number) + vector(2, body)


def client_hello(version, suites, compressions=b"\0"):
    """Everything is offered that a server could want; version is the highest."""
    extensions = b"".join((
        extension(GROUPS, vector(2, struct.pack(">4H", 29, 23, 24, 25))),
        extension(FORMATS, vector(1, b"\0")),
        extension(SIGNATURES, vector(2, struct.pack(">9H", 0x403, 0x503, 0x603, 0x804, 0x805, 0x806, 0x401, 0x501, 0x201))),
        extension(ALPN, vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))),
        extension(TICKET, b""),
        extension(RENEGOTIATION, b"\0"),
    ))
    if version >= TLS13:
        extensions += extension(VERSIONS, vector(1, struct.pack(">H", version)))
        extensions += extension(PSK_MODES, vector(1, b"\1"))
        extensions += extension(KEY_SHARE, vector(2, struct.pack(">H", 29) + vector(2, os.urandom(32))))
    body = struct.pack(">H", min(version, TLS12)) + os.urandom(32) + vector(1, os.urandom(32))
    body += vector(2, struct.pack(f">{len(suites)}H", *suites)) + vector(1, compressions) + vector(2, extensions)
    return struct.pack(">BH", HANDSHAKE, min(version, TLS10)) + vector(2, b"\1" + vector(3, body))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        if self.at > len(self.data):
            raise ValueError("cut short")
        return self.data[self.at - n:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def vector(self, size):
        return self.take(self.number(size))

    def extensions(self):
        found = {}
        if self.at < len(self.data):
            inner = Reader(self.vector(2))
            while inner.at < len(inner.data):
                number = inner.number(2)
                found[number] = inner.vector(2)
        return found


class Hello:
    """What stands in a ServerHello or a ClientHello; suites and compressions are lists of one for the former."""

    def __init__(self, body, is_server):
        r = Reader(body)
        self.version = r.number(2)
        r.take(32)
        self.session = r.vector(1)
        if is_server:
            self.suites, self.compressions = [r.number(2)], [r.number(1)]
        else:
            suites = r.vector(2)
            self.suites = list(struct.unpack(f">{len(suites) // 2}H", suites))
            self.compressions = list(r.vector(1))
        self.extensions = r.extensions()


def read_record(sock):
    """(type, bytes) of the next record, None at the end."""
    head = sock.recv(5, socket.MSG_WAITALL)
    if len(head) < 5:
        return None
    return head[0], sock.recv(struct.unpack(">H", head[3:])[0], socket.MSG_WAITALL)


def ask(address, version, suites, compressions=b"\0"):
    """The server's Hello; or the number of its alert; or None if it only hangs up."""
    with socket.create_connection(address, 10) as sock:
        sock.sendall(client_hello(version, suites, compressions))
        try:
            record = read_record(sock)
        except ConnectionError:
            return None
    if record is None:
        return None
    kind, body = record
    if kind == ALERT:
        return body[1]
    if kind != HANDSHAKE or body[0] != 2:
        raise ValueError(f"record of type {kind}: {body[:20]!r}")
    return Hello(Reader(body[1:]).vector(3), True)


def accepted(address, version):
    """All suites that a server takes with this version, in its order of preference within each part of their space."""
    found = []
    for first in range(0, 0x10000, 0x1000):
        left = [n for n in range(first, first + 0x1000) if n not in (SCSV, 0x5600)]
        while isinstance(answer := ask(address, version, left), Hello):
            if answer.suites[0] not in left:
                raise ValueError(f"suite {answer.suites[0]:#06x} was not offered")
            found.append(answer.suites[0])
            left.remove(answer.suites[0])
    return found
