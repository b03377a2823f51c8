#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A new EncryptionConfiguration without a restart: good ones come into force whole, bad ones change nothing, and
nobody who is using the proxy notices."""
import signal
import threading

import harness  # first: it sets the path to tests/fake
from harness import wait_until

VALUE = b"sealed or not, by the configuration of the hour"


class Reload(harness.E2E):
    needs_proxy = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()

    def setUp(self):
        super().setUp()
        self.file = self.write(["secrets"])

    def write(self, resources, **options):
        return self.env.config(self.kms.path, resources, name=self.name + ".yaml", **options)

    def start_proxy(self, **options):
        proxy = self.env.proxy(self.etcd, self.file, name=self.name, **options)
        self.addCleanup(proxy.stop)
        return proxy

    def is_sealed(self, proxy, key):
        proxy.client.put(key, VALUE)
        return self.raw.value(key).startswith(b"k8s:enc:kms:v2:")

    def configmap(self):
        return b"/registry/configmaps/" + self.name.encode()

    def test_sighup_protects_more(self):
        proxy = self.start_proxy()
        self.assertFalse(self.is_sealed(proxy, self.configmap()))
        watch = proxy.client.watch(self.secret())
        self.write(["secrets", "configmaps"], identity=True)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.is_sealed(proxy, self.configmap()), 10, "sealed ConfigMaps")
        self.assertEqual(proxy.client.value(self.configmap()), VALUE)
        self.assertTrue(self.is_sealed(proxy, self.secret()))
        self.assertEqual(watch.events(1)[0].kv.value, VALUE)
        watch.cancel()

    def test_automatic_reload(self):
        proxy = self.start_proxy(flags=["--encryption-provider-config-automatic-reload"])
        self.assertFalse(self.is_sealed(proxy, self.configmap()))
        fresh = self.env.config(self.kms.path, ["secrets", "configmaps"], name=self.name + "-new.yaml")
        fresh.rename(self.file)
        wait_until(lambda: self.is_sealed(proxy, self.configmap()), 75, "sealed ConfigMaps", step=0.5)

    def test_bad_files_change_nothing(self):
        proxy = self.start_proxy()
        for text in ("", "{{{", "kind: Pod", self.file.read_text().replace("secrets", "secrets', 'secrets"),
                     self.file.read_text().replace("kms:", "kmz:")):
            self.file.write_text(text)
            proxy.process.signal(signal.SIGHUP)
            wait_until(lambda: self.is_sealed(proxy, self.secret()), 5, "sealed Secrets")
        self.file.unlink()
        proxy.process.signal(signal.SIGHUP)
        self.assertTrue(self.is_sealed(proxy, self.secret()))
        self.write(["secrets", "configmaps"])
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.is_sealed(proxy, self.configmap()), 10, "a good file after the bad ones")

    def test_a_reload_does_not_unprotect(self):
        """Unless it is told that it may."""
        self.write(["secrets", "configmaps"])
        proxy = self.start_proxy()
        self.write(["configmaps"])
        proxy.process.signal(signal.SIGHUP)
        for _ in range(20):
            self.assertTrue(self.is_sealed(proxy, self.secret()))
        self.write(["secrets", "configmaps"])
        allowed = self.start_proxy(flags=["--allow-unprotect"])
        self.write(["configmaps"])
        allowed.process.signal(signal.SIGHUP)
        wait_until(lambda: not self.is_sealed(allowed, self.secret()), 10, "unprotected Secrets")
        self.assertTrue(self.is_sealed(allowed, self.configmap()))

    def test_under_load(self):
        """Twenty reloads while clients write and read: no error, every Secret sealed."""
        proxy = self.start_proxy()
        stop, errors, written = threading.Event(), [], [0] * 4

        def work(i):
            client = harness.Client(proxy.target)
            key = self.secret(str(i))
            try:
                while not stop.is_set():
                    client.put(key, VALUE, timeout=5)
                    if client.value(key, timeout=5) != VALUE:
                        raise AssertionError("another value")
                    written[i] += 1
            except Exception as error:  # noqa: B902 - shown below
                errors.append(error)
            client.close()
        workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        for i in range(20):
            self.write(["secrets", "configmaps"] if i % 2 == 0 else ["secrets", "configmaps", "pods"][:2 + i % 4])
            proxy.process.signal(signal.SIGHUP)
            before = sum(written)
            wait_until(lambda: sum(written) > before + 20 or errors, 10, "work between reloads")
        stop.set()
        for worker in workers:
            worker.join()
        self.assertEqual(errors, [])
        for i in range(4):
            self.assertSealed(self.secret(str(i)), VALUE)

    def test_plugin_socket_moves(self):
        """A reload to another socket of the same plugin: old and new values open."""
        proxy = self.start_proxy()
        proxy.client.put(self.secret("old"), VALUE)
        other = self.env.kms(name=self.name + "2")
        self.addCleanup(other.stop)
        self.file.write_text(self.file.read_text().replace(self.kms.path, other.path))
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: other.calls["Encrypt"] > 0, 10, "the new socket in use")
        wait_until(lambda: self.is_sealed(proxy, self.secret("new")), 10, "sealed values")
        self.assertEqual(proxy.client.value(self.secret("old")), VALUE)
        self.assertEqual(proxy.client.value(self.secret("new")), VALUE)


if __name__ == "__main__":
    harness.main()
