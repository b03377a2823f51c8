# SPDX-License-Identifier: Apache-2.0
"""From samples to medians of ratios, the table, the goals and the plots."""
import datetime
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

import growth
import instructions
import peers
import providers

OURS = "etcd-envelope"
ONE_WORKER = "etcd-envelope, 1 worker"
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
        return sorted((p for p in seen if p != "direct"), key=lambda p: order.index(p) if p in order else len(order))

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

    def mean_cpu(self, group, proxy):
        found = [self.cpu(group, load, proxy) for load in UNARY]
        return None if None in found else statistics.geometric_mean(found)

    def copied_share(self, group, load):
        return self.median(group, load, lambda r: r[OURS]["copied"] / r[OURS]["forwarded"])

    def two_of_one(self, load):
        """(by requests/s, by CPU per request): what two workers do, of what one does. Where generator and
        stub need the processors as well, only the second can show it."""
        return (self.median("workers", load, lambda r: r[OURS]["per_s"] / r[ONE_WORKER]["per_s"]),
                self.median("workers", load, lambda r: 2 * r[ONE_WORKER]["cpu_us_proxy"] / r[OURS]["cpu_us_proxy"]))


def crypto(results, size):
    """The worse of seal and open, of the reference."""
    found = [m["of_second"] for m in results["micro"] if m["bytes"] == size and "of_second" in m]
    return max(found) if found else None


# --- the goals

def openssl_of(results):
    """(3, 0) and the like; (0, 0): not known."""
    found = re.search(r"OpenSSL (\d+)\.(\d+)", results["header"]["versions"].get("openssl", ""))
    return tuple(map(int, found.groups())) if found else (0, 0)


def mib(kib):
    return None if kib is None else kib / 1024


def goals(s, results):
    """(what, measured, bound, is met, comparison): what the project wants to reach. What a run did not measure
    stands there all the same, as None: a goal must not vanish because its load failed."""
    out = []

    def most(what, value, bound):
        is_known = value is not None and bound is not None
        out.append((what, value, bound, value <= bound if is_known else None, "<="))

    def least(what, value, bound):
        out.append((what, value, bound, None if value is None else value >= bound, ">="))

    new = openssl_of(results) >= (3, 5)  # its AES-GCM is faster, so that lists can be, too
    for group, bounds in (("clear", {"nghttpx": .70, "haproxy": .35}), ("tls", {"nghttpx": .70, "haproxy": .35})):
        for other, bound in bounds.items():
            most(f"unary CPU, {group}, of {other}", s.mean_ratio(group, other), bound)
        for load in ("range 4x32, no timeout", "put 4x32, no timeout"):
            most(f"CPU of {load}, {group}, of nghttpx", s.cpu_ratio(group, load, "nghttpx"), .70)
    most("added p50, range 1x1, of gateway", s.added_ratio("clear", "range 1x1", "gateway", "p50"), 1.2)
    most("added p50, range 1x1, of haproxy", s.added_ratio("clear", "range 1x1", "haproxy", "p50"), .7)
    for load, bound in (("range 1x1", 6), ("range 4x32", .19)):
        counted = results["syscalls"].get(load, {}).get(OURS)
        most(f"system calls a request, {load}", counted and counted["total"], bound)
    for load, bound in (("range 4x32", 14000), ("put 4x32", 14000), (instructions.PER_KV[0], 1200)):
        most(f"instructions of our own code, {load}", results["instructions"].get(load, {}).get("own"), bound)
    for load, group, other, bound in (("list 500x1K", "clear", "nghttpx", 1.7 if new else 2.2),
                                      ("list 500x1K", "clear", "haproxy", .6),
                                      ("list 5000x2K", "clear", "nghttpx", 1.5 if new else 1.8),
                                      ("list 5000x2K", "clear", "haproxy", .55),
                                      ("list 500x1K", "tls", "nghttpx", 1.15 if new else 1.5),
                                      ("list 5000x2K", "tls", "nghttpx", 1.15 if new else 1.5)):
        most(f"CPU of {load}, {group}, of {other}", s.cpu_ratio(group, load, other), bound)
    for load in ("list 500x1K", "list 5000x2K"):
        most(f"copied of forwarded bytes, {load}, clear", s.copied_share("clear", load), .045)
    for size, name in ((64, "64 B"), (1024, "1 KiB"), (16384, "16 KiB"), (1048576, "1 MiB")):
        most(f"crypto CPU of an object of {name}, of the best C (worse of seal, open)", crypto(results, size), 1.15)
    for label, bound in (("clear", 24), ("tls", 45)):
        big = results["memory"].get(f"big lists {label}", {}).get(OURS)
        most(f"MiB above idle, four 25 MiB lists, {label}",
             big and (big["peak_kib"] - big["idle_kib"]) / 1024, 12)
        links = results["memory"].get(f"idle links {label}", {})
        most(f"KiB per idle link, {label}", links.get(OURS, {}).get("kib_per_link"), bound)
    for load, bound in (("100 x 2", 1.0), ("1000 x 1", 1.1)):
        most(f"CPU of {load} connections x streams, of nghttpx", s.cpu_ratio(growth.GROUP, load, "nghttpx"), bound)
    peak = results["growth"].get("1000 x 1", {})
    most("peak MiB at 1000 x 1 (nghttpx's)", mib(peak.get(OURS)), mib(peak.get("nghttpx")))
    most("stub, 20 watchers: CPU per event, of nghttpx", s.cpu_ratio("clear", "watch 20", "nghttpx"), 1.0)
    most("real etcd, 20 watchers: CPU per event, of nghttpx", s.cpu_ratio("etcd", "watch 20", "nghttpx"), 1.0)
    for load in ("quiet range", "quiet put"):
        most(f"CPU, {load}, of nghttpx", s.cpu_ratio("clear", load, "nghttpx"), .80)
    least("real etcd, put 4x32: requests/s of direct", s.rate_ratio("etcd", "put 4x32", OURS), .85)
    for load in ("put 4x32", "txn 4x32"):
        most(f"real etcd, {load}: CPU of etcd's",
             s.median("etcd", load, lambda r: r[OURS]["cpu_us_proxy"] / r[OURS]["cpu_us_upstream"]), .20)
    for load in ("range 4x32", "put 4x32"):
        known = [x for x in s.two_of_one(load) if x is not None]
        least(f"two workers of one, {load} (requests/s, or by CPU a request)", max(known) if known else None, 1.7)
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
        "seconds": round(time.monotonic() - bench.begun), "stages": bench.stages,
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


def reason_of(results, group, proxy, load=""):
    for f in results["failed"]:
        if f["group"] == group and f["proxy"] in (proxy, "all") and f["load"] in ("", load):
            return f["reason"]
    return None


def lost_proxies(results, group, measured):
    """Those that did not even start there, so that no sample names them."""
    return [f["proxy"] for f in results["failed"]
            if f["group"] == group and f["load"] == "" and f["proxy"] not in measured + ["all", "direct"]]


TITLES = {"clear": "In clear on both sides, stub upstream", "tls": "TLS on both sides, stub upstream",
          "etcd": "In clear, before a real etcd",
          "apiserver": "The load of an apiserver, before a real etcd: 100 connections with a watch each, 70 % gets, "
                       "30 % updates, a list of 500 in 500 requests, 1,000 requests a second",
          "workers": "One worker and two"}


def group_text(s, group, results):
    loads, proxies = s.loads(group), s.proxies(group)
    ours = OURS in proxies
    has_mean = ours and all(load in loads for load in UNARY)
    out = [f"## {TITLES[group]}\n"]
    out.append("CPU of the proxy per request (per delivered event for watch), microseconds; in brackets "
               f"{OURS}'s of it, the median of the rounds' ratios\n")
    rows = []
    for proxy in proxies:
        row = [proxy]
        for load in loads:
            text = cell(s.cpu(group, load, proxy))
            ratio = s.cpu_ratio(group, load, proxy) if ours and proxy != OURS else None
            if text == "-" and reason_of(results, group, proxy, load):
                text = "failed"
            row.append(text + (f" ({cell(ratio, 2)})" if ratio is not None else ""))
        if has_mean:
            row.append("1" if proxy == OURS else cell(s.mean_ratio(group, proxy), 3))
        rows.append(row)
    for proxy in lost_proxies(results, group, proxies):
        rows.append([proxy, f"failed: {reason_of(results, group, proxy)[:120]}".replace("|", "/")])
        rows[-1] += [""] * (len(loads) - 1 + has_mean)
    out.append(table(["proxy"] + loads + (["unary mean"] if has_mean else []), rows))
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
    if group == "workers":
        rows = [[load] + [cell(x, 2) for x in s.two_of_one(load)] for load in loads]
        out.append("Two workers of one. By CPU: twice the CPU a request of one worker, over that of two; it is what "
                   "counts where generator and stub share the processors\n")
        out.append(table(["load", "by requests/s", "by CPU a request"], rows))
    shares = [(load, s.copied_share(group, load)) for load in loads]
    if any(share is not None for _, share in shares):
        out.append(f"Bytes that {OURS} copied, of those that it forwarded (its own counters), percent\n")
        out.append(table([load for load, _ in shares],
                         [[cell(None if share is None else share * 100, 2) for _, share in shares]]))
    return "\n".join(out)


def memory_text(results):
    out = ["## Memory\n"]
    for label, by in results["memory"].items():
        where = label.split()[-1]
        if label.startswith("big"):
            rows = [[p, cell(m["idle_kib"] / 1024, 1), cell(m["peak_kib"] / 1024, 1),
                     cell((m["peak_kib"] - m["idle_kib"]) / 1024, 1)] for p, m in by.items()]
            head = ["proxy", "idle", "peak (VmHWM)", "above idle"]
            out.append(f"Four lists of 25 MiB at once, {where}, MiB\n")
        elif label.startswith("idle"):
            rows = [[p, cell(m["before_kib"] / 1024, 1), cell(m["after_kib"] / 1024, 1), cell(m["kib_per_link"], 1)]
                    for p, m in by.items()]
            head = ["proxy", "before, MiB", "after, MiB", "KiB a link"]
            out.append(f"500 idle links, {where}\n")
        else:
            rows = [[p, cell(kib / 1024, 1)] for p, kib in by.items()]
            head = ["proxy", "peak RSS, MiB"]
            out.append(f"Peak over all loads: {TITLES[where]}\n")
        rows += [[lost, "failed"] + [""] * (len(head) - 2)
                 for lost in lost_proxies(results, f"{where} {label.rpartition(' ')[0]}", list(by))]
        out.append(table(head, rows))
    return "\n".join(out)


def micro_text(results):
    rows = []
    references = {(m["case"], m["bytes"]): m for m in results["micro"] if m["module"] == "reference"}
    for m in results["micro"]:
        if m["module"] == "reference":
            continue
        best = references.get((m["case"], m["bytes"])) if m["module"] == "envelope" else None
        rows.append([m["module"], m["case"], str(m["bytes"]), cell(m["ns_median"], 0), cell(m["mb_per_s"], 0),
                     cell(best and best["ns_median"], 0), cell(m.get("of_second"), 3)])
    return ("## Micro benches\n\nCPU time of one thread, medians of 101 batches. The reference is the crypto alone, at "
            "the best that this OpenSSL can do\n\n" +
            table(["module", "case", "bytes", "ns", "MB/s", "reference, ns", "of the reference"], rows))


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
           f"`{h['command']}`\n",
           "Seconds a stage: " + ", ".join(f"{k} {v:.0f}" for k, v in h["stages"].items()) + "\n",
           "; ".join(f"{k}: {v}" for k, v in h["versions"].items()) + "\n"]
    listed = goals(s, results)
    if listed:
        rows = [[what, "not measured" if value is None else cell(value, 3 if value < 10 else 1),
                 f"{sign} {cell(bound, 2)}", {True: "yes", False: "**no**", None: "?"}[met]]
                for what, value, bound, met, sign in listed]
        out += [f"## Goals (with {h['versions'].get('openssl', 'an unknown OpenSSL')})\n", table(["what", "measured", "goal", "met"], rows)]
    out += [group_text(s, group, results) for group in TITLES if s.loads(group)]
    if s.loads(providers.GROUP):
        out += ["## What encryption at rest costs, before a real etcd\n", providers.sentences(s, results)]
        for title, head, rows in providers.tables(s, results):
            out += [title + "\n", table(head, rows)]
    if s.loads(growth.GROUP):
        out += ["## How it grows: connections x streams, watches, lists\n", table(*growth.table(s, results))]
    if results["instructions"]:
        out += ["## Instructions (callgrind), one worker\n", table(*instructions.markdown(results["instructions"]))]
    if results["syscalls"]:
        out.append(syscalls_text(results))
    if results["memory"]:
        out.append(memory_text(results))
    if results["micro"]:
        out.append(micro_text(results))
    if results["failed"]:
        rows = [[f["group"], f["proxy"], f["load"] or "all", f["reason"].replace("|", "/")] for f in results["failed"]]
        out += ["## What failed\n", table(["group", "proxy", "load", "why"], rows)]
    out += ["## Commands\n", "RUN is a folder of this run\n", "```"]
    out += [f"{n}:\n{c.rstrip()}\n" for n, c in h["commands"].items()] + ["```\n"]
    return "\n".join(out)


# --- plots

STYLE = """set encoding utf8
set style fill solid 1.0 noborder
set border 3 lc rgb "#888888"
set grid ytics lc rgb "#e4e4e4" lt 1
set xtics nomirror scale 0
set ytics nomirror scale 0.5
"""
COLOURS = {OURS: "#1b6ca8", "nghttpx": "#e08e45", "haproxy": "#6a994e", "nginx": "#9d8189",
           "gateway": "#b8b8b8", "grpc-proxy": "#c1666b", "identity": "#b8b8b8", "kms v2": "#1b6ca8", "aesgcm": "#6a994e",
           "secretbox": "#e08e45", "aescbc": "#c1666b"}


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def y_axis(values, log):
    """The range of a plot whose bars stand on 0, or on a power of ten; None: no value can be drawn. gnuplot gives up
    where no bar lies within its range, and what a short run measures may be 0 or, as a difference, less."""
    values = [v for v in values if v is not None and (v > 0 or not log)]
    if not values:
        return None
    if log:
        low = min(1.0, 10.0 ** math.floor(math.log10(min(values))))
        return f"set logscale y\nset yrange [{low:g}:*]\nset format y '%g'\n"
    low, high = min(0.0, *values), max(0.0, *values)
    return f"set yrange [{low * 1.05:g}:{high * 1.05 if high > low else 1:g}]\n"


def plot(out, name, title, label, loads, proxies, value, log=False):
    """A cluster of bars for every load, a bar for every proxy; the key lies below."""
    rows = [[value(load, proxy) for proxy in proxies] for load in loads]
    axis = y_axis([v for row in rows for v in row], log)
    if axis is None:
        return
    data = "\n".join(" ".join([f'"{load}"'] + ["NaN" if v is None or (log and v <= 0) else f"{v:.6g}" for v in row])
                     for load, row in zip(loads, rows))
    bars = ", ".join(f'$data using {i + 2}{":xtic(1)" if i == 0 else ""} title "{p}" lc rgb "{COLOURS[p]}"'
                     for i, p in enumerate(proxies))
    gnuplot(f"""$data << END
{data}
END
set terminal svg size 900,420 font "sans-serif,13" background "#ffffff"
{STYLE}set style data histogram
set style histogram clustered gap 1.5
set boxwidth 0.92
set key outside bottom center horizontal samplen 0.7 width 2 maxrows 1
set xrange [-0.6:{len(rows) - 0.4}]
set ytics textcolor rgb "#444444"
set xtics textcolor rgb "#222222"
set output "{out / (name + ".svg")}"
set title "{title}" font ",15"
set ylabel "{label}"
{axis}plot {bars}
""")


def panel(title, values):
    """A bar for every proxy with its value above it, on a scale of its own."""
    rows = [f'{i} "{proxy}" {value:.2f} {int(COLOURS[proxy][1:], 16)} "{cell(value, 0 if value >= 20 else 1)}"'
            for i, (proxy, value) in enumerate(values)]
    data = "\n".join(rows)
    top = max(value for _, value in values) * 1.15 or 1
    return f"""$d << END
{data}
END
set title "{title}" font ",14"
set xrange [-0.6:{len(values) - 0.4}]
set yrange [0:{top}]
plot $d using 1:3:4:xtic(2) with boxes lc rgb variable notitle, \\
     $d using 1:3:5 with labels offset 0,0.6 font ",12" notitle
"""


def panels(out, name, title, subtitle, wanted):
    """wanted: (title, [(proxy, value)]) of each panel; two of them beside each other. What is not known is left out."""
    wanted = [(head, [(p, v) for p, v in values if v is not None]) for head, values in wanted]
    wanted = [(head, values) for head, values in wanted if values]
    if not wanted:
        return
    lines = (len(wanted) + 1) // 2
    height = 330 * lines + 60
    gnuplot(f"""set terminal svg size 1000,{height} font "sans-serif,13" background "#ffffff"
{STYLE}set output "{out / (name + ".svg")}"
set boxwidth 0.8
set xtics font ",12" textcolor rgb "#222222"
unset ytics
set border 1
unset grid
set multiplot layout {lines},2 margins 0.02,0.98,{45 / height},{1 - 115 / height} spacing 0.06,{110 / height} \\
    title "{title}\\n{{/*0.75 {subtitle}}}" font ",17"
{"".join(panel(head, values) for head, values in wanted)}unset multiplot
""")


def headline(s, out):
    """CPU a request of every proxy: unary calls and lists, in clear and with TLS."""
    wanted = []
    for group, where in (("clear", "in clear"), ("tls", "TLS")):
        wanted.append((f"unary call, {where}", [(p, s.mean_cpu(group, p)) for p in s.proxies(group)]))
        wanted.append((f"list of 500 × 1 KiB, {where}",
                       [(p, s.cpu(group, "list 500x1K", p)) for p in s.proxies(group)]))
    panels(out, "headline", "CPU time of the proxy per request, microseconds: less is better",
           "Only etcd-envelope encrypts. gateway copies bytes: it ends neither HTTP/2 nor TLS. "
           "Unary: mean of get, put and update of 1 KiB under load.", wanted)


def plots(results, out):
    if shutil.which("gnuplot") is None:
        return
    s = Samples(results["samples"])
    headline(s, out)
    known = [n for n in providers.NAMES if n in s.proxies(providers.GROUP)]
    sizes = {f"{word} {kib} KiB": providers.load_name(kind, kib, 64) for kind, word in providers.KINDS
             for kib in providers.SIZES if providers.load_name(kind, kib, 64) in s.loads(providers.GROUP)}
    plot(out, "providers", "Encryption at rest: CPU time of the proxy a request, 64 clients, by provider and size",
         "microseconds (log scale)", list(sizes), known, lambda load, name: s.cpu(providers.GROUP, sizes[load], name), log=True)
    for group, where in (("clear", "in clear"), ("tls", "TLS on both sides"), ("etcd", "before a real etcd")):
        proxies, loads = s.proxies(group), s.loads(group)
        alone = [x for x in loads if x.endswith("1x1") or x.startswith("quiet")]
        lists = [x for x in loads if x.startswith("list")]
        busy = [x for x in loads if x not in alone + lists]
        panels(out, f"cpu-{group}-lists", f"CPU time of the proxy per list, {where}", "microseconds: less is better",
               [(load, [(p, s.cpu(group, load, p)) for p in proxies]) for load in lists])
        for part, chosen in (("unary", busy), ("one", alone)):
            plot(out, f"cpu-{group}-{part}", f"CPU time of the proxy per request, {where} (log scale)", "microseconds",
                 chosen, proxies, lambda load, proxy, group=group: s.cpu(group, load, proxy),
                 log=True)
        plot(out, f"latency-{group}", f"Added median latency, {where}", "microseconds", alone, proxies,
             lambda load, proxy, group=group: s.added(group, load, proxy, "p50"))


def write(results, out):
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "results.md").write_text(text(results))
    plots(results, out)
