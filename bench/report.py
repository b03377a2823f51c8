# SPDX-License-Identifier: Apache-2.0
"""From samples to medians of ratios, the table, the goals and the plots."""
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys

import peers

OURS = "etcd-envelope"
UNARY = ["range 1x16", "range 4x32", "put 4x32", "txn 1x16"]  # of the goals' geometric mean


# --- what the samples say

class Samples:
    def __init__(self, samples):
        self.by = {}
        for s in samples:
            self.by.setdefault((s["group"], s["load"]), {}).setdefault(s["round"], {})[s["proxy"]] = s

    def loads(self, group):
        return [load for g, load in self.by if g == group]

    def proxies(self, group):
        seen = []
        for (g, _), rounds in self.by.items():
            if g == group:
                for proxies in rounds.values():
                    seen += [p for p in proxies if p not in seen]
        order = [p.name for p in peers.PROXIES]
        return sorted((p for p in seen if p != "direct"), key=order.index)

    def median(self, group, load, value):
        """Median over the rounds of value(round), where round is {proxy: sample}; None: no such rounds."""
        found = []
        for proxies in self.by.get((group, load), {}).values():
            try:
                found.append(value(proxies))
            except (KeyError, ZeroDivisionError):
                pass
        return statistics.median(found) if found else None

    def cpu(self, group, load, proxy):
        return self.median(group, load, lambda r: r[proxy]["cpu_us_proxy"])

    def cpu_ratio(self, group, load, other):
        return self.median(group, load, lambda r: r[OURS]["cpu_us_proxy"] / r[other]["cpu_us_proxy"])

    def rate_ratio(self, group, load, proxy):
        return self.median(group, load, lambda r: r[proxy]["per_s"] / r["direct"]["per_s"])

    def added(self, group, load, proxy, which):
        return self.median(group, load, lambda r: r[proxy]["us"][which] - r["direct"]["us"][which])

    def added_ratio(self, group, load, other, which):
        """Of medians: a difference of two latencies is too small to be divided round by round."""
        ours, theirs = self.added(group, load, OURS, which), self.added(group, load, other, which)
        return ours / theirs if ours is not None and theirs else None

    def mean_ratio(self, group, other):
        ratios = [self.cpu_ratio(group, load, other) for load in UNARY]
        return None if None in ratios else statistics.geometric_mean(ratios)


# --- the goals

def goals(s, results):
    """(what, measured, bound, is met, comparison): what the project wants to reach. What a run did not measure
    stands there all the same, as None: a goal must not vanish because its load failed."""
    out = []

    def most(what, value, bound):
        is_known = value is not None and bound is not None
        out.append((what, value, bound, value <= bound if is_known else None, "<="))

    def least(what, value, bound):
        out.append((what, value, bound, None if value is None else value >= bound, ">="))

    for group, bounds in (("clear", {"nghttpx": .70, "haproxy": .30, "grpc-proxy": .11}),
                          ("tls", {"nghttpx": .70, "haproxy": .5})):
        for other, bound in bounds.items():
            most(f"unary CPU, {group}, of {other}", s.mean_ratio(group, other), bound)
    most("added p50, range 1x1, of gateway", s.added_ratio("clear", "range 1x1", "gateway", "p50"), 1.1)
    most("added p50, range 1x1, of haproxy", s.added_ratio("clear", "range 1x1", "haproxy", "p50"), .5)
    for load, bound in (("range 1x1", 6), ("range 4x32", .20)):
        counted = results["syscalls"].get(load, {}).get(OURS)
        most(f"system calls a request, {load}", counted and counted["total"], bound)
    for load, other, bound in (("list 500x1K", "nghttpx", 1.1), ("list 500x1K", "haproxy", .6),
                               ("list 5000x2K", "nghttpx", 1.4), ("list 5000x2K", "haproxy", .5)):
        most(f"CPU of {load}, clear, of {other}", s.cpu_ratio("clear", load, other), bound)
    most("CPU of list 500x1K, tls, of nghttpx", s.cpu_ratio("tls", "list 500x1K", "nghttpx"), .85)
    most("CPU of list 5000x2K, tls, of nghttpx", s.cpu_ratio("tls", "list 5000x2K", "nghttpx"), .95)
    for label in ("clear", "tls"):
        big = results["memory"].get(f"big lists {label}", {}).get(OURS)
        most(f"MiB above idle, four 25 MiB lists, {label}",
             big and (big["peak_kib"] - big["idle_kib"]) / 1024, 12)
        links = results["memory"].get(f"idle links {label}", {})
        most(f"KiB per idle link, {label} (nghttpx's)", links.get(OURS, {}).get("kib_per_link"),
             links.get("nghttpx", {}).get("kib_per_link"))
    most("CPU per watch event, of nghttpx", s.cpu_ratio("clear", "watch 20", "nghttpx"), 1.0)
    for load in ("quiet range", "quiet put"):
        most(f"CPU, {load}, of nghttpx", s.cpu_ratio("clear", load, "nghttpx"), .75)
    for load in ("put 4x32", "txn 4x32"):
        least(f"real etcd, {load}: requests/s of direct", s.rate_ratio("etcd", load, OURS), .95)
        most(f"real etcd, {load}: CPU of etcd's",
             s.median("etcd", load, lambda r: r[OURS]["cpu_us_proxy"] / r[OURS]["cpu_us_upstream"]), .17)
    return out


# --- text

def header(bench):
    cpu = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu, "cpus": os.cpu_count(), "kernel": platform.release(),
        "load_average": os.getloadavg()[2], "versions": peers.versions(bench.files),
        "command": "bench/run.sh " + " ".join(sys.argv[1:]),
        "rounds": bench.options.rounds, "measure_ms": bench.options.measure,
        "seconds": round(0 if not bench.begun else __import__("time").monotonic() - bench.begun),
        "commands": bench.commands,
    }


def cell(value, digits=None):
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:.{digits}f}"


def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    out += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(out) + "\n"


TITLES = {"clear": "In clear on both sides, stub upstream", "tls": "TLS on both sides, stub upstream",
          "etcd": "In clear, before a real etcd"}


def group_text(s, group):
    loads, proxies = s.loads(group), s.proxies(group)
    ours = OURS in proxies
    out = [f"## {TITLES[group]}\n"]
    out.append("CPU of the proxy per request (per delivered event for watch), microseconds; in brackets "
               f"{OURS}'s of it, the median of the rounds' ratios\n")
    rows = []
    for proxy in proxies:
        row = [proxy]
        for load in loads:
            text = cell(s.cpu(group, load, proxy))
            ratio = s.cpu_ratio(group, load, proxy) if ours and proxy != OURS else None
            row.append(text + (f" ({cell(ratio, 2)})" if ratio is not None else ""))
        if ours and group != "etcd":
            row.append("1" if proxy == OURS else cell(s.mean_ratio(group, proxy), 3))
        rows.append(row)
    out.append(table(["proxy"] + loads + (["unary mean"] if ours and group != "etcd" else []), rows))
    out.append("Requests per second, of direct\n")
    rows = [["direct, requests/s"] + [cell(s.median(group, load, lambda r: r["direct"]["per_s"]), 0) for load in loads]]
    rows += [[proxy] + [cell(s.rate_ratio(group, load, proxy), 2) for load in loads] for proxy in proxies]
    out.append(table(["proxy"] + loads, rows))
    out.append("Latency, microseconds: p50 / p99 / p99.9\n")
    rows = []
    for proxy in ["direct"] + proxies:
        row = [proxy]
        for load in loads:
            row.append(" / ".join(cell(s.median(group, load, lambda r, w=w, p=proxy: r[p]["us"][w]), 0)
                                  for w in ("p50", "p99", "p999")))
        rows.append(row)
    out.append(table(["proxy"] + loads, rows))
    return "\n".join(out)


def memory_text(results):
    out = ["## Memory\n"]
    for label, by in results["memory"].items():
        if label.startswith("big"):
            rows = [[p, cell(m["idle_kib"] / 1024, 1), cell(m["peak_kib"] / 1024, 1),
                     cell((m["peak_kib"] - m["idle_kib"]) / 1024, 1)] for p, m in by.items()]
            out.append(f"Four lists of 25 MiB at once, {label.split()[-1]}, MiB\n")
            out.append(table(["proxy", "idle", "peak (VmHWM)", "above idle"], rows))
        else:
            rows = [[p, cell(m["before_kib"] / 1024, 1), cell(m["after_kib"] / 1024, 1), cell(m["kib_per_link"], 1)]
                    for p, m in by.items()]
            out.append(f"500 idle links, {label.split()[-1]}\n")
            out.append(table(["proxy", "before, MiB", "after, MiB", "KiB a link"], rows))
    return "\n".join(out)


def syscalls_text(results):
    rows = []
    for load, by in results["syscalls"].items():
        for proxy, counted in by.items():
            most = ", ".join(f"{n} {c:g}" for n, c in list(counted["calls"].items())[:6] if c >= 0.005)
            rows.append([load, proxy, cell(counted["total"], 2), most])
    return "## System calls a request (strace -c)\n\n" + table(["load", "proxy", "all", "which"], rows)


def text(results):
    s = Samples(results["samples"])
    h = results["header"]
    out = ["# Measured\n", f"{h['when']}, {h['cpu']}, {h['cpus']} CPUs, Linux {h['kernel']}, load average before "
           f"the end {h['load_average']:.1f}; {h['rounds']} rounds of {h['measure_ms']} ms; {h['seconds']} s in all\n",
           f"`{h['command']}`\n", "; ".join(f"{k}: {v}" for k, v in h["versions"].items()) + "\n"]
    listed = goals(s, results)
    if listed:
        rows = [[what, "not measured" if value is None else cell(value, 3 if value < 10 else 1),
                 f"{sign} {cell(bound, 2)}", {True: "yes", False: "**no**", None: "?"}[met]]
                for what, value, bound, met, sign in listed]
        out += ["## Goals\n", table(["what", "measured", "goal", "met"], rows)]
    out += [group_text(s, group) for group in TITLES if s.loads(group)]
    if results["syscalls"]:
        out.append(syscalls_text(results))
    if results["memory"]:
        out.append(memory_text(results))
    if results["missing"]:
        out += ["## Left out\n", "\n".join(f"- {m}" for m in results["missing"]) + "\n"]
    out += ["## Commands\n", "```"] + [f"{n}: {c}" for n, c in h["commands"].items()] + ["```\n"]
    return "\n".join(out)


# --- plots

STYLE = """set terminal svg size 900,420 font "sans-serif,12" background "#ffffff"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.85 noborder
set boxwidth 0.9
set grid ytics lc rgb "#dddddd"
set border 3 lc rgb "#888888"
set xtics nomirror
set ytics nomirror
set key outside right top
"""
COLOURS = {"etcd-envelope": "#1b6ca8", "nghttpx": "#e08e45", "haproxy": "#6a994e", "nginx": "#9d8189",
           "gateway": "#b0b0b0", "grpc-proxy": "#c1666b"}


def plot(out, name, title, label, loads, proxies, value, extra=""):
    """A cluster of bars for every load, a bar for every proxy."""
    rows = [[f'"{load}"'] + [value(load, proxy) for proxy in proxies] for load in loads]
    if not rows or not proxies:
        return
    data = "\n".join(" ".join("NaN" if v is None else v if isinstance(v, str) else f"{v:.4f}" for v in row)
                     for row in rows)
    bars = ", ".join(f'$data using {i + 2}{":xtic(1)" if i == 0 else ""} title "{p}" lc rgb "{COLOURS.get(p, "#000")}"'
                     for i, p in enumerate(proxies))
    script = (f'$data << END\n{data}\nEND\n{STYLE}set output "{out / (name + ".svg")}"\nset title "{title}"\n'
              f'set ylabel "{label}"\n{extra}plot {bars}\n')
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def plots(results, out):
    if shutil.which("gnuplot") is None:
        return
    s = Samples(results["samples"])
    for group in TITLES:
        proxies = s.proxies(group)
        if OURS not in proxies:
            continue

        def cpu(load, proxy, group=group):
            return s.cpu(group, load, proxy)

        def added(load, proxy, group=group):
            return s.added(group, load, proxy, "p50")

        where = {"clear": "in clear", "tls": "TLS", "etcd": "before etcd"}[group]
        for part, loads in (("unary", [x for x in s.loads(group) if "1x1" != x[-3:] and not x.startswith(("list", "quiet"))]),
                            ("lists", [x for x in s.loads(group) if x.startswith("list")]),
                            ("one", [x for x in s.loads(group) if x.endswith("1x1") or x.startswith("quiet")])):
            if loads:
                plot(out, f"cpu-{group}-{part}", f"CPU of the proxy per request, {where} (log scale)", "microseconds",
                     loads, proxies, cpu, "set logscale y\nset yrange [1:*]\n")
        one = [x for x in s.loads(group) if x.endswith("1x1")]
        if one:
            plot(out, f"latency-{group}", f"Added median latency, one request at a time, {where}", "microseconds", one,
                 proxies, added, "set yrange [0:*]\n")


def write(results, out):
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "results.md").write_text(text(results))
    plots(results, out)
