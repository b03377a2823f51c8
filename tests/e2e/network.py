# SPDX-License-Identifier: Apache-2.0
"""etcds, proxies and clients on machines of their own (tests/fake/netns.py). What the test itself asks of them goes
through unix sockets, which no cut reaches."""
import sys

import harness
import netns
from client import Client

PORT, PEER_PORT = 2379, 2380  # each machine has its own


class Etcd(harness.Etcd):
    """A member on `machine`; cluster: the machines of all members by name, this one's included."""

    def __init__(self, env, machine, name="etcd", cluster=None, flags=()):
        self.env, self.machine, self.name = env, machine, name
        self.cluster = cluster or {name: machine}
        self.data = env.path(name + ".data")
        self.url = f"http://{machine.address}:{PORT}"
        self.unix = f"{name}:1"  # etcd makes a socket file of this name in its folder
        self.flags = list(flags)
        self.launch()

    def launch(self):
        """Does not wait, for a member answers only when the others are there."""
        peers = {name: f"http://{m.address}:{PEER_PORT}" for name, m in self.cluster.items()}
        argv = [harness.etcd_program("etcd"), "--name", self.name, "--data-dir", self.data, "--log-level", "warn",
                "--listen-client-urls", f"{self.url},unix://{self.unix}", "--advertise-client-urls", self.url,
                "--listen-peer-urls", peers[self.name], "--initial-advertise-peer-urls", peers[self.name],
                "--initial-cluster", ",".join(f"{n}={u}" for n, u in peers.items()), "--unsafe-no-fsync", *self.flags]
        with self.machine:
            self.process = self.env.start(self.name, argv)
        self.client = Client(f"unix:{self.env.path(self.unix)}")

    def wait_up(self):
        harness.wait_until(self.is_up, 30, f"answer of {self.name}; log: {self.process.log_path}")

    def start(self):
        self.launch()
        self.wait_up()


class Proxy(harness.Proxy):
    """On `machine`, with a unix socket for the test and a TCP port for other machines."""

    def __init__(self, env, machine, servers, config, name="proxy", flags=()):
        self.machine = machine
        self.tcp = (machine.address, PORT)
        self.metrics = str(env.path(name + "-metrics.sock"))
        super().__init__(env, servers, config, name=name, flags=["--insecure-listen", *flags], listen=[
            f"unix://{env.path(name + '.sock')}", f"http://{machine.address}:{PORT}"])
        self.metrics_address = self.metrics

    def argv(self):
        argv = super().argv()
        argv[argv.index("--listen-metrics-urls") + 1] = f"unix://{self.metrics}"
        return argv

    def start(self, wait=True):
        with self.machine:
            super().start(wait)


def make(env, *names):
    """The network. Not to be had here, the whole file is skipped, which CTest is told by exit status 77."""
    try:
        network = netns.Network(*names)
    except netns.Unavailable as reason:
        print(f"NOTICE: no network namespaces ({reason}): partitions are not tested", file=sys.stderr)
        env.close()
        sys.exit(77)
    env.stack.callback(network.close)
    return network
