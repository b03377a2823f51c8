#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An etcd with users and passwords: do the tools log in as etcdctl does, go on when their token ends, and keep the
password to themselves?"""
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

from cluster_tool import ERROR, NOT_AS_WANTED, OK, PREFIX, USAGE, ClusterTool
import harness
from harness import wait_until
from secured import LOGIN, PASSWORD, SecuredEtcd


# Opens the terminal first, which so becomes that of its session. (pty.fork() would not do: clients of gRPC in this process
# may stand still at a fork.)
AT_TERMINAL = ("import os, sys; at = os.open(sys.argv[1], os.O_RDWR); [os.dup2(at, n) for n in (0, 1, 2)]; "
               "os.execv(sys.argv[2], sys.argv[2:])")


class Users(ClusterTool):
    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope")
        cls.etcd = SecuredEtcd(cls.env)
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.etcd.add_administrators()

    def setUp(self):
        super().setUp()
        self.count = 300
        self.fill(self.count)
        self.raw.put(PREFIX + b"ns/one", b"plain")
        self.etcd.enable()

    def tearDown(self):
        self.etcd.etcdctl("auth", "disable")
        super().tearDown()

    def mixed(self):
        return self.configure(self.kms_provider(), "identity: {}")

    def test_each_tool(self):
        """From the environment and from the flag, the password apart or behind the name."""
        config = self.mixed()
        apart = {"ETCDCTL_USER": "admin", "ETCDCTL_PASSWORD": PASSWORD}
        self.tool("check", config, env=LOGIN)
        self.tool("verify", config, env=apart, status=NOT_AS_WANTED)
        self.tool("reencrypt", config, "--rate", "0", "--etcd-user", "admin:" + PASSWORD)
        self.tool("verify", config, "--etcd-user=admin", env={"ETCDCTL_PASSWORD": PASSWORD, "ETCDCTL_USER": "nobody:x"})
        own = self.env.path("own.password")  # as serve has it
        own.write_text(PASSWORD + "\n")
        flags = "--etcd-user", "admin", "--etcd-password-file", own
        for name in "check", "verify", "reencrypt":
            self.tool(name, config, *flags)
        file = self.env.path("flags.yaml")
        file.write_text(f"etcd-user: admin\netcd-password-file: {own}\n")
        self.tool("verify", config, "--config-file", file)
        self.tool("verify", config, "--config-file", file, env={"ETCDCTL_USER": "nobody:x"}, status=ERROR)
        own_names = {"ETCD_ENVELOPE_ETCD_USER": "admin", "ETCD_ENVELOPE_ETCD_PASSWORD_FILE": str(own)}
        self.tool("verify", config, env={**own_names, "ETCDCTL_USER": "nobody:x"})
        out, _ = self.tool("quarantine", config, "--key", (PREFIX + b"ns/one").decode(), env=LOGIN, status=None)
        self.assertIn("opens", out)

    def tool(self, name, config, *flags, status=OK, **options):  # pylint: disable=arguments-differ
        """As always; status None: any. The password is in nothing that it says."""
        env = {**os.environ, **options.get("env", {})}
        done = subprocess.run(self.argv(name, config, *flags), capture_output=True, timeout=60, check=False, env=env)
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertNotIn("battery", out + err)
        if status is not None:
            self.assertEqual(done.returncode, status, out + err)
        return out, err

    def test_who_is_refused(self):
        config = self.mixed()
        _, err = self.tool("verify", config, status=ERROR)
        self.assertIn("etcd refuses us", err)
        for user in "admin:wrong", "nobody:" + PASSWORD:
            _, err = self.tool("verify", config, "--log-level", "debug", env={"ETCDCTL_USER": user}, status=ERROR)
            self.assertIn("authentication failed, invalid user ID or password", err)
            self.assertIn("user " + user.split(":", maxsplit=1)[0], err)
        for user in ":x", ":":
            self.tool("verify", config, env={"ETCDCTL_USER": user}, status=USAGE)

    def test_not_where_etcd_asks_nobody(self):
        """A user who is given to an etcd without authentication does no harm, as with etcdctl."""
        self.etcd.etcdctl("auth", "disable")
        self.tool("verify", self.mixed(), env=LOGIN, status=NOT_AS_WANTED)
        self.etcd.etcdctl("auth", "enable", user=False)

    def revision(self):
        """0: etcd is away, or too slow to say."""
        done = self.etcd.etcdctl("get", "x", "-w", "json", check=False)
        return int(done.stdout.split(b'"revision":')[1].split(b",")[0]) if done.returncode == 0 else 0

    def test_token_ends_meanwhile(self):
        """etcd is restarted, which forgets every token, and users change: the run goes on and does all of it."""
        process = self.env.start("reencrypt", self.argv("reencrypt", self.mixed(), "--rate", "100"), env={**os.environ, **LOGIN})
        before = wait_until(self.revision, 20, "revision")
        wait_until(lambda: self.revision() > before + 20 or not process.alive(), 20, "rewrites")
        self.etcd.process.kill()
        time.sleep(0.3)
        self.etcd.process = self.env.start("etcd-again", self.etcd.process.argv)
        wait_until(lambda: self.etcd.etcdctl("get", "x", check=False).returncode == 0, 20, "etcd is back")
        before = wait_until(self.revision, 20, "revision")
        wait_until(lambda: self.revision() > before + 20 or not process.alive(), 20, "more rewrites, or the end of them")
        self.etcd.etcdctl("user", "add", "another:x")
        self.assertEqual(self.finish(process), OK, process.log())
        self.tool("verify", self.mixed(), env=LOGIN)
        self.assertNotIn("battery", process.log())

    def test_password_is_not_in_the_list_of_processes(self):
        process = self.begin("reencrypt", self.mixed(), "--rate", "10", "--etcd-user", "admin:" + PASSWORD)
        line = pathlib.Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: b"admin:xxxx" in line.read_bytes(), 10, "the password is gone from the command line")
        self.assertNotIn(b"battery", line.read_bytes())
        process.signal(signal.SIGTERM)
        self.finish(process)

    def ask(self, answer):
        """verify with a name alone, at a terminal; (exit status, what the terminal showed)."""
        terminal, inner = pty.openpty()
        process = subprocess.Popen([sys.executable, "-c", AT_TERMINAL, os.ttyname(inner),
                                    *self.argv("verify", self.config, "--etcd-user", "admin")], start_new_session=True)
        shown = b""
        try:
            while b"Password" not in shown:
                shown += os.read(terminal, 1000)
            os.close(inner)  # by now the process has it: its end is that of the terminal
            wait_until(lambda: not self.echoes(terminal), 10, "it reads unseen")
            os.write(terminal, answer.encode() + b"\n")
            while True:
                shown += os.read(terminal, 10000)
        except OSError:
            pass  # its end
        os.close(terminal)
        return process.wait(60), shown.decode()

    @staticmethod
    def echoes(terminal):
        import termios
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

    def test_asked_for_at_the_terminal(self):
        self.config = self.mixed()
        status, shown = self.ask(PASSWORD)
        self.assertEqual(status, NOT_AS_WANTED, shown)
        self.assertIn("Password of etcd's user admin: ", shown)
        self.assertNotIn("battery", shown)
        status, shown = self.ask("wrong")
        self.assertEqual(status, ERROR, shown)

    def test_nobody_to_ask(self):
        done = subprocess.run(self.argv("verify", self.mixed(), "--etcd-user", "admin"), capture_output=True, check=False,
                              timeout=60, start_new_session=True)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn(b"no terminal to ask for one", done.stderr)


if __name__ == "__main__":
    harness.main()
