#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A service manager, played as systemd is: it opens the sockets and passes them, and hears of start, reload and end on a
datagram socket. A restart refuses nobody."""
import os
import signal
import socket
import subprocess
import threading

import harness  # first: it sets the path to tests/fake
from harness import http_get, wait_until
from protos import more, rpc

# Moves the passed sockets to descriptor 3 and up, as sd_listen_fds(3) has it, and goes on as the program.
ACTIVATE = ('n=3; for fd in $PASSED; do eval "exec $n<&$fd"; n=$((n + 1)); done; '
            'if [ $n -gt 3 ]; then export LISTEN_PID=$$ LISTEN_FDS=$((n - 3)); fi; exec "$@"')


class Manager:
    """Sockets that live as long as it does, and everything that it was told."""

    def __init__(self, folder):
        self.path = str(folder / "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.sockets, self.names, self.told = [], [], []

    def listen(self, name, where=("127.0.0.1", 0)):
        s = socket.socket(socket.AF_INET if isinstance(where, tuple) else socket.AF_UNIX)
        s.bind(where)
        if isinstance(where, str):
            os.chmod(where, 0o600)
        s.listen(64)
        self.sockets.append(s)
        self.names.append(name)
        return s.getsockname()

    def argv(self, argv):
        return ["bash", "-c", ACTIVATE, "activate", *argv]

    def options(self):
        """For Env.start."""
        fds = [s.fileno() for s in self.sockets]
        env = {"NOTIFY_SOCKET": self.path, "PASSED": " ".join(map(str, fds)), "LISTEN_FDNAMES": ":".join(self.names)}
        return {"pass_fds": fds, "env": env}

    def hear(self):
        """All that was told up to now, as (set of assignments but STATUS, status)."""
        while True:
            try:
                lines = self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told
            self.told.append(({x for x in lines if not x.startswith("STATUS=")},
                              "".join(x[7:] for x in lines if x.startswith("STATUS="))))

    def heard(self, assignment):
        return any(assignment in state for state, _ in self.hear())

    def wait_for(self, assignment, timeout=20):
        wait_until(lambda: self.heard(assignment), timeout, f"{assignment}; told: {self.told}")

    def forget(self):
        self.hear()
        self.told.clear()

    def close(self):
        for s in (*self.sockets, self.socket):
            s.close()


class Managed(harness.Proxy):
    manager = None

    def __init__(self, *arguments, manager, metrics=(), **options):
        self.manager, self.metrics = manager, list(metrics)
        super().__init__(*arguments, **options)

    def argv(self):
        argv = super().argv()
        at = argv.index("--listen-metrics-urls")
        argv[at + 1] = ",".join(self.metrics)
        return self.manager.argv(argv)

    def start(self, wait=True):
        self.process = self.env.start(self.name, self.argv(), **self.manager.options())
        self.client = harness.Client(self.target)
        if wait:
            self.manager.wait_for("READY=1")


class Base(harness.OwnProxies):
    def setUp(self):
        super().setUp()
        folder = self.env.path(self.name)
        folder.mkdir()
        self.manager = Manager(folder)
        self.addCleanup(self.manager.close)

    def start_proxy(self, listen, **options):
        return super().start_proxy(kind=Managed, manager=self.manager, listen=[listen], **options)

    def client(self, where):
        target = f"127.0.0.1:{where[1]}" if isinstance(where, tuple) else "unix:" + where
        client = harness.Client(target)
        self.addCleanup(client.close)
        return client

    @staticmethod
    def works(client, key):
        try:
            return client.get(key, timeout=30)
        except harness.grpc.RpcError:
            return None

    def refused(self, proxy):
        self.assertEqual(proxy.process.popen.wait(30), 2, proxy.process.log())
        self.assertFalse(self.manager.heard("READY=1"))
        return proxy.process.log()


class Notify(Base):
    def test_life(self):
        """READY comes when everybody listens, not before; then RELOADING and READY for each SIGHUP; STOPPING."""
        metrics = harness.free_port()
        proxy = self.start_proxy(f"http://127.0.0.1:{harness.free_port()}", metrics=[f"http://127.0.0.1:{metrics}"])
        self.assertEqual(http_get(("127.0.0.1", metrics), "/livez")[0], 200)
        self.assertEqual([state for state, _ in self.manager.hear()], [{"READY=1"}])
        self.assertIn("serving, 2 prefixes of keys are protected", self.manager.told[0][1])
        self.manager.forget()
        proxy.process.signal(signal.SIGHUP)  # nothing has changed
        self.manager.wait_for("READY=1")
        states = [state for state, _ in self.manager.told]
        self.assertEqual(len(states), 2, states)
        self.assertIn("RELOADING=1", states[0])
        self.assertRegex(next(x for x in states[0] if x != "RELOADING=1"), r"^MONOTONIC_USEC=[1-9]\d+$")
        self.manager.forget()
        self.assertEqual(proxy.process.term(), 0)
        self.assertEqual([state for state, _ in self.manager.hear()], [{"STOPPING=1"}])

    def test_reload(self):
        """The end of a reload is told when the new plugin was reached, or was not; and how it ended."""
        config = self.env.path("changing.yaml")
        good, text = self.config, self.config.read_text()
        config.write_text(text)
        type(self).config = config
        self.addCleanup(setattr, type(self), "config", good)
        proxy = self.start_proxy(f"http://127.0.0.1:{harness.free_port()}")
        for change, failed in ((text + "# the same\n", False), (text + "nonsense", True),
                               (text.replace(self.kms.path, "/nowhere/kms.sock"), True), (text, False)):
            self.manager.forget()
            config.write_text(change)
            proxy.process.signal(signal.SIGHUP)
            self.manager.wait_for("READY=1", 30)
            states = [state for state, _ in self.manager.told]
            self.assertIn("RELOADING=1", states[0])
            self.assertEqual(states[-1], {"READY=1"})
            self.assertEqual(len(states), 2, self.manager.told)
            self.assertEqual("the last reload failed" in self.manager.told[-1][1], failed, self.manager.told)

    def test_start_that_fails(self):
        """No READY where something cannot be listened on."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        proxy = self.start_proxy(f"http://127.0.0.1:{harness.free_port()}", wait=False,
                                 metrics=[f"http://127.0.0.1:{taken.getsockname()[1]}"])
        self.assertEqual(proxy.process.popen.wait(30), 1, proxy.process.log())
        self.assertEqual(self.manager.hear(), [])


class Sockets(Base):
    def test_by_address(self):
        """TCP, a unix socket and the metrics listener, in any order and under any name."""
        path = str(self.env.path(self.name) / "client.sock")
        self.manager.listen("whatever", path)
        metrics = self.manager.listen("")
        where = self.manager.listen("etcd-envelope.socket")
        proxy = self.start_proxy(f"http://127.0.0.1:{where[1]},unix://{path}",
                                 metrics=[f"http://127.0.0.1:{metrics[1]}"])
        for i, place in enumerate((where, path)):
            self.client(place).put(self.secret(str(i)), b"through an inherited socket")
            self.assertSealed(self.secret(str(i)), b"through an inherited socket")
        self.assertEqual(http_get(metrics, "/livez")[0], 200)
        self.assertEqual(proxy.process.term(), 0)
        self.assertTrue(os.path.exists(path), "the socket's file is the manager's")

    def test_by_name(self):
        """The address of a URL that is the only one of its kind may be the manager's business."""
        metrics, where = self.manager.listen("metrics"), self.manager.listen("client")
        proxy = self.start_proxy("http://127.0.0.1:1", metrics=["http://127.0.0.1:2"])
        self.client(where).put(self.secret(), b"x")
        self.assertSealed(self.secret(), b"x")
        self.assertEqual(http_get(metrics, "/livez")[0], 200)
        members = self.client(where).unary("/etcdserverpb.Cluster/MemberList", more.MemberListRequest(),
                                           rpc.MemberListResponse).members
        self.assertEqual(list(members[0].clientURLs), [f"http://127.0.0.1:{where[1]}"])
        self.assertIn(f"listening url=http://127.0.0.1:{where[1]} ", proxy.process.log())

    def no_way_around_tls(self, name):
        """What counts is where the socket listens, not what the URL says."""
        self.manager.listen(name, ("0.0.0.0", 0))
        proxy = self.start_proxy("http://127.0.0.1:1", metrics=["http://127.0.0.1:2"], wait=False)
        self.assertRegex(self.refused(proxy), "0.0.0.0:[0-9]+ is reachable by others")

    def test_the_client_name_is_no_way_around_tls(self):
        self.no_way_around_tls("client")

    def test_the_metrics_name_is_no_way_around_tls(self):
        self.no_way_around_tls("metrics")

    def test_a_socket_that_nobody_takes(self):
        """Its clients would wait for ever."""
        self.manager.listen("lost")
        proxy = self.start_proxy(f"http://127.0.0.1:{harness.free_port()}", wait=False)
        self.assertIn(f"a socket for http://127.0.0.1:{self.manager.sockets[0].getsockname()[1]}, which neither",
                      self.refused(proxy))

    def test_a_socket_for_everybody(self):
        path = str(self.env.path(self.name) / "open.sock")
        self.manager.listen("client", path)
        os.chmod(path, 0o666)
        self.assertIn("SocketMode", self.refused(self.start_proxy(f"unix://{path}", wait=False)))

    def test_restart(self):
        """Clients that connect while there is no proxy at all wait, and are served by the next one."""
        where = self.manager.listen("client")
        proxy = self.start_proxy(f"http://127.0.0.1:{where[1]}")
        for i in range(3):
            self.assertEqual(proxy.process.term(), 0)
            with socket.create_connection(where, timeout=5):  # would be ECONNREFUSED
                pass
            results = []
            writers = [threading.Thread(target=lambda k: results.append(self.client(where).put(k, k, timeout=30)),
                                        args=(self.secret(f"{i}-{n}"),)) for n in range(5)]
            for writer in writers:
                writer.start()
            self.manager.forget()
            proxy.start()
            for writer in writers:
                writer.join()
            self.assertEqual(len(results), 5)
            for n in range(5):
                self.assertSealed(self.secret(f"{i}-{n}"), self.secret(f"{i}-{n}"))

    def test_restart_under_load(self):
        """Over restarts no connect is refused. A call that meets the end of a drain is repeated, as clientv3 does."""
        where = self.manager.listen("client")
        proxy = self.start_proxy(f"http://127.0.0.1:{where[1]}")
        stop, done, failures = threading.Event(), [], []

        def write(worker):
            n = 0
            while not stop.is_set():
                n += 1
                key = self.secret(f"{worker}-{n}")
                client = harness.Client(f"127.0.0.1:{where[1]}")
                try:
                    with socket.create_connection(where, timeout=30):
                        pass
                    wait_until(lambda: self.works(client, key), 30, "answer")
                    done.append(key)
                except (OSError, AssertionError) as error:
                    failures.append(error)
                client.close()
        writers = [threading.Thread(target=write, args=(i,)) for i in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(3):
                before = len(done)
                wait_until(lambda: len(done) > before + 5, 30, "calls")
                self.assertEqual(proxy.process.term(), 0)
                self.manager.forget()
                proxy.start()
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        self.assertEqual(failures, [])


class LocalKms(Base):
    def test_life(self):
        binary, folder = harness.program("etcd-envelope-local-kms"), self.env.path(self.name)
        path = str(folder / "kms.sock")
        self.manager.listen("kms", path)
        subprocess.run([binary, "--generate-key", folder / "kek"], check=True, timeout=20)
        argv = [binary, "--listen", f"unix://{path}", "--key-file", folder / "kek"]
        plugin = self.env.start("local-kms", self.manager.argv(map(str, argv)), **self.manager.options())
        self.manager.wait_for("READY=1")
        proxy = self.env.proxy(self.etcd, self.env.config(path, name="local.yaml"), name="behind")
        proxy.client.put(self.secret(), b"x")
        self.manager.forget()
        plugin.signal(signal.SIGHUP)
        self.manager.wait_for("READY=1")
        self.assertTrue(self.manager.heard("RELOADING=1"))
        self.assertEqual(plugin.term(), 0)
        self.assertTrue(self.manager.heard("STOPPING=1"))
        self.assertTrue(os.path.exists(path))

    def test_another_socket(self):
        binary, folder = harness.program("etcd-envelope-local-kms"), self.env.path(self.name)
        self.manager.listen("kms")
        subprocess.run([binary, "--generate-key", folder / "kek"], check=True, timeout=20)
        argv = [binary, "--listen", f"unix://{folder}/kms.sock", "--key-file", folder / "kek"]
        plugin = self.env.start("local-kms", self.manager.argv(map(str, argv)), **self.manager.options())
        self.assertEqual(plugin.popen.wait(30), 2, plugin.log())
        self.assertIn("--listen does not name", plugin.log())


if __name__ == "__main__":
    harness.main()
