#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An hour at half of full load, with what happens in a cluster's life: a real etcd and the local KMS plugin are killed
and started again, the plugin's key is rotated, the EncryptionConfiguration is switched back and forth, the proxy is
started anew once in the middle. Memory, descriptors and latency have to stay flat, and no acknowledged write is lost.

    tests/soak.py --minutes 60 [--build build/release]

Load: bench-load as an apiserver (a watch on each connection, 70 % reads, 30 % updates) in slices, at half of the
rate at which the machine still kept up with it; between slices something happens, while four writers that never
pause keep books. Prints a line a slice and the comparison at the end; exit status 1 when something grew or was lost."""
import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
CONNECTIONS = 20
WRITERS = 4
FIRST = 0.2  # of the run, in which caches fill; not compared
GROWTH = 1.05
SLOWER = 2.0  # of the median of p99: the machine is shared
SPARE_FDS = 8
KEEPS_UP_US = 50_000  # of p99: beyond it answers pile up, for the load does not wait for them
LESS = 0.8  # of a rate that was too much
OVERLOADED = "etcdserver: too many requests"  # etcd's own answer when its disk is slower than its log
OVERLOADED_SLICES = 0.05  # at most this part of the slices may end so


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--slice", type=float, default=12, help="seconds of load between two events")
    parser.add_argument("--rate", type=int, default=0, help="requests a second; 0: half of what is kept up with")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--etcd", default=os.environ.get("ENVELOPE_ETCD_DIR", "build/etcd"))
    return parser.parse_args()


OPTIONS = arguments() if __name__ == "__main__" else None
if OPTIONS:  # before harness reads them
    os.environ["ENVELOPE_BUILD"], os.environ["ENVELOPE_ETCD_DIR"] = OPTIONS.build, OPTIONS.etcd
sys.path.insert(0, str(HERE / "e2e"))
import harness  # noqa: E402
import grpc  # noqa: E402

HEAD = """apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
"""
LOCAL = """      - secretbox: {keys: [{name: soak, secret: "c29hay1zb2FrLXNvYWstc29hay1zb2FrLXNvYWstc28="}]}
"""


class Writer(threading.Thread):
    """Updates keys of its own by compare and put, and knows what each may hold."""

    def __init__(self, target, number, stop):
        super().__init__(daemon=True)
        self.client, self.number, self.stop_event = harness.Client(target), number, stop
        self.may_hold, self.acknowledged, self.refused = {}, 0, 0

    def key(self, n):
        return b"/registry/secrets/soak-books/%d-%d" % (self.number, n)

    def run(self):
        n = 0
        while not self.stop_event.is_set():
            n += 1
            key, value = self.key(n % 50), b"value %d of writer %d " % (n, self.number) * 20
            held = self.may_hold.setdefault(key, set())
            held.add(value)
            try:
                self.client.put(key, value, timeout=5)
                self.may_hold[key] = {value}
                self.acknowledged += 1
            except grpc.RpcError:
                self.refused += 1  # it may have happened all the same
            self.stop_event.wait(0.1)

    def wrong(self):
        """Keys that hold neither what was acknowledged last nor what was tried since."""
        out = []
        for key, values in self.may_hold.items():
            if self.client.value(key, timeout=20) not in values:
                out.append(key)
        return out


class Soak:
    def __init__(self, options):
        self.options, self.rng, self.env = options, random.Random(options.seed), harness.Env()
        self.begun = time.monotonic()
        self.etcd = self.env.etcd(flags=["--quota-backend-bytes", str(6 << 30), "--auto-compaction-mode", "periodic",
                                         "--auto-compaction-retention", "1m"])
        self.socket, self.keys = self.env.path("kms.sock"), self.env.path("kms.keys")
        self.program = harness.program("etcd-envelope-local-kms")
        subprocess.run([self.program, "--generate-key", str(self.keys)], check=True)
        self.start_plugin()
        self.files = [self.configuration(True), self.configuration(False)]
        self.config = self.env.path("encryption.yaml")
        self.config.write_text(self.files[0])
        self.proxy = self.env.proxy(self.etcd, self.config, flags=["--workers=2", "--log-level=warn"])
        self.stop = threading.Event()
        self.writers = [Writer(self.proxy.target, i, self.stop) for i in range(WRITERS)]
        self.samples, self.failures, self.restarts = [], [], 0
        self.slices = self.overloaded = 0

    def configuration(self, kms_first):
        kms = f"""      - kms: {{apiVersion: v2, name: soak, endpoint: "unix://{self.socket}", timeout: 3s}}\n"""
        return HEAD + (kms + LOCAL if kms_first else LOCAL + kms)

    def start_plugin(self):
        self.plugin = self.env.start("local-kms", [self.program, "--listen", f"unix://{self.socket}", "--key-file",
                                                   self.keys, "--allow-unlocked-memory"])

    # --- what happens

    def restart_etcd(self):
        self.etcd.process.kill()
        self.etcd.start()

    def restart_plugin(self):
        self.plugin.kill()
        time.sleep(self.rng.random() * 2)
        self.start_plugin()

    def rotate(self):
        """A new key in front of the last seven."""
        fresh = self.env.path("fresh.keys")
        fresh.unlink(missing_ok=True)
        subprocess.run([self.program, "--generate-key", str(fresh)], check=True)
        old = [line for line in self.keys.read_text().splitlines() if line and not line.startswith("#")]
        fresh.write_text(fresh.read_text() + "\n".join(old) + "\n")
        fresh.rename(self.keys)
        self.plugin.signal(signal.SIGHUP)

    def switch(self):
        self.files.reverse()
        fresh = self.env.path("fresh.yaml")
        fresh.write_text(self.files[0])
        fresh.rename(self.config)
        self.proxy.process.signal(signal.SIGHUP)

    def restart_proxy(self):
        if self.proxy.process.term(20) != 0:
            self.failures.append("the proxy did not end with 0")
        self.proxy.client.close()
        self.proxy.start()
        self.restarts += 1

    # --- the load

    def bench(self, kind, seconds, *more):
        return subprocess.run([str(pathlib.Path(self.options.build) / "bench-load"), "--target", self.proxy.target, "--kind", kind,
                              "--connections", str(CONNECTIONS), "--real", "soak-", "--warmup", "1000", "--measure",
                              str(int(seconds * 1000)), *more], capture_output=True, text=True, check=False, timeout=120)

    def full_rate(self):
        """The most requests a second that get their answers in time: from what updates alone reach downwards."""
        rate = int(json.loads(self.bench("txn", 5, "--streams", "4").stdout)["per_s"])
        while rate > 0:
            run = self.bench("apiserver", 5, "--rate", str(rate))
            if run.returncode == 0 and json.loads(run.stdout)["us"]["p99"] < KEEPS_UP_US:
                return rate
            time.sleep(2)  # what has piled up goes
            rate = int(rate * LESS)
        raise RuntimeError("no rate is kept up with: " + run.stderr[-300:])

    def load(self, seconds, rate):
        run = self.bench("apiserver", seconds, "--rate", str(rate))
        self.slices += 1
        if run.returncode != 0 and OVERLOADED in run.stderr:
            self.overloaded += 1
            print("etcd is overloaded, by its own word; this slice does not count", flush=True)
            return None
        if run.returncode != 0:
            self.failures.append(f"bench-load: {run.stderr.strip()[-300:]}")
            return None
        return json.loads(run.stdout)

    def sample(self, event, result):
        if result is None:
            return
        process = self.proxy.process
        row = {"minute": (time.monotonic() - self.begun) / 60, "event": event, "rss": process.rss_mib(),
               "fds": process.fd_count(), "p50": result["us"]["p50"], "p99": result["us"]["p99"]}
        self.samples.append(row)
        print(f"{row['minute']:5.1f} min  {event:<14} RSS {row['rss']:6.1f} MiB  {row['fds']:3} descriptors  "
              f"p50 {row['p50']:7.0f} us  p99 {row['p99']:8.0f} us", flush=True)

    def run(self):
        print(f"seed {self.options.seed}")
        rate = self.options.rate or self.full_rate() // 2
        print(f"the load is {rate:,} requests a second", flush=True)
        for writer in self.writers:
            writer.start()
        until = self.begun + self.options.minutes * 60
        events = [("etcd", self.restart_etcd), ("plugin", self.restart_plugin), ("rotation", self.rotate),
                  ("reload", self.switch), ("nothing", lambda: None)]
        while time.monotonic() < until and self.proxy.process.alive() and len(self.failures) < 3:
            name, act = self.rng.choice(events)
            if not self.restarts and time.monotonic() > self.begun + self.options.minutes * 30:
                name, act = "proxy", self.restart_proxy
            act()
            self.proxy.wait_ready(30)
            self.sample(name, self.load(self.options.slice, rate))
        self.stop.set()
        for writer in self.writers:
            writer.join()

    def judge(self):
        if not self.proxy.process.alive():
            self.failures.append("the proxy ended: " + self.proxy.process.log()[-2000:])
            return
        for writer in self.writers:
            self.failures += [f"lost: {key}" for key in writer.wrong()]
        for record in self.etcd.client.list(b"/registry/secrets/soak-books/").kvs:
            if not record.value.startswith(b"k8s:enc:"):
                self.failures.append(f"in clear: {record.key}")
        if self.overloaded > max(1, OVERLOADED_SLICES * self.slices):
            self.failures.append(f"etcd was overloaded in {self.overloaded} of {self.slices} slices: take a lower --rate")
        # Each half is a life of the proxy's own; memory grows within a life.
        for life in self.lives():
            begin, end = life[:len(life) // 2], life[len(life) // 2:]
            if len(begin) >= 3:
                self.compare(begin, end)
        print(f"acknowledged {sum(w.acknowledged for w in self.writers):,} writes, refused "
              f"{sum(w.refused for w in self.writers)}")

    def lives(self):
        lives, minutes = [[]], self.options.minutes
        begin = 0
        for row in self.samples:
            if row["event"] == "proxy":
                lives.append([])
                begin = row["minute"]
            if row["minute"] > begin + FIRST * minutes / 2:
                lives[-1].append(row)
        return lives

    def compare(self, begin, end):
        """What leaks shows in the least of a half: what is held for a moment comes and goes."""
        for what, of, bound in (("rss", min, lambda v: v * GROWTH + 1), ("fds", min, lambda v: v + SPARE_FDS),
                                ("p99", statistics.median, lambda v: v * SLOWER)):
            first, last = (of(row[what] for row in rows) for rows in (begin, end))
            print(f"{what}: {first:,.1f} before, {last:,.1f} after")
            if last > bound(first):
                self.failures.append(f"{what} grew from {first:,.1f} to {last:,.1f}")


def main():
    soak = Soak(OPTIONS)
    try:
        soak.run()
        soak.judge()
    finally:
        soak.stop.set()
        soak.env.close()
    for failure in soak.failures:
        print("FAILED: " + failure)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
