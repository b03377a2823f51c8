#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The file system of the configuration hangs. The process that opens files hangs with it, and nothing else: clients are
served, new ones too, plugins are polled, the end comes in time; and when it goes on, so do reloads."""
import contextlib
import json
import os
import signal
import unittest

import harness  # first: it sets the path to tests/fake
import hanging
from harness import http_get, wait_until

WHY = "the process that opens files does not answer: does a file system hang?"


@unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root can mount a file system")
class HungFiles(harness.OwnProxies):
    def begin(self):
        """A proxy whose configuration is there, and another of its files in a folder that does not hang, so that it can be
        made to look."""
        try:
            self.files = hanging.HangingFile(self.env.path(f"{self.name}-mount"), self.config.read_bytes())
        except OSError as error:
            self.skipTest(f"NOTICE: no file system of one's own can be had: {error}")
        self.addCleanup(self.files.stop)
        self.other = self.env.path(f"{self.name}-other")
        self.other.write_text("one")
        config = os.path.join(self.files.folder, hanging.NAME.decode())
        proxy = self.start_proxy(config=config, flags=["--etcd-cafile", self.other, "--shutdown-timeout", "4s"])
        self.addCleanup(self.files.stop)  # before the proxy's, which cannot be killed while it hangs
        return proxy

    def hang(self):
        self.files.hang()
        self.other.write_text(self.other.read_text() + " and another")
        wait_until(lambda: self.files.held, 20, "somebody who looks at the file")

    def problems(self, proxy):
        return {p["title"]: p["reason"] for p in json.loads(http_get(proxy.metrics_address, "/statusz", 30)[1])["problems"]}

    def assert_serves(self, proxy):
        """A new connection."""
        with contextlib.closing(harness.Client(proxy.target)) as client:
            client.put(self.secret(), b"a value")
            self.assertEqual(client.value(self.secret()), b"a value")

    def test_hangs_and_goes_on(self):
        proxy = self.begin()
        self.hang()
        wait_until(lambda: self.problems(proxy).get("Files cannot be read") == WHY, 60, "a word of it")
        for _ in range(3):
            self.assert_serves(proxy)
            proxy.process.signal(signal.SIGHUP)
            wait_until(lambda: WHY in proxy.process.log(), 30, "a reload that failed")
        self.files.content += b"# changed\n"
        self.files.go_on()
        wait_until(lambda: "Files cannot be read" not in self.problems(proxy), 30, "files that can be read")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in proxy.process.log(), 30, "a reload")
        self.assert_serves(proxy)
        self.assertEqual(proxy.process.term(30), 0)

    def test_end(self):
        """It does not wait for files."""
        proxy = self.begin()
        self.hang()
        self.assertEqual(proxy.process.term(30), 0)


if __name__ == "__main__":
    harness.main()
