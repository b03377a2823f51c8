#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""verify: does it tell the truth about what lies in etcd, whatever becomes of etcd and the plugin meanwhile?"""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from cluster_tool import (COUNT, ERROR, NOT_AS_WANTED, OK, PREFIX, UNREACHABLE, UNREADABLE, USAGE, ClusterTool, new_key)
import harness
from harness import wait_until


def states(report):
    return {k: report["total"][k] for k in ("objects", "current_key", "older_key", "other_provider", "plaintext",
                                            "unreadable")}


class Verify(ClusterTool):
    def counts(self, **wanted):
        return {**dict.fromkeys(("objects", "current_key", "older_key", "other_provider", "plaintext", "unreadable"), 0),
                **wanted}

    # --- states ---

    def test_empty(self):
        report = self.verify(self.configure(self.kms_provider()))
        self.assertEqual(states(report), self.counts())
        out, _ = self.tool("verify", self.configure(self.kms_provider()))
        self.assertIn("etcd holds no value of the protected resources", out)

    def test_current(self):
        self.sealed(30)
        config = self.configure(self.kms_provider())
        self.assertEqual(states(self.verify(config)), self.counts(objects=30, current_key=30))
        out, err = self.tool("verify", config)
        self.assertIn("All 30 values are as they would be written now, and each opens", out)
        self.assertIn("No value is plaintext as of revision", out)
        self.assertNotIn("warn", err)

    def test_each_state(self):
        """Every state in one cluster; the keys in use are told apart, each with its count."""
        secret, other = new_key(), new_key()
        old = self.configure(self.local("aescbc", ("k1", secret)), name="old")
        self.sealed(3)
        self.sealed(4, "key-0")
        self.plain(5)
        for i in range(2):
            key = "/registry/secrets/ns/cbc%d" % i
            done = subprocess.run([self.binary, "encrypt", "--key", key, "--encryption-provider-config", old],
                                  input=b"x", capture_output=True, check=True)
            self.raw.put(key.encode(), done.stdout)
        self.raw.put(PREFIX + b"ns/moved", self.raw.value(PREFIX + b"ns/key-1-00000"))
        self.raw.put(PREFIX + b"ns/unknown", b"k8s:enc:secretbox:v1:lost:" + bytes(60))
        config = self.configure(self.kms_provider(), self.local("aescbc", ("k0", other), ("k1", secret)), "identity: {}")
        report = self.verify(config, status=UNREADABLE)
        self.assertEqual(states(report), self.counts(objects=16, current_key=3, older_key=4, other_provider=2, plaintext=5,
                                                     unreadable=2))
        self.assertEqual(report["total"]["due_for_rewrite"], 11)
        keys = {(k["state"], k["provider"], k.get("reason")): k for k in report["resources"][0]["keys"]}
        self.assertEqual(keys["other provider", "aescbc v1", None]["key"], "k1")
        self.assertEqual(keys["unreadable", "secretbox v1", "no_matching_prefix"]["key"], "lost")
        self.assertEqual(keys["unreadable", "kms v2 test", "auth_failed"]["objects"], 1)
        self.assertTrue(keys["older key", "kms v2 test", None]["key"].startswith("sha256:"))
        self.assertNotEqual(keys["older key", "kms v2 test", None]["key"], keys["current key", "kms v2 test", None]["key"])
        for what, wanted in (("unreadable", {b"moved", b"unknown"}), ("plaintext", {b"plain%05d" % i for i in range(5)}),
                             ("stale", {b"key-0-%05d" % i for i in range(4)} | {b"cbc0", b"cbc1"})):
            out, err = self.tool("verify", config, "--list", what, status=UNREADABLE)
            self.assertEqual({line.split("\t")[0].rsplit("/", 1)[1].encode() for line in out.splitlines()}, wanted)
            self.assertIn("RESOURCE", err)
            listed = self.verify(config, "--list", what, status=UNREADABLE)["keys"]
            self.assertEqual({k["key"].rsplit("/", 1)[1].encode() for k in listed}, wanted)

    def test_older_local_key(self):
        first, second = new_key(), new_key()
        old = self.configure(self.local("aesgcm", ("k1", first)), name="old")
        key = "/registry/secrets/ns/a"
        stored = subprocess.run([self.binary, "encrypt", "--key", key, "--encryption-provider-config", old], input=b"x",
                                capture_output=True, check=True).stdout
        self.raw.put(key.encode(), stored)
        self.assertEqual(states(self.verify(old)), self.counts(objects=1, current_key=1))
        new = self.configure(self.local("aesgcm", ("k2", second), ("k1", first)), name="new")
        self.assertEqual(states(self.verify(new, status=NOT_AS_WANTED)), self.counts(objects=1, older_key=1))
        self.assertEqual(states(self.verify(new, "--no-open", status=NOT_AS_WANTED)), self.counts(objects=1, older_key=1))
        lost = self.configure(self.local("aesgcm", ("k2", second)), name="lost")
        report = self.verify(lost, status=UNREADABLE)
        self.assertEqual(report["resources"][0]["keys"][0]["key"], "k1")

    def test_plaintext_without_identity(self):
        """The proxy refuses to give it out: so does verify call it unreadable, and says why."""
        self.plain(3)
        config = self.configure(self.kms_provider())
        report = self.verify(config, status=UNREADABLE)
        self.assertEqual((report["total"]["plaintext"], report["total"]["plaintext_refused"]), (3, 3))
        out, _ = self.tool("verify", config, status=UNREADABLE)
        self.assertIn("identity is not in the provider list", out)
        out, _ = self.tool("verify", config, "--list", "unreadable", status=UNREADABLE)
        self.assertEqual(len(out.splitlines()), 3)

    def test_identity_first(self):
        """On the way back to plaintext it is the other way round: sealed values are due, plaintext is not."""
        self.plain(2)
        self.sealed(3)
        config = self.configure("identity: {}", self.kms_provider())
        report = self.verify(config, status=NOT_AS_WANTED)
        self.assertEqual(report["total"]["due_for_rewrite"], 3)
        self.raw.delete(b"\0", b"\0")
        self.plain(2)
        out, _ = self.tool("verify", config)
        self.assertIn("2 of them in plaintext, not encrypted", out)

    def test_not_protected(self):
        """What is no protected key is not looked at, names that begin alike above all."""
        for key in (b"/registry/secretsfoo/a", b"/registry/secrets.example/a", b"/registry/pods/ns/a", b"/other/secrets/a"):
            self.raw.put(key, b"plain")
        self.raw.put(b"/registry/secrets", b"the prefix itself")
        report = self.verify(self.configure(self.kms_provider(), "identity: {}"), status=NOT_AS_WANTED)
        self.assertEqual(report["total"]["objects"], 1)

    def test_wrong_prefix(self):
        """Keys lie elsewhere than under --etcd-prefix: that proves nothing, and is told. Where they are those of a
        kube-apiserver verify says so by its status, too."""
        config, flags = self.configure(self.kms_provider(), "identity: {}"), ["--etcd-prefix", "/registri"]
        for key, inside, status in ((b"/registry/secrets/ns/a", b"/registri/pods/ns/a", NOT_AS_WANTED),
                                    (b"/kubernetes.io/pods/ns/a", b"/registri/x", NOT_AS_WANTED),
                                    (b"/other/a", b"/registri/0/", OK)):
            self.raw.delete(b"\0", b"\0")
            self.raw.put(key, b"plain")
            report = self.verify(config, *flags, status=status)
            self.assertEqual((report["total"]["objects"], report["keys_only_outside_of_prefix"]), (0, True))
            self.assertEqual(report["result"], "nothing looked at" if status else "good")
            out, err = self.tool("verify", config, *flags, status=status)
            self.assertIn("none under --etcd-prefix (/registri/)", out)
            self.assertIn("warn  etcd holds keys, but none under --etcd-prefix", err)
            self.assertNotIn("No value is plaintext", out)
            _, err = self.tool("reencrypt", config, *flags, "--dry-run")
            self.assertIn("warn  etcd holds keys, but none under --etcd-prefix", err)
            self.raw.put(inside, b"x")
            report = self.verify(config, *flags)
            self.assertEqual((report["result"], report["keys_only_outside_of_prefix"]), ("good", False))

    def test_resources(self):
        self.plain(2)
        self.plain(3, b"/registry/configmaps/ns/")
        self.plain(4, b"/registry/example.com/widgets/ns/")
        config = self.configure(self.kms_provider(), "identity: {}", resources="secrets, configmaps, widgets.example.com")
        report = self.verify(config, status=NOT_AS_WANTED)
        self.assertEqual({r["resource"]: r["objects"] for r in report["resources"]},
                         {"secrets": 2, "configmaps": 3, "widgets.example.com": 4})
        report = self.verify(config, "--resource", "configmaps", "--resource=widgets.example.com", status=NOT_AS_WANTED)
        self.assertEqual({r["resource"]: r["objects"] for r in report["resources"]},
                         {"configmaps": 3, "widgets.example.com": 4})
        _, err = self.tool("verify", config, "--resource", "secret", status=USAGE)
        self.assertIn('"secret" is no resource', err)
        everything = self.configure(self.kms_provider(), "identity: {}", resources="'*.*'", name="all")
        self.raw.put(b"/registry/pods/ns/a", b"plain")
        self.assertEqual(self.verify(everything, status=NOT_AS_WANTED)["total"]["objects"], 10)

    def test_nothing_protected(self):
        """A file of identity alone proves nothing, and does not look like a proof."""
        self.sealed(2)
        alone = self.configure("identity: {}", name="alone")
        out, _ = self.tool("verify", alone, status=NOT_AS_WANTED)
        self.assertIn("This configuration protects nothing", out)
        self.assertEqual(self.verify(alone, status=NOT_AS_WANTED)["result"], "nothing looked at")

    def test_new_configuration(self):
        """A file that is not in force yet: which of what lies in etcd could it not open?"""
        self.sealed(3)
        good = self.configure(self.kms_provider("next"), self.kms_provider(), name="good")
        self.assertEqual(states(self.verify(good, status=NOT_AS_WANTED)), self.counts(objects=3, other_provider=3))
        bad = self.configure(self.kms_provider("next"), name="bad")
        report = self.verify(bad, "--list", "unreadable", status=UNREADABLE)
        self.assertEqual(len(report["keys"]), 3)
        self.assertEqual(report["resources"][0]["keys"][0]["provider"], "kms v2 test")

    def test_no_open(self):
        """Needs no plugin; a value that is not authentic passes, and it says so."""
        self.sealed(3)
        self.raw.put(PREFIX + b"ns/moved", self.raw.value(PREFIX + b"ns/key-1-00000"))
        config = self.configure(self.kms_provider(path="/nowhere.sock"))
        report = self.verify(config, "--no-open")
        self.assertEqual((report["opened"], states(report)), (False, self.counts(objects=4, current_key=4)))
        self.sealed(1, "key-2")  # of two key ids one at least is not the present one
        self.verify(config, "--no-open", status=NOT_AS_WANTED)
        self.raw.put(PREFIX + b"ns/broken", b"k8s:enc:kms:v2:test:\xff")
        self.verify(config, "--no-open", status=UNREADABLE)
        out, _ = self.tool("verify", config, "--no-open", status=UNREADABLE)
        self.assertIn("--no-open", out)

    def test_sizes(self):
        """Values of 0 bytes to 1.4 MiB, many of the large ones in a row: pages adapt."""
        sizes = [0, 1, 100] + [1_400_000] * (5 if harness.SANITIZED else 40) + [10] * 300
        for i, size in enumerate(sizes):
            self.raw.put(PREFIX + b"ns/%05d" % i, b"x" * size)
        report = self.verify(self.configure(self.kms_provider(), "identity: {}"), status=NOT_AS_WANTED)
        self.assertEqual(report["total"]["plaintext"], len(sizes))

    def test_evidence(self):
        self.sealed(1)
        report = self.verify(self.configure(self.kms_provider()))
        status = self.raw.get(b"x").header
        self.assertEqual(report["to"], {"cluster_id": f"{status.cluster_id:x}", "member_id": f"{status.member_id:x}",
                                        "revision": status.revision})
        self.assertTrue(report["configuration"].startswith("sha256:"))
        self.assertTrue(report["etcd_version"].startswith("3."))
        self.assertEqual(report["result"], "good")

    def test_odd_keys(self):
        """What a key holds can break neither the list nor the JSON."""
        odd = [b'a"b', b"a\nb", b"a\\b", b"\xff\xfe", b"%41", b"\x1b[2J"]
        for key in odd:
            self.raw.put(PREFIX + key, b"plain")
        config = self.configure(self.kms_provider(), "identity: {}")
        out, _ = self.tool("verify", config, "--list", "plaintext", status=NOT_AS_WANTED)
        self.assertEqual(len(out.splitlines()), len(odd))
        self.assertNotIn("\x1b", out)
        keys = self.verify(config, "--list", "plaintext", status=NOT_AS_WANTED)["keys"]
        self.assertEqual({k["key"].encode("latin-1") for k in keys}, {PREFIX + key for key in odd})

    # --- etcd ---

    def test_proxy_is_refused(self):
        """In clear and with TLS; etcd itself is never taken for one (every other test)."""
        config = self.configure(self.kms_provider(), "identity: {}")
        tls = self.env.tls()
        clear = self.env.proxy(self.etcd, config, name="clear")
        flags = ["--cert-file", tls.path("server.crt"), "--key-file", tls.path("server.key")]
        port = harness.free_port()
        secure = self.env.proxy(self.etcd, config, name="secure", listen=[f"https://127.0.0.1:{port}"], flags=flags, wait=False)
        wait_until(lambda: "listening" in secure.process.log(), 10, "proxy")
        for url in clear.listen[0], f"https://127.0.0.1:{port}":
            for tool in ("verify", "reencrypt") if self.has_reencrypt() else ("verify",):
                out, err = self.tool(tool, config, "--etcd-cafile", tls.path("ca.crt"), servers=url, status=USAGE)
                self.assertIn(f"{url} is a proxy of etcd-envelope", err)
                self.assertEqual(out, "")
        # To be asked who one is is nothing that was refused; another unknown method is.
        self.assertEqual(clear.metric("etcd_envelope_refused_total", 'reason="unknown_method"'), 0)
        self.assertNotIn("unknown_method", clear.process.log() + secure.process.log())
        self.assertStatus(harness.Code.UNIMPLEMENTED, clear.client.unary, "/etcd_envelope.Proxy/Other", b"", bytes)
        wait_until(lambda: clear.metric("etcd_envelope_refused_total", 'reason="unknown_method"') == 1, 20, "count")
        clear.stop()
        secure.stop()

    def has_reencrypt(self):
        return b"etcd-envelope reencrypt" in subprocess.run([self.binary, "--help"], capture_output=True, check=True).stdout

    def test_etcdctl_environment(self):
        self.plain(1)
        config = self.configure(self.kms_provider(), "identity: {}")
        argv = [self.binary, "verify", "--encryption-provider-config", config]
        for env, status in (({"ETCDCTL_ENDPOINTS": self.etcd.url}, NOT_AS_WANTED),
                            ({"ETCDCTL_ENDPOINTS": f"127.0.0.1:{self.etcd.port}"}, NOT_AS_WANTED),
                            ({"ETCDCTL_ENDPOINTS": "http://127.0.0.1:1", "ETCD_ENVELOPE_ETCD_SERVERS": self.etcd.url},
                             NOT_AS_WANTED),
                            ({"ETCDCTL_ENDPOINTS": self.etcd.url, "ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"}, USAGE),
                            ({"ETCDCTL_ENDPOINTS": "gopher://x"}, USAGE)):
            done = subprocess.run(argv, capture_output=True, env={**os.environ, **env}, check=False, timeout=60)
            self.assertEqual(done.returncode, status, done.stderr)

    def test_tls(self):
        tls = self.env.tls("etcd-tls")
        etcd = self.env.etcd(name="tls", tls=tls)
        etcd.client.put(PREFIX + b"a/b", b"plain")
        config = self.configure(self.kms_provider(), "identity: {}")
        files = ["--etcd-cafile", tls.path("ca.crt"), "--etcd-certfile", tls.path("client.crt"), "--etcd-keyfile",
                 tls.path("client.key")]
        self.assertEqual(self.verify(config, *files, servers=etcd.url, status=NOT_AS_WANTED)["total"]["objects"], 1)
        env = {"ETCDCTL_CACERT": tls.path("ca.crt"), "ETCDCTL_CERT": tls.path("client.crt"),
               "ETCDCTL_KEY": tls.path("client.key")}
        env = {k: os.fspath(v) for k, v in env.items()}
        self.verify(config, servers=etcd.url, env=env, status=NOT_AS_WANTED)
        self.tool("verify", config, "--etcd-cafile", tls.path("ca.crt"), servers=etcd.url, status=UNREACHABLE)
        self.check_no_downgrade(config, etcd, files)
        etcd.stop()

    def check_no_downgrade(self, config, etcd, files):
        """ETCDCTL_ENDPOINTS without a scheme is TLS whoever says so: a flag, our variables, etcdctl's, a file."""
        flags = dict(zip(files[::2], map(os.fspath, files[1::2])))
        ours = {"ETCD_ENVELOPE_" + name[2:].upper().replace("-", "_"): value for name, value in flags.items()}
        settings = self.env.path("tls-settings.yaml")
        settings.write_text("".join(f"{name[2:]}: {value}\n" for name, value in flags.items()))
        argv = [self.binary, "verify", "--encryption-provider-config", config]
        cases = [(files, {}, NOT_AS_WANTED), ([], ours, NOT_AS_WANTED),
                 (["--config-file", settings], {}, NOT_AS_WANTED),
                 ([], {"ETCDCTL_INSECURE_TRANSPORT": "false"}, UNREACHABLE)]
        for more, env, status in cases:
            env = {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{etcd.port}", **env}
            done = subprocess.run([*argv, *more], capture_output=True, env={**os.environ, **env}, check=False,
                                  timeout=60)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertNotIn(b"http://", done.stdout + done.stderr)

    def test_next_server(self):
        self.plain(1)
        config = self.configure(self.kms_provider(), "identity: {}")
        dead = f"http://127.0.0.1:{harness.free_port()}"
        self.verify(config, servers=f"{dead},{self.etcd.url}", status=NOT_AS_WANTED)

    def test_away(self):
        config = self.configure(self.kms_provider())
        out, err = self.tool("verify", config, servers=f"http://127.0.0.1:{harness.free_port()}", status=UNREACHABLE)
        self.assertIn("does not answer", err)
        self.assertEqual(out, "")

    def test_kms_away(self):
        self.sealed(1)
        config = self.configure(self.kms_provider(path="/nowhere.sock"))
        out, err = self.tool("verify", config, status=UNREACHABLE)
        self.assertIn("KMS provider test", err)
        self.assertIn("could not be reached", err)
        self.assertNotRegex(err, r"no_state|kms_away")
        self.assertEqual(out, "")

    def test_compacted_meanwhile(self):
        """Writes and compactions go on all the time; nothing that was there all along is missed or counted twice."""
        self.fill(COUNT // 4, 2048)
        config = self.configure(self.kms_provider(), "identity: {}")
        stop = threading.Event()

        def write():
            while not stop.is_set():
                revision = self.raw.put(b"/registry/pods/x", b"x").header.revision
                self.raw.compact(revision, physical=False)
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(10):  # a run over few values may be too quick
                report = self.verify(config, status=NOT_AS_WANTED)
                if report["compacted_meanwhile"] > 0:
                    break
        finally:
            stop.set()
            thread.join()
        self.assertEqual(report["total"]["plaintext"], COUNT // 4)
        self.assertGreater(report["compacted_meanwhile"], 0)
        self.assertGreater(report["to"]["revision"], report["from"]["revision"])

    def test_many_in_bounded_memory(self):
        self.fill(COUNT)
        process = self.begin("verify", self.configure(self.kms_provider(), "identity: {}"))
        peak = self.peak_of(process)
        self.assertEqual(self.finish(process), NOT_AS_WANTED)
        self.assertIn(f"{COUNT} values are not as they would be", process.log())
        if not harness.SANITIZED:
            self.assertGreater(peak, 1)
            self.assertLess(peak, 64)

    @harness.timing
    def test_many_keys_at_a_time(self):
        """160 values with a DEK each, a plugin that takes 50 ms: one after the other that would be 8 s."""
        self.sealed(160)
        kms = self.env.kms("slow")
        kms.delay["Decrypt"] = 0.05
        began = time.monotonic()
        self.assertEqual(self.verify(self.configure(self.kms_provider(path=kms.path)))["total"]["current_key"], 160)
        taken = time.monotonic() - began
        kms.stop()
        self.assertGreaterEqual(kms.calls["Decrypt"], 160)
        self.assertLess(taken, 5)

    # --- use ---

    def test_interrupted(self):
        """A signal ends it with what was counted so far, and says that it proves nothing."""
        self.sealed(100)
        kms = self.env.kms("slow")
        config = self.configure(self.kms_provider(path=kms.path, timeout="10s"))
        kms.delay["Decrypt"] = 0.2
        for number, name in ((signal.SIGINT, "text"), (signal.SIGTERM, "json")):
            before = kms.calls["Decrypt"]
            process = self.begin("verify", config, "--output", name)
            wait_until(lambda: kms.calls["Decrypt"] > before + 20, 20, "values are opened")  # noqa: B023
            process.signal(number)
            self.assertEqual(self.finish(process), 128 + number, process.log())
            self.assertIn("Not finished: of " if name == "text" else '"result":"failed"', process.log())
            self.assertIn("interrupted by a signal", process.log())
        kms.stop()

    def test_quiet_where_nothing_happens(self):
        """Which key a plugin has is no event of a tool's: with all well it says nothing beside its report."""
        self.sealed(1)
        _, err = self.tool("verify", self.configure(self.kms_provider()))
        self.assertEqual(err, "")

    def test_one_value(self):
        self.sealed(1)
        out, _ = self.tool("verify", self.configure(self.kms_provider()))
        self.assertIn("The 1 value there is is as it would be written now, and opens", out)

    def test_key_changes_meanwhile(self):
        """A run of more than a minute, in which the plugin's new key is seen: half of the values are of the old one,
        which was current when they were looked at. etcd stands still between the first page and the next."""
        if not harness.LONG:
            self.skipTest("takes 75 s: E2E_LONG=1")
        self.sealed(100, prefix=PREFIX + b"a/")
        self.sealed(100, "key-2", prefix=PREFIX + b"b/")
        config = self.configure(self.kms_provider(timeout="10s"))
        self.kms.delay["Decrypt"] = 1
        process = self.begin("verify", config, "--output", "json", "--log-level", "debug")
        time.sleep(3)
        self.kms.key_id = "key-2"
        self.etcd.process.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: process.log().count("new KMS key") == 1, 70, "the new key")
        finally:
            self.etcd.process.signal(signal.SIGCONT)
        status = self.finish(process, 100)
        self.kms.delay.clear()
        self.assertIn('"current_key":200', process.log())
        self.assertEqual(status, NOT_AS_WANTED)
        self.assertIn('"key_changed_meanwhile":true', process.log())

    def test_usage(self):
        config = self.configure(self.kms_provider())
        for flags in (["--list", "all"], ["--output", "yaml"], ["--no-open=maybe"], ["--nope"], ["--resource"]):
            self.tool("verify", config, *flags, status=USAGE)
        done = subprocess.run([self.binary, "verify"], capture_output=True, check=False)
        self.assertEqual(done.returncode, USAGE)
        done = subprocess.run([self.binary, "verify", "--help"], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (OK, b""))
        self.tool("verify", self.env.path("missing.yaml"), status=ERROR)

    def test_output_that_fails(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(self.argv("verify", self.configure(self.kms_provider())), stdout=full,
                                  stderr=subprocess.PIPE, check=False, timeout=60)
        self.assertEqual(done.returncode, ERROR)


class Restart(ClusterTool):
    """An etcd that goes away in the middle."""

    def in_the_middle(self, config):
        """A verify that is under way, stopped there."""
        for delay in (0.1, 0.05, 0.03, 0.02, 0.01) * 10:
            process = self.begin("verify", config, "--output", "json")
            time.sleep(delay * (10 if harness.SANITIZED else 1))
            process.signal(signal.SIGSTOP)
            status = pathlib.Path(f"/proc/{process.pid}/status")
            wait_until(lambda p=process, s=status: not p.alive() or "State:\tT" in s.read_text(), 10, "its stop")
            if process.alive():
                return process
            process.kill()
        self.fail("it is always too quick, or too slow")

    def test_restarted_in_the_middle(self):
        self.fill(COUNT)
        config = self.configure(self.kms_provider(), "identity: {}")
        process = self.in_the_middle(config)
        self.etcd.stop()
        process.signal(signal.SIGCONT)
        time.sleep(0.5)
        self.etcd.start()
        type(self).raw = self.etcd.client
        self.assertEqual(self.finish(process), NOT_AS_WANTED)
        report = json.loads([line for line in process.log().splitlines() if line.startswith("{")][0])
        self.assertEqual(report["total"]["plaintext"], COUNT)


if __name__ == "__main__":
    harness.main()
