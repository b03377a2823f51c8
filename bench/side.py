# SPDX-License-Identifier: Apache-2.0
"""What is measured beside the rounds: system calls, memory, and the micro benches. Each function gets the
Bench of run.py and leaves its figures there."""
import json
import re
import shutil
import subprocess
import time

LINKS = 500


def count_syscalls(bench, group, loads):
    if shutil.which("strace") is None:
        bench.fail("clear", "all", "system calls", "no strace")
        return
    for process in group:
        for load in loads:
            bench.say(f"system calls: {load.name} through {process.proxy.name}")
            try:
                bench.syscalls.setdefault(load.name, {})[process.proxy.name] = per_request(bench, process, load)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                bench.fail("clear", process.proxy.name, f"system calls, {load.name}", e)


def per_request(bench, process, load):
    """A short run is taken off a long one: what connections and warm-up cost is in both."""
    short, long = (strace(bench, process, load, ms) for ms in (200, 1800))
    answered = long[1] - short[1]
    if answered <= 0:
        raise RuntimeError("too few requests under strace")
    calls = {name: round((count - short[0].get(name, 0)) / answered, 4) for name, count in long[0].items()}
    calls = dict(sorted(((n, c) for n, c in calls.items() if c > 0), key=lambda x: -x[1]))
    return {"total": round(sum(calls.values()), 4), "calls": calls}


def strace(bench, process, load, milliseconds):
    """({system call: count}, answered) of one run."""
    out = bench.folder / "strace.txt"
    out.write_text("")
    attach = [x for pid in process.pids() for x in ("-p", str(pid))]
    command = bench.load_command(process.port, load, False, "", milliseconds, {})
    with subprocess.Popen(["strace", "-f", "-c", "-o", str(out)] + attach, stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.4)
        try:
            answered = bench.run_load(command, 30)["answered"]
        finally:
            tracer.terminate()
            tracer.wait(10)
    calls = {m.group(2): int(m.group(1)) for m in
             re.finditer(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", out.read_text(), re.M)}
    calls.pop("total", None)
    return calls, answered


def in_fresh_processes(bench, label, what, tls, upstreams, measure):
    """measure(process, tls) for every proxy, each started for it alone and warmed up by a few requests."""
    for process in bench.start_group(tls, upstreams, label, what=what):
        bench.say(f"memory: {what} through {process.proxy.name}, {label}")
        try:
            bench.run_load(bench.load_command(process.port, bench.one, tls, "", 100, {}), 20)
            bench.memory.setdefault(f"{what} {label}", {})[process.proxy.name] = measure(bench, process, tls)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            bench.fail(f"{label} {what}", process.proxy.name, "", e)
        bench.stop(process)


def big_lists(bench, process, tls):
    """Four lists of 25 MiB at once: the peak above idle."""
    idle = process.memory("VmRSS")
    process.forget_peak()
    bench.run_load(bench.load_command(process.port, bench.big, tls, "", 1200, {}), 60)
    return {"idle_kib": idle, "peak_kib": process.memory("VmHWM")}


def idle_links(bench, process, tls):
    """Connections on which nothing is under way."""
    before = process.memory("VmRSS")
    command = bench.load_command(process.port, bench.links(LINKS), tls, "", 1, {}) + ["--hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as load:
        try:
            if load.stdout.readline() != "holding\n":
                raise RuntimeError(f"the links did not come up: {load.stderr.read()[-300:]}")
            time.sleep(1.2)
            after = process.memory("VmRSS")
        finally:
            load.stdin.close()
            load.wait(10)
    return {"before_kib": before, "after_kib": after, "kib_per_link": round((after - before) / LINKS, 2)}


def micro(bench):
    for module in ("envelope", "etcd", "grpc", "apart"):
        bench.say(f"micro: {module}")
        run = subprocess.run([str(bench.options.build / f"bench-micro-{module}")], capture_output=True, text=True,
                             timeout=60, check=False)
        if run.returncode != 0:
            bench.fail("micro", module, "", run.stderr.strip()[-300:])
        bench.micro += [json.loads(line) for line in run.stdout.splitlines()]
