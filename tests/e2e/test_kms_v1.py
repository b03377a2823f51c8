#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""KMS v1, where every value has a DEK of its own that the plugin wraps: a write waits for the plugin, and is refused
when it does not come; old values are read; the way from v1 to v2."""
import base64
import signal
import time

import harness  # first: it sets the path to tests/fake
from client import prefix_end
from harness import Code, envelope, in_threads, wait_until
from protos import rpc

VALUE = b"plaintext that must stay out of etcd"
V1_WRITES = ["--allow-kms-v1-writes"]


class KmsV1(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def setUp(self):
        super().setUp()
        self.count = 0
        self.kms = self.env.kms(name=self.name[:30])
        self.addCleanup(self.kms.stop)

    def entry(self, name="old", version="v1", **more):
        more = "".join(f", {key}: {value}" for key, value in more.items())
        return f"kms: {{apiVersion: {version}, name: {name}, endpoint: 'unix://{self.kms.path}'{more}}}"

    def start_proxy(self, *providers, flags=(), wait=True):
        self.count += 1
        config = self.env.path(f"{self.name}{self.count}.yaml")
        config.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                          "- resources: [secrets]\n  providers:\n" + "".join(f"  - {p}\n" for p in providers))
        config.chmod(0o600)
        proxy = self.env.proxy(self.etcd, config, name=f"{self.name}{self.count}", flags=flags, wait=wait)
        self.addCleanup(proxy.stop)
        return proxy

    def assertNothingClear(self):
        for record in self.raw.list(b"/registry/secrets/").kvs:
            self.assertTrue(record.value.startswith(b"k8s:enc:kms:"), record.key)


class Writes(KmsV1):
    def test_one_key_for_each_value(self):
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES)
        before = self.kms.calls["v1.Encrypt"]  # the health check of the start
        deks = set()
        for i, size in enumerate((0, 1, 100, 70000, 1000000)):
            key, value = self.secret(str(i)), bytes(size)
            proxy.client.put(key, value)
            opened, dek = envelope.unseal_v1(key, self.raw.value(key))
            self.assertEqual(opened, value)
            self.assertEqual(len(dek), 32)
            deks.add(dek)
            self.assertEqual(proxy.client.value(key), value)
        self.assertEqual(len(deks), 5)
        self.assertEqual(self.kms.calls["v1.Encrypt"] - before, 5)
        self.assertEqual(self.kms.calls["v1.Version"], 1)
        self.assertEqual(self.kms.calls["v1.Decrypt"], 1)  # the check's: what was written is in the cache

    @harness.timing
    def test_the_keys_of_a_txn_are_asked_for_at_once(self):
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES)
        self.kms.delay["v1.Encrypt"] = 0.3
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=self.secret(str(i)), value=VALUE + b"%d" % i))
                for i in range(10)]
        began = time.monotonic()
        proxy.client.txn(success=puts)
        self.assertLess(time.monotonic() - began, 2.5)
        self.assertGreater(self.kms.max_in_flight["v1.Encrypt"], 5)
        for i in range(10):
            self.assertEqual(envelope.unseal_v1(self.secret(str(i)), self.raw.value(self.secret(str(i))))[0],
                             VALUE + b"%d" % i)

    def test_many_writers(self):
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES + ["--workers", "3"])
        self.kms.delay["v1.Encrypt"] = 0.002

        def work(n):
            client = self.env.client(proxy.target)
            for i in range(20):
                client.put(self.secret(f"{n}-{i}"), VALUE)
        in_threads(10, work)
        for record in self.raw.list(self.secret("")).kvs:
            self.assertEqual(envelope.unseal_v1(record.key, record.value)[0], VALUE)
        self.assertEqual(len(self.raw.list(self.secret("")).kvs), 200)

    @harness.timing
    def test_plugin_away_or_unwilling(self):
        """A write is refused within the plugin's timeout, and not sent to etcd."""
        proxy = self.start_proxy(self.entry(timeout="1s"), flags=V1_WRITES)
        proxy.client.put(self.secret("first"), VALUE)
        self.kms.error["v1.Encrypt"] = (Code.INTERNAL, "no")
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, text="nothing was written")
        self.kms.error.clear()
        self.kms.stop()
        began = time.monotonic()
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, text="nothing was written")
        self.assertLess(time.monotonic() - began, 4)
        self.assertIsNone(self.raw.value(self.secret()))
        self.assertEqual(proxy.client.value(self.secret("first")), VALUE)  # its key is cached
        proxy.client.put(self.plain(), VALUE)
        self.kms.start()
        wait_until(lambda: self.writes(proxy), 10, "writing again")
        self.assertNothingClear()

    def writes(self, proxy):
        try:
            proxy.client.put(self.secret(), VALUE)
            return True
        except harness.grpc.RpcError:
            return False

    def test_a_plugin_that_wraps_nothing(self):
        """Refused write by write, and by the health check, which has a secret like a write's wrapped."""
        port = harness.free_port()
        metrics = ["--listen-metrics-urls", f"http://127.0.0.1:{port}"]
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES + metrics)
        for wrapping in (bytes, lambda dek: b"mark" + dek, base64.b64encode):
            self.kms.wrapping = wrapping
            self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, text="dek_source_exposed")
        self.assertIn("the answer of Encrypt holds the DEK source itself", proxy.process.log())
        self.assertIsNone(self.raw.value(self.secret()))
        self.kms.wrapping = None
        proxy.client.put(self.secret(), VALUE)
        self.kms.wrapping = bytes
        ill = self.start_proxy(self.entry(), flags=V1_WRITES, wait=False)
        wait_until(lambda: "KMS check failed" in ill.process.log(), 10, "a check")
        self.assertIn("the answer of Encrypt holds the DEK source itself", ill.process.log())
        status, body = harness.http_get(ill.metrics_address, "/healthz/kms-provider-0")
        self.assertEqual(status, 500)
        self.assertGreaterEqual(ill.metric("etcd_envelope_refused_total", 'reason="dek_source_exposed"'), 1)
        self.assertNothingClear()

    def test_calls_that_end_while_they_wait(self):
        """The client gives up, or goes, while its key is on the way."""
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES)
        self.kms.delay["v1.Encrypt"] = 0.5
        for i in range(20):
            self.assertStatus(Code.DEADLINE_EXCEEDED, proxy.client.put, self.secret(str(i)), VALUE,
                              timeout=0.01 * (1 + i % 5))
        gone = harness.Client(proxy.target)
        pending = [gone.start("/etcdserverpb.KV/Put", rpc.PutRequest(key=self.secret(f"g{i}"), value=VALUE))
                   for i in range(20)]
        time.sleep(0.1)
        for call in pending[:10]:
            call.cancel()
        gone.close()
        self.kms.delay.clear()
        time.sleep(0.7)
        proxy.client.put(self.secret("after"), VALUE)
        self.assertEqual([kv.key for kv in self.raw.list(self.secret("")).kvs], [self.secret("after")])

    def test_ending_while_a_write_waits(self):
        """A drain lets it finish."""
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES)
        self.kms.delay["v1.Encrypt"] = 1
        call = proxy.client.start("/etcdserverpb.KV/Put", rpc.PutRequest(key=self.secret(), value=VALUE))
        time.sleep(0.2)
        self.assertEqual(proxy.process.term(), 0)
        call.result(5)
        self.assertEqual(envelope.unseal_v1(self.secret(), self.raw.value(self.secret()))[0], VALUE)

    def test_must_be_allowed(self):
        proxy = self.start_proxy(self.entry(), wait=False)
        self.assertEqual(proxy.process.popen.wait(10), 1)
        self.assertIn("--allow-kms-v1-writes", proxy.process.log())


class Reads(KmsV1):
    v2 = "new", "v2"

    def test_old_values(self):
        """One Decrypt for a DEK, however many read at once; then from the cache."""
        for i in range(20):
            self.plant(self.secret(str(i)), None, stored=envelope.seal_v1(self.secret(str(i)), VALUE))
        proxy = self.start_proxy(self.entry(*self.v2), self.entry())
        before = self.kms.calls["v1.Decrypt"]
        self.kms.delay["v1.Decrypt"] = 0.1
        answers = in_threads(8, lambda _: proxy.client.get(self.secret(""), prefix_end(self.secret(""))))
        for answer in answers:
            self.assertEqual([kv.value for kv in answer.kvs], [VALUE] * 20)
        self.assertEqual(self.kms.calls["v1.Decrypt"] - before, 20)
        self.assertGreater(self.kms.max_in_flight["v1.Decrypt"], 5)
        self.assertEqual(self.kms.calls["v1.Version"], 1)

    def test_cache_off(self):
        self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), VALUE))
        proxy = self.start_proxy(self.entry(*self.v2), self.entry(cachesize=-1))
        before = self.kms.calls["v1.Decrypt"]
        for _ in range(3):
            self.assertEqual(proxy.client.value(self.secret()), VALUE)
        self.assertEqual(self.kms.calls["v1.Decrypt"] - before, 3)

    def test_cache_is_bounded(self):
        for i in range(4):
            self.plant(self.secret(str(i)), None, stored=envelope.seal_v1(self.secret(str(i)), VALUE))
        proxy = self.start_proxy(self.entry(*self.v2), self.entry(cachesize=2), flags=["--workers", "1"])
        before = self.kms.calls["v1.Decrypt"]
        for _ in range(2):
            for i in range(4):
                self.assertEqual(proxy.client.value(self.secret(str(i))), VALUE)
        self.assertEqual(self.kms.calls["v1.Decrypt"] - before, 8)
        for i in (2, 3):
            self.assertEqual(proxy.client.value(self.secret(str(i))), VALUE)
        self.assertEqual(self.kms.calls["v1.Decrypt"] - before, 8)

    def test_a_huge_bound_costs_nothing(self):
        """cachesize is a bound, not an allocation: the largest that kube-apiserver takes is taken, too."""
        self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), VALUE))
        usual = self.start_proxy(self.entry(*self.v2), self.entry())
        proxy = self.start_proxy(self.entry(*self.v2), self.entry(cachesize=2147483647))
        before = self.kms.calls["v1.Decrypt"]
        for _ in range(2):
            self.assertEqual(proxy.client.value(self.secret()), VALUE)
        self.assertEqual(self.kms.calls["v1.Decrypt"] - before, 1)
        if not harness.SANITIZED:
            self.assertLess(proxy.process.rss_mib(), usual.process.rss_mib() + 4)

    def test_migration(self):
        """v2 before v1 on one socket: old values are read, what is written is v2's."""
        self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), VALUE))
        proxy = self.start_proxy(self.entry(*self.v2), self.entry())
        self.assertEqual(proxy.client.value(self.secret()), VALUE)
        proxy.client.put(self.secret(), VALUE)
        self.assertSealed(self.secret(), VALUE, provider="new")
        only_v2 = self.start_proxy(self.entry(*self.v2))
        self.assertEqual(only_v2.client.value(self.secret()), VALUE)

    def test_cbc_values_on_demand(self):
        key = self.secret()
        self.plant(key, None, stored=envelope.seal_v1(key, VALUE, cbc=True))
        proxy = self.start_proxy(self.entry(*self.v2), self.entry())
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, key)
        proxy = self.start_proxy(self.entry(*self.v2), self.entry(), flags=["--kms-v1-cbc-reads"])
        self.assertEqual(proxy.client.value(key), VALUE)
        self.plant(key, None, stored=envelope.seal_v1(key, VALUE))
        self.assertEqual(proxy.client.value(key), VALUE)

    def test_bad_values(self):
        proxy = self.start_proxy(self.entry(*self.v2), self.entry())
        good = envelope.seal_v1(self.secret("other"), VALUE)
        head = len(b"k8s:enc:kms:v1:old:")
        for i, stored in enumerate((good, good[:-1], good[:head], good[:head + 1], good[:head + 2], good[:head + 40],
                                    good[:-1] + bytes([good[-1] ^ 1]), good[:head + 5] + b"x" + good[head + 6:],
                                    good[:head] + b"\xff\xff" + good[head + 2:])):
            with self.subTest(i=i):
                self.plant(self.secret(str(i)), None, stored=stored)
                self.assertStatus(Code.DATA_LOSS, proxy.client.get, self.secret(str(i)), text=str(i))

    def test_watch(self):
        """Events of v1 values are opened in order; one that does not open ends its watch."""
        proxy = self.start_proxy(self.entry(), flags=V1_WRITES)
        watch = proxy.client.watch(self.secret(""), prefix_end(self.secret("")), prev_kv=True)
        for i in range(5):
            self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), b"%d" % i))
        events = watch.events(5)
        self.assertEqual([e.kv.value for e in events], [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual(events[-1].prev_kv.value, b"3")
        self.plant(self.secret("other"), None, stored=envelope.seal_v1(self.secret("elsewhere"), VALUE))
        answer = watch.next()
        self.assertTrue(answer.canceled)
        self.assertIn(self.secret("other").decode(), answer.cancel_reason)
        self.assertEqual(len(answer.events), 0)
        watch.cancel()


class Plugin(KmsV1):
    def test_a_plugin_that_hangs_was_healthy_before(self):
        """A read that waits out its time says that the plugin is away; that it never was healthy only when that is so."""
        self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), VALUE))
        proxy = self.start_proxy(self.entry(*Reads.v2), self.entry())
        self.kms.delay["v1.Decrypt"] = 30
        began = time.monotonic()
        self.assertStatus(Code.FAILED_PRECONDITION, proxy.client.get, self.secret(), timeout=20, text="(kms_away)")
        self.assertGreater(time.monotonic() - began, 9)
        self.assertNotIn("no_state", proxy.process.log())
        self.assertEqual(proxy.metric("etcd_envelope_refused_total", 'reason="no_state"'), 0)
        self.assertEqual(proxy.metric("etcd_envelope_refused_total", 'reason="kms_away"'), 1)
        self.kms.delay["v1.Version"] = 30
        never = self.start_proxy(self.entry(*Reads.v2), self.entry(), wait=False)
        wait_until(lambda: self.answers(never), 10, "listening proxy")
        self.assertStatus(Code.FAILED_PRECONDITION, never.client.get, self.secret(), timeout=20, text="(no_state)")
        self.assertEqual(never.metric("etcd_envelope_refused_total", 'reason="no_state"'), 1)

    def test_reload_does_not_put_it_first(self):
        """The old set stays in force, and the log names the flag."""
        proxy = self.start_proxy(self.entry("new", "v2"), self.entry())
        text = proxy.config.read_text()
        v2, v1 = [line for line in text.splitlines() if "kms:" in line]
        proxy.config.write_text(text.replace(v2, "X").replace(v1, v2).replace("X", v1))
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "reload failed" in proxy.process.log(), 5, "refusal")
        self.assertIn("--allow-kms-v1-writes", proxy.process.log())
        proxy.client.put(self.secret(), VALUE)
        self.assertSealed(self.secret(), VALUE, provider="new")

    def test_comes_later(self):
        """Not there at the start: what waits is answered soon after it comes, without a poll."""
        self.plant(self.secret(), None, stored=envelope.seal_v1(self.secret(), VALUE))
        self.kms.stop()
        proxy = self.start_proxy(self.entry(timeout="1s"), flags=V1_WRITES, wait=False)
        wait_until(lambda: self.answers(proxy), 10, "listening proxy")
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret("w"), VALUE)
        reader = proxy.client.start("/etcdserverpb.KV/Range", rpc.RangeRequest(key=self.secret()), rpc.RangeResponse)
        time.sleep(0.5)
        self.kms.start()
        self.assertEqual(reader.result(8).kvs[0].value, VALUE)
        proxy.client.put(self.secret("w"), VALUE)
        self.assertEqual(self.kms.calls["v1.Version"], 1)
        self.assertNothingClear()

    def answers(self, proxy):
        try:
            proxy.client.get(b"/unprotected", timeout=1)
            return True
        except harness.grpc.RpcError:
            return False

    def test_another_version(self):
        self.kms.v1_version = "v1"
        proxy = self.start_proxy(self.entry(timeout="1s"), flags=V1_WRITES, wait=False)
        wait_until(lambda: self.answers(proxy), 10, "listening proxy")
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE)
        self.assertEqual(self.kms.calls["v1.Encrypt"], 0)
        self.assertIn("only v1beta1 is supported", proxy.process.log())
        self.assertIsNone(self.raw.value(self.secret()))

    def test_health_has_a_check_for_each(self):
        port = harness.free_port()
        metrics = ["--listen-metrics-urls", f"http://127.0.0.1:{port}"]
        proxy = self.start_proxy(self.entry(*Reads.v2), self.entry(), flags=metrics)

        def get(path):
            return harness.http_get(("127.0.0.1", port), path)
        wait_until(lambda: get("/readyz")[0] == 200, 5, "ready")
        for path in ("/healthz/kms-provider-0", "/healthz/kms-provider-1"):
            self.assertEqual(get(path)[0], 200, path)
        self.assertEqual(get("/healthz/kms-providers")[0], 404)
        self.assertEqual(self.kms.calls["v1.Decrypt"], 1)
        self.kms.error["v1.Decrypt"] = (Code.INTERNAL, "broken")
        time.sleep(0.1)
        self.assertEqual(get("/healthz/kms-provider-1")[0], 200)  # a good result is kept for 20 s
        proxy.client.put(self.secret(), VALUE)

    def test_bad_health(self):
        self.kms.error["v1.Encrypt"] = (Code.INTERNAL, "broken")
        port = harness.free_port()
        self.start_proxy(self.entry(*Reads.v2), self.entry(), flags=["--listen-metrics-urls", f"http://127.0.0.1:{port}"])

        def get(path):
            return harness.http_get(("127.0.0.1", port), path)
        wait_until(lambda: get("/healthz/kms-provider-1")[0] == 500, 5, "bad health")
        self.assertIn("failed to perform encrypt section of the healthz check for KMS Provider old",
                      str(get("/healthz/kms-provider-1")) + str(get("/healthz?verbose")))
        self.assertEqual(get("/healthz/kms-provider-0")[0], 200)
        self.kms.error.clear()
        wait_until(lambda: get("/healthz/kms-provider-1")[0] == 200, 8, "good health")

    def test_metrics(self):
        port = harness.free_port()
        proxy = self.start_proxy(self.entry(cachesize=10), flags=V1_WRITES + [
            "--listen-metrics-urls", f"http://127.0.0.1:{port}"])
        for i in range(5):
            proxy.client.put(self.secret(str(i)), VALUE)
            time.sleep(0.25)

        def text():
            return str(harness.http_get(("127.0.0.1", port), "/metrics"))
        n = self.kms.calls["v1.Encrypt"] - 1  # with what the harness wrote; without the health check
        for line in (f'apiserver_envelope_encryption_dek_cache_fill_percent {n / 10}',
                     f'dek_cache_inter_arrival_time_seconds_count{{transformation_type="to_storage"}} {n - 1}',
                     'status="OK",transformation_type="to_storage",'
                     f'transformer_prefix="k8s:enc:kms:v1:old:"}} {n}',
                     f'apiserver_storage_data_key_generation_duration_seconds_count {n}'):
            try:
                wait_until(lambda: line in text(), 3, line)
            except AssertionError:
                self.fail(f"no {line} in\n" + text().replace("\\n", "\n"))
        self.assertNotIn("kms_operations_latency_seconds_count", text())  # kube-apiserver has it for v2 alone


if __name__ == "__main__":
    harness.main()
