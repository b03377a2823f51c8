#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs unit test programs over and over, each time with another one of their allocations failing (failing_alloc.h):
fail_each.py [--tries N] [--seconds S] [--jobs N] PROGRAM... . Of those that are reached by the same way, the first; all of
them, or with --tries N of each program, or with --seconds so many of each as one processor does in that time, spread evenly.

Whatever is out of memory, the program may fail an assertion, for its test expects success. But it must not crash, leak
(a build with ASan sees that), hang, or hand on what was to be sealed. A CHECK of src/ that fails is a crash, but for
ABORTS. Exit status 1 with one line per finding, which says how to see it again."""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ASSERTED, LET_OUT, LEAKED = 77, 78, 99
TIMEOUT = 120
# Before serving starts a failed allocation aborts, and so say these: the flags, and what main sets up.
ABORTS = {("src/base/err.c", "p != NULL"), ("src/base/err.c", "copy != NULL"), ("src/config/flag_value.c", "more != NULL"),
          ("src/config/flag_value.c", "left != NULL && right != NULL"), ("src/config/flag_value.c", "element != NULL"),
          ("src/config/flags.c", "f != NULL"), ("src/config/flags.c", "!ferror(f) && fclose(f) == 0 && strlen(help) < sizeof(help) - 1")}
ALLOCATOR = re.compile(r" in (?:__interceptor_|__wrap_)")
BUG = re.compile(r"etcd-envelope: bug: (?:\S*/)?((?:src|tests)/\S+):\d+: (.*)")


class Run:
    def __init__(self, program, n):
        env = dict(os.environ, FAILING_ALLOC=str(n))
        asan = env.get("ASAN_OPTIONS", "") + ":exitcode=99:detect_leaks=1:handle_segv=2:handle_abort=0"
        env["ASAN_OPTIONS"] = asan.lstrip(":")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
        try:
            done = subprocess.run([program], env=env, capture_output=True, text=True, errors="replace", timeout=TIMEOUT,
                                  check=False)
            self.status, self.text = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            self.status, self.text = None, ""

    def sites(self):
        found = re.search(r"^sites:((?: \d+)*)$", self.text, re.M)
        return sorted(map(int, found.group(1).split())) if found else None

    def leaks_of_tests_alone(self):
        """All that is lost was allocated by a line of a test, not by src/ for it."""
        leaks = self.text.split("leak of ")[1:]
        makers = [next((line for line in leak.splitlines()[1:] if not ALLOCATOR.search(line)), "") for leak in leaks]
        return bool(makers) and all("tests/" in maker for maker in makers)

    def finding(self):
        """What may not be, or None."""
        if self.status is None:
            return f"hangs: not over after {TIMEOUT} s"
        if self.status == LET_OUT:
            return "plaintext was let out"
        if self.status == LEAKED and "Test setup failed" in self.text and "ERROR: LeakSanitizer" in self.text:
            return None  # a setup that gives up halfway leaves behind what it had, and no teardown follows
        if self.status == LEAKED and "test(s) run." not in self.text and self.leaks_of_tests_alone():
            return None  # so does a test whose assertion fails, with what it made itself
        if self.status == LEAKED or "Sanitizer" in self.text:
            return "a sanitizer reports:\n" + "\n".join(self.text.splitlines()[-60:])
        if "Segmentation fault" in self.text or "Test failed with exception" in self.text:
            return "crashes"
        if self.status < 0:
            bug = BUG.search(self.text)
            if bug and (bug.group(1).startswith("tests/") or bug.groups() in ABORTS):
                return None
            return f"ends by signal {-self.status}: {bug.group(0) if bug else self.text[-300:]}"
        return None


def spread(sites, tries):
    if tries is None or tries >= len(sites):
        return sites
    return [sites[i * (len(sites) - 1) // max(tries - 1, 1)] for i in range(tries)]


def try_program(program, tries, seconds):
    """How many allocations there are, how many of them failed, and how many findings there were."""
    began = time.monotonic()
    first = Run(program, 0)
    sites = first.sites()
    if first.status != 0 or sites is None:
        print(f"{program}: fails although there is memory: {first.text[-2000:]}")
        return 0, 0, 1
    if seconds is not None:
        tries = min(tries or len(sites), max(3, int(seconds / (time.monotonic() - began))))
    findings = 0
    chosen = spread(sites, tries)
    for n in chosen:
        finding = Run(program, n).finding()
        if finding is not None:
            findings += 1
            print(f"FAILING_ALLOC={n} {program}: {finding}", flush=True)
    return len(sites), len(chosen), findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    args = parser.parse_args()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda program: try_program(program, args.tries, args.seconds), args.programs))
    there, tried, bad = map(sum, zip(*done))
    print(f"{tried} of {there} allocations failed, one at a time, in {len(args.programs)} programs: {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
