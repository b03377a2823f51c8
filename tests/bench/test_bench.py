#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The bench without a measurement: are ratios, goals and failures in the report what the samples say?"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench"))
import growth  # noqa: E402
import instructions  # noqa: E402
import peers  # noqa: E402
import providers  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import side  # noqa: E402

HEADER = {"when": "now", "cpu": "x", "cpus": 2, "kernel": "6", "load_average": 0.5, "rounds": 3, "measure_ms": 1,
          "seconds": 1, "stages": {"clear": 1.0}, "command": "bench/run.sh", "versions": {"etcd": "3.5"},
          "commands": {}}


def sample(group, load, proxy, number, cpu, per_s=1000.0, **more):
    return dict(group=group, load=load, proxy=proxy, round=number, cpu_us_proxy=cpu, cpu_us_upstream=100.0,
                per_s=per_s, us={"p50": 10, "p99": 20, "p999": 30}, **more)


def results(samples=(), **more):
    return dict({"header": HEADER, "samples": list(samples), "syscalls": {}, "memory": {}, "micro": [], "instructions": {}, "stored": {},
                 "growth": {},
                 "failed": []},
                **more)


def goal(found, what):
    return next(g for g in found if g[0].startswith(what))


class Ratios(unittest.TestCase):
    def test_inside_a_round(self):
        """A slow round makes both slow; the median of ratios does not see it."""
        samples = []
        for number, slow in enumerate((1, 10, 1)):
            samples += [sample("clear", "put 4x32", report.OURS, number, 5.0 * slow),
                        sample("clear", "put 4x32", "nghttpx", number, 10.0 * slow)]
        self.assertEqual(report.Samples(samples).cpu_ratio("clear", "put 4x32", "nghttpx"), 0.5)

    def test_a_round_without_the_other_does_not_count(self):
        s = report.Samples([sample("clear", "put 4x32", report.OURS, 0, 5.0)])
        self.assertIsNone(s.cpu_ratio("clear", "put 4x32", "nghttpx"))

    def test_workers_by_the_better_of_two(self):
        s = report.Samples([sample("workers", "put 4x32", report.OURS, 0, 11.0, per_s=1100),
                            sample("workers", "put 4x32", report.ONE_WORKER, 0, 10.0, per_s=1000)])
        rate, cpu = s.two_of_one("put 4x32")
        self.assertAlmostEqual(rate, 1.1)
        self.assertAlmostEqual(cpu, 20 / 11)


class Goals(unittest.TestCase):
    def test_all_are_there_when_nothing_was_measured(self):
        found = report.goals(report.Samples([]), results())
        self.assertEqual(len(found), 43)
        self.assertTrue(all(value is None and met is None for _, value, _, met, _ in found))

    def test_lists_by_openssl(self):
        """What a list may cost depends on how fast the machine's OpenSSL is."""
        for version, bound in (("OpenSSL 3.0.19 27 Jan 2026", 2.2), ("OpenSSL 3.5.9 7 Apr 2026", 1.7), ("", 2.2)):
            r = results(header=dict(HEADER, versions={"openssl": version}))
            found = goal(report.goals(report.Samples([]), r), "CPU of list 500x1K, clear, of nghttpx")
            self.assertEqual(found[2], bound, version)

    def test_own_instructions(self):
        r = results(instructions={"put 4x32": {"own": 14001}, "KeyValue of list 500x1K": {"own": 1200}})
        found = report.goals(report.Samples([]), r)
        self.assertEqual(goal(found, "instructions of our own code, put 4x32")[3], False)
        self.assertEqual(goal(found, "instructions of our own code, KeyValue")[3], True)

    def test_copied(self):
        samples = [sample("clear", "list 500x1K", report.OURS, n, 1.0, copied=10.0 + n, forwarded=1000.0)
                   for n in range(3)]
        _, value, _, met, _ = goal(report.goals(report.Samples(samples), results(samples)), "copied of forwarded")
        self.assertAlmostEqual(value, 0.011)
        self.assertTrue(met)

    def test_crypto_takes_the_worse(self):
        micro = [{"module": "envelope", "case": c, "bytes": 1024, "ns_median": 1.0, "mb_per_s": 1.0, "of_second": r}
                 for c, r in (("seal", 1.2), ("open", 1.0))]
        r = results(micro=micro)
        found = goal(report.goals(report.Samples([]), r), "crypto CPU of an object of 1 KiB")
        self.assertEqual((found[1], found[3]), (1.2, False))

    def test_watch_is_a_real_etcd(self):
        samples = [sample(g, "watch 20", p, 0, c) for g, p, c in (
            ("clear", report.OURS, 9.0), ("clear", "nghttpx", 1.0),
            ("etcd", report.OURS, 1.0), ("etcd", "nghttpx", 2.0))]
        found = report.goals(report.Samples(samples), results(samples))
        self.assertEqual(goal(found, "real etcd, 20 watchers")[1], 0.5)


class Failures(unittest.TestCase):
    def test_rows(self):
        samples = [sample("clear", load, report.OURS, 0, 1.0) for load in ("put 4x32", "txn 1x16")]
        samples += [sample("clear", "put 4x32", "nghttpx", 0, 1.0)]
        failed = [{"group": "clear", "proxy": "nginx", "load": "", "reason": "no such | file"},
                  {"group": "clear", "proxy": "nghttpx", "load": "txn 1x16", "reason": "a stream was ended"}]
        text = report.text(results(samples, failed=failed))
        self.assertIn("| nginx | failed: no such / file |", text)
        self.assertIn("| nghttpx | 1.00 (1.00) | failed |", text)
        self.assertIn("| clear | nghttpx | txn 1x16 | a stream was ended |", text)

    def bench(self, folder, **options):
        bench = run.Bench.__new__(run.Bench)
        bench.folder = pathlib.Path(folder)
        bench.files = peers.Files(*[pathlib.Path(folder)] * 7, env={})
        bench.options = types.SimpleNamespace(**options)
        bench.running, bench.failed, bench.commands, bench.stages, bench.memory = [], [], {}, {}, {}
        return bench

    def test_a_proxy_that_does_not_start(self):
        proxies = [peers.Proxy("absent", lambda s: [None]), peers.Proxy("ends", lambda s: ["/bin/false"]),
                   peers.Proxy("says", lambda s: ["/bin/sh", "-c", "echo first; echo no such cipher >&2; exit 1"]),
                   peers.Proxy("odd", lambda s: ["/"])]
        with tempfile.TemporaryDirectory() as folder:
            bench = self.bench(folder)
            self.assertEqual(bench.start_group(False, (1, 1), "clear", proxies), [])
        self.assertEqual([f["proxy"] for f in bench.failed], ["absent", "ends", "says", "odd"])
        self.assertIn("no such cipher", bench.failed[2]["reason"])
        self.assertNotIn("first", bench.failed[2]["reason"])
        self.assertEqual(bench.running, [])

    def measure(self, sample, is_alive=True):
        """Three rounds of two loads through one proxy with this instead of a measurement: the calls made."""
        bench = self.bench("/nonexistent", rounds=3)
        bench.samples, bench.stub, calls = [], None, []
        bench.say = lambda what: None
        process = types.SimpleNamespace(proxy=peers.Proxy("some", None), port=1, is_alive=lambda: is_alive,
                                        last_words=lambda: "killed")

        def instead(process, target, load, *_):
            if process is None:
                return {}
            calls.append(load.name)
            return sample(len(calls))

        bench.sample = instead
        bench.measure([process], "clear", [run.Load("a", "range"), run.Load("b", "range")], 1)
        return calls, bench

    def test_a_load_that_fails_twice_is_given_up(self):
        def sample(number):
            if number <= 2:
                raise RuntimeError("the answer is not what etcd said")
            return {}

        calls, bench = self.measure(sample)
        self.assertEqual(calls, ["a", "a", "b", "b", "b"])
        self.assertEqual([f["load"] for f in bench.failed], ["a", "a"])
        self.assertEqual(len([s for s in bench.samples if s["proxy"] == "some"]), 3)

    def test_a_load_that_fails_once_goes_on(self):
        def sample(number):
            if number == 2:
                raise RuntimeError("nothing was answered")
            return {}

        calls, _ = self.measure(sample)
        self.assertEqual(len(calls), 6)

    def test_a_proxy_that_ended_has_no_more_loads(self):
        def sample(number):
            raise RuntimeError("a connection was lost")

        calls, bench = self.measure(sample, is_alive=False)
        self.assertEqual(calls, ["a"])
        self.assertEqual((bench.failed[0]["load"], "killed" in bench.failed[0]["reason"]), ("", True))

    def test_a_proxy_that_hangs_has_no_more_loads(self):
        def sample(number):
            raise subprocess.TimeoutExpired("load", 20)

        calls, bench = self.measure(sample)
        self.assertEqual((calls, len(bench.failed)), (["a"], 1))

    def test_a_stage_that_fails_does_not_end_the_run(self):
        bench = self.bench("/nonexistent")
        with bench.stage("real"):
            raise RuntimeError("no etcd")
        self.assertEqual(bench.failed[0]["reason"], "no etcd")
        self.assertIn("real", bench.stages)


PROFILE = """# callgrind format
events: Ir

ob=(1) /x/build/release/etcd-envelope
fl=(1) a.c
fn=(1) main
10 100
+1 7
cob=(2) /usr/lib/libnghttp2.so.14
cfn=(2) nghttp2_session_mem_recv
calls=3 20
* 50000
-2 1
ob=(2)
fn=(2)
20 400
cob=(1)
cfn=(1)
calls=1 10
* 108
ob=(3) /usr/lib/libcrypto.so.3
fn=(3) sha
1 3000
ob=(4) /usr/lib/libc.so.6
fn=(4) memcpy
1 20
ob=(5) /usr/lib/libuv.so.1
fn=(5) uv_run
1 5
"""


class Instructions(unittest.TestCase):
    def test_by_object(self):
        """What a function spent itself counts, what it called does not: that stands with the other's object."""
        self.assertEqual(instructions.by_object(PROFILE),
                         {"own": 108, "nghttp2": 400, "crypto": 3000, "libc": 20, "other": 5})

    def test_the_short_run_is_taken_off(self):
        short, long = {"own": 1000, "libc": 50}, {"own": 3000, "libc": 50, "crypto": 400}
        self.assertEqual(instructions.per_unit(short, long, 100), {"own": 20, "libc": 0, "crypto": 4, "all": 24})

    def verdicts(self, own, kept=1000):
        kept = instructions.read_kept(f"# a comment\nhere | range | {kept} | why | and more\n")["here"]
        counted = {} if own is None else {"range": {"own": own}}
        return [v for *_, v in instructions.compare(counted, kept)], instructions.check(counted, kept)

    def test_more_fails_and_less_does_not(self):
        for own, verdict, fails in ((1030, "same", 0), (1031, "more", 1), (990, "same", 0), (900, "less", 0),
                                    (None, "not counted", 1)):
            found, wrong = self.verdicts(own)
            self.assertEqual(([verdict], fails), (found, len(wrong)), own)

    def test_an_unknown_system_does_not_fail(self):
        self.assertEqual(instructions.check({"range": {"own": 5}}, {}), [])
        self.assertIn("nothing is kept for there", instructions.text({"range": {"own": 5}}, "there", {}))

    def test_keeping(self):
        """Figures of other systems stay, and so does the reason of a figure that has not changed."""
        text = "# head\nhere | a | 1000 | old\nhere | b | 1000 | old\nthere | a | 7 | other\n"
        after = instructions.read_kept(instructions.write_kept(
            {"a": {"own": 1010}, "b": {"own": 2000}, "c": {"own": 5}}, "here", "new", text))
        self.assertEqual(after, {"here": {"a": (1000, "old"), "b": (2000, "new"), "c": (5, "new")},
                                 "there": {"a": (7, "other")}})

    def test_the_kept_file(self):
        kept = instructions.read_kept(instructions.KEPT.read_text())
        names = {c.name for c in instructions.CASES} | {instructions.PER_KV[0]}
        for where, cases in kept.items():
            self.assertEqual(set(cases), names, where)
            self.assertTrue(all(own > 0 and why for own, why in cases.values()), where)


class Providers(unittest.TestCase):
    def results(self):
        samples = []
        for kind, _ in providers.KINDS:
            load = providers.load_name(kind, 1, 64)
            for name, cpu, rate in (("direct", 0, 1000.0), ("identity", 20.0, 900.0), ("kms v2", 25.0, 800.0)):
                samples.append(sample(providers.GROUP, load, name, 0, cpu, rate))
        return results(samples, stored={"1024": {"direct": 1024, "kms v2": 1185}})

    def test_sentences_and_tables(self):
        r = self.results()
        said = providers.sentences(report.Samples(r["samples"]), r)
        for part in ("writes of 1 KiB through the proxy reach 80 %", "161 bytes more", "25 us of CPU on a write",
                     "encryption is 5.0 and 5.0"):
            self.assertIn(part, said)
        text = report.text(r)
        self.assertIn("| kms v2 | 800/s (0.80), 10 / 20 us, CPU 25 + 100 |", text)
        self.assertIn("| kms v2 | 1,185 |", text)

    def test_nothing_measured_says_nothing(self):
        self.assertEqual(providers.sentences(report.Samples([]), results()), "")

    def test_each_load_has_a_name_of_its_own(self):
        names = [load.name for load in providers.loads(False)]
        self.assertEqual((len(names), len(set(names))), (24, 24))
        self.assertEqual(providers.loads(False)[0].arguments()[-2:], ["--value", "1024"])

    def test_stored_bytes(self):
        self.assertEqual(providers.stored_bytes({"kvs": [{"value": "YWJj"}]}), 3)
        self.assertIsNone(providers.stored_bytes({}))


class Pictures(unittest.TestCase):
    """What a short or noisy run measures has a picture: an added latency below 0, CPU of 0, nothing at all."""

    def drawn(self, write):
        if shutil.which("gnuplot") is None:
            self.skipTest("no gnuplot")
        with tempfile.TemporaryDirectory() as out:
            write(pathlib.Path(out))
            return sorted(p.stem for p in pathlib.Path(out).glob("*.svg"))

    def plot(self, values, log=False):
        loads = [str(i) for i in range(len(values))]
        return self.drawn(lambda out: report.plot(out, "x", "title", "label", loads, [report.OURS],
                                                  lambda load, _: values[int(load)], log))

    def test_values_of_every_sign(self):
        for values in ([-3.0], [0.0], [-3.0, 5.0], [None, 5.0], [1e-9], [-1e9, 0.0]):
            self.assertEqual(self.plot(values), ["x"], values)
        for values in ([0.5], [0.0, 20.0], [-1.0, 20.0], [1e6], [1e-9], [None, 3.0]):
            self.assertEqual(self.plot(values, log=True), ["x"], values)

    def test_nothing_to_draw(self):
        for values in ([], [None], [None, None]):
            self.assertEqual(self.plot(values), [])
        for values in ([0.0], [-1.0, None]):
            self.assertEqual(self.plot(values, log=True), [])

    def test_a_whole_report(self):
        """Every picture of it, with samples as they were when the bench fell over one: all latencies below direct's."""
        samples = []
        for group in ("clear", "tls", "etcd"):
            for load in ("put 4x32", "put 1x1", "quiet get", "list 500x1K"):
                samples += [sample(group, load, name, 0, 0.0) for name in ("direct", report.OURS)]
        for one in samples:
            one["us"] = {"p50": 10 if one["proxy"] == report.OURS else 12, "p99": 1, "p999": 1}
        drawn = self.drawn(lambda out: report.write(results(samples), out))
        self.assertIn("headline", drawn)
        self.assertEqual([n for n in drawn if n.startswith("latency")], ["latency-clear", "latency-etcd", "latency-tls"])


class Growth(unittest.TestCase):
    def test_table(self):
        samples = [sample(growth.GROUP, "100 x 2", p, 0, c) for p, c in ((report.OURS, 8.0), ("nghttpx", 10.0))]
        r = results(samples, growth={"100 x 2": {report.OURS: 2048, "nghttpx": 4096}})
        self.assertIn("| 100 x 2 | 8.0 | 2.0 | 10.0 | 4.0 | 0.80 |", report.text(r))
        found = report.goals(report.Samples(samples), r)
        self.assertEqual(goal(found, "CPU of 100 x 2")[1:4], (0.8, 1.0, True))


class Syscalls(unittest.TestCase):
    def test_setup_is_taken_off(self):
        runs = iter([({"read": 130, "openat": 9}, 100), ({"read": 2030, "openat": 9}, 1050)])
        before = side.strace
        side.strace = lambda *_: next(runs)
        try:
            found = side.per_request(None, None, None)
        finally:
            side.strace = before
        self.assertEqual(found, {"total": 2.0, "calls": {"read": 2.0}})


if __name__ == "__main__":
    unittest.main(verbosity=2)
