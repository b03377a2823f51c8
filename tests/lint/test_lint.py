#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The checkers themselves: each must pass a tree that is in order and find what is planted in it."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
TABLE = """
# comment
base: | openssl/crypto.h
net: base | uv.h
app: base net | protobuf-c/protobuf-c.h
cli: *
"""


class Tree:
    """A small source tree that is in order."""

    def __init__(self, root):
        self.root = root
        self.write("src/LAYERS", TABLE)
        self.write("src/base/base.h", SPDX + "#include <openssl/crypto.h>\n#include <sys/types.h>\n")
        self.write("src/base/base_int.h", SPDX)
        self.write("src/base/base.c", SPDX + '#include "base/base_int.h"\n')
        self.write("src/base/CMakeLists.txt", "envelope_module(base HEADERS base.h SOURCES base.c)\n")
        self.write("src/net/net.h", SPDX + '#include "base/base.h"\n#include <uv.h>\n')
        self.write("src/net/CMakeLists.txt", "envelope_module(net HEADERS net.h LINK base PkgConfig::UV)\n")
        self.write("src/app/app.c", SPDX + '#include "net/net.h"\n#include "x.pb-c.h"\n#include <stdio.h>\n')
        self.write("src/app/CMakeLists.txt", "envelope_module(app SOURCES app.c LINK net PRIVATE proto_x)\n")
        self.write("src/cli/cli.c", SPDX + '#include "app/app.h"\n#include "base/base.h"\n')
        self.write("src/cli/CMakeLists.txt", "add_executable(p cli.c)\ntarget_link_libraries(p PRIVATE app)\n")
        for path in self.root.rglob("CMakeLists.txt"):
            path.write_text("# SPDX-License-Identifier: Apache-2.0\n" + path.read_text())

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def append(self, name, text):
        with (self.root / name).open("a") as f:
            f.write(text)

    def run(self, checker):
        done = subprocess.run([sys.executable, HERE / checker, self.root], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Tree(pathlib.Path(folder.name))

    def finds(self, checker, text, status=1):
        code, output = self.tree.run(checker)
        self.assertEqual(code, status, output)
        self.assertIn(text, output)

    def test_a_tree_in_order_passes(self):
        for checker in ("check_layers.py", "check_style.py"):
            code, output = self.tree.run(checker)
            self.assertEqual(code, 0, output)

    def test_layers_upward_include(self):
        self.tree.append("src/base/base.h", '#include "net/net.h"\n')
        self.finds("check_layers.py", "src/base/base.h:4: base may not include net/")

    def test_layers_sideways_include_in_angles(self):
        self.tree.append("src/base/base.h", "#include <net/net.h>\n")
        self.finds("check_layers.py", "base may not include net/")

    def test_layers_outside_header_of_another_module(self):
        self.tree.append("src/app/app.c", "#include <uv.h>\n")
        self.finds("check_layers.py", "app may not include <uv.h>")

    def test_layers_outside_header_nobody_has(self):
        self.tree.append("src/app/app.c", "#include <sodium.h>\n")
        self.finds("check_layers.py", "<sodium.h> is not in the table")

    def test_layers_generated_header(self):
        self.tree.append("src/net/net.h", '#include "x.pb-c.h"\n')
        self.finds("check_layers.py", "net may not use protobuf-c")

    def test_layers_private_header(self):
        self.tree.append("src/net/net.h", '#include "base/base_int.h"\n')
        self.finds("check_layers.py", "is private to base")

    def test_layers_private_name(self):
        self.tree.append("src/net/net.h", "int f(void) { return x.base__bytes; } /* base__other */\n")
        self.finds("check_layers.py", "base__bytes is private to base")

    def test_layers_plain_name(self):
        self.tree.append("src/net/net.h", '#include "base.h"\n')
        self.finds("check_layers.py", "does not name a module")

    def test_layers_include_in_a_comment_is_none(self):
        self.tree.append("src/base/base.h", '/*\n#include "net/net.h"\n*/\n')
        self.assertEqual(self.tree.run("check_layers.py")[0], 0)

    def test_layers_link_not_allowed(self):
        self.tree.write("src/base/CMakeLists.txt", "envelope_module(base SOURCES base.c LINK net)\n")
        self.finds("check_layers.py", "base may not link net")

    def test_layers_private_link_not_allowed(self):
        self.tree.write("src/net/CMakeLists.txt", "envelope_module(net LINK base PRIVATE proto_x)\n")
        self.finds("check_layers.py", "net may not link proto_x")

    def test_layers_link_missing(self):
        self.tree.write("src/app/CMakeLists.txt", "envelope_module(app SOURCES app.c LINK base)\n")
        self.finds("check_layers.py", "app includes net/ but does not link it")

    def test_layers_cycle(self):
        self.tree.write("src/LAYERS", TABLE.replace("base: |", "base: net |"))
        self.finds("check_layers.py", "reaches itself")

    def test_layers_unknown_folder(self):
        self.tree.write("src/extra/extra.c", SPDX)
        self.finds("check_layers.py", "src/extra/ is not in src/LAYERS")

    def test_layers_broken_table(self):
        self.tree.append("src/LAYERS", "net: base |\n")
        self.finds("check_layers.py", "not `module:", status=2)

    def test_style_finds_each(self):
        mark = "TO" + "DO"
        plants = {
            "src/a.c": ("int x;\n", "no line with SPDX"),
            "src/b.c": (SPDX + "\tint x;\n", "a tab"),
            "src/c.c": (SPDX + f"/* {mark}: later */\n", "unfinished"),
            "src/d.c": (SPDX + "x" * 101 + "\n", "more than 100"),
            "src/e.c": (SPDX + '#include "b.c"\n', "a .c file is included"),
            "src/h.c": (SPDX + "struct h {\n    enum h_state state;\n};\n", "has states"),
            "src/i.c": (SPDX + "/* The happy path: none. */\nstatic void h_set_state(int to)\n{\n}\n", "has states"),
            "src/j.c": (SPDX + '#include "h.h"\n/* Failure modes: none. */\nvoid set_state(int to)\n{\n}\n', "has states"),
            "tests/f.sh": ("#!/bin/sh\n", "no line with SPDX"),
            "tests/g": ("#!/bin/sh\n", "no line with SPDX"),
        }
        for name, (text, _) in plants.items():
            self.tree.write(name, text)
        code, output = self.tree.run("check_style.py")
        self.assertEqual(code, 1)
        for name, (_, problem) in plants.items():
            self.assertTrue(any(line.startswith(name + ":") and problem in line
                                for line in output.splitlines()), f"{name}: {output}")

    def test_style_of_a_stateful_file(self):
        struct = "struct h {\n    enum h_state state;\n};\n"
        self.tree.write("src/h.c", SPDX + "/* The happy path: none.\n * Failure modes: none. */\n" + struct)
        self.tree.write("src/i.c", SPDX + "void f(void)\n{\n    g_set_state(1);\n}\n")
        self.tree.write("tests/j.c", SPDX + struct)
        code, output = self.tree.run("check_style.py")
        self.assertEqual(code, 0, output)

    def test_style_of_nothing_is_an_error(self):
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run([sys.executable, HERE / "check_style.py", empty], capture_output=True)
            self.assertEqual(done.returncode, 1)


    def names(self):
        """A tree in which every kind of name is made and named."""
        self.tree.write("src/config/flags.c", SPDX + 'const struct flag f[] = {\n    BOOL("dry-run", x, "with --log-level"),\n'
                        '    {"log-level", FLAG_LOG_LEVEL, 0},\n};\n')
        self.tree.write("src/main.c", SPDX + 'struct x c[] = {{"serve", cli_serve}};\n'
                        'const char *u = "usage: etcd-envelope serve --dry-run\\n";\n')
        self.tree.write("src/base/metrics.h", SPDX + 'X(calls_total, counter, "calls")\n')
        self.tree.write("src/base/metric_series.h", SPDX + 'X(A, "apiserver_envelope_age_seconds", HISTOGRAM)\n')
        self.tree.write("bench/run.sh", "# " + SPDX[3:-4] + "\ncase $1 in\n    --quick | -q) QUICK=1 ;;\nesac\n")
        self.tree.write("conf/serve.yaml", "log-level: debug  # or --log-level\n")
        self.tree.write("CMakePresets.json", '{"buildPresets": [{ "name": "dev", "configurePreset": "dev" }]}')
        self.tree.write("README.md", "cmake --build --preset dev; `etcd-envelope serve --dry-run` reads `conf/serve.yaml`; bench/run.sh --quick; "
                        "`ETCD_ENVELOPE_DRY_RUN`; etcd_envelope_calls_total, apiserver_envelope_*, "
                        "apiserver_envelope_age_seconds_bucket; what etcd-envelope never does\n")

    def test_names_that_exist(self):
        self.names()
        code, output = self.tree.run("check_names.py")
        self.assertEqual(code, 0, output)

    def test_names_finds_each(self):
        plants = {
            "a.md": ("first\n`--dry-runs`\n", 2, "flag --dry-runs"),
            "b.md": ("    etcd-envelope reencrypt\n", 1, "subcommand reencrypt"),
            "c.md": ("see `etcd-envelope verify` there\n", 1, "subcommand verify"),
            "d.md": ("```\netcd-envelope check\n```\n", 2, "subcommand check"),
            "e.md": ("etcd_envelope_call_total\n", 1, "metric etcd_envelope_call_total"),
            "f.md": ("apiserver_storage_*\n", 1, "metric apiserver_storage_*"),
            "g.md": ("ETCD_ENVELOPE_DRY\n", 1, "environment variable ETCD_ENVELOPE_DRY"),
            "h.md": ("E2E_NOWHERE=1\n", 1, "environment variable E2E_NOWHERE"),
            "i.md": ("see `conf/gone.yaml`\n", 1, "file conf/gone.yaml"),
            "j.md": ("see gone.c\n", 1, "file gone.c"),
            "k.md": ("    cmake --preset fast && cmake --build --preset dev\n", 1, "preset fast"),
            "l.md": ("`test_r.py There.test_gone`, `.test_it`\n", 1, "test test_r.py There.test_gone"),
            "m.md": ("`test_r.py Gone`, `test_r.py There.test_it`\n", 1, "test test_r.py Gone"),
            "n.md": ("`test_r.py There`, `.test_gone`\n", 1, "test test_gone"),
            "src/README.md": ("what base_gone does\n", 1, "name base_gone"),
            "src/k.c": (SPDX + "/* as\n * base/gone.c */\n", 3, "file base/gone.c"),
            "src/l.c": (SPDX + "// see base_gone_one()\n", 2, "name base_gone_one"),
            "src/t.c": (SPDX + "/* base__gone reads */\n", 2, "name base__gone"),
            "src/u.c": (SPDX + "int xyz_ok_then;\n/* xyz_ok is only the beginning of a name */\n", 3, "name xyz_ok"),
            "src/v.c": (SPDX + "/* as gone() does */\n", 2, "function gone"),
            "src/w.c": (SPDX + "/* at most LIMIT_GONE */\n", 2, "constant LIMIT_GONE"),
            "src/m.c": (SPDX + 'char *h = "give --force";\n', 2, "flag --force"),
            "src/n.c": (SPDX + 'char *h =\n    "usage: etcd-envelope repair\\n";\n', 3, "subcommand repair"),
            "conf/o.yaml": ("dry-run: true\nlog-lvl: debug\n", 2, "flag log-lvl"),
            "conf/p.yaml": ("kind: EncryptionConfiguration  # see `etcd-envelope verify`\n", 1, "subcommand verify"),
            "conf/q.sh": ("# sets ENVELOPE_NOWHERE\n", 1, "environment variable ENVELOPE_NOWHERE"),
            "tests/r.py": ('def f():\n    """Needs --fast."""\n    g("--not-a-comment")\n', 2, "flag --fast"),
            "tests/s.py": ("x = '# no comment --x1'\ny = 1  # but --x2\n", 2, "flag --x2"),
        }
        self.names()
        self.tree.write("tests/test_r.py", "class There(Base):\n    def test_it(self):\n        pass\n")
        for name, (text, _, _) in plants.items():
            self.tree.write(name, text)
        code, output = self.tree.run("check_names.py")
        self.assertEqual(code, 1)
        found = [line for line in output.splitlines() if line.endswith("does not exist")]
        self.assertEqual(sorted(found), sorted(f"{name}:{number}: {problem} does not exist"
                                               for name, (_, number, problem) in plants.items()))

    def test_names_in_the_wrong_file(self):
        self.names()
        self.tree.write("src/x/z.c", SPDX + "int it_stayed; /* it_moved away */\n")
        self.tree.write("src/other/z.c", SPDX + "int it_moved, it_stayed; /* not the nearest z.c */\n")
        for text in ("see it_moved (z.c)", "it_moved() in\n * z.c", "the it_moved of x/z.c", "it_moved, see z.c"):
            self.tree.write("src/x/y.c", SPDX + f"/* {text} */\n")
            self.finds("check_names.py", "src/x/y.c:2: in")
        for text in ("see it_stayed (z.c)", "it_moved (other/z.c)", "it_moved. In z.c it_stayed"):
            self.tree.write("src/x/y.c", SPDX + f"/* {text} */\n")
            self.assertEqual(self.tree.run("check_names.py")[0], 0, text)

    def test_names_of_nothing_is_an_error(self):
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run([sys.executable, HERE / "check_names.py", empty], capture_output=True)
            self.assertEqual(done.returncode, 1)

    def test_style_knows_where_the_wall_clock_is_asked(self):
        plants = ("clock_gettime(CLOCK_REALTIME, &t);", "clock_gettime(CLOCK_REALTIME_COARSE, &t);", "x = time(NULL);",
                  "gettimeofday(&t, NULL);", "uv_gettimeofday(&t);")
        text = "\n".join(plants) + "\n"
        self.tree.write("src/base/log.c", SPDX + text)
        self.tree.write("src/kms/a.c", SPDX + "clock_gettime(CLOCK_MONOTONIC, &t); run_time(NULL);\n")
        self.assertEqual(self.tree.run("check_style.py")[0], 0)
        self.tree.write("src/kms/a.c", SPDX + text)
        code, output = self.tree.run("check_style.py")
        self.assertEqual(code, 1)
        for number in range(len(plants)):
            self.assertIn(f"src/kms/a.c:{number + 2}: the wall clock jumps", output)

    def test_style_knows_where_kinds_of_provider_are_named(self):
        kind = SPDX + "int k = PROVIDER_ROT13;\n"
        self.tree.write("src/envelope/provider.h", SPDX + "enum provider_kind {\n    PROVIDER_ROT13,\n};\n")
        self.tree.write("src/envelope/a.c", kind)
        self.tree.write("src/policy/ruleset.c", kind)
        self.tree.write("src/etcd/b.c", SPDX + "int k = PROVIDER_ROT13_LEN;\n")
        self.assertEqual(self.tree.run("check_style.py")[0], 0)
        self.tree.write("src/etcd/b.c", kind)
        code, output = self.tree.run("check_style.py")
        self.assertEqual(code, 1)
        self.assertIn("src/etcd/b.c:2: PROVIDER_ROT13: ask for its traits", output)

    def timing(self, body, mark="", helper=""):
        """Exit status for an end-to-end test with this body."""
        lines = ["class A:", *(f"    {line}" for line in helper.splitlines()), f"    {mark}", "    def test_it(self):",
                 "        started = time.monotonic()", f"        {body}"]
        self.tree.write("tests/e2e/test_a.py", "\n".join(lines) + "\n")
        return self.tree.run("check_timing.py")[0]

    def test_timing_needs_its_mark(self):
        for body in ("self.assertLess(time.monotonic() - started, 3)",
                     "took, n = time.monotonic() - started, 1; self.assertLess(took, 3)",
                     "times = []; times.append(time.monotonic() - started); self.assertLess(max(times), 3)",
                     "self.assertQuick(started)"):
            helper = "def assertQuick(self, began):\n    self.assertLess(time.monotonic() - began, 1)"
            self.assertEqual(self.timing(body, helper=helper), 1, body)
            self.assertEqual(self.timing(body, "@harness.timing", helper), 0, body)

    def test_timing_without_a_bound_is_no_timing(self):
        for body in ("self.assertGreater(time.monotonic() - started, 3)", "self.assertLess(size, 3)"):
            self.assertEqual(self.timing(body), 0, body)
            self.assertEqual(self.timing(body, "@harness.timing"), 1, body)

    def test_secrets_are_compared_in_constant_time(self):
        for code, status in (("memcmp(ours, tag, 16)", 1), ("bytes_eq(plain.value, other)", 1),
                             ("bytes_eq(a, bytes_of(p->seed, 32))", 1), ("CRYPTO_memcmp(a, b, 16)", 1),
                             ("secret_eq(ours, tag, 16)", 0), ("bytes_eq(kv->key, key)", 0),
                             ('strcmp(word, "seed")', 0), ("f(seed) && memcmp(a, b, n)", 0), ("1; /* memcmp(tag, x) */", 0)):
            self.tree.write("src/net/net.c", SPDX + f"int f(void) {{ return {code}; }}\n")
            self.assertEqual(self.tree.run("check_compare.py")[0], status, code)

    def reach(self, **sources):
        """Compiles the sources, each by the name of its folder in the tree; the checker's exit status and words."""
        build = self.tree.root / "build"
        self.tree.write("src/base/base.h", "void base__grow(void);\nvoid base__shut(void);\n"
                        "static inline void base_shut(void) { base__shut(); }\n")
        sources = {"src_base": "void base__grow(void) {}\nvoid base__shut(void) {}\n", **sources}
        for folder, text in sources.items():
            folder = folder.replace("_", "/")
            self.tree.write(f"{folder}/a.c", text)
            (build / folder).mkdir(parents=True)
            subprocess.run([os.environ.get("CC", "cc"), "-c", "-I", self.tree.root / "src",
                            "-o", build / folder / "a.c.o", self.tree.root / folder / "a.c"], check=True)
        (build / "compile_commands.json").write_text(json.dumps(
            [{"command": f"cc -o {folder.replace('_', '/')}/a.c.o -c a.c"} for folder in sources]))
        self.tree.write("build/src/stale/a.c.o", "no object file, and in nobody's list\n")
        done = subprocess.run([sys.executable, HERE / "check_reach.py", self.tree.root, build], capture_output=True,
                              text=True)
        return done.returncode, done.stdout

    def test_reach_in_order(self):
        self.tree.write("src/base/base_int.h", "void base__grow(void);\n")
        code, output = self.reach(
            src_app='#include "base/base.h"\nvoid app_run(void) { base_shut(); }\n',
            tests_unit_base="void base__grow(void);\nvoid t(void) { base__grow(); }\n")
        self.assertEqual((code, output), (0, "reach: 2 names, 0 violations\n"))

    def test_reach_finds_each(self):
        call = "void base__{0}(void);\nvoid t(void) {{ base__{0}(); }}\n"
        self.tree.write("src/base/CMakeLists.txt", "envelope_module(base SOURCES base.c)\n")
        code, output = self.reach(src_app=call.format("grow"), tests_unit_app=call.format("grow"),
                                  tests_fuzz=call.format("shut"), bench_micro=call.format("shut"))
        self.assertEqual(code, 1)
        for where, name in (("src/app", "grow"), ("tests/unit/app", "grow"), ("tests/fuzz", "shut"),
                            ("bench/micro", "shut")):
            self.assertIn(f"{where}/a.c.o: base__{name} is for src/base/ alone\n", output)
        self.assertIn("4 violations", output)

    def test_reach_finds_what_only_an_inline_function_may_call(self):
        code, output = self.reach(src_app='#include "base/base.h"\nvoid app_run(void)\n{\n    base__shut();\n}\n')
        self.assertEqual(code, 1)
        self.assertIn("src/app/a.c:4: base__shut is for src/base/ alone\n", output)

    def test_reach_of_nothing_is_an_error(self):
        self.assertEqual(self.reach(src_base="int x;\n")[0], 1)

    def test_format_finds_a_misformatted_file(self):
        self.tree.write(".clang-format", "BasedOnStyle: LLVM\n")
        for folder in ("tests", "bench"):
            (self.tree.root / folder).mkdir()
        done = subprocess.run(["bash", HERE / "check_format.sh", self.tree.root], capture_output=True)
        if done.returncode == 77:
            self.skipTest("no clang-format 14")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.tree.write("src/a.c", "int   x ;\n")
        done = subprocess.run(["bash", HERE / "check_format.sh", self.tree.root], capture_output=True)
        self.assertNotEqual(done.returncode, 0)


class Binary(unittest.TestCase):
    """A program that was built with nothing lacks what the release has; one that has it all passes."""

    def build(self, folder, *flags):
        (folder / "p.c").write_text(
            "#include <stdio.h>\n#include <string.h>\nint main(int n, char **v) { char b[64]; strcpy(b, v[n - 1]);"
            " printf(\"%s\", b); return 0; }\n")
        subprocess.run(["cc", *flags, "p.c", "-o", "p"], cwd=folder, check=True)
        return subprocess.run([sys.executable, HERE / "check_binary.py", folder / "p"], capture_output=True, text=True)

    def test_both(self):
        hard = ["-O2", "-fPIE", "-pie", "-D_FORTIFY_SOURCE=2", "-fstack-protector-all", "-Wl,--build-id",
                "-Wl,-z,relro,-z,now,-z,noexecstack"]
        soft = ["-O0", "-U_FORTIFY_SOURCE", "-no-pie", "-fno-stack-protector", "-Wl,-z,norelro,-z,lazy,-z,execstack",
                "-Wl,--build-id=none", "-Wl,-rpath,/nowhere"]
        with tempfile.TemporaryDirectory() as folder:
            done = self.build(pathlib.Path(folder), *hard)
            self.assertEqual(done.returncode, 0, done.stdout)
            done = self.build(pathlib.Path(folder), *soft)
            self.assertEqual(done.returncode, 1)
            for what in ("-pie", "relro", "-z now", "stack not executable", "search path", "FORTIFY", "stack protector",
                         "build id"):
                self.assertIn(what, done.stdout)


class Analyze(unittest.TestCase):
    """A planted double free is found by gcc; kept it passes; one more, or one less, than is kept does not."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        (self.root / "src").mkdir()
        (self.root / "tests").mkdir()
        self.source = self.root / "src" / "p.c"
        (self.root / "compile_commands.json").write_text(json.dumps([{
            "directory": str(self.root), "file": str(self.source),
            "command": f"cc -g -o p.o -c {self.source}"}]))

    def analyze(self, kept, frees):
        self.source.write_text("#include <stdlib.h>\nvoid f(void *p);\nvoid f(void *p)\n{\n"
                               + "    free(p);\n" * frees + "}\n")
        (self.root / "tests" / "analyze_exceptions.txt").write_text(kept)
        return subprocess.run([sys.executable, HERE.parent / "analyze.py", "--tool", "gcc", "--build-dir", self.root],
                              capture_output=True, text=True, env={**os.environ, "ANALYZE_ROOT": str(self.root)})

    def test_counts(self):
        line = "gcc double-free src/p.c {} planted\n"
        done = self.analyze("", 1)
        if done.returncode == 77:
            self.skipTest("NOTICE: another gcc than Debian 12's")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for kept, frees, status in (("", 2, 1), (line.format(1), 2, 0), (line.format(2), 2, 1), (line.format(1), 1, 1)):
            done = self.analyze(kept, frees)
            self.assertEqual(done.returncode, status, (kept, frees, done.stdout))
            self.assertEqual("double-free" in done.stdout, status == 1)
        self.assertNotEqual(self.analyze("gcc double-free src/p.c 1\n", 2).returncode, 0, "without a reason")


if __name__ == "__main__":
    unittest.main()
