# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test stands on: a folder of its own, etcd, a KMS plugin, the proxy, clients, and
the certainty that all of it is gone afterwards.

Environment:
  ENVELOPE_BUILD     folder with etcd-envelope and etcd-envelope-local-kms (default: build/dev)
  ENVELOPE_ETCD_DIR  folder with etcd and etcdctl (default: build/etcd, then PATH)
  E2E_DIRECT=1       no proxy: clients talk to etcd itself, checks of stored bytes are skipped. Shows
                     whether a test expects of the proxy what etcd itself does.
  E2E_LONG=1         larger counts
  E2E_SANITIZED=1    the build is slow and large: no bounds on memory and time, smaller counts
  E2E_KEEP=1         keep the folders (logs)
  E2E_TIMING         "only": the tests marked @harness.timing; "no": all others; unset: all
"""
import atexit
import contextlib
import datetime
import http.client
import ipaddress
import os
import pathlib
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fake"))

# Newer ones stand still, for ever, where a thread has a call while another one starts a program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
import grpc  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

import envelope  # noqa: E402
import fake_kms  # noqa: E402
from client import Client  # noqa: E402

Code = grpc.StatusCode
BUILD = pathlib.Path(os.environ.get("ENVELOPE_BUILD", ROOT / "build" / "dev")).resolve()  # processes have other folders
DIRECT = bool(os.environ.get("E2E_DIRECT"))
LONG = bool(os.environ.get("E2E_LONG"))
SANITIZED = bool(os.environ.get("E2E_SANITIZED"))  # "address,undefined" or "thread"
TSAN = os.environ.get("E2E_SANITIZED") == "thread"
PLUGIN = "test"  # the provider's name in the configurations below


def program(name):
    path = BUILD / name
    if not path.exists():
        raise unittest.SkipTest(f"{path} is not built") if DIRECT else FileNotFoundError(
            f"{path} is not built; set ENVELOPE_BUILD")
    return str(path)


def etcd_program(name):
    for folder in (os.environ.get("ENVELOPE_ETCD_DIR"), ROOT / "build" / "etcd"):
        if folder and (pathlib.Path(folder) / name).exists():
            return str((pathlib.Path(folder) / name).resolve())
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError(f"no {name}: set ENVELOPE_ETCD_DIR, or run tests/run.sh, which gets it")
    return found


PORTS = {}  # port -> the socket that holds its name for this process


def free_port():
    """A port that no other test has, or will get while this process lives: below those that the kernel gives to
    outgoing connections, and claimed by a name (an abstract socket's), so that whoever asked for it may start late."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0etcd-envelope-test-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        PORTS[port] = claim
        return port


def platform_has_cheap_random():
    """getrandom(3) without a system call: glibc 2.41 and Linux 6.11 or newer."""
    libc, linux = platform.libc_ver()[1], platform.release()
    return tuple(map(int, libc.split(".")[:2])) >= (2, 41) and \
        tuple(map(int, linux.split("-")[0].split(".")[:2])) >= (6, 11)


def wait_until(condition, timeout=10, what="condition", step=0.02):
    """Waits for condition() to be true and returns its value; AssertionError after timeout."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {timeout} s")
        time.sleep(step)


class Process:
    """A child with a log file. Ended by its pid, always."""

    def __init__(self, argv, log, env=None, pass_fds=()):
        self.argv = argv
        self.log_path = pathlib.Path(log)
        with open(log, "ab") as f:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                          env={**os.environ, **(env or {})}, cwd=self.log_path.parent,
                                          pass_fds=pass_fds)
        self.pid = self.popen.pid
        atexit.register(self.kill)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        if self.alive():
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()

    def term(self, timeout=15):
        """SIGTERM; returns the exit status."""
        self.popen.terminate()
        return self.popen.wait(timeout)

    def proc_status(self, field):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)

    def rss_mib(self):
        return self.proc_status("VmRSS") / 1024

    def peak_mib(self):
        return self.proc_status("VmHWM") / 1024

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def http_get(address, path, timeout=5, context=None):
    """(status, body) of one HTTP/1.1 GET at (host, port) or a unix socket's path."""
    if isinstance(address, str):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(address)
    elif context:
        connection = http.client.HTTPSConnection(*address, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


class Tls:
    """A certificate authority with a server and a client certificate, all in one folder."""

    def __init__(self, folder, names=("client",)):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self.make("ca", self.ca_key, None, ca=True)
        self.issue("server")
        for name in names:
            self.issue(name)

    def make(self, name, key, issuer, ca=False, life=datetime.timedelta(days=2)):
        """Signs and writes a certificate that is complete in RFC 5280's sense: Python 3.13 insists on it."""
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key())
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(issuer.subject if issuer else subject)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + life)
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                   .add_extension(x509.KeyUsage(
                       digital_signature=True, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
                       key_encipherment=False, data_encipherment=False, key_agreement=False,
                       encipher_only=False, decipher_only=False), critical=True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                   .add_extension(authority, critical=False))
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([
                x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            builder = builder.add_extension(x509.SubjectAlternativeName([
                x509.DNSName("localhost"), x509.DNSName(name),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        certificate = builder.sign(self.ca_key, hashes.SHA256())
        self.path(name + ".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate

    def issue(self, name, key=None, **options):
        key = key or ec.generate_private_key(ec.SECP256R1())
        self.path(name + ".key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.path(name + ".key").chmod(0o600)
        self.make(name, key, self.ca, **options)

    def path(self, name):
        return self.folder / name

    def credentials(self, name="client"):
        """gRPC channel credentials; without a client certificate if name is None."""
        read = lambda n: self.path(n).read_bytes()  # noqa: E731
        if name is None:
            return grpc.ssl_channel_credentials(read("ca.crt"))
        return grpc.ssl_channel_credentials(read("ca.crt"), read(name + ".key"), read(name + ".crt"))


class Etcd:
    """One member, alone in its cluster. urls: what it listens on for clients."""

    def __init__(self, env, name="etcd", tls=None, unix=False, flags=()):
        self.env, self.name = env, name
        self.data = env.path(name + ".data")
        self.port = free_port()
        self.tls = tls
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.urls = [self.url]
        if unix:
            # etcd takes unix://HOST:PORT and makes a socket file of the name HOST:PORT in its folder.
            self.socket = str(env.path(f"localhost:{self.port}"))
            self.urls.append(f"unix://localhost:{self.port}")
        self.flags = list(flags)
        if tls:
            self.flags += ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"),
                           "--trusted-ca-file", tls.path("ca.crt"), "--client-cert-auth"]
        self.start()

    def start(self):
        argv = [etcd_program("etcd"), "--name", self.name, "--data-dir", str(self.data),
                "--listen-client-urls", ",".join(self.urls), "--advertise-client-urls", self.url,
                "--listen-peer-urls", "http://127.0.0.1:0",
                "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
                "--initial-cluster", f"{self.name}=http://127.0.0.1:2380",
                "--log-level", "warn", "--unsafe-no-fsync", *map(str, self.flags)]
        self.process = self.env.start(self.name, argv)
        self.client = Client(f"127.0.0.1:{self.port}", self.tls and self.tls.credentials())
        wait_until(self.is_up, 60, f"answer of {self.name}; log: {self.process.log_path}")

    def is_up(self):
        if not self.process.alive():
            raise AssertionError(f"{self.name} ended:\n{self.process.log()[-2000:]}")
        try:
            self.client.get(b"up", timeout=1)
            return True
        except grpc.RpcError:
            return False

    def stop(self):
        self.client.close()
        self.process.kill()


class Proxy:
    """etcd-envelope serve. `listen` is a list of URLs, a free loopback port by default."""

    def __init__(self, env, servers, config, name="proxy", listen=None, flags=(), tls=None, wait=True,
                 environment=None):
        self.env, self.name, self.tls, self.environment = env, name, tls, environment
        self.servers, self.config = list(servers), config
        self.port, self.metrics_port = free_port(), free_port()
        scheme = "https" if tls else "http"
        self.listen = listen or [f"{scheme}://127.0.0.1:{self.port}"]
        self.address = ("127.0.0.1", self.port)
        self.metrics_address = ("127.0.0.1", self.metrics_port)
        self.target = f"127.0.0.1:{self.port}"
        if listen and listen[0].startswith("unix"):
            self.address = listen[0].split("://", 1)[1]
            self.target = "unix:" + self.address
        self.flags = list(flags)
        self.start(wait)

    def argv(self):
        return [program("etcd-envelope"), "serve", "--listen-client-urls", ",".join(self.listen),
                "--listen-metrics-urls", f"http://127.0.0.1:{self.metrics_port}",
                "--etcd-servers", ",".join(self.servers),
                "--encryption-provider-config", str(self.config), *map(str, self.flags)]

    def start(self, wait=True):
        self.process = self.env.start(self.name, self.argv(), env=self.environment)
        self.client = Client(self.target, self.tls and self.tls.credentials())
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=15):
        """Reads and writes of protected keys work."""
        def ready():
            if not self.process.alive():
                raise AssertionError(f"{self.name} ended:\n{self.process.log()[-2000:]}")
            try:
                self.client.put(b"/registry/secrets/harness/ready", b"ready", timeout=2)
                return True
            except grpc.RpcError as error:
                self.last_error = error
                return False
        try:
            wait_until(ready, timeout, "ready proxy")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; {getattr(self, 'last_error', '')}\n"
                                 f"{self.process.log()[-3000:]}") from None

    def metric(self, name, labels=""):
        """Sum of a metric's samples whose label text contains `labels`; None when there is none."""
        _, body = http_get(self.metrics_address, "/metrics")
        found = [float(line.rsplit(" ", 1)[1]) for line in body.decode().splitlines()
                 if line.split("{")[0].split(" ")[0] == name and labels in line]
        return sum(found) if found else None

    def stop(self):
        self.client.close()
        self.process.kill()


class Env:
    """A folder and the processes that live in it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="envelope-e2e-"))
        self.stack = contextlib.ExitStack()
        self.counter = 0
        self.processes = []

    def path(self, name):
        return self.folder / name

    def start(self, name, argv, **options):
        self.counter += 1
        process = Process([str(a) for a in argv], self.path(f"{self.counter:02}-{name}.log"), **options)
        self.processes.append(process)
        self.stack.callback(process.kill)
        return process

    def close(self):
        self.stack.close()
        if os.environ.get("E2E_KEEP"):
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- the usual pieces ---

    def tls(self, name="tls", names=("client",)):
        return Tls(self.path(name), names)

    def etcd(self, **options):
        etcd = Etcd(self, **options)
        self.stack.callback(etcd.stop)
        return etcd

    def kms(self, name="kms", **options):
        kms = fake_kms.FakeKms(str(self.path(name + ".sock")), **options)
        self.stack.callback(kms.stop)
        return kms

    def config(self, kms_path, resources=("secrets", "configmaps"), identity=False, name="encryption.yaml",
               timeout="3s", provider=PLUGIN):
        providers = f"""
      - kms:
          apiVersion: v2
          name: {provider}
          endpoint: unix://{kms_path}
          timeout: {timeout}"""
        if identity:
            providers += "\n      - identity: {}"
        path = self.path(name)
        path.write_text(f"""apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [{", ".join(repr(r) for r in resources)}]
    providers:{providers}
""")
        return path

    def proxy(self, servers, config, **options):
        if isinstance(servers, Etcd):
            servers = [servers.url]
        proxy = Proxy(self, servers, config, **options)
        self.stack.callback(proxy.stop)
        return proxy

    def client(self, target, credentials=None, **options):
        client = Client(target, credentials, **options)
        self.stack.callback(client.close)
        return client


class E2E(unittest.TestCase):
    """Base of the tests. The class has one etcd, one plugin and one proxy; a test has its own keys."""
    etcd_flags = ()
    proxy_flags = ()
    resources = ("secrets", "configmaps")
    identity = False
    needs_proxy = False  # says nothing in direct mode
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        if DIRECT and cls.needs_proxy:
            raise unittest.SkipTest("needs the proxy")
        cls.env = Env()
        cls.addClassCleanup(cls.env.close)
        cls.start()

    @classmethod
    def start(cls):
        """The usual set-up; a test class with another one overrides this."""
        cls.start_peers()
        if DIRECT:
            cls.proxy = None
            cls.target, cls.address = f"127.0.0.1:{cls.etcd.port}", ("127.0.0.1", cls.etcd.port)
        else:
            cls.proxy = cls.env.proxy(cls.etcd, cls.config, flags=cls.proxy_flags)
            cls.target, cls.address = cls.proxy.target, cls.proxy.address
        cls.client = cls.env.client(cls.target)

    @classmethod
    def start_peers(cls, tls=None):
        """An etcd, a plugin, and a configuration that has cls.resources sealed by it."""
        cls.etcd = cls.env.etcd(flags=cls.etcd_flags, tls=tls)
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path, cls.resources, cls.identity)

    def setUp(self):
        self.name = self.id().split(".")[-1].replace("test_", "")
        if not self.processes_live():
            self.fail("a process of the set-up is gone")

    def tearDown(self):
        proxy = getattr(self, "proxy", None)
        if proxy is not None and not proxy.process.alive():
            self.fail(f"the proxy ended with {proxy.process.popen.returncode}:\n"
                      f"{proxy.process.log()[-3000:]}")

    def processes_live(self):
        return True

    def secret(self, name="a"):
        """A protected key of this test's own."""
        return f"/registry/secrets/{self.name}/{name}".encode()

    def plain(self, name="a"):
        """A key that no configuration of these tests protects."""
        return f"/registry/pods/{self.name}/{name}".encode()

    def assertStatus(self, code, function, *arguments, text=None, **keywords):
        """function(...) fails with this gRPC status; returns its text."""
        try:
            answer = function(*arguments, **keywords)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), code, error.details())
            if text is not None:
                self.assertIn(text, error.details())
            return error.details()
        self.fail(f"no error but {answer!r:.200}; wanted {code}")

    def assertSealed(self, key, value, provider=PLUGIN, raw=None):
        """What lies in etcd is an envelope of this value, made by the rules of the format."""
        if DIRECT:
            return
        stored = (raw or self.raw).value(key)
        self.assertIsNotNone(stored, key)
        self.assertTrue(stored.startswith(b"k8s:enc:kms:v2:" + provider.encode() + b":"), stored[:80])
        if len(value) >= 8:
            self.assertNotIn(value, stored)
        self.assertEqual(envelope.parse(stored, provider).encrypted_dek_source_type, 1)
        self.assertEqual(envelope.unseal(key, stored, provider), value)

    def plant(self, key, value, stored=None, **options):
        """Puts an envelope (or `stored`, any bytes) straight into etcd."""
        self.raw.put(key, envelope.seal(key, value, **options) if stored is None else stored)


class OwnProxies(E2E):
    """The class has one etcd and one plugin; each test starts its own proxies, which end with it."""
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.start_peers()

    def start_proxy(self, servers=None, config=None, kind=Proxy, **options):
        proxy = kind(self.env, servers or [self.etcd.url], config or self.config, name=self.name, **options)
        self.addCleanup(proxy.stop)
        return proxy


def seed_of(name):
    """The random stream of a test, from E2E_SEED. Without it the short suite always takes the same seed, so that a
    failure is the change's; long runs take a fresh one. Printed, so that a failure can be run again."""
    seed = int(os.environ.get("E2E_SEED", random.SystemRandom().randrange(1 << 32) if LONG else 20261127))
    print(f"{name}: E2E_SEED={seed}", file=sys.stderr)
    return random.Random(seed)


def in_threads(count, function):
    """Runs function(i) in `count` threads; returns the results in order, raises the first failure."""
    results, errors = [None] * count, []

    def run(i):
        try:
            results[i] = function(i)
        except BaseException as error:  # noqa: B036 - handed to the caller
            errors.append(error)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def timing(test):
    """Marks a test that asserts an upper bound on time. CTest runs these apart, labelled `timing`: a busy machine can
    make one fail, so CI gives them, and no others, a second try."""
    test.is_timing = True
    return test


class Loader(unittest.TestLoader):
    """Takes what E2E_TIMING asks for."""

    def getTestCaseNames(self, test_class):  # noqa: N802 - unittest's name
        names = super().getTestCaseNames(test_class)
        wanted = {"only": True, "no": False}.get(os.environ.get("E2E_TIMING"))
        return [name for name in names
                if wanted is None or getattr(getattr(test_class, name), "is_timing", False) == wanted]


def main():
    unittest.main(verbosity=2, testLoader=Loader())
