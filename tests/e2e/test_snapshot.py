#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""verify and decrypt with --snapshot: do they say of a file that a real etcd made what they say of that etcd, and of a
damaged one that it is damaged?"""
import hashlib
import json
import os
import shutil
import stat
import subprocess

from cluster_tool import COUNT, ERROR, NOT_AS_WANTED, OK, PREFIX, UNREADABLE, USAGE, ClusterTool, new_key
import harness
from harness import envelope

PAGE = 4096


class SnapshotTool(ClusterTool):
    def save(self, name=None, etcd=None):
        path = self.env.path((name or self.name) + ".snapshot")
        path.unlink(missing_ok=True)
        subprocess.run([harness.etcd_program("etcdctl"), "--endpoints", (etcd or self.etcd).url, "snapshot", "save", path],
                       check=True, capture_output=True, timeout=60, env={**os.environ, "ETCDCTL_API": "3"})
        return path

    def file(self, tool, config, path, *flags, **options):
        """The tool, which finds no etcd."""
        return self.tool(tool, config, "--snapshot", path, *flags, servers="http://127.0.0.1:1", **options)

    def report(self, config, path, *flags, status=OK):
        out, _ = self.file("verify", config, path, "--output", "json", *flags, status=status)
        return json.loads(out)

    def decrypt(self, config, path, key, status=OK, flags=()):
        argv = [self.binary, "decrypt", "--encryption-provider-config", os.fspath(config), "--snapshot", os.fspath(path),
                "--key", key.decode(), *flags]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == OK else done.stderr.decode()

    def encrypt(self, config, key, value):
        argv = [self.binary, "encrypt", "--encryption-provider-config", os.fspath(config), "--key", key.decode()]
        return subprocess.run(argv, input=value, capture_output=True, check=True, timeout=60).stdout

    def fill_all_states(self):
        """Values in every state, with a history: large ones, many revisions, deleted and created again."""
        self.sealed(20)
        self.sealed(5, "key-0")
        self.plain(7)
        for i in range(3):
            key = PREFIX + b"large/%d" % i
            self.raw.put(key, envelope.seal(key, bytes([i]) * (1 << 20)))
        for i in range(300):
            key = PREFIX + b"often/%d" % (i % 10)
            self.raw.put(key, envelope.seal(key, b"revision-%d" % i))
        for i in range(10):
            self.raw.put(PREFIX + b"gone/%d" % i, b"plaintext that is deleted")
        self.raw.delete(PREFIX + b"gone/", PREFIX + b"gone0")
        self.raw.put(PREFIX + b"gone/5", b"and is there again")
        self.raw.put(PREFIX + b"ns/moved", self.raw.value(PREFIX + b"ns/key-1-00000"))
        self.raw.put(PREFIX + b"ns/lost", b"k8s:enc:secretbox:v1:lost:" + bytes(60))
        self.raw.put(b"/registry/pods/ns/a", b"not protected")

    def config_all(self):
        return self.configure(self.kms_provider(), "identity: {}")

    def assertSame(self, config, path):
        """All that both reports say of the values, and the keys that they list."""
        live, read = (make(config, *args, status=UNREADABLE) for make, args in ((self.verify, ()), (self.report, (path,))))
        for name in ("result", "total", "resources", "opened", "configuration"):
            self.assertEqual(live[name], read[name], name)
        self.assertEqual(live["to"]["revision"], read["snapshot"]["revision"])
        for what in ("unreadable", "plaintext", "stale"):
            live, _ = self.tool("verify", config, "--list", what, status=UNREADABLE)
            read, _ = self.file("verify", config, path, "--list", what, status=UNREADABLE)
            self.assertGreater(len(live.splitlines()), 1)
            self.assertEqual(live, read)


class Snapshot(SnapshotTool):
    # --- the same as etcd ---

    def test_cut_short(self):
        """A copy that was broken off, wherever: it is said to be short, and never passes for a whole one. (Just without the
        hash behind it a snapshot is as good as a member's file.)"""
        self.sealed(20)
        whole = self.save().read_bytes()
        config = self.configure(self.kms_provider())
        cut = self.env.path("cut.snapshot")
        # etcd writes whole pages, and behind them the hash
        for size in [0, 1, 500, 1000, 4000, *range(4096, len(whole) - 4096, 1500), len(whole) - 33, len(whole) - 1]:
            cut.write_bytes(whole[:size])
            _, err = self.file("verify", config, cut, status=ERROR)
            self.assertRegex(err, "was cut short|The file is empty", size)

    def test_snapshot(self):
        """A snapshot, before and after compaction and defragmentation."""
        self.fill_all_states()
        config = self.config_all()
        path = self.save()
        self.assertSame(config, path)
        snapshot = self.report(config, path, status=UNREADABLE)["snapshot"]
        data = path.read_bytes()
        self.assertEqual((snapshot["sha256"], snapshot["bytes"]), (data[-32:].hex(), len(data)))
        self.assertFalse(snapshot["is_without_wal"] or snapshot["is_damaged"] or snapshot["is_meta_page_damaged"])
        revision = self.raw.get(b"x").header.revision
        self.raw.compact(revision - 3)
        path = self.save("compacted")
        self.assertSame(config, path)
        self.assertEqual(self.report(config, path, status=UNREADABLE)["snapshot"]["compact_revision"], revision - 3)
        subprocess.run([harness.etcd_program("etcdctl"), "--endpoints", self.etcd.url, "defrag"], check=True,
                       capture_output=True, timeout=60, env={**os.environ, "ETCDCTL_API": "3"})
        self.assertSame(config, self.save("defragmented"))
        out, _ = self.file("verify", config, path, status=UNREADABLE)
        self.assertIn("SHA-256 " + path.read_bytes()[-32:].hex(), out)
        self.assertNotIn("WAL are missing", out)

    def test_stopped_member(self):
        """Its db file, in place and as a copy; while it runs the file is refused."""
        own = self.env.etcd(name="stopped")
        self.addCleanup(own.stop)
        self.raw, raw = own.client, self.raw
        self.fill_all_states()
        self.raw = raw
        config, path = self.config_all(), own.data / "member" / "snap" / "db"
        _, err = self.file("verify", config, path, status=ERROR)
        self.assertIn("is in use: another process holds a lock on it", err)
        self.assertIn("is in use", self.decrypt(config, path, PREFIX + b"ns/key-1-00000", ERROR))
        live = self.verify(config, servers=own.url, status=UNREADABLE)
        own.process.term()  # in order: etcd writes out what it has collected
        copy = self.env.path("copy.db")
        shutil.copyfile(path, copy)
        for file in path, copy:
            report = self.report(config, file, status=UNREADABLE)
            self.assertEqual((report["total"], report["resources"]), (live["total"], live["resources"]))
            self.assertTrue(report["snapshot"]["is_without_wal"])
            out, err = self.file("verify", config, file, status=UNREADABLE)
            self.assertIn("writes still in the WAL are missing", out)
            self.assertIn("writes still in the WAL are missing", err)
        with copy.open("r+b") as f:  # the first meta page is gone, and with it the size of a page
            f.write(bytes(PAGE))
        # Which of the two has the last transaction is etcd's luck; the other one is a little behind.
        done = subprocess.run(self.argv("verify", config, "--snapshot", copy, "--output", "json"), capture_output=True,
                              timeout=60, check=False)
        self.assertIn(done.returncode, (OK, NOT_AS_WANTED, UNREADABLE), done.stderr)
        report = json.loads(done.stdout)
        self.assertTrue(report["snapshot"]["is_meta_page_damaged"])
        self.assertLessEqual(report["snapshot"]["revision"], live["to"]["revision"])
        self.assertIn(b"a meta page is damaged", done.stderr)

    def test_empty(self):
        own = self.env.etcd(name="empty")
        self.addCleanup(own.stop)
        report = self.report(self.config_all(), self.save(etcd=own))
        self.assertEqual((report["total"]["objects"], report["snapshot"]["revision"]), (0, 1))
        own.client.put(b"/other/a", b"x")
        out, err = self.file("verify", self.config_all(), self.save(etcd=own))
        self.assertIn("none under --etcd-prefix", out)
        self.assertIn("none under --etcd-prefix", err)
        own.client.put(PREFIX + b"ns/a", b"plain")
        flags = ["--etcd-prefix", "/registri"]
        self.assertEqual(self.report(self.config_all(), self.save(etcd=own), *flags, status=NOT_AS_WANTED)["result"],
                         "nothing looked at")

    def test_flags(self):
        """--resource and --no-open do what they do with etcd; without a plugin nothing is opened."""
        self.sealed(3)
        self.plain(2, b"/registry/configmaps/ns/")
        config = self.configure(self.kms_provider(path="/nowhere.sock"), "identity: {}", resources="secrets, configmaps")
        path = self.save()
        report = self.report(config, path, "--no-open", status=NOT_AS_WANTED)
        self.assertEqual((report["total"]["objects"], report["opened"]), (5, False))
        report = self.report(config, path, "--no-open", "--resource", "secrets")
        self.assertEqual([r["resource"] for r in report["resources"]], ["secrets"])
        self.file("verify", config, path, status=75)
        _, err = self.file("verify", config, path, "--export", self.env.path("x"), status=USAGE)
        self.assertIn("--list unreadable", err)
        self.tool("verify", config, "--skip-hash-check", status=USAGE)

    # --- decrypt ---

    def test_decrypt(self):
        """With a plugin that runs and with keys of the configuration; the last revision of the key counts."""
        self.fill_all_states()
        kms = self.configure(self.kms_provider())
        local = self.configure(self.local("aesgcm", ("k1", new_key())), resources="configmaps", name="local")
        self.raw.put(b"/registry/configmaps/ns/a", self.encrypt(local, b"/registry/configmaps/ns/a", b"by a local key"))
        path = self.save()
        self.assertEqual(self.decrypt(kms, path, PREFIX + b"ns/key-1-00003"), b"value-3")
        self.assertEqual(self.decrypt(kms, path, PREFIX + b"large/2"), b"\2" * (1 << 20))
        self.assertEqual(self.decrypt(kms, path, PREFIX + b"often/7"), b"revision-297")
        self.assertEqual(self.decrypt(local, path, b"/registry/configmaps/ns/a"), b"by a local key")
        self.assertIn("not authentic", self.decrypt(kms, path, PREFIX + b"ns/moved", UNREADABLE))
        for gone in b"gone/4", b"never", b"often":
            self.assertIn("is not there at its last revision", self.decrypt(kms, path, PREFIX + gone, ERROR))
        self.assertIn("is not protected", self.decrypt(kms, path, b"/registry/pods/ns/a", ERROR))
        self.decrypt(kms, path, PREFIX + b"often/7", USAGE, ["--input", "raw"])
        self.decrypt(kms, self.env.path("nothing"), PREFIX + b"often/7", ERROR)

    # --- damage ---

    def test_every_page_damaged(self):
        """Of a snapshot each damage is told by its hash. Without one (a db file) a run ends with an error that names a
        page, or says of values what is true: none that it calls good is a damaged one, for each opens."""
        local = self.configure(self.local("aesgcm", ("k1", new_key())))
        own = self.env.etcd(name="small")
        self.addCleanup(own.stop)
        for i in range(12):
            key = PREFIX + b"ns/%d" % i
            own.client.put(key, self.encrypt(local, key, b"v" * 900 * i))
        snapshot = self.save(etcd=own).read_bytes()
        db, pages = snapshot[:-32], len(snapshot) // PAGE
        self.assertGreater(pages, 5)
        self.assertEqual(hashlib.sha256(db).digest(), snapshot[-32:])

        def damage(n):
            page, way = divmod(n, 2)
            at = page * PAGE + (n * 7 % 64 if page % 3 else n * 131 % PAGE)
            damaged = bytearray(snapshot)
            if way:
                damaged[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)
            else:
                damaged[at] ^= 1 + n % 255
            path = self.env.path(f"damaged-{n}")
            path.write_bytes(damaged)
            is_damaged = damaged != snapshot
            _, err = self.file("verify", local, path, status=ERROR if is_damaged else OK)
            self.assertEqual("SHA-256" in err, is_damaged)
            path.write_bytes(damaged[:-32])
            argv = self.argv("verify", local, "--snapshot", path, "--output", "json")
            done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
            path.unlink()
            self.assertIn(done.returncode, (OK, ERROR, UNREADABLE), done.stderr)
            if done.returncode == ERROR:
                self.assertIn(b": page ", done.stderr)
                return 1
            total = json.loads(done.stdout)["total"]
            self.assertLessEqual(total["objects"], 12)
            self.assertEqual(total["current_key"] + total["unreadable"] + total["plaintext"], total["objects"])
            return 0
        steps = range(0, 2 * pages, 5 if harness.SANITIZED else 1)
        errors = sum(harness.in_threads(4, lambda i: sum(damage(n) for n in steps if n // 5 % 4 == i)))
        self.assertGreater(errors, 1)

    def test_skip_hash_check(self):
        """What can be read of a damaged snapshot."""
        self.sealed(5)
        config = self.configure(self.kms_provider())
        path = self.save()
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        self.assertIn("does not fit", self.decrypt(config, path, PREFIX + b"ns/key-1-00000", ERROR))
        self.assertEqual(self.decrypt(config, path, PREFIX + b"ns/key-1-00000", flags=["--skip-hash-check"]), b"value-0")
        out, err = self.file("verify", config, path, "--skip-hash-check")
        self.assertIn("its SHA-256 does not fit", out)
        self.assertIn("it is damaged", err)
        self.assertTrue(self.report(config, path, "--skip-hash-check")["snapshot"]["is_damaged"])

    def test_no_database(self):
        config = self.config_all()
        for name, data in (("empty", b""), ("text", b"hello\n" * 2000), ("zeros", bytes(40960)), ("cut", None)):
            path = self.env.path("no-" + name)
            path.write_bytes(self.save().read_bytes()[:8192] if data is None else data)
            _, err = self.file("verify", config, path, status=ERROR)
            self.assertIn("page ", err)
        _, err = self.file("verify", config, self.env.folder, status=ERROR)
        self.assertIn("no plain file", err)

    # --- export ---

    def test_export(self):
        """Of an etcd and of a file: raw bytes of what is sealed and does not open, for nobody else to read; no plaintext,
        and nothing is overwritten."""
        self.fill_all_states()
        config = self.configure(self.kms_provider())
        for name, flags in (("live", []), ("file", ["--snapshot", self.save()])):
            folder = self.env.path("export-" + name)
            out, err = self.tool("verify", config, "--list", "unreadable", "--export", folder, *flags, status=UNREADABLE)
            self.assertIn("2 values written to", err)
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
            index = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
            self.assertEqual({e["key"].encode() for e in index}, {PREFIX + b"ns/moved", PREFIX + b"ns/lost"})
            self.assertEqual({e["reason"] for e in index}, {"auth_failed", "no_matching_prefix"})
            for entry in index:
                file = folder / entry["file"]
                self.assertEqual(entry["file"], hashlib.sha256(entry["key"].encode()).hexdigest())
                self.assertEqual(file.read_bytes(), self.raw.value(entry["key"].encode()))
            self.assertEqual({stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()}, {0o600})
            self.assertEqual(len(list(folder.iterdir())), 3)
            self.assertIn(b"ns/plain00000".decode(), out)
            _, err = self.tool("verify", config, "--list", "unreadable", "--export", folder, *flags, status=ERROR)
            self.assertIn("index.jsonl cannot be written: File exists", err)

    def test_export_that_fails(self):
        """A file that is in the way ends the run with an error, for the folder would look complete."""
        self.plant(PREFIX + b"ns/lost", b"", b"k8s:enc:secretbox:v1:lost:" + bytes(60))
        folder = self.env.path("in-the-way")
        folder.mkdir()
        (folder / hashlib.sha256(PREFIX + b"ns/lost").hexdigest()).symlink_to(self.env.path("elsewhere"))
        _, err = self.tool("verify", self.config_all(), "--list", "unreadable", "--export", folder, status=ERROR)
        self.assertIn("cannot be written", err)
        self.assertFalse(self.env.path("elsewhere").exists())

    # --- size ---

    def test_many_in_bounded_memory(self):
        """Of many objects, each of which was written several times, memory has an index."""
        for _ in range(2):
            self.fill(COUNT, 512)
        path = self.save()
        process = self.begin("verify", self.config_all(), "--snapshot", path)
        peak = self.peak_of(process)
        self.assertEqual(self.finish(process), NOT_AS_WANTED)
        self.assertIn(f"{COUNT} values are not as they would be", process.log())
        if not harness.SANITIZED:
            self.assertGreater(peak, 1)
            self.assertLess(peak, 64)


if __name__ == "__main__":
    harness.main()
