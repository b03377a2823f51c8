#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The contained process: what is in force for every one of its threads, that each part can be switched off and is said,
and that serving, reloading and ending go on as before."""
import os
import pathlib
import re
import signal
import subprocess
import unittest

import harness
from harness import http_get, wait_until


def threads(pid):
    """The fields of /proc/PID/task/*/status, a dict for each thread."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return found


def kernel_has_filters():
    return "Seccomp_filters" in pathlib.Path("/proc/self/status").read_text()


class Base(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)

    def start_proxy(self, *flags, config=None, **options):
        proxy = self.env.proxy(self.etcd, config or self.config, name=self.name, flags=flags, **options)
        self.addCleanup(proxy.stop)
        return proxy

    def configz(self, proxy):
        """{part: what it says}"""
        text = http_get(proxy.metrics_address, "/configz")[1].decode()
        part = re.search(r"(?m)^containment:\n((?:  .*\n)+)", text)[1]
        return dict(re.findall(r'  (\w+): "(.*)"', part))

    def assert_serves(self, proxy):
        proxy.client.put(self.secret(), b"a value of a contained one")
        self.assertSealed(self.secret(), b"a value of a contained one")
        self.assertEqual(proxy.client.value(self.secret()), b"a value of a contained one")


class InForce(Base):
    def test_every_thread(self):
        """Capabilities, no_new_privs and filters are a thread's own, so one that was forgotten would be a way out."""
        proxy = self.start_proxy("--workers=3", "--etcd-servers", f"http://localhost:{self.etcd.port}")
        self.assert_serves(proxy)  # by a name: the threads of libuv's pool are there, too
        all_threads = threads(proxy.process.pid)
        self.assertGreater(len(all_threads), 4)
        for thread in all_threads:
            self.assertEqual(thread["NoNewPrivs"], "1", thread)
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertEqual(int(thread[name], 16), 0, thread)
            if os.geteuid() == 0:
                self.assertEqual(int(thread["CapBnd"], 16), 0, thread)
            if kernel_has_filters():
                self.assertEqual(thread["Seccomp"], "2", thread)

    def test_said(self):
        proxy = self.start_proxy()
        says = self.configz(proxy)
        self.assertTrue(says["privileges"].startswith("no_new_privs, no capabilities"), says)
        if kernel_has_filters():
            self.assertTrue(says["seccomp"].startswith("a list of system calls"), says)
        for text in says.values():
            self.assertIn(f'="{text}"', proxy.process.log())

    def test_each_can_be_off(self):
        for flag, part, field, value in (("--seccomp=false", "seccomp", "Seccomp", "0"),
                                         ("--drop-privileges=false", "privileges", "CapEff", None)):
            with self.subTest(flag):
                if pathlib.Path("/proc/self/status").read_text().find("\nSeccomp:\t0") < 0:
                    value = None  # a filter of the surroundings
                proxy = self.start_proxy(flag)
                self.assert_serves(proxy)
                self.assertEqual(self.configz(proxy)[part], f"not in force: {flag}")
                if value:
                    self.assertEqual({t[field] for t in threads(proxy.process.pid)}, {value})
                self.assertEqual(proxy.process.term(), 0)

    def test_log_instead(self):
        """For those who look for a call that is missing: nothing is refused, and it is not said to be in force."""
        proxy = self.start_proxy("--seccomp-log")
        self.assert_serves(proxy)
        self.assertTrue(self.configz(proxy)["seccomp"].startswith("not in force: --seccomp-log"))

    def test_end_and_abort(self):
        """A socket of its own is removed at the end; SIGABRT, as a failed CHECK raises it, leaves no core."""
        path = self.env.path("own.sock")
        proxy = self.start_proxy(listen=[f"unix://{path}"])
        self.assertEqual(proxy.process.term(), 0)
        self.assertFalse(path.exists())
        proxy = self.start_proxy()
        proxy.process.signal(signal.SIGABRT)
        status = os.waitid(os.P_PID, proxy.process.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual((status.si_code, status.si_status), (os.CLD_KILLED, signal.SIGABRT))  # not dumped


class Refused(Base):
    """A container that does not give what is asked for."""

    def start_inside(self, parts, *flags):
        proxy = self.start_proxy(*flags, wait=False)
        proxy.process.kill()
        proxy.client.close()
        argv = ["/usr/bin/python3", harness.ROOT / "tests" / "fake" / "refusing.py", parts, *proxy.argv()]
        proxy.process = self.env.start("inside", argv)
        proxy.client = self.env.client(proxy.target)
        return proxy

    @unittest.skipUnless(kernel_has_filters(), "NOTICE: this kernel has no seccomp filters")
    def test_it_serves_and_says_so(self):
        proxy = self.start_inside("seccomp")
        proxy.wait_ready()
        self.assert_serves(proxy)
        says = self.configz(proxy)
        self.assertTrue(says["seccomp"].startswith("not in force: the kernel takes no filter: "), says)
        self.assertTrue(says["privileges"].startswith("no_new_privs, no capabilities"), says)
        self.assertIn(f'seccomp="{says["seccomp"]}"', proxy.process.log())
        self.assertEqual(proxy.process.term(), 0)

    @unittest.skipUnless(kernel_has_filters(), "NOTICE: this kernel has no seccomp filters")
    def test_required(self):
        proxy = self.start_inside("seccomp", "--require-containment")
        self.assertEqual(proxy.process.popen.wait(20), 1)
        self.assertIn("--require-containment: seccomp: the kernel takes no filter", proxy.process.log())


class LocalKms(Base):
    def test_in_force(self):
        key = self.env.path("kek")
        program = harness.program("etcd-envelope-local-kms")
        subprocess.run([program, "--generate-key", str(key)], check=True)
        kms = self.env.start("local-kms", [program, "--listen", f"unix://{self.env.path('kek.sock')}",
                                           "--key-file", key])
        wait_until(lambda: "serving" in kms.log(), 20, "a plugin")
        for thread in threads(kms.pid):
            self.assertEqual(thread["NoNewPrivs"], "1")
            self.assertEqual(int(thread["CapEff"], 16) | int(thread["CapPrm"], 16), 0)
            if kernel_has_filters():
                self.assertEqual(thread["Seccomp"], "2")
        proxy = self.start_proxy(config=self.env.config(self.env.path("kek.sock"), name="kek.yaml"))
        proxy.client.put(self.secret(), b"by the local plugin")
        self.assertEqual(proxy.client.value(self.secret()), b"by the local plugin")
        kms.signal(signal.SIGHUP)
        wait_until(lambda: "key file reloaded" in kms.log(), 20, "a reload")
        self.assertEqual(kms.term(), 0)

    def test_flags(self):
        program = harness.program("etcd-envelope-local-kms")
        done = subprocess.run([program, "--seccomp=maybe"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--seccomp: true or false", done.stderr)


if __name__ == "__main__":
    harness.main()
