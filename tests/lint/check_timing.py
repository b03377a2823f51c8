#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An end-to-end test that asserts an upper bound on time is marked @harness.timing, and no other is: CI runs a marked
test a second time when it fails. A bound is an assertLess of a difference of time.monotonic(), of a name of the same
file that one was given to, or a call of a method of the same class that has one, by itself or by such a call. Exit status 1 with one line per test."""
import ast
import pathlib
import sys


def is_duration(node):
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub) and "monotonic()" in ast.unparse(n.left)
               for n in ast.walk(node))


def duration_names(tree):
    """Names that are given a duration: by assignment, also of a tuple, or by append."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts))
            names |= {t.id for t, v in pairs if isinstance(t, ast.Name) and is_duration(v)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".append") and is_duration(node.args[0]):
            names.add(ast.unparse(node.func).removesuffix(".append"))
    return names


def has_bound(function, names):
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("self.assertLess", "self.assertLessEqual"):
            used = {n.id for n in ast.walk(node.args[0]) if isinstance(n, ast.Name)}
            if is_duration(node.args[0]) or used & names:
                return True
    return False


def calls(function, methods):
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) in {"self." + m for m in methods}
               for n in ast.walk(function))


def check_file(path):
    """Yields (line number, problem)."""
    tree = ast.parse(path.read_text())
    names = duration_names(tree)
    for cls in (n for n in tree.body if isinstance(n, ast.ClassDef)):
        functions = [n for n in cls.body if isinstance(n, ast.FunctionDef)]
        bounds = {f.name for f in functions if has_bound(f, names)}
        while more := {f.name for f in functions if f.name not in bounds and calls(f, bounds) and not f.name.startswith("test_")}:
            bounds |= more
        for function in (f for f in functions if f.name.startswith("test_")):
            marked = "harness.timing" in map(ast.unparse, function.decorator_list)
            bound = function.name in bounds or calls(function, bounds)
            if bound and not marked:
                yield function.lineno, f"{function.name} asserts a bound on time without @harness.timing"
            if marked and not bound:
                yield function.lineno, f"{function.name} is @harness.timing without a bound on time"


def main(argv):
    root = pathlib.Path(argv[1] if len(argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    files = sorted((root / "tests/e2e").glob("test_*.py"))
    bad = 0
    for path in files:
        for number, problem in check_file(path):
            print(f"{path.relative_to(root)}:{number}: {problem}")
            bad += 1
    if not files:
        print(f"no tests below {root}")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
