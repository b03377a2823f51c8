#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leases, cluster, maintenance, auth, health, HTTP/1.1, metadata, deadlines: what passes and what doesn't."""
import json
import socket
import time
import unittest

import harness  # first: it sets the path to tests/fake
import h2raw
from harness import Code, DIRECT, http_get, wait_until
from protos import more, rpc

CLUSTER, MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"


class Leases(harness.E2E):
    def test_life_of_a_lease(self):
        lease = self.client.grant(100).ID
        for key in (self.secret(), self.plain()):
            self.client.put(key, b"leased", lease=lease)
        left = self.client.time_to_live(lease)
        self.assertEqual(left.grantedTTL, 100)
        self.assertEqual(sorted(left.keys), sorted([self.secret(), self.plain()]))
        self.assertIn(lease, [s.ID for s in self.client.lease(
            "LeaseLeases", more.LeaseLeasesRequest(), more.LeaseLeasesResponse).leases])
        watch = self.client.watch(self.secret(), prev_kv=True)
        self.client.revoke(lease)
        event = watch.events(1)[0]
        self.assertEqual(event.prev_kv.value, b"leased")
        watch.cancel()
        self.assertIsNone(self.client.value(self.secret()))
        self.assertStatus(Code.NOT_FOUND, self.client.revoke, lease, text="etcdserver: requested lease not found")

    def test_expiry(self):
        lease = self.client.grant(1).ID
        self.client.put(self.secret(), b"short", lease=lease)
        wait_until(lambda: self.client.value(self.secret()) is None, 10, "expiry")

    @harness.timing
    def test_keep_alive(self):
        one, two = self.client.grant(60).ID, self.client.grant(60).ID
        stream = self.client.keep_alive()
        for _ in range(20):
            for lease in (one, two):
                start = time.monotonic()
                stream.send(more.LeaseKeepAliveRequest(ID=lease))
                answer = stream.next(5)
                self.assertEqual((answer.ID, answer.TTL), (lease, 60))
                self.assertLess(time.monotonic() - start, 2)
        stream.send(more.LeaseKeepAliveRequest(ID=12345))
        self.assertEqual(stream.next(5).TTL, 0)
        stream.half_close()
        with self.assertRaises(EOFError):
            stream.next(5)


class Cluster(harness.E2E):
    def members(self, client=None):
        return (client or self.client).unary(CLUSTER + "MemberList", more.MemberListRequest(),
                                             rpc.MemberListResponse).members

    def test_member_list_leads_to_the_proxy(self):
        real, seen = self.members(self.raw)[0], self.members()[0]
        self.assertEqual((seen.ID, seen.name, list(seen.peerURLs), seen.isLearner),
                         (real.ID, real.name, list(real.peerURLs), real.isLearner))
        if not DIRECT:
            self.assertEqual(list(seen.clientURLs), [self.proxy.listen[0]])

    def test_changes(self):
        """MemberAdd and MemberRemove of a learner: answers are rewritten, too."""
        added = self.client.unary(CLUSTER + "MemberAdd", more.MemberAddRequest(
            peerURLs=["http://127.0.0.1:1"], isLearner=True), rpc.MemberAddResponse)
        try:
            self.assertEqual(len(added.members), 2)
            self.assertEqual(list(added.member.peerURLs), ["http://127.0.0.1:1"])
            if not DIRECT:
                urls = {u for m in list(added.members) + [added.member] for u in m.clientURLs}
                self.assertLessEqual(urls, {self.proxy.listen[0]})
        finally:
            left = self.client.unary(CLUSTER + "MemberRemove", more.MemberRemoveRequest(ID=added.member.ID),
                                     rpc.MemberListResponse)
        self.assertEqual(len(left.members), 1)
        if not DIRECT:
            self.assertEqual(list(left.members[0].clientURLs), [self.proxy.listen[0]])

    def test_member_map_and_unspecific_listen(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        mapped = self.env.proxy(self.etcd, self.config, name="mapped", flags=[
            "--advertise-client-urls", "etcd=http://127.0.0.1:7777,other=http://127.0.0.1:8888"])
        self.assertEqual(list(self.members(mapped.client)[0].clientURLs), ["http://127.0.0.1:7777"])
        mapped.stop()
        port = harness.free_port()
        anywhere = self.env.proxy(self.etcd, self.config, name="anywhere", wait=False,
                                  listen=[f"http://0.0.0.0:{port}"], flags=["--insecure-listen"])
        client = self.env.client(f"127.0.0.1:{port}")
        wait_until(lambda: client.get(b"x"), what="answer")
        self.assertStatus(Code.FAILED_PRECONDITION, self.members, client)
        # A change is made when its answer comes: it is not an error, and leads nobody past the proxy.
        added = client.unary(CLUSTER + "MemberAdd", more.MemberAddRequest(
            peerURLs=["http://127.0.0.1:2"], isLearner=True), rpc.MemberAddResponse)
        left = client.unary(CLUSTER + "MemberRemove", more.MemberRemoveRequest(ID=added.member.ID),
                            rpc.MemberListResponse)
        self.assertEqual((len(added.members), len(left.members)), (2, 1))
        self.assertEqual([u for m in list(added.members) + list(left.members) for u in m.clientURLs], [])
        anywhere.stop()


class Maintenance(harness.E2E):
    def test_status(self):
        ask = lambda c: c.unary(MAINTENANCE + "Status", more.StatusRequest(), bytes)  # noqa: E731
        mine, real = (more.StatusResponse.FromString(ask(c)) for c in (self.client, self.raw))
        self.assertEqual((mine.version, mine.header.member_id), (real.version, real.header.member_id))
        self.assertRegex(mine.version, r"^3\.")

    def test_hash_is_over_stored_bytes(self):
        self.client.put(self.secret(), b"x")
        ask = lambda c: c.unary(MAINTENANCE + "HashKV", more.HashKVRequest(), more.HashKVResponse)  # noqa: E731
        self.assertEqual(ask(self.client).hash, ask(self.raw).hash)

    def test_alarm_defragment_auth_status_compact(self):
        self.client.unary(MAINTENANCE + "Alarm", more.AlarmRequest(), more.AlarmResponse)
        self.client.unary(MAINTENANCE + "Defragment", more.DefragmentRequest(), more.DefragmentResponse)
        self.assertEqual(self.auth_status(self.client), self.auth_status(self.raw))
        revision = self.client.put(self.secret(), b"x").header.revision
        self.client.compact(revision)
        self.assertStatus(Code.OUT_OF_RANGE, self.client.compact, revision)

    def auth_status(self, client):
        """etcd 3.4 does not have it, and its refusal passes."""
        try:
            return client.unary("/etcdserverpb.Auth/AuthStatus", more.AuthStatusRequest(), more.AuthStatusResponse).enabled
        except harness.grpc.RpcError as error:
            return error.code(), error.details()

    def test_snapshot_holds_no_plaintext(self):
        marker = b"MARKER-of-the-snapshot-test"
        self.client.put(self.secret(), marker * 3)
        call = self.client.channel.unary_stream(MAINTENANCE + "Snapshot", None, more.SnapshotResponse.FromString)
        blob, last = b"", None
        for last in call(b"", timeout=60):
            blob += last.blob
        self.assertEqual(last.remaining_bytes, 0)
        self.assertGreater(len(blob), 16384)
        self.assertIn(self.secret(), blob)
        if not DIRECT:
            self.assertNotIn(marker, blob)

    def test_grpc_health(self):
        answer = self.client.unary("/grpc.health.v1.Health/Check", more.HealthCheckRequest(),
                                   more.HealthCheckResponse)
        self.assertEqual(answer.status, 1)
        self.assertStatus(Code.NOT_FOUND, self.client.unary, "/grpc.health.v1.Health/Check",
                          more.HealthCheckRequest(service="nobody"), more.HealthCheckResponse)


class Http1(harness.E2E):
    def test_pages(self):
        self.assertEqual(self.get("/health")[0], 200)
        self.assertEqual(json.loads(self.get("/health")[1])["health"], "true")
        self.assertEqual(self.get("/health?serializable=true")[0], 200)
        self.assertEqual(self.get("/health?exclude=NOSPACE")[0], 200)
        version = json.loads(self.get("/version")[1])
        self.assertEqual(version, json.loads(http_get(("127.0.0.1", self.etcd.port), "/version")[1]))
        for path in ("/livez", "/readyz"):  # since 3.5.11 and 3.4.29
            self.assertEqual(self.get(path)[0], http_get(("127.0.0.1", self.etcd.port), path)[0])
        self.assertIn(b"etcd_server_has_leader", self.get("/metrics")[1])

    def get(self, path):
        return http_get(self.address, path)

    def test_gateway_is_refused(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        body = b'{"key":"L3JlZ2lzdHJ5L3NlY3JldHMvaHR0cDEv","value":"UExBSU4="}'
        for line in (b"POST /v3/kv/put HTTP/1.1", b"PUT /health HTTP/1.1", b"POST /health HTTP/1.1",
                     b"CONNECT /health HTTP/1.1"):
            answer = self.talk(line + b"\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertRegex(answer, rb"^(HTTP/1\.1 4\d\d |$)", line)
        # A second request behind a good one is not answered: Connection: close.
        two = self.talk(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nPOST /v3/kv/put HTTP/1.1\r\nHost: x\r\n"
                        b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(two.count(b"HTTP/1.1 "), 1)
        self.assertIn(b"onnection: close", two)
        self.assertEqual(len(self.raw.list(b"/registry/secrets/http1/").kvs), 0)

    def talk(self, request):
        with socket.create_connection(self.address, 5) as s:
            s.sendall(request)
            answer = b""
            try:
                while data := s.recv(65536):
                    answer += data
            except ConnectionResetError:
                pass
            return answer

    def test_rubbish(self):
        if DIRECT:
            self.skipTest("needs the proxy")
        for request in (b"\0" * 100, b"GET", b"PRI /health HTTP/1.1\r\n\r\n", b"GET /health\r\n\r\n", b"\x16\x03\x01" * 9,
                        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 20000):
            with socket.create_connection(self.address, 10) as s:
                try:
                    s.sendall(request)
                    s.shutdown(socket.SHUT_WR)
                    self.assertNotIn(b" 200 ", s.recv(65536)[:20])
                except OSError:
                    pass
        self.assertEqual(self.get("/health")[0], 200)


class Calls(harness.E2E):
    @harness.timing
    def test_deadline_of_the_client(self):
        """The client's own time-out is the client's; etcd may say so first."""
        started = time.monotonic()
        stream = self.client.channel.stream_stream("/etcdserverpb.Watch/Watch", None, rpc.WatchResponse.FromString)
        create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=self.secret()))
        with self.assertRaises(harness.grpc.RpcError) as caught:
            for _ in stream(iter([create.SerializeToString()]), timeout=0.7):
                pass
        self.assertEqual(caught.exception.code(), Code.DEADLINE_EXCEEDED)
        self.assertLess(time.monotonic() - started, 3)

    @unittest.skipIf(DIRECT, "the proxy's metrics")
    def test_a_deadline_that_is_over_is_counted(self):
        """Nothing goes to etcd, and the refusal is in the metrics as any other; unary and streaming calls alike."""
        reason = 'reason="deadline_exceeded"'
        before = self.proxy.metric("etcd_envelope_refused_total", reason)
        raw = h2raw.Client(self.proxy.address)
        self.addCleanup(raw.close)
        put = rpc.PutRequest(key=self.plain(), value=b"late").SerializeToString()
        stream = raw.call("/etcdserverpb.KV/Put", put, extra=[("grpc-timeout", "1n")])
        self.assertEqual((stream.status, stream.message), (Code.DEADLINE_EXCEEDED.value[0], "context deadline exceeded"))
        sid = raw.open("/etcdserverpb.Watch/Watch", extra=[("grpc-timeout", "1n")])
        self.assertEqual(raw.wait(sid).status, Code.DEADLINE_EXCEEDED.value[0])
        self.assertEqual(self.proxy.metric("etcd_envelope_refused_total", reason), before + 2)
        self.assertIsNone(self.client.value(self.plain()))

    def test_metadata_passes(self):
        """hasleader is acted upon by etcd, a wrong token is judged by etcd."""
        self.client.unary("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"x"), rpc.RangeResponse,
                          metadata=[("hasleader", "true"), ("client-api-version", "3.5"), ("x-bin", b"\0\xff")])
        stream = self.client.watch_stream(metadata=[("hasleader", "true")])
        stream.create(self.secret())
        stream.created()
        stream.cancel()

    def test_content_types(self):
        """etcd answers "application/grpc;x" with "application/grpc+x"."""
        raw = h2raw.Client(self.address)
        self.addCleanup(raw.close)
        body = h2raw.grpc_message(rpc.PutRequest(key=self.secret(), value=b"x").SerializeToString())
        for kind in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
            headers = [(n, kind if n == "content-type" else v) for n, v in raw.headers("/etcdserverpb.KV/Put")]
            sid = raw.open("", headers=headers)
            raw.send_data(sid, body, end_stream=True)
            stream = raw.wait(sid)
            self.assertEqual((stream.status, stream.message), (0, ""), kind)

    def test_many_calls_at_once(self):
        """200 clients, each with a connection of its own."""
        count, rounds = (40, 5) if harness.SANITIZED else (200, 5)

        def one(i):
            client = harness.Client(self.target)
            try:
                key = self.secret(str(i))
                for n in range(rounds):
                    client.put(key, b"%d of %d" % (n, i))
                    self.assertEqual(client.value(key), b"%d of %d" % (n, i))
            finally:
                client.close()
        harness.in_threads(count, one)
        self.assertEqual(self.client.list(self.secret(""), count_only=True).count, count)

    def test_many_calls_on_one_connection(self):
        def call(i):
            put = self.client.channel.unary_unary("/etcdserverpb.KV/Put", None, rpc.PutResponse.FromString)
            request = rpc.PutRequest(key=self.secret(str(i)), value=b"v%d" % i).SerializeToString()
            return put.future(request, timeout=60)
        for future in [call(i) for i in range(2000)]:
            future.result()
        answer = self.client.list(self.secret(""))
        self.assertEqual({k.key: k.value for k in answer.kvs},
                         {self.secret(str(i)): b"v%d" % i for i in range(2000)})


if __name__ == "__main__":
    harness.main()
