#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What reads bytes of others is fuzzed: each file of tests/fuzz/parsers.py is there and has targets, each of which is
built, has seeds and names what it is for; and each target is somebody's. Exit status 1 with one line per problem."""
import pathlib
import re
import sys

# Whole ways through several parsers, which have targets of their own as well.
WAYS = {"h2_diff", "lane_oracle", "seal_open"}


def problems(root, parsers):
    folder = root / "tests/fuzz"
    built = set(re.findall(r"^envelope_fuzz\((\w+)", (folder / "CMakeLists.txt").read_text(), re.M))
    named = {t for targets in parsers.values() for t in targets}
    for path, targets in sorted(parsers.items()):
        if not (root / "src" / path).is_file():
            yield f"src/{path} is not there"
        if not targets:
            yield f"src/{path} has no fuzz target"
    for target in sorted(named - built):
        yield f"fuzz target {target} is not built"
    for target in sorted(built - named - WAYS):
        yield f"fuzz target {target} is for no parser"
    for target in sorted(built):
        if not any((folder / "corpus" / target).glob("*")):
            yield f"fuzz target {target} has no seeds"
        if target not in WAYS and "Targets: " not in (folder / f"{target}.c").read_text()[:400]:
            yield f"fuzz target {target} does not say what it is for"


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    sys.path.insert(0, str(root / "tests/fuzz"))
    from parsers import PARSERS

    found = list(problems(root, PARSERS))
    print("".join(f"{p}\n" for p in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
