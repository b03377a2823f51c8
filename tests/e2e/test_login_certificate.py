#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An etcd that takes the CN of a certificate for its user: who is the proxy, and who are its clients without a token?"""
import signal

import grpc

from cluster_tool import OK, PREFIX
import harness
from protos import rpc
from secured import KNOWN, OWN, PLACE, Login, SecuredEtcd


class Certificate(Login):
    """etcd with --client-cert-auth; the certificate "proxy" has the name of a user, "nobody" of none."""

    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope")
        cls.tls = cls.env.tls(names=("client", "proxy", "nobody"))
        cls.etcd = SecuredEtcd(cls.env, tls=cls.tls, flags=["--bcrypt-cost", "4"])
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.etcd.add_administrators()
        cls.etcd.add_user("proxy", OWN, readwrite=["/registry/", PLACE + "/"])
        cls.etcd.add_user("reader", OWN, read=["/registry/"])

    def begin_as(self, name, user=None, **options):
        return self.begin_proxy(self.a, "identity: {}", user=user, flags=[
            "--etcd-cafile", self.tls.path("ca.crt"), "--etcd-certfile", self.tls.path(name + ".crt"),
            "--etcd-keyfile", self.tls.path(name + ".key")], **options)

    def test_own_calls(self):
        """Are those of the certificate's name, without any password; with --etcd-user they are that user's."""
        self.fill(50)
        self.enable()
        proxy = self.begin_as("proxy")
        self.converged(proxy, 50, b"k8s:enc:aesgcm:v1:a:")
        self.assertEqual([p for p in self.problems(proxy) if p["about"] == "etcd"], [])
        self.end(proxy)
        proxy = self.begin_as("nobody", user="proxy")
        self.says(proxy, KNOWN)
        self.converged(proxy, 50, b"k8s:enc:aesgcm:v1:a:")
        self.end(proxy)
        proxy = self.begin_as("nobody", converge=False)
        proxy.process.signal(signal.SIGHUP)
        self.says(proxy, "whether all stored values open is not known")

    def status(self, client, metadata=()):
        try:
            client.unary("/etcdserverpb.KV/Range", rpc.RangeRequest(key=PREFIX + b"ns/one"), bytes, metadata=metadata)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def test_clients_without_a_token(self):
        """They are who the proxy's certificate says, as README warns; with a token they are who that says, and behind a
        certificate that is nobody's they are nobody, be there --etcd-user or not."""
        self.enable()
        proxy = self.begin_as("proxy", converge=False)
        self.assertEqual(self.status(proxy.client), "OK")
        self.says(proxy, "every client that brings no token acts as this user")
        self.assertEqual(self.status(proxy.client, (("token", "none.1"),)), "UNAUTHENTICATED")
        flags = ["--etcd-cafile", self.tls.path("ca.crt"), "--etcd-certfile"]
        for name, is_warned in ("proxy", True), ("nobody", False):
            pair = self.tls.path(name + ".crt"), "--etcd-keyfile", self.tls.path(name + ".key")
            out, _ = self.tool("check", self.configure(self.a, name="check"), *flags, *pair, status=OK,
                               env={"ETCDCTL_USER": f"reader:{OWN}"})
            self.assertEqual(is_warned, "every client that brings no token acts as this user" in out, out)
        for user in None, "proxy":
            proxy = self.begin_as("nobody", user=user, converge=False)
            if user is not None:
                self.says(proxy, KNOWN)
            self.assertNotIn("every client", proxy.process.log())
            self.assertIn(self.status(proxy.client), ("INVALID_ARGUMENT", "PERMISSION_DENIED"))


if __name__ == "__main__":
    harness.main()
