#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""quarantine: does it move what is proven to be wrong, byte for byte, and nothing else? And does a watch get past it?"""
import json
import subprocess
from concurrent import futures

from cluster_tool import NOT_AS_WANTED, OK, PREFIX, UNREACHABLE, UNREADABLE, USAGE, ClusterTool, new_key
import harness
from harness import Code, envelope, grpc
from client import prefix_end
from protos import kv as mvcc

COPIES = b"/etcd-envelope/quarantine"
BROKEN = PREFIX + b"ns/broken"


class Quarantine(ClusterTool):
    def setUp(self):
        super().setUp()
        self.config = self.configure(self.kms_provider())

    def broken(self, key=BROKEN, fill=200):
        """A value that is moved to where it does not belong, among enough that are good."""
        self.sealed(fill)
        stored = envelope.seal(key + b"-of-another", b"value of " + key)
        self.raw.put(key, stored)
        return stored

    def quarantine(self, *flags, keys=(BROKEN,), config=None, status=OK, **options):
        named = [flag for key in keys for flag in ("--key", key.decode())]
        out, _ = self.tool("quarantine", config or self.config, *named, "--output", "json", *flags, status=status, **options)
        return json.loads(out)

    def quarantine_text(self, *flags, keys=(BROKEN,), config=None, status=OK, **options):
        named = [flag for key in keys for flag in ("--key", key.decode())]
        return self.tool("quarantine", config or self.config, *named, *flags, status=status, **options)

    def all(self):
        return {key: (kv.value, kv.mod_revision) for key, kv in self.everything(b"/").items()}

    def assertRefused(self, why, *flags, keys=(BROKEN,), config=None):
        """Nothing at all is changed, with --yes above all."""
        before = self.all()
        report = self.quarantine("--yes", *flags, keys=keys, config=config, status=NOT_AS_WANTED)
        self.assertEqual(report["result"], "refused")
        self.assertIn(why, " ".join(k.get("why", "") for k in report["keys"]))
        self.assertEqual(self.all(), before)
        return report

    # --- there and back ---

    def test_there_and_back(self):
        stored = self.broken()
        self.verify(self.config, status=UNREADABLE)
        before = self.all()
        out, _ = self.quarantine_text(status=NOT_AS_WANTED)  # no --yes
        self.assertIn("Nothing was moved: with --yes it is", out)
        self.assertIn("garbage collector deletes", out)
        self.assertIn("AllowUnsafeMalformedObjectDeletion", out)
        self.assertEqual(self.all(), before)
        out, _ = self.quarantine_text("--yes")
        self.assertIn("moved       /registry/secrets/ns/broken  (it is not authentic", out)
        self.assertIn("garbage collector deletes", out)
        self.assertIsNone(self.raw.value(BROKEN))
        copy = self.raw.get(COPIES + BROKEN).kvs[0]
        self.assertEqual((copy.value, copy.lease), (stored, 0))
        self.verify(self.config)
        self.assertIn("still does not open", json.dumps(self.quarantine("--restore", "--yes", status=NOT_AS_WANTED)))
        self.assertIsNone(self.raw.value(BROKEN))
        self.assertEqual(self.quarantine("--restore", "--allow-unreadable", status=NOT_AS_WANTED)["result"], "nothing done")
        self.assertEqual(self.quarantine("--restore", "--allow-unreadable", "--yes")["keys"][0]["fate"], "moved back")
        self.assertEqual(self.raw.value(BROKEN), stored)
        self.assertIsNone(self.raw.value(COPIES + BROKEN))
        self.assertEqual({k: v[0] for k, v in self.all().items()}, {k: v[0] for k, v in before.items()})

    def test_one_transaction(self):
        """Copy and deletion have one revision: nobody sees both keys, or neither."""
        self.broken()
        watch = self.env.client(f"127.0.0.1:{self.etcd.port}").watch(b"/", b"0")
        self.quarantine("--yes")
        events = watch.events(2)
        self.assertEqual({(e.type, e.kv.key) for e in events},
                         {(mvcc.Event.DELETE, BROKEN), (mvcc.Event.PUT, COPIES + BROKEN)})
        self.assertEqual(len({e.kv.mod_revision for e in events}), 1)
        watch.cancel()

    def test_several(self):
        """Keys as verify lists them, odd ones too; of a value with a lease the copy has none; a large one."""
        self.broken(fill=800)
        odd, large, leased = PREFIX + b"ns/a\nb %", PREFIX + b"ns/large", PREFIX + b"ns/leased"
        self.raw.put(odd, b"k8s:enc:kms:v2:test:\xff")
        self.raw.put(large, envelope.seal(BROKEN, b"l" * (1 << 20)))
        lease = self.raw.grant(1000)
        self.raw.put(leased, envelope.seal(BROKEN, b"x"), lease=getattr(lease, "ID", lease))
        listed, _ = self.tool("verify", self.config, "--list", "unreadable", status=UNREADABLE)
        keys = [line.split("\t")[0].encode() for line in listed.splitlines()]
        self.assertEqual(len(keys), 4)
        values = {key: self.raw.value(key) for key in (BROKEN, odd, large, leased)}
        self.assertEqual({k["fate"] for k in self.quarantine("--yes", keys=keys)["keys"]}, {"moved"})
        for key, value in values.items():
            copy = self.raw.get(COPIES + key).kvs[0]
            self.assertEqual((copy.value, copy.lease), (value, 0))
            self.assertIsNone(self.raw.value(key))
        self.verify(self.config)

    def test_back_after_the_key_is_found(self):
        """What opens again, with a configuration that has the right key, goes back without more flags."""
        key, wrong, right = b"/registry/secrets/ns/local", new_key(), new_key()
        old = self.configure(self.local("aesgcm", ("k1", right)), name="old")
        done = subprocess.run([self.binary, "encrypt", "--key", key, "--encryption-provider-config", old], input=b"found",
                              capture_output=True, check=True)
        self.raw.put(key, done.stdout)
        self.sealed(200)
        mixed = self.configure(self.kms_provider(), self.local("aesgcm", ("k1", wrong)), name="mixed")
        good = self.configure(self.kms_provider(), self.local("aesgcm", ("k1", right)), name="good")
        self.quarantine("--yes", keys=[key], config=mixed)
        self.quarantine("--restore", "--yes", keys=[key], config=mixed, status=NOT_AS_WANTED)
        self.quarantine("--restore", "--yes", keys=[key], config=good)
        self.assertEqual(self.raw.value(key), done.stdout)

    def test_nothing_is_overwritten(self):
        """A copy that is there already, and a key that is there again."""
        stored = self.broken()
        self.raw.put(COPIES + BROKEN, b"another copy")
        report = self.quarantine("--yes", status=NOT_AS_WANTED)
        self.assertEqual((report["result"], report["keys"][0]["why"]), ("done in part", "there is a copy of this key already"))
        self.assertEqual((self.raw.value(BROKEN), self.raw.value(COPIES + BROKEN)), (stored, b"another copy"))
        self.raw.delete(COPIES + BROKEN)
        self.quarantine("--yes")
        new = envelope.seal(BROKEN, b"made anew")
        self.raw.put(BROKEN, new)
        self.assertRefused("the key is there again", "--restore", "--allow-unreadable")
        self.assertEqual((self.raw.value(BROKEN), self.raw.value(COPIES + BROKEN)), (new, stored))

    # --- what is refused ---

    def test_what_is_not_proven(self):
        """A value that is good, that is not there, whose key or plugin is away, or may be: all or nothing."""
        self.broken(fill=1000)
        cases = [(PREFIX + b"ns/key-1-00000", None, "it opens"),
                 (PREFIX + b"ns/none", None, "no such key"),
                 (PREFIX + b"ns/provider", b"k8s:enc:secretbox:v1:lost:" + bytes(60), "does not have the provider or key"),
                 (PREFIX + b"ns/name", b"k8s:enc:kms:v2:other:" + bytes(60), "does not have the provider or key"),
                 (PREFIX + b"ns/plain", b"k8s\0plaintext", "it is plaintext"),
                 (PREFIX + b"ns/dek", envelope.seal(PREFIX + b"ns/dek", b"x", wrapped=b"unknown to the plugin"),
                  "plugin does not give the key")]
        for key, value, why in cases:
            if value is not None:
                self.raw.put(key, value)
            self.assertRefused(why, keys=[key, BROKEN])
            self.assertRefused(why, keys=[BROKEN, key])
        self.quarantine("--yes")  # and alone it goes

    def test_kms_v1_of_old(self):
        """What is no AES-GCM may be AES-CBC of a server before v1.25: that has to be tried first."""
        key = PREFIX + b"ns/old"
        provider = f"kms: {{name: old, endpoint: 'unix://{self.kms.path}', timeout: 1s}}"
        config = self.configure(self.kms_provider(), provider, name="v1")
        self.sealed(200)
        self.raw.put(key, envelope.seal_v1(key, b"value", cbc=True))
        self.assertRefused("--kms-v1-cbc-reads", keys=[key], config=config)
        self.assertRefused("it opens", "--kms-v1-cbc-reads", keys=[key], config=config)

    def test_plaintext(self):
        """Only by a flag of its own, in both directions."""
        self.sealed(200)
        self.raw.put(BROKEN, b"k8s\0plaintext")
        self.assertRefused("it is plaintext")
        self.quarantine("--yes", "--include-plaintext")
        self.assertEqual(self.raw.value(COPIES + BROKEN), b"k8s\0plaintext")
        self.assertRefused("the copy is plaintext", "--restore")
        self.quarantine("--restore", "--yes", "--include-plaintext")
        self.assertEqual(self.raw.value(BROKEN), b"k8s\0plaintext")

    def test_empty_value(self):
        """It is plaintext of no length."""
        self.sealed(200)
        self.raw.put(BROKEN, b"")
        self.assertRefused("--include-plaintext")
        self.quarantine("--yes", "--include-plaintext")
        self.assertEqual((self.raw.value(BROKEN), self.raw.get(COPIES + BROKEN).kvs[0].value), (None, b""))
        self.quarantine("--restore", "--yes", "--include-plaintext")
        self.assertEqual((self.raw.get(BROKEN).kvs[0].value, self.raw.value(COPIES + BROKEN)), (b"", None))

    def test_too_much_of_a_kind(self):
        """Exactly 1 % may be unreadable, in each kind that a key is of."""
        config = self.configure(self.kms_provider(), resources="secrets, configmaps", name="two")
        other = b"/registry/configmaps/ns/broken"
        self.broken(fill=99)
        self.sealed(98, prefix=b"/registry/configmaps/ns/")
        self.raw.put(other, envelope.seal(BROKEN, b"x"))
        self.assertEqual(self.quarantine(config=config, status=NOT_AS_WANTED)["result"], "nothing done")
        for keys in [other], [BROKEN, other]:
            report = self.assertRefused("", keys=keys, config=config)
            self.assertEqual(report["too_much_unreadable_of"], "configmaps")
        out, _ = self.quarantine_text("--yes", keys=[other], config=config, status=NOT_AS_WANTED)
        self.assertIn("the configuration is wrong rather than the values", out)
        self.raw.put(PREFIX + b"ns/plain", b"counts as well")
        self.assertEqual(self.assertRefused("", config=config)["too_much_unreadable_of"], "secrets")
        self.quarantine("--yes", "--unreadable-limit", "2", keys=[BROKEN, other], config=config)

    def test_plugin_away(self):
        self.broken()
        config = self.configure(self.kms_provider(path="/nowhere.sock"))
        before = self.all()
        self.quarantine("--yes", config=config, status=UNREACHABLE)
        self.assertEqual(self.all(), before)

    def test_used_wrongly(self):
        self.broken()
        many = [PREFIX + b"ns/key-1-%05d" % i for i in range(11)]
        for text, keys, flags in (("11 keys are more than --max (10)", many, []),
                                  ("is needed", [], []),
                                  ("is given twice", [BROKEN, BROKEN], []),
                                  ("is not protected", [b"/registry/pods/ns/a"], []),
                                  ("is no key", [b"/registry/secrets/%0"], []),
                                  ("lies under --etcd-prefix", [BROKEN], ["--quarantine-prefix", "/registry/quarantine"]),
                                  ("is no prefix", [BROKEN], ["--quarantine-prefix", "x"]),
                                  ("is no prefix", [BROKEN], ["--quarantine-prefix", "/"]),
                                  ("lies under a protected prefix", [BROKEN],
                                   ["--protect-prefix", "/etcd-envelope/=secrets"]),
                                  ("goes with --restore", [BROKEN], ["--allow-unreadable"]),
                                  ("--list stands alone", [BROKEN], ["--list"]), ("--list stands alone", [], ["--list"]),
                                  ("are two things", [BROKEN], ["--restore", "--discard"]),
                                  ("is not a number", [BROKEN], ["--unreadable-limit", "101"]),
                                  ("is not text or json", [BROKEN], ["--output", "xml"])):
            before = self.all()
            _, err = self.quarantine_text("--yes", *flags, keys=keys, status=USAGE)
            self.assertIn(text, err)
            self.assertEqual(self.all(), before)
        self.assertRefused("it opens", "--max", "11", keys=many)

    def test_a_proxy_is_refused(self):
        self.broken()
        proxy = self.env.proxy(self.etcd, self.config, name="not-etcd")
        _, err = self.quarantine_text("--yes", servers=proxy.listen[0], status=USAGE)
        self.assertIn("is a proxy of etcd-envelope", err)
        proxy.stop()

    # --- behind a proxy ---

    def test_list_and_watch(self):
        """As a kube-apiserver sees it. Its list fails; then the value is moved, and the DELETE's prev_kv does not open:
        its watch is cancelled, and it is not trapped: the list works, and a watch from there goes on."""
        self.broken(fill=150)
        proxy = self.env.proxy(self.etcd, self.config, name="watched")
        client, end = proxy.client, prefix_end(PREFIX)
        self.assertStatus(Code.DATA_LOSS, client.get, PREFIX, end, text="ns/broken")
        revision = self.raw.get(b"x").header.revision
        both = client.watch(PREFIX, end, prev_kv=True, start_revision=revision + 1)
        bare = client.watch(PREFIX, end)
        client.put(PREFIX + b"ns/before", b"before")
        self.quarantine("--yes")
        # What came before it is told, then that one watch is over.
        self.assertEqual(both.events(1)[0].kv.value, b"before")
        canceled = both.next()
        self.assertTrue(canceled.canceled)
        self.assertEqual((canceled.watch_id, canceled.compact_revision), (both.watch_id, 0))
        # Without prev_kv there is nothing to open: the watch goes on.
        events = bare.events(2)
        self.assertEqual([(e.type, e.kv.key) for e in events],
                         [(mvcc.Event.PUT, PREFIX + b"ns/before"), (mvcc.Event.DELETE, BROKEN)])
        # The apiserver lists again, and watches from what it got, on the same stream or another.
        answer = client.get(PREFIX, end)
        self.assertEqual(answer.count, 152)  # the good ones, "before", and the harness's own
        deleted = events[1].kv.mod_revision
        self.assertGreaterEqual(answer.header.revision, deleted)
        for start in answer.header.revision + 1, deleted + 1:
            again = client.watch(PREFIX, end, prev_kv=True, start_revision=start)
            both.create(PREFIX, end, prev_kv=True, start_revision=start)
            both.created()
            new = b"written for the watch from %d" % start
            client.put(PREFIX + b"ns/after", new)
            for stream in again, both:
                seen = []
                while new not in seen:
                    seen += [e.kv.value for e in stream.events(1)]
            again.cancel()
        # And back: a new key, which opens for nobody, ends such a watch again, as any value that does not open.
        self.quarantine("--restore", "--allow-unreadable", "--yes")
        self.assertStatus(Code.DATA_LOSS, client.get, PREFIX, end)
        both.cancel()
        bare.cancel()
        proxy.stop()

    def test_copies_through_a_proxy(self):
        """A copy is no protected key: what a client reads there is sealed."""
        stored = self.broken()
        self.quarantine("--yes")
        proxy = self.env.proxy(self.etcd, self.config, name="copies")
        self.assertEqual(proxy.client.value(COPIES + BROKEN), stored)
        proxy.stop()

    # --- somebody is quicker ---

    def test_written_meanwhile(self):
        """etcd stands between the look and the Txn: whoever wrote in between keeps what he wrote."""
        self.broken()
        new = envelope.seal(BROKEN, b"written by somebody else")
        fake = Between(self, before=lambda: self.raw.put(BROKEN, new))
        report = self.quarantine("--yes", servers=fake.url, status=NOT_AS_WANTED)
        self.assertEqual((report["result"], report["keys"][0]["why"]), ("done in part", "somebody has written it meanwhile"))
        self.assertEqual(self.raw.value(BROKEN), new)
        self.assertIsNone(self.raw.value(COPIES + BROKEN))
        fake.stop()

    # --- what lies there ---

    def list(self):
        out, _ = self.tool("quarantine", self.config, "--list", "--output", "json")
        report = json.loads(out)
        self.assertTrue(report["finished"])
        return {c["key"].encode(): c["key_is_there_again"] for c in report["copies"]}

    def test_list_and_discard(self):
        """Copies are named; one is deleted only where its key is there again, and what it has opens."""
        self.assertEqual(self.list(), {})
        keys = [PREFIX + b"ns/broken%d" % i for i in range(3)]
        for key in keys:
            self.broken(key)
        self.raw.put(COPIES[:-1] + b"/x", b"beside")
        self.raw.put(COPIES + b"0", b"behind")
        self.quarantine("--yes", "--unreadable-limit", "50", keys=keys)
        self.assertEqual(self.list(), dict.fromkeys(keys, False))
        # A second run finds its work done, and says where.
        self.assertRefused("it is in quarantine already", keys=keys[:1])
        self.assertRefused("the copy is all that is left of it", "--discard", keys=keys)
        out, _ = self.quarantine_text("--discard", keys=keys, status=NOT_AS_WANTED)
        self.assertNotIn("(ok)", out)  # of what is not there nothing is said
        self.assertFalse([k for k in self.quarantine("--discard", keys=keys, status=NOT_AS_WANTED)["keys"] if "reason" in k])
        self.raw.put(keys[0], envelope.seal(keys[0], b"made anew"))
        self.raw.put(keys[1], envelope.seal(keys[1] + b"-of-another", b"value"))
        self.assertEqual(self.list(), {keys[0]: True, keys[1]: True, keys[2]: False})
        self.assertRefused("does not open either", "--discard", keys=keys[:2])
        self.assertRefused("there is no copy of it", "--discard", keys=[PREFIX + b"ns/key-1-00000"])
        before = self.all()
        out, _ = self.quarantine_text("--discard", keys=keys[:1], status=NOT_AS_WANTED)
        self.assertIn("Nothing was deleted: with --yes it is", out)
        self.assertEqual(self.all(), before)
        self.assertEqual(self.quarantine("--discard", "--yes", keys=keys[:1])["keys"][0]["fate"], "deleted")
        del before[COPIES + keys[0]]
        self.assertEqual(self.all(), before)
        self.assertEqual(self.list(), {keys[1]: True, keys[2]: False})
        out, _ = self.tool("quarantine", self.config, "--list")
        self.assertIn("broken2  moved at revision", out)
        self.assertIn("2 under /etcd-envelope/quarantine", out)

    def test_discard_beside_others(self):
        """Somebody deletes the key just then, or the answer is lost."""
        self.broken()
        self.quarantine("--yes")
        good = envelope.seal(BROKEN, b"made anew")
        self.raw.put(BROKEN, good)
        fake = Between(self, before=lambda: self.raw.delete(BROKEN))
        report = self.quarantine("--discard", "--yes", servers=fake.url, status=NOT_AS_WANTED)
        self.assertEqual((report["result"], report["keys"][0]["fate"]), ("done in part", "left"))
        self.assertIsNotNone(self.raw.value(COPIES + BROKEN))
        fake.stop()
        self.raw.put(BROKEN, good)
        fake = Between(self, loses=1)
        self.assertEqual(self.quarantine("--discard", "--yes", servers=fake.url)["result"], "good")
        self.assertEqual((self.raw.value(COPIES + BROKEN), self.raw.value(BROKEN)), (None, good))
        fake.stop()

    def test_many_copies(self):
        """More than one answer of etcd holds, with keys of every kind."""
        keys = [PREFIX + b"ns/%s" % bytes([i]) * (1 + i % 3) for i in range(1, 256) if i not in b"%"] + [PREFIX + b"a" * 3000]
        for key in keys:
            self.raw.put(COPIES + key, b"x")
        out, _ = self.tool("quarantine", self.config, "--list", "--output", "json")
        self.assertEqual({c["key"].encode("latin-1") for c in json.loads(out)["copies"]}, set(keys))

    def test_answer_lost(self):
        """The Txn is carried out, and its answer lost: made again, it finds its own work, in both directions. Also when
        somebody makes the key anew before that: then it is not known, and nothing is done to what he wrote."""
        stored = self.broken()
        for flags, there, gone in ([], COPIES + BROKEN, BROKEN), (["--restore", "--allow-unreadable"], BROKEN, COPIES + BROKEN):
            fake = Between(self, loses=1)
            report = self.quarantine("--yes", *flags, servers=fake.url)
            self.assertEqual((report["result"], fake.txns), ("good", 2))
            self.assertEqual((self.raw.value(there), self.raw.value(gone)), (stored, None))
            fake.stop()
        new = envelope.seal(BROKEN, b"made anew")
        fake = Between(self, loses=1, after=lambda: self.raw.put(BROKEN, new))
        report = self.quarantine("--yes", servers=fake.url, status=NOT_AS_WANTED)
        self.assertEqual(report["keys"][0]["fate"], "left")
        self.assertEqual((self.raw.value(COPIES + BROKEN), self.raw.value(BROKEN)), (stored, new))
        fake.stop()


class Between:
    """In front of etcd: something happens before the first Txn or after it, and the answers of some are lost."""

    def __init__(self, test, before=lambda: None, after=lambda: None, loses=0):
        self.channel, self.before, self.after, self.loses, self.txns = test.raw.channel, before, after, loses, 0
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers([self])
        self.url = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        passed = self.channel.unary_unary(details.method, None, None)

        def handle(request, context):
            if not details.method.endswith("/Txn") or b"/lock" in request:  # proxies are told at the end
                return passed(request, timeout=20)
            self.txns += 1
            if self.txns == 1:
                self.before()
            answer = passed(request, timeout=20)
            if self.txns == 1:
                self.after()
            if self.txns <= self.loses:
                context.abort(Code.UNAVAILABLE, "the answer is lost")
            return answer
        return grpc.unary_unary_rpc_method_handler(handle)

    def stop(self):
        self.server.stop(0)


if __name__ == "__main__":
    harness.main()
