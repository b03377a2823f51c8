#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does a test notice when a security rule is broken? Breaks each rule of rules.py in a copy of the source, one at a time,
builds what its tests need and runs these until one fails. Exit status 1: a rule that nothing guards, or tests that fail
without a patch; 2: a patch that does not fit or does not compile.

    tests/mutation/run.py                   # all of them, some 40 minutes
    tests/mutation/run.py NAME... --all     # some; every test of theirs is run, not only up to the first that fails
    tests/mutation/run.py --list            # the table: rule, what is broken for it, the tests that have to notice"""
import argparse
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import rules

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST_TIMEOUT = 150
ENDLESS = "does not end"


def misfits(root):
    """Why rules could not be applied to the source below root: one line each."""
    names = [r.name for r in rules.RULES]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"{name}: there are several of that name"
    for rule in rules.RULES:
        for edit in rule.edits:
            path = root / "src" / edit.path
            found = path.read_text().count(edit.old) if path.is_file() else -1
            if found != 1:
                what = "is not there" if found < 0 else f"has its text {found} times, not once"
                yield f"{rule.name}: src/{edit.path} {what}: {edit.old!r}"
            if edit.old == edit.new:
                yield f"{rule.name}: changes nothing"
        if not rule.tests:
            yield f"{rule.name}: names no test"
        for test in rule.tests:
            if not has_test(root, test):
                yield f"{rule.name}: there is no test {test}"


def has_test(root, test):
    kind, _, rest = test.partition("/")
    if kind == "unit":
        module, name = rest.split("/")
        return (root / "tests/unit" / module / f"test_{name}.c").is_file()
    if kind == "fuzz":
        return (root / "tests/fuzz" / f"{rest}.c").is_file()
    file, _, which = rest.partition(":")
    path = root / "tests/e2e" / f"test_{file}.py"
    cls, _, method = which.partition(".")
    text = path.read_text() if path.is_file() else ""
    return f"class {cls}(" in text and f"def {method}(" in text


class Copy:
    """The source, copied, with a build of its own."""

    def __init__(self, folder, jobs):
        self.source = folder / "src"
        self.build = folder / "build"
        self.jobs = jobs
        self.lasts = {}  # how long a test took without any patch, so that a slow one is not taken for one without end

    def refresh(self):
        """Takes over what has changed in the source; files that have not keep their time."""
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                check=True, capture_output=True, text=True).stdout.split("\0")
        wanted = {name for name in listed if name and (ROOT / name).is_file()}
        for name in wanted:
            data, to = (ROOT / name).read_bytes(), self.source / name
            if not to.is_file() or to.read_bytes() != data:
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(data)
                shutil.copymode(ROOT / name, to)
        for path in [p for p in self.source.rglob("*") if p.is_file()]:
            if str(path.relative_to(self.source)) not in wanted and "__pycache__" not in path.parts:
                path.unlink()

    def configure(self):
        launcher = os.environ.get("ENVELOPE_COMPILER_LAUNCHER", shutil.which("ccache") or "")
        self.command(["cmake", "-S", str(self.source), "-B", str(self.build), "-G", "Ninja", "-DBUILD_TESTING=ON",
                      "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_COMPILER_LAUNCHER={launcher}"])

    def command(self, argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")

    def make(self, tests):
        self.command(["cmake", "--build", str(self.build), f"-j{self.jobs}", "--target",
                      *sorted({name for t in tests for name in targets(t)})])

    def run(self, test):
        """None when it passes, else what failed. An end-to-end test has failed when it does so twice: a busy machine may
        keep etcd from starting in time."""
        failure = self.run_once(test)
        is_doubtful = failure not in (None, ENDLESS) and test.startswith("e2e/")
        return self.run_once(test) if is_doubtful else failure

    def run_once(self, test):
        argv, env = self.command_of(test), dict(os.environ, ENVELOPE_BUILD=str(self.build))
        env.setdefault("ENVELOPE_ETCD_DIR", str(ROOT / "build/etcd"))
        try:
            done = subprocess.run(argv, cwd=self.source, env=env, capture_output=True, text=True, errors="replace",
                                  timeout=TEST_TIMEOUT + 4 * self.lasts.get(test, 0), check=False)
        except subprocess.TimeoutExpired:
            return ENDLESS
        return None if done.returncode == 0 else first_failure(done.stdout + done.stderr, done.returncode)

    def command_of(self, test):
        kind, _, rest = test.partition("/")
        if kind == "unit":
            return [str(self.build / "tests" / targets(test)[0])]
        if kind == "fuzz":
            return [str(self.build / "tests" / targets(test)[0]), str(self.source / "tests/fuzz/corpus" / rest)]
        file, _, which = rest.partition(":")
        return ["/usr/bin/python3", str(self.source / "tests/e2e" / f"test_{file}.py"), which]

    def put(self, edit, text):
        (self.source / "src" / edit.path).write_text(text)


def targets(test):
    """What is to be built for it, its own program first."""
    kind, _, rest = test.partition("/")
    if kind == "unit":
        return ["test_" + rest.replace("/", "_")]
    return [f"fuzz_{rest}"] if kind == "fuzz" else ["etcd-envelope", "etcd-envelope-local-kms"]


def first_failure(text, status):
    found = re.search(r"\[  FAILED  \] (\w+)", text) or re.search(r"^(?:FAIL|ERROR): (\w+)", text, re.M)
    if found:
        return found.group(1)
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def broken(copy, rule):
    """Puts the rule's patch in; returns the texts to put back."""
    before = {}
    for edit in rule.edits:
        path = copy.source / "src" / edit.path
        text = path.read_text()
        before.setdefault(edit.path, text)
        path.write_text(text.replace(edit.old, edit.new))
    return before


def try_rule(copy, rule, every):
    """What notices: a list of (test, what failed). Raises RuntimeError when it does not compile."""
    before = broken(copy, rule)
    noticed = []
    try:
        for test in rule.tests:
            copy.make([test])
            failure = copy.run(test)
            if failure is not None:
                noticed.append((test, failure))
                if not every:
                    break
    finally:
        for path, text in before.items():
            (copy.source / "src" / path).write_text(text)
    return noticed


def baseline(copy, chosen):
    """The tests that fail without any patch: what they say of one counts for nothing."""
    tests = sorted({t for r in chosen for t in r.tests})
    copy.make(tests)
    failing = set()
    for test in tests:
        began = time.monotonic()
        failure = copy.run(test)
        copy.lasts[test] = time.monotonic() - began
        if failure is not None:
            failing.add(test)
            print(f"fails without any patch: {test}: {failure}", flush=True)
    return failing


def run(copy, chosen, every, failing):
    unguarded, unfit = [], []
    for rule in chosen:
        rule = dataclasses.replace(rule, tests=tuple(t for t in rule.tests if t not in failing))
        began = time.monotonic()
        try:
            noticed = try_rule(copy, rule, every)
        except RuntimeError as e:
            unfit.append(rule.name)
            print(f"{rule.name}: DOES NOT BUILD\n{e}", flush=True)
            continue
        by = ", ".join(f"{test} {failure}" for test, failure in noticed) or "NOTHING NOTICES"
        if not noticed:
            unguarded.append(rule.name)
        print(f"{rule.name:28} {by}  ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen)} rules broken, {len(chosen) - len(unguarded) - len(unfit)} noticed")
    for name in unguarded:
        print(f"nothing guards {name}: {next(r.says for r in chosen if r.name == name)}")
    return 2 if unfit else 1 if unguarded or failing else 0


def print_table():
    section = None
    for r in rules.RULES:
        if r.section != section:
            section = r.section
            print(f"\n{section}")
        places = ", ".join(sorted({e.path for e in r.edits}))
        print(f"  {r.name:28} {r.says}\n{'':31}{places} -> {', '.join(r.tests)}")
    print(f"\n{len(rules.RULES)} rules")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the rules, where each is broken, and its tests")
    parser.add_argument("--check", action="store_true", help="only whether every patch fits")
    parser.add_argument("--all", action="store_true", help="go on after the first test that fails")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/mutation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.list:
        print_table()
        return 0
    problems = list(misfits(ROOT))
    unknown = set(args.names) - {r.name for r in rules.RULES}
    print("".join(f"{p}\n" for p in problems + [f"{n}: there is no such rule" for n in sorted(unknown)]), end="")
    if problems or unknown:
        return 2
    if args.check:
        return 0
    chosen = [r for r in rules.RULES if not args.names or r.name in args.names]
    args.folder.mkdir(parents=True, exist_ok=True)
    lock = (args.folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # two in one folder would break each other's rules
    copy = Copy(args.folder, args.jobs)
    copy.refresh()
    copy.configure()
    return run(copy, chosen, args.all, baseline(copy, chosen))


if __name__ == "__main__":
    sys.exit(main())
