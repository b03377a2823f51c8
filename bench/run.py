#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures etcd-envelope and its peers; see README.md. run.sh builds what this needs and starts it.

A measurement is one run of bench-load against one proxy. Measurements of one load come in rounds: in a
round every proxy has its turn, one right after the other, and a ratio is taken inside a round only. What
is reported is the median of the rounds' ratios, so that a slow minute of the machine spoils one round
and not the result.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import peers
import report
from process import Process, free_port


@dataclasses.dataclass
class Load:
    name: str
    kind: str
    connections: int = 1
    streams: int = 1
    rate: int = 0
    watchers: int = 0
    probes: bool = False
    scale: float = 1.0  # of the measuring time

    def arguments(self):
        out = ["--kind", self.kind, "--connections", str(self.connections), "--streams", str(self.streams)]
        if self.rate:
            out += ["--rate", str(self.rate)]
        if self.watchers:
            out += ["--watchers", str(self.watchers)]
        if self.probes:
            out += ["--probes"]
        return out


UNARY = [Load("range 1x1", "range"), Load("range 1x16", "range", 1, 16), Load("range 4x32", "range", 4, 32),
         Load("put 4x32", "put", 4, 32), Load("txn 1x16", "txn", 1, 16)]
LISTS = [Load("list 500x1K", "list-500", 1, 2), Load("list 5000x2K", "list-5000", 1, 2, scale=1.5)]
WATCH = [Load("watch 20", "watch", 4, watchers=20)]
QUIET = [Load("quiet range", "range", 2, rate=1000, probes=True, scale=1.5),
         Load("quiet put", "put", 2, rate=1000, probes=True, scale=1.5)]
REAL = [Load("put 4x32", "put", 4, 32), Load("txn 4x32", "txn", 4, 32)]


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        self.files = self.make_files()
        self.running = []
        self.samples = []
        self.memory = {}
        self.syscalls = {}
        self.commands = {}
        self.missing = []
        self.done = 0
        self.planned = 1
        self.begun = time.monotonic()

    # --- before the run

    def make_files(self):
        f = self.folder
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                        "-nodes", "-days", "2", "-subj", "/CN=bench", "-addext",
                        "subjectAltName=IP:127.0.0.1,DNS:127.0.0.1,DNS:localhost", "-keyout", f / "key.pem",
                        "-out", f / "cert.pem"], check=True, capture_output=True)
        (f / "pair.pem").write_bytes((f / "cert.pem").read_bytes() + (f / "key.pem").read_bytes())
        (f / "encryption.yaml").write_text(f"""apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms: {{apiVersion: v2, name: bench, endpoint: "unix://{f}/kms.sock", timeout: 3s}}
""")
        unpacked = self.options.peers
        env = dict(os.environ)
        for name in [n for n in env if n.startswith(("ETCD_", "ETCDCTL_"))]:
            del env[name]
        if unpacked.is_dir():
            found = [str(p) for p in unpacked.glob("usr/lib/*-linux-gnu*")]
            env["LD_LIBRARY_PATH"] = ":".join(found + [env.get("LD_LIBRARY_PATH", "")]).rstrip(":")
        return peers.Files(build=self.options.build, etcd=self.options.etcd, peers=unpacked, cert=f / "cert.pem",
                           key=f / "key.pem", pair=f / "pair.pem", encryption=f / "encryption.yaml", env=env)

    def start(self, name, command, keeps_input=False):
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        process = Process(name, command, folder, self.files.env, keeps_input)
        self.running.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.running.remove(process)

    def start_stub(self):
        self.ports = {name: free_port() for name in ("plain", "sealed", "plain-tls", "sealed-tls")}
        command = [str(self.options.build / "bench-stub")]
        for name, port in self.ports.items():
            command += [f"--{name}", f"127.0.0.1:{port}"]
        command += ["--cert", str(self.files.cert), "--key", str(self.files.key),
                    "--kms", f"unix:{self.folder}/kms.sock"]
        self.stub = self.start("stub", command, keeps_input=True)
        for _ in range(300):
            if "ready" in self.stub.tail():
                return
            time.sleep(0.1)
        raise RuntimeError(f"no stub: {self.stub.tail()}")

    def start_etcd(self):
        port = free_port()
        self.etcd = self.start("etcd", [
            str(self.options.etcd / "etcd"), "--data-dir", str(self.folder / "etcd-data"), "--log-level", "error",
            "--listen-client-urls", f"http://127.0.0.1:{port}", "--advertise-client-urls",
            f"http://127.0.0.1:{port}", "--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync",
            "--quota-backend-bytes", str(8 << 30)])
        self.etcd.wait_port(port)
        return port

    def start_proxy(self, proxy, tls, upstream, label):
        name = f"{proxy.name} {label}"
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        spot = peers.Spot(folder, free_port(), upstream, tls, self.files)
        command = proxy.command(spot)
        if command[0] is None or not os.access(command[0], os.X_OK):
            raise FileNotFoundError(proxy.name)
        process = self.start(name, command)
        process.wait_port(spot.port)
        process.port = spot.port
        process.proxy = proxy
        self.commands.setdefault(name, " ".join(command).replace(str(self.folder), "RUN"))
        if proxy.is_sealed:
            time.sleep(0.5)  # its first key comes from the plugin
        return process

    def start_group(self, tls, upstreams, label):
        """All proxies of the run, before one kind of upstream: {plain: port, sealed: port}."""
        group = []
        for proxy in peers.PROXIES:
            if self.options.only and proxy.name not in self.options.only:
                continue
            try:
                group.append(self.start_proxy(proxy, tls, upstreams[proxy.is_sealed], label))
            except (FileNotFoundError, RuntimeError) as e:
                self.missing.append(f"{proxy.name} ({label}): {e}")
                print(f"\n{proxy.name} ({label}) is left out: {e}", file=sys.stderr)
        return group

    # --- measuring

    def load_command(self, target, load, tls, item, measure, cpu):
        command = [str(self.options.build / "bench-load"), "--target", f"127.0.0.1:{target}",
                   "--warmup", str(self.options.warmup), "--measure", str(int(measure))] + load.arguments()
        if tls:
            command += ["--tls", "--ca", str(self.files.cert)]
        if item:
            command += ["--real", item]
        for name, pids in cpu.items():
            command += ["--cpu", f"{name}={','.join(map(str, pids))}"]
        return command

    def run_load(self, command, limit=60):
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()[-500:]}")
        return json.loads(run.stdout)

    def say(self, what):
        self.done += 1
        spent = time.monotonic() - self.begun
        if sys.stderr.isatty() or self.done % 20 == 0 or self.done == self.planned:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"[{self.done}/{self.planned}] {spent:4.0f} s  {what:<60}", end=end, file=sys.stderr, flush=True)

    def measure(self, group, label, loads, direct, tls=False, upstream=None, real=False):
        """Rounds of every load through every proxy, and without one."""
        upstream = upstream or self.stub
        broken = set()
        for load in loads:
            for number in range(self.options.rounds):
                order = [None] + group
                turn = number % len(order)
                for process in order[turn:] + order[:turn]:
                    name = process.proxy.name if process else "direct"
                    self.say(f"{label}: {load.name} through {name}, round {number + 1}")
                    if (name, load.name) in broken:
                        continue
                    cpu = {"upstream": upstream.pids()}
                    if process:
                        cpu["proxy"] = process.pids()
                    item = f"{name}-{load.kind}-" if real else ""
                    command = self.load_command(process.port if process else direct, load, tls, item,
                                                self.options.measure * load.scale, cpu)
                    try:
                        sample = self.run_load(command)
                    except (RuntimeError, subprocess.TimeoutExpired) as e:
                        broken.add((name, load.name))
                        self.missing.append(f"{name} ({label}, {load.name}): {e}")
                        print(f"\n{e}", file=sys.stderr)
                        continue
                    sample.update(group=label, load=load.name, proxy=name, round=number)
                    self.samples.append(sample)

    def count_syscalls(self, group, loads):
        """strace -c over a whole short run: its setup is part of the count, so the run is long enough."""
        if shutil.which("strace") is None:
            self.missing.append("system calls: no strace")
            return
        for process in group:
            for load in loads:
                self.say(f"system calls: {load.name} through {process.proxy.name}")
                out = self.folder / "strace.txt"
                out.write_text("")
                attach = [x for pid in process.pids() for x in ("-p", str(pid))]
                strace = subprocess.Popen(["strace", "-f", "-c", "-o", str(out)] + attach,
                                          stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
                time.sleep(0.5)
                try:
                    sample = self.run_load(self.load_command(process.port, load, False, "", 2500, {}))
                except RuntimeError as e:
                    self.missing.append(f"{process.proxy.name} (strace, {load.name}): {e}")
                    sample = None
                strace.terminate()
                strace.wait(10)
                strace.stderr.close()
                calls = {m.group(2): int(m.group(1)) for m in
                         re.finditer(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", out.read_text(), re.M)}
                calls.pop("total", None)
                if sample and sample["answered"]:
                    per = {n: round(c / sample["answered"], 4) for n, c in
                           sorted(calls.items(), key=lambda x: -x[1])}
                    self.syscalls.setdefault(load.name, {})[process.proxy.name] = {
                        "total": round(sum(calls.values()) / sample["answered"], 4), "calls": per}

    def measure_big(self, label, tls, upstreams):
        """Four lists of 25 MiB at once, in fresh processes: peak above idle."""
        for process in self.start_group(tls, upstreams, f"{label} fresh"):
            self.say(f"memory: big lists through {process.proxy.name}")
            load = Load("big", "list-big", 4, 1)
            try:
                self.run_load(self.load_command(process.port, Load("one", "range"), tls, "", 100, {}))
                idle = process.memory("VmRSS")
                process.forget_peak()
                self.run_load(self.load_command(process.port, load, tls, "", 1500, {}))
                self.memory.setdefault(f"big lists {label}", {})[process.proxy.name] = {
                    "idle_kib": idle, "peak_kib": process.memory("VmHWM")}
            except RuntimeError as e:
                self.missing.append(f"{process.proxy.name} (big lists {label}): {e}")
            self.stop(process)

    def measure_links(self, label, tls, upstreams):
        """500 links with nothing under way, in fresh processes."""
        count = 500
        for process in self.start_group(tls, upstreams, f"{label} links"):
            self.say(f"memory: idle links through {process.proxy.name}")
            try:
                self.run_load(self.load_command(process.port, Load("one", "range"), tls, "", 100, {}))
                before = process.memory("VmRSS")
                command = self.load_command(process.port, Load("idle", "range", count, 1), tls, "", 1, {}) + ["--hold"]
                with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
                    if load.stdout.readline() != "holding\n":
                        raise RuntimeError("the links did not come up")
                    time.sleep(1.5)
                    after = process.memory("VmRSS")
                    load.stdin.close()
                    load.wait(10)
                self.memory.setdefault(f"idle links {label}", {})[process.proxy.name] = {
                    "before_kib": before, "after_kib": after, "kib_per_link": round((after - before) / count, 2)}
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                self.missing.append(f"{process.proxy.name} (idle links {label}): {e}")
            self.stop(process)

    # --- the plan

    def run(self):
        stages = self.options.stages
        quick = self.options.quick
        count = len(self.options.only or peers.PROXIES)
        unary = UNARY
        clear = (unary + LISTS if "clear" in stages else []) + (WATCH if "watch" in stages else []) + \
            (QUIET if "quiet" in stages else [])
        with_tls = unary + LISTS if "tls" in stages else []
        real = REAL if "real" in stages else []
        per_load = self.options.rounds * (count + 1)
        self.planned = per_load * (len(clear) + len(with_tls) + len(real)) + \
            (count * 2 if "syscalls" in stages else 0) + (count * (2 if quick else 4) if "memory" in stages else 0)
        self.start_stub()
        ports = (self.ports["plain"], self.ports["sealed"])
        tls_ports = (self.ports["plain-tls"], self.ports["sealed-tls"])
        if clear or "syscalls" in stages:
            group = self.start_group(False, ports, "clear")
            self.measure(group, "clear", clear, ports[0])
            if "syscalls" in stages:
                self.count_syscalls(group, [UNARY[0], UNARY[2]])
            for process in group:
                self.stop(process)
        if with_tls:
            group = self.start_group(True, tls_ports, "tls")
            self.measure(group, "tls", with_tls, tls_ports[0], tls=True)
            for process in group:
                self.stop(process)
        if "memory" in stages:
            self.measure_big("clear", False, ports)
            self.measure_links("clear", False, ports)
            if not quick:
                self.measure_big("tls", True, tls_ports)
                self.measure_links("tls", True, tls_ports)
        if real:
            port = self.start_etcd()
            group = self.start_group(False, (port, port), "etcd")
            self.measure(group, "etcd", real, port, upstream=self.etcd, real=True)
            for process in group:
                self.stop(process)

    def close(self):
        for process in reversed(list(self.running)):
            process.stop()
        if self.options.keep:
            print(f"files: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def results(self):
        return {"header": report.header(self), "samples": self.samples, "syscalls": self.syscalls,
                "memory": self.memory, "missing": self.missing}


STAGES = ["clear", "tls", "watch", "quiet", "syscalls", "memory", "real"]


def parse():
    here = pathlib.Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", type=pathlib.Path, default=here.parent / "build/release")
    p.add_argument("--etcd", type=pathlib.Path, default=here.parent / "build/etcd", help="folder with etcd")
    p.add_argument("--peers", type=pathlib.Path, default=here.parent / "build/bench-peers",
                   help="folder with unpacked packages")
    p.add_argument("--out", type=pathlib.Path, default=here / "out")
    p.add_argument("--quick", action="store_true", help="three short rounds, the nearest peers: under 3 minutes")
    p.add_argument("--rounds", type=int)
    p.add_argument("--measure", type=int, help="milliseconds of a measurement")
    p.add_argument("--warmup", type=int, default=120)
    p.add_argument("--only", type=lambda t: t.split(","), help="proxies, separated by commas")
    p.add_argument("--stages", type=lambda t: t.split(","), help="of " + ",".join(STAGES))
    p.add_argument("--keep", action="store_true", help="keep logs and configurations")
    o = p.parse_args()
    o.rounds = o.rounds or (3 if o.quick else 5)
    o.measure = o.measure or (250 if o.quick else 600)
    o.stages = o.stages or STAGES
    if o.quick and o.only is None:
        o.only = ["etcd-envelope", "nghttpx", "haproxy"]
    return o


def main():
    options = parse()
    bench = Bench(options)
    try:
        bench.run()
    finally:
        bench.close()
    options.out.mkdir(parents=True, exist_ok=True)
    report.write(bench.results(), options.out)
    print(f"\nin {options.out}: results.md, results.json and the plots", file=sys.stderr)


if __name__ == "__main__":
    main()
