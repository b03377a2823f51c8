# SPDX-License-Identifier: Apache-2.0
"""Processes of a run: started, looked at through /proc, and ended by the one who started them."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request


class Process:
    def __init__(self, name, command, folder, env=None, keeps_input=False):
        self.name = name
        self.command = command
        self.metrics_port = None
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(command, stdin=subprocess.PIPE if keeps_input else subprocess.DEVNULL,
                                          stdout=log, stderr=log, env=env, start_new_session=True)

    def pids(self):
        """Its own and those of its children."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = pathlib.Path("/proc", entry, "stat").read_text()
                except OSError:
                    continue
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
        found = {self.popen.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return sorted(found)
            found |= more

    def memory(self, field):
        """VmRSS or VmHWM of all its processes, KiB."""
        total = 0
        for pid in self.pids():
            try:
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(field + ":"):
                        total += int(line.split()[1])
            except OSError:
                pass
        return total

    def copied_forwarded(self):
        """(copied, forwarded) bytes since its start; None when it has no such counters."""
        if self.metrics_port is None:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = [re.search(rf"^etcd_envelope_bytes_{which}_total ([0-9.e+]+)$", text, re.M)
                 for which in ("copied", "forwarded")]
        return tuple(float(m.group(1)) for m in found) if all(found) else None

    def is_alive(self):
        return self.popen.poll() is None

    def forget_peak(self):
        for pid in self.pids():
            try:
                pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                pass

    def wait_port(self, port):
        for _ in range(200):
            if self.popen.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not come up: {self.last_words()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]

    def last_words(self):
        return (self.tail().strip().splitlines() or [""])[-1]

    def stop(self, patience=5):
        if self.popen.poll() is not None:
            return
        self.popen.terminate()
        try:
            self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            try:
                os.killpg(self.popen.pid, signal.SIGKILL)  # the session that we made for it
            except ProcessLookupError:
                pass
            self.popen.wait(5)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
