#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A machine that has no more of something: descriptors, disk for the log, a log's reader, memory, randomness, etcd's
quota. What is under way goes on, what can't be is refused in words, and all is as before when there is some again."""
import contextlib
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time

import harness  # first: it sets the path to tests/fake
import bent
import h2raw
from client import prefix_end
from harness import SANITIZED, Code, wait_until
from protos import more, rpc

MIB = 1 << 20
PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"


class Base(harness.E2E):
    needs_proxy = True
    etcd_flags = ()

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd(flags=cls.etcd_flags)
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)

    def begin(self, flags=(), shell=None, **options):
        """shell: what to run before the program, with the program's command line as its arguments."""
        class Kind(harness.Proxy):
            def argv(self):
                argv = super().argv()
                return ["sh", "-c", shell + ' exec "$@"', "sh", *argv] if shell else argv
        self.proxy = Kind(self.env, [self.etcd.url], self.config, name=self.name, flags=flags, **options)
        self.addCleanup(self.proxy.stop)
        return self.proxy

    def serves(self):
        with contextlib.closing(harness.Client(self.proxy.target)) as client:
            try:
                client.put(self.secret("serves"), b"x", timeout=2)
                return client.value(self.secret("serves"), timeout=2) == b"x"
            except harness.grpc.RpcError:
                return False


class Descriptors(Base):
    def cpu_seconds(self):
        text = pathlib.Path(f"/proc/{self.proxy.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")

    def test_none_left(self):
        """Those who are connected are served; who comes is turned away or waits, at no cost; and it ends by itself."""
        proxy = self.begin()
        client = self.env.client(proxy.target)
        watch = client.watch(self.secret(""), prefix_end(self.secret("")))
        client.put(self.secret(), b"0")
        watch.events(1)
        soft, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)
        # The highest number in use is kept; what is free below is used up by the first who come.
        used = max(map(int, os.listdir(f"/proc/{proxy.process.pid}/fd")))
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (used + 1, hard))
        comers = []
        for _ in range(used + 30):
            comers.append(socket.create_connection(proxy.address, 10))
            self.addCleanup(comers[-1].close)
            comers[-1].sendall(h2raw.PREFACE)
        wait_until(lambda: "accepting pauses" in proxy.process.log(), 10, "the warning")
        before = self.cpu_seconds()
        for i in range(1, 40):
            client.put(self.secret(), b"%d" % i)
            self.assertEqual(client.value(self.secret()), b"%d" % i)
            self.assertEqual(watch.events(1)[0].kv.value, b"%d" % i)
            time.sleep(0.05)
        if not SANITIZED:
            self.assertLess(self.cpu_seconds() - before, 1, "of CPU time in 2 s or more: a busy loop?")
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(self.serves, 20, "service")
        self.assertGreater(proxy.metric("etcd_envelope_refused_total", 'reason="no_descriptor"'), 0)
        # And a second time: what is kept in reserve for this is there again.
        used = max(map(int, os.listdir(f"/proc/{proxy.process.pid}/fd")))
        refused = proxy.metric("etcd_envelope_refused_total", 'reason="no_descriptor"')
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (used + 1, hard))
        late = [socket.create_connection(proxy.address, 10) for _ in range(used + 30)]
        time.sleep(0.3)
        client.put(self.secret(), b"last")
        for sock in late + comers:
            sock.close()
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(self.serves, 20, "service")
        self.assertGreater(proxy.metric("etcd_envelope_refused_total", 'reason="no_descriptor"'), refused)


class Log(Base):
    """Lines are dropped and counted; no call waits for the log or fails."""

    def talk(self):
        """Calls that work, and others that are worth 300 bytes of log each. Returns how many lines were dropped."""
        bad = self.secret("bad") + b"\xff" * 100
        self.plant(bad, b"x", b"k8s:enc:kms:v2:test:no envelope")
        for i in range(100):
            self.proxy.client.put(self.secret(str(i % 10)), b"%d" % i)
            self.assertStatus(Code.DATA_LOSS, self.proxy.client.get, bad)
        return self.proxy.metric("etcd_envelope_log_dropped_total")

    def ends(self):
        self.assertEqual(self.proxy.process.term(), 0)
        self.proxy = None

    def test_a_device_that_is_full(self):
        self.begin(["--log-level=debug"], "exec 2>/dev/full;")
        wait_until(self.talk, 30, "dropped lines")
        self.ends()

    def test_a_pipe_that_nobody_reads(self):
        pipe = self.env.path("log.pipe")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        # 64 KiB fill a pipe; so it is full from the start.
        with open(pipe, "wb", buffering=0) as f:
            os.set_blocking(f.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while f.write(b"x" * 4096):
                    pass
            self.begin(["--log-level=debug"], f"exec 2>{pipe};")
        wait_until(self.talk, 30, "dropped lines")
        got = bytearray()

        def tells():
            with contextlib.suppress(BlockingIOError):
                got.extend(os.read(reader, 1 << 20))
            self.talk()
            return b"log lines were dropped" in got
        wait_until(tells, 20, "a line that says so")
        before = self.talk()
        wait_until(lambda: self.talk() > before, 30, "a pipe that is full again")
        self.ends()

    def test_a_disk_that_is_full(self):
        folder = self.env.path("disk")
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "log", folder], capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no disk of our own: {mounted.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
        log, other = folder / "log", folder / "other"
        self.begin(["--log-level=debug"], f"exec 2>>{log};")
        with contextlib.suppress(OSError):
            with open(other, "wb", buffering=0) as f:
                while f.write(b"x" * 4096):
                    pass

        wait_until(self.talk, 30, "dropped lines")
        self.assertTrue(self.serves())
        other.unlink()

        def tells():
            self.talk()
            return "log lines were dropped" in log.read_text()
        wait_until(tells, 20, "a line that says so")
        self.ends()


class MemoryGroup:
    """A cgroup with a limit on memory, of version 1 or 2. OSError where there is none to be had."""

    def __init__(self, name, limit):
        """limit: beside what sockets hold, which only version 2 counts."""
        old, new = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        self.is_old = (old / "memory.limit_in_bytes").exists()
        self.path = (old if self.is_old else new) / name
        self.limit = limit if self.is_old else limit + 64 * MIB
        self.path.mkdir()
        try:
            (self.path / ("memory.limit_in_bytes" if self.is_old else "memory.max")).write_text(str(self.limit))
        except OSError:
            self.path.rmdir()
            raise

    def usage(self):
        return int((self.path / ("memory.usage_in_bytes" if self.is_old else "memory.current")).read_text())

    def kills(self):
        text = (self.path / ("memory.oom_control" if self.is_old else "memory.events")).read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("oom_kill ")))

    def remove(self):
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), 10, "empty cgroup")
        self.path.rmdir()


REFUSED = {Code.RESOURCE_EXHAUSTED.value[0], h2raw.ENHANCE_YOUR_CALM}


class Memory(Base):
    etcd_flags = ("--quota-backend-bytes", 4 << 30)

    @staticmethod
    def ends(clients):
        """Statuses and resets of all calls, so far; None for those that go on."""
        for client in clients:
            with contextlib.suppress(OSError):
                while client.read(0.02):
                    pass
        return [end for client in clients for s in client.streams.values() for end in (s.status, s.reset)]

    def test_cap(self):
        """Clients that want the proxy to hold as much as they can make it: those calls are refused, nobody is killed,
        an honest client is served, and the memory comes back."""
        if SANITIZED:
            self.skipTest("sanitizers have their own ways with memory")
        try:
            group = MemoryGroup(f"etcd-envelope-test-{os.getpid()}", 64 * MIB + 48_000_000)
        except OSError as error:
            self.skipTest(f"no cgroup with a limit on memory: {error}")
        self.addCleanup(group.remove)
        proxy = self.begin(["--memory-limit=64MiB", "--workers=2"], f"echo $$ >{group.path}/cgroup.procs;")
        for i in range(16):
            proxy.client.put(self.secret(f"{i:02}"), b"v" * MIB)
        base, peak = group.usage(), 0
        body = h2raw.grpc_message(rpc.PutRequest(key=self.secret("never"), value=b"v" * (12 * MIB)).SerializeToString())
        lists = h2raw.grpc_message(rpc.RangeRequest(
            key=self.secret(""), range_end=prefix_end(self.secret(""))).SerializeToString())
        clients = []
        for number in range(40):
            client = h2raw.Client(proxy.address, settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 30})
            self.addCleanup(client.close)
            clients.append(client)
            # Half of them begin to send, the others ask and do not read; and who is refused comes again.
            with contextlib.suppress(OSError):
                for _ in range(4):
                    if number % 2:
                        sid = client.start(RANGE, lists)
                    else:
                        sid = client.open(PUT)
                        client.send_data(sid, body[:-1])
            peak = max(peak, group.usage())
            proxy.client.put(self.secret("honest"), b"%d" % number, timeout=30)
            self.assertEqual(proxy.client.value(self.secret("honest"), timeout=30), b"%d" % number)
        # Who only waits is refused after 10 s.
        wait_until(lambda: REFUSED & set(self.ends(clients)), 60, "somebody who is refused")
        statuses, peak = self.ends(clients), max(peak, group.usage())
        print(f"base {base >> 20}, peak {peak >> 20} of {group.limit >> 20} MiB; ends: { {s: statuses.count(s) for s in set(statuses)} }",
              file=sys.stderr)
        self.assertEqual(group.kills(), 0)
        self.assertGreater(peak, base + 20 * MIB, "the attack has to be one")
        for client in clients:
            client.close()
        wait_until(lambda: proxy.metric("etcd_envelope_links") <= 2, 20, "end of the connections")
        wait_until(lambda: group.usage() < base + 24 * MIB, 30, f"memory to come back, not {group.usage() >> 20} MiB")
        self.assertTrue(self.serves())
        proxy.stop()
        self.proxy = None


class Randomness(Base):
    def info(self, key):
        """What the value's key was derived with: random, so never the same."""
        return harness.envelope.parse(self.raw.value(key)).encrypted_data[:44]

    def test_none(self):
        """No value is sealed with a nonce that is none; all else goes on."""
        self.proxy = proxy = bent.Proxy(self.env, [self.etcd.url], self.config, name=self.name)
        self.addCleanup(proxy.stop)
        client, found = proxy.client, []
        for turn in range(5):
            for i in range(20):
                client.put(self.secret(str(i)), b"%d" % turn)
                found.append(self.info(self.secret(str(i))))
            proxy.bend(no_randomness=True)
            for i in range(20):
                text = self.assertStatus(Code.INTERNAL, client.put, self.secret(str(i)), b"never")
                self.assertIn("no_randomness", text)
                self.assertEqual(client.value(self.secret(str(i))), b"%d" % turn)
            client.put(self.plain(), b"%d" % turn)
            client.txn(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=self.plain("t"), value=b"x"))])
            with self.assertRaises(harness.grpc.RpcError):
                client.txn(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=k, value=b"never"))
                                    for k in (self.plain("t2"), self.secret("t2"))])
            self.assertIsNone(self.raw.value(self.plain("t2")))
            proxy.bend()
        self.assertEqual(len(set(found)), len(found))


class Space(Base):
    etcd_flags = ("--quota-backend-bytes", 8 * MIB)

    def test_no_space(self):
        """etcd's own words, and its own way out, through the proxy."""
        client = self.begin().client
        kept = {}
        for number in range(40):
            key, value = self.secret(str(number)), os.urandom(MIB)
            try:
                client.put(key, value)
            except harness.grpc.RpcError as refused:
                error, unknown = refused, value
                break
            kept[key] = value
        else:
            self.fail("etcd's quota does not end")
        with self.assertRaises(harness.grpc.RpcError) as direct:
            self.raw.put(b"/registry/pods/x", b"x")
        self.assertEqual((error.code(), error.details()), (direct.exception.code(), direct.exception.details()))
        self.assertIn("database space exceeded", error.details())
        self.assertGreater(len(kept), 2)
        for key, value in kept.items():
            self.assertTrue(client.value(key) == value, key)
        # etcd may have written what it refused.
        self.assertTrue(client.value(self.secret(str(len(kept)))) in (None, unknown))
        watch = client.watch(self.secret(""), prefix_end(self.secret("")))
        first = next(iter(kept))
        client.delete(first)
        del kept[first]
        self.assertEqual(watch.events(1)[0].kv.key, first)
        client.delete(self.secret(str(len(kept) + 1)))
        for key in list(kept)[1:]:
            client.delete(key)
            del kept[key]
        client.compact(client.get(b"x").header.revision)
        client.unary("/etcdserverpb.Maintenance/Defragment", more.DefragmentRequest(), more.DefragmentResponse)
        client.unary("/etcdserverpb.Maintenance/Alarm", more.AlarmRequest(
            action=2, memberID=client.get(b"x").header.member_id, alarm=1), more.AlarmResponse)
        client.put(self.secret("again"), b"there is room")
        self.assertSealed(self.secret("again"), b"there is room")
        for key, value in kept.items():
            self.assertTrue(client.value(key) == value, key)


if __name__ == "__main__":
    harness.main()
