#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What /metrics says after some of everything has happened passes `promtool check metrics` (Debian: prometheus).
Exit status 77, which CTest takes for skipped, when there is no promtool: ENVELOPE_PROMTOOL names it, else PATH."""
import os
import shutil
import subprocess
import sys
import time

import harness
from harness import Code, envelope, http_get

PROMTOOL = os.environ.get("ENVELOPE_PROMTOOL") or shutil.which("promtool")


class Promtool(harness.E2E):
    needs_proxy = True
    identity = True

    def check(self, text):
        return subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)

    def test_exposition(self):
        for i in range(3):
            self.client.put(self.secret(str(i)), b"x" * 100)
        cold = self.secret("cold")
        self.raw.put(cold, envelope.seal(cold, b"cold"))
        self.raw.put(self.secret("clear"), b"clear")
        self.client.list(self.secret(""))
        self.raw.put(self.secret("bad"), b"k8s:enc:kms:v2:test:bad")
        self.assertStatus(Code.DATA_LOSS, self.client.get, self.secret("bad"))
        http_get(self.proxy.metrics_address, "/readyz")
        time.sleep(0.5)
        status, text = http_get(self.proxy.metrics_address, "/metrics")
        self.assertEqual(status, 200)
        said = self.check(text)
        self.assertEqual((said.returncode, said.stdout, said.stderr), (0, b"", b""))
        self.assertNotEqual(self.check(text + b"nonsense\n").returncode, 0, "promtool finds mistakes")


if __name__ == "__main__":
    if not PROMTOOL:
        print("no promtool", file=sys.stderr)
        sys.exit(77)
    harness.main()
