# SPDX-License-Identifier: Apache-2.0
"""An etcd with users, and proxies with a login of their own: what their tests share."""
import json
import os
import signal
import subprocess

from cluster_tool import PREFIX, ClusterTool, new_key
import harness
from harness import http_get, wait_until

PASSWORD = "correct horse:battery"  # what stands behind the first colon is all of it
LOGIN = {"ETCDCTL_USER": "admin:" + PASSWORD}
OWN = "swordfish-of-the-proxy"  # the proxy's password
PLACE = "/etcd-envelope"
KNOWN, NOT_TAKEN = "etcd knows the proxy's own calls by its user", "etcd does not take --etcd-user"


class SecuredEtcd(harness.Etcd):
    """With etcdctl as its administrator."""

    def etcdctl(self, *argv, user=True, check=True, **options):
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        tls = ["--cacert", self.tls.path("ca.crt"), "--cert", self.tls.path("nobody.crt"), "--key",
               self.tls.path("nobody.key")] if self.tls else []
        return subprocess.run([harness.etcd_program("etcdctl"), "--endpoints", self.url, *tls, *argv], capture_output=True,
                              timeout=30, check=check, env={**env, **(LOGIN if user else {}), "ETCDCTL_API": "3"}, **options)

    def add_administrators(self):
        for argv in (["user", "add", "root:" + PASSWORD], ["user", "grant-role", "root", "root"],
                     ["user", "add", "admin:" + PASSWORD], ["user", "grant-role", "admin", "root"]):
            self.etcdctl(*argv, user=False)

    def add_user(self, name, password, **prefixes):
        """With a role of its own: prefixes by what it may do there."""
        self.etcdctl("role", "add", name, user=False)
        for permission, prefix in prefixes.items():
            for one in prefix:
                self.etcdctl("role", "grant-permission", "--prefix", name, permission, one, user=False)
        self.etcdctl("user", "add", f"{name}:{password}", user=False)
        self.etcdctl("user", "grant-role", name, name, user=False)

    def enable(self):
        self.etcdctl("auth", "enable", user=False)

    def disable(self):
        self.etcdctl("auth", "disable")


class Login(ClusterTool):
    """The proxy's user may do what README says that it needs; reader may only read; nothing may do nothing."""

    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope")
        # Tokens end all the time.
        cls.etcd = SecuredEtcd(cls.env, flags=["--bcrypt-cost", "4", "--auth-token-ttl", "1"])
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.etcd.add_administrators()
        cls.etcd.add_user("proxy", OWN, readwrite=["/registry/", PLACE + "/"])
        cls.etcd.add_user("reader", OWN, read=["/registry/"])
        cls.etcd.add_user("nothing", OWN)

    def setUp(self):
        super().setUp()
        self.a, self.b = (self.local("aesgcm", (n, new_key())) for n in ("a", "b"))
        self.is_on = False

    def tearDown(self):
        if self.is_on:
            self.etcd.disable()
        super().tearDown()

    # --- what the tests do ---

    def enable(self):
        self.etcd.enable()
        self.is_on = True

    def password(self, text):
        """A file of this test with the password, replaced as a whole."""
        path = self.env.path(self.name + ".password")
        fresh = path.with_suffix(".fresh")
        fresh.write_text(text + "\n")
        fresh.chmod(0o600)
        os.replace(fresh, path)
        return path

    def begin_proxy(self, *providers, user="proxy", password=OWN, flags=(), converge=True, **options):
        """It need not be ready: its clients have no token."""
        if user is not None:
            flags = ["--etcd-user", user, "--etcd-password-file", self.password(password), *flags]
        if converge:
            flags = ["--converge", 1000, "--converge-after", "1s", *flags]
        proxy = self.env.proxy(self.etcd, self.configure(*providers, name=self.name), name=self.name, flags=flags,
                               wait=False, **options)
        self.addCleanup(self.end, proxy)
        wait_until(lambda: proxy.process.alive() and self.answers(proxy), 30, "a proxy that answers")
        return proxy

    @staticmethod
    def answers(proxy):
        try:
            return http_get(proxy.metrics_address, "/livez")[0] == 200
        except OSError:
            return False

    def end(self, proxy):
        if proxy.process.alive():
            self.assertEqual(proxy.process.term(30), 0, proxy.process.log()[-2000:])
        for text in (OWN, "swordfish"):
            self.assertNotIn(text, proxy.process.log())

    def lines(self, proxy, text):
        return [line for line in proxy.process.log().splitlines() if text in line]

    def says(self, proxy, text, timeout=30):
        try:
            wait_until(lambda: self.lines(proxy, text), timeout, text)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{proxy.process.log()[-2000:]}") from None

    def change(self, proxy, *providers, log="configuration reloaded", timeout=60):
        before = len(self.lines(proxy, log))
        self.configure(*providers, name=proxy.config.stem)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: len(self.lines(proxy, log)) > before, timeout, f"{log}\n{proxy.process.log()[-1500:]}")

    def converged(self, proxy, count, writer, timeout=60):
        """By what lies in etcd, and then by what the proxy says, whose last look may be of the set before."""
        def is_written():
            out = self.etcd.etcdctl("get", "--prefix", PREFIX.decode(), "--print-value-only", check=False).stdout
            return out.count(writer) == count

        def is_said():
            of = lambda state: proxy.metric("etcd_envelope_stored_values", f'resource="secrets",state="{state}"')  # noqa: E731
            return of("current") == count and of("plaintext") + of("older") == 0
        try:
            wait_until(is_written, timeout, "end in etcd", 0.1)
            wait_until(is_said, timeout, "end by the gauges", 0.1)
        except AssertionError as problem:
            health = http_get(proxy.metrics_address, "/healthz/converge")
            raise AssertionError(f"{problem}: {health}\n{proxy.process.log()[-2000:]}") from None

    def problems(self, proxy):
        return json.loads(http_get(proxy.metrics_address, "/statusz", timeout=20)[1])["problems"]
