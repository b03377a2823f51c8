# SPDX-License-Identifier: Apache-2.0
"""Instructions per request, by callgrind: exact where time is noise. One worker, encryption on, before the stub.

Each case is two runs of a number of requests each, a short one and a long one, in a process of their own; the one
taken off the other leaves no start, no connection and no key exchange, but the requests alone. Costs are told apart by
the object that they were spent in. What our own code costs is kept in instructions.txt and compared with it."""
import dataclasses
import pathlib
import platform
import re
import shutil
import subprocess
import time
import urllib.request

import peers

KEPT = pathlib.Path(__file__).resolve().parent / "instructions.txt"
SLACK = 1.03  # of the kept figure
OBJECTS = (("nghttp2", "libnghttp2"), ("crypto", "libcrypto"), ("crypto", "libssl"), ("libc", "libc."),
           ("libc", "ld-linux"))


@dataclasses.dataclass
class Case:
    name: str
    arguments: list  # of bench-load
    short: int  # requests, Puts of a writer
    long: int
    units: int = 1  # that a request has: events of a Put, KeyValues of a list


def unary(kind, bare=False):
    return ["--kind", kind, "--connections", "4", "--streams", "32"] + (["--no-timeouts"] if bare else [])


CASES = [
    Case("range 4x32", unary("range"), 1500, 6500),
    Case("range 4x32, no timeout", unary("range", True), 1500, 6500),
    Case("put 4x32", unary("put"), 1500, 6500),
    Case("put 4x32, no timeout", unary("put", True), 1500, 6500),
    Case("range 1x1", ["--kind", "range"], 300, 1300),
    Case("list 500x1K", ["--kind", "list-500", "--connections", "1", "--streams", "2"], 6, 36),
    Case("watch event", ["--kind", "watch", "--connections", "4", "--watchers", "20"], 50, 250, 20),
]
PER_KV = ("KeyValue of list 500x1K", "list 500x1K", 500)  # name, of which case, so many of them


# --- counting

def by_object(text):
    """{part: instructions} of a callgrind profile: what each object spent itself, without what it called."""
    names, spent, part, is_call = {}, {}, "other", False
    for line in text.splitlines():
        if line.startswith("ob="):
            number, _, name = re.match(r"ob=\((\d+)\)(\s*)(.*)", line).groups()
            names.setdefault(number, name)
            part = part_of(names[number])
        elif line.startswith("cob="):
            number, _, name = re.match(r"cob=\((\d+)\)(\s*)(.*)", line).groups()
            names.setdefault(number, name)
        elif line.startswith("calls="):
            is_call = True  # the next line has what the called one cost
        elif line[:1] in "+-*0123456789" and line:
            if not is_call:
                spent[part] = spent.get(part, 0) + int(line.split()[-1])
            is_call = False
    return spent


def part_of(path):
    name = path.rpartition("/")[2]
    if name == "etcd-envelope":
        return "own"
    return next((part for part, start in OBJECTS if name.startswith(start)), "other")


def profiled(profile):
    """etcd-envelope with one worker under callgrind, which writes files, and so would be refused its system calls; a
    second process, the opener, would write over them."""
    return peers.Proxy("etcd-envelope", lambda spot: [
        shutil.which("valgrind") or "valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--quiet"
    ] + peers.envelope(spot) + ["--seccomp=false", "--landlock=false", "--drop-privileges=false"], is_sealed=True, workers=1)


def wait_ready(process):
    """Until it has its first key."""
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{process.metrics_port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"it is not ready: {process.last_words()}")


def run_once(bench, case, count):
    """{part: instructions} of a whole process that answered so many requests."""
    label = f"{case.name} {count}"
    profile = bench.folder / f"callgrind-{label.replace(' ', '-').replace(',', '')}"
    process = bench.start_proxy(profiled(profile), False, bench.ports["sealed"], "instructions", label)
    try:
        wait_ready(process)
        run = bench.run_load([str(bench.options.build / "bench-load"), "--target", f"127.0.0.1:{process.port}",
                              "--count", str(count)] + case.arguments, 180)
        if run["units"] != count * case.units:
            raise RuntimeError(f"{run['units']} answers instead of {count * case.units}")
    finally:
        bench.stop(process, 60)  # it drains, then callgrind writes
    if not profile.exists():
        raise RuntimeError(f"no profile: {process.last_words()}")
    return by_object(profile.read_text())


def per_unit(short, long, units):
    """{part: instructions a unit}, the short run taken off the long one."""
    parts = {part: max(0, round((n - short.get(part, 0)) / units)) for part, n in long.items()}
    parts["all"] = sum(parts.values())
    return parts


def count(bench):
    """Leaves {case: {part: instructions}} in bench.instructions."""
    if shutil.which("valgrind") is None:
        bench.fail("instructions", "etcd-envelope", "", "no valgrind")
        return
    few = bench.options.few
    for case in CASES:
        bench.say(f"instructions: {case.name}")
        short, long = (case.short, case.long) if not few else (max(case.short // 5, 2), max(case.long // 10, 4))
        try:
            bench.instructions[case.name] = per_unit(run_once(bench, case, short), run_once(bench, case, long),
                                                     (long - short) * case.units)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            bench.fail("instructions", "etcd-envelope", case.name, e)
    name, case, units = PER_KV
    if case in bench.instructions:
        bench.instructions[name] = {part: round(n / units) for part, n in bench.instructions[case].items()}


# --- the kept figures

def system(run=subprocess.run):
    """What own code's count depends on: Debian release, compiler, machine."""
    release = "unknown"
    try:
        found = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)', pathlib.Path("/etc/os-release").read_text(), re.M))
        release = f"{found['ID']}-{found['VERSION_ID']}"
    except (OSError, KeyError):
        pass
    try:
        compiler = run(["cc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        compiler = "unknown"
    return f"{release} gcc-{compiler} {platform.machine()}"


def read_kept(text):
    """{system: {case: (own instructions, why)}}"""
    kept = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            where, case, own, why = [x.strip() for x in line.split("|", 3)]
            kept.setdefault(where, {})[case] = (int(own), why)
    return kept


def compare(counted, kept):
    """[(case, own, kept or None, verdict)]: "more" is what fails a check, and so does a case that was not counted."""
    out = []
    for case in list(counted) + [c for c in kept if c not in counted]:
        own = counted.get(case, {}).get("own")
        before = kept[case][0] if case in kept else None
        if own is None:
            verdict = "not counted"
        elif before is None:
            verdict = "not kept"
        elif own > before * SLACK:
            verdict = "more"
        else:
            verdict = "less" if own * SLACK < before else "same"
        out.append((case, own, before, verdict))
    return out


def write_kept(counted, where, why, text):
    """The text of instructions.txt with these figures for this system; a figure that stays within the slack, and so
    its reason, is left as it is."""
    kept = read_kept(text).get(where, {})
    head = [line for line in text.splitlines() if line.startswith("#")]
    others = [line for line in text.splitlines()
              if line.strip() and not line.startswith("#") and line.split("|")[0].strip() != where]
    own = []
    for case, now, before, verdict in compare(counted, kept):
        stays = verdict in ("same", "not counted")
        own.append(f"{where} | {case:<28} | {before if stays else now:>7} | {kept[case][1] if stays else why}")
    return "\n".join(head + sorted(others + own, key=lambda line: line.split("|")[0])) + "\n"


def text(counted, where, kept):
    """The table: instructions by component, and beside them what is kept."""
    parts = ["all", "own", "nghttp2", "crypto", "libc", "other"]
    out = [f"{'instructions (callgrind)':<28}" + "".join(f"{p:>11}" for p in parts) + f"{'own, kept':>11}"]
    for case, own, before, verdict in compare(counted, kept):
        row = counted.get(case, {})
        change = "" if own is None or before is None else f" {(own / before - 1) * 100:+.1f} %"
        out.append(f"{case:<28}" + "".join(f"{row.get(p, 0):>11,}" for p in parts) +
                   f"{'-' if before is None else format(before, ','):>11}{change}" +
                   ("" if verdict in ("same", "not kept") else f" {verdict}"))
    if not kept:
        out.append(f"nothing is kept for {where}: nothing to compare with")
    return "\n".join(out)


def markdown(counted):
    """The rows of the report: a case and its instructions by component."""
    parts = ["all", "own", "nghttp2", "crypto", "libc", "other"]
    return ["instructions"] + parts, [[case] + [f"{row.get(p, 0):,}" for p in parts] for case, row in counted.items()]


def check(counted, kept):
    """What is wrong, as lines; none for a system of which nothing is kept."""
    return [f"{case}: {own:,} instructions of our own, {before:,} are kept (+{(SLACK - 1) * 100:.0f} % are let through)"
            if verdict == "more" else f"{case}: {verdict}"
            for case, own, before, verdict in compare(counted, kept)
            if kept and verdict in ("more", "not counted", "not kept")]


def conclude(bench):
    """Prints the table, keeps the figures if that was asked for. False: the check failed."""
    where, options = system(), bench.options
    kept_text = KEPT.read_text() if KEPT.exists() else ""
    if options.keep_counts:
        if not bench.instructions:
            return False
        kept_text = write_kept(bench.instructions, where, options.keep_counts, kept_text)
        KEPT.write_text(kept_text)
    kept = read_kept(kept_text).get(where, {})
    print(text(bench.instructions, where, kept))
    wrong = check(bench.instructions, kept)
    for line in wrong:
        print(f"FAILED: {line}")
    if wrong:
        print('Own code does more than it did. If it has to: bench/run.sh --stages instructions --keep-counts "WHY", '
              "in the same commit")
    failed = bool(wrong) or not bench.instructions
    return not (options.check and failed)
