#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients whose machine is gone: no packet comes from them any more, and none says so. The proxy finds out, gives their
descriptors back and cancels at etcd what they asked for, while others are served. Root only: network namespaces."""
import time

import harness  # first: it sets the path to tests/fake
import h2raw
import network
from harness import LONG, http_get, wait_until
from protos import rpc

WATCH = "/etcdserverpb.Watch/Watch"


class Dead(harness.E2E):
    """By PING, which follows --stall-timeout; a long run leaves that at its default, so that TCP's keepalive is first."""
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.network = network.make(cls.env, "proxy", "client")
        cls.etcd = cls.env.etcd(unix=True)
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        flags = [] if LONG else ["--stall-timeout=1s"]
        # Unix sockets lead out of the machine's network.
        cls.proxy = network.Proxy(cls.env, cls.network["proxy"], [f"unix://{cls.etcd.socket}"], cls.config, flags=flags)
        cls.addClassCleanup(cls.proxy.stop)

    def connect(self):
        with self.network["client"]:
            client = h2raw.Client(self.proxy.tcp)
        self.addCleanup(client.close)
        return client

    def watchers(self):
        _, body = http_get(("127.0.0.1", self.etcd.port), "/metrics")
        line = next(x for x in body.decode().splitlines() if x.startswith("etcd_debugging_mvcc_watcher_total "))
        return float(line.split()[1])

    def links(self):
        return self.proxy.metric("etcd_envelope_links")

    def test_cut_off(self):
        links, watchers = self.links(), self.watchers()
        clients = [self.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            create = rpc.WatchCreateRequest(key=self.secret(str(number % 2)))
            sid = client.open(WATCH)
            client.send_data(sid, h2raw.grpc_message(rpc.WatchRequest(create_request=create).SerializeToString()))
            client.wait_for(lambda s=client.stream(sid): s.data, 10, "created")
        self.assertEqual(self.watchers(), watchers + 20)
        fds = self.proxy.process.fd_count()
        self.network.cut("proxy", "client")
        self.addCleanup(self.network.heal)
        began = time.monotonic()

        def are_gone():
            """Half of them are sent events, which nobody acknowledges; the others idle."""
            self.proxy.client.put(self.secret("0"), b"x" * 1000)
            self.assertEqual(self.proxy.client.value(self.secret("0")), b"x" * 1000)
            return self.links() <= links and self.watchers() <= watchers
        wait_until(are_gone, 400 if LONG else 90, "end of the dead clients", step=0.1)
        print(f"found after {time.monotonic() - began:.0f} s", flush=True)
        wait_until(lambda: self.proxy.process.fd_count() <= fds - 20, 10, "descriptors")


if __name__ == "__main__":
    harness.main()
