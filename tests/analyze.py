#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clang-tidy (.clang-tidy) and gcc -fanalyzer say of src/, beside the kept exceptions.

  analyze.py [--build-dir build/dev] [--jobs 2] [--tool clang-tidy|gcc] [--all] [FILE...]

Each finding has to be an exception of analyze_exceptions.txt: there stands for each tool, check and file how many there
are, and why they stay. More than that fails, and so does less: the number is then to be taken down. --all prints the
excepted ones, too. With FILEs only these are looked at, and no exception can be stale. Exit status: 0 as kept, 1 otherwise, 77 a
tool is not there.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(os.environ.get("ANALYZE_ROOT") or pathlib.Path(__file__).parent.parent).resolve()
KEPT = ROOT / "tests" / "analyze_exceptions.txt"
FINDING = re.compile(r"^(?P<file>[^\s:]+):(?P<line>\d+):\d+: (?:warning|error): (?P<text>.*) \[(?P<check>[-\w.,=+]+)\]$", re.M)


def sources(build):
    """[(file, its compile command)] of src/."""
    entries = json.loads((build / "compile_commands.json").read_text())
    out = [(pathlib.Path(e["file"]).resolve(), e) for e in entries if not e["file"].endswith("pb-c.c")]
    return sorted({f: e for f, e in out if (ROOT / "src") in f.parents}.items())


def clang_tidy(build, path, entry):
    return subprocess.run(["clang-tidy", "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                           "--header-filter=" + str(ROOT / "src") + "/.*", str(path)],
                          capture_output=True, text=True, check=False).stdout


def gcc(build, path, entry):
    argv = shlex.split(entry["command"])
    if pathlib.Path(argv[0]).name == "ccache":
        argv = argv[1:]
    at = argv.index("-o")
    argv = argv[:at] + argv[at + 2:] + ["-O1", "-Wno-error", "-fanalyzer", "-fdiagnostics-path-format=none",
                                        "-fdiagnostics-plain-output", "-o", "/dev/null"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=entry["directory"])
    if done.returncode != 0:
        return f"{path}:1:1: error: gcc failed: {done.stderr[-300:]!r} [gcc]\n"
    return done.stderr


TOOLS = {"clang-tidy": clang_tidy, "gcc": gcc}
# Debian 12's: each version of an analyzer finds other things, so the exceptions are of one.
VERSIONS = {"clang-tidy": "14", "gcc": "12"}


def version(tool):
    """Of the tool that is here, its first number; "" where there is none."""
    if not shutil.which(tool):
        return ""
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
    return re.search(r"(?:version |\) )(\d+)\.", said)[1]


def findings(tool, build, files, jobs):
    """{(check, file): {line: text}}; each place once, however many files include it."""
    out = collections.defaultdict(dict)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        texts = pool.map(lambda f: (f[1]["directory"], TOOLS[tool](build, *f)), files)
        for directory, text in texts:
            for m in FINDING.finditer(text):
                path = (pathlib.Path(directory) / m["file"]).resolve()
                if ROOT / "src" not in path.parents:
                    continue
                check = m["check"].split(",")[0].replace("-Wanalyzer-", "")
                if tool == "gcc" and "-Wanalyzer-" not in m["check"] and m["check"] != "gcc":
                    continue
                out[check, str(path.relative_to(ROOT))][int(m["line"])] = m["text"]
    return out


def exceptions(text, tool):
    """{(check, file): count}; every line has a reason."""
    out = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        of, check, path, count, reason = (line.split(None, 4) + [""] * 5)[:5]
        if not reason or not count.isdigit():
            sys.exit(f"{KEPT.name}:{number}: tool check file count reason")
        if of == tool:
            out[check, path] = int(count)
    return out


def judge(tool, found, kept, is_whole, shows_all):
    """Prints what is not as kept; returns how many places that is."""
    bad = 0
    for key in sorted({*found, *(kept if is_whole else ())}):
        places, allowed = found.get(key, {}), kept.get(key, 0)
        if len(places) > allowed or shows_all:
            for line, text in sorted(places.items()):
                print(f"{key[1]}:{line}: {text} [{key[0]}]")
        if len(places) > allowed:
            print(f"{key[1]}: {tool} {key[0]}: {len(places)}, kept are {allowed}")
            bad += 1
        elif len(places) < allowed and is_whole:
            print(f"{key[1]}: {tool} {key[0]}: {len(places)}, but {allowed} are kept: take the number down")
            bad += 1
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tool", choices=TOOLS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    wanted = {f.resolve() for f in args.files}
    files = [f for f in sources(args.build_dir.resolve()) if not wanted or f[0] in wanted]
    bad = 0
    for tool in [args.tool] if args.tool else TOOLS:
        if version(tool) != VERSIONS[tool]:
            print(f"NOTICE: {tool} {VERSIONS[tool]} (Debian 12's) is not here")
            return 77
        kept = exceptions(KEPT.read_text(), tool)
        found = findings(tool, args.build_dir.resolve(), files, args.jobs)
        bad += judge(tool, found, kept, not wanted, args.all)
        print(f"{tool}: {len(files)} files, {sum(map(len, found.values()))} findings, {sum(kept.values())} kept")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
