#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What documents, help texts and comments name exists: subcommands, flags, presets, metrics, environment
variables, files, tests and identifiers. A comment that says in which C file something is must be right, too. Exit status 1 with one line per name
that does not exist.

Where names come from: flags from the tables that parse them (C, argparse, case in shell), subcommands from src/main.c,
presets from CMakePresets.json, metrics from src/base/metrics.h and metric_series.h, identifiers from everything that is no
comment. Where they are looked for: every .md but the golden vectors', everything in conf/, comments of all sources,
string literals of src/."""
import io
import pathlib
import re
import sys
import tokenize

FOLDERS = ("src", "proto", "conf", "tests", "bench", ".ci", ".github")
SKIP = {"corpus", "__pycache__", "out", "build"}
HASH_SUFFIXES = {".py", ".sh", ".yaml", ".yml", ".cmake", ".service", ".txt", ""}
TEXT_SUFFIXES = {".c", ".h", ".proto", ".md"} | HASH_SUFFIXES

# Flags and subcommands of other programs that our texts speak of. One that no text names any more is reported, too.
FOREIGN_FLAGS = {
    "--preset": "cmake, ctest", "--install": "cmake", "--build": "cmake", "--workflow": "cmake",
    "--print-value-only": "etcdctl", "--prefix": "etcdctl", "--allow-downgrades": "apt-get",
    "--rev": "etcdctl", "--cluster": "etcdctl", "--now": "systemctl", "--raw": "kubectl",
    "--from-literal": "kubectl", "--data-dir": "etcd", "--bump-revision": "etcdutl", "--mark-compacted": "etcdutl",
    "--read-only": "docker", "--ulimit": "docker", "--config": "kubeadm", "--cacert": "curl", "--cert": "curl",
    "--wrap": "ld", "--quota-backend-bytes": "etcd",
}
# Files of other projects, identifiers of other programs, standards and build tools that have the look of ours.
FOREIGN_FILES = {
    "doc/statuscodes.md": "gRPC", "doc/http-grpc-status-mapping.md": "gRPC", "api.proto": "Kubernetes",
    "mod/file.h": "any header",
}
FOREIGN_NAMES = {
    "JSON_REJECT_DUPLICATES": "jansson", "close_notify": "RFC 8446",
    "all_verify_interface_header_sets": "cmake", "sa_mask": "sigaction(2)", "io_uring": "io_uring(7)",
    "sd_notify": "systemd", "sd_listen_fds": "systemd", "SD_LISTEN_FDS_START": "systemd",
    "crypto_secretbox": "libsodium", "EVP_MAC": "OpenSSL", "EVP_KDF": "OpenSSL", "SA_RESTART": "sigaction(2)",
    "default_ca": "openssl ca", "private_key": "openssl ca", "default_md": "openssl ca", "default_crl_days": "openssl ca",
}

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
SUBCOMMAND = re.compile(r"(?<![\w./-])etcd-envelope ([a-z][a-z-]+)\b")
PRESET = re.compile(r"--preset ([a-z][a-z0-9-]*)")
METRIC = re.compile(r"\b(?:etcd_envelope|apiserver)_[a-z0-9_]*[a-z0-9_*]")
VARIABLE = re.compile(r"\b(?:ETCD_ENVELOPE|ENVELOPE|E2E)_[A-Z0-9_]*[A-Z0-9]\b(?![_*<])")
FILE = re.compile(r"(?<![\w/.<*$}~@-])(?:[\w-]+/)*[\w-]+\.(?:c|h|py|sh|md|proto|yaml|svg|cmake)\b(?![/\w*]|\.\w)")
NAME = re.compile(r"(?<![\w/.-])[a-z][a-z0-9]*(?:__?[a-z0-9]+)+\b(?!\.\w|/)")
CALL = re.compile(r"(?<![\w/.-])([A-Za-z]\w*)\(\)")  # a name without an underscore is a word unless it is called
CONSTANT = re.compile(r"(?<![\w/.<-])[A-Z][A-Z0-9]*(?:__?[A-Z0-9]+)+\b(?![_*\w<])")
TEST = re.compile(r"`(test_\w+\.py) (\w+)(?:\.(\w+))?`|`\.(test_\w+)`")  # file, class, test, or a test alone
PLACE = re.compile(r"\b(\w*_\w+|\w+(?=\(\)))(?:\(\))?(?: \(| in | of |, see )((?:[\w-]+/)*[\w-]+\.[ch])\b")  # "main (x.c)"


def files(root):
    for path in sorted(p for p in root.iterdir() if p.is_file()):
        if path.suffix == ".md" or path.name == "CMakeLists.txt":
            yield path
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            parts = set(path.relative_to(root).parts)
            if path.is_file() and not SKIP & parts and path.suffix in TEXT_SUFFIXES:
                yield path


# --- texts: (line number, text) of what people read; the rest of a file is code ---

C_TOKEN = re.compile(r'(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*")|\'(?:[^\'\\\n]|\\.)*\'', re.S)


def split_c(text):
    """(comments, string literals, code): the first two as [(line number, text)]."""
    comments, strings, code, last = [], [], [], 0
    for m in C_TOKEN.finditer(text):
        line = text.count("\n", 0, m.start()) + 1
        code.append(text[last:m.start()])
        last = m.end()
        if m["comment"]:
            words = re.sub(r"\n[ \t]*\* ?", "\n", m["comment"])
            comments += [(line + i, part) for i, part in enumerate(words.split("\n"))]
        elif m["string"]:
            strings.append((line, m["string"][1:-1].replace("\\n", " ")))
    return comments, strings, "".join(code) + text[last:]


def split_python(text):
    """The same for Python: docstrings are comments, other strings code."""
    comments, code, is_first = [], [], True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_doc = token.type == tokenize.STRING and is_first
        if token.type == tokenize.COMMENT or is_doc:
            comments += [(token.start[0] + i, line) for i, line in enumerate(token.string.split("\n"))]
        else:
            code.append(token.string)
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            is_first = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return comments, [], " ".join(code)


def split_hash(text):
    """The same for shell, YAML, CMake."""
    comments, code = [], []
    for number, line in enumerate(text.split("\n"), 1):
        m = re.match(r"^((?:[^#'\"$]|\$.|'[^']*'|\"(?:[^\"\\]|\\.)*\")*?)(?:(?<=\s)|^)#(.*)$", line)
        comments += [(number, m[2])] if m else []
        code.append(m[1] if m else line)
    return comments, [], "\n".join(code)


def split(path):
    text = path.read_text(errors="replace")
    if path.suffix == ".md":
        return list(enumerate(text.split("\n"), 1)), [], ""
    if path.suffix in (".c", ".h", ".proto"):
        return split_c(text)
    return split_python(text) if path.suffix == ".py" else split_hash(text)


class Tree:
    def __init__(self, root):
        self.root = root
        self.parts = {path: split(path) for path in files(root)}
        self.paths = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and not {
            ".git", "build"} & set(p.relative_to(root).parts)}
        self.names = {p.rsplit("/", 1)[-1] for p in self.paths}
        self.flags = set(self.find_flags())
        self.subcommands = set(self.find_subcommands())
        self.presets = set(re.findall(r'"name": "([\w-]+)"', self.read("CMakePresets.json")))
        self.metrics = set(self.find_metrics())
        self.made = "\n".join(self.code_texts())  # files that a program writes are named here
        self.code = set(re.findall(r"\w+", self.made))
        self.used = set()  # of FOREIGN_*

    def read(self, name):
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def code_texts(self):
        """Everything that is no comment, strings too: a name that is written somewhere there exists."""
        for comments, strings, code in self.parts.values():
            yield code
            yield from (text for _, text in strings)

    def find_flags(self):
        yield from re.findall(r'(?:BOOL|TEXT|LIST|NUMBER)\("([a-z0-9-]+)"|\{"([a-z0-9-]+)", FLAG_', self.read(
            "src/config/flags.c"))
        for path in self.parts:
            text = path.read_text(errors="replace")
            if path.suffix == ".c":
                yield from re.findall(r'\{(?:\.name = )?"([a-z0-9-]+)", (?:&|\.\w+ = &|required_argument|no_argument)|"--([a-z0-9-]+)"', text)
            elif path.suffix == ".py":
                yield from re.findall(r'add_argument\("--([a-z0-9-]+)"()', text)
            elif path.suffix == ".sh":
                yield from re.findall(r"^\s*(?:[\w-]+ ?\| ?)*--([a-z0-9-]+)()[^\n(]*\)", text, re.M)

    def find_subcommands(self):
        main = self.read("src/main.c")
        yield from re.findall(r'\{"([a-z-]+)", cli_', main) + re.findall(r'strcmp\(word, "([a-z]+)"\)', main)

    def find_metrics(self):
        yield from ("etcd_envelope_" + n for n in re.findall(r"X\((\w+), (?:counter|gauge)", self.read("src/base/metrics.h")))
        for name in ("src/base/metric_series.h", "src/base/metric_series.c"):
            yield from re.findall(r"(?:etcd_envelope|apiserver)_\w+", " ".join(
                text for _, text in split_c(self.read(name))[1]))

    # --- does it exist? ---

    def has_flag(self, name):
        self.used.add(name)
        return name in FOREIGN_FLAGS or name[2:] in self.flags

    def has_metric(self, name):
        if name.endswith("*"):
            return any(m.startswith(name[:-1]) for m in self.metrics)
        return name in self.metrics or re.sub(r"_(?:bucket|sum|count)$", "", name) in self.metrics

    def has_variable(self, name):
        flag = name.removeprefix("ETCD_ENVELOPE_").lower().replace("_", "-")
        self.used.add(name)
        if name in FOREIGN_NAMES:
            return True
        return flag in self.flags if name.startswith("ETCD_ENVELOPE_") else name in self.code

    def has_file(self, name, path):
        self.used.add(name)
        if name in FOREIGN_FILES:
            return True
        if "/" not in name:
            return name in self.names or name in self.made
        folder = path.parent.relative_to(self.root)
        tried = ("", "src/", "tests/", "bench/", f"{folder}/", f"{folder.parent}/")
        return any((t + name).removeprefix("./") in self.paths for t in tried) or name.startswith("build/")

    def has_name(self, name):
        self.used.add(name)
        return name in self.code or name in FOREIGN_NAMES

    def has_constant(self, name):
        """RST_STREAM will do for H2__RST_STREAM."""
        return self.has_name(name) or any(n.endswith("_" + name) for n in self.code)

    def is_in(self, name, file, path):
        """Does the code of the file that is meant, the nearest of that name, have this word?"""
        known = [p for p in self.parts if p == self.root / file or str(p).endswith("/" + file)]
        near = [p for p in known if p.parent == path.parent] or known
        return not near or any(re.search(rf"\b{name}\b", self.parts[p][2]) for p in near)

    def has_test(self, file, cls, test):
        code = [text for path, (_, _, text) in self.parts.items() if path.name == file]
        return any(re.search(rf"\bclass {cls}\b", text) and re.search(rf"\b{test or cls}\b", text) for text in code)

    # --- looking ---

    def check_text(self, path, text):
        """Yields what is named in a text and does not exist."""
        yield from (("flag", n) for n in FLAG.findall(text) if not self.has_flag(n))
        yield from (("preset", n) for n in PRESET.findall(text) if n not in self.presets)
        yield from (("metric", n) for n in METRIC.findall(text) if not self.has_metric(n))
        yield from (("environment variable", n) for n in VARIABLE.findall(text) if not self.has_variable(n))
        yield from (("file", n) for n in FILE.findall(text) if not self.has_file(n, path))
        for file, cls, test, other in TEST.findall(text):
            if not (other in self.code if other else self.has_test(file, cls, test)):
                yield "test", other or f"{file} {cls}.{test}".rstrip(".")

    def check_file(self, path):
        comments, strings, code = self.parts[path]
        for number, text in comments:
            yield from ((number, *problem) for problem in self.check_text(path, text))
            words = METRIC.sub("", FILE.sub("", text))
            yield from ((number, "name", n) for n in NAME.findall(words) if not self.has_name(n))
            yield from ((number, "function", n) for n in CALL.findall(words) if "_" not in n and not self.has_name(n))
            yield from ((number, "constant", n) for n in CONSTANT.findall(VARIABLE.sub("", words)) if not self.has_constant(n))
        yield from self.check_places(path, comments)
        yield from self.check_commands(path, comments)
        if path.relative_to(self.root).parts[0] == "src":  # what the programs say
            for number, text in strings:
                yield from ((number, *p) for p in self.check_text(path, text) if p[0] != "file" and p[0] != "metric")
            yield from self.check_commands(path, strings, is_words=True)
        is_other = re.search(r"^(?:kind|groups|rule_files):", code, re.M)  # Kubernetes', Prometheus'
        if path.suffix == ".yaml" and not is_other and path.parent.name != "kubernetes":
            for number, line in enumerate(code.split("\n"), 1):
                key = re.match(r"([a-z][a-z0-9-]*):", line)
                if key and key[1] not in self.flags:
                    yield number, "flag", key[1]

    def check_places(self, path, comments):
        """A name and, in brackets behind it, its file; also where the line ends in between."""
        following = dict(comments)
        for number, text in comments:
            both = f"{text.rstrip()} {following.get(number + 1, '').lstrip()}"
            for m in PLACE.finditer(both):
                if m.start() < len(text.rstrip()) and not self.is_in(m[1], m[2], path):
                    yield number, "in " + m[2] + " the name", m[1]

    def check_commands(self, path, texts, is_words=False):
        """In running text "etcd-envelope seals" is no command; in code and in a program's words it is."""
        is_block = False
        for number, text in texts:
            if path.suffix == ".md" and text.startswith("```"):
                is_block = not is_block
            if not is_words and not is_block and not (path.suffix == ".md" and text.startswith("    ")):
                text = "; ".join(re.findall(r"`([^`]+)`", text))
            for word in SUBCOMMAND.findall(text):
                if word not in self.subcommands:
                    yield number, "subcommand", word


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    tree = Tree(root)
    tree.flags = {name for pair in tree.flags for name in (pair if isinstance(pair, tuple) else (pair,)) if name}
    bad = 0
    for path in tree.parts:
        for number, kind, name in tree.check_file(path):
            bad += 1
            print(f"{path.relative_to(root)}:{number}: {kind} {name} does not exist")
    if (root / "src" / "config" / "flags.c").exists() and root == pathlib.Path(__file__).resolve().parents[2]:
        for name in sorted((set(FOREIGN_FLAGS) | set(FOREIGN_NAMES) | set(FOREIGN_FILES)) - tree.used):
            bad += 1
            print(f"tests/lint/check_names.py: {name} is excepted, but nothing names it any more")
    print(f"names: {len(tree.parts)} files, {len(tree.flags)} flags, {len(tree.metrics)} metrics, {bad} violations")
    return 1 if bad or not tree.parts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
