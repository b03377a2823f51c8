#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Everything at once, at random: clients that reset, half-close, cut and vanish; an etcd that resets, cuts, answers
early, says GOAWAY and goes away; a plugin that is slow and refuses; reloads. The proxy stays, keeps its secrets, and
ends with nothing left over. It is here for the sanitizers: run it with E2E_LONG=1 after a change to proxy/.

Environment: STRESS_S (seconds), E2E_SEED."""
import os
import random
import signal
import threading
import time

import harness  # first: it sets the path to tests/fake
import fake_etcd
import h2raw
from fake_etcd import KV, WATCH
from harness import Code, LONG, envelope, wait_until
from protos import rpc
from test_local_keys import Key
from test_reload import HEAD, Base, kms_of, local, rule

SECONDS = float(os.environ.get("STRESS_S", 60 if LONG else 8))
MARKER = b"STRESS-PLAINTEXT"
CODES = (h2raw.NO_ERROR, h2raw.PROTOCOL_ERROR, h2raw.INTERNAL_ERROR, h2raw.REFUSED_STREAM, h2raw.CANCEL,
         h2raw.ENHANCE_YOUR_CALM)


class Stress(Base):
    @classmethod
    def start(cls):
        cls.fake = fake_etcd.FakeEtcd()
        cls.addClassCleanup(cls.fake.stop)
        cls.kms = cls.env.kms()

        class Etcd:
            url = cls.fake.url
        cls.etcd = Etcd()

    # --- etcd ---

    def misbehave(self, call):
        """A script for the fake etcd: most calls are answered honestly, the rest in some other way."""
        rng, dice = self.etcd_rng, self.etcd_rng.random()
        if dice < 0.7:
            return False
        if dice < 0.75:
            call.rst(rng.choice(CODES))
        elif dice < 0.8:
            call.trailers(rng.choice((0, 4, 9, 14)), "early")
        elif dice < 0.85:  # a part of an answer
            call.cut(rpc.RangeResponse(header=self.fake.header()).SerializeToString() + b"\x12\x7f" + b"x" * 90, 50)
            if rng.random() < 0.5:
                call.rst(rng.choice(CODES))
            elif rng.random() < 0.5:
                call.trailers(0)
            # else: silence behind it, until the client gives up
        elif dice < 0.88:
            call.headers()
            if rng.random() < 0.5:
                call.trailers(13, "without a message")
        elif dice < 0.89:  # frames in some order
            for _ in range(rng.randrange(1, 4)):
                step = rng.randrange(3)
                if step == 0:
                    call.headers()
                elif step == 1:
                    call.conn.send_data(call.id, h2raw.grpc_message(b""), rng.random() < 0.2)
                else:
                    call.conn.send_trailers(call.id, [("grpc-status", "0")])
        elif dice < 0.9:
            call.raw(b"\x00\xff\xff\xff\xff" + b"z" * 100)
        elif dice < 0.93:
            threading.Timer(rng.random() * 0.1, self.later, (call,)).start()
        elif dice < 0.94:
            call.conn.send_goaway(call.id if rng.random() < 0.5 else max(call.id - 2, 0))
            return False
        elif dice < 0.945:
            call.conn.close()
        elif dice < 0.97 and call.path == WATCH:
            call.message(rpc.WatchResponse(header=self.fake.header(), watch_id=rng.randrange(5), created=True))
        else:
            call.rst(h2raw.CANCEL)
            call.rst(h2raw.CANCEL)
        return True

    def later(self, call):
        try:
            if not call.answered and call.path == KV + "Range":
                call.finish(self.fake.range(rpc.RangeRequest.FromString(call.payload)))
            else:
                call.trailers(14, "late")
        except OSError:
            pass

    # --- clients ---

    def request(self, rng):
        """(path, message) of some call."""
        secret = self.secret(str(rng.randrange(30)))
        value = MARKER * rng.choice((1, 1, 10, 1000, 20000))
        if rng.random() < 0.15:
            value = envelope.seal(secret, value[:1000])
        ranged = rpc.RangeRequest(key=rng.choice((secret, self.secret(""), self.plain())))
        if ranged.key == self.secret(""):
            ranged.range_end = self.secret("")[:-1] + b"0"
            ranged.limit = rng.choice((0, 1, 3))
        put = rpc.PutRequest(key=secret if rng.random() < 0.8 else self.plain(str(rng.randrange(5))),
                             value=value, prev_kv=rng.random() < 0.3)
        if put.key.startswith(b"/registry/pods"):
            put.value = b"not a secret"
        dice = rng.random()
        if dice < 0.35:
            return KV + "Put", put
        if dice < 0.75:
            return KV + "Range", ranged
        if dice < 0.8:
            return KV + "RangeStream", ranged
        if dice < 0.85:
            return KV + "DeleteRange", rpc.DeleteRangeRequest(key=secret, prev_kv=True)
        return KV + "Txn", rpc.TxnRequest(success=[rpc.RequestOp(request_put=put), rpc.RequestOp(request_range=ranged)],
                                          failure=[rpc.RequestOp(request_range=ranged)])

    def unary(self, client, rng):
        path, message = self.request(rng)
        body = h2raw.grpc_message(message.SerializeToString())
        extra = [("grpc-timeout", rng.choice(("1m", "20m", "1S", "0m", "x")))] if rng.random() < 0.2 else ()
        dice = rng.random()
        if dice < 0.03:
            return client.open("/no.such/Method", end_stream=rng.random() < 0.5)
        if dice < 0.05:
            return client.open(path, extra, end_stream=True)  # half-closed with nothing
        sid = client.open(path, extra)
        if rng.random() < 0.1:
            client.no_credit.add(sid)
        if dice < 0.6:
            client.send_data(sid, body, end_stream=True)
        elif dice < 0.8:  # a part, and perhaps the rest
            at = rng.randrange(len(body))
            client.send_data(sid, body[:at], end_stream=rng.random() < 0.2)
            if rng.random() < 0.5 and not client.stream(sid).done:
                client.send_data(sid, body[at:], end_stream=rng.random() < 0.8)
        elif dice < 0.9:
            client.send_data(sid, body + body, end_stream=True)
        else:
            client.send_data(sid, bytes([rng.randrange(256)]) + body[1:], end_stream=True)
        return sid

    def watch(self, client, rng):
        sid = client.open(WATCH, end_stream=rng.random() < 0.03)
        for _ in range(rng.randrange(1, 4)):
            key = rng.choice((self.secret(""), self.secret(str(rng.randrange(30))), self.plain("")))
            create = rpc.WatchCreateRequest(key=key, range_end=key[:-1] + b"0" if key.endswith(b"/") else b"",
                                            prev_kv=rng.random() < 0.5)
            client.send_data(sid, h2raw.grpc_message(rpc.WatchRequest(create_request=create).SerializeToString()))
        if rng.random() < 0.3:
            client.send_data(sid, h2raw.grpc_message(rpc.WatchRequest(
                cancel_request=rpc.WatchCancelRequest(watch_id=rng.randrange(20))).SerializeToString()),
                end_stream=rng.random() < 0.3)
        if rng.random() < 0.1:
            client.send_data(sid, b"", end_stream=True)
        return sid

    def client_life(self, proxy, rng, until, counts):
        """One connection after the other."""
        while time.monotonic() < until:
            try:
                client = h2raw.Client(proxy.address, {h2raw.INITIAL_WINDOW_SIZE: rng.choice((100, 65535, 1 << 20))})
            except OSError:
                time.sleep(0.02)
                continue
            live = []
            try:
                for _ in range(rng.randrange(1, 150)):
                    if client.closed or client.goaway or time.monotonic() > until:
                        break
                    live.append(self.watch(client, rng) if rng.random() < 0.1 else self.unary(client, rng))
                    counts.append(1)
                    while client.read(0.002 * rng.random() + 0.0005):
                        pass
                    live = [sid for sid in live if not client.stream(sid).done]
                    for sid in rng.sample(live, min(len(live), rng.choice((0, 0, 0, 1, 2)))):
                        client.stream(sid).queue.clear()
                        client.send_rst(sid, rng.choice(CODES))
                        client.stream(sid).reset = -1
                    if len(live) > 30:
                        for sid in live[:20]:
                            client.send_rst(sid, h2raw.CANCEL)
                            client.stream(sid).reset = -1
                if rng.random() < 0.3:
                    client.send_goaway(0)
                if rng.random() < 0.3:
                    client.read(0.05)
            except OSError:
                pass
            client.close()

    # --- the rest ---

    def disturb(self, proxy, rng, until, files):
        """Reloads, a plugin with moods, values under keys that nobody knows yet, connections that break."""
        n = 0
        while time.monotonic() < until:
            n += 1
            self.kms.delay["Decrypt"] = rng.choice((0, 0.005, 0.05, 0.3))
            self.kms.error = {"Decrypt": (Code.INTERNAL, "mood")} if rng.random() < 0.1 else {}
            for _ in range(5):
                key = self.secret(str(rng.randrange(30)))
                with self.fake.lock:
                    self.fake.put(rpc.PutRequest(key=key, value=envelope.seal(key, MARKER * rng.choice((1, 100)))))
            if n % 3 == 0:
                self.write(proxy.config, files[n % 2])
                proxy.process.signal(signal.SIGHUP)
            if rng.random() < 0.05:
                self.fake.drop_connections()
            time.sleep(0.1)

    def test_stress(self):
        rng = harness.seed_of("stress")
        kms, gcm = kms_of(self.kms.path), Key("aesgcm", "second")
        files = [HEAD + rule(["secrets"], kms, local(gcm)), HEAD + rule(["secrets"], local(gcm), kms)]
        self.etcd_rng = random.Random(rng.random())
        proxy = self.start_proxy(files[1], "--stream-threshold=20000", "--workers=2", "--log-level=warn")
        time.sleep(0.5)
        before = proxy.process.fd_count()
        self.fake.script = self.misbehave
        until, counts = time.monotonic() + SECONDS, []
        rngs = [random.Random(rng.random()) for _ in range(7)]
        threads = [threading.Thread(target=self.client_life, args=(proxy, r, until, counts)) for r in rngs[1:]]
        threads.append(threading.Thread(target=self.disturb, args=(proxy, rngs[0], until, files)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = proxy.process.log
        self.assertTrue(proxy.process.alive(), log()[-5000:])
        self.assertGreater(len(counts), 50 * SECONDS if not harness.SANITIZED else 10)
        print(f"{len(counts)} calls", file=harness.sys.stderr)
        self.assertFalse(self.fake.saw(MARKER * 2), "plaintext at etcd")

        # It serves as before, and nothing of all that is left when the spare connections to etcd have gone (30 s).
        self.fake.script = None
        self.kms.delay.clear()
        self.kms.error = {}
        client = harness.Client(proxy.target)
        client.put(self.secret("last"), MARKER, timeout=20)
        self.assertEqual(client.value(self.secret("last")), MARKER)
        client.close()
        proxy.client.close()
        wait_until(lambda: proxy.process.fd_count() <= before, 45,
                   f"end of all connections: {proxy.process.fd_count()} descriptors, {before} at first")
        self.assertEqual(proxy.process.term(30), 0, log()[-5000:])
        for word in "Sanitizer", "runtime error", "CHECK":
            self.assertNotIn(word, log())


if __name__ == "__main__":
    harness.main()
