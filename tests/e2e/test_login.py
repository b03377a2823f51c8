#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""serve before an etcd with users: does what the proxy asks on its own account work with --etcd-user, through all that ends a
token? Does a client ever get the proxy's rights, and does the password stay where it belongs?"""
import os
import signal
import subprocess
import threading
import unittest

import grpc

from cluster_tool import ERROR, PREFIX, USAGE
import harness
from harness import http_get, wait_until
from protos import rpc
from secured import KNOWN, NOT_TAKEN, OWN, PLACE, Login
from test_memory_scan import find


class Works(Login):
    # --- what works ---

    def test_converge_to_its_end(self):
        """Although tokens end, etcd is restarted, and the password is another one."""
        self.fill(200)
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}")
        self.converged(proxy, 200, b"k8s:enc:aesgcm:v1:a:")
        self.assertEqual(len(self.lines(proxy, KNOWN)), 1)
        self.etcd.process.kill()
        self.etcd.process = self.env.start("etcd-again", self.etcd.process.argv)
        wait_until(lambda: self.etcd.etcdctl("get", "x", check=False).returncode == 0, 30, "etcd is back")
        self.change(proxy, self.a, self.b, "identity: {}")
        self.change(proxy, self.b, self.a, "identity: {}")
        self.converged(proxy, 200, b"k8s:enc:aesgcm:v1:b:")
        self.etcd.etcdctl("user", "passwd", "proxy", "--interactive=false", input=b"another-swordfish")
        self.addCleanup(self.etcd.etcdctl, "user", "passwd", "proxy", "--interactive=false", user=False, input=OWN.encode())
        self.says(proxy, NOT_TAKEN)
        self.password("another-swordfish")  # noticed without a signal
        wait_until(lambda: len(self.lines(proxy, KNOWN)) == 2, 30, "known again")
        self.change(proxy, self.a, self.b, "identity: {}")
        self.converged(proxy, 200, b"k8s:enc:aesgcm:v1:a:")
        self.assertEqual([], self.problems(proxy))
        self.assertEqual(len(self.lines(proxy, NOT_TAKEN)), 1)
        self.assertEqual(self.lines(proxy, "the lease has ended"), [])

    def test_looks_at_what_does_not_open(self):
        """Behind the start and at SIGHUP, without --converge; and the look that a reload which drops a key waits for."""
        self.sealed(3, provider="unknown")
        self.raw.put(PREFIX + b"ns/plain", b"plain")
        self.enable()
        proxy = self.begin_proxy(self.a, self.b, "identity: {}", user="reader", converge=False)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: proxy.metric("etcd_envelope_stored_values_unopened") == 3, 30, "look")
        self.change(proxy, self.a, self.b, log="reload failed")
        self.assertIn("identity (1 of secrets)", self.lines(proxy, "reload failed")[-1])
        self.change(proxy, self.a, "identity: {}")  # nothing needs b
        self.assertNotIn("is not known", proxy.process.log())

    def test_looks_at_the_prefix(self):
        self.raw.put(b"/elsewhere/secrets/ns/one", b"x")
        self.enable()
        self.etcd.etcdctl("role", "grant-permission", "--prefix", "reader", "read", "")
        self.addCleanup(self.etcd.etcdctl, "role", "revoke-permission", "reader", "", "--prefix", user=False)
        proxy = self.begin_proxy(self.a, user="reader", converge=False)
        self.says(proxy, "etcd holds keys, but none under --etcd-prefix")

    # --- nobody gets the proxy's rights ---

    def call(self, target, what, metadata=()):
        """What a client without a token, or with a wrong one, gets: (status, message)."""
        key = PREFIX + b"ns/one"
        kv, calls = "/etcdserverpb.KV/", {
            "get": ("Range", rpc.RangeRequest(key=key)),
            "list": ("Range", rpc.RangeRequest(key=PREFIX, range_end=PREFIX + b"\xff")),
            "put": ("Put", rpc.PutRequest(key=key, value=b"mine")),
            "delete": ("DeleteRange", rpc.DeleteRangeRequest(key=key)),
            "txn": ("Txn", rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"mine"))])),
            "place": ("Range", rpc.RangeRequest(key=PLACE.encode() + b"/lock")),
        }
        client = self.env.client(target)
        try:
            method, request = calls[what]
            client.unary(kv + method, request, bytes, metadata=metadata)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()
        finally:
            client.close()

    def test_no_client_gets_the_proxys_rights(self):
        """While the proxy itself logs in again and again and rewrites: without a token a client is nobody, as at etcd."""
        self.fill(100)
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}", flags=["--workers", "2"])
        over, wrong = threading.Event(), []

        def ask(metadata):
            while not over.is_set():
                for what in ("get", "list", "put", "delete", "txn", "place"):
                    seen = self.call(proxy.target, what, metadata)
                    if seen != self.call(self.etcd.url.split("//")[1], what, metadata) or seen[0] == "OK":
                        wrong.append((what, metadata, seen))
        threads = [threading.Thread(target=ask, args=(m,)) for m in ((), (("token", "none.1"),), (("authorization", "x"),))]
        for t in threads:
            t.start()
        try:
            self.converged(proxy, 100, b"k8s:enc:aesgcm:v1:a:")
            self.change(proxy, self.b, self.a, "identity: {}")
            self.converged(proxy, 100, b"k8s:enc:aesgcm:v1:b:")
        finally:
            over.set()
            for t in threads:
                t.join()
            self.assertEqual(wrong, [])
        self.watches_nothing(proxy)
        self.is_who_the_token_says(proxy)

    def watches_nothing(self, proxy):
        for client in proxy.client, self.raw:
            watch = client.watch_stream()
            watch.create(PREFIX, PREFIX + b"\xff")
            answer = watch.next()
            self.assertTrue(answer.canceled, answer)
            self.assertIn("user name is empty", answer.cancel_reason)
            watch.cancel()

    def is_who_the_token_says(self, proxy):
        answer = proxy.client.unary("/etcdserverpb.Auth/Authenticate", b"\x0a\x06reader\x12%c" % len(OWN) + OWN.encode(), bytes)
        token = answer[answer.index(b"\x12") + 2:].decode()
        self.assertEqual(self.call(proxy.target, "get", (("token", token),))[0], "OK")
        self.assertEqual(self.call(proxy.target, "put", (("token", token),))[0], "PERMISSION_DENIED")

    # --- flags and secrets ---

    def refused(self, status, *flags, words, env=None):
        argv = [self.binary, "serve", "--encryption-provider-config", self.configure(self.a), "--listen-metrics-urls", "",
                "--etcd-servers", self.etcd.url, "--listen-client-urls", f"http://127.0.0.1:{harness.free_port()}", *flags]
        done = subprocess.run(list(map(str, argv)), capture_output=True, check=False, timeout=30,
                              env={**os.environ, **(env or {})})
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(words, done.stderr.decode())
        self.assertNotIn("swordfish", done.stderr.decode())

    def test_flags(self):
        good, path = self.password(OWN), self.env.path("odd")
        self.refused(USAGE, "--etcd-user", "proxy", words="--etcd-user needs --etcd-password-file")
        self.refused(USAGE, "--etcd-password-file", good, words="--etcd-password-file needs --etcd-user")
        for flags, env in (["--etcd-user", "proxy:" + OWN], {}), ([], {"ETCD_ENVELOPE_ETCD_USER": "proxy:" + OWN}):
            self.refused(USAGE, "--etcd-password-file", good, *flags, words="takes a name alone", env=env)
        for content, words in ((b"", "is empty"), (b"\n", "is empty"), (b"swordfish\nx\n", "one line"),
                               (b"sword\0fish", "one line"), (b"x" * 513, "longer than 512"), (b"x" * 100000, "longer than 512")):
            path.write_bytes(content)
            self.refused(ERROR, "--etcd-user", "proxy", "--etcd-password-file", path, words=words)
        self.refused(ERROR, "--etcd-user", "proxy", "--etcd-password-file", self.env.path("gone"), words="No such file")

    @unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root may read the memory of a process that is not dumpable")
    @unittest.skipIf(harness.SANITIZED, "a sanitizer keeps freed memory as it was")
    def test_password_is_kept_to_itself(self):
        """In no page, no command line, and in the memory where nothing gets into swap or a core file; an old one nowhere."""
        self.enable()
        proxy = self.begin_proxy(self.a, "identity: {}", converge=False)
        self.says(proxy, KNOWN)
        for path in "/configz", "/statusz", "/", "/metrics", "/healthz?verbose":
            self.assertNotIn(b"swordfish", http_get(proxy.metrics_address, path)[1])
        self.assertIn(b"etcd_password_file", http_get(proxy.metrics_address, "/configz")[1].replace(b"-", b"_"))
        wait_until(lambda: find(proxy.process.pid, {"own": OWN.encode()}) == [("own", True)], 10, "one place, locked")
        self.password("new-password-of-the-proxy")
        new = {"own": OWN.encode(), "new": b"new-password-of-the-proxy"}
        wait_until(lambda: find(proxy.process.pid, new) == [("new", True)], 30, "the new one in its place")


if __name__ == "__main__":
    harness.main()
