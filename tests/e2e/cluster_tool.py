# SPDX-License-Identifier: Apache-2.0
"""What the tests of the tools that work on a whole cluster share: running them, planting values, configurations."""
import base64
import json
import os
import subprocess
import time

import harness
from harness import envelope
from client import prefix_end
from protos import rpc

OK, ERROR, USAGE, NOT_AS_WANTED, UNREADABLE, UNREACHABLE = 0, 1, 2, 3, 4, 75
COUNT = 2_000 if harness.SANITIZED else 100_000 if harness.LONG else 20_000
PREFIX = b"/registry/secrets/"


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


class ClusterTool(harness.E2E):
    """One etcd and one plugin for the class, no proxy; each test begins with an empty etcd."""
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.binary = harness.program("etcd-envelope")
        cls.start_peers()

    def setUp(self):
        super().setUp()
        self.raw.delete(b"\0", b"\0")
        self.kms.key_id = "key-1"

    # --- beside a tool ---

    def keep_writing(self, client, prefix, objects, stop, last, rng):
        """An apiserver: creates, changes and deletes objects of its own through the proxy, and reads them back. last is
        what each has to be; self.problems what was not."""
        mark = 0
        while not stop.is_set():
            key, mark = prefix + b"%03d" % rng.randrange(objects), mark + 1
            if rng.random() < 0.1:
                client.delete(key)
                last[key] = None
                continue
            value = b"k8s\0%s %d" % (prefix, mark)
            client.put(key, value)
            last[key] = value
            if client.value(key) != value:
                self.problems.append(key)
            time.sleep(0.003)

    @staticmethod
    def peak_of(process):
        """MiB that a tool needed at most, once it has ended."""
        peak = 0
        while process.alive():
            try:
                peak = max(peak, process.peak_mib())
            except (KeyError, OSError):
                break
            time.sleep(0.005)
        return peak

    # --- configurations ---

    def kms_provider(self, name="test", path=None, timeout="1s"):
        return f"kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{path or self.kms.path}', timeout: {timeout}}}"

    def local(self, kind, *keys):
        """keys: (name, secret)"""
        return f"{kind}: {{keys: [{', '.join(f'{{name: {n}, secret: {s}}}' for n, s in keys)}]}}"

    def configure(self, *providers, name=None, resources="secrets"):
        path = self.env.path((name or self.name) + ".yaml")
        path.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                        f"  - resources: [{resources}]\n    providers:\n" + "".join(f"    - {p}\n" for p in providers))
        path.chmod(0o600)
        return path

    # --- what lies in etcd ---

    def plain(self, n, prefix=PREFIX + b"ns/", size=100):
        for i in range(n):
            self.raw.put(prefix + b"plain%05d" % i, b"k8s\0" + b"p" * size)

    def sealed(self, n, key_id="key-1", prefix=PREFIX + b"ns/", provider="test"):
        for i in range(n):
            key = prefix + b"%s-%05d" % (key_id.encode(), i)
            self.raw.put(key, envelope.seal(key, b"value-%d" % i, key_id=key_id, provider=provider))

    def fill(self, count, size=1024, prefix=PREFIX):
        """Many plaintext values quickly, spread over ten namespaces."""
        for first in range(0, count, 100):
            ops = []
            for i in range(first, min(first + 100, count)):
                key = prefix + b"ns%d/%07d" % (i % 10, i)
                ops.append(rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self.value_of(i, size))))
            self.raw.txn(success=ops)

    @staticmethod
    def value_of(i, size=1024):
        return (b"k8s\0value-%d-" % i).ljust(size, b"v")

    def everything(self, prefix=PREFIX):
        """{key: stored value} in pages."""
        found, key, end = {}, prefix, prefix_end(prefix)
        while True:
            answer = self.raw.get(key, end, limit=2000)
            found.update((kv.key, kv) for kv in answer.kvs)
            if not answer.more:
                return found
            key = answer.kvs[-1].key + b"\0"

    # --- the tools ---

    def argv(self, name, config, *flags, servers=None):
        given = [] if "--etcd-servers" in flags else ["--etcd-servers", servers or self.etcd.url]
        return [self.binary, name, "--encryption-provider-config", os.fspath(config), *given, *map(str, flags)]

    def tool(self, name, config, *flags, servers=None, status=OK, env=None, timeout=120):
        """(standard output, standard error)"""
        done = subprocess.run(self.argv(name, config, *flags, servers=servers), capture_output=True, timeout=timeout,
                              env={**os.environ, **(env or {})}, check=False)
        out, err = done.stdout.decode(), done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, out + err)
        return out, err

    def begin(self, name, config, *flags, servers=None):
        """The tool as a process that goes on by itself."""
        return self.env.start(name, self.argv(name, config, *flags, servers=servers))

    def verify(self, config, *flags, status=OK, **options):
        """The report as an object."""
        out, _ = self.tool("verify", config, "--output", "json", *flags, status=status, **options)
        return json.loads(out)

    def finish(self, process, timeout=120):
        """The exit status of a process of begin()."""
        return process.popen.wait(timeout)
