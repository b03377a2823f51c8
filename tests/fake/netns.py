# SPDX-License-Identifier: Apache-2.0
"""Machines on a network of their own: namespaces round a router, whose rules cut them off from each other, in silence or
with an answer, in one direction or both. Needs root; nothing of it is left when its processes are gone, and nothing
outside of it can be reached. Unix sockets with a path lead in and out."""
import contextlib
import ctypes
import os
import subprocess
import time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIFETIME_S = "1800"  # of a namespace, should the test that has it be killed


class Unavailable(Exception):
    """No such network here: the reason."""


class Namespace:
    """Whoever is inside of `with namespace:` makes sockets and starts processes there; other threads do not."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", LIFETIME_S], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.fd = self.open()
            with self:
                run("ip", "link", "set", "lo", "up")
        except Unavailable:
            self.holder.kill()
            self.holder.wait()
            raise

    def open(self):
        path, ours = f"/proc/{self.holder.pid}/ns/net", os.readlink("/proc/self/ns/net")
        for _ in range(1000):  # until unshare has done it
            if self.holder.poll() is not None:
                raise Unavailable("unshare --net is refused")
            with contextlib.suppress(OSError):
                if os.readlink(path) != ours:
                    return os.open(path, os.O_RDONLY)
            time.sleep(0.01)
        raise Unavailable("unshare --net does not come to an end")

    @staticmethod
    def go(fd):
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise Unavailable(f"setns: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        self.go(self.fd)
        return self

    def __exit__(self, *_):
        self.go(self.home)

    def close(self):
        os.close(self.fd)
        os.close(self.home)
        self.holder.kill()
        self.holder.wait()


def run(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"no {argv[0]}") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(argv)}: {done.stderr.strip()}")


class Machine(Namespace):
    def __init__(self, router, number):
        super().__init__()
        self.address = f"10.213.{number}.2"
        with router:
            run("ip", "link", "add", f"m{number}", "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
            run("ip", "address", "add", f"10.213.{number}.1/24", "dev", f"m{number}")
            run("ip", "link", "set", f"m{number}", "up")
        with self:
            run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
            run("ip", "route", "add", "default", "via", f"10.213.{number}.1")


class Network:
    """Machines by their names. Raises Unavailable."""

    def __init__(self, *names):
        if os.geteuid() != 0:
            raise Unavailable("network namespaces need root")
        self.stack, self.machines, self.rules = contextlib.ExitStack(), {}, []
        with contextlib.ExitStack() as undo:
            self.router = undo.enter_context(contextlib.closing(Namespace()))
            with self.router:
                try:
                    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as f:
                        f.write("1")
                except OSError as error:
                    raise Unavailable(f"ip_forward: {error}") from None
            for number, name in enumerate(names, 1):
                self.machines[name] = undo.enter_context(contextlib.closing(Machine(self.router, number)))
            self.stack = undo.pop_all()

    def __getitem__(self, name):
        return self.machines[name]

    def cut(self, one, other, how="blackhole", is_one_way=False):
        """What one sends to other (and the other way round) is dropped, or, how="unreachable", answered by ICMP."""
        pairs = [(one, other)] if is_one_way else [(one, other), (other, one)]
        for source, sink in pairs:
            rule = ["from", self[source].address, "to", self[sink].address, how]
            with self.router:
                run("ip", "rule", "add", "pref", "100", *rule)
            self.rules.append(rule)

    def heal(self):
        with self.router:
            for rule in self.rules:
                run("ip", "rule", "del", "pref", "100", *rule)
        self.rules.clear()

    def close(self):
        self.stack.close()
