#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster of three members, each on a machine of its own (a network namespace; root only): the leader changes, one
member is gone, cut off from the others or from the proxy, or all but one are. The history of clients beside that is
held to etcd's own; what etcd says of it is passed on in its words."""
import time

import harness  # first: it sets the path to tests/fake
import network
from chaos import BACK_ETCD, SECRETS, Run
from harness import Code, LONG, wait_until
from protos import more, rpc

MEMBERS = "m1", "m2", "m3"
LEADER = (("hasleader", "true"),)  # what clients say that want to know when their member has none


class Cluster(Run, harness.E2E):
    metadata = LEADER

    @classmethod
    def start(cls):
        cls.network = network.make(cls.env, "proxy", *MEMBERS)
        machines = {name: cls.network[name] for name in MEMBERS}
        cls.members = {name: network.Etcd(cls.env, machine, name=name, cluster=machines)
                       for name, machine in machines.items()}
        cls.etcds = list(cls.members.values())
        for member in cls.etcds:
            cls.addClassCleanup(member.stop)
            member.wait_up()
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path)
        cls.proxy = network.Proxy(cls.env, cls.network["proxy"], [m.url for m in cls.etcds], cls.config,
                                  flags=["--workers=2"])
        cls.addClassCleanup(cls.proxy.stop)

    def connect(self):
        return harness.Client(self.proxy.target)

    # --- members ---

    @staticmethod
    def status(member):
        return member.client.unary("/etcdserverpb.Maintenance/Status", more.StatusRequest(), more.StatusResponse, timeout=5)

    def leader(self):
        """Its name, once all agree on one."""
        def agreed():
            try:
                answers = {name: self.status(member) for name, member in self.members.items()}
            except harness.grpc.RpcError:
                return None
            found = {a.leader for a in answers.values()}
            names = [name for name, a in answers.items() if found == {a.header.member_id}]
            return names[0] if names else None
        return wait_until(agreed, 60, "leader")

    def others(self, name):
        return [n for n in MEMBERS if n != name]

    def restart(self, *names, meanwhile=lambda: None):
        """Killed, and back after a while."""
        for name in names:
            self.members[name].process.kill()
            self.members[name].client.close()
        time.sleep(self.pause())
        meanwhile()
        for name in names:
            self.members[name].launch()
        for name in names:
            self.members[name].wait_up()

    def cut(self, pairs, seconds):
        for pair in pairs:
            self.network.cut(*pair)
        time.sleep(seconds)
        self.network.heal()

    # --- faults ---

    def leader_moved(self):
        """etcd does not move it to a member that lags behind; then to the other one."""
        before = self.leader()

        def moved():
            leader = self.leader()
            target = self.status(self.members[self.rng.choice(self.others(leader))]).header.member_id
            try:
                self.members[leader].client.unary("/etcdserverpb.Maintenance/MoveLeader",
                                                  more.MoveLeaderRequest(targetID=target), more.MoveLeaderResponse, timeout=5)
            except harness.grpc.RpcError:
                return False
            return True
        wait_until(lambda: moved() or self.leader() != before, 60, "another leader")

    def leader_killed(self):
        self.restart(self.leader())

    def follower_killed(self):
        self.restart(self.rng.choice(self.others(self.leader())))

    def leader_cut_off(self):
        """It serves clients, but is none any more: the others choose another one after a second."""
        leader = self.leader()
        self.cut([(leader, other) for other in self.others(leader)], 2 + self.pause())

    def member_cut_off_from_the_proxy(self):
        """Sometimes, in a long run, until the proxy gives the member up."""
        self.cut([("proxy", self.rng.choice(MEMBERS))], 16 if LONG and self.rng.random() < 0.3 else 1 + self.pause())

    def all_but_one_killed(self):
        left = self.rng.choice(MEMBERS)
        self.restart(*self.others(left), meanwhile=lambda: self.without_leader(left))

    def without_leader(self, left):
        """What the last member says of it is what clients of the proxy hear, word for word."""
        request = rpc.PutRequest(key=SECRETS[:-1] + b"-none/1", value=b"nobody takes it")

        def said(client):
            try:
                client.kv("Put", request, rpc.PutResponse, timeout=10, metadata=LEADER)
            except harness.grpc.RpcError as error:
                return error.code(), error.details()
            return None
        wanted = Code.UNAVAILABLE, "etcdserver: no leader"
        wait_until(lambda: said(self.members[left].client) == wanted, 20, "end of the leadership")
        client = self.connect()
        wait_until(lambda: said(client) == wanted, 20, f"etcd's own words, not {said(client)}")
        client.close()

    FAULTS = leader_moved, leader_killed, follower_killed, leader_cut_off, member_cut_off_from_the_proxy, all_but_one_killed
    back = {fault.__name__: BACK_ETCD for fault in FAULTS}

    def test_cluster(self):
        self.run_chaos()


if __name__ == "__main__":
    harness.main()
