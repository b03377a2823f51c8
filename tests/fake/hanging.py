# SPDX-License-Identifier: Apache-2.0
"""A file system with one file that hangs when it is told to, as a network's does whose server is gone: whoever looks at
the file then waits until it goes on. In user space, by FUSE (its protocol: man 4 fuse); root only."""
import ctypes
import os
import stat
import struct
import threading

NAME = b"file"
ROOT, FILE = 1, 2  # nodes
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = (
    1, 2, 3, 14, 15, 18, 25, 26, 27, 29, 36, 42)
ENOENT, ENOSYS = 2, 38
MNT_FORCE, MNT_DETACH = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)


class HangingFile:
    """At folder/file. OSError where the surroundings have no FUSE, or allow no mounts."""

    def __init__(self, folder, content):
        self.folder, self.content = str(folder), content
        self.hangs, self.held, self.lock = False, [], threading.Lock()
        os.makedirs(self.folder, exist_ok=True)
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        if LIBC.mount(b"hanging", self.folder.encode(), b"fuse", 0, options.encode()) != 0:
            os.close(self.fd)
            raise OSError(ctypes.get_errno(), "mount")
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def hang(self):
        with self.lock:
            self.hangs = True

    def go_on(self):
        with self.lock:
            self.hangs = False
            for request in self.held:
                self.answer(request)
            self.held.clear()

    def stop(self):
        """May be called again."""
        if not self.thread.is_alive():
            return
        LIBC.umount2(self.folder.encode(), MNT_FORCE)  # whoever waits gets an error
        LIBC.umount2(self.folder.encode(), MNT_DETACH)
        self.thread.join()
        os.close(self.fd)

    def serve(self):
        while True:
            try:
                request = os.read(self.fd, 1 << 20)
            except OSError:  # it is not mounted any more
                return
            with self.lock:
                if self.hangs:
                    self.held.append(request)
                else:
                    self.answer(request)

    def answer(self, request):
        _, what, unique, node = struct.unpack_from("<IIQQ", request)
        body = request[40:]
        if what in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        error, out = 0, b""
        if what == INIT:  # as of 7.31, with a page at a time
            out = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
        elif what == LOOKUP and body.rstrip(b"\0") == NAME:
            out = struct.pack("<QQQQII", FILE, 1, 0, 0, 0, 0) + self.attributes(FILE)
        elif what == LOOKUP:
            error = ENOENT
        elif what == GETATTR:
            out = struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        elif what in (OPEN, OPENDIR):
            out = struct.pack("<QII", 1, 1, 0)  # the kernel keeps no page of it
        elif what == READ:
            _, at, n = struct.unpack_from("<QQI", body)
            out = self.content[at:at + n]
        elif what not in (FLUSH, RELEASE, RELEASEDIR):
            error = ENOSYS
        try:
            os.write(self.fd, struct.pack("<IiQ", 16 + len(out), -error, unique) + out)
        except OSError:  # who has asked does not wait any more
            pass

    def attributes(self, node):
        """Valid for no time: each look asks again."""
        mode, links = (stat.S_IFDIR | 0o755, 2) if node == ROOT else (stat.S_IFREG | 0o600, 1)
        size = 0 if node == ROOT else len(self.content)
        return struct.pack("<QQQQQQ10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)
