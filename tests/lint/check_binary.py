#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the release's programs were hardened with is in them, whatever the flags said: check_binary.py PROGRAM..."""
import re
import subprocess
import sys


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], check=True, capture_output=True, text=True).stdout


def faults(path):
    """What is missing, in words."""
    header, segments, dynamic = readelf("-h", path), readelf("-l", path), readelf("-d", path)
    symbols, notes = readelf("--dyn-syms", path), readelf("-n", path)
    rights = {m[1]: m[2].replace(" ", "") for m in re.finditer(
        r"^ +(\S+) +0x\S+ +0x\S+ +0x\S+ +0x\S+ +0x\S+ ([R ][W ][E ])", segments, re.M)}
    loads = re.findall(r"^ +LOAD +(?:0x\S+ +){5}([R ][W ][E ])", segments, re.M)
    wanted = [
        ("position independent (-pie)", "DYN (Position-Independent" in header and "PIE" in dynamic),
        ("relocations read-only (-z relro)", "GNU_RELRO" in segments),
        ("symbols bound at the start (-z now)", re.search(r"FLAGS_1\).*NOW", dynamic)),
        ("stack not executable", rights.get("GNU_STACK") == "RW"),
        ("no segment both writable and executable", loads and "RWE" not in loads),
        ("no relocations in code", "TEXTREL" not in dynamic),
        ("no search path for libraries", "RPATH" not in dynamic and "RUNPATH" not in dynamic),
        ("buffers checked by libc (_FORTIFY_SOURCE)", re.search(r"__\w+_chk@", symbols)),
        ("stack protector", "__stack_chk_fail@" in symbols),
        ("a build id", "Build ID:" in notes),
    ]
    return [what for what, holds in wanted if not holds]


def main(paths):
    bad = 0
    for path in paths:
        for what in faults(path):
            print(f"{path}: not so: {what}")
            bad += 1
    print(f"binaries: {len(paths)} programs, {bad} violations")
    return 1 if bad or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
