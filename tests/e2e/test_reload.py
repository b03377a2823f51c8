#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reload: the configuration and the TLS files change while the proxy serves. What is good is taken over without a lost
call, what is bad is refused with the old set in force, and nothing is left behind."""
import datetime
import os
import random
import signal
import ssl
import threading
import time

import harness  # first: it sets the path to tests/fake
import bulk
import h2raw
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from client import prefix_end
from harness import Code, SANITIZED, envelope, wait_until
from test_local_keys import Key

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
SOON = 10 if SANITIZED else 1  # a change of a watched file is taken over within this time
IDENTITY = "      - identity: {}\n"


def local(*keys):
    """A provider of one kind with these keys."""
    return f"      - {keys[0].kind}:\n          keys:\n" + "".join(key.yaml() for key in keys)


def kms_of(path, name=harness.PLUGIN):
    return (f"      - kms:\n          apiVersion: v2\n          name: {name}\n          endpoint: unix://{path}\n"
            "          timeout: 3s\n")


def rule(resources, *providers):
    return f"  - resources: [{', '.join(resources)}]\n    providers:\n" + "".join(providers)


class Base(harness.OwnProxies):
    """Every test starts its own proxy, with a configuration in a folder of its own."""

    def folder(self, name):
        path = self.env.path(f"{self.name}-{name}")
        path.mkdir(exist_ok=True)
        return path

    def start_proxy(self, text, *flags, name="proxy", config=None, **options):
        """A proxy of this test; its file may be changed by write()."""
        config = config or self.folder(name) / "encryption.yaml"
        if text is not None:
            self.write(config, text)
        proxy = self.env.proxy([self.etcd.url], config, name=f"{self.name}-{name}", flags=flags, **options)
        self.addCleanup(self.end, proxy)
        return proxy

    def end(self, proxy):
        if proxy.process.alive():
            self.assertEqual(proxy.process.term(30), 0, proxy.process.log()[-2000:])

    def write(self, path, text):
        """Replaces the file at once."""
        new = path.with_name("." + path.name + ".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(path)

    def reloads(self, proxy):
        return proxy.process.log().count("configuration reloaded")

    def failures(self, proxy):
        return proxy.process.log().count("reload failed")

    def reload(self, proxy, text, timeout=15):
        """By SIGHUP; returns when the log says that it is done."""
        before = self.reloads(proxy)
        self.write(proxy.config, text)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.reloads(proxy) > before, timeout, f"reload:\n{proxy.process.log()[-1500:]}")

    def refuse(self, proxy, text, reason):
        before = self.failures(proxy)
        self.write(proxy.config, text)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.failures(proxy) > before, 20, f"refusal:\n{proxy.process.log()[-1500:]}")
        self.assertIn(reason, proxy.process.log().splitlines()[-1])

    def wait_sealed(self, proxy, key, prefix, timeout=5):
        """Workers take a set over one by one, a moment behind the line in the log."""
        def sealed():
            proxy.client.put(key, b"probe")
            return self.raw.value(key).startswith(prefix)
        wait_until(sealed, timeout, f"{key} sealed with {prefix}")


class Signal(Base):
    def test_new_resource_and_new_first_provider(self):
        gcm = Key("aesgcm", "new")
        kms = kms_of(self.kms.path)
        proxy = self.start_proxy(HEAD + rule(["secrets"], kms))
        secret, other = self.secret(), f"/registry/configmaps/{self.name}/a".encode()
        proxy.client.put(secret, b"under the plugin's key")
        proxy.client.put(other, b"not protected yet")
        self.assertEqual(self.raw.value(other), b"not protected yet")
        self.reload(proxy, HEAD + rule(["secrets"], local(gcm), kms) + rule(["configmaps"], local(gcm), IDENTITY))
        self.wait_sealed(proxy, self.secret("probe"), gcm.prefix)
        self.assertEqual(proxy.client.value(secret), b"under the plugin's key")
        self.assertEqual(proxy.client.value(other), b"not protected yet")
        for key in secret, other:
            proxy.client.put(key, b"written behind the reload")
            self.assertEqual(gcm.open(key, self.raw.value(key)), b"written behind the reload")
            self.assertEqual(proxy.client.value(key), b"written behind the reload")

    def test_same_content_changes_nothing(self):
        text = HEAD + rule(["secrets"], kms_of(self.kms.path))
        proxy = self.start_proxy(text)
        calls = self.kms.calls["Encrypt"]
        for _ in range(3):
            self.write(proxy.config, text)
            proxy.process.signal(signal.SIGHUP)
            time.sleep(0.2)
        self.assertEqual((self.reloads(proxy), self.failures(proxy)), (0, 0))
        wait_until(lambda: "the configuration has not changed" in proxy.process.log(), 5, "an answer to SIGHUP")
        self.assertEqual(self.kms.calls["Encrypt"], calls)

    def test_rotation_of_local_keys(self):
        """No restart: read everywhere, write, rewrite, remove."""
        old, new = Key("aescbc", "old"), Key("aescbc", "new")
        names = [self.secret(str(i)) for i in range(20)]
        proxy = self.start_proxy(HEAD + rule(["secrets"], local(old)), "--allow-drop-keys")
        for name in names:
            proxy.client.put(name, name)
        self.reload(proxy, HEAD + rule(["secrets"], local(old, new)))
        proxy.client.put(names[0], names[0])
        self.assertEqual(old.open(names[0], self.raw.value(names[0])), names[0])
        self.reload(proxy, HEAD + rule(["secrets"], local(new, old)))
        self.wait_sealed(proxy, self.secret("probe"), new.prefix)
        for name in names:
            self.assertEqual(proxy.client.value(name), name)
        for name in names[:-1]:  # all but one
            proxy.client.put(name, name)
            self.assertEqual(new.open(name, self.raw.value(name)), name)
        self.assertEqual(old.open(names[-1], self.raw.value(names[-1])), names[-1])
        self.reload(proxy, HEAD + rule(["secrets"], local(new)))
        wait_until(lambda: self.is_data_loss(proxy, names[-1]), 5, "the old key's end")
        for name in names[:-1]:
            self.assertEqual(proxy.client.value(name), name)

    def is_data_loss(self, proxy, name):
        try:
            proxy.client.value(name)
            return False
        except harness.grpc.RpcError as error:
            self.assertEqual(error.code(), Code.DATA_LOSS)
            return True

    def test_rotation_of_the_plugins_key(self):
        kms = self.env.kms(name=self.name)
        self.addCleanup(kms.stop)
        text = HEAD + rule(["secrets"], kms_of(kms.path))
        proxy = self.start_proxy(text)
        proxy.client.put(self.secret("old"), b"value")
        kms.key_id = "key-2"
        self.reload(proxy, "# the plugin has a new key\n" + text)

        def key_id():
            proxy.client.put(self.secret("new"), b"value")
            return envelope.parse(self.raw.value(self.secret("new"))).key_id
        wait_until(lambda: key_id() == "key-2", 5, "the new key id")
        self.assertEqual(envelope.parse(self.raw.value(self.secret("old"))).key_id, "key-1")
        self.assertEqual([kv.value for kv in proxy.client.list(self.secret("")).kvs], [b"value"] * 2)

    def test_open_watch_goes_on_with_the_new_set(self):
        old, new = Key("secretbox", "old"), Key("aesgcm", "new")
        proxy = self.start_proxy(HEAD + rule(["secrets"], local(old)))
        other = f"/registry/configmaps/{self.name}/".encode()
        watches = [proxy.client.watch(p, prefix_end(p), prev_kv=True) for p in (self.secret(""), other)]
        self.raw.put(self.secret("1"), old.seal(self.secret("1"), b"one"))
        proxy.client.put(other + b"1", b"plain")
        self.assertEqual([w.events(1)[0].kv.value for w in watches], [b"one", b"plain"])
        self.reload(proxy, HEAD + rule(["secrets"], local(new), local(old)) +
                    rule(["configmaps"], local(new), IDENTITY))
        self.wait_sealed(proxy, self.secret("probe"), new.prefix)
        self.assertEqual({e.kv.value for e in watches[0].events(1)}, {b"probe"})
        self.raw.put(self.secret("1"), new.seal(self.secret("1"), b"two"))
        proxy.client.put(other + b"1", b"sealed")
        self.assertEqual(new.open(other + b"1", self.raw.value(other + b"1")), b"sealed")
        events = []
        while not events or events[-1].kv.key != self.secret("1"):
            events += watches[0].events(1)
        self.assertEqual((events[-1].kv.value, events[-1].prev_kv.value), (b"two", b"one"))
        event, = watches[1].events(1)
        self.assertEqual((event.kv.value, event.prev_kv.value), (b"sealed", b"plain"))
        for watch in watches:
            watch.cancel()


class Files(Base):
    """--encryption-provider-config-automatic-reload, and TLS files, which are always watched."""
    AUTO = "--encryption-provider-config-automatic-reload"

    def start_proxy(self, text, *flags, **options):
        """Their files change all keys at once."""
        return super().start_proxy(text, *flags, "--allow-drop-keys", **options)

    def assertSoon(self, proxy, change, count=3):
        """change() is taken over soon; the best of a few, for the sake of busy machines."""
        best = 1e9
        for i in range(count):
            before, began = self.reloads(proxy), time.monotonic()
            change(i)
            wait_until(lambda: self.reloads(proxy) > before, 30, f"reload:\n{proxy.process.log()[-1500:]}", 0.01)
            best = min(best, time.monotonic() - began)
        self.assertLess(best, SOON)

    def text(self, i):
        return HEAD + rule(["secrets"], local(self.keys[i]), kms_of(self.kms.path))

    def setUp(self):
        super().setUp()
        self.keys = [Key("aesgcm", f"key{i}") for i in range(4)]

    @harness.timing
    def test_written_in_place(self):
        proxy = self.start_proxy(self.text(3), self.AUTO)
        self.assertSoon(proxy, lambda i: proxy.config.write_text(self.text(i)))
        self.wait_sealed(proxy, self.secret(), self.keys[2].prefix)

    @harness.timing
    def test_replaced_by_rename(self):
        proxy = self.start_proxy(self.text(3), self.AUTO)
        self.assertSoon(proxy, lambda i: self.write(proxy.config, self.text(i)))
        self.wait_sealed(proxy, self.secret(), self.keys[2].prefix)

    @harness.timing
    def test_symlink_swap_of_a_volume(self):
        """As the kubelet does it: encryption.yaml -> ..data/encryption.yaml, ..data -> ..version."""
        volume = self.folder("volume")

        def publish(i):
            folder = volume / f"..{time.monotonic_ns()}"
            folder.mkdir()
            (folder / "encryption.yaml").write_text(self.text(i))
            (volume / "..data_tmp").symlink_to(folder.name)
            (volume / "..data_tmp").rename(volume / "..data")
        publish(3)
        (volume / "encryption.yaml").symlink_to("..data/encryption.yaml")
        proxy = self.start_proxy(None, self.AUTO, config=volume / "encryption.yaml")
        self.assertSoon(proxy, publish)
        self.wait_sealed(proxy, self.secret(), self.keys[2].prefix)

    @harness.timing
    def test_target_in_another_folder(self):
        """encryption.yaml -> ../real/encryption.yaml, written in place and replaced there."""
        real = self.folder("real") / "encryption.yaml"
        self.write(real, self.text(3))
        config = self.folder("link") / "encryption.yaml"
        config.symlink_to(os.path.relpath(real, config.parent))
        proxy = self.start_proxy(None, self.AUTO, config=config)
        self.assertSoon(proxy, lambda i: real.write_text(self.text(i)))
        self.assertSoon(proxy, lambda i: self.write(real, self.text(3 - i)))
        self.wait_sealed(proxy, self.secret(), self.keys[1].prefix)

    @harness.timing
    def test_switched_folder_on_the_way(self):
        """As releases of a configuration are switched: current -> release-N, far above the file."""
        base = self.folder("releases")

        def publish(i):
            release = base / f"release-{time.monotonic_ns()}"
            (release / "etc" / "envelope").mkdir(parents=True)
            self.write(release / "etc" / "envelope" / "encryption.yaml", self.text(i))
            (base / "next").symlink_to(release.name)
            (base / "next").rename(base / "current")
        publish(3)
        proxy = self.start_proxy(None, self.AUTO, config=base / "current" / "etc" / "envelope" / "encryption.yaml")
        self.assertSoon(proxy, publish)
        self.wait_sealed(proxy, self.secret(), self.keys[2].prefix)
        # In place, where the link leads to by now.
        self.assertSoon(proxy, lambda i: proxy.config.write_text(self.text(i)))

    @harness.timing
    def test_missing_for_a_while(self):
        proxy = self.start_proxy(self.text(3), self.AUTO)
        proxy.config.unlink()
        wait_until(lambda: self.failures(proxy) == 1, 10, "refusal")
        self.assertSoon(proxy, lambda i: self.write(proxy.config, self.text(i)))

    @harness.timing
    def test_what_was_never_refused_is_tried(self):
        """A refusal is one of the content that it was made for, and only while the file has it."""
        path = self.env.path(f"{self.name}.sock")
        proxy = self.start_proxy(self.text(3), self.AUTO)
        away = HEAD + rule(["secrets"], local(self.keys[0], self.keys[3]), kms_of(path, "away"), kms_of(self.kms.path))
        self.write(proxy.config, "{{{")
        wait_until(lambda: self.failures(proxy) == 1, 10, "refusal")
        self.write(proxy.config, away)
        wait_until(lambda: 'KMS check failed provider="away"' in proxy.process.log(), 10, "probation")
        self.write(proxy.config, self.text(3))
        wait_until(lambda: "changed before its KMS was reached" in proxy.process.log(), 10, "end of the probation")
        self.addCleanup(harness.fake_kms.FakeKms(path).stop)
        began = time.monotonic()
        self.write(proxy.config, away)
        wait_until(lambda: self.reloads(proxy) == 1, 30, "reload")
        self.assertLess(time.monotonic() - began, 3 * SOON)
        # The same bad content as before, with another one in between.
        self.write(proxy.config, "{{{")
        wait_until(lambda: self.failures(proxy) == 2, 10, "second refusal")

    def test_not_without_the_flag(self):
        proxy = self.start_proxy(self.text(3))
        self.write(proxy.config, self.text(0))
        time.sleep(0.6)
        self.assertEqual(self.reloads(proxy), 0)
        proxy.client.put(self.secret(), b"x")
        self.assertTrue(self.raw.value(self.secret()).startswith(self.keys[3].prefix))

    def test_neighbours_do_not_matter(self):
        proxy = self.start_proxy(self.text(3), self.AUTO)
        for i in range(5):
            proxy.config.with_name("notes.txt").write_text(str(i))
            time.sleep(0.15)
        self.assertEqual((self.reloads(proxy), self.failures(proxy)), (0, 0))

    def test_bad_content_is_tried_once(self):
        """Events of other files do not make it tried again and again."""
        proxy = self.start_proxy(self.text(3), self.AUTO)
        self.write(proxy.config, "{{{")
        wait_until(lambda: self.failures(proxy) == 1, 10, "refusal")
        for i in range(5):
            proxy.config.with_name("notes.txt").write_text(str(i))
            time.sleep(0.15)
        self.assertEqual(self.failures(proxy), 1)
        self.write(proxy.config, self.text(0))
        wait_until(lambda: self.reloads(proxy) == 1, 10, "reload")

    # --- TLS ---

    @staticmethod
    def serial(proxy, tls):
        """Of the certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=str(tls.path("ca.crt")))
        context.load_cert_chain(tls.path("client.crt"), tls.path("client.key"))
        sock = harness.socket.create_connection(proxy.address, 5)
        with context.wrap_socket(sock, server_hostname="localhost") as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(True)).serial_number

    @staticmethod
    def serial_of(path):
        return x509.load_pem_x509_certificate(path.read_bytes()).serial_number

    @harness.timing
    def test_server_certificate(self):
        tls = self.env.tls(self.name)
        flags = ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"),
                 "--trusted-ca-file", tls.path("ca.crt")]
        proxy = self.start_proxy(self.text(3), *flags, tls=tls)
        watch = proxy.client.watch(self.secret())
        first = self.serial_of(tls.path("server.crt"))
        self.assertEqual(self.serial(proxy, tls), first)

        tls.issue("next")
        # The certificate alone: it does not fit the key, so what was in use stays.
        os.replace(tls.path("next.crt"), tls.path("server.crt"))
        wait_until(lambda: "TLS files changed but cannot be used" in proxy.process.log(), 10, "refusal")
        self.assertEqual(self.serial(proxy, tls), first)
        os.replace(tls.path("next.key"), tls.path("server.key"))
        began = time.monotonic()
        wait_until(lambda: self.serial(proxy, tls) == self.serial_of(tls.path("server.crt")), 10, "new certificate")
        self.assertLess(time.monotonic() - began, 2 * SOON)
        self.assertNotEqual(self.serial(proxy, tls), first)

        # SIGHUP does the same at once; connections that are open go on all the while.
        tls.issue("server")
        self.assertNotIn("private key is open to others", proxy.process.log())
        tls.path("server.key").chmod(0o644)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.serial(proxy, tls) == self.serial_of(tls.path("server.crt")), 10, "third certificate")
        wait_until(lambda: "private key is open to others" in proxy.process.log(), 10, "warning")
        proxy.client.put(self.secret(), b"x")
        self.assertEqual(watch.events(1)[0].kv.value, b"x")
        watch.cancel()

    def test_bad_certificate_is_logged_once(self):
        tls = self.env.tls(self.name)
        flags = ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key"),
                 "--trusted-ca-file", tls.path("ca.crt")]
        proxy = self.start_proxy(self.text(3), *flags, tls=tls)
        good = tls.path("server.crt").read_bytes()

        def refusals():
            return proxy.process.log().count("TLS files changed but cannot be used")

        def put(content):
            new = tls.path("server.crt.new")
            new.write_bytes(content)
            new.rename(tls.path("server.crt"))
        for count, bad in enumerate((b"no certificate", b"nor this", b"no certificate"), 1):
            put(bad)
            wait_until(lambda: refusals() == count, 10, "refusal")
            for _ in range(3):
                tls.path("notes.txt").write_text("a neighbour")
                put(bad)
                time.sleep(0.25)
            self.assertEqual(refusals(), count)
        put(good)
        time.sleep(2 * SOON)
        self.assertEqual(self.serial(proxy, tls), self.serial_of(tls.path("server.crt")))
        put(b"nor this")
        wait_until(lambda: refusals() == 4, 10, "refusal behind a good one")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: refusals() == 5, 10, "answer to a signal")

    @harness.timing
    def test_certificate_behind_links(self):
        """server.crt -> ..data/server.crt, and ..data is switched: certificate and key at once."""
        tls, volume = self.env.tls(self.name), self.folder("volume")

        def publish():
            folder = volume / f"..{time.monotonic_ns()}"
            folder.mkdir()
            for name in "server.crt", "server.key":
                (folder / name).write_bytes(tls.path(name).read_bytes())
            (volume / "..tmp").symlink_to(folder.name)
            (volume / "..tmp").rename(volume / "..data")
        publish()
        far, ca = self.folder("far"), self.folder("ca") / "ca.crt"
        ca.write_bytes(tls.path("ca.crt").read_bytes())
        for name in "server.crt", "server.key":
            (far / name).symlink_to(os.path.join("..", volume.name, "..data", name))
        proxy = self.start_proxy(self.text(3), "--cert-file", far / "server.crt", "--key-file", far / "server.key",
                                 "--trusted-ca-file", ca, tls=tls)
        for _ in range(2):
            tls.issue("server")
            began = time.monotonic()
            publish()
            wait_until(lambda: self.serial(proxy, tls) == self.serial_of(tls.path("server.crt")), 10, "new certificate")
            self.assertLess(time.monotonic() - began, 2 * SOON)

    @staticmethod
    def comes_in(proxy, ca, tls, name="client"):
        """Is a client with this certificate let in? ca: the authority of the proxy's own."""
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(tls.path(name + ".crt"), tls.path(name + ".key"))
        context.set_alpn_protocols(["h2"])
        try:
            client = h2raw.Client(proxy.address, context=context)
        except OSError:
            return False
        try:
            return client.wait_for(lambda: client.peer_settings, 5)
        except ConnectionError:
            return False
        finally:
            client.close()

    def test_other_client_authority(self):
        """A new --trusted-ca-file: its clients come in, those of the old one don't any more."""
        old, new = self.env.tls(self.name + "-old"), self.env.tls(self.name + "-new")
        ca = self.folder("ca") / "clients.crt"
        ca.write_bytes(old.path("ca.crt").read_bytes())
        flags = ["--cert-file", old.path("server.crt"), "--key-file", old.path("server.key"), "--trusted-ca-file", ca]
        proxy = self.start_proxy(self.text(3), *flags, tls=old)

        def comes_in(tls):
            return self.comes_in(proxy, old.path("ca.crt"), tls)
        self.assertTrue(comes_in(old))
        self.assertFalse(comes_in(new))
        ca.write_bytes(new.path("ca.crt").read_bytes())
        wait_until(lambda: comes_in(new), 10, "the new authority")
        self.assertFalse(comes_in(old))

    def test_revoked_clients(self):
        """--client-crl-file as etcd has it: by serial number, the list's age and authority don't matter; read again."""
        tls = self.env.tls(self.name, ("client", "other"))
        crl = tls.path("clients.crl")
        later = datetime.datetime.now(datetime.timezone.utc)

        def revoke(*names, encoding=serialization.Encoding.PEM, age=2):
            made = later - datetime.timedelta(days=age)
            builder = (x509.CertificateRevocationListBuilder().issuer_name(tls.ca.subject).last_update(made)
                       .next_update(made + datetime.timedelta(days=1)))
            for name in names:
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder().serial_number(self.serial_of(tls.path(name + ".crt")))
                    .revocation_date(made).build())
            new = tls.path("new.crl")
            new.write_bytes(builder.sign(tls.ca_key, hashes.SHA256()).public_bytes(encoding))
            new.rename(crl)

        def comes_in(name):
            return self.comes_in(proxy, tls.path("ca.crt"), tls, name)
        revoke()
        proxy = self.start_proxy(self.text(3), "--cert-file", tls.path("server.crt"), "--key-file",
                                 tls.path("server.key"), "--trusted-ca-file", tls.path("ca.crt"), "--client-crl-file", crl,
                                 tls=tls)
        self.assertTrue(comes_in("other"))
        revoke("other")
        wait_until(lambda: not comes_in("other"), 10, "the refusal")
        self.assertGreater(proxy.metric("etcd_envelope_refused_total", 'reason="tls"'), 0)
        self.assertTrue(comes_in("client"))
        revoke("client", encoding=serialization.Encoding.DER)
        wait_until(lambda: comes_in("other"), 10, "the other list")
        self.assertFalse(comes_in("client"))
        # What is no list does not open the door: the one in use stays.
        for bad in b"", b"no list", tls.path("ca.crt").read_bytes():
            refusals = proxy.process.log().count("TLS files changed but cannot be used")
            crl.write_bytes(bad)
            wait_until(lambda n=refusals: proxy.process.log().count("TLS files changed but cannot be used") > n, 10, "refusal")
            self.assertFalse(comes_in("client"))
        self.assertIn("certificate revoked", proxy.process.log())

    def test_certificate_towards_etcd(self):
        tls = self.env.tls(self.name, ("client", "proxy"))
        etcd = self.env.etcd(name="etcd-tls", tls=tls)
        flags = ["--etcd-cafile", tls.path("ca.crt"), "--etcd-certfile", tls.path("proxy.crt"),
                 "--etcd-keyfile", tls.path("proxy.key")]
        config = self.folder("proxy") / "encryption.yaml"
        self.write(config, self.text(3))
        proxy = self.env.proxy(etcd, config, name=self.name, flags=flags)
        self.addCleanup(self.end, proxy)
        tls.issue("proxy")
        wait_until(lambda: "TLS files reloaded" in proxy.process.log(), 10, "reload of TLS files")
        for i in range(3):
            client = harness.Client(proxy.target)
            client.put(self.secret(str(i)), b"over a new connection")
            client.close()
        proxy.client.put(self.secret(), b"over the old one")


class Refused(Base):
    def assertInForce(self, proxy, key, name="secrets"):
        """The set with this key seals and opens."""
        at = f"/registry/{name}/{self.name}/{proxy.name}".encode()
        proxy.client.put(at, b"still under the old set")
        self.assertEqual(key.open(at, self.raw.value(at)), b"still under the old set")
        self.assertEqual(proxy.client.value(at), b"still under the old set")

    def test_bad_files(self):
        key = Key("aesgcm", "k")
        good = HEAD + rule(["secrets", "configmaps"], local(key))
        proxy = self.start_proxy(good)
        short = Key("aescbc", "short", 7)
        for text, reason in {
            "{{{": "", "": "", "kind: Pod\n": "",
            HEAD: "", HEAD + rule(["secrets"], IDENTITY): "protects nothing",
            HEAD + rule(["secrets", "configmaps"], IDENTITY, local(key)): "--allow-identity-writes",
            HEAD + rule(["secrets", "configmaps"], local(short)): "",
            HEAD + rule(["secrets"], local(key)): "--allow-unprotect",
            HEAD + rule(["secrets"], local(key)) + rule(["configmaps"], IDENTITY): "--allow-unprotect",
            HEAD + rule(["secrets", "configmaps"], kms_of("relative/path").replace("unix://", "tcp://")): "",
        }.items():
            with self.subTest(text=text[len(HEAD):]):
                self.refuse(proxy, text, reason)
                self.assertInForce(proxy, key)
                self.assertInForce(proxy, key, "configmaps")
        proxy.config.unlink()
        before = self.failures(proxy)
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: self.failures(proxy) > before, 10, "refusal of no file")
        self.assertInForce(proxy, key)
        self.assertEqual(self.reloads(proxy), 0)
        self.assertNotIn(key.yaml().split()[-1], proxy.process.log(), "a secret in the log")
        self.reload(proxy, "# good again\n" + good)
        self.assertInForce(proxy, key)

    def test_wildcard_that_is_taken_back(self):
        """Protection may be lost by a rule's disappearance, an exclusion, or a narrower group."""
        key = Key("aesgcm", "k")
        proxy = self.start_proxy(HEAD + rule(["'*.*'"], local(key)))
        for text in (rule(["secrets"], local(key)), rule(["configmaps"], IDENTITY) + rule(["'*.*'"], local(key)),
                     rule(["'*.apps'"], local(key)) + rule(["'*.'"], local(key))):
            with self.subTest(text=text):
                self.refuse(proxy, HEAD + text, "--allow-unprotect")
        self.assertInForce(proxy, key, "configmaps")
        self.reload(proxy, HEAD + rule(["secrets"], local(Key("aesgcm", "other")), local(key)) +
                    rule(["'*.*'"], local(key)))

    BUILTIN_GROUPS = [
        "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling",
        "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io",
        "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io"]

    def test_wildcard_replaced_by_all_that_is_built_in(self):
        """Custom resources of groups that nobody names lose their protection."""
        key = Key("aesgcm", "k")
        proxy = self.start_proxy(HEAD + rule(["'*.*'"], local(key)))
        every = ["'*.'"] + [f"'*.{group}'" for group in self.BUILTIN_GROUPS]
        self.refuse(proxy, HEAD + rule(every, local(key)), "--allow-unprotect")
        for group in "example.com", "x.y", "x":
            self.refuse(proxy, HEAD + rule(every + [f"'*.{group}'"], local(key)), "--allow-unprotect")
        self.assertInForce(proxy, key, "example.com/things")
        self.assertInForce(proxy, key, "x/things")
        self.assertInForce(proxy, key, "x.y/things")

    def test_allow_unprotect(self):
        key = Key("aesgcm", "k")
        proxy = self.start_proxy(HEAD + rule(["secrets", "configmaps"], local(key)), "--allow-unprotect", "--allow-drop-keys")
        at = f"/registry/configmaps/{self.name}/a".encode()
        proxy.client.put(at, b"x")
        self.assertEqual(key.open(at, self.raw.value(at)), b"x")
        self.reload(proxy, HEAD + rule(["secrets"], local(key)))

        def in_clear():
            proxy.client.put(at, b"in clear, as configured")
            return self.raw.value(at) == b"in clear, as configured"
        wait_until(in_clear, 5, "an unprotected resource")
        self.assertInForce(proxy, key)


class Load(Base):
    """20 reloads between two files that mean the same, with everything under way."""

    def files(self):
        gcm = Key("aesgcm", "second")
        kms = kms_of(self.kms.path)
        one = HEAD + rule(["secrets", "configmaps"], kms, local(gcm))
        # Another order of keys everywhere, and a comment.
        two = ("# the same, said otherwise\nresources:\n  - providers:\n" + kms.replace(
            "          apiVersion: v2\n", "").replace("timeout: 3s", "timeout: 3s\n          apiVersion: v2") + local(gcm) +
            "    resources: [configmaps, secrets]\nkind: EncryptionConfiguration\n"
            "apiVersion: apiserver.config.k8s.io/v1\n")
        return [two, one]

    def write_until(self, proxy, stop, worker, written):
        client, rng = harness.Client(proxy.target), random.Random(worker)
        names = [self.secret(f"w{worker}-{i}") for i in range(5)]
        last, n = {}, 0
        while not stop.is_set():
            n += 1
            name = names[rng.randrange(5)]
            value = b"PLAINTEXT-%d-%d-" % (worker, n) + b"x" * rng.choice((0, 10, 1000, 70000))
            client.put(name, value)
            written.append((name, value, last.get(name, b"")))
            last[name] = value
            if rng.random() < 0.3:
                self.assertEqual(client.value(name), value)
        client.close()

    def list_until(self, proxy, stop, expected, counts):
        client = harness.Client(proxy.target)
        prefix = self.secret("list-")
        while not stop.is_set():
            self.assertEqual([kv.value for kv in client.list(prefix).kvs], expected)
            counts.append(1)
        client.close()

    def test_under_load(self):
        files = self.files()
        proxy = self.start_proxy(files[1])
        expected = [b"PLAINTEXT-list-%02d" % i * 4000 for i in range(24)]  # 1.6 MB: streamed
        for i, value in enumerate(expected):
            proxy.client.put(self.secret(f"list-{i:02}"), value)
        prefix = self.secret("w")
        watch = proxy.client.watch(prefix, prefix_end(prefix), prev_kv=True)
        stored = self.raw.watch(self.secret("").rsplit(b"/", 1)[0], prefix_end(self.secret("")), prev_kv=True)
        stop, written, counts, errors = threading.Event(), [[] for _ in range(3)], [], []

        def run(function, *arguments):
            try:
                function(proxy, stop, *arguments)
            except BaseException as error:  # noqa: B036 - shown below
                errors.append(error)
                stop.set()
        threads = [threading.Thread(target=run, args=(self.write_until, i, written[i])) for i in range(3)]
        threads += [threading.Thread(target=run, args=(self.list_until, expected, counts)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for i in range(20):
                self.reload(proxy, files[i % 2])
                if i % 4 == 0:
                    time.sleep(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(self.failures(proxy), 0)
        self.assertGreater(len(counts), 5)
        count = sum(map(len, written))
        self.assertGreater(count, 100 if not SANITIZED else 20)

        # Every event once, in order, whole, with what was there before.
        events = watch.events(count, 30)
        self.assertTrue(watch.quiet(0.3), "more events than writes")
        for worker in range(3):
            mine = [(e.kv.key, e.kv.value, e.prev_kv.value) for e in events
                    if e.kv.key.startswith(self.secret(f"w{worker}-"))]
            self.assertEqual(len(mine), len(written[worker]))
            self.assertTrue(mine == written[worker], "events differ from writes")
        # And nothing of it lay in etcd in clear.
        for event in stored.events(count, 30):
            for kv in (event.kv, event.prev_kv) if event.prev_kv.value else (event.kv,):
                self.assertTrue(kv.value.startswith(b"k8s:enc:kms:v2:"), kv.key)
                self.assertNotIn(b"PLAINTEXT", kv.value)
        watch.cancel()
        stored.cancel()

    def test_nothing_is_left_behind(self):
        """50 reloads: the same descriptors and threads, and no more memory."""
        files = self.files()
        proxy = self.start_proxy(files[1])
        cold = self.secret("cold")
        self.raw.put(cold, envelope.seal(cold, b"asks the plugin"))

        def some(count):
            for i in range(count):
                self.reload(proxy, files[i % 2])
                self.assertEqual(proxy.client.value(cold), b"asks the plugin")
                proxy.client.put(self.secret(), b"x")
            time.sleep(0.3)
            return proxy.process.fd_count(), proxy.process.proc_status("Threads")
        before = some(10)
        rss = proxy.process.rss_mib()
        after = some(50)
        self.assertEqual(after, before)
        grown = proxy.process.rss_mib() - rss
        print(f"RSS {rss:.1f} MiB, +{grown:.1f} after 50 reloads", file=harness.sys.stderr)
        if not SANITIZED:
            self.assertLess(grown, 8)

    def test_stuck_readers_keep_no_plugin_connections(self):
        """A list that nobody reads holds its rule set, but not the plugin, and is right when it is read at last: its
        keys are asked for then, over a connection that is made for that."""
        files = self.files()
        proxy = self.start_proxy(files[1])
        keys = [self.secret(f"{i:02}") for i in range(24)]
        values = [os.urandom(70000) for _ in keys]
        for key, value in zip(keys, values):
            self.raw.put(key, envelope.seal(key, value))  # a seed of its own each

        def connections():
            with open("/proc/net/unix", encoding="utf-8") as lines:  # the plugin's ends carry its path
                return sum(line.split()[5] == "03" and line.rstrip().endswith(self.kms.path) for line in lines)
        client, ids = h2raw.Client(proxy.address), []
        self.addCleanup(client.close)
        wait_until(lambda: connections() == 1, 5, "one connection")
        for i in range(12):
            sid = client.open(bulk.RANGE)
            client.no_credit.add(sid)
            client.send_data(sid, bulk.list_request(self.secret("")), True)
            client.wait_for(lambda: len(client.stream(sid).data) >= 65535, 30, "a full window")
            ids.append(sid)
            self.reload(proxy, files[i % 2])
        wait_until(lambda: connections() == 1, 5, f"one connection, not {connections()}")
        decrypts = self.kms.calls["Decrypt"]
        client.no_credit.clear()
        for sid in ids:
            client.send_window_update(sid, 1 << 24)
        for sid in ids:
            stream = client.wait(sid, 60)
            self.assertEqual(stream.status, 0, (stream.reset, stream.message, len(stream.data)))
            answer = bulk.rpc.RangeResponse.FromString(h2raw.split_messages(stream.data)[0][0])
            self.assertEqual([kv.key for kv in answer.kvs], keys)
            self.assertTrue([kv.value for kv in answer.kvs] == values)
        self.assertGreater(self.kms.calls["Decrypt"], decrypts)
        wait_until(lambda: connections() == 1, 5, "one connection")

    def test_end_while_reloading(self):
        """SIGTERM right behind SIGHUP, with key rings that have waited for keys."""
        files = self.files()
        # ThreadSanitizer's runtime runs one signal's handler inside another's, which sa_mask forbids, and libuv's then
        # waits for itself: under it the first one gets the time to be over.
        for delay in (0.1, 0.2) if harness.TSAN else (0, 0, 0.001, 0.003, 0.01, 0.03):
            proxy = self.start_proxy(files[1], name=f"proxy{delay}")
            cold = self.secret("cold")
            self.raw.put(cold, envelope.seal(cold, b"asks the plugin", key_id=f"key-{delay}"))
            self.assertEqual(proxy.client.value(cold), b"asks the plugin")
            proxy.client.close()
            self.write(proxy.config, files[0])
            proxy.process.signal(signal.SIGHUP)
            time.sleep(delay)
            self.assertEqual(proxy.process.term(30), 0, proxy.process.log()[-3000:])


if __name__ == "__main__":
    harness.main()
