#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lines of the parsers that ran, from what the preset coverage has left behind:

    cmake --preset coverage -DBUILD_TESTING=ON && cmake --build --preset coverage
    ctest --preset coverage -L 'unit|fuzz'
    tests/coverage.py --check          # exit status 1: a parser is below 90 %
    tests/coverage.py --missing PATH   # the lines of one file that did not run

A parser is what reads bytes that others have written: peers, files, the environment. PARSERS names them all;
lint/parsers holds each of them to a target in tests/fuzz/."""
import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "fuzz"))
from parsers import PARSERS  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
LEAST = 90.0


def lines_of(build, path):
    """{line: how often it ran} of the file below src/, summed up over its object files; None: never compiled so."""
    module, name = path.split("/")
    notes = sorted((build / "src" / module / "CMakeFiles").glob(f"*.dir/{name}.gcno"))
    counts = {}
    for note in notes:
        if not note.with_suffix(".gcda").exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["gcov", "--json-format", str(note)], cwd=folder, check=True, capture_output=True)
            for out in pathlib.Path(folder).glob("*.gcov.json.gz"):
                for file in json.loads(gzip.decompress(out.read_bytes()))["files"]:
                    if file["file"].endswith(f"src/{path}"):
                        for line in file["lines"]:
                            counts[line["line_number"]] = counts.get(line["line_number"], 0) + line["count"]
    return counts or None


def missing(counts):
    return sorted(n for n, count in counts.items() if count == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/coverage")
    parser.add_argument("--check", action="store_true", help=f"fail below {LEAST:.0f} %%")
    parser.add_argument("--missing", metavar="PATH", help="below src/")
    args = parser.parse_args()
    if args.missing:
        source = (ROOT / "src" / args.missing).read_text().splitlines()
        for n in missing(lines_of(args.build, args.missing) or {}):
            print(f"{n:5} {source[n - 1]}")
        return 0
    low = []
    for path in sorted(PARSERS):
        counts = lines_of(args.build, path)
        if counts is None:
            print(f"{path:32} not run")
            low.append(path)
            continue
        ran = len(counts) - len(missing(counts))
        percent = 100 * ran / len(counts)
        print(f"{path:32} {ran:4} of {len(counts):4} lines  {percent:5.1f} %{'' if percent >= LEAST else '  LOW'}")
        if percent < LEAST:
            low.append(path)
    print(f"{len(PARSERS)} parsers, {len(low)} below {LEAST:.0f} %")
    return 1 if args.check and low else 0


if __name__ == "__main__":
    sys.exit(main())
