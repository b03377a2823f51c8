#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check: does it foretell what serve does, in serve's own words, and see what is wrong with plugin, etcd, values and
certificates?"""
import datetime
import json
import os
import subprocess

from cluster_tool import (ERROR, NOT_AS_WANTED, OK, PREFIX, UNREACHABLE, UNREADABLE, USAGE, ClusterTool, new_key)
import harness
from harness import wait_until

GOLDEN = harness.ROOT / "tests" / "golden"


class Check(ClusterTool):
    def check(self, config, *flags, status=OK, **options):
        """{(level, what): [texts]} of the findings."""
        out, _ = self.tool("check", config, "--output", "json", *flags, status=status, **options)
        found = {}
        for finding in json.loads(out)["findings"]:
            found.setdefault((finding["level"], finding["what"]), []).append(finding["text"])
        return found

    def mixed(self, **options):
        return self.configure(self.kms_provider(), "identity: {}", **options)

    # --- all of it ---

    def test_all_well(self):
        self.sealed(3)
        found = self.check(self.mixed())
        self.assertFalse([key for key in found if key[0] in ("fail", "warn")], found)
        self.assertIn("secrets at /registry/secrets: written with kms v2 test; only read with identity (plaintext)",
                      found["ok", "protected"])
        self.assertIn("wraps a key and unwraps it again", found["ok", "KMS"][0])
        self.assertEqual(found["ok", "values"], ["secrets: the first 3 open, and are as they would be written now"])
        self.assertGreater(self.kms.calls["Decrypt"], 0)
        out, _ = self.tool("check", self.mixed())
        self.assertRegex(out, r"0 failed, 0 warnings, \d+ notes?, \d+ ok")

    def test_nothing_is_written(self):
        self.plain(3)
        revision = self.raw.get(b"x").header.revision
        self.check(self.mixed())
        self.assertEqual(self.raw.get(b"x").header.revision, revision)

    def test_one_page_of_many(self):
        self.fill(3000)
        text = self.check(self.mixed())["note", "values"][0]
        self.assertIn("secrets: of the first 100, 100 are plaintext", text)

    # --- plugins ---

    def test_plugin_away(self):
        found = self.check(self.configure(self.kms_provider(path="/nowhere.sock")), status=UNREACHABLE)
        self.assertIn("cannot be used", found["fail", "KMS"][0])

    def test_plugin_that_does_not_unwrap(self):
        kms = self.env.kms("odd")
        config = self.configure(self.kms_provider(path=kms.path))
        kms.wrong_dek = True
        found = self.check(config, status=UNREACHABLE)
        self.assertIn("does not unwrap it", found["fail", "KMS"][0])
        kms.wrong_dek = False
        kms.error["Decrypt"] = (harness.Code.INTERNAL, "no")
        self.assertIn("does not unwrap it", self.check(config, status=UNREACHABLE)["fail", "KMS"][0])
        kms.error.clear()
        self.check(config)

    def test_kms_v1(self):
        v1 = self.configure(f"kms: {{apiVersion: v1, name: old, endpoint: 'unix://{self.kms.path}'}}")
        found = self.check(v1, "--allow-kms-v1-writes")
        self.assertIn("healthy", found["ok", "KMS"][0])

    # --- etcd and values ---

    def test_values(self):
        self.plain(2)
        found = self.check(self.configure(self.kms_provider()), status=UNREADABLE)
        self.assertIn("identity is not in the provider list", found["fail", "values"][0])
        self.raw.put(PREFIX + b"ns/lost", b"k8s:enc:aescbc:v1:lost:" + bytes(48))
        found = self.check(self.mixed(), status=UNREADABLE)
        self.assertIn("1 do not open", found["fail", "values"][0])

    def test_wrong_prefix(self):
        self.plain(1)
        found = self.check(self.mixed(), "--etcd-prefix", "/registri")
        self.assertIn("under /registry, but none under --etcd-prefix (/registri/)", found["warn", "values"][0])
        self.raw.put(b"/registri/pods/ns/a", b"x")
        self.assertNotIn(("warn", "values"), self.check(self.mixed(), "--etcd-prefix", "/registri"))

    def test_etcd_away(self):
        found = self.check(self.mixed(), servers=f"http://127.0.0.1:{harness.free_port()}", status=UNREACHABLE)
        self.assertIn("does not answer", found["fail", "etcd"][0])
        self.assertIn(("ok", "KMS"), found)

    def test_http_and_https_mixed_up(self):
        """Said as what it is, not as the odd frame or record that it looks like."""
        tls = self.env.tls("mixed")
        secure = self.env.etcd(name="secure", tls=tls)
        found = self.check(self.mixed(), servers=secure.url.replace("https:", "http:"), status=UNREACHABLE)
        self.assertIn("(http where it should be https?)", found["fail", "etcd"][0])
        found = self.check(self.mixed(), "--etcd-cafile", tls.path("ca.crt"), servers=self.etcd.url.replace("http:", "https:"),
                           status=UNREACHABLE)
        self.assertIn("(https where it should be http?)", found["fail", "etcd"][0])
        secure.stop()

    def test_proxy_in_place_of_etcd(self):
        proxy = self.env.proxy(self.etcd, self.mixed())
        found = self.check(self.mixed(), servers=proxy.listen[0], status=USAGE)
        self.assertIn("is a proxy of etcd-envelope", found["fail", "etcd"][0])
        proxy.stop()

    # --- files ---

    def serve(self, config, *flags):
        """(exit status, last line) of a serve that is refused; (None, "") when it starts."""
        defaults = ["--etcd-servers", self.etcd.url, "--listen-client-urls", f"http://127.0.0.1:{harness.free_port()}"]
        argv = [self.binary, "serve", "--encryption-provider-config", os.fspath(config), "--listen-metrics-urls", ""]
        for name, value in zip(defaults[::2], defaults[1::2]):
            argv += [] if name in flags else [name, value]
        process = self.env.start("serve", argv + list(flags))
        wait_until(lambda: not process.alive() or "KMS ready" in process.log(), 20, "start or refusal")
        if process.alive():
            process.kill()
            return None, ""
        return process.popen.wait(), process.log().splitlines()[-1]

    def test_serve_says_the_same(self):
        """What the files and flags alone show: check refuses what serve refuses, with the same status and words."""
        tls, other = self.env.tls("one"), self.env.tls("two")
        good = self.mixed(name="good")
        broken = self.env.path("broken.yaml")
        broken.write_text("kind: Nonsense\n")
        pair = ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key")]
        cases = [
            (self.configure("identity: {}", self.kms_provider(), name="first"), []),
            (self.configure("identity: {}", name="alone"), []),
            (self.configure(f"kms: {{name: old, endpoint: 'unix://{self.kms.path}'}}", name="v1"), []),
            (self.configure("aescbc: {keys: [{name: k, secret: AAAA}]}", name="short"), []),
            (self.configure("rot13: {}", name="rot13"), []),
            (self.configure(self.kms_provider(), name="none", resources="''"), []),
            (broken, []), (self.env.path("missing.yaml"), []),
            (good, ["--listen-client-urls", "http://0.0.0.0:1"]),
            (good, ["--listen-client-urls", "https://127.0.0.1:1", "--cert-file", tls.path("server.crt"), "--key-file",
                    other.path("server.key")]),
            (good, ["--listen-client-urls", "https://0.0.0.0:1", *pair]),
            (good, ["--listen-client-urls", "https://127.0.0.1:1", *pair, "--trusted-ca-file", "/missing.crt"]),
            (good, ["--etcd-servers", "https://127.0.0.1:1", "--etcd-cafile", "/missing.crt"]),
            (good, ["--etcd-servers", "ftp://127.0.0.1"]),
            (good, ["--cert-file", "x"]), (good, ["--nope"]),
            (good, ["--user", "nobody-of-that-name"]), (good, ["--user", "root"]),
            (good, ["--protect-prefix", "x=y"]), (good, ["--advertise-client-urls", "gopher://x"]),
        ]
        for config, flags in cases:
            with self.subTest(config=config, flags=flags):
                status, line = self.serve(config, *flags)
                self.assertIn(status, (ERROR, USAGE))
                out, err = self.tool("check", config, "--offline", *flags, status=status)
                self.assertEqual((out, err.splitlines()[-1]), ("", line))
        for flags in ([], ["--listen-client-urls", f"https://127.0.0.1:{harness.free_port()}", *pair]):
            self.assertEqual(self.serve(good, *flags), (None, ""))
            self.tool("check", good, "--offline", *flags)

    def test_unknown_environment(self):
        """A variable that no flag has is not passed over in silence; serve says so, too."""
        env = {"ETCD_ENVELOPE_ETCD_PREFFIX": "/other", "ETCD_ENVELOPE_SERVICE_HOST": "10.0.0.1"}
        text = self.check(self.mixed(), "--offline", env=env)["warn", "configuration"][0]
        self.assertIn("ETCD_ENVELOPE_ETCD_PREFFIX is not used: no flag has this name, did you mean --etcd-prefix?", text)
        self.sealed(1)
        _, err = self.tool("verify", self.mixed(), env=env)
        self.assertIn("variable=ETCD_ENVELOPE_ETCD_PREFFIX did_you_mean=--etcd-prefix", err)
        self.assertNotIn("SERVICE_HOST", err)
        _, err = self.tool("verify", self.mixed(), env={"ETCD_ENVELOPE_ZOO_KEEPER": "1"})
        self.assertIn("variable=ETCD_ENVELOPE_ZOO_KEEPER\n", err)
        text = self.check(self.mixed(), "--offline", env={"ETCD_ENVELOPE_ZOO_KEEPER": "1"})["warn", "configuration"][0]
        self.assertTrue(text.endswith("no flag has this name"), text)

    def test_offline_asks_nobody(self):
        config = self.configure(self.kms_provider(path="/nowhere.sock"))
        found = self.check(config, "--offline", servers="http://127.0.0.1:1")
        self.assertEqual({what for _, what in found}, {"configuration", "protected"})

    def test_golden_validation(self):
        """kube-apiserver's own verdicts on configurations, reload rules included."""
        vectors = json.loads((GOLDEN / "config-validation.json").read_text())["vectors"]
        path, judged = self.env.path("golden.yaml"), {True: 0, False: 0}
        for vector in vectors[::10 if harness.SANITIZED else 1]:
            path.write_text(vector["detail"]["encryption_configuration"])
            path.chmod(0o600)
            flags = ["--offline", "--allow-identity-writes", "--allow-kms-v1-writes"]
            if vector["detail"]["reload"]:
                flags.append("--encryption-provider-config-automatic-reload")
            done = subprocess.run(self.argv("check", path, *flags), capture_output=True, check=False, timeout=60)
            # A valid one may protect nothing that there is, which serve refuses by itself.
            if b"protects nothing" in done.stderr and vector["expect"]["ok"]:
                continue
            with self.subTest(vector=vector["id"]):
                self.assertEqual(done.returncode == OK, vector["expect"]["ok"], done.stderr)
            judged[vector["expect"]["ok"]] += 1
        self.assertGreater(min(judged.values()), 3 if harness.SANITIZED else 50)

    # --- certificates ---

    def issue(self, tls, name, days, hosts):
        """A server certificate that ends in so many days, for these names."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(tls.ca.subject)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - datetime.timedelta(days=100))
                       .not_valid_after(now + datetime.timedelta(days=days))
                       .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=True)
                       .sign(tls.ca_key, hashes.SHA256()))
        tls.path(name + ".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        tls.path(name + ".key").touch(0o600)
        tls.path(name + ".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                              serialization.NoEncryption()))
        return ["--cert-file", tls.path(name + ".crt"), "--key-file", tls.path(name + ".key")]

    def test_certificates(self):
        tls, config = self.env.tls("certs"), self.mixed()
        url = ["--listen-client-urls", "https://localhost:2000"]
        long = self.issue(tls, "long", 300, ["localhost"])
        self.assertIn("valid until", self.check(config, "--offline", *url, *long)["ok", "TLS"][0])
        tls.path("long.key").chmod(0o644)
        self.assertIn("open to others (mode 0644)", self.check(config, "--offline", *url, *long)["warn", "TLS"][0])
        tls.path("long.key").chmod(0o600)
        soon = self.issue(tls, "soon", 5, ["localhost"])
        self.assertIn("less than 30 days", self.check(config, "--offline", *url, *soon)["warn", "TLS"][0])
        over = self.issue(tls, "over", -1, ["localhost"])
        self.assertIn("over since", self.check(config, "--offline", *url, *over, status=NOT_AS_WANTED)["fail", "TLS"][0])
        odd = self.issue(tls, "odd", 300, ["other.example"])
        found = self.check(config, "--offline", *url, *odd, status=NOT_AS_WANTED)
        self.assertIn("does not name localhost", found["fail", "TLS"][0])
        wild = ["--listen-client-urls", "https://0.0.0.0:2000", "--trusted-ca-file", tls.path("ca.crt"),
                "--advertise-client-urls", "https://other.example:2000"]
        self.check(config, "--offline", *wild, *odd)
        self.check(config, "--offline", *wild, *long, status=NOT_AS_WANTED)

    def test_revoked_clients(self):
        """The list that is in force, and that it stays so when it is out of date, as with etcd."""
        tls, config = self.env.tls("revoked"), self.mixed()
        crl = tls.path("clients.crl")
        flags = ["--offline", "--listen-client-urls", "https://localhost:2000", *self.issue(tls, "proxy", 300, ["localhost"]),
                 "--trusted-ca-file", tls.path("ca.crt"), "--client-crl-file", crl]
        for days, level, part in ((1, "ok", "revoked: 2"), (-1, "note", "out of date since")):
            crl.write_bytes(self.revocations(tls, days))
            self.assertTrue(any(part in t and "revoked: 2" in t for t in self.check(config, *flags)[level, "TLS"]), days)

    def revocations(self, tls, days):
        """A list of two serial numbers that is good for so many days from now."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateRevocationListBuilder().issuer_name(tls.ca.subject)
                   .last_update(now - datetime.timedelta(days=10)).next_update(now + datetime.timedelta(days=days)))
        for number in (5, 6):
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(number)
                                                      .revocation_date(now - datetime.timedelta(days=10)).build())
        return builder.sign(tls.ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    # --- what it says ---

    def test_refusals_are_findings(self):
        """Who reads JSON gets JSON, whatever serve would refuse; in the words of standard error."""
        config, broken = self.mixed(), self.env.path("broken.yaml")
        broken.write_text("kind: Nothing")
        for file, flags, status, what in ((broken, (), ERROR, "files"),
                                          (config, ("--listen-client-urls", "http://192.0.2.1:1"), USAGE, "flags"),
                                          (config, ("--etcd-cafile", "/nowhere", "--etcd-servers", "https://127.0.0.1:1"), ERROR,
                                           "files")):
            out, err = self.tool("check", file, "--offline", "--output", "json", *flags, status=status)
            found = json.loads(out)
            self.assertEqual([f["what"] for f in found["findings"]], [what])
            self.assertEqual(found["failures"], 1)
            self.assertIn(found["findings"][0]["text"], err)

    def test_password_open_to_others(self):
        password = self.env.path("password")
        password.write_text("secret\n")
        password.chmod(0o644)
        found = self.check(self.mixed(), "--offline", "--etcd-user", "proxy", "--etcd-password-file", password)
        self.assertIn("open to others (mode 0644)", found["warn", "etcd user"][0])

    def test_rules_are_explained(self):
        config = self.configure(self.local("aesgcm", ("k2", new_key()), ("k1", new_key())), self.kms_provider(),
                                self.local("secretbox", ("a", new_key()), ("b", new_key())),
                                resources="secrets, widgets.example.com, nosuchs")
        config.chmod(0o644)
        found = self.check(config, "--offline")
        texts = found["ok", "protected"]
        self.assertIn("secrets at /registry/secrets: written with aesgcm v1 with key k2 (reads also with k1); "
                      "only read with kms v2 test, secretbox v1 with keys a, b", texts)
        self.assertTrue(any("/registry/example.com/widgets" in t for t in texts))
        self.assertTrue(any("open to others" in t for t in found["warn", "configuration"]))

    def test_usage(self):
        config = self.mixed()
        for flags in (["--output", "yaml"], ["--offline=perhaps"], ["--rate", "3"]):
            self.tool("check", config, *flags, status=USAGE)
        done = subprocess.run([self.binary, "check", "--help"], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (OK, b""))
        self.assertEqual(subprocess.run([self.binary, "check"], capture_output=True, check=False).returncode, USAGE)


if __name__ == "__main__":
    harness.main()
