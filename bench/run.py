#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures etcd-envelope and its peers; see README.md. run.sh builds what this needs and starts it.

A measurement is one run of bench-load against one proxy. Measurements of one load come in rounds: in a
round every proxy has its turn, one right after the other, and a ratio is taken inside a round only. What
is reported is the median of the rounds' ratios, so that a slow minute of the machine spoils one round
and not the result.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import growth
import instructions
import peers
import providers
import report
import side
from load import Load
from process import Process, free_port


UNARY = [Load("range 1x1", "range"), Load("range 1x16", "range", 1, 16), Load("range 4x32", "range", 4, 32),
         Load("put 4x32", "put", 4, 32), Load("range 4x32, no timeout", "range", 4, 32, timeouts=False),
         Load("put 4x32, no timeout", "put", 4, 32, timeouts=False), Load("txn 1x16", "txn", 1, 16)]
LISTS = [Load("list 500x1K", "list-500", 1, 2), Load("list 5000x2K", "list-5000", 1, 2, scale=2)]
WATCH = [Load("watch 20", "watch", 4, watchers=20)]
QUIET = [Load("quiet range", "range", 2, rate=1000, probes=True, scale=1.5),
         Load("quiet put", "put", 2, rate=1000, probes=True, scale=1.5)]
REAL = [Load("put 4x32", "put", 4, 32, scale=1.5), Load("txn 4x32", "txn", 4, 32, scale=1.5),
        Load("watch 20", "watch", 4, watchers=20, scale=1.5)]
APISERVER = [Load("apiserver", "apiserver", 100, rate=1000, probes=True, scale=4)]
WORKERS = [Load("range 4x32", "range", 4, 32), Load("put 4x32", "put", 4, 32)]


class Bench:
    one, big = Load("one", "range"), Load("big", "list-big", 4, 1)

    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        self.files = self.make_files()
        self.running = []
        self.samples = []
        self.memory = {}
        self.syscalls = {}
        self.commands = {}
        self.micro = []
        self.stored = {}  # bytes of a value: {provider: bytes in etcd}
        self.growth = {}  # load: {proxy: peak KiB}
        self.instructions = {}  # case: {part: count}
        self.failed = []  # {group, proxy, load ("": all of them), reason}
        self.stages = {}  # name: seconds
        self.done = 0
        self.planned = 1
        self.begun = time.monotonic()

    # --- before the run

    def make_files(self):
        f = self.folder
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                        "-nodes", "-days", "2", "-subj", "/O=bench", "-addext",  # grpc-proxy refuses a CN
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

    @staticmethod
    def links(count):
        return Load("idle", "range", count, 1)

    def fail(self, group, proxy, load, reason):
        """What could not be measured is a row of the report, not the end of the run."""
        reason = str(reason).strip().replace("\n", " ")[-300:]
        self.failed.append({"group": group, "proxy": proxy, "load": load, "reason": reason})
        print(f"\nleft out: {group}, {proxy}{', ' if load else ''}{load}: {reason}", file=sys.stderr)

    @contextlib.contextmanager
    def stage(self, name):
        begun = time.monotonic()
        try:
            yield
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.fail(name, "all", "", e)
        finally:
            self.stages[name] = round(self.stages.get(name, 0) + time.monotonic() - begun, 1)

    def start(self, name, command, keeps_input=False, env=None):
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        process = Process(name, command, folder, env or self.files.env, keeps_input)
        self.running.append(process)
        return process

    def stop(self, process, patience=5):
        process.stop(patience)
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
        if not os.access(self.options.etcd / "etcd", os.X_OK):
            raise FileNotFoundError(f"there is no etcd in {self.options.etcd}")
        port = free_port()
        self.etcd = self.start("etcd", [
            str(self.options.etcd / "etcd"), "--data-dir", str(self.folder / f"etcd-data-{port}"), "--log-level", "error",
            "--listen-client-urls", f"http://127.0.0.1:{port}", "--advertise-client-urls",
            f"http://127.0.0.1:{port}", "--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync",
            "--quota-backend-bytes", str(8 << 30)])
        self.etcd.wait_port(port)
        self.run_load(self.load_command(port, REAL[0], False, "warm-up-", 300, {}), 30)  # it has a leader then
        return port

    def start_proxy(self, proxy, tls, upstream, label, what):
        name = f"{proxy.name} {label} {what}".strip()
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        spot = peers.Spot(folder, free_port(), upstream, tls, self.files, proxy.workers, free_port())
        command = proxy.command(spot)
        if command[0] is None or not os.access(command[0], os.X_OK):
            raise FileNotFoundError(f"there is no {proxy.name} on this machine")
        process = self.start(name, command, env=dict(self.files.env, GOMAXPROCS=str(proxy.workers)))
        try:
            process.wait_port(spot.port)
        except RuntimeError:
            self.stop(process)
            raise
        process.port = spot.port
        process.proxy = proxy
        process.metrics_port = spot.metrics_port if proxy.is_sealed else None
        if name not in self.commands and what == "":
            self.commands[name] = " ".join(command).replace(str(self.folder), "RUN")
            for path in sorted(folder.glob("*.cfg")) + sorted(folder.glob("*.conf")):
                self.commands[f"{name}, {path.name}"] = path.read_text().replace(str(self.folder), "RUN")
        if proxy.is_sealed:
            time.sleep(0.5)  # its first key comes from the plugin
        return process

    def start_group(self, tls, upstreams, label, proxies=None, what=""):
        """All proxies of the run, before one kind of upstream: (plain port, sealed port). what: for this alone."""
        group = []
        for proxy in proxies or self.proxies:
            try:
                group.append(self.start_proxy(proxy, tls, upstreams[proxy.is_sealed], label, what))
            except (OSError, RuntimeError) as e:
                self.fail(f"{label} {what}".strip(), proxy.name, "", e)
        return group

    def stop_group(self, group, label):
        for process in group:
            if process.is_alive():
                self.memory.setdefault(f"peak {label}", {})[process.proxy.name] = process.memory("VmHWM")
            self.stop(process)

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

    def run_load(self, command, limit):
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip()[-500:])
        return json.loads(run.stdout)

    def say(self, what):
        self.done += 1
        spent = time.monotonic() - self.begun
        if sys.stderr.isatty() or self.done % 20 == 0 or self.done == self.planned:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"[{self.done}/{self.planned}] {spent:4.0f} s  {what:<60}", end=end, file=sys.stderr, flush=True)

    def sample(self, process, target, load, tls, item, upstream):
        """One measurement, through a proxy or (process None) without one."""
        measure = self.options.measure * load.scale
        cpu = {"upstream": upstream.pids()}
        if process:
            cpu["proxy"] = process.pids()
        bytes_before = process.copied_forwarded() if process else None
        out = self.run_load(self.load_command(target, load, tls, item, measure, cpu), 20 + measure / 1000)
        bytes_after = process.copied_forwarded() if process else None
        if out["units"] == 0:
            raise RuntimeError("nothing was answered in the time of a measurement")
        if bytes_before and bytes_after:
            out["copied"], out["forwarded"] = (b - a for a, b in zip(bytes_before, bytes_after))
        return out

    def measure(self, group, label, loads, direct, tls=False, upstream=None, real=False, rounds=0):
        """Rounds of every load through every proxy, and without one. A load that fails twice is given up; a proxy
        that ended or hung has no more of them."""
        broken = {(p.proxy.name, load) for p in group for load in p.proxy.unfit if not real}
        for name, load in broken & {(name, load.name) for name, _ in broken for load in loads}:
            self.fail(label, name, load, peers.UNFIT)
        failures = {}
        gone = set()
        for load in loads:
            for number in range(rounds or self.options.rounds):
                order = [None] + group
                turn = number % len(order)
                for process in order[turn:] + order[:turn]:
                    name = process.proxy.name if process else "direct"
                    self.say(f"{label}: {load.name} through {name}, round {number + 1}")
                    if name in gone or (name, load.name) in broken:
                        continue
                    try:
                        sample = self.sample(process, process.port if process else direct, load, tls,
                                             f"{name.replace(' ', '-')}-{load.kind}-" if real else "",
                                             upstream or self.stub)
                    except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
                        failures[name, load.name] = failures.get((name, load.name), 0) + 1
                        if failures[name, load.name] == 2:
                            broken.add((name, load.name))
                        if process and not process.is_alive():
                            gone.add(name)
                            e = f"it ended during {load.name}: {process.last_words() or e}"
                        elif isinstance(e, subprocess.TimeoutExpired):
                            gone.add(name)
                            e = f"it hung in {load.name}"
                        self.fail(label, name, "" if name in gone else load.name, f"round {number + 1}: {e}")
                        continue
                    sample.update(group=label, load=load.name, proxy=name, round=number)
                    self.samples.append(sample)

    # --- the plan

    def loads_clear(self):
        """{stage: its loads}; they share their proxies."""
        all_of = {"clear": UNARY + LISTS, "watch": WATCH, "quiet": QUIET}
        return {stage: loads for stage, loads in all_of.items() if stage in self.options.stages}

    def plan(self):
        """So many steps the progress line counts."""
        stages, count = self.options.stages, len(self.proxies)
        loads = sum(map(len, self.loads_clear().values())) + \
            (len(UNARY + LISTS) if "tls" in stages else 0) + (len(REAL) if "real" in stages else 0)
        return self.options.rounds * (count + 1) * loads + \
            (self.options.rounds * 3 * len(WORKERS) if "workers" in stages else 0) + \
            (count * 2 if "syscalls" in stages else 0) + (3 if "micro" in stages else 0) + \
            (len(instructions.CASES) if "instructions" in stages else 0) + \
            self.plan_of_real_loads() + (count * (2 if self.options.quick else 4) if "memory" in stages else 0)

    def plan_of_real_loads(self):
        """Of the stages providers, growth and apiserver."""
        o = self.options
        rounds = min(o.rounds, 3)
        return (rounds * len(providers.loads(o.quick)) * (len(providers.NAMES) + 1) if "providers" in o.stages else 0) + \
            (rounds * len(growth.loads(o)) * 3 if "growth" in o.stages else 0) + \
            (o.rounds * (len(self.proxies) + 1) if "apiserver" in o.stages else 0)

    def run(self):
        stages = self.options.stages
        self.proxies = [p for p in peers.PROXIES if not self.options.only or p.name in self.options.only]
        self.planned = self.plan()
        self.start_stub()
        ports = (self.ports["plain"], self.ports["sealed"])
        tls_ports = (self.ports["plain-tls"], self.ports["sealed-tls"])
        if "micro" in stages:
            with self.stage("micro"):
                side.micro(self)
        if "instructions" in stages:
            with self.stage("instructions"):
                instructions.count(self)
        self.run_clear(ports)
        if "tls" in stages:
            with self.stage("tls"):
                group = self.start_group(True, tls_ports, "tls")
                self.measure(group, "tls", UNARY + LISTS, tls_ports[0], tls=True)
                self.stop_group(group, "tls")
        if "workers" in stages:
            with self.stage("workers"):
                group = self.start_group(False, ports, "workers", peers.WORKERS_COMPARED)
                self.measure(group, "workers", WORKERS, ports[0])
                self.stop_group(group, "workers")
        if "memory" in stages:
            with self.stage("memory"):
                both = [("clear", False, ports), ("tls", True, tls_ports)]
                for label, tls, to in both[:1] if self.options.quick else both:
                    side.in_fresh_processes(self, label, "big lists", tls, to, side.big_lists)
                    side.in_fresh_processes(self, label, "idle links", tls, to, side.idle_links)
        if "real" in stages:
            with self.stage("real"):
                port = self.start_etcd()
                group = self.start_group(False, (port, port), "etcd")
                self.measure(group, "etcd", REAL, port, upstream=self.etcd, real=True)
                self.stop_group(group, "etcd")
                self.stop(self.etcd)
        if "apiserver" in stages:
            with self.stage("apiserver"):
                port = self.start_etcd()
                near = [p for p in self.proxies if p.name in ("etcd-envelope", "nghttpx", "haproxy")]
                group = self.start_group(False, (port, port), "apiserver", near)
                self.measure(group, "apiserver", APISERVER, port, upstream=self.etcd, real=True)
                self.stop_group(group, "apiserver")
                self.stop(self.etcd)
        if "providers" in stages:
            with self.stage("providers"):
                providers.measure(self)
        if "growth" in stages:
            with self.stage("growth"):
                growth.measure(self, ports)

    def run_clear(self, ports):
        if not self.loads_clear() and "syscalls" not in self.options.stages:
            return
        group = self.start_group(False, ports, "clear")
        for stage, loads in self.loads_clear().items():
            with self.stage(stage):
                self.measure([p for p in group if p.is_alive()], "clear", loads, ports[0])
        if "syscalls" in self.options.stages:
            with self.stage("syscalls"):
                side.count_syscalls(self, [p for p in group if p.is_alive()], [UNARY[0], UNARY[2]])
        self.stop_group(group, "clear")

    def close(self):
        for process in reversed(list(self.running)):
            process.stop()
        if self.options.keep:
            print(f"files: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def results(self):
        return {"header": report.header(self), "samples": self.samples, "syscalls": self.syscalls,
                "memory": self.memory, "micro": self.micro, "instructions": self.instructions, "stored": self.stored, "growth": self.growth,
                "failed": self.failed}


STAGES = ["micro", "instructions", "clear", "watch", "quiet", "syscalls", "tls", "workers", "memory", "real", "apiserver", "providers", "growth"]
LONG = ["instructions", "providers", "growth"]  # a quick run has them only when they are named


def parse():
    here = pathlib.Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", type=pathlib.Path, default=here.parent / "build/release")
    p.add_argument("--etcd", type=pathlib.Path, help="folder with etcd",
                   default=os.environ.get("ENVELOPE_ETCD_DIR") or here.parent / "build/etcd")
    p.add_argument("--peers", type=pathlib.Path, default=here.parent / "build/bench-peers",
                   help="folder with unpacked packages")
    p.add_argument("--out", type=pathlib.Path, default=here / "out")
    p.add_argument("--quick", action="store_true", help="three short rounds, the nearest peers: under 3 minutes")
    p.add_argument("--rounds", type=int)
    p.add_argument("--measure", type=int, help="milliseconds of a measurement")
    p.add_argument("--warmup", type=int, help="milliseconds before it")
    p.add_argument("--only", type=lambda t: t.split(","), help="proxies, separated by commas")
    p.add_argument("--stages", type=lambda t: t.split(","), help="of " + ",".join(STAGES))
    p.add_argument("--many-watches", action="store_true", help="growth: 10,000 watches, too")
    p.add_argument("--few", action="store_true", help="instructions: a tenth of the requests, to see that it runs")
    p.add_argument("--check", action="store_true", help="instructions: fail when own code costs 3 %% more than kept")
    p.add_argument("--keep-counts", metavar="WHY", help="instructions: keep these figures from now on")
    p.add_argument("--keep", action="store_true", help="keep logs and configurations")
    o = p.parse_args()
    o.rounds = o.rounds or (3 if o.quick else 5)
    o.measure = o.measure or (250 if o.quick else 500)
    o.warmup = o.warmup or (80 if o.quick else 120)
    o.stages = o.stages or [s for s in STAGES if not (o.quick and s in LONG)]
    for kind, given, known in (("stage", o.stages, STAGES), ("proxy", o.only or [], [x.name for x in peers.PROXIES])):
        for name in given:
            if name not in known:
                p.error(f"{name} is no {kind}; there are {', '.join(known)}")
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
    if "instructions" in options.stages and not instructions.conclude(bench):
        sys.exit(1)


if __name__ == "__main__":
    main()
