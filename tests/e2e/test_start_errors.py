#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A start that cannot be: does each error say what, where and the system's reason, also where a limit is too low and libuv
would abort?"""
import os
import pathlib
import shutil
import socket
import subprocess
import unittest

import harness


class Limits(harness.OwnProxies):
    """Where libuv would abort without a word the start ends with a sentence that names the limit."""

    def start_limited(self, limit, argv, user=None):
        """Runs argv under a shell's ulimit, as a user that has no other processes if it is about those."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return subprocess.run([*as_user, "bash", "-c", f'ulimit {limit}; exec "$@"', "limited", *map(str, argv)],
                              capture_output=True, text=True, timeout=30, check=False, cwd="/")

    def serve(self, binary, *flags, host="127.0.0.1", config=None):
        return [binary, "serve", "--listen-client-urls=http://127.0.0.1:0", "--listen-metrics-urls=", "--workers=1",
                "--etcd-servers", f"http://{host}:{self.etcd.port}", "--allow-unlocked-memory",
                "--encryption-provider-config", config or self.config, *flags]

    def local(self, binary, key_file, where):
        return [binary, "--listen", f"unix://{where}", "--key-file", key_file, "--allow-unlocked-memory"]

    def verify(self, binary, host="127.0.0.1", config=None):
        return [binary, "verify", "--etcd-servers", f"http://{host}:{self.etcd.port}", "--allow-unlocked-memory",
                "--encryption-provider-config", config or self.config]

    def test_descriptors(self):
        key_file = self.env.path("kek")
        local = harness.program("etcd-envelope-local-kms")
        subprocess.run([local, "--generate-key", key_file], check=True, timeout=10)
        program = harness.program("etcd-envelope")
        for argv in (self.serve(program), self.verify(program), self.local(local, key_file, self.env.path("few.sock")),
                     [program, "status", "--metrics-urls", "http://127.0.0.1:1"]):
            for count in (8, 11, 14, 17):
                with self.subTest(argv=argv, count=count):
                    done = self.start_limited(f"-n {count}", argv)
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertIn("Too many open files", done.stderr)
                    self.assertRegex(done.stderr, f"RLIMIT_NOFILE, which is {count} ")

    @unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root can have a user without processes")
    @unittest.skipIf(harness.SANITIZED, "NOTICE: a sanitizer has threads of its own")
    def test_threads(self):
        """At any number, also where only names of etcd need threads, later on."""
        users = iter(range(54321, 54421))  # the processes of an earlier start may still be ending
        self.env.folder.chmod(0o711)
        folder = self.env.path(self.name)
        folder.mkdir()
        config = shutil.copy(self.config, folder)
        os.chmod(config, 0o644)
        proxy, local = (shutil.copy(harness.program(name), folder)
                        for name in ("etcd-envelope", "etcd-envelope-local-kms"))
        key_file = folder / "kek"
        subprocess.run([local, "--generate-key", key_file], check=True, timeout=10)
        cases = [(self.serve(proxy, config=config), range(1, 4)),  # itself, the opener, the log, a worker
                 (self.serve(proxy, host="localhost", config=config), range(1, 8)),  # and four for names
                 (self.verify(proxy, "localhost", config), range(1, 6)),
                 (self.local(local, key_file, folder / "local.sock"), range(1, 3))]
        for argv, counts in cases:
            for count in counts:
                user = next(users)
                for path in (folder, key_file):
                    os.chown(path, user, user)
                with self.subTest(argv=argv, count=count):
                    done = self.start_limited(f"-u {count}", argv, user)
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertRegex(done.stderr.lower(), "resource temporarily unavailable")
                    self.assertIn("RLIMIT_NPROC", done.stderr)


    @unittest.skipIf(harness.SANITIZED, "NOTICE: a sanitizer has threads of its own")
    def test_pids_of_a_cgroup(self):
        """As a container's or a unit's limit is, which root has, too: at any number, as above."""
        old, new = pathlib.Path("/sys/fs/cgroup/pids"), pathlib.Path("/sys/fs/cgroup")
        group = (old if old.exists() else new) / f"etcd-envelope-test-pids-{os.getpid()}"
        try:
            group.mkdir()
            self.addCleanup(group.rmdir)
            (group / "pids.max").write_text("1")
        except OSError as error:
            self.skipTest(f"NOTICE: no cgroup with a limit on processes: {error}")
        key_file, program = self.env.path("pids.kek"), harness.program("etcd-envelope")
        local = harness.program("etcd-envelope-local-kms")
        subprocess.run([local, "--generate-key", key_file], check=True, timeout=10)
        for argv, counts in ((self.serve(program, host="localhost"), range(1, 8)),
                             (self.local(local, key_file, self.env.path("pids.sock")), range(1, 3))):
            for count in counts:
                with self.subTest(argv=argv, count=count):
                    (group / "pids.max").write_text(str(count))
                    done = subprocess.run(["bash", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "inside",
                                           *map(str, argv)], capture_output=True, text=True, timeout=30, check=False)
                    harness.wait_until(lambda: int((group / "pids.current").read_text()) == 0, 20, "empty cgroup")
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertIn("resource temporarily unavailable", done.stderr.lower())
                    self.assertIn("pids.max", done.stderr)


class Errors(harness.OwnProxies):
    """Each says what, where, and the system's reason."""

    def rows(self):
        e = self.env
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        missing, folder, file, link = e.path("missing"), e.path("folder"), e.path("file"), e.path("loop")
        folder.mkdir(exist_ok=True)
        file.write_text("x")
        link.unlink(missing_ok=True)
        link.symlink_to(link)
        listened = e.path("listened.sock")
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        other.bind(str(listened))
        other.listen()
        tls = e.tls()
        client, metrics = "--listen-client-urls", "--listen-metrics-urls"
        https = (client, "https://127.0.0.1:0", "--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"))
        etcds = ("--etcd-servers", "https://127.0.0.1:1")
        config = "--encryption-provider-config"
        gone, loops = "No such file or directory", "Too many levels of symbolic links"
        for listen in (client, metrics):
            yield (listen, f"http://127.0.0.1:{port}"), f"http://127.0.0.1:{port}", "Address already in use"
            yield (listen, "http://192.0.2.1:1", "--insecure-listen"), "http://192.0.2.1:1", "Cannot assign requested address"
            yield (listen, f"unix://{missing}/x.sock"), f"{missing}/x.sock", gone
            yield (listen, f"unix://{file}"), file, "File exists"
            yield (listen, f"unix://{listened}"), listened, "Address already in use"
            yield (listen, f"unix://{file}/x.sock"), f"{file}/x.sock", "Not a directory"
            yield (listen, "http://a..b:1", "--insecure-listen"), "http://a..b:1", "known|failure in name resolution"  # at once
        yield (config, missing), missing, gone
        yield (config, link), link, loops
        yield (config, folder), folder, "is a directory"
        yield ("--config-file", missing), missing, gone
        yield ("--config-file", folder), folder, "is a directory"
        for flag in ("--cert-file", "--key-file", "--trusted-ca-file"):
            yield (*https, flag, missing), missing, gone
            yield (*https, flag, link), link, loops
        yield (*https, "--trusted-ca-file", tls.path("ca.crt"), "--client-crl-file", missing), missing, gone
        for flags in (("--etcd-cafile", missing), ("--etcd-certfile", missing, "--etcd-keyfile", tls.path("server.key")),
                      ("--etcd-certfile", tls.path("server.crt"), "--etcd-keyfile", missing)):
            yield (*etcds, *flags), missing, gone
        if os.geteuid() == 0:
            yield ("--user", "no-such-user"), "--user: no-such-user", "there is no such user"

    def test_serve(self):
        for flags, where, reason in self.rows():
            with self.subTest(flags=flags):
                argv = [harness.program("etcd-envelope"), "serve", "--listen-client-urls", "http://127.0.0.1:0",
                        "--listen-metrics-urls=", "--etcd-servers", self.etcd.url,
                        "--encryption-provider-config", self.config, *flags]
                done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=30, check=False)
                self.assertIn(done.returncode, (1, 2), done.stderr)
                last = done.stderr.strip().splitlines()[-1]
                self.assertTrue(last.startswith("etcd-envelope: "), done.stderr)
                self.assertIn(str(where), last)
                self.assertRegex(last, reason)

    def test_local_kms(self):
        binary, e = harness.program("etcd-envelope-local-kms"), self.env
        good, missing, file = e.path("start.kek"), e.path("no.kek"), e.path("a-file")
        file.write_text("x")
        subprocess.run([binary, "--generate-key", good], check=True, timeout=10)
        free = f"unix://{e.path('start.sock')}"
        for flags, where, reason in (
                (("--listen", free, "--key-file", missing), missing, "No such file or directory"),
                (("--listen", free, "--key-file", e.folder), e.folder, "not a regular file"),
                (("--listen", f"unix://{missing}/x", "--key-file", good), f"{missing}/x", "No such file or directory"),
                (("--listen", f"unix://{file}", "--key-file", good), file, "File exists"),
                (("--listen", f"unix://{file}/x", "--key-file", good), f"{file}/x", "Not a directory"),
                (("--generate-key", good), good, "File exists"),
                (("--generate-key", f"{missing}/x"), f"{missing}/x", "No such file or directory")):
            with self.subTest(flags=flags):
                done = subprocess.run([binary, *map(str, flags)], capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(str(where), done.stderr)
                self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    harness.main()
