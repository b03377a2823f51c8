#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds src/ to the table in src/LAYERS.

For every module: each `#include "mod/file.h"` names a module that the table allows; each outside header
that the table names anywhere is included only where it is named, and no outside header is used that the
table does not name; the CMake LINK lists name allowed modules only, and reach every module whose headers
are included. Private headers (*_int.h) and names with two underscores behind their module's (h2__guard_init, the
member etcd__bytes of what may go to etcd) stay inside their module. The table itself has no cycle and lists
the folders that exist.

Exit status: 0 in order, 1 violations (one line each), 2 the table is not readable.
"""
import pathlib
import re
import sys

# Headers of the C library, POSIX and Linux: free for all.
LIBC = set("""
assert ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic
stdbool stddef stdint stdio stdlib stdnoreturn string strings threads time uchar wchar wctype
dirent dlfcn endian byteswap fcntl fnmatch getopt glob grp ifaddrs libgen malloc netdb poll pthread pwd
regex sched semaphore syslog termios unistd ucontext execinfo
cpuid emmintrin immintrin wmmintrin x86intrin arm_neon
""".split())
LIBC_FOLDERS = {"sys", "gnu", "netinet", "arpa", "linux", "asm", "net"}
GENERATED = re.compile(r"^[A-Za-z0-9_]+\.pb-c\.h$")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r"/\*.*?\*/", re.S)


class Layer:
    def __init__(self, modules, outside):
        self.modules = modules  # set of names, or {"*"}
        self.outside = outside

    def may_use(self, module):
        return "*" in self.modules or module in self.modules

    def may_include(self, header):
        return "*" in self.outside or header in self.outside


def read_table(path):
    """Returns {module: Layer}. Raises ValueError on a line that is not `name: modules | headers`."""
    table = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        name, colon, rest = line.partition(":")
        name = name.strip()
        if not colon or not re.fullmatch(r"[a-z0-9_]+", name) or name in table:
            raise ValueError(f"{path}:{number}: not `module: modules | outside headers`")
        modules, _, outside = rest.partition("|")
        table[name] = Layer(set(modules.split()), set(outside.split()))
    for name, layer in table.items():
        for other in layer.modules - {"*"}:
            if other not in table:
                raise ValueError(f"{path}: {name} names the unknown module {other}")
    return table


def find_cycle(table):
    """Returns a module that can reach itself, or None."""
    for start in table:
        seen, todo = set(), [start]
        while todo:
            layer = table[todo.pop()]
            for other in (set(table) - {start} if "*" in layer.modules else layer.modules):
                if other == start:
                    return start
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
    return None


def is_free(header):
    folder, slash, _ = header.partition("/")
    if slash:
        return folder in LIBC_FOLDERS
    return header.endswith(".h") and header[:-2] in LIBC


def includes(path):
    """Yields (line number, is angled, header)."""
    text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), path.read_text())
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1) == "<", match.group(2)


def module_of(src, path):
    parts = path.relative_to(src).parts
    return parts[0] if len(parts) > 1 else "cli"  # main.c belongs to the command line


def check_sources(src, table):
    """Returns (violations, {module: set of modules whose headers it includes})."""
    found, used = [], {name: set() for name in table}
    for path in sorted(p for p in src.rglob("*") if p.suffix in (".c", ".h")):
        module = module_of(src, path)
        if module not in table:
            continue  # reported once, by check_folders
        for line, angled, header in includes(path):
            where = f"{path.relative_to(src.parent)}:{line}"
            problem = judge(module, header, angled, table, used, src)
            if problem:
                found.append(f"{where}: {problem}")
    return found, used


def check_private_names(src, table):
    """Names like h2__guard_init in another module than h2/."""
    found, private = [], re.compile(rf"\b({'|'.join(table)})__[a-z]\w*")
    for path in sorted(p for p in src.rglob("*") if p.suffix in (".c", ".h")):
        text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), path.read_text())
        for match in private.finditer(text):
            if match.group(1) != module_of(src, path):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(src.parent)}:{line}: {match.group()} is private to {match.group(1)}")
    return found


def judge(module, header, angled, table, used, src):
    layer, folder = table[module], header.partition("/")[0]
    if GENERATED.match(header):
        if not layer.may_include("protobuf-c/protobuf-c.h"):
            return f"{module} may not use protobuf-c ({header})"
        return None
    if not angled or (folder in table and (src / header).exists()):
        if "/" not in header or folder not in table:
            return f'"{header}" does not name a module: write "module/file.h"'
        if folder != module and not layer.may_use(folder):
            return f"{module} may not include {folder}/ (\"{header}\")"
        if folder != module and header.endswith("_int.h"):
            return f'"{header}" is private to {folder}'
        used[module].add(folder)
        return None
    if is_free(header) or layer.may_include(header):
        return None
    if any(other.may_include(header) for other in table.values()):
        return f"{module} may not include <{header}>"
    return f"<{header}> is not in the table"


def cmake_links(src, table):
    """Returns {module: [linked names]} from envelope_module() and target_link_libraries()."""
    links = {}
    for path in sorted(src.rglob("CMakeLists.txt")):
        text = re.sub(r"#[^\n]*", "", path.read_text())
        here = module_of(src, path) if path.parent != src else "cli"
        for match in re.finditer(r"(envelope_module|target_link_libraries)\s*\(([^)]*)\)", text):
            words, keyword, names = match.group(2).split(), None, []
            for word in words[1:]:
                if word in ("LINK", "PRIVATE", "PUBLIC", "INTERFACE", "HEADERS", "SOURCES"):
                    keyword = word
                elif match.group(1) == "target_link_libraries" or keyword in ("LINK", "PRIVATE"):
                    names.append(word)
            links.setdefault(here, []).extend(names)
    return links


def check_links(src, table, used):
    found, links = [], cmake_links(src, table)
    for module, names in sorted(links.items()):
        if module not in table:
            continue
        for name in names:
            if name in table and name != module and not table[module].may_use(name):
                found.append(f"src/{module}/CMakeLists.txt: {module} may not link {name}")
            if name.startswith("proto_") and not table[module].may_include("protobuf-c/protobuf-c.h"):
                found.append(f"src/{module}/CMakeLists.txt: {module} may not link {name}")
    for module in sorted(links):
        if module not in table:
            continue
        reach, todo = set(), [module]
        while todo:
            for name in links.get(todo.pop(), []):
                if name in table and name not in reach:
                    reach.add(name)
                    todo.append(name)
        for other in sorted(used[module] - reach - {module}):
            found.append(f"src/{module}/CMakeLists.txt: {module} includes {other}/ but does not link it")
    return found


def check_folders(src, table):
    folders = {p.name for p in src.iterdir() if p.is_dir()}
    found = [f"src/{name}/ is not in src/LAYERS" for name in sorted(folders - set(table))]
    found += [f"src/LAYERS: no folder src/{name}/" for name in sorted(set(table) - folders)]
    return found


def check(src):
    """Returns the list of violations in the source tree src."""
    table = read_table(src / "LAYERS")
    cycle = find_cycle(table)
    found = [f"src/LAYERS: {cycle} reaches itself"] if cycle else []
    found += check_folders(src, table)
    violations, used = check_sources(src, table)
    return found + violations + check_private_names(src, table) + check_links(src, table, used)


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2])
    try:
        found = check((root / "src").resolve())
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"layers: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
