#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""With fips=yes in OpenSSL's configuration: does every primitive come from the provider that has that property, is
what it lacks refused in clear words, and does the program say so? With a provider of the tests' own everywhere, and with
the real one where it is installed."""
import base64
import json
import os
import pathlib
import signal
import subprocess
import unittest

import harness  # first: it sets the path to tests/fake
from harness import Code, envelope, http_get, wait_until

FAKE = pathlib.Path(os.environ.get("ENVELOPE_BUILD", "build/dev")).resolve() / "tests" / "ossl-modules"
FAKE_NAME = "fake FIPS provider of the tests"
NO_SECRETBOX = "secretbox (XSalsa20-Poly1305) is no FIPS algorithm"
# Of each the program needs at least one thing that no other can stand in for.
NEEDED = ("AES-128-GCM", "AES-256-GCM", "AES-256-CBC", "SHA2-256", "HKDF", "HMAC", "CTR-DRBG")
CONF = """openssl_conf = init
[init]
providers = providers
alg_section = algorithms
[providers]
fips = fips_sect
base = base_sect
[base_sect]
activate = 1
[algorithms]
default_properties = fips=yes
{fips}"""


def key():
    return base64.b64encode(os.urandom(32)).decode()


class Fips(harness.E2E):
    needs_proxy = True
    provider_name = FAKE_NAME

    @classmethod
    def conf(cls):
        """Text of openssl.cnf, environment beside it."""
        return CONF.format(fips="[fips_sect]\nactivate = 1\n"), {"OPENSSL_MODULES": str(FAKE)}

    @classmethod
    def start(cls):
        text, environment = cls.conf()
        path = cls.env.path("openssl.cnf")
        path.write_text(text)
        cls.fips = {"OPENSSL_CONF": str(path), **environment}
        cls.binary = harness.program("etcd-envelope")
        cls.start_peers()
        cls.tls = cls.env.tls()
        cls.proxy = cls.env.proxy(cls.etcd, cls.config, environment=cls.fips, tls=cls.tls, flags=(
            "--cert-file", cls.tls.path("server.crt"), "--key-file", cls.tls.path("server.key"),
            "--trusted-ca-file", cls.tls.path("ca.crt")))
        cls.client = cls.proxy.client

    def run_tool(self, *arguments, stdin=b"", **environment):
        done = subprocess.run([self.binary, *map(str, arguments)], input=stdin, capture_output=True, timeout=60,
                              env={**os.environ, **self.fips, **environment}, check=False)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def configure(self, *providers, name="local.yaml"):
        path = self.env.path(name)
        path.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
                        "  - resources: [secrets]\n    providers:\n" + "".join(f"    - {p}\n" for p in providers))
        path.chmod(0o600)
        return path

    def local(self, kind):
        return f"{kind}: {{keys: [{{name: k, secret: {key()}}}]}}"

    def test_values(self):
        """Over TLS, sealed and opened: by the format's rules as another implementation has them."""
        for size in (1, 16, 1000, 70000):
            name, value = self.secret(str(size)), os.urandom(size)
            self.client.put(name, value)
            self.assertSealed(name, value)
            self.assertEqual(self.client.value(name), value)
        planted = self.secret("planted")
        self.plant(planted, b"by somebody else")
        self.assertEqual(self.client.value(planted), b"by somebody else")
        self.raw.put(planted, self.raw.value(self.secret("1000")))
        self.assertStatus(Code.DATA_LOSS, self.client.get, planted)

    def test_said(self):
        self.assertRegex(self.proxy.process.log(), f'fips=yes provider="{self.provider_name}')
        text = http_get(self.proxy.metrics_address, "/configz")[1].decode()
        self.assertIn("\nfips: true\n", text)
        self.assertRegex(text, f'\ncrypto-provider: "{self.provider_name}')
        status, out, err = self.run_tool("check", "--offline", "--encryption-provider-config", self.config)
        self.assertEqual(status, 0, err)
        self.assertRegex(out.decode(), f"cryptography.*{self.provider_name}")
        value = envelope.seal(self.secret(), b"x")
        status, out, err = self.run_tool("inspect", "--output", "json", stdin=value)
        self.assertEqual(status, 0, err)
        self.assertRegex(json.loads(out)["fips_provider"], f"^{self.provider_name}")
        status, out, err = self.run_tool("inspect", stdin=b"k8s:enc:secretbox:v1:k:" + bytes(50))
        self.assertEqual(status, 0, err)
        self.assertIn(NO_SECRETBOX, out.decode())

    def test_secretbox_is_refused(self):
        """Wherever it stands in a list, by serve and every tool that takes a configuration."""
        for n, providers in enumerate(((self.local("secretbox"),), (self.local("aesgcm"), self.local("secretbox")))):
            config = self.configure(*providers)
            path = f"resources[0].providers[{n}].secretbox"
            for tool in ("serve", "check", "encrypt", "verify"):
                with self.subTest(tool=tool, n=n):
                    flags = {"encrypt": ["--key", "/registry/secrets/a/b"], "check": ["--offline"]}.get(tool, [])
                    status, out, err = self.run_tool(tool, "--encryption-provider-config", config,
                                                     "--etcd-servers", self.etcd.url, *flags)
                    self.assertEqual((status, out), (1, b""), err)
                    self.assertIn(path, err)
                    self.assertIn(NO_SECRETBOX, err)

    def test_reload(self):
        """A reload to secretbox is refused, and the old keys stay in use."""
        good = self.configure(self.local("aesgcm"), self.local("aescbc"), name="reload.yaml")
        proxy = self.env.proxy(self.etcd, good, name="reload", environment=self.fips)
        self.addCleanup(proxy.process.kill)
        proxy.client.put(self.secret(), b"sealed with aesgcm")
        self.assertTrue(self.raw.value(self.secret()).startswith(b"k8s:enc:aesgcm:v1:k:"))
        text = good.read_text()
        good.write_text(text + f"    - {self.local('secretbox')}\n")
        proxy.process.signal(signal.SIGHUP)
        wait_until(lambda: NO_SECRETBOX in proxy.process.log(), what="refusal")
        self.assertEqual(proxy.client.value(self.secret()), b"sealed with aesgcm")
        good.write_text(text)

    def test_local_kms(self):
        """The plugin's keys, nonces and wrapping; a whole proxy in front."""
        program, keys, socket = (harness.program("etcd-envelope-local-kms"), self.env.path("kek"),
                                 self.env.path("local-kms.sock"))
        subprocess.run([program, "--generate-key", keys], env={**os.environ, **self.fips}, check=True, timeout=30)
        plugin = self.env.start("local-kms", [program, "--listen", f"unix://{socket}", "--key-file", keys],
                                env=self.fips)
        wait_until(lambda: socket.exists() or not plugin.alive(), what="socket")
        self.assertTrue(plugin.alive(), plugin.log())
        wait_until(lambda: "fips=yes" in plugin.log(), what="start line")
        self.assertRegex(plugin.log(), f'fips=yes provider="{self.provider_name}')
        config = self.env.config(socket, name="local-kms.yaml", provider="local")
        sealed = {}
        for name, environment in (("fips", self.fips), ("usual", {})):
            status, out, err = self.run_tool("encrypt", "--encryption-provider-config", config, "--key",
                                             "/registry/secrets/a/b", stdin=b"value", **environment)
            self.assertEqual(status, 0, err)
            sealed[name] = out
        for value in sealed.values():
            status, out, err = self.run_tool("decrypt", "--encryption-provider-config", config, "--key",
                                             "/registry/secrets/a/b", stdin=value)
            self.assertEqual((status, out), (0, b"value"), err)


class Fake(Fips):
    def test_needs_the_provider(self):
        """The proof that each primitive is the provider's: without it neither program starts, and it is named."""
        programs = ([self.binary, "serve", "--encryption-provider-config", self.config],
                    [harness.program("etcd-envelope-local-kms"), "--generate-key", self.env.path("never")])
        for missing in NEEDED:
            for argv in programs:
                with self.subTest(missing=missing, program=argv[0]):
                    done = subprocess.run([str(a) for a in argv], capture_output=True, timeout=60, check=False,
                                          env={**os.environ, **self.fips, "FAKE_FIPS_WITHOUT": missing})
                    self.assertEqual(done.returncode, 1)
                    said = done.stderr.decode()
                    self.assertIn("fips=yes, but no active provider has", said)
                    self.assertIn("random" if missing == "CTR-DRBG" else missing, said)
        self.assertFalse(self.env.path("never").exists())

    def test_broken_configuration(self):
        """No FIPS provider at all, or one that can't be loaded: nothing falls back to other algorithms."""
        path = self.env.path("broken.cnf")
        for fips in ("[fips_sect]\nactivate = 1\nmodule = /nowhere.so\n", "[fips_sect]\n"):
            path.write_text(CONF.format(fips=fips))
            status, out, err = self.run_tool("encrypt", "--encryption-provider-config", self.config, "--key",
                                             "/registry/secrets/a/b", stdin=b"value", OPENSSL_CONF=str(path))
            self.assertEqual((status, out), (1, b""), err)
            self.assertIn("activate the FIPS provider in openssl.cnf", err)

    def test_version_and_help_need_nothing(self):
        for word in ("version", "help"):
            self.assertEqual(self.run_tool(word, FAKE_FIPS_WITHOUT="HKDF")[0], 0)


class Real(Fips):
    provider_name = "OpenSSL FIPS Provider"

    @classmethod
    def conf(cls):
        modules = pathlib.Path(subprocess.run(["openssl", "version", "-m"], capture_output=True, text=True, check=True)
                               .stdout.split('"')[1])
        installed = sorted(pathlib.Path("/").glob("usr/lib/ssl/fipsmodule.cnf")) + sorted(
            pathlib.Path("/").glob("etc/ssl/fipsmodule.cnf"))
        if not (modules / "fips.so").exists():
            raise unittest.SkipTest("NOTICE: no FIPS provider here (Debian 13: openssl-provider-fips)")
        if installed:
            return CONF.format(fips=f".include {installed[0]}\n"), {}
        made = cls.env.path("fipsmodule.cnf")
        subprocess.run(["openssl", "fipsinstall", "-module", modules / "fips.so", "-out", made], check=True,
                       capture_output=True, timeout=120)
        return CONF.format(fips=f".include {made}\n"), {}


del Fips  # the base of both

if __name__ == "__main__":
    harness.main()
