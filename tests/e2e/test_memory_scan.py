#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is left in the memory of a process that has nothing to do: no value that went through it, no key that was
dropped; and a key that it has lies in memory alone that is locked and in no core file. The whole memory is read, as root can."""
import base64
import os
import re
import signal
import subprocess
import unittest

import harness
from harness import http_get, wait_until
import envelope
import fake_kms
from client import prefix_end


def regions(pid):
    """(start, end, is_guarded) of what the process may write to. Guarded: locked, in no core file, and a fork has none."""
    found, place = [], None
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (....)", line)
            if m:
                place = (int(m[1], 16), int(m[2], 16)) if m[3].startswith("rw") else None
            elif line.startswith("VmFlags:") and place:
                found.append((*place, {"lo", "dd", "wf"} <= set(line.split())))
    return found


def find(pid, needles):
    """[(needle's name, is_guarded)] of each place in the memory that holds one."""
    hits = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, is_guarded in regions(pid):
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except OSError:
                continue  # such as [vvar]
            hits += [(name, is_guarded) for name, needle in needles.items() for _ in re.finditer(re.escape(needle), data)]
    return hits


@unittest.skipUnless(os.geteuid() == 0, "NOTICE: only root may read the memory of a process that is not dumpable")
@unittest.skipIf(harness.SANITIZED, "a sanitizer keeps freed memory as it was")
class Idle(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client
        cls.kms, cls.seeds = cls.plugin("kms")
        cls.second, cls.second_seeds = cls.plugin("second")

    @classmethod
    def plugin(cls, name):
        """One that remembers which seeds it wrapped."""
        kms, seeds = cls.env.kms(name), []

        def wrapping(seed):
            seeds.append(seed)
            return fake_kms.wrap(kms.key_id, seed)
        kms.wrapping = wrapping
        return kms, seeds

    def put_through(self, proxy, marker):
        """Values small and large, in and out by every way."""
        prefix, keys = self.secret(""), [self.secret(f"{i}") for i in range(8)]
        watches = [self.env.client(proxy.target).watch(prefix, prefix_end(prefix)) for _ in range(2)]
        values = [marker * n for n in (1, 3, 40, 1000, 20000)]
        for key, value in zip(keys, values * 2):
            proxy.client.put(key, value)
            self.assertEqual(proxy.client.value(key), value)
        self.assertEqual(len(proxy.client.list(self.secret("")).kvs), len(keys))
        for watch in watches:
            watch.events(len(keys))
            watch.cancel()

    def derived(self, key, seed):
        """The key that a stored value was sealed with."""
        data = envelope.parse(self.raw.value(key)).encrypted_data
        return envelope.derive(seed, data[:32])

    def reload(self, proxy, config):
        os.replace(config, proxy.config)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: f'endpoint: "unix://{self.second.path}"' in http_get(
            proxy.metrics_address, "/configz")[1].decode(), 20, f"a reload; {proxy.process.log_path}")

    def skip_unless_readable(self, pid):
        try:
            find(pid, {"any": b"x" * 64})
        except PermissionError:
            self.skipTest("NOTICE: this root has no CAP_SYS_PTRACE")

    def assert_gone(self, pid, needles, what):
        wait_until(lambda: not find(pid, needles), 30, f"memory without {what}", step=0.3)

    def test_values_and_dropped_keys(self):
        proxy = self.env.proxy(self.etcd, self.env.config(self.kms.path), flags=["--allow-drop-keys"])
        self.addCleanup(proxy.stop)
        self.skip_unless_readable(proxy.process.pid)
        pid, marker = proxy.process.pid, os.urandom(24)
        self.put_through(proxy, marker)
        self.assertEqual(len(self.seeds), 1)
        seed = self.seeds[0]
        # A key that is in use is found, so the search sees what there is; and it is in guarded memory only.
        held = find(pid, {"seed": seed})
        self.assertNotEqual(held, [])
        self.assertEqual({is_guarded for _, is_guarded in held}, {True})
        self.assert_gone(pid, {"value": marker}, "values")
        keys = {"seed": seed, "derived": self.derived(self.secret("0"), seed)}
        self.reload(proxy, self.env.config(self.second.path, name="second.yaml"))
        proxy.client.put(self.secret("after"), b"by the second plugin")
        self.assert_gone(pid, keys, "dropped keys")
        self.assertEqual({guarded for _, guarded in find(pid, {"seed": self.second_seeds[0]})}, {True})

    def test_local_kms(self):
        """The key that wraps all others, and one that was taken off the file."""
        program = harness.program("etcd-envelope-local-kms")
        path, other = self.env.path("kek"), self.env.path("other")
        for file in (path, other):
            subprocess.run([program, "--generate-key", str(file)], check=True)
        socket = self.env.path("local.sock")
        kms = self.env.start("local-kms", [program, "--listen", f"unix://{socket}", "--key-file", path])
        wait_until(lambda: "serving" in kms.log(), 20, "a plugin")
        self.skip_unless_readable(kms.pid)
        proxy = self.env.proxy(self.etcd, self.env.config(socket, name="local.yaml"), name="local")
        self.addCleanup(proxy.stop)
        proxy.client.put(self.secret(), b"by the local plugin")
        text = path.read_text().splitlines()[-1]
        first = {"key": base64.b64decode(text), "text": text.encode()}
        self.assertEqual({guarded for _, guarded in find(kms.pid, {"key": first["key"]})}, {True})
        self.assert_gone(kms.pid, {"text": first["text"]}, "the key's text")
        os.replace(other, path)
        kms.signal(signal.SIGHUP)
        wait_until(lambda: "key file reloaded" in kms.log(), 20, "a reload")
        self.assert_gone(kms.pid, first, "the key that was dropped")


if __name__ == "__main__":
    harness.main()
