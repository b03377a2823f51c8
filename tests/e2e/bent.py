# SPDX-License-Identifier: Apache-2.0
"""A proxy whose kernel is not itself (tests/fake/kernel_faults.c): another wall clock, no randomness, time
that passes at once."""
import datetime
import struct
import unittest

import harness


class Proxy(harness.Proxy):
    def start(self, wait=True):
        if harness.SANITIZED:
            raise unittest.SkipTest("sanitizers want to be the first library")
        self.faults = self.env.path(self.name + ".faults")
        self.bend()
        library = harness.BUILD / "tests" / "kernel_faults.so"
        self.process = self.env.start(self.name, self.argv(), env={"LD_PRELOAD": str(library),
                                                                   "KERNEL_FAULTS": str(self.faults)})
        self.client = harness.Client(self.target, self.tls and self.tls.credentials())
        if wait:
            self.wait_ready()

    def bend(self, ahead=0, no_randomness=False, passed=0):
        """ahead: of the true time, in seconds; passed: what steady clocks, which only ever go on, show more than is true.
        From now on; what is not given is as it should be."""
        with open(self.faults, "r+b" if self.faults.exists() else "wb") as f:
            f.write(struct.pack("=qqq", ahead, no_randomness, passed))

    def clock(self):
        """How far ahead of the true time the last line of the log is, in seconds."""
        text = self.process.log().splitlines()[-1].split()[0]
        told = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (told - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
