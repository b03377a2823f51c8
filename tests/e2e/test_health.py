#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the metrics listener answers: health in every state of etcd and of the plugins, the configuration without
secrets, and metrics that move with what happens."""
import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import harness
from harness import Code, envelope, http_get, wait_until

VALUE = b"a value for the metrics"
PREFIX = "k8s:enc:kms:v2:test:"


def sha256(text):
    return "sha256:" + hashlib.sha256(text).hexdigest()


def samples(text):
    """{(name, frozenset of label pairs): value} of an exposition."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9_]+)(?:\{(.*)\})? (\S+)", line)
        assert match, line
        labels = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")
        key = match[1], frozenset(labels)
        assert key not in found, line
        found[key] = float(match[3])
    return found


class Admin(harness.E2E):
    needs_proxy = True

    def get(self, path, proxy=None):
        status, body = http_get((proxy or self.proxy).metrics_address, path, timeout=20)
        return status, body.decode()

    def sample(self, name, proxy=None, **labels):
        """Sum of the samples that have these labels, 0 when there are none."""
        status, text = self.get("/metrics", proxy)
        self.assertEqual(status, 200)
        return sum(value for (n, have), value in samples(text).items()
                   if n == name and set(labels.items()) <= have)

    def settle(self):
        """What happened until now is counted."""
        time.sleep(0.5)

    def wait_sample(self, want, name, proxy=None, **labels):
        """Workers hand their counts over within a fifth of a second."""
        try:
            wait_until(lambda: self.sample(name, proxy, **labels) == want, 5)
        except AssertionError:
            self.fail(f"{name}{labels} is {self.sample(name, proxy, **labels)}, not {want}")


class AllWell(Admin):
    def test_paths(self):
        for path in ("/livez", "/readyz", "/healthz", "/livez/ping", "/readyz/ping", "/healthz/ping", "/healthz/etcd",
                     "/readyz/etcd", "/healthz/kms-providers", "/readyz/kms-providers", "/readyz/shutdown"):
            self.assertEqual(self.get(path), (200, "ok"), path)
        for path in ("/index.html", "/healthz/kms-provider-0", "/healthz/nothing", "/livez/etcd", "/livez/kms-providers",
                     "/livezz", "/debug/pprof", "/healthz/shutdown", "/metrics/"):
            self.assertEqual(self.get(path)[0], 404, path)

    def test_verbose(self):
        self.assertEqual(self.get("/livez?verbose"), (200, "[+]ping ok\nlivez check passed\n"))
        self.assertEqual(self.get("/healthz?verbose"), (
            200, "[+]ping ok\n[+]etcd ok\n[+]kms-providers ok\nhealthz check passed\n"))
        self.assertEqual(self.get("/readyz?verbose=true"), (
            200, "[+]ping ok\n[+]etcd ok\n[+]kms-providers ok\n[+]shutdown ok\n[+]shedding ok\nreadyz check passed\n"))

    def test_exclude(self):
        self.assertEqual(self.get("/healthz?verbose&exclude=etcd&exclude=kms-providers"), (
            200, "[+]ping ok\n[+]etcd excluded: ok\n[+]kms-providers excluded: ok\nhealthz check passed\n"))
        self.assertEqual(self.get("/livez?verbose&exclude=etcd&exclude=b"), (
            200, '[+]ping ok\nwarn: some health checks cannot be excluded: no matches for "etcd","b"\n'
                 "livez check passed\n"))
        self.assertEqual(self.get("/livez?exclude=etcd"), (200, "ok"))

    def test_methods(self):
        for method, status in (("HEAD", 200), ("POST", 405), ("DELETE", 405)):
            connection = http.client.HTTPConnection(*self.proxy.metrics_address, timeout=10)
            connection.request(method, "/readyz")
            answer = connection.getresponse()
            self.assertEqual(answer.status, status, method)
            if method == "HEAD":
                self.assertEqual(answer.getheader("content-length"), "2")
            connection.close()

    def test_version(self):
        status, text = self.get("/version")
        self.assertEqual(status, 200)
        says = subprocess.run([harness.program("etcd-envelope"), "version"], capture_output=True, check=True).stdout
        self.assertEqual("etcd-envelope " + json.loads(text)["version"], says.decode().strip())

    def test_configz(self):
        status, text = self.get("/configz")
        self.assertEqual(status, 200)
        for part in (f'config-hash: "{sha256(self.config.read_bytes())}"\n',
                     f'\nsettings:\n  listen-client-urls:\n  - "{self.proxy.listen[0]}"\n',
                     f'\n  etcd-servers:\n  - "{self.etcd.url}"\n',
                     '\nencryption:\n  - resources:\n      - "secrets"\n      - "configmaps"\n    providers:\n'
                     '      - kms:\n          apiVersion: "v2"\n          name: "test"\n'
                     f'          endpoint: "unix://{self.kms.path}"\n'):
            self.assertIn(part, text)

    def test_400_slow_requests(self):
        """They take each other's places, and no probe's."""
        crowd = []

        def come():
            for at in range(100):
                sock = socket.create_connection(self.proxy.metrics_address, timeout=20)
                self.addCleanup(sock.close)
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "[:1 + at % 30])
                crowd.append(sock)
        for _ in range(4):
            come()
            for path in ("/livez", "/readyz", "/metrics"):
                self.assertEqual(self.get(path)[0], 200)
        self.assertEqual(len(crowd), 400)

    def test_several_listeners(self):
        """A unix socket besides TCP."""
        path = str(self.env.path("admin.sock"))
        port = harness.free_port()
        proxy = self.env.proxy(self.etcd, self.config, flags=[
            "--listen-metrics-urls", f"http://127.0.0.1:{port},unix://{path}"])
        self.addCleanup(proxy.stop)
        self.assertEqual(http_get(path, "/readyz"), (200, b"ok"))
        self.assertEqual(http_get(("127.0.0.1", port), "/readyz"), (200, b"ok"))
        self.assertEqual(proxy.process.term(), 0)
        self.assertFalse(os.path.exists(path))

    def test_reachable_by_others(self):
        """Only with client certificates, or when it is said."""
        for flags, status in (([], 2), (["--insecure-listen"], None)):
            proxy = self.env.proxy(self.etcd, self.config, wait=not status, flags=[
                "--listen-metrics-urls", f"http://0.0.0.0:{harness.free_port()}", *flags])
            self.addCleanup(proxy.stop)
            if status:
                self.assertEqual(proxy.process.popen.wait(20), status)
                self.assertIn("--insecure-listen", proxy.process.log())


class States(Admin):
    """Every test has its own plugin and proxy."""

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def setUp(self):
        super().setUp()
        self.kms = self.env.kms(name=self.name[:30])
        self.addCleanup(self.kms.stop)
        self.config = self.env.config(self.kms.path, name=self.name + ".yaml", timeout="1s")

    def start_proxy(self, config=None, servers=None, **options):
        proxy = self.env.proxy(servers or self.etcd, config or self.config, name=self.name, **options)
        self.addCleanup(proxy.stop)
        wait_until(lambda: self.listens(proxy), 10, "listening proxy")
        return proxy

    def listens(self, proxy):
        try:
            return self.get("/livez", proxy) == (200, "ok")
        except OSError:
            return False

    def assertFails(self, proxy, check, *reasons):
        status, text = self.get("/readyz", proxy)
        self.assertEqual(status, 500, text)
        line = [each for each in text.splitlines() if each.startswith(f"[-]{check} failed: ")]
        self.assertEqual(len(line), 1, text)
        self.assertTrue(text.endswith("readyz check failed\n"), text)
        status, text = self.get(f"/healthz/{check}", proxy)
        self.assertEqual(status, 500)
        self.assertTrue(text.startswith("internal server error: "), text)
        for reason in reasons:
            self.assertIn(reason, text)
            self.assertIn(reason, line[0])
        self.assertEqual(self.get("/livez?verbose", proxy), (200, "[+]ping ok\nlivez check passed\n"))
        self.assertEqual(self.get(f"/readyz?exclude={check}", proxy), (200, "ok"))

    def test_plugin_away_at_the_start(self):
        self.kms.stop()
        proxy = self.start_proxy(wait=False)
        self.assertFails(proxy, "kms-providers", "failed to perform status section of the healthz check for KMS "
                         "Provider test, error: rpc error: code = DeadlineExceeded", "connect: No such file")
        self.assertIn("the file is open to others (mode 0644)", proxy.process.log())
        self.assertGreater(self.sample("apiserver_envelope_encryption_kms_operations_latency_seconds_count", proxy,
                                       grpc_status_code="DeadlineExceeded"), 0)
        self.assertEqual(self.sample("etcd_envelope_kms_healthy", proxy), 0)
        self.kms.start()
        # A bad result counts for 3 s, then a probe alone finds out, before the next poll, and readies the key.
        wait_until(lambda: self.get("/readyz", proxy)[0] == 200, 6, "ready proxy")
        proxy.client.put(self.secret(), VALUE, timeout=2)
        self.assertEqual(self.sample("etcd_envelope_kms_healthy", proxy), 1)

    def test_plugin_goes_later(self):
        proxy = self.start_proxy()
        self.assertEqual(self.get("/readyz", proxy), (200, "ok"))
        self.kms.stop()
        self.assertEqual(self.get("/readyz", proxy), (200, "ok"), "a good result counts for 20 s")
        wait_until(lambda: self.get("/readyz", proxy)[0] == 500, 30, "failing check", step=0.5)
        self.assertFails(proxy, "kms-providers", "Provider test", "connect: ")
        proxy.client.put(self.secret(), VALUE, timeout=2)  # writes go on for 3 minutes
        self.kms.start()
        wait_until(lambda: self.get("/readyz", proxy)[0] == 200, 6, "ready proxy")

    def test_plugin_that_says_it_is_unwell(self):
        self.kms.healthz = "a disk is full"
        proxy = self.start_proxy()
        self.assertFails(proxy, "kms-providers", "kmsv2 Provider test is not healthy, error: ", "a disk is full")

    def test_second_of_two_plugins(self):
        away = str(self.env.path("away.sock"))
        config = self.env.path(self.name + "-two.yaml")
        kms = "      - kms: {{apiVersion: v2, name: {}, endpoint: 'unix://{}', timeout: 500ms}}\n"
        config.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                          "  - resources: [secrets]\n    providers:\n"
                          + kms.format("test", self.kms.path) + kms.format("gone", away) + kms.format("absent", away))
        proxy = self.start_proxy(config)
        self.assertFails(proxy, "kms-providers", "[kms-provider-1: failed to perform status section", "Provider gone",
                         ", kms-provider-2: ", "Provider absent")
        self.assertNotIn("kms-provider-0", self.get("/readyz", proxy)[1])
        self.assertEqual(self.sample("etcd_envelope_kms_healthy", proxy, provider_name="test"), 1)
        self.assertEqual(self.sample("etcd_envelope_kms_healthy", proxy, provider_name="gone"), 0)

    def test_etcd_goes_and_comes(self):
        etcd = self.env.etcd(name="mortal")
        proxy = self.start_proxy(servers=[etcd.url])
        self.assertEqual(self.get("/readyz", proxy), (200, "ok"))
        self.assertEqual(self.sample("etcd_envelope_etcd_healthy", proxy), 1)
        etcd.process.kill()
        wait_until(lambda: self.get("/readyz", proxy)[0] == 500, 6, "failing check")
        self.assertFails(proxy, "etcd", f"{etcd.url}: rpc error: code = Unavailable", "Connection refused")
        self.assertEqual(self.sample("etcd_envelope_etcd_healthy", proxy), 0)
        etcd.start()
        wait_until(lambda: self.get("/readyz", proxy)[0] == 200, 6, "ready proxy")

    @harness.timing
    def test_etcd_that_hangs(self):
        etcd = self.env.etcd(name="hanging")
        proxy = self.start_proxy(servers=[etcd.url])
        self.assertEqual(self.get("/healthz/etcd", proxy), (200, "ok"))
        time.sleep(1.1)
        etcd.process.signal(signal.SIGSTOP)
        started = time.monotonic()
        wait_until(lambda: self.get("/readyz", proxy)[0] == 500, 8, "failing check")  # 200: of a check just before
        self.assertFails(proxy, "etcd", "code = DeadlineExceeded")
        self.assertLess(time.monotonic() - started, 8)
        etcd.process.signal(signal.SIGCONT)
        wait_until(lambda: self.get("/healthz/etcd", proxy)[0] == 200, 6, "healthy etcd")

    def test_one_of_two_servers_is_enough(self):
        dead = f"http://127.0.0.1:{harness.free_port()}"
        proxy = self.start_proxy(servers=[dead, self.etcd.url])
        self.assertEqual(self.get("/healthz/etcd", proxy), (200, "ok"))

    def test_without_a_plugin(self):
        """No KMS check, but with automatic reload one that a plugin may come to."""
        config = self.env.path(self.name + "-local.yaml")
        secret = base64.b64encode(os.urandom(32)).decode()
        config.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                          "  - resources: [secrets]\n    providers:\n"
                          f"      - aesgcm: {{keys: [{{name: first, secret: {secret}}}]}}\n")
        proxy = self.start_proxy(config)
        self.assertEqual(self.get("/healthz/kms-providers", proxy)[0], 404)
        self.assertEqual(self.get("/healthz?verbose", proxy)[1], "[+]ping ok\n[+]etcd ok\nhealthz check passed\n")
        text = self.get("/configz", proxy)[1]
        self.assertNotIn(secret, text)
        self.assertIn('      - aesgcm:\n          keys:\n            - name: "first"\n'
                      '              secret: "(redacted)"\n', text)
        proxy.client.put(self.secret(), VALUE)
        self.assertEqual(proxy.client.value(self.secret()), VALUE)
        # As kube-apiserver counts: under the provider's prefix, and once more under the key's.
        for prefix, writes in (("k8s:enc:aesgcm:v1:", 2), ("first:", 2)):
            name = "apiserver_storage_transformation_operations_total"
            self.wait_sample(writes, name, proxy, transformer_prefix=prefix, transformation_type="to_storage")
            self.wait_sample(1, name, proxy, transformer_prefix=prefix, transformation_type="from_storage",
                             resource="secrets", status="OK")
        self.assertNotIn("key_id_hash_total", self.get("/metrics", proxy)[1])
        reloading = self.start_proxy(config, flags=["--encryption-provider-config-automatic-reload"])
        self.assertEqual(self.get("/healthz/kms-providers", reloading), (200, "ok"))

    def test_shutting_down(self):
        """While a call is being finished the listener is there, alive and not ready."""
        proxy = self.start_proxy()
        key = self.secret("cold")
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 0.8
        got = []
        reader = threading.Thread(target=lambda: got.append(proxy.client.value(key)))
        reader.start()
        wait_until(lambda: self.kms.in_flight["Decrypt"] or self.kms.calls["Decrypt"], 5, "call")
        proxy.process.signal(signal.SIGTERM)
        wait_until(lambda: "shutting down" in proxy.process.log(), 5, "drain")
        status, text = self.get("/readyz", proxy)
        self.assertEqual((status, "[-]shutdown failed: process is shutting down" in text), (500, True), text)
        self.assertEqual(self.get("/livez", proxy), (200, "ok"))
        reader.join()
        self.assertEqual(got, [VALUE])
        self.assertEqual(proxy.process.popen.wait(10), 0)


class Secured(Admin):
    @classmethod
    def start(cls):
        cls.tls = cls.env.tls()
        cls.etcd = cls.env.etcd(tls=cls.tls)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        path = cls.tls.path
        cls.https = harness.free_port()
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, tls=cls.tls, flags=[
            "--cert-file", path("server.crt"), "--key-file", path("server.key"), "--trusted-ca-file", path("ca.crt"),
            "--etcd-cafile", path("ca.crt"), "--etcd-certfile", path("client.crt"), "--etcd-keyfile",
            path("client.key"), "--listen-metrics-urls", f"https://127.0.0.1:{cls.https}"])

    def context(self, certificate=True):
        context = ssl.create_default_context(cafile=str(self.tls.path("ca.crt")))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if certificate:
            context.load_cert_chain(str(self.tls.path("client.crt")), str(self.tls.path("client.key")))
        return context

    def test_https(self):
        """http/1.1 also for a client that offers h2, and only with a certificate."""
        self.assertEqual(http_get(("127.0.0.1", self.https), "/readyz", context=self.context()), (200, b"ok"))
        with self.assertRaises((ssl.SSLError, OSError)):
            http_get(("127.0.0.1", self.https), "/readyz", context=self.context(False))

    def test_certificate_expiry(self):
        text = http_get(("127.0.0.1", self.https), "/metrics", context=self.context())[1].decode()
        for name in ("server", "etcd_client"):
            found = samples(text)["etcd_envelope_certificate_expiry_timestamp_seconds",
                                  frozenset([("certificate", name)])]
            self.assertAlmostEqual(found, time.time() + 2 * 86400, delta=600)


class Metrics(Admin):
    identity = True

    def test_values(self):
        name = "apiserver_storage_transformation_operations_total"
        for i in range(5):
            self.client.put(self.secret(str(i)), VALUE)
        self.client.put(b"/registry/configmaps/metrics/a", VALUE)
        self.client.list(self.secret(""))
        self.settle()
        # Those that failed are not among them: the first writes may have met a proxy that had no key yet.
        sealed = {"resource": "secrets", "transformation_type": "to_storage", "transformer_prefix": PREFIX,
                  "status": "OK"}
        before = self.sample(name, **sealed)
        self.client.put(self.secret("more"), VALUE)
        self.wait_sample(before + 1, name, **sealed)
        self.wait_sample(1, name, resource="configmaps")
        opened = self.sample(name, transformation_type="from_storage", transformer_prefix=PREFIX, status="OK")
        self.assertGreaterEqual(opened, 5)
        count = "apiserver_storage_transformation_duration_seconds_count"
        self.wait_sample(opened, count, transformation_type="from_storage", transformer_prefix=PREFIX)
        self.wait_sample(self.sample(name, transformation_type="to_storage", status="OK"), count,
                         transformation_type="to_storage")

    def test_key_ids(self):
        self.client.put(self.secret(), VALUE)
        self.client.get(self.secret())
        labels = {"provider_name": "test", "key_id_hash": sha256(b"key-1"),
                  "apiserver_id_hash": sha256(os.uname().nodename.encode())}
        for kind in ("to_storage", "from_storage"):
            wait_until(lambda k=kind: self.sample("apiserver_envelope_encryption_key_id_hash_total",
                                                  transformation_type=k, **labels) > 0, 5, kind)
            self.assertAlmostEqual(self.sample("apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
                                               transformation_type=kind, **labels), time.time(), delta=30)
        self.assertAlmostEqual(self.sample(
            "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds", **labels), time.time(), delta=120)

    def test_plugin_calls(self):
        latency = "apiserver_envelope_encryption_kms_operations_latency_seconds_count"
        for method in ("Status", "Encrypt"):
            self.assertGreaterEqual(self.sample(latency, provider_name="test", grpc_status_code="OK",
                                                method_name="/v2.KeyManagementService/" + method), 1)
        self.assertEqual(self.sample("apiserver_storage_data_key_generation_duration_seconds_count"), 1)
        self.settle()
        misses = self.sample("apiserver_storage_envelope_transformation_cache_misses_total")
        calls = self.sample(latency, method_name="/v2.KeyManagementService/Decrypt", grpc_status_code="OK")
        size = self.sample("apiserver_envelope_encryption_dek_source_cache_size", provider_name="test")
        for name in "abc":
            key = self.secret(name)
            self.raw.put(key, envelope.seal(key, VALUE))
            self.assertEqual(self.client.value(key), VALUE)
            self.assertEqual(self.client.value(key), VALUE)
        self.wait_sample(calls + 3, latency, method_name="/v2.KeyManagementService/Decrypt", grpc_status_code="OK")
        self.wait_sample(misses + 3, "apiserver_storage_envelope_transformation_cache_misses_total")
        self.wait_sample(size + 3, "apiserver_envelope_encryption_dek_source_cache_size", provider_name="test")

    def test_plain_and_broken_values(self):
        name = "apiserver_storage_transformation_operations_total"
        clear, broken, foreign = self.secret("clear"), self.secret("broken"), self.secret("foreign")
        self.settle()
        identity = self.sample(name, transformer_prefix="identity")
        reads = self.sample("etcd_envelope_identity_reads_total")
        self.raw.put(clear, b"plain")
        self.assertEqual(self.client.value(clear), b"plain")
        self.wait_sample(identity + 1, name, transformer_prefix="identity", transformation_type="from_storage",
                         status="OK", resource="secrets")
        self.wait_sample(reads + 1, "etcd_envelope_identity_reads_total")
        self.client.put(broken, VALUE)
        stored = bytearray(self.raw.value(broken))
        stored[len(PREFIX) + 60] ^= 1
        self.raw.put(broken, bytes(stored))
        refused = self.sample("etcd_envelope_refused_total", reason="auth_failed")
        self.assertStatus(Code.DATA_LOSS, self.client.get, broken)
        self.wait_sample(1, name, transformer_prefix=PREFIX, status="unknown-non-grpc", resource="secrets",
                         transformation_type="from_storage")
        self.wait_sample(refused + 1, "etcd_envelope_refused_total", reason="auth_failed")
        self.raw.put(foreign, b"k8s:enc:kms:v2:other:xx")
        self.assertStatus(Code.DATA_LOSS, self.client.get, foreign)
        self.wait_sample(1, name, transformer_prefix="unknown", status="unknown-non-grpc")

    def test_calls(self):
        calls, added = "etcd_envelope_grpc_calls_total", "etcd_envelope_added_latency_seconds_count"
        put, txn = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"
        self.client.put(self.plain(), b"x")
        self.settle()
        ok, times = self.sample(calls, grpc_method=put, grpc_code="OK"), self.sample(added, grpc_method=put)
        for _ in range(3):
            self.client.put(self.plain(), b"x")
        self.wait_sample(ok + 3, calls, grpc_method=put, grpc_code="OK")
        self.wait_sample(times + 3, added, grpc_method=put)
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, b"", b"x")
        self.wait_sample(1, calls, grpc_method=put, grpc_code="InvalidArgument")
        self.assertStatus(Code.UNIMPLEMENTED, self.client.unary, "/some.Service/Method", b"", bytes)
        self.wait_sample(1, calls, grpc_method="unknown", grpc_code="Unimplemented")
        self.assertEqual(self.sample(calls, grpc_method=txn), 0)
        watch = self.client.watch(self.plain())
        self.assertEqual(self.sample(calls, grpc_method="/etcdserverpb.Watch/Watch"), 0)
        watch.cancel()
        self.wait_sample(1, calls, grpc_method="/etcdserverpb.Watch/Watch", grpc_code="Canceled")

    def test_process(self):
        self.assertGreater(self.sample("process_resident_memory_bytes"), 1 << 20)
        # One more than now, the asking connection; that of the last asking may still be closing.
        harness.wait_until(lambda: self.sample("process_open_fds") == self.proxy.process.fd_count() + 1, 5,
                           "the number of open descriptors")
        self.assertGreater(self.sample("process_cpu_seconds_total"), 0)
        self.assertAlmostEqual(self.sample("process_start_time_seconds"), time.time(), delta=600)
        self.assertEqual(self.sample("etcd_envelope_build_info"), 1)
        self.assertGreaterEqual(self.sample("etcd_envelope_links"), 1)
        digest = sha256(self.config.read_bytes())
        self.assertEqual(self.sample("etcd_envelope_config_info", hash=digest), 1)
        self.assertEqual(self.sample("apiserver_encryption_config_controller_last_config_info", hash=digest), 1)

    def test_held_bytes(self):
        wait_until(lambda: self.sample("etcd_envelope_held_bytes") < 1 << 20, 5, "idle proxy")
        self.client.put(self.plain(), b"x" * 1000000)
        wait_until(lambda: self.sample("etcd_envelope_held_bytes") < 1 << 20, 5, "memory given back")


class Reloads(Admin):
    def test_counters_and_hash(self):
        name = "apiserver_encryption_config_controller_automatic_reloads_total"
        self.assertEqual(self.sample(name), 0)
        good = self.config.read_text()
        self.config.write_text("nonsense")
        self.proxy.process.signal(signal.SIGHUP)
        self.wait_sample(1, name, status="failure")
        old = self.sample("etcd_envelope_config_info", hash=sha256(good.encode()))
        self.assertEqual(old, 1)
        self.config.write_text(good + "# changed\n")
        self.proxy.process.signal(signal.SIGHUP)
        self.wait_sample(1, name, status="success")
        digest = sha256(self.config.read_bytes())
        self.wait_sample(1, "etcd_envelope_config_info", hash=digest)
        self.wait_sample(1, "apiserver_encryption_config_controller_last_config_info")
        self.assertAlmostEqual(self.sample(
            "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds", status="success"),
            time.time(), delta=60)
        self.assertTrue(self.get("/configz")[1].startswith(f'config-hash: "{digest}"\n'))
        self.assertEqual(self.get("/readyz"), (200, "ok"))
        self.client.put(self.secret(), VALUE)
        self.assertEqual(self.client.value(self.secret()), VALUE)


if __name__ == "__main__":
    harness.main()
