#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A name with two underscores inside (h2__guard_init) is for its own module: the object files say who uses it, whatever was
declared where. Exit status 1 with one line per user outside; also when there is nothing to look at.

    check_reach.py SOURCES BUILD [NM]

Tests of a module, in tests/unit/MODULE/, are at home in it. What an inline function of a public header calls is called
from everywhere; such a name may not be written anywhere else outside of its module."""
import collections
import json
import pathlib
import re
import subprocess
import sys

INTERNAL = re.compile(r"[a-z][a-z0-9]*__[a-z]\w*")
FOLDERS = ("src/", "tests/", "bench/")
LIMIT = 200  # object files for each call of nm


def home_of(path):
    """The module that an object file or a source belongs to, as "src/h2" for tests/unit/h2/, too."""
    parts = path.parts
    if parts[0] == "tests" and parts[1] == "unit":
        return "src/" + parts[2]
    return "/".join(parts[:2])


def symbols(build, nm):
    """(object file, name, whether it is defined there), for names with two underscores. Objects that no target makes
    any more still lie in the folder: the build's own list has those that count."""
    commands = json.loads((build / "compile_commands.json").read_text())
    objects = sorted({path for entry in commands for path in re.findall(r" -o (\S+)", entry["command"])
                      if path.startswith(FOLDERS) and (build / path).exists()})
    for at in range(0, len(objects), LIMIT):
        done = subprocess.run([nm, "-A", "-g", "-P", *objects[at:at + LIMIT]], cwd=build, text=True, check=True,
                              stdout=subprocess.PIPE)
        for line in done.stdout.splitlines():
            path, _, rest = line.partition(": ")
            name, kind = rest.split()[:2]
            if INTERNAL.fullmatch(name):
                yield pathlib.Path(path), name, kind not in "Uwv"


def public_headers(root):
    """Those that a module's CMakeLists.txt gives away."""
    for path in sorted((root / "src").glob("*/CMakeLists.txt")):
        for names in re.findall(r"\bHEADERS\s+(.*?)\s+(?:SOURCES|LINK|PRIVATE)\b", path.read_text(), re.S):
            yield from (path.parent / name for name in names.split())


def called_inline(root):
    """Names in public headers."""
    return {name for path in public_headers(root) for name in INTERNAL.findall(path.read_text())}


def written_outside(root, names, owners):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.[ch]")):
            where = path.relative_to(root)
            for number, line in enumerate(path.read_text().splitlines(), 1):
                for name in sorted(names & set(INTERNAL.findall(line))):
                    if home_of(where) != owners[name]:
                        yield f"{where}:{number}: {name} is for {owners[name]}/ alone"


def check(root, build, nm):
    """(number of names, violations)."""
    owners, users = {}, collections.defaultdict(set)
    for path, name, is_defined in symbols(build, nm):
        if not is_defined:
            users[name].add(path)
        elif path.parts[0] == "src":
            owners[name] = home_of(path)
    inline = called_inline(root) & owners.keys()
    found = [f"{path}: {name} is for {owner}/ alone" for name, owner in sorted(owners.items()) if name not in inline
             for path in sorted(users[name]) if home_of(path) != owner]
    return len(owners), found + list(written_outside(root, inline, owners))


def main(argv):
    count, found = check(pathlib.Path(argv[1]).resolve(), pathlib.Path(argv[2]).resolve(), *(argv[3:] or ["nm"]))
    for line in found:
        print(line)
    print(f"reach: {count} names, {len(found)} violations" if count else "reach: nothing is built")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
