#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The start: configurations from pipes, what is refused unless a flag allows it, and warnings of what an operator has
probably not meant."""
import os
import signal
import subprocess
import threading
import time

import harness  # first: it sets the path to tests/fake
import fake_etcd
import tap
from harness import wait_until
from protos import kv, rpc

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"


# Before a command: no memory may be locked, not even by root. Set by a shell and not by Python between fork and exec:
# a newer gRPC waits in fork() for its own threads.
NO_LOCKED_MEMORY = ("bash", "-c", 'ulimit -l 0; exec setpriv --bounding-set -ipc_lock "$0" "$@"')


class Piped(harness.Proxy):
    """A proxy whose configuration comes from <(command); the text `flag` names which file."""
    flag = "--encryption-provider-config"
    command = 'sleep 0.3; head -c 60 "$0"; sleep 0.3; tail -c +61 "$0"'

    def argv(self):
        argv = super().argv()
        at = argv.index("--encryption-provider-config")
        config = argv[at + 1]
        if self.flag == "--encryption-provider-config":
            del argv[at:at + 2]
        return ["bash", "-c", f'exec "$@" {self.flag} <({self.command})', self.piped or config, *argv]

    def __init__(self, *args, piped=None, **options):
        self.piped = piped and str(piped)
        super().__init__(*args, **options)


class Base(harness.OwnProxies):
    def refused(self, *flags, config=None, status=1, timeout=30, before=(), **options):
        """serve does not start; returns what it says."""
        argv = [*before, harness.program("etcd-envelope"), "serve", "--listen-client-urls", "http://127.0.0.1:0",
                "--listen-metrics-urls=", "--etcd-servers", self.etcd.url,
                "--encryption-provider-config", str(config or self.config), *flags]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr

    def log(self, proxy, text, timeout=10):
        return wait_until(lambda: text in proxy.process.log(), timeout, f'"{text}" in {proxy.process.log_path}')


class Pipes(Base):
    def test_configuration(self):
        """Read to its end at the start; a reload can't read it again, and keeps what is in force."""
        proxy = self.start_proxy(kind=Piped)
        proxy.client.put(self.secret(), b"from a pipe")
        self.assertSealed(self.secret(), b"from a pipe")
        proxy.process.signal(signal.SIGHUP)
        self.log(proxy, "is a pipe or a descriptor: it was read at the start")
        self.assertIn("reload failed: the old configuration stays in force", proxy.process.log())
        proxy.client.put(self.secret("b"), b"still sealed")
        self.assertSealed(self.secret("b"), b"still sealed")
        self.assertEqual(proxy.process.term(), 0)

    def test_fifo_and_automatic_reload(self):
        fifo = self.env.path("fifo.yaml")
        os.mkfifo(fifo, 0o600)
        writer = threading.Thread(target=lambda: (time.sleep(0.5), fifo.write_text(self.config.read_text())))
        writer.start()
        proxy = self.start_proxy(config=fifo, flags=["--encryption-provider-config-automatic-reload"])
        writer.join()
        self.assertIn("no automatic reload: the configuration is a pipe", proxy.process.log())
        self.env.path("another-file").write_text("an event in the folder that is watched\n")
        started = time.monotonic()
        while time.monotonic() - started < 1:  # well beyond the time in which an event is acted upon
            proxy.client.put(self.secret(), b"x", timeout=1)
        self.assertNotIn("reload failed", proxy.process.log())
        proxy.process.signal(signal.SIGHUP)  # nobody writes: answered at once, nothing hangs
        self.log(proxy, "reload failed")
        proxy.client.put(self.secret(), b"x", timeout=1)
        self.assertSealed(self.secret(), b"x")

    @harness.timing
    def test_writer_that_never_ends(self):
        fifo = self.env.path("endless.yaml")
        os.mkfifo(fifo, 0o600)
        started = time.monotonic()
        self.assertIn("has not closed the pipe in time", self.refused(config=fifo))
        self.assertLess(9, time.monotonic() - started)
        self.assertLess(time.monotonic() - started, 20)

    def test_config_file(self):
        class Kind(Piped):
            flag = "--config-file"
        file = self.env.path("serve.yaml")
        file.write_text("log-format: json\netcd-prefix: /registry\nshutdown-timeout: 5s\n" + "# filler\n" * 10)
        proxy = self.start_proxy(kind=Kind, piped=file)
        self.assertTrue(proxy.process.log().startswith('{"'), proxy.process.log())

    def test_tools(self):
        """encrypt and decrypt read the same file, in the same way."""
        binary, config = harness.program("etcd-envelope"), str(self.config)
        key = self.secret().decode()
        script = ('head -c 5 /dev/zero | "$0" encrypt --key "$1" --encryption-provider-config <(sleep 0.3; cat "$2") |'
                  '"$0" decrypt --key "$1" --encryption-provider-config <(sleep 0.3; cat "$2")')
        done = subprocess.run(["bash", "-c", script, binary, key, config], capture_output=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, bytes(5)), done.stderr)

    def test_tls_file(self):
        """TLS files are read again when they change, so they can't be pipes; and no start hangs on one."""
        fifo = self.env.path("fifo.crt")
        os.mkfifo(fifo, 0o600)
        tls = self.env.tls()
        said = self.refused("--listen-client-urls", "https://127.0.0.1:0", "--cert-file", str(fifo), "--key-file",
                            str(tls.path("server.key")))
        self.assertIn("it is a pipe", said)

    def test_local_kms(self):
        binary = harness.program("etcd-envelope-local-kms")
        key_file, where = self.env.path("kek"), self.env.path("local.sock")
        subprocess.run([binary, "--generate-key", key_file], check=True, timeout=10)
        plugin = self.env.start("local-kms", ["bash", "-c", 'exec "$0" --listen "$1" --key-file <(sleep 0.3; cat "$2")',
                                              binary, f"unix://{where}", key_file])
        wait_until(where.exists, what="socket")
        config = self.env.config(where, name="local.yaml")
        proxy = self.start_proxy(config=config)
        plugin.signal(signal.SIGHUP)
        wait_until(lambda: "a pipe or a descriptor can be read only at the start" in plugin.log(), what="refused reload")
        proxy.client.put(self.secret(), b"x")
        self.assertTrue(plugin.alive())


class Descriptors(Base):
    """What is named by a descriptor of the process means something else to any other, and nothing any more once it is
    contained. One rule for all such names, be it a file or a pipe that is behind them: read once, and a reload says so."""
    NAMES = (("/dev/stdin", "<"), ("/dev/fd/9", "9<"), ("/proc/self/fd/9", "9<"), ("/proc/thread-self/fd/9", "9<"))

    @staticmethod
    def kind_of(name, redirect):
        class Kind(harness.Proxy):
            def argv(self):
                argv = super().argv()
                file = str(self.config)
                argv[argv.index(file)] = name
                return ["bash", "-c", f'exec "$@" {redirect}"$0"', file, *argv]
        return Kind

    def test_configuration(self):
        for number, (name, redirect) in enumerate(self.NAMES):
            with self.subTest(name):
                proxy = self.start_proxy(kind=self.kind_of(name, redirect),
                                         flags=["--encryption-provider-config-automatic-reload"])
                self.log(proxy, "no automatic reload: the configuration is a pipe or a descriptor")
                proxy.process.signal(signal.SIGHUP)
                self.log(proxy, "is a pipe or a descriptor: it was read at the start and can't be read again")
                self.assertIn("reload failed: the old configuration stays in force", proxy.process.log())
                self.assertEqual(proxy.metric("etcd_envelope_reload_failed"), 0)  # the file says nothing else
                proxy.client.put(self.secret(str(number)), b"x")
                self.assertSealed(self.secret(str(number)), b"x")
                proxy.stop()

    def test_tls_file(self):
        tls = self.env.tls()
        for name, redirect in self.NAMES:
            script = f'exec "$@" {redirect}"$0"'
            said = self.refused("--listen-client-urls", "https://127.0.0.1:0", "--cert-file", name, "--key-file",
                                tls.path("server.key"), before=["bash", "-c", script, tls.path("server.crt")])
            self.assertIn(f"certificate file {name}: it is a pipe or a descriptor; it has to be a file", said)

    def test_local_kms(self):
        binary, key_file = harness.program("etcd-envelope-local-kms"), self.env.path("kek")
        subprocess.run([binary, "--generate-key", key_file], check=True, timeout=10)
        for number, (name, redirect) in enumerate(self.NAMES):
            with self.subTest(name):
                script = f'exec "$1" --listen "$2" --key-file {name} {redirect}"$0"'
                plugin = self.env.start("local-kms", ["bash", "-c", script, key_file, binary,
                                                      f"unix://{self.env.path(f'own{number}.sock')}"])
                wait_until(lambda: " serving " in plugin.log(), what="start")  # noqa: B023
                plugin.signal(signal.SIGHUP)
                said = f"{name}: a pipe or a descriptor can be read only at the start"
                wait_until(lambda: said in plugin.log(), what="refused reload")  # noqa: B023
                self.assertIn("the old keys stay in use", plugin.log())
                self.assertEqual(plugin.term(), 0)


class Allowed(Base):
    """Refused with a reason that names the flag; with the flag it works and says what it means."""
    UNLOCKED = ("cannot lock memory for keys: (Cannot allocate memory|Operation not permitted|"
                "Resource temporarily unavailable): raise RLIMIT_MEMLOCK")

    def test_identity_alone(self):
        config = self.env.path("identity.yaml")
        config.write_text(HEAD + "- resources: ['*.*']\n  providers: [{identity: {}}]\n")
        self.assertIn("--allow-identity-writes", self.refused(config=config))
        proxy = self.start_proxy(config=config, flags=["--allow-identity-writes"])
        self.assertIn("nothing is protected", proxy.process.log())
        proxy.client.put(self.secret(), b"plain")
        self.assertEqual(self.raw.value(self.secret()), b"plain")
        self.assertEqual(proxy.client.value(self.secret()), b"plain")
        self.assertEqual(harness.http_get(proxy.metrics_address, "/readyz")[0], 200)

    def test_identity_alone_by_reload(self):
        """It leaves keys unprotected, and drops the key that is written with: all three flags are needed."""
        config = self.env.config(self.kms.path, name="last-step.yaml")
        flags = ["--allow-identity-writes", "--allow-unprotect", "--allow-drop-keys"]
        for flags, wanted in ((flags[:1], "--allow-unprotect"), (flags[:2], "--allow-drop-keys"),
                              (flags, "configuration reloaded")):
            self.env.config(self.kms.path, name="last-step.yaml")
            proxy = self.start_proxy(config=config, flags=flags)
            config.write_text(HEAD + "- resources: [secrets, configmaps]\n  providers: [{identity: {}}]\n")
            proxy.process.signal(signal.SIGHUP)
            self.log(proxy, wanted)
            proxy.stop()

    def test_unlocked_memory(self):
        said = self.refused(before=NO_LOCKED_MEMORY)
        self.assertRegex(said, self.UNLOCKED)
        self.assertIn("--allow-unlocked-memory", said)
        tool = [harness.program("etcd-envelope"), "encrypt", "--key", "/registry/secrets/a/b",
                "--encryption-provider-config", str(self.config)]
        local = [harness.program("etcd-envelope-local-kms"), "--generate-key", str(self.env.path("unlocked.kek"))]
        for argv in (tool, local):
            run = lambda *more: subprocess.run([*NO_LOCKED_MEMORY, *argv, *more], input=b"x",  # noqa: E731
                                               capture_output=True, timeout=20, check=False)
            done = run()
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), self.UNLOCKED)
            self.assertIn(b"--allow-unlocked-memory", done.stderr)
            done = run("--allow-unlocked-memory")
            self.assertEqual(done.returncode, 0, done.stderr)
        inspect = subprocess.run([*NO_LOCKED_MEMORY, harness.program("etcd-envelope"), "inspect"], input=b"plain",
                                 capture_output=True, timeout=20, check=False)
        self.assertNotIn(b"MEMLOCK", inspect.stderr)  # it holds no key

    def test_serves_with_unlocked_memory(self):
        class Kind(harness.Proxy):
            def argv(self):
                return [*NO_LOCKED_MEMORY, *super().argv()]
        proxy = self.start_proxy(kind=Kind, flags=["--allow-unlocked-memory"])
        self.assertIn("memory for keys is not locked", proxy.process.log())
        proxy.client.put(self.secret(), b"x")
        self.assertSealed(self.secret(), b"x")
        locked = self.start_proxy()
        self.assertNotIn("memory for keys is not locked", locked.process.log())

    def test_empty_client_names(self):
        for flags, env in ((["--allowed-client-names=,"], {}), (["--allowed-client-names="], {}),
                           ([], {"ETCD_ENVELOPE_ALLOWED_CLIENT_NAMES": ""})):
            said = self.refused("--trusted-ca-file=ca.crt", *flags, status=2, env={**os.environ, **env})
            self.assertIn("is not a list of names", said)


class Warnings(Base):
    CLEAR = "etcd is reached in clear over the network"
    PREFIX = "etcd holds keys, but none under --etcd-prefix"

    def test_clear_text(self):
        """0.0.0.0 leads to this machine, but is no address of loopback."""
        proxy = self.start_proxy(servers=[f"http://0.0.0.0:{self.etcd.port}"])
        self.assertIn(self.CLEAR, proxy.process.log())
        self.assertIn(" warn ", next(x for x in proxy.process.log().splitlines() if self.CLEAR in x))
        for servers in ([self.etcd.url], [f"http://localhost:{self.etcd.port}"]):
            self.assertNotIn(self.CLEAR, self.start_proxy(servers=servers).process.log())

    def look(self, etcd, prefix, is_warned):
        proxy = self.start_proxy(servers=[etcd.url], flags=["--etcd-prefix", prefix], wait=False)
        wait_until(lambda: "listening for health" in proxy.process.log(), what="start")
        if is_warned:
            self.log(proxy, self.PREFIX)
        else:
            time.sleep(0.7)  # that nothing is said is seen only by waiting
            self.assertNotIn(self.PREFIX, proxy.process.log(), prefix)
        proxy.stop()

    def test_prefix(self):
        etcd = self.env.etcd(name="prefix")
        self.look(etcd, "/registry", False)  # an empty etcd is no mistake
        etcd.client.put(b"/registry/pods/a/b", b"x")
        for prefix in ("/registry", "registry/", "/", "//registry//"):
            self.look(etcd, prefix, False)
        for prefix in ("/registri", "/registry/pod", "/reg", "/kubernetes.io", "/registry/pods/a/b"):
            self.look(etcd, prefix, True)

    def test_prefix_when_etcd_comes_later(self):
        """The start does not wait for etcd; the look is taken when it first answers, and only once."""
        way = tap.Tap(self.etcd.port)
        way.stop()
        self.raw.put(b"/registry/x", b"x")
        proxy = self.start_proxy(servers=[way.url], flags=["--etcd-prefix", "/elsewhere"], wait=False)
        wait_until(lambda: "listening for health" in proxy.process.log(), what="start")
        self.assertNotIn(self.PREFIX, proxy.process.log())
        way.listen()
        self.addCleanup(way.stop)
        self.log(proxy, self.PREFIX, 20)
        time.sleep(1)
        self.assertEqual(proxy.process.log().count(self.PREFIX), 1)

    def test_prefix_when_the_answer_comes_at_the_end(self):
        """There are no rules any more for the last millisecond or so; etcd's answer may come just then."""
        etcd, held = fake_etcd.FakeEtcd(), []
        self.addCleanup(etcd.stop)

        def hold_second(call):
            is_second = rpc.RangeRequest.FromString(call.payload).key == b"\0"
            held.append(call) if is_second else call.finish(rpc.RangeResponse(header=etcd.header()))
            return True
        etcd.script = hold_second
        found = rpc.RangeResponse(header=etcd.header(), kvs=[kv.KeyValue(key=b"/other/x")], count=1)
        for i in range(20):
            held.clear()
            proxy = self.start_proxy(servers=[etcd.url], wait=False)
            wait_until(lambda: held, what="second question")
            proxy.process.signal(signal.SIGTERM)
            end = time.perf_counter() + i * 0.0002
            while time.perf_counter() < end:
                pass
            held[0].finish(found)
            self.assertEqual(proxy.process.popen.wait(15), 0, proxy.process.log())


if __name__ == "__main__":
    harness.main()
