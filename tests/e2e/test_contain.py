#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The contained process: what is in force for every one of its threads, that each part can be switched off and is said,
and that serving, reloading and ending go on as before."""
import contextlib
import ctypes
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import subprocess
import unittest

import harness  # first: it sets the path to tests/fake
import dns
from harness import http_get, wait_until


def threads(pid):
    """The fields of /proc/PID/task/*/status, a dict for each thread."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return found


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kernel_has_landlock():
    """Which ABI is there? Asked of the kernel, by the number of the call."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def kernel_has_filters():
    return "Seccomp_filters" in pathlib.Path("/proc/self/status").read_text()


class Base(harness.OwnProxies):
    def start_proxy(self, *flags, **options):
        return super().start_proxy(flags=flags, **options)

    def configz(self, proxy):
        """{part: what it says}"""
        text = http_get(proxy.metrics_address, "/configz")[1].decode()
        part = re.search(r"(?m)^containment:\n((?:  .*\n)+)", text)[1]
        return dict(re.findall(r'  (\w+): "(.*)"', part))

    def assert_reloads(self, proxy):
        """Under the name of the configuration lies another one, with a plugin of another name, in another folder."""
        folder = self.env.path(f"{self.name}-{len(os.listdir(self.env.folder))}")  # made after the start
        folder.mkdir()
        fresh = self.env.config(self.kms.path, provider="other", name="fresh.yaml").rename(folder / "fresh.yaml")
        fresh.chmod(0o600)
        link = folder / "link"
        link.symlink_to(fresh)
        os.replace(link, proxy.config)
        proxy.process.signal(signal.SIGHUP)

        def is_in_use():  # of a worker: it takes a set over after it is said to be in force
            proxy.client.put(self.secret("b"), b"by another provider")
            return b":other:" in self.raw.value(self.secret("b"))[:32]
        wait_until(is_in_use, 20, f"a reload; {proxy.process.log_path}")
        self.assertSealed(self.secret("b"), b"by another provider", provider="other")

    def own_config(self):
        """A configuration that a test may replace."""
        path = self.env.path(self.name + ".yaml")
        shutil.copy(self.config, path)
        return path

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
        if kernel_has_landlock():
            self.assertRegex(says["landlock"], r"^ABI \d+")
        self.assertEqual(says["user"], "not in force: no --user")
        for text in says.values():
            self.assertIn(f'="{text}"', proxy.process.log())

    def test_each_can_be_off(self):
        for flag, part, field, value in (("--seccomp=false", "seccomp", "Seccomp", "0"),
                                         ("--landlock=false", "landlock", "NoNewPrivs", "1"),
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

    def test_everything_off(self):
        proxy = self.start_proxy("--seccomp=false", "--landlock=false", "--drop-privileges=false")
        self.assert_serves(proxy)
        self.assertEqual({t["NoNewPrivs"] for t in threads(proxy.process.pid)},
                         {re.search(r"NoNewPrivs:\t(\d)", pathlib.Path("/proc/self/status").read_text())[1]})
        self.assertEqual(children(proxy.process.pid), [])

    def test_files_of_others(self):
        """Root without capabilities could not read it, and it lies where nothing lay when the process was contained."""
        config = self.own_config()
        proxy = self.start_proxy("--allow-drop-keys", config=config)
        self.assert_serves(proxy)
        if os.geteuid() == 0:
            os.chown(config, pwd.getpwnam("nobody").pw_uid, -1)
        config.chmod(0o600)
        self.assert_reloads(proxy)

    def test_opener(self):
        """It has nothing but the right to read, knows no key, and goes when the proxy does, however that ends."""
        proxy = self.start_proxy()
        opener, = children(proxy.process.pid)
        status = threads(opener)[0]  # the only one, but for what a sanitizer has
        self.assertEqual(status["Name"], "opener")
        may_read = 1 << 2  # CAP_DAC_READ_SEARCH
        self.assertEqual(int(status["CapEff"], 16) & ~may_read, 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        if kernel_has_filters() and not harness.SANITIZED:
            self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(len(os.listdir(f"/proc/{opener}/fd")), 4)  # its socket, and /dev/null three times
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(opener, number)  # as for a whole group
        self.assert_serves(proxy)
        proxy.process.kill()
        wait_until(lambda: not pathlib.Path(f"/proc/{opener}").exists(), 20, "end of the opener")

    def assert_files_are_gone(self, proxy):
        """Once the opener has ended: said in the log, in /configz, on the status page and in a metric."""
        wait_until(lambda: "the process that opens files has ended" in proxy.process.log(), 20, "a word of the end")
        self.assertEqual(children(proxy.process.pid), [], "a zombie")
        self.assertEqual(self.configz(proxy)["opener"],
                         "not in force: it has ended (signal 9): no file is read again before a restart")
        page = json.loads(http_get(proxy.metrics_address, "/statusz")[1])
        problem, = [p for p in page["problems"] if p["title"] == "Files cannot be read"]
        self.assertEqual((problem["severity"], problem["about"]), ("warning", "process"))
        self.assertIn("has ended", problem["reason"])
        self.assertGreater(proxy.metric("etcd_envelope_problems", 'severity="warning"'), 0)

    def test_opener_is_gone(self):
        """It is said at once, not at the next reload; what was read stays in force, and reloads say why they fail."""
        tls, config = self.env.tls(self.name), self.own_config()
        proxy = self.start_proxy(
            "--encryption-provider-config-automatic-reload", "--cert-file", tls.path("server.crt"), "--key-file",
            tls.path("server.key"), "--trusted-ca-file", tls.path("ca.crt"), config=config, tls=tls)
        self.assertTrue(self.configz(proxy)["opener"].startswith("process "))
        opener, = children(proxy.process.pid)
        os.kill(opener, signal.SIGKILL)
        self.assert_files_are_gone(proxy)
        config.write_text(config.read_text() + "# changed\n")
        proxy.process.signal(signal.SIGHUP)
        why = "the process that opens files has ended: nothing is read again before a restart"
        wait_until(lambda: f"can't be read: {why}" in proxy.process.log(), 20, "a reload that failed")
        wait_until(lambda: f'certificate file {tls.path("server.crt")}: {why}' in proxy.process.log(), 20, "TLS files")
        self.assertEqual(proxy.metric("etcd_envelope_reload_failed"), 1)
        self.assert_serves(proxy)
        with contextlib.closing(harness.Client(proxy.target, tls.credentials())) as fresh:  # a new handshake
            self.assertEqual(fresh.value(self.secret()), b"a value of a contained one")
        self.assertEqual(proxy.process.log().count("the process that opens files has ended: configuration"), 1)
        self.assertEqual(proxy.process.term(), 0)

    @unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root has capabilities to keep")
    def test_socket_of_another_user(self):
        """A plugin whose socket is its own user's alone is reached by root as before."""
        kms = self.env.kms("others")
        os.chown(kms.path, 65534, 65534)
        os.chmod(kms.path, 0o600)
        proxy = self.start_proxy(config=self.env.config(kms.path, name="others.yaml"))
        self.assert_serves(proxy)
        self.assertEqual(self.configz(proxy)["privileges"], f"no_new_privs, CAP_DAC_OVERRIDE alone, for {kms.path}"[:92])
        for thread in threads(proxy.process.pid):
            self.assertEqual(int(thread["CapEff"], 16), 1 << 1)

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
        limits = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))  # as where cores are wanted
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, limits)
        proxy = self.start_proxy()
        self.assertRegex(pathlib.Path(f"/proc/{proxy.process.pid}/limits").read_text(), r"Max core file size +0 +0 ")
        proxy.process.signal(signal.SIGABRT)
        status = os.waitid(os.P_PID, proxy.process.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual((status.si_code, status.si_status), (os.CLD_KILLED, signal.SIGABRT))  # not dumped


def can_mount():
    argv = ["unshare", "--mount", "mount", "--bind", "/etc", "/etc"]
    return os.geteuid() == 0 and subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 0


@unittest.skipUnless(can_mount(), "NOTICE: there are no mounts of one's own here")
class Names(Base):
    """The resolver's files, in an /etc and a /run of the proxy's own: whatever replaces them, names go on to be found."""
    HOST = "etcd.envelope-test"

    def setUp(self):
        super().setUp()
        self.folder = self.env.path(self.name)
        for name in ("etc", "run/systemd/resolve"):
            (self.folder / name).mkdir(parents=True)
        for name in ("passwd", "group", "ld.so.cache"):
            if os.path.exists("/etc/" + name):
                shutil.copy("/etc/" + name, self.folder / "etc")
        (self.folder / "etc/nsswitch.conf").write_text("hosts: files dns\n")
        (self.folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
        self.servers = [self.dns(), self.dns()]

    def dns(self):
        try:
            server = dns.Dns()
        except OSError as error:
            self.skipTest(f"NOTICE: no name server can be had on port 53: {error}")
        self.addCleanup(server.stop)
        return server

    def point_to(self, server, folder="run/systemd/resolve"):
        text = f"nameserver {server.address}\noptions timeout:1 attempts:2\n"
        (self.folder / folder / "resolv.conf").write_text(text)

    def start_inside(self):
        script = 'mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@"'
        proxy = self.start_proxy(servers=[f"http://{self.HOST}:{self.etcd.port}"], wait=False)
        proxy.process.kill()
        proxy.process = self.env.start("inside", ["unshare", "--mount", "bash", "-c", script, self.folder, *proxy.argv()])
        proxy.wait_ready(30)
        return proxy

    def assert_found_again(self, proxy):
        """All connections to etcd are gone, so that it is dialled by its name."""
        self.etcd.stop()
        self.etcd.start()
        type(self).raw = self.etcd.client
        proxy.wait_ready(60)
        self.assert_serves(proxy)

    def replace_hosts(self, path, text):
        fresh = path.with_name("hosts.fresh")
        fresh.write_text(text)
        os.replace(fresh, path)

    def test_replaced(self):
        """By what keeps it: systemd-resolved makes its folder in /run anew, another one takes over, /etc/hosts is
        replaced by rename."""
        first, second = self.servers
        link = self.folder / "etc/resolv.conf"
        self.point_to(first)
        link.symlink_to("../run/systemd/resolve/resolv.conf")
        proxy = self.start_inside()
        self.assert_serves(proxy)
        self.assertGreater(first.count, 0)
        first.stop()
        shutil.move(self.folder / "run/systemd", self.folder / "run/old")
        (self.folder / "run/systemd/resolve").mkdir(parents=True)
        self.point_to(second)
        self.assert_found_again(proxy)
        self.assertGreater(second.count, 0)
        third = self.dns()
        second.stop()
        (self.folder / "run/NetworkManager").mkdir()
        self.point_to(third, "run/NetworkManager")
        link.with_name("fresh").symlink_to("/run/NetworkManager/resolv.conf")
        os.replace(link.with_name("fresh"), link)
        self.assert_found_again(proxy)
        self.assertGreater(third.count, 0)
        third.stop()
        self.replace_hosts(self.folder / "etc/hosts", f"127.0.0.1 localhost {self.HOST}\n")
        self.assert_found_again(proxy)

    def test_links_to_elsewhere(self):
        """Each to a folder that is neither in /etc nor in /run; there files are replaced, too."""
        for name, text in (("resolv.conf", ""), ("hosts", f"127.0.0.1 {self.HOST}\n"), ("nsswitch.conf", "hosts: files\n")):
            real, link = self.folder / f"of-{name}" / "file", self.folder / "etc" / name
            real.parent.mkdir()
            real.write_text(text)
            link.unlink(missing_ok=True)
            link.symlink_to(real)
        proxy = self.start_inside()
        self.assert_serves(proxy)
        self.replace_hosts(self.folder / "of-hosts/file", f"127.0.0.1 other {self.HOST}\n")
        self.assert_found_again(proxy)
        self.assertEqual([server.count for server in self.servers], [0, 0])


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
    def test_without_landlock(self):
        proxy = self.start_inside("landlock")
        proxy.wait_ready()
        self.assertTrue(self.configz(proxy)["landlock"].startswith("not in force: the kernel has no Landlock: "))

    @unittest.skipUnless(kernel_has_filters(), "NOTICE: this kernel has no seccomp filters")
    def test_required(self):
        proxy = self.start_inside("seccomp", "--require-containment")
        self.assertEqual(proxy.process.popen.wait(20), 1)
        self.assertIn("--require-containment: seccomp: the kernel takes no filter", proxy.process.log())


@unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root can become another user")
class User(Base):
    @classmethod
    def start(cls):
        super().start()
        cls.env.folder.chmod(0o711)
        os.chmod(cls.kms.path, 0o777)

    def test_becomes(self):
        """For good, in every thread, with its groups; files that are root's alone are still read again."""
        nobody = pwd.getpwnam("nobody")
        config = self.own_config()
        config.chmod(0o600)
        tls = self.env.tls()  # its keys have mode 0600, too
        proxy = self.start_proxy(
            "--user=nobody", "--allow-drop-keys", "--cert-file", tls.path("server.crt"), "--key-file",
            tls.path("server.key"), "--trusted-ca-file", tls.path("ca.crt"), config=config, tls=tls)
        self.assert_serves(proxy)
        for thread in threads(proxy.process.pid):
            self.assertEqual(set(thread["Uid"].split()), {str(nobody.pw_uid)})
            self.assertEqual(set(thread["Gid"].split()), {str(nobody.pw_gid)})
            self.assertEqual(set(thread["Groups"].split()) - {str(nobody.pw_gid)}, set())
            self.assertEqual(int(thread["CapPrm"], 16), 0)
        self.assertRegex(self.configz(proxy)["user"], f"^nobody, {nobody.pw_uid}:{nobody.pw_gid}, ")
        self.assert_reloads(proxy)
        tls.issue("server")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "TLS files reloaded" in proxy.process.log(), 20, "new certificates")
        opener, = children(proxy.process.pid)
        proxy.process.kill()  # may send no signal to a process of root's
        wait_until(lambda: not pathlib.Path(f"/proc/{opener}").exists(), 20, "end of the opener")

    def test_refused(self):
        """What cannot be, and a plugin that would not let that user in, end the start with a reason."""
        closed = self.env.kms("closed")
        os.chmod(closed.path, 0o700)
        config = self.env.config(closed.path, name="closed.yaml")
        for user, config, status, text in (
                ("root", None, 2, "--user: root: that is root again"),
                ("no-such-user", None, 2, "--user: no-such-user: there is no such user"),
                ("nobody", config, 1, f"--user: nobody may not connect to {closed.path}: Permission denied")):
            with self.subTest(user):
                proxy = self.start_proxy("--user", user, config=config, wait=False)
                self.assertEqual(proxy.process.popen.wait(20), status)
                self.assertIn(text, proxy.process.log())
                done = self.check("--user", user, config=config)
                self.assertEqual((done.returncode, done.stdout), (status, ""))
                self.assertEqual(done.stderr.splitlines()[-1], proxy.process.log().splitlines()[-1])

    def check(self, *flags, config=None):
        return subprocess.run([harness.program("etcd-envelope"), "check", "--offline", "--encryption-provider-config",
                               str(config or self.config), *map(str, flags)], capture_output=True, text=True, timeout=60,
                              check=False)

    def test_check(self):
        """What check says of that user holds: serve starts, and leaves the socket behind where check says so."""
        folders = {"mine": True, "roots": False}
        for name, is_nobodys in folders.items():
            folder = self.env.path(name)
            folder.mkdir()
            if is_nobodys:
                os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
            url = f"unix://{folder}/proxy.sock"
            done = self.check("--user", "nobody", "--listen-client-urls", url)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("nobody, once everything is open", done.stdout)
            self.assertEqual(f"nobody may not write to {folder}: the socket there is left behind" in done.stdout, not is_nobodys)
            proxy = self.start_proxy("--user", "nobody", listen=[url])
            self.assertEqual(proxy.process.term(), 0)
            self.assertEqual((folder / "proxy.sock").exists(), not is_nobodys)

    def test_check_of_folders(self):
        """Where a socket cannot be made check warns in serve's own words."""
        file = self.env.path("file")
        file.write_text("")
        for path, text in ((self.env.path("nowhere") / "x.sock", "No such file or directory"), (file, "File exists"),
                           (file / "x.sock", "Not a directory")):
            with self.subTest(path):
                proxy = self.start_proxy(listen=[f"unix://{path}"], wait=False)
                self.assertEqual(proxy.process.popen.wait(20), 1)
                self.assertIn(f"{path}: {text}", proxy.process.log().splitlines()[-1])
                done = self.check("--listen-client-urls", f"unix://{path}")
                self.assertIn(f"{path}: {text}: as it is now serve could not listen there", done.stdout)
        self.assertNotIn("could not listen", self.check("--listen-client-urls", f"unix://{self.kms.path}").stdout)

    def test_socket_in_a_folder_of_roots(self):
        """Nobody is left who may remove it, so it stays behind; the next start takes it over, and so on."""
        folder = self.env.path(self.name)
        folder.mkdir()
        folder.chmod(0o755)
        path = folder / "own.sock"
        for i in range(2):
            proxy = self.start_proxy("--user=nobody", listen=[f"unix://{path}"])
            proxy.client.put(self.secret(str(i)), b"x")
            self.assertEqual(proxy.process.term(), 0)
            proxy.stop()
            self.assertTrue(path.is_socket())
        proxy = self.start_proxy(listen=[f"unix://{path}"])  # root may
        self.assertEqual(proxy.process.term(), 0)
        self.assertFalse(path.exists())

        program, key = harness.program("etcd-envelope-local-kms"), folder / "kek"
        subprocess.run([program, "--generate-key", key], check=True)
        for user, stays in (("nobody", True), ("nobody", True), (None, False)):
            as_user = [f"--user={user}"] if user else []
            kms = self.env.start("local-kms", [program, "--listen", f"unix://{path}", "--key-file", key, *as_user])
            wait_until(lambda: " serving " in kms.log(), 20, f"a plugin; {kms.log_path}")  # noqa: B023
            self.assertEqual(kms.term(), 0)
            self.assertEqual(path.exists(), stays)

    def test_not_root(self):
        config = self.own_config()
        config.chmod(0o644)
        argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", harness.program("etcd-envelope"),
                "serve", "--user=nobody", "--listen-client-urls=http://127.0.0.1:0", "--listen-metrics-urls=",
                "--allow-unlocked-memory", "--encryption-provider-config", str(config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, cwd="/")
        if "execve" in done.stderr or "failed to execute" in done.stderr:
            self.skipTest("NOTICE: nobody can't reach the program")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("only root can become another user", done.stderr)


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
        opener, = children(kms.pid)
        if os.geteuid() == 0:
            os.chown(key, pwd.getpwnam("nobody").pw_uid, -1)  # refused: neither ours nor root's
            kms.signal(signal.SIGHUP)
            wait_until(lambda: "the old keys stay in use" in kms.log(), 20, "a refusal")
            os.chown(key, 0, -1)
        proxy = self.start_proxy(config=self.env.config(self.env.path("kek.sock"), name="kek.yaml"))
        proxy.client.put(self.secret(), b"by the local plugin")
        self.assertEqual(proxy.client.value(self.secret()), b"by the local plugin")
        kms.signal(signal.SIGHUP)
        wait_until(lambda: "key file reloaded" in kms.log(), 20, "a reload")
        os.kill(opener, signal.SIGKILL)
        wait_until(lambda: "the process that opens files has ended" in kms.log(), 20, "a word of the end")
        self.assertEqual(children(kms.pid), [])
        kms.signal(signal.SIGHUP)
        wait_until(lambda: "kek: the process that opens files has ended" in kms.log(), 20, "a refusal")
        proxy.client.put(self.secret("b"), b"by the local plugin")
        self.assertEqual(kms.term(), 0)

    def test_flags(self):
        program = harness.program("etcd-envelope-local-kms")
        done = subprocess.run([program, "--seccomp=maybe"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--seccomp: true or false", done.stderr)


if __name__ == "__main__":
    harness.main()
