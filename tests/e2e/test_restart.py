#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Restarts, fail-over and shutdown: nothing acknowledged is lost, nothing is written twice, clients find their way."""
import signal
import socket
import threading
import time

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
import tap
from harness import Code, http_get, wait_until
from protos import rpc


class Base(harness.OwnProxies):
    @staticmethod
    def works(client):
        try:
            client.get(b"x", timeout=1)
            return True
        except harness.grpc.RpcError:
            return False


class Restart(Base):
    def test_a_new_proxy_reads_everything(self):
        first = self.start_proxy()
        for i in range(100):
            first.client.put(self.secret(f"{i:03}"), b"value %d" % i)
        first.process.kill()
        second = self.start_proxy()
        self.assertEqual([k.value for k in second.client.list(self.secret("")).kvs],
                         [b"value %d" % i for i in range(100)])

    @harness.timing
    def test_same_unix_socket_after_sigkill(self):
        listen = [f"unix://{self.env.path('again.sock')}"]
        first = self.start_proxy(listen=listen)
        first.client.put(self.secret(), b"x")
        first.process.kill()
        started = time.monotonic()
        second = self.start_proxy(listen=listen)
        self.assertLess(time.monotonic() - started, 10 if harness.SANITIZED else 3)
        self.assertEqual(second.client.value(self.secret()), b"x")

    @harness.timing
    def test_listens_within_a_second_of_sigkill(self):
        """Clients that are connected to a service's address come back as soon as it is there."""
        proxy = self.start_proxy()
        proxy.process.kill()
        proxy.client.close()
        started = time.monotonic()
        proxy.start(wait=False)
        wait_until(lambda: self.listens(proxy), 10, "listener", step=0.005)
        took = time.monotonic() - started
        self.assertLess(took, 10 if harness.SANITIZED else 1)

    @staticmethod
    def listens(proxy):
        try:
            socket.create_connection(proxy.address, 1).close()
            return True
        except OSError:
            return False

    def test_etcd_restart_under_load(self):
        """Acknowledged writes are there; none is applied twice; service is back within 5 s."""
        proxy = self.start_proxy()
        stop, acknowledged, failures = threading.Event(), [], []

        def write(worker):
            client, n = harness.Client(proxy.target), 0
            while not stop.is_set():
                n += 1
                key = self.secret(f"{worker}-{n}")
                try:
                    client.put(key, key, timeout=3)
                    acknowledged.append(key)
                except harness.grpc.RpcError as error:
                    failures.append(error)
                    time.sleep(0.05)
            client.close()
        writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(2):
                time.sleep(0.5)
                self.etcd.process.kill()
                time.sleep(0.5)
                self.etcd.start()
                before = len(acknowledged)
                wait_until(lambda: len(acknowledged) > before + 20, 8, "writes after the restart")
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        self.__class__.raw = self.etcd.client
        self.assertGreater(len(failures), 0)
        for error in failures:
            self.assertIn(error.code(), (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED), error.details())
        stored = {k.key: k for k in proxy.client.list(self.secret("")).kvs}
        for key in acknowledged:
            self.assertEqual(stored[key].value, key)
        # Keys are written once; a version above 1 would be a second upstream write.
        self.assertEqual({k.version for k in stored.values()}, {1})
        self.assertSealed(acknowledged[0], acknowledged[0])

    @harness.timing
    def test_back_within_a_second_of_etcd(self):
        """However long it was away, a call gets through a second after it listens, and those that wait on are served."""
        proxy = self.start_proxy()
        for away in (0.2, 3):
            self.etcd.process.kill()
            time.sleep(away)
            self.etcd.start()
            started = time.monotonic()
            wait_until(lambda: self.works_anew(proxy), 20, "service")
            took = time.monotonic() - started
            self.assertLess(took, 10 if harness.SANITIZED else 1)
        self.__class__.raw = self.etcd.client

    def works_anew(self, proxy):
        client = harness.Client(proxy.target)
        try:
            return self.works(client)
        finally:
            client.close()

    def test_fail_over_between_members(self):
        """Several --etcd-servers: the one that is away costs nothing but the redial."""
        dead = f"http://127.0.0.1:{harness.free_port()}"
        proxy = self.start_proxy([dead, self.etcd.url])
        for i in range(20):
            client = harness.Client(proxy.target)
            client.put(self.secret(str(i)), b"x", timeout=5)
            client.close()


class TwoProxies(Base):
    """One etcd, two ways to it, one of which dies."""

    @classmethod
    def start(cls):
        super().start()
        cls.ways = [tap.Tap(cls.etcd.port), tap.Tap(cls.etcd.port)]
        cls.proxies = [cls.env.proxy([way.url], cls.config, name=f"proxy{i}") for i, way in enumerate(cls.ways)]

    @harness.timing
    def test_400_puts_with_one_etcd_stopped(self):
        """A client with two endpoints; the etcd behind the first goes away. None fails after the first second."""
        target = "ipv4:" + ",".join(f"127.0.0.1:{p.port}" for p in self.proxies)
        for policy in ("pick_first", "round_robin"):
            with self.subTest(policy):
                client = harness.Client(target, options=[("grpc.lb_policy_name", policy)])
                for i in range(20):
                    client.put(self.secret(f"before{i}"), b"x")
                self.ways[0].stop()
                stopped, failures = time.monotonic(), []
                for i in range(400):
                    try:
                        client.put(self.secret(f"{i}"), b"value", timeout=5)
                    except harness.grpc.RpcError as error:
                        failures.append((time.monotonic() - stopped, error.code(), error.details()))
                self.assertEqual([f for f in failures if f[0] > 1], [], f"{len(failures)} failures")
                self.assertLess(len(failures), 40, failures[:3])
                client.close()
                self.ways[0].listen()
                client = harness.Client(self.proxies[0].target)
                wait_until(lambda: self.works(client), 10, "first proxy again")
                client.close()

    def test_each_reads_the_others_values(self):
        one, two = self.proxies
        one.client.put(self.secret("1"), b"of one")
        two.client.put(self.secret("2"), b"of two")
        for proxy in self.proxies:
            self.assertEqual([k.value for k in proxy.client.list(self.secret("")).kvs], [b"of one", b"of two"])


class Shutdown(Base):
    @harness.timing
    def test_sigterm_when_idle(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            proxy = self.start_proxy()
            started = time.monotonic()
            proxy.process.signal(number)
            self.assertEqual(proxy.process.popen.wait(10), 0)
            self.assertLess(time.monotonic() - started, 5)

    def test_sigterm_lets_calls_finish(self):
        """GOAWAY; a call under way finishes; new connections are not taken; exit 0."""
        proxy = self.start_proxy()
        self.kms.delay["Decrypt"] = 1.5
        try:
            key = self.secret()
            self.raw.put(key, harness.envelope.seal(key, b"slow to read"))
            raw = h2raw.Client(proxy.address)
            sid = raw.start("/etcdserverpb.KV/Range", h2raw.grpc_message(rpc.RangeRequest(key=key).SerializeToString()))
            time.sleep(0.3)
            proxy.process.signal(signal.SIGTERM)
            raw.wait_for(lambda: raw.goaway is not None, 3, "GOAWAY")
            stream = raw.wait(sid, 5)
            self.assertEqual(stream.status, 0)
            self.assertIn(b"slow to read", bytes(stream.data))
            self.assertEqual(raw.goaway[1], h2raw.NO_ERROR)
            self.assertEqual(proxy.process.popen.wait(12), 0)
        finally:
            self.kms.delay.clear()

    def test_no_put_fails_in_a_drain(self):
        """A client that writes without pause moves to the other proxy: no failure, no loss."""
        other = self.env.proxy(self.etcd, self.config, name="other")
        self.addCleanup(other.stop)
        proxy = self.start_proxy()
        client = harness.Client(f"ipv4:127.0.0.1:{proxy.port},127.0.0.1:{other.port}",
                                options=[("grpc.enable_retries", 1)])
        done = threading.Event()

        def write():
            count = 0
            while not done.is_set():
                client.put(self.secret(str(count)), b"x", timeout=5)
                count += 1
            return count
        threads = [threading.Thread(target=lambda: (time.sleep(0.5), proxy.process.signal(signal.SIGTERM),
                                                    proxy.process.popen.wait(15), time.sleep(0.5), done.set()))]
        threads[0].start()
        count = write()
        threads[0].join()
        self.assertEqual(proxy.process.popen.returncode, 0)
        self.assertEqual(self.raw.list(self.secret(""), count_only=True).count, count)
        client.close()

    @harness.timing
    def test_watches_end_with_unavailable(self):
        """Clients resume then; nothing else makes them do so."""
        proxy = self.start_proxy(flags=["--shutdown-timeout", "1s"])
        watch = proxy.client.watch(self.secret())
        started = time.monotonic()
        proxy.process.signal(signal.SIGTERM)
        with self.assertRaises(harness.grpc.RpcError) as caught:
            watch.next(10)
        self.assertEqual(caught.exception.code(), Code.UNAVAILABLE)
        self.assertEqual(proxy.process.popen.wait(10), 0)
        self.assertLess(time.monotonic() - started, 6)

    @harness.timing
    def test_clients_that_never_read_are_within_the_time(self):
        """A window of zero and no reads: what they are owed never leaves."""
        proxy = self.start_proxy(flags=["--shutdown-timeout", "4s"])
        for number in range(3):
            self.raw.put(self.secret(str(number)), harness.envelope.seal(self.secret(str(number)), b"x" * 100000))
        stuck = [h2raw.Client(proxy.address, settings={h2raw.INITIAL_WINDOW_SIZE: 0}) for _ in range(3)]
        for raw in stuck:
            raw.start("/etcdserverpb.KV/Range", h2raw.grpc_message(
                rpc.RangeRequest(key=self.secret(""), range_end=self.secret("~")).SerializeToString()))
        time.sleep(0.5)
        started = time.monotonic()
        proxy.process.signal(signal.SIGTERM)
        self.assertEqual(proxy.process.popen.wait(10), 0)
        self.assertLess(time.monotonic() - started, 4.3)

    @harness.timing
    def test_probes_are_within_the_time(self):
        """HTTP/1.1: half a request, and one that etcd does not answer."""
        silent = fake_etcd.FakeEtcd()  # knows HTTP/2 only
        self.addCleanup(silent.stop)
        for text in (b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
            proxy = self.start_proxy(servers=[silent.url], flags=["--shutdown-timeout", "2s"])
            with socket.create_connection(proxy.address) as client:
                client.sendall(text)
                time.sleep(0.3)
                started = time.monotonic()
                proxy.process.signal(signal.SIGTERM)
                self.assertEqual(proxy.process.popen.wait(10), 0)
                self.assertLess(time.monotonic() - started, 2.3)

    @harness.timing
    def test_second_signal_exits_at_once(self):
        proxy = self.start_proxy()
        watch = proxy.client.watch(self.secret())
        proxy.process.signal(signal.SIGTERM)
        time.sleep(0.3)
        started = time.monotonic()
        proxy.process.signal(signal.SIGTERM)
        proxy.process.popen.wait(5)
        self.assertLess(time.monotonic() - started, 2)
        watch.cancel()

    def test_health_follows_etcd(self):
        proxy = self.start_proxy()
        self.assertEqual(http_get(proxy.address, "/health")[0], 200)
        self.etcd.process.signal(signal.SIGKILL)
        self.etcd.process.popen.wait()
        try:
            wait_until(lambda: self.unhealthy(proxy), 10, "503")
        finally:
            self.etcd.start()
            self.__class__.raw = self.etcd.client
        wait_until(lambda: not self.unhealthy(proxy), 10, "200")

    @staticmethod
    def unhealthy(proxy):
        try:
            return http_get(proxy.address, "/health")[0] == 503
        except OSError:
            return True


class CommandLine(Base):
    """What serve refuses to start with, and how it says so."""

    def run_serve(self, *flags):
        process = self.env.start(self.name, [harness.program("etcd-envelope"), *flags])
        return process.popen.wait(10), process.log()

    def test_refusals(self):
        listen = ["--listen-client-urls", "http://127.0.0.1:0", "--etcd-servers", self.etcd.url]
        code, log = self.run_serve("serve", *listen)
        self.assertIn(code, (1, 2), log)
        self.assertIn("encryption-provider-config", log)
        code, log = self.run_serve("serve", "--no-such-flag")
        self.assertEqual(code, 2)
        code, log = self.run_serve("no-such-command")
        self.assertEqual(code, 2)
        config = ["--encryption-provider-config", str(self.config)]
        code, log = self.run_serve("serve", "--listen-client-urls", "http://0.0.0.0:0", "--etcd-servers", self.etcd.url,
                                   *config)
        self.assertIn(code, (1, 2))
        self.assertIn("insecure-listen", log)

    def write(self, name, text):
        path = self.env.path(name)
        path.write_text(text)
        return ["--encryption-provider-config", str(path)]

    def test_configurations(self):
        listen = ["serve", "--listen-client-urls", "http://127.0.0.1:0", "--listen-metrics-urls", "http://127.0.0.1:0",
                  "--etcd-servers", self.etcd.url]
        head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
        kms = "kms: {apiVersion: v2, name: test, endpoint: 'unix://%s'}" % self.kms.path
        bad = {
            "nothing protected": head + "- resources: [secrets]\n  providers:\n  - identity: {}\n",
            "identity writes": head + f"- resources: [secrets]\n  providers:\n  - identity: {{}}\n  - {kms}\n",
            "unknown field": head + f"- resources: [secrets]\n  provider: []\n  providers:\n  - {kms}\n",
            "not yaml": "{{{", "empty": "", "other kind": "apiVersion: v1\nkind: Pod\n",
            "kms v1 writes": head + "- resources: [secrets]\n  providers:\n  - kms: {apiVersion: v1, name: test, "
                                    "endpoint: 'unix:///x'}\n",
            "no endpoint": head + "- resources: [secrets]\n  providers:\n  - kms: {apiVersion: v2, name: test}\n",
        }
        for name, text in bad.items():
            with self.subTest(name):
                code, log = self.run_serve(*listen, *self.write("bad.yaml", text))
                self.assertIn(code, (1, 2), log)
        code, log = self.run_serve(*listen, "--encryption-provider-config", "/nowhere/x.yaml")
        self.assertIn(code, (1, 2))
        allowed = self.write("identity.yaml", bad["identity writes"])
        proxy = self.env.proxy(self.etcd, allowed[1], name="identity-writes", flags=["--allow-identity-writes"])
        self.addCleanup(proxy.stop)
        proxy.client.put(self.secret(), b"in clear, on demand")
        self.assertEqual(self.raw.value(self.secret()), b"in clear, on demand")

    def test_says_what_is_protected(self):
        proxy = self.start_proxy()
        log = proxy.process.log()
        self.assertIn("secrets", log)
        self.assertIn("test", log)
        self.assertIn("sha256:", log, "the key id's hash")

    def test_keys_stay_inside(self):
        """Locked memory, no core file, not to be traced by others of our user."""
        if harness.SANITIZED:
            self.skipTest("sanitizers have their own ways with memory")
        proxy = self.start_proxy()
        proxy.client.put(self.secret(), b"x")
        self.assertGreater(proxy.process.proc_status("VmLck"), 0)
        with open(f"/proc/{proxy.process.pid}/limits", encoding="ascii") as f:
            core = next(line for line in f if line.startswith("Max core file size"))
        self.assertEqual(core.split()[4:6], ["0", "0"])

    def test_bare_flags_mean_serve(self):
        port = harness.free_port()
        process = self.env.start(self.name, [
            harness.program("etcd-envelope"), f"--listen-client-urls=http://127.0.0.1:{port}",
            f"--listen-metrics-urls=http://127.0.0.1:{harness.free_port()}", f"--etcd-servers={self.etcd.url}",
            f"--encryption-provider-config={self.config}"])
        client = self.env.client(f"127.0.0.1:{port}")
        wait_until(lambda: self.works(client), 10, "answer")
        self.assertEqual(process.term(), 0)

    def test_help_and_version(self):
        for flags in (["--help"], ["serve", "--help"], ["version"]):
            code, log = self.run_serve(*flags)
            self.assertEqual(code, 0, (flags, log))
            self.assertGreater(len(log), 5)

    def test_environment_and_file(self):
        """Precedence: flag, environment, file."""
        ports = [harness.free_port() for _ in range(3)]
        file = self.env.path("serve.yaml")
        file.write_text(f"listen-client-urls: http://127.0.0.1:{ports[0]}\netcd-servers: {self.etcd.url}\n"
                        f"listen-metrics-urls: http://127.0.0.1:{harness.free_port()}\n"
                        f"encryption-provider-config: {self.config}\n")
        argv = [harness.program("etcd-envelope"), "serve", "--config-file", str(file)]
        environment = {"ETCD_ENVELOPE_LISTEN_CLIENT_URLS": f"http://127.0.0.1:{ports[1]}"}
        for extra, env, port in (([], {}, ports[0]), ([], environment, ports[1]),
                                 ([f"--listen-client-urls=http://127.0.0.1:{ports[2]}"], environment, ports[2])):
            process = harness.Process(argv + extra, self.env.path(f"precedence{port}.log"), env)
            try:
                client = harness.Client(f"127.0.0.1:{port}")
                wait_until(lambda: self.works(client), 10, f"answer on {port}: {process.log()}")
                client.close()
            finally:
                process.kill()


if __name__ == "__main__":
    harness.main()
