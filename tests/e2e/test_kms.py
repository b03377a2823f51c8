#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A KMS plugin that is slow, wrong, gone, or rotates: what works goes on, what doesn't is refused, nothing is
written in clear, and nobody else is held up."""
import base64
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import harness  # first: it sets the path to tests/fake
import bent
import fake_etcd
import fake_kms
from client import prefix_end
from harness import Code, LONG, SANITIZED, envelope, wait_until
from protos import rpc

VALUE = b"plaintext that must stay out of etcd"
HELD_UP = 10 if SANITIZED else 1  # seconds: who waits longer is held up by others
MANY = 300 if SANITIZED else 1500  # DEKs; each is unwrapped within 10 s


class Kms(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        """etcd only: every test has a plugin and proxies of its own."""
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def setUp(self):
        super().setUp()
        self.count = 0
        self.kms = self.env.kms(name=self.name[:30])
        self.addCleanup(self.kms.stop)
        self.config = self.env.config(self.kms.path, name=self.name + ".yaml")

    def start_proxy(self, wait=True, **options):
        self.count += 1
        proxy = self.env.proxy(self.etcd, options.pop("config", self.config), name=f"{self.name}{self.count}",
                               wait=wait, **options)
        self.addCleanup(proxy.stop)
        if not wait:
            wait_until(lambda: self.listens(proxy), 10, "listening proxy")
        return proxy

    def listens(self, proxy):
        try:
            proxy.client.get(b"/unprotected", timeout=1)
            return True
        except harness.grpc.RpcError:
            return False

    def assertNothingClear(self):
        for record in self.raw.list(b"/registry/secrets/").kvs:
            self.assertTrue(record.value.startswith(b"k8s:enc:kms:v2:"), record.key)
            self.assertNotIn(VALUE, record.value)


class Calls(Kms):
    def test_writes_cost_no_call(self):
        """One Encrypt at the start (and none by value); own values cost no Decrypt."""
        proxy = self.start_proxy()
        for i in range(50):
            proxy.client.put(self.secret(str(i)), VALUE)
        proxy.client.list(self.secret(""))
        self.assertEqual(self.kms.calls["Encrypt"], 1)
        self.assertEqual(self.kms.calls["Decrypt"], 0)

    def test_one_unwrap_per_dek(self):
        """100 cold reads of values of one DEK at once: one Decrypt."""
        first = self.start_proxy()
        for i in range(100):
            first.client.put(self.secret(str(i)), VALUE)
        self.kms.delay["Decrypt"] = 0.3
        second = self.start_proxy()
        before = self.kms.calls["Decrypt"]
        values = harness.in_threads(20, lambda i: second.client.value(self.secret(str(i))))
        self.assertEqual(values, [VALUE] * 20)
        second.client.list(self.secret(""))
        self.assertEqual(self.kms.calls["Decrypt"] - before, 1)
        key_id, _, annotations = self.kms.decrypted[-1]
        self.assertEqual((key_id, annotations), ("key-1", {}))

    def test_annotations(self):
        self.kms.annotations = {"b.example.org": b"\0\xff", "a.example.org": b"", "c.example.org": b"x" * 500}
        first = self.start_proxy()
        first.client.put(self.secret(), VALUE)
        parsed = envelope.parse(self.raw.value(self.secret()))
        self.assertEqual(dict(parsed.annotations), self.kms.annotations)
        second = self.start_proxy()
        self.assertEqual(second.client.value(self.secret()), VALUE)
        self.assertEqual(self.kms.decrypted[-1][2], self.kms.annotations)

    @harness.timing
    def test_deks_of_a_list_are_asked_for_together(self):
        for i in range(40):
            key = self.secret(f"{i:02}")
            self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 0.1
        proxy = self.start_proxy()
        started = time.monotonic()
        answer = proxy.client.list(self.secret(""))
        self.assertEqual([k.value for k in answer.kvs], [VALUE] * 40)
        self.assertLess(time.monotonic() - started, 3 * HELD_UP, "40 x 0.1 s one after the other")
        self.assertGreater(self.kms.max_in_flight["Decrypt"], 3)


class Fairness(Kms):
    """A list over many DEKs that nobody has unwrapped yet takes nobody else's turn at the plugin."""

    def fill(self, count, seal):
        for i in range(count):
            key = self.secret(f"many/{i:04}")
            self.raw.put(key, seal(key))

    def list_beside_cold_reads(self, proxy):
        """The list's outcome, and the seconds that cold reads of others took meanwhile."""
        keys = [self.secret(f"own/{i}") for i in range(5)]
        for key in keys:
            self.raw.put(key, envelope.seal(key, VALUE))
        outcome = []

        def run():
            try:
                outcome.append(len(self.env.client(proxy.target).list(self.secret("many/"), timeout=30).kvs))
            except harness.grpc.RpcError as e:
                outcome.append(e.code())

        lists = [threading.Thread(target=run) for _ in range(3)]
        for thread in lists:
            thread.start()
        time.sleep(0.3)
        took = []
        for key in keys:
            started = time.monotonic()
            self.assertEqual(proxy.client.value(key), VALUE)
            took.append(time.monotonic() - started)
        for thread in lists:
            thread.join()
        return outcome, took

    @harness.timing
    def test_unknown_deks_of_a_list_leave_turns_to_others(self):
        self.fill(MANY, lambda key: envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 0.1
        outcome, took = self.list_beside_cold_reads(self.start_proxy())
        self.assertEqual(outcome, [MANY] * 3)
        self.assertLess(max(took), HELD_UP, took)
        self.assertEqual(self.kms.calls["Decrypt"], MANY + 5)
        self.assertLessEqual(self.kms.max_in_flight["Decrypt"], 64)

    @harness.timing
    def test_garbage_deks_cost_no_call_behind_the_first_refusal(self):
        self.fill(600, lambda key: envelope.seal(key, VALUE, wrapped=os.urandom(60)))
        self.kms.delay["Decrypt"] = 0.1
        outcome, took = self.list_beside_cold_reads(self.start_proxy())
        self.assertEqual(outcome, [Code.DATA_LOSS] * 3)
        self.assertLess(max(took), HELD_UP, took)
        self.assertLessEqual(self.kms.calls["Decrypt"], 3 * 64 + 5)

    def attack_beside_cold_reads(self, attack):
        """Runs attack over and over until ten cold reads of others are done; how often it ran, how long each of them took."""
        proxy = self.start_proxy()
        keys = [self.secret(f"own/{i}") for i in range(10)]
        for key in keys:
            self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 0.005
        attacker, is_over, ran = self.env.client(proxy.target), threading.Event(), []

        def run():
            while not is_over.is_set():
                with self.assertRaises(harness.grpc.RpcError) as refused:
                    attack(attacker)
                ran.append(refused.exception.code())

        thread = threading.Thread(target=run)
        thread.start()
        took = []
        for key in keys:
            wait_until(lambda: len(ran) > len(took), 60, "the next attack")
            started = time.monotonic()
            self.assertEqual(proxy.client.value(key), VALUE)
            took.append(time.monotonic() - started)
        is_over.set()
        thread.join()
        return ran, took

    @harness.timing
    def test_a_list_over_3000_garbage_deks(self):
        for i in range(0, 3000, 100):
            self.raw.txn([], [rpc.RequestOp(request_put=rpc.PutRequest(
                key=key, value=envelope.seal(key, VALUE, wrapped=os.urandom(60))))
                for key in (self.secret(f"many/{n:04}") for n in range(i, i + 100))])
        ran, took = self.attack_beside_cold_reads(lambda client: client.list(self.secret("many/"), timeout=30))
        self.assertEqual(set(ran), {Code.DATA_LOSS})
        self.assertLess(max(took), HELD_UP, took)
        self.assertLessEqual(self.kms.calls["Decrypt"], 64 * len(ran) + len(took))

    @harness.timing
    def test_a_txn_of_4000_sealed_puts(self):
        ops = [rpc.RequestOp(request_put=rpc.PutRequest(
            key=key, value=envelope.seal(key, VALUE, wrapped=os.urandom(60))))
            for key in (self.secret(f"many/{n:04}") for n in range(4000))]
        ran, took = self.attack_beside_cold_reads(lambda client: client.txn([], ops, timeout=30))
        self.assertEqual(set(ran), {Code.INVALID_ARGUMENT})
        self.assertLess(max(took), HELD_UP, took)
        self.assertLessEqual(self.kms.calls["Decrypt"], 64 * len(ran) + len(took))
        self.assertIsNone(self.raw.value(self.secret("many/0000")))


class Damaged(Kms):
    """A DEK that opened nothing is not kept, and not asked for again at once for the same value."""

    def test_a_damaged_value_costs_one_call_in_3_s(self):
        proxy = self.start_proxy()
        bad, good = self.secret("bad"), self.secret("good")
        seed = os.urandom(32)
        wrapped = fake_kms.wrap("key-1", seed)
        sealed = envelope.seal(bad, VALUE, seed=seed, wrapped=wrapped)
        data = envelope.parse(sealed).encrypted_data
        self.raw.put(bad, sealed.replace(data, data[:-1] + bytes([data[-1] ^ 1])))
        self.raw.put(good, envelope.seal(good, VALUE, seed=seed, wrapped=wrapped))
        started, calls = time.monotonic(), self.kms.calls["Decrypt"]
        for _ in range(50):
            self.assertStatus(Code.DATA_LOSS, proxy.client.get, bad, text=bad.decode())
        seconds = time.monotonic() - started
        self.assertLessEqual(self.kms.calls["Decrypt"] - calls, 1 + seconds // 3)
        self.assertEqual(proxy.client.value(good), VALUE)
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, bad)


class Away(Kms):
    def test_plugin_gone_after_the_start(self):
        """Less than three minutes: nobody notices."""
        proxy = self.start_proxy()
        proxy.client.put(self.secret(), VALUE)
        self.kms.stop()
        for i in range(20):
            proxy.client.put(self.secret(str(i)), VALUE)
            self.assertEqual(proxy.client.value(self.secret(str(i))), VALUE)
            self.assertSealed(self.secret(str(i)), VALUE)
        self.assertNothingClear()

    @harness.timing
    def test_cold_key_with_the_plugin_gone(self):
        """A read waits at most 10 s and says FAILED_PRECONDITION; unprotected keys and known DEKs go on meanwhile."""
        proxy = self.start_proxy()
        proxy.client.put(self.secret("known"), VALUE)
        key = self.secret("cold")
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.stop()
        waiting = threading.Thread(target=self.cold_read, args=(proxy, key))
        waiting.start()
        times = []
        while waiting.is_alive():
            started = time.monotonic()
            self.assertEqual(proxy.client.value(self.secret("known")), VALUE)
            proxy.client.put(self.plain(), b"x")
            times.append(time.monotonic() - started)
            time.sleep(0.05)
        waiting.join()
        self.assertEqual(self.outcome[0], Code.FAILED_PRECONDITION, self.outcome)
        self.assertLess(self.outcome[1], 12 + HELD_UP)
        self.assertLess(max(times), HELD_UP, "others were held up")
        # It is not remembered against the DEK: when the plugin is back the value opens.
        self.kms.start()
        wait_until(lambda: self.reads(proxy, key), 20, "recovery")

    def cold_read(self, proxy, key):
        started = time.monotonic()
        try:
            self.outcome = (proxy.client.value(key, timeout=30), 0)
        except harness.grpc.RpcError as error:
            self.outcome = (error.code(), time.monotonic() - started, error.details())

    def reads(self, proxy, key):
        try:
            return proxy.client.value(key, timeout=15) == VALUE
        except harness.grpc.RpcError:
            return False

    @harness.timing
    def test_plugin_away_at_the_start(self):
        """Unprotected keys are served; protected writes are UNAVAILABLE and nothing goes to etcd; reads wait."""
        self.kms.stop()
        proxy = self.start_proxy(wait=False)
        proxy.client.put(self.plain(), b"served")
        self.assertEqual(self.raw.value(self.plain()), b"served")
        revision = self.raw.get(b"x").header.revision
        started = time.monotonic()
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, timeout=30)
        self.assertStatus(Code.UNAVAILABLE, proxy.client.txn, [], [
            rpc.RequestOp(request_put=rpc.PutRequest(key=self.plain(), value=b"y")),
            rpc.RequestOp(request_put=rpc.PutRequest(key=self.secret(), value=VALUE))], timeout=30)
        self.assertLess(time.monotonic() - started, 25)
        self.assertEqual(self.raw.get(b"x").header.revision, revision, "nothing was sent to etcd")
        self.assertEqual(len(proxy.client.list(self.secret("")).kvs), 0)
        self.kms.start()
        started = time.monotonic()
        wait_until(lambda: self.writes(proxy), 60, "recovery")
        took = time.monotonic() - started
        self.assertLess(took, 10 + 5 * HELD_UP, "more than a poll and a call")
        self.assertSealed(self.secret(), VALUE)

    def writes(self, proxy):
        try:
            proxy.client.put(self.secret(), VALUE, timeout=5)
            return True
        except harness.grpc.RpcError as error:
            self.assertEqual(error.code(), Code.UNAVAILABLE)
            return False

    @harness.timing
    def test_slow_plugin_delays_nobody_else(self):
        proxy = self.start_proxy()
        proxy.client.put(self.secret("known"), VALUE)
        key = self.secret("cold")
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 1.5
        slow = threading.Thread(target=self.cold_read, args=(proxy, key))
        slow.start()
        worst = 0
        for _ in range(20):
            started = time.monotonic()
            self.assertEqual(proxy.client.value(self.secret("known")), VALUE)
            proxy.client.put(self.secret("w"), VALUE)
            worst = max(worst, time.monotonic() - started)
        slow.join()
        self.assertEqual(self.outcome[0], VALUE)
        self.assertLess(worst, HELD_UP / 2)

    def test_hanging_plugin(self):
        """Slower than its time-out: as if it were gone."""
        key = self.secret("cold")
        config = self.env.config(self.kms.path, name=self.name + "-short.yaml", timeout="500ms")
        proxy = self.start_proxy(config=config)
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.delay["Decrypt"] = 4
        self.cold_read(proxy, key)
        self.assertEqual(self.outcome[0], Code.FAILED_PRECONDITION, self.outcome)
        self.kms.delay["Decrypt"] = 0
        wait_until(lambda: self.reads(proxy, key), 20, "recovery")

    def test_stopped_plugin(self):
        """Its connection is there and nothing comes: as gone, however many ask, and nothing piles up meanwhile."""
        program, keys, path = harness.program("etcd-envelope-local-kms"), self.env.path("stopped.keys"), self.env.path("stopped")
        subprocess.run([program, "--generate-key", keys], check=True)
        plugin = self.env.start("stopped", [program, "--listen", f"unix://{path}", "--key-file", keys])
        wait_until(lambda: "serving" in plugin.log(), 20, "a plugin")
        config = self.env.config(path, name="stopped.yaml", timeout="500ms")
        first = self.start_proxy(config=config)
        for name in ("cold", "cold too"):
            first.client.put(self.secret(name), VALUE)
        first.stop()
        self.proxy = proxy = (harness if SANITIZED else bent).Proxy(self.env, [self.etcd.url], config, name=self.name)
        self.addCleanup(proxy.stop)
        proxy.client.put(self.secret("known"), VALUE)
        fds = proxy.process.fd_count()
        plugin.signal(signal.SIGSTOP)
        reads = [proxy.client.start("/etcdserverpb.KV/Range", rpc.RangeRequest(key=self.secret(name)), rpc.RangeResponse)
                 for name in ("cold", "cold too") * 50]
        time.sleep(0.5)
        if not SANITIZED:
            proxy.bend(passed=10)  # in place of waiting
        while not all(read.done() for read in reads):
            self.assertEqual(proxy.client.value(self.secret("known"), timeout=10), VALUE)
            proxy.client.put(self.secret("known"), VALUE, timeout=10)
            self.assertLessEqual(proxy.process.fd_count(), fds + 2)
        self.assertEqual({read.exception().code() for read in reads}, {Code.FAILED_PRECONDITION})
        plugin.signal(signal.SIGCONT)
        wait_until(lambda: self.reads(proxy, self.secret("cold")), 20, "recovery")
        self.assertEqual(proxy.client.value(self.secret("cold too")), VALUE)

    def test_three_minutes_by_its_clock(self):
        """A source is used for 3 minutes; then no write goes out, what is known is read, and one poll ends it."""
        self.proxy = proxy = bent.Proxy(self.env, [self.etcd.url], self.config, name=self.name)
        self.addCleanup(proxy.stop)
        proxy.client.put(self.secret("known"), VALUE)
        cold = self.secret("cold")
        self.raw.put(cold, envelope.seal(cold, VALUE))
        self.kms.stop()
        proxy.bend(passed=120)
        proxy.client.put(self.secret("known"), VALUE)
        proxy.bend(passed=181)
        # Its own timers see that time has passed when somebody wakes it.
        wait_until(lambda: proxy.metric("etcd_envelope_kms_healthy") == 0, 20, "a check that failed")
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE)
        self.assertStatus(Code.UNAVAILABLE, proxy.client.txn, [], [rpc.RequestOp(request_put=rpc.PutRequest(
            key=key, value=VALUE)) for key in (self.plain(), self.secret())])
        self.assertIsNone(self.raw.value(self.plain()))
        proxy.client.put(self.plain(), b"served")
        self.assertEqual(proxy.client.value(self.secret("known")), VALUE)
        waiting = threading.Thread(target=self.cold_read, args=(proxy, cold))
        waiting.start()
        time.sleep(0.3)
        proxy.bend(passed=192)  # 10 s more
        waiting.join()
        self.assertEqual(self.outcome[0], Code.FAILED_PRECONDITION, self.outcome)
        self.kms.start()
        proxy.bend(passed=203)
        wait_until(lambda: proxy.metric("etcd_envelope_kms_healthy") == 1 and self.writes(proxy), 20, "recovery by a poll")
        self.assertEqual(proxy.client.value(cold), VALUE)
        self.assertNothingClear()

    def test_three_minutes(self):
        if not LONG:
            self.skipTest("takes four minutes; see above")
        proxy = self.start_proxy()
        proxy.client.put(self.secret("known"), VALUE)
        self.kms.stop()
        time.sleep(250)
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, timeout=30)
        self.assertEqual(proxy.client.value(self.secret("known")), VALUE)
        self.kms.start()
        wait_until(lambda: self.writes(proxy), 25, "recovery")


class Wrong(Kms):
    def test_error_for_one_dek(self):
        """DATA_LOSS, and the plugin is not asked again at once."""
        proxy = self.start_proxy()
        good, bad = self.secret("good"), self.secret("bad")
        self.raw.put(good, envelope.seal(good, VALUE))
        sealed = envelope.seal(bad, VALUE, key_id="key-2")
        # Wrapped under another key than it says: the plugin cannot unwrap it.
        self.raw.put(bad, sealed.replace(b"key-2", b"key-3"))
        for _ in range(5):
            self.assertStatus(Code.DATA_LOSS, proxy.client.get, bad, text=bad.decode())
        self.assertEqual(len([d for d in self.kms.decrypted if d[0] == "key-3"]), 1)
        self.assertEqual(proxy.client.value(good), VALUE)
        self.assertStatus(Code.DATA_LOSS, proxy.client.list, self.secret(""))
        time.sleep(3.2)
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, bad)
        self.assertEqual(len([d for d in self.kms.decrypted if d[0] == "key-3"]), 2)

    def test_the_refused_key_is_named(self):
        """Also when the refusal is remembered while another value still waits for its DEK."""
        proxy = self.start_proxy()
        cold, bad = self.secret("a-cold"), self.secret("b-bad")
        self.raw.put(cold, envelope.seal(cold, VALUE))
        self.raw.put(bad, envelope.seal(bad, VALUE, key_id="key-2").replace(b"key-2", b"key-3"))
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, bad, text=bad.decode())
        self.assertStatus(Code.DATA_LOSS, proxy.client.list, self.secret(""), text=bad.decode())

    def test_sealed_value_of_a_refused_dek_is_not_written(self):
        """It opens under no key: the writer's fault, and nothing stored is lost."""
        proxy = self.start_proxy()
        key = self.secret()
        sealed = envelope.seal(key, VALUE, key_id="key-2").replace(b"key-2", b"key-3")
        for _ in range(2):  # asked, then remembered
            self.assertStatus(Code.INVALID_ARGUMENT, proxy.client.put, key, sealed)
        self.assertIsNone(self.raw.value(key))

    def test_wrong_dek(self):
        """The value does not open and the DEK is not kept: when the plugin is right again so is the value."""
        proxy = self.start_proxy()
        key = self.secret()
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.wrong_dek = True
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, key)
        self.kms.wrong_dek = False
        wait_until(lambda: self.opens(proxy, key), 6, "the right value")

    def opens(self, proxy, key):
        try:
            return proxy.client.value(key) == VALUE
        except harness.grpc.RpcError as error:
            self.assertEqual(error.code(), Code.DATA_LOSS)
            return False

    def test_plugin_errors(self):
        proxy = self.start_proxy()
        key = self.secret()
        self.raw.put(key, envelope.seal(key, VALUE))
        self.kms.error["Decrypt"] = (Code.INTERNAL, "secret of the plugin")
        text = self.assertStatus(Code.DATA_LOSS, proxy.client.get, key)
        self.assertNotIn("secret of the plugin", text)
        self.kms.error.clear()
        wait_until(lambda: self.opens(proxy, key), 6, "the value after the negative cache's 3 s")

    def test_bad_answers_at_the_start(self):
        """Status or Encrypt that kube-apiserver would not accept: no key, writes UNAVAILABLE."""
        cases = {"no key id": {"key_id": ""}, "long key id": {"key_id": "x" * 1025}, "other key id": {"encrypt_key_id": "y"},
                 "bad annotation": {"annotations": {"nodomain": b"x"}},
                 "large annotation": {"annotations": {"a.example.org": b"x" * 33000}}}
        honest = dict(self.kms.__dict__)
        for name, changes in cases.items():
            with self.subTest(name):
                self.kms.__dict__.update(changes)
                proxy = self.start_proxy(wait=False)
                self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, timeout=30)
                self.assertIsNone(self.raw.value(self.secret()))
                proxy.stop()
                for attribute in changes:
                    setattr(self.kms, attribute, honest[attribute])

    def test_a_plugin_that_wraps_nothing(self):
        """Whoever reads etcd would have the key: no such seed is used, and log, health and metric say why."""
        self.kms.wrapping = bytes
        proxy = self.start_proxy(wait=False)
        self.assertStatus(Code.UNAVAILABLE, proxy.client.put, self.secret(), VALUE, text="nothing was written")
        self.assertIn("the answer of Encrypt holds the DEK source itself", proxy.process.log())
        status, body = harness.http_get(proxy.metrics_address, "/healthz/kms-providers")
        self.assertEqual(status, 500)
        self.assertIn(b"the answer of Encrypt holds the DEK source itself", body)
        self.assertEqual(proxy.metric("etcd_envelope_kms_healthy"), 0)
        for seen, wrapping in enumerate((
                lambda dek: b"wrapped:" + dek + b":" + os.urandom(16), base64.b64encode,
                lambda dek: base64.urlsafe_b64encode(b"x" + dek), lambda dek: dek.hex().encode())):
            self.kms.wrapping = wrapping
            self.another_check(proxy, seen + 1)
        self.kms.wrapping = None
        self.kms.annotate = lambda dek: {"note.example.com": dek}
        self.another_check(proxy, 5)
        self.kms.annotate = None
        wait_until(lambda: self.asked_for_health(proxy) == 200, 10, "a good plugin")
        proxy.client.put(self.secret(), VALUE)
        self.assertSealed(self.secret(), VALUE)
        self.assertNothingClear()

    def asked_for_health(self, proxy):
        return harness.http_get(proxy.metrics_address, "/healthz/kms-providers")[0]

    def another_check(self, proxy, seen):
        """Asking for health starts a check when the last bad one is 3 s old."""
        count = 'reason="dek_source_exposed"'

        def refused():
            self.assertEqual(self.asked_for_health(proxy), 500)
            return proxy.metric("etcd_envelope_refused_total", count)
        wait_until(lambda: refused() > seen, 10, "another refusal", step=0.2)

    def test_unhealthy_but_answering(self):
        """healthz that is not ok never stops writes, as in Kubernetes."""
        self.kms.healthz = "a disk is on fire"
        proxy = self.start_proxy()
        proxy.client.put(self.secret(), VALUE)
        self.assertSealed(self.secret(), VALUE)


class Socket(Kms):
    """A socket that others may replace or use is named at the start, at a reload, and when the plugin comes later."""
    WARNING = "KMS socket is not safe"

    def warnings(self, proxy):
        return [line for line in proxy.process.log().splitlines() if self.WARNING in line]

    def test_safe(self):
        os.chmod(self.kms.path, 0o700)
        self.assertEqual(self.warnings(self.start_proxy()), [])

    def test_start_and_reload(self):
        folder = self.env.path(self.name + "-open")
        folder.mkdir()
        folder.chmod(0o777)
        kms = harness.fake_kms.FakeKms(str(folder / "sock"))
        self.addCleanup(kms.stop)
        os.chmod(kms.path, 0o777)
        config = self.env.config(kms.path, name=self.name + "-open.yaml")
        proxy = self.start_proxy(config=config)
        self.assertEqual(len(self.warnings(proxy)), 2)
        self.assertIn(f"path={folder} ", self.warnings(proxy)[0])
        self.assertIn(f"path={folder}/sock ", self.warnings(proxy)[1])
        folder.chmod(0o755)
        os.chmod(kms.path, 0o700)
        link = self.env.path(self.name + "-link")
        link.symlink_to(folder)
        config.write_text(config.read_text().replace(str(folder), str(link)))
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in proxy.process.log(), 10, "reload")
        self.assertEqual(len(self.warnings(proxy)), 3)
        self.assertIn(f"path={link} ", self.warnings(proxy)[2])

    def test_plugin_that_comes_later(self):
        self.kms.stop()
        proxy = self.start_proxy(wait=False)
        self.assertEqual(self.warnings(proxy), [])
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        self.kms.start()
        wait_until(lambda: harness.http_get(proxy.metrics_address, "/readyz")[0] == 200, 15, "a healthy plugin", step=0.2)
        wait_until(lambda: len(self.warnings(proxy)) == 1, what="the warning")
        self.assertIn(f"path={self.kms.path} ", self.warnings(proxy)[0])


class Randomness(Kms):
    """What a snapshot of the machine's memory would hold of random numbers that are still to be used: nothing."""

    def prefetched(self, proxy):
        """The pages that a fork finds wiped, as bytes; not those of the C library's own getrandom (droppable), nor the
        heap of keys (4 MiB)."""
        pages, span = [], None
        for line in pathlib.Path(f"/proc/{proxy.process.pid}/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                span = [int(end, 16) for end in line.split()[0].split("-")]
            flags = line.split()[1:] if line.startswith("VmFlags:") else []
            if "wf" in flags and "dp" not in flags and span[1] - span[0] < 1 << 20:
                with open(f"/proc/{proxy.process.pid}/mem", "rb", buffering=0) as memory:
                    memory.seek(span[0])
                    pages.append(memory.read(span[1] - span[0]))
        return pages

    def test_nothing_is_left_between_turns(self):
        proxy = self.start_proxy(flags=["--workers", "2"])
        try:
            pages = self.prefetched(proxy)
        except PermissionError:
            self.skipTest("may not read the memory of another process")
        if harness.platform_has_cheap_random():
            self.assertEqual(pages, [])
            return
        # Adjacent pages of two workers may be one mapping.
        self.assertEqual(sum(map(len, pages)), 2 * os.sysconf("SC_PAGESIZE"))
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=self.secret(str(i)), value=VALUE)) for i in range(50)]
        harness.in_threads(4, lambda _: [proxy.client.txn(success=puts) for _ in range(20)])
        proxy.client.put(self.secret(), VALUE)  # a turn with one value
        for page in self.prefetched(proxy):
            self.assertEqual(page.strip(b"\0"), b"")


class Rotation(Kms):
    def test_key_id_changes(self):
        """New writes carry the new key id within a poll (60 s), old values stay readable, cold ones too."""
        proxy = self.start_proxy()
        proxy.client.put(self.secret("old"), VALUE)
        self.kms.key_id = "key-2"
        if LONG:
            wait_until(lambda: self.key_id_of_a_write(proxy) == "key-2", 75, "new key", step=2)
            self.assertEqual(proxy.client.value(self.secret("old")), VALUE)
        second = self.start_proxy()
        second.client.put(self.secret("new"), VALUE)
        self.assertEqual(envelope.parse(self.raw.value(self.secret("new"))).key_id, "key-2")
        # Each reads what the other wrote.
        for each in (proxy, second):
            self.assertEqual([k.value for k in each.client.list(self.secret("")).kvs
                              if k.key != self.secret("probe")], [VALUE, VALUE])

    def test_within_a_minute(self):
        """Of its clock, which is bent."""
        self.proxy = proxy = bent.Proxy(self.env, [self.etcd.url], self.config, name=self.name)
        self.addCleanup(proxy.stop)
        proxy.client.put(self.secret("old"), VALUE)
        self.kms.key_id = "key-2"
        proxy.bend(passed=30)
        self.assertEqual(proxy.metric("etcd_envelope_kms_healthy"), 1)  # wakes it: nothing is due yet
        self.assertEqual(self.key_id_of_a_write(proxy), "key-1")
        proxy.bend(passed=61)
        wait_until(lambda: proxy.metric("etcd_envelope_kms_healthy") and self.key_id_of_a_write(proxy) == "key-2", 20, "new key")
        self.assertEqual(proxy.client.value(self.secret("old")), VALUE)

    def key_id_of_a_write(self, proxy):
        proxy.client.put(self.secret("probe"), VALUE)
        return envelope.parse(self.raw.value(self.secret("probe"))).key_id

    def test_every_process_has_its_own_seed(self):
        one, two = self.start_proxy(), self.start_proxy()
        one.client.put(self.secret("1"), VALUE)
        two.client.put(self.secret("2"), VALUE)
        wrapped = {envelope.parse(self.raw.value(self.secret(n))).encrypted_dek_source for n in "12"}
        self.assertEqual(len(wrapped), 2)


class Watching(Kms):
    def test_event_waits_for_its_key_and_keeps_its_place(self):
        """Events behind it, and progress above all, do not overtake."""
        proxy = self.start_proxy()
        self.kms.delay["Decrypt"] = 1
        prefix = self.secret("")
        watch = proxy.client.watch(prefix, prefix_end(prefix))
        self.addCleanup(watch.cancel)
        cold = self.secret("cold")
        self.raw.put(cold, envelope.seal(cold, VALUE))
        revision = proxy.client.put(self.secret("warm"), VALUE).header.revision
        for _ in range(10):
            watch.progress()
            time.sleep(0.02)
        order = []
        while len([o for o in order if o != "progress"]) < 2:
            answer = watch.next()
            order += [e.kv.key for e in answer.events] or ["progress"]
            if not answer.events:
                self.assertLess(answer.header.revision, revision, order)
        self.assertEqual([o for o in order if o != "progress"], [cold, self.secret("warm")])
        answer = watch.next(5) if not watch.quiet(0.5) else None
        if answer is not None:
            self.assertEqual(len(answer.events), 0)

    def test_events_before_a_refused_key_are_delivered(self):
        """Whether the plugin is asked or its refusal is remembered."""
        proxy = self.start_proxy()
        prefix = self.secret("")
        keys = [self.secret(name) for name in ("a", "b", "c")]
        start = None
        for key in keys:
            answer = self.raw.put(key, envelope.seal(key, VALUE))
            start = start or answer.header.revision
        bad = self.secret("bad")
        self.raw.put(bad, envelope.seal(bad, VALUE, key_id="key-2").replace(b"key-2", b"key-3"))
        for _ in range(2):
            watch = proxy.client.watch(prefix, prefix_end(prefix), start_revision=start)
            self.addCleanup(watch.cancel)
            seen, answer = [], watch.next()
            while not answer.canceled:
                seen += [e.kv.key for e in answer.events]
                answer = watch.next()
            self.assertEqual(seen, keys)
            self.assertIn(bad.decode(), answer.cancel_reason)

    @harness.timing
    def test_key_that_does_not_come(self):
        """At most 10 s, then the stream says FAILED_PRECONDITION."""
        proxy = self.start_proxy()
        watch = proxy.client.watch(self.secret())
        other = proxy.client.watch(self.plain())
        self.addCleanup(watch.cancel)
        self.addCleanup(other.cancel)
        self.kms.stop()
        self.raw.put(self.secret(), envelope.seal(self.secret(), VALUE))
        self.raw.put(self.plain(), b"goes on")
        self.assertEqual(other.events(1, 3)[0].kv.value, b"goes on")
        started = time.monotonic()
        with self.assertRaises(harness.grpc.RpcError) as caught:
            while not watch.next(20).canceled:
                pass
        self.assertEqual(caught.exception.code(), Code.FAILED_PRECONDITION)
        self.assertLess(time.monotonic() - started, 12 + HELD_UP)


class Recorded(Kms):
    """With every byte that reaches etcd recorded."""

    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.raw = cls.env.client(f"127.0.0.1:{cls.fake.port}")

        class Etcd:
            url = cls.fake.url
        cls.etcd = Etcd()

    def start_proxy(self, wait=True, **options):
        options.setdefault("config", self.config)
        proxy = self.env.proxy([self.fake.url], options.pop("config"), name=self.name, wait=wait, **options)
        self.addCleanup(proxy.stop)
        return proxy

    def test_no_plaintext_while_the_plugin_comes_and_goes(self):
        marker = b"MARKER-while-the-plugin-flaps-"
        self.kms.stop()
        proxy = self.start_proxy(wait=False)
        stop, outcomes = threading.Event(), {}

        def write(i):
            client, n = harness.Client(proxy.target), 0
            while not stop.is_set():
                n += 1
                try:
                    client.put(self.secret(f"{i}-{n % 50}"), marker * (1 + n % 9), timeout=5)
                    outcome = "ok"
                except harness.grpc.RpcError as error:
                    outcome = error.code()
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if outcome != "ok":
                    time.sleep(0.05)
            client.close()
        writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for writer in writers:
            writer.start()
        try:
            for i in range(4):
                time.sleep(1)
                self.kms.start()
                self.kms.delay["Encrypt"] = 0.2 * i
                time.sleep(1)
                self.kms.stop()
            self.kms.delay.clear()
            self.kms.start()
            wait_until(lambda: outcomes.get("ok", 0) > 20, 30, "successful writes")
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        self.assertLessEqual(set(outcomes), {"ok", Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}, outcomes)
        self.assertFalse(self.fake.saw(marker))
        self.assertEqual(self.fake.problems, [])


if __name__ == "__main__":
    harness.main()
