#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""On to the proxy and off it, without rewriting anything: values that Kubernetes' own code has sealed (tests/golden) are read
through the proxy and stay as they are; what the proxy writes under the same configuration is read by another implementation of
the format, as kube-apiserver would."""
import base64
import collections
import json
import re
import subprocess

import harness  # first: it sets the path to tests/fake
import envelope
from client import prefix_end
from test_local_keys import Key

GOLDEN = harness.ROOT / "tests" / "golden"
PROTECTED = (b"/registry/secrets/", b"/registry/configmaps/")


def load(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def plaintext(vector):
    rule = vector["plaintext"]
    return bytes((i * rule["mul"] + rule["add"]) & 255 for i in range(rule["len"]))


def values(golden):
    """(etcd key, plaintext, stored value, detail) of what the genuine code sealed and opens again."""
    for v in golden["vectors"]:
        key = bytes.fromhex(v["etcd_key_hex"])
        if v["op"] == "encrypt" and v["expect"].get("ok") and "hex" in v["stored"] and key.startswith(PROTECTED):
            yield key, plaintext(v), bytes.fromhex(v["stored"]["hex"]), v["detail"]


class Moving(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client

    def start_proxy(self, config, flags=()):
        proxy = self.env.proxy(self.etcd, config, name=self.name, flags=flags)
        self.addCleanup(proxy.stop)
        return proxy

    def move(self, proxy, found, reader):
        """On: read what is there. Off: what is there was not touched, and what was written since is read by `reader`."""
        self.assertGreater(len(found), 2)
        for key, plain, stored, _ in found:
            self.raw.put(key, stored)
            self.assertEqual(proxy.client.value(key), plain)
            self.assertEqual(self.raw.value(key), stored, "reading changes nothing")
            proxy.client.put(key, plain)
            written = self.raw.value(key)
            self.assertNotEqual(written, stored)
            self.assertEqual(reader(key, written), plain)

    def still_encrypts(self, proxy, found, reader, is_kept=True):
        """An apiserver that encrypts by itself, with identity as a reader, behind the proxy: what it has sealed is stored as it
        is, comes back opened, in answers, lists and watches, and opens for an apiserver that talks to etcd itself."""
        self.raw.delete(b"\0", b"\0")
        sealed = {key: (plain, stored) for key, plain, stored, _ in found}
        watches = [proxy.client.watch(prefix, prefix_end(prefix)) for prefix in PROTECTED]
        for key, (plain, stored) in sealed.items():
            proxy.client.put(key, stored)
            if is_kept:
                self.assertEqual(self.raw.value(key), stored, "sealed once, not twice")
            self.assertEqual(reader(key, self.raw.value(key)), plain)
            self.assertEqual(proxy.client.value(key), plain)
        for prefix, watch in zip(PROTECTED, watches):
            mine = {key: plain for key, (plain, _) in sealed.items() if key.startswith(prefix)}
            self.assertEqual({kv.key: kv.value for kv in proxy.client.list(prefix).kvs}, mine)
            self.assertEqual({e.kv.key: e.kv.value for e in watch.events(len(mine))} if mine else {}, mine)
            watch.cancel()

    def local(self, kind):
        golden = load(kind)
        config = self.env.path(f"{kind}.yaml")
        config.write_text(golden["encryption_configuration"])
        config.chmod(0o600)
        key = Key(kind, "key1")
        key.secret = base64.b64decode(re.search(r'name: "key1"\s+secret: (\S+)', golden["encryption_configuration"])[1])
        proxy = self.start_proxy(config)
        self.move(proxy, list(values(golden)), key.open)
        # aescbc authenticates nothing, so the proxy opens such a value and seals it anew.
        self.still_encrypts(proxy, list(values(golden)), key.open, is_kept=kind != "aescbc")

    def test_secretbox(self):
        self.local("secretbox")

    def test_aesgcm(self):
        self.local("aesgcm")

    def test_aescbc(self):
        self.local("aescbc")

    def test_kms_v2(self):
        """Every provider of the vectors, with its key id and annotations, however odd."""
        by_provider = collections.defaultdict(list)
        for value in values(load("kmsv2-seed")):
            by_provider[value[3]["provider"]].append(value)
        self.assertGreater(len(by_provider), 4)
        for i, (provider, found) in enumerate(sorted(by_provider.items())):
            detail = found[0][3]
            kms = self.env.kms(f"golden{i}", key_id=detail["key_id"])
            config = self.env.path(f"golden{i}.yaml")
            text = re.sub(r"unix://[^\s\"']+", f"unix://{kms.path}", detail["encryption_configuration"])
            config.write_text(text.replace("[secrets]", "[secrets, configmaps]"))
            config.chmod(0o600)
            proxy = self.start_proxy(config)
            reader = lambda key, stored, p=provider: envelope.unseal(key, stored, p)  # noqa: E731
            self.move(proxy, found, reader)
            self.still_encrypts(proxy, found, reader)
            proxy.stop()

    def test_kms_v1(self):
        """Of an apiserver with an old plugin: a key of its own for each value."""
        golden = load("kmsv1")
        kms = self.env.kms("v1", key_id="v1")
        config = self.env.path("v1.yaml")
        text = re.sub(r"unix://[^\s\"']+", f"unix://{kms.path}", golden["encryption_configuration"])
        config.write_text(text.replace("[secrets]", "[secrets, configmaps]"))
        config.chmod(0o600)
        proxy = self.start_proxy(config, ["--allow-kms-v1-writes"])
        reader = lambda key, stored: envelope.unseal_v1(key, stored, "v1prov")[0]  # noqa: E731
        self.move(proxy, list(values(golden)), reader)
        self.still_encrypts(proxy, list(values(golden)), reader)

    def tool(self, name, config, *more):
        done = subprocess.run([harness.program("etcd-envelope"), name, "--etcd-servers", self.etcd.url,
                               "--encryption-provider-config", config, *more], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_off_to_plaintext_and_on_again(self):
        """Values of Kubernetes' go to plaintext and come back, by the tools alone."""
        golden = load("secretbox")
        config = self.env.path("way.yaml")
        sealed = golden["encryption_configuration"]
        provider, identity = re.search(r"(  - secretbox:.*)(  - identity: \{\}\n)", sealed, re.S).groups()
        found = {key: (plain, stored) for key, plain, stored, _ in values(golden) if plain}
        self.raw.delete(b"\0", b"\0")
        for key, (_, stored) in found.items():
            self.raw.put(key, stored)
        config.write_text(sealed.replace(provider + identity, identity + provider))
        config.chmod(0o600)
        self.tool("reencrypt", config, "--to-identity", "--yes")
        for key, (plain, _) in found.items():
            self.assertEqual(self.raw.value(key), plain)
        config.write_text(sealed)
        self.tool("reencrypt", config)
        self.tool("verify", config)
        proxy = self.start_proxy(config)
        for key, (plain, _) in found.items():
            self.assertTrue(self.raw.value(key).startswith(b"k8s:enc:secretbox:v1:key1:"))
            self.assertEqual(proxy.client.value(key), plain)


if __name__ == "__main__":
    harness.main()
