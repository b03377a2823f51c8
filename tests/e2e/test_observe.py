#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard: promtool takes the rules and their tests, each alert is tested in both directions and leads to a section
of the runbooks that exists, and every metric and label that a query names is in the exposition of a proxy that runs."""
import json
import os
import re
import shutil
import subprocess
import unittest

import harness  # first: it sets the path to tests/fake
from harness import Code, http_get, wait_until

PROMTOOL = os.environ.get("ENVELOPE_PROMTOOL") or shutil.which("promtool")
CONF = harness.ROOT / "conf"
RULES = (CONF / "prometheus" / "alerts.yaml").read_text()
TESTS = (CONF / "prometheus" / "alerts_test.yaml").read_text()
METRIC = re.compile(r"\b((?:etcd_envelope|apiserver|process)_\w+)(?:\{([^}]*)\})?")
OUTER = {"job", "instance", "le"}  # labels that Prometheus gives, and a bucket's


def anchors(text):
    """The sections of a Markdown file, as links name them."""
    return {re.sub(r"[^\w -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in text.splitlines() if line.startswith("#")}


class Alerts(unittest.TestCase):
    @unittest.skipUnless(PROMTOOL, "NOTICE: no promtool")
    def test_promtool(self):
        for argv in (["check", "rules", CONF / "prometheus" / "alerts.yaml"],
                     ["test", "rules", CONF / "prometheus" / "alerts_test.yaml"]):
            done = subprocess.run([PROMTOOL, *map(str, argv)], capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_is_tested_in_both_directions(self):
        names = re.findall(r"- alert: (\w+)", RULES)
        self.assertGreater(len(names), 10)
        tested = re.findall(r"- alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:( \[\])?", TESTS)
        for name in names:
            self.assertIn((name, ""), tested, f"{name} never fires in a test")
            self.assertIn((name, " []"), tested, f"{name} never stays away in a test")

    def test_each_leads_to_a_runbook(self):
        sections = anchors((CONF / "runbooks.md").read_text())
        alerts = RULES.split("- alert: ")[1:]
        for alert in alerts:
            link = re.search(r'runbook: "runbooks.md#([\w-]+)"', alert)
            self.assertIsNotNone(link, alert.split("\n")[0])
            self.assertIn(link[1], sections, alert.split("\n")[0])

    def test_reasons_exist(self):
        """The reasons that an alert picks are those of base/err.h; values that do not open are all picked."""
        table = re.findall(r'X\(\w+, "(\w+)", FAULT_\w+, GRPC_\w+,[\s\\]+(SCOPE_\w+)',
                           (harness.ROOT / "src" / "base" / "err.h").read_text())
        reasons = {reason for reason, _ in table}
        for picked in re.findall(r'reason=~"([^"]*)"', RULES):
            for word in picked.split("|"):
                self.assertTrue(any(re.fullmatch(word, r) for r in reasons), word)
        # Each reason has an alert, or a line that says why it has none.
        alerted = [r for p in re.findall(r'refused_total\{reason=~"([^"]*)"', RULES) for r in p.split("|")]
        silent = " ".join(re.findall(r"#   not-alerted,[^:]*: ((?:[\w ]|\n#     )+)", RULES)).replace("#", " ").split()
        self.assertEqual(sorted(alerted + silent), sorted(reasons - {"ok"}))
        unreadable = re.search(r'reason=~"([^"]*)"', RULES[RULES.index("EtcdEnvelopeUnreadableValue"):])[1]
        self.assertEqual(set(unreadable.split("|")), {r for r, scope in table if scope == "SCOPE_VALUE"})


class Exposition(harness.E2E):
    needs_proxy = True
    identity = True
    proxy_flags = ("--converge=1",)

    def test_queries_name_what_there_is(self):
        self.client.put(self.secret(), b"x" * 100)
        cold = self.secret("cold")
        self.raw.put(cold, harness.envelope.seal(cold, b"cold"))
        self.raw.put(self.secret("clear"), b"clear")
        self.client.list(self.secret(""))
        self.raw.put(self.secret("bad"), b"k8s:enc:kms:v2:test:bad")
        self.assertStatus(Code.DATA_LOSS, self.client.get, self.secret("bad"))
        http_get(self.proxy.metrics_address, "/readyz")
        labels = {}

        def gather():
            """Workers hand in what they counted now and then."""
            for line in http_get(self.proxy.metrics_address, "/metrics")[1].decode().splitlines():
                m = re.match(r"^(\w+)(?:\{(.*)\})? \S+$", line)
                if m:
                    labels.setdefault(m[1], set()).update(re.findall(r'(\w+)="', m[2] or ""))
            return "etcd_envelope_added_latency_seconds_bucket" in labels and \
                {"apiserver_envelope_encryption_key_id_hash_total", "etcd_envelope_stored_values"} <= set(labels)
        wait_until(gather, 20, "metrics")
        # Without TLS there is no certificate, and no such series.
        labels.setdefault("etcd_envelope_certificate_expiry_timestamp_seconds", {"certificate"})
        # This one has --converge, which looks at stored values instead.
        labels.setdefault("etcd_envelope_stored_values_unopened", {"resource", "reason"})
        dashboard = json.loads((CONF / "grafana" / "etcd-envelope.json").read_text())
        queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
        queries += [v["query"] for v in dashboard["templating"]["list"]]
        queries += re.findall(r"expr: (?:>-\n\s+)?(.*)", RULES)
        self.assertGreater(len(queries), 30)
        seen = set()
        for query in queries:
            found = METRIC.findall(query)
            seen |= {name for name, _ in found}
            by = {w for part in re.findall(r"\bby \(([^)]*)\)", query) for w in re.split(r",\s*", part)}
            for name, selector in found:
                self.assertIn(name, labels, query)
                named = by | set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", selector))
                self.assertEqual(named - labels[name] - OUTER, set(), query)
        self.assertGreater(len(seen), 20)

    def test_panels(self):
        """Each has a title of its own and a place of its own."""
        panels = json.loads((CONF / "grafana" / "etcd-envelope.json").read_text())["panels"]
        self.assertEqual(len({p["title"] for p in panels}), len(panels))
        self.assertEqual(len({p["id"] for p in panels}), len(panels))
        cells = [(x, y) for p in panels for g in (p["gridPos"],)
                 for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]
        self.assertEqual(len(set(cells)), len(cells), "panels lie on one another")


if __name__ == "__main__":
    harness.main()
