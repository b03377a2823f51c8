#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What clang-format does not see: a licence line in every source file, no tabs in C, no unfinished marks,
no line over 100 columns in C, no .c file included, a stateful file in src/ that does not begin with its happy path and
its failure modes, no kind of provider named where its traits are to be asked (src/envelope/provider.h), and no wall clock
where it may decide anything. Exit status 1 with one line per violation."""
import pathlib
import re
import sys

FOLDERS = ("src", "tests", "conf", "bench", "proto", ".ci")
SKIP = {"golden", "corpus", "__pycache__"}
SOURCE = {".c", ".h", ".py", ".sh", ".cmake", ".proto"}
SPDX = "SPDX-License-Identifier: Apache-2.0"
# Written in two pieces so that this file does not find itself.
MARKS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")

# A struct with a state, or a function that changes it, and what such a file begins with.
STATEFUL = re.compile(r"^\s+enum \w*state \w+;|^\w[\w *]*\b\w*set_state\(", re.M)
FAILURE_MODES = re.compile(r"/\* SPDX[^\n]*\n/\*(?:(?!\*/).)*[Ff]ailure modes?:", re.S)
# Who makes kinds, or has one thing for each: the others ask what a provider is like.
KINDS_IN = ("src/envelope/", "src/policy/ruleset.c", "src/kms/plugin.c")
# All that waits or ends does so by a steady clock; these show a time of day, or compare a certificate with it.
WALL_CLOCK = re.compile(r"\b(?:CLOCK_REALTIME|CLOCK_TAI|uv_clock_gettime|(?:uv_)?gettimeofday\(|time\(NULL|time\(&|timespec_get\()")
WALL_CLOCK_IN = ("src/base/log.c", "src/base/metric_series.c", "src/cli/check.c", "src/converge/converge.c",
                 "src/converge/missing.c", "src/kms/plugin.c", "src/kms/plugin_v2.c", "src/pages/", "src/proxy/tally.c",
                 "src/server/reload.c", "src/tools/verify.c")


def is_source(path):
    if path.suffix in SOURCE or path.name == "CMakeLists.txt":
        return True
    if path.suffix:
        return False
    with path.open("rb") as f:  # scripts without a suffix
        return f.read(2) == b"#!"


def sources(root):
    for path in sorted(root.glob("CMakeLists.txt")):
        yield path
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not SKIP & set(path.relative_to(root).parts) and is_source(path):
                yield path


def check_file(root, path):
    """Yields (line number, problem)."""
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        yield 1, "not UTF-8"
        return
    is_c = path.suffix in (".c", ".h")
    if not any(SPDX in line for line in lines[:3]):
        yield 1, f"no line with {SPDX}"
    for number, line in enumerate(lines, 1):
        if MARKS.search(line):
            yield number, "unfinished: " + MARKS.search(line).group()
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if is_c and "\t" in line:
            yield number, "a tab"
        if is_c and len(line) > 100:
            yield number, "more than 100 columns"
        if is_c and re.match(r'\s*#\s*include\s*["<][^">]*\.c[">]', line):
            yield number, "a .c file is included"
    text = "\n".join(lines)
    if path.suffix == ".c" and root / "src" in path.parents and STATEFUL.search(text) and not FAILURE_MODES.match(text):
        yield 1, "has states, but no comment on top with the happy path and the failure modes"


def check_clock(root, path):
    """Yields (line number, problem)."""
    name = str(path.relative_to(root))
    if path.suffix not in (".c", ".h") or not name.startswith("src/") or name.startswith(WALL_CLOCK_IN):
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if WALL_CLOCK.search(line):
            yield number, "the wall clock jumps: ask loop_now_ms, or CLOCK_MONOTONIC"


def provider_kinds(root):
    header = root / "src/envelope/provider.h"
    enum = re.search(r"enum provider_kind \{(.*?)\}", header.read_text(), re.S) if header.exists() else None
    return re.compile(r"\b(?:" + "|".join(re.findall(r"^\s*(PROVIDER_\w+)", enum[1], re.M)) + r")\b") if enum else None


def check_kinds(root, path, kinds):
    """Yields (line number, problem)."""
    name = str(path.relative_to(root))
    if kinds is None or path.suffix not in (".c", ".h") or not name.startswith("src/") or name.startswith(KINDS_IN):
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if kinds.search(line):
            yield number, f"{kinds.search(line).group()}: ask for its traits (envelope/provider.h)"


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    count, bad = 0, 0
    kinds = provider_kinds(root)
    for path in sources(root):
        count += 1
        for number, problem in (*check_file(root, path), *check_kinds(root, path, kinds), *check_clock(root, path)):
            bad += 1
            print(f"{path.relative_to(root)}:{number}: {problem}")
    print(f"style: {count} files, {bad} violations")
    return 1 if bad or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
