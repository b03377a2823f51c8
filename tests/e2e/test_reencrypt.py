#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""reencrypt: is everything sealed with the current key afterwards, whatever happens meanwhile, and is nothing that anybody
else writes ever lost?"""
import json
import os
import pty
import random
import re
import signal
import subprocess
import threading
import time

from cluster_tool import (COUNT, ERROR, NOT_AS_WANTED, OK, PREFIX, UNREACHABLE, UNREADABLE, USAGE, ClusterTool, new_key)
import harness
from harness import envelope, wait_until


class Reencrypt(ClusterTool):
    def reencrypt(self, config, *flags, status=OK, **options):
        """The result as an object."""
        out, _ = self.tool("reencrypt", config, "--output", "json", "--rate", "0", *flags, status=status, **options)
        return json.loads(out)

    def plaintexts(self, prefix=PREFIX):
        """{key: value as it was before it was sealed}; each is sealed with the current key."""
        return {key: envelope.unseal(key, kv.value, "test") for key, kv in self.everything(prefix).items()}

    def mixed(self):
        return self.configure(self.kms_provider(), "identity: {}")

    # --- what becomes of values ---

    def test_each_state(self):
        """Plaintext, older keys and other providers are rewritten; current and unreadable ones are not touched."""
        secret = new_key()
        old = self.configure(self.local("aescbc", ("k1", secret)), name="old")
        self.sealed(3)
        self.sealed(4, "key-0")
        self.plain(5)
        key = PREFIX + b"ns/cbc"
        self.raw.put(key, subprocess.run([self.binary, "encrypt", "--key", key.decode(), "--encryption-provider-config", old],
                                         input=b"cbc", capture_output=True, check=True).stdout)
        self.raw.put(PREFIX + b"ns/lost", b"k8s:enc:secretbox:v1:lost:" + bytes(60))
        before = self.everything()
        config = self.configure(self.kms_provider(), self.local("aescbc", ("k1", secret)), "identity: {}")
        result = self.reencrypt(config, status=UNREADABLE)
        self.assertEqual({k: result[k] for k in ("looked_at", "current", "due", "rewritten", "left_unreadable")},
                         {"looked_at": 14, "current": 3, "due": 10, "rewritten": 10, "left_unreadable": 1})
        after = self.everything()
        for key, kv in after.items():
            changed = not (b"/key-1-" in key or b"/lost" in key)
            self.assertEqual(kv.version, before[key].version + changed, key)
        self.raw.delete(PREFIX + b"ns/lost")
        values = self.plaintexts()
        self.assertEqual(values[PREFIX + b"ns/cbc"], b"cbc")
        self.assertEqual(values[PREFIX + b"ns/key-0-00002"], b"value-2")
        self.assertEqual(values[PREFIX + b"ns/plain00004"], before[PREFIX + b"ns/plain00004"].value)
        self.assertEqual(self.verify(config)["total"]["current_key"], 13)
        self.assertEqual(self.reencrypt(config)["rewritten"], 0)

    def test_sizes(self):
        sizes = [0, 1, 15, 16, 100, 1000, 65_536, 1_000_000] + [1_400_000] * (2 if harness.SANITIZED else 20)
        for i, size in enumerate(sizes):
            self.raw.put(PREFIX + b"ns/%05d" % i, os.urandom(size))
        before = {k: kv.value for k, kv in self.everything().items()}
        self.assertEqual(self.reencrypt(self.mixed())["rewritten"], len(sizes))
        self.assertEqual(self.plaintexts(), before)

    def test_too_large_once_sealed(self):
        """It is left as it is and named; the others are rewritten."""
        self.plain(3)
        large = 1_572_864 - 100
        self.raw.put(PREFIX + b"ns/large", b"x" * large)
        out, err = self.tool("reencrypt", self.mixed(), status=NOT_AS_WANTED)
        self.assertIn("1 too large", out)
        self.assertNotIn("ns/large", out + err)  # names of secrets are for those who ask
        _, err = self.tool("reencrypt", self.mixed(), "--log-level", "debug", status=NOT_AS_WANTED)
        self.assertIn("ns/large", err)
        self.assertEqual(self.raw.value(PREFIX + b"ns/large"), b"x" * large)
        self.assertEqual(self.verify(self.mixed(), status=NOT_AS_WANTED)["total"]["current_key"], 3)

    def test_planted_plaintext(self):
        """Without identity in the list plaintext is not made authentic by sealing it."""
        self.plain(2)
        config = self.configure(self.kms_provider())
        self.assertEqual(self.reencrypt(config, status=UNREADABLE)["left_unreadable"], 2)
        self.assertEqual([kv.version for kv in self.everything().values()], [1, 1])

    def test_rotation(self):
        """A plugin's new key id, then local keys that take the place of the plugin."""
        config = self.mixed()
        self.plain(20)
        self.reencrypt(config)
        self.kms.key_id = "key-2"
        self.assertEqual(self.verify(config, status=NOT_AS_WANTED)["total"]["older_key"], 20)
        self.assertEqual(self.reencrypt(config)["rewritten"], 20)
        self.assertEqual({envelope.parse(kv.value, "test").key_id for kv in self.everything().values()}, {"key-2"})
        for kind in "secretbox", "aesgcm", "aescbc":
            local = self.configure(self.local(kind, ("k1", new_key())), self.kms_provider(), name=kind)
            if kind != "secretbox":
                continue
            self.assertEqual(self.reencrypt(local)["rewritten"], 20)
            self.assertEqual(self.verify(local)["total"]["current_key"], 20)

    def test_kms_v1(self):
        config = self.configure(f"kms: {{apiVersion: v1, name: old, endpoint: 'unix://{self.kms.path}'}}", "identity: {}")
        self.plain(30)
        self.tool("reencrypt", config, status=ERROR)
        self.assertEqual(self.reencrypt(config, "--allow-kms-v1-writes")["rewritten"], 30)
        for key, kv in self.everything().items():
            self.assertTrue(envelope.unseal_v1(key, kv.value)[0].startswith(b"k8s\0"))

    def test_one_event_an_object(self):
        """Watchers see one MODIFIED event for each, of the same object."""
        self.plain(50)
        watch = self.raw.watch(PREFIX, PREFIX[:-1] + b"0", prev_kv=True)
        self.reencrypt(self.mixed())
        events = watch.events(50)
        self.assertEqual(len({e.kv.key for e in events}), 50)
        for e in events:
            self.assertEqual((e.kv.version, e.kv.create_revision), (2, e.prev_kv.create_revision))
        self.assertTrue(watch.quiet(0.3))
        watch.cancel()

    # --- who is meant ---

    def test_dry_run(self):
        self.plain(3)
        self.sealed(2)
        config = self.mixed()
        result = self.reencrypt(config, "--dry-run", status=NOT_AS_WANTED)
        self.assertEqual((result["due"], result["rewritten"]), (3, 0))
        self.assertEqual({kv.version for kv in self.everything().values()}, {1})
        self.reencrypt(config)
        self.reencrypt(config, "--dry-run")

    def test_resource_and_namespace(self):
        config = self.configure(self.kms_provider(), "identity: {}", resources="secrets, configmaps")
        for ns in b"a", b"b", b"ab":
            self.plain(2, PREFIX + ns + b"/")
            self.plain(2, b"/registry/configmaps/" + ns + b"/")
        sealed = lambda: sorted(key for key, kv in self.everything(b"/registry/").items()  # noqa: E731
                                if kv.value.startswith(b"k8s:enc:"))
        self.assertEqual(self.reencrypt(config, "--resource", "secrets", "--namespace", "a")["rewritten"], 2)
        self.assertEqual({key[:len(PREFIX) + 2] for key in sealed()}, {PREFIX + b"a/"})
        self.assertEqual(self.reencrypt(config, "--namespace", "b", "--namespace=ab")["rewritten"], 8)
        self.assertEqual(self.reencrypt(config, "--resource", "secrets")["rewritten"], 0)
        self.assertEqual(self.reencrypt(config)["rewritten"], 2)
        self.tool("reencrypt", config, "--resource", "pods", status=USAGE)

    def test_leases(self):
        """Left out unless asked for; then the lease stays."""
        lease = self.raw.grant(600).ID
        self.raw.put(PREFIX + b"ns/leased", b"plain", lease=lease)
        self.plain(2)
        result = self.reencrypt(self.mixed(), status=NOT_AS_WANTED)
        self.assertEqual((result["rewritten"], result["left_leased"]), (2, 1))
        self.assertEqual(self.reencrypt(self.mixed(), "--include-leased")["rewritten"], 1)
        self.assertEqual(self.everything()[PREFIX + b"ns/leased"].lease, lease)
        self.assertEqual(list(self.raw.time_to_live(lease).keys), [PREFIX + b"ns/leased"])
        self.assertEqual(self.plaintexts()[PREFIX + b"ns/leased"], b"plain")

    def test_to_identity(self):
        self.plain(20)
        before = {k: kv.value for k, kv in self.everything().items()}
        sealing, back = self.mixed(), self.configure("identity: {}", self.kms_provider(), name="back")
        self.reencrypt(sealing)
        for config, flags, text in ((sealing, ["--to-identity", "--yes"], "identity is not first"),
                                    (back, [], "give --to-identity"), (back, ["--to-identity"], "--yes"),
                                    (sealing, ["--to-identity", "--yes"], "--allow-identity-writes"),
                                    (self.configure("identity: {}", name="alone"), [], "protects nothing")):
            _, err = self.tool("reencrypt", config, *flags, status=USAGE)
            self.assertIn(text, err)
        self.assertEqual(len(self.plaintexts()), 20)
        self.reencrypt(back, "--to-identity", "--dry-run", status=NOT_AS_WANTED)
        self.assertEqual(self.reencrypt(back, "--to-identity", "--yes")["rewritten"], 20)
        self.assertEqual({k: kv.value for k, kv in self.everything().items()}, before)
        self.assertEqual(self.verify(back)["total"]["due_for_rewrite"], 0)

    def test_to_identity_names_all(self):
        """Refused with the names of all resources whose lists are not ready for it, not of the first one."""
        names = ["configmaps", "secrets", "serviceaccounts"]
        config = self.env.path(self.name + ".yaml")
        config.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n" + "".join(
            f"  - resources: [{n}]\n    providers:\n    - {self.kms_provider(name=n)}\n    - identity: {{}}\n" for n in names))
        config.chmod(0o600)
        _, err = self.tool("reencrypt", config, "--to-identity", "--yes", status=USAGE)
        self.assertIn(", ".join(names) + ": identity is not first", err)
        _, err = self.tool("reencrypt", config, "--to-identity", "--yes", "--resource", "configmaps", status=USAGE)
        self.assertIn("etcd-envelope: configmaps: identity is not first", err)

    def test_nothing_matches(self):
        self.plain(3)
        for flags, text in ((["--namespace", "nope"], "Nothing matched: etcd holds no value of the protected resources in these "
                             "namespaces"), (["--namespace", "ns"], None)):
            out, _ = self.tool("reencrypt", self.mixed(), *flags)
            self.assertEqual("Nothing matched" in out, text is not None, out)
            self.assertIn(text or "3 rewritten", out)

    # --- others write, too ---

    def test_beside_writers(self):
        """Two writers put and delete at random all the while; each key ends as its writer left it."""
        count = 300 if harness.SANITIZED else 2000
        self.fill(count, 200)
        rng, config, stop = harness.seed_of("beside writers"), self.mixed(), threading.Event()
        seeds = [rng.random(), rng.random()]
        last = {}

        def write(number):
            mine, client = random.Random(seeds[number]), harness.Client(f"127.0.0.1:{self.etcd.port}")
            mark = 0
            while not stop.is_set():
                i = mine.randrange(count // 2) * 2 + number
                key, mark = PREFIX + b"ns%d/%07d" % (i % 10, i), mark + 1
                if mine.random() < 0.1:
                    client.delete(key)
                    last[key] = None
                else:
                    value = b"k8s\0writer %d %d " % (number, mark) + b"w" * mine.randrange(300)
                    client.put(key, value)
                    last[key] = value
            client.close()
        threads = [threading.Thread(target=write, args=(n,)) for n in (0, 1)]
        for thread in threads:
            thread.start()
        conflicts = 0
        try:
            for _ in range(6):
                conflicts += self.reencrypt(config)["conflicts"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        stored = self.everything()
        for key, value in last.items():
            if value is None:
                self.assertNotIn(key, stored)
                continue
            raw = stored[key].value
            self.assertEqual(envelope.unseal(key, raw, "test") if raw.startswith(b"k8s:enc:") else raw, value)
        untouched = set(stored) - set(last)
        for key in untouched:
            self.assertEqual(envelope.unseal(key, stored[key].value, "test"), self.value_of(int(key[-7:]), 200))
        print(f"conflicts: {conflicts}, keys written: {len(last)}")
        self.reencrypt(config)
        self.assertEqual(self.verify(config)["total"]["plaintext"], 0)

    def test_killed_in_the_middle(self):
        """Run again it goes on where work is left: each value was rewritten once, and none twice."""
        count = 1000
        self.fill(count)
        config = self.mixed()
        for _ in range(3):
            process = self.begin("reencrypt", config, "--rate", "1000")
            before = self.raw.get(b"x").header.revision
            wait_until(lambda: self.raw.get(b"x").header.revision > before + 150, 20, "rewrites")  # noqa: B023
            process.signal(signal.SIGKILL)
            self.finish(process)
        self.assertGreater(self.reencrypt(config)["current"], 400)
        stored = self.everything()
        self.assertEqual(len(stored), count)
        self.assertEqual({kv.version for kv in stored.values()}, {2})
        for key, value in self.plaintexts().items():
            self.assertEqual(value, self.value_of(int(key[-7:])))

    def test_interrupted(self):
        """A signal ends it with what was done so far, and the next run finds the rest."""
        self.fill(600)
        done = 0
        for number, name in ((signal.SIGINT, "text"), (signal.SIGTERM, "json")):
            process = self.begin("reencrypt", self.mixed(), "--rate", "200", "--output", name)
            before = self.raw.get(b"x").header.revision
            wait_until(lambda: self.raw.get(b"x").header.revision > before + 40, 20, "rewrites")  # noqa: B023
            process.signal(number)
            self.assertEqual(self.finish(process), 128 + number, process.log())
            log = process.log()
            self.assertIn("interrupted by a signal: run this again", log)
            told = re.search(r"Not finished: \d+ looked at, (\d+) rewritten" if name == "text" else r'"rewritten":(\d+)', log)
            self.assertIsNotNone(told, log)
            done += int(told[1])
            self.assertGreater(done, 0)
        result = self.reencrypt(self.mixed())
        # What was on its way when the signal came may have been carried out.
        self.assertLessEqual(600 - done - 2 * 32, result["rewritten"])
        self.assertLessEqual(result["rewritten"], 600 - done)
        self.assertEqual({kv.version for kv in self.everything().values()}, {2})

    def test_compacted_meanwhile(self):
        self.fill(3000, 2048)
        config = self.mixed()
        process = self.begin("reencrypt", config, "--rate", "3000")
        while process.alive():
            self.raw.compact(self.raw.put(b"/registry/pods/x", b"x").header.revision, physical=False)
            time.sleep(0.01)
        self.assertEqual(self.finish(process), OK, process.log())
        self.assertEqual(self.verify(config)["total"]["current_key"], 3000)

    # --- the plugin ---

    def test_kms_away_in_the_middle(self):
        """Every value has a DEK of its own, so the plugin is asked for each. It goes, and comes back for the next run."""
        self.sealed(300, "key-0")
        kms = self.env.kms("going")
        config = self.configure(self.kms_provider(path=kms.path), "identity: {}")
        process = self.begin("reencrypt", config, "--rate", "100")
        before = self.raw.get(b"x").header.revision
        wait_until(lambda: self.raw.get(b"x").header.revision > before + 20, 20, "rewrites")
        kms.stop()
        self.assertEqual(self.finish(process), UNREACHABLE)
        self.assertIn("KMS provider test", process.log())
        self.assertIn("Not finished", process.log())
        kms.start()
        result = self.reencrypt(config)
        self.assertGreater(result["current"], 19)
        self.assertGreater(result["rewritten"], 0)
        self.assertEqual(self.verify(config)["total"]["current_key"], 300)
        self.assertEqual({kv.version for kv in self.everything().values()}, {2})

    def test_kms_away_from_the_start(self):
        self.plain(3)
        out, err = self.tool("reencrypt", self.configure(self.kms_provider(path="/nowhere.sock"), "identity: {}"),
                             status=UNREACHABLE)
        self.assertIn("KMS provider test", err)
        self.assertEqual({kv.version for kv in self.everything().values()}, {1})

    # --- rates, progress ---

    def test_rate(self):
        """Never faster than asked for, by objects and by bytes, however many are on their way."""
        self.plain(60)
        began = time.monotonic()
        self.tool("reencrypt", self.mixed(), "--rate", "50", "--parallel", "20")
        self.assertGreater(time.monotonic() - began, 59 / 50 - 0.1)
        self.raw.delete(b"\0", b"\0")
        self.plain(30, size=10_000)
        began = time.monotonic()
        self.reencrypt(self.mixed(), "--byte-rate", "200k")
        self.assertGreater(time.monotonic() - began, 300_000 / 204_800 - 0.2)

    def test_log_when_no_terminal(self):
        self.plain(200)
        process = self.begin("reencrypt", self.mixed(), "--rate", "15")
        wait_until(lambda: " progress " in process.log(), 20, "line of progress")
        line = next(li for li in process.log().splitlines() if " progress " in li)
        self.assertRegex(line, r"run=reencrypt looked_at=\d+ of=200 rewritten=\d+ left=\d+s")
        process.kill()

    def test_progress_on_a_terminal(self):
        self.plain(60)
        ours, theirs = pty.openpty()
        done = subprocess.Popen(self.argv("reencrypt", self.mixed(), "--rate", "40"), stderr=theirs, stdout=subprocess.PIPE)
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        out = done.communicate()[0]
        self.assertEqual(done.returncode, OK)
        self.assertRegex(shown.decode(), r"\rreencrypt|\r.*reencrypt \[#+\.*\] \d+ of 60 looked at, \d+ rewritten, \d+s left")
        self.assertIn(b"60 rewritten", out)

    @harness.timing
    def test_speed(self):
        """At least 3,000 objects of 1 KiB a second against an etcd that does not wait for its disk."""
        self.fill(COUNT)
        began = time.monotonic()
        self.assertEqual(self.reencrypt(self.mixed())["rewritten"], COUNT)
        taken = time.monotonic() - began
        print(f"{COUNT / taken:.0f} objects a second")
        if not harness.SANITIZED:
            self.assertLess(taken, COUNT / 3000)

    def test_many_in_bounded_memory(self):
        self.fill(COUNT)
        config, peak = self.mixed(), 0
        process = self.begin("reencrypt", config, "--rate", "0", "--parallel", "100")
        while process.alive():
            try:
                peak = max(peak, process.peak_mib())
            except (KeyError, OSError):
                break
            time.sleep(0.005)
        self.assertEqual(self.finish(process), OK, process.log())
        stored = self.everything()
        self.assertEqual(len(stored), COUNT)
        for key in random.sample(sorted(stored), 200):
            self.assertEqual(envelope.unseal(key, stored[key].value, "test"), self.value_of(int(key[-7:])))
        self.assertEqual(self.verify(config)["total"]["current_key"], COUNT)
        print(f"peak {peak:.1f} MiB")
        if not harness.SANITIZED:
            self.assertLess(peak, 64)

    def test_usage(self):
        config = self.mixed()
        for flags in (["--rate", "-1"], ["--rate", "fast"], ["--parallel", "0"], ["--byte-rate", "x"], ["--max-db-size", "1x"],
                      ["--output", "xml"], ["--dry-run=1"], ["--nope"], ["--namespace", ""], ["--namespace", "a/b"]):
            self.tool("reencrypt", config, *flags, status=USAGE)
        done = subprocess.run([self.binary, "reencrypt", "--help"], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (OK, b""))


class Restart(ClusterTool):
    """An etcd that goes away in the middle, and comes back."""

    def test_restarted_in_the_middle(self):
        count = 3000
        self.fill(count)
        config = self.configure(self.kms_provider(), "identity: {}")
        process = self.begin("reencrypt", config, "--rate", "2000")
        for _ in range(2):
            time.sleep(0.4)
            self.assertTrue(process.alive(), process.log())
            self.etcd.stop()
            time.sleep(0.3)
            self.etcd.start()
            type(self).raw = self.etcd.client
        self.assertEqual(self.finish(process), OK, process.log())
        self.assertEqual(self.verify(config)["total"]["current_key"], count)
        for key, kv in self.everything().items():
            self.assertEqual(envelope.unseal(key, kv.value, "test"), self.value_of(int(key[-7:])))


class Space(ClusterTool):
    """An etcd with little room, behind TLS, as its metrics are."""

    @classmethod
    def start(cls):
        super().start()
        cls.etcd.stop()
        cls.certificates = cls.env.tls()
        cls.etcd = cls.env.etcd(name="small", tls=cls.certificates, flags=["--quota-backend-bytes", str(40 << 20)])
        cls.raw = cls.etcd.client

    def argv(self, name, config, *flags, servers=None):
        path = self.certificates.path
        return super().argv(name, config, "--etcd-cafile", path("ca.crt"), "--etcd-certfile", path("client.crt"),
                            "--etcd-keyfile", path("client.key"), *flags, servers=servers)

    def test_stops_before_the_quota(self):
        """At 80 % of what etcd's metrics say; then with the alarm NOSPACE; nobody else's writes are stopped by us."""
        config = self.configure(self.kms_provider(), "identity: {}")
        self.fill(8_000, 2000)
        out, err = self.tool("reencrypt", config, "--rate", "5000", status=ERROR)
        self.assertIn("--max-db-size is 32 MiB (80 % of etcd's quota)", err)
        self.assertIn("defrag", err)
        self.raw.put(b"/registry/pods/x", b"x")
        _, err = self.tool("reencrypt", config, "--rate", "0", "--max-db-size", "1GiB", status=ERROR)
        self.assertIn("NOSPACE", err)
        out, err = self.tool("reencrypt", config, "--rate", "0", "--max-db-size", "1GiB", status=ERROR)
        self.assertIn("NOSPACE", err)
        self.assertEqual(out, "")
        out, _ = self.tool("reencrypt", config, "--output", "json", status=ERROR)
        self.assertLess(json.loads(out)["milliseconds"], 60_000)
        self.verify(config, status=NOT_AS_WANTED)  # only reads


if __name__ == "__main__":
    harness.main()
