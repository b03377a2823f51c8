# SPDX-License-Identifier: Apache-2.0
"""A name server on an address of loopback's, port 53 (so root only): every name has the address 127.0.0.1."""
import errno
import random
import socket
import threading

A, ADDRESS = 1, bytes((127, 0, 0, 1))


class Dns:
    """Counts what it was asked. Of several each has an address of its own, a random one of 127/8."""

    def __init__(self):
        self.count = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = self.bind()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def bind(self):
        """Where another one has all addresses none is free: OSError."""
        for left in reversed(range(20)):
            address = "127." + ".".join(str(random.SystemRandom().randrange(1, 255)) for _ in range(3))
            try:
                self.socket.bind((address, 53))
                return address
            except OSError as error:
                if error.errno != errno.EADDRINUSE or left == 0:
                    self.socket.close()
                    raise
        raise AssertionError

    def serve(self):
        while True:
            try:
                question, who = self.socket.recvfrom(512)
            except OSError:
                return
            if len(question) < 17 or who[1] == 0:
                return  # stop() has sent it
            self.count += 1
            self.socket.sendto(answer(question), who)

    def stop(self):
        if self.thread.is_alive():
            self.socket.sendto(b"", (self.address, 53))
            self.thread.join()
        self.socket.close()


def answer(question):
    """RFC 1035 §4: the question again, with an address if it is for one (and without for IPv6's)."""
    end = question.index(b"\0", 12) + 5  # of the name, its type and class
    is_a = int.from_bytes(question[end - 4:end - 2], "big") == A
    head = question[:2] + bytes((0x81, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0))
    record = b"\xc0\x0c" + bytes((0, A, 0, 1, 0, 0, 0, 0, 0, 4)) + ADDRESS
    return head + question[12:end] + (record if is_a else b"")
