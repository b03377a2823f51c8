#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""README's story of a whole cluster, step by step with its own commands, while writers run: brought in, proved, rotated
twice, taken back to plaintext. Is every step's proof right, and is nothing lost?"""
import json
import random
import re
import signal
import subprocess
import threading

from cluster_tool import COUNT, NOT_AS_WANTED, OK, UNREADABLE, ClusterTool, new_key
import harness
from harness import wait_until


class Story(ClusterTool):
    def writer(self, number, client, stop, last):
        self.keep_writing(client, b"/registry/secrets/writer%d/" % number, 100, stop, last, random.Random(number))

    def reload(self, config, *providers):
        """Another content of the file, taken over by all proxies."""
        before = [p.metric("etcd_envelope_reload_successes_total") for p in self.proxies]
        self.configure(*providers, name=config.stem)
        for proxy in self.proxies:
            proxy.process.signal(signal.SIGHUP)
        for proxy, count in zip(self.proxies, before):
            wait_until(lambda: proxy.metric("etcd_envelope_reload_successes_total") > count, 30,  # noqa: B023
                       f"reload: {proxy.process.log()[-500:]}")

    def check_all(self):
        """Through the proxy everything reads as it was written."""
        reader, seen = self.proxies[0].client, 0
        key = b"/registry/secrets/ns"
        while True:
            answer = reader.get(key, b"/registry/secrets/nt", limit=1000)
            for kv in answer.kvs:
                self.assertEqual(kv.value, self.value_of(int(kv.key[-7:])))
            seen += len(answer.kvs)
            if not answer.more:
                break
            key = answer.kvs[-1].key + b"\0"
        self.assertEqual(seen, self.count)

    def test_story(self):
        self.problems, self.count = [], COUNT if harness.LONG else COUNT // 4
        self.fill(self.count)
        self.raw.put(b"/registry/pods/ns/a", b"not protected")
        kms, local, identity = self.kms_provider(), new_key(), "identity: {}"
        config = self.configure(kms, identity, name="encryption")
        rewrite = ("reencrypt", config, "--rate", "0")

        self.tool("check", config)
        self.proxies = [self.env.proxy(self.etcd, config, name=n, flags=["--allow-identity-writes", "--allow-unprotect"])
                        for n in ("one", "two")]
        stop, last = threading.Event(), [{}, {}]
        threads = [threading.Thread(target=self.writer, args=(i, self.proxies[i].client, stop, last[i])) for i in (0, 1)]
        for thread in threads:
            thread.start()
        try:
            self.tool(*rewrite, "--dry-run", status=NOT_AS_WANTED)
            self.tool("verify", config, status=NOT_AS_WANTED)
            self.tool(*rewrite)
            out, _ = self.tool("verify", config)
            self.assertIn("No value is plaintext as of revision", out)
            self.check_all()
            self.reload(config, kms)  # nothing needs identity any more
            self.tool("verify", config)

            # The plugin's key: the proxies poll its Status once a minute; health checks let them see it sooner.
            self.kms.key_id = "key-2"
            self.reload(config, kms, identity)
            self.tool(*rewrite)
            report = self.verify(config)
            self.assertEqual([k["state"] for k in report["resources"][0]["keys"]], ["current key"])
            self.check_status()
            self.check_all()

            # To a local key: first as a reader everywhere, then as the writer.
            key = self.local("secretbox", ("k1", local))
            self.reload(config, kms, key)
            self.reload(config, key, kms)
            without = self.configure(key, name="without")
            self.tool("verify", without, status=UNREADABLE)
            self.tool(*rewrite)
            self.tool("verify", config)
            self.tool("verify", without)
            self.reload(config, key)
            self.check_all()

            # And back to plaintext.
            self.reload(config, identity, key)
            self.tool(*rewrite, "--to-identity", "--yes")
            self.assertEqual(self.verify(config)["total"]["due_for_rewrite"], 0)
            self.reload(config, identity)
            self.check_all()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(self.problems, [])
        stored = self.everything(b"/registry/secrets/")
        for mine in last:
            for key, value in mine.items():
                self.assertEqual(stored[key].value if key in stored else None, value)
        self.assertFalse([k for k, kv in stored.items() if kv.value.startswith(b"k8s:enc:")])
        print(f"{self.count} objects, {sum(map(len, last))} keys of writers")

    def check_status(self):
        urls = ",".join(f"http://127.0.0.1:{p.metrics_port}" for p in self.proxies)
        done = subprocess.run([self.binary, "status", "--metrics-urls", urls, "--output", "json"], capture_output=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, OK, done.stdout)
        self.assertTrue(json.loads(done.stdout)["all_agree"])

    def test_readme_names_what_there_is(self):
        """Every command of the story is one that the program has, with flags that its help names."""
        text = (harness.ROOT / "README.md").read_text()
        story = text[text.index("## A cluster's whole story"):text.index("## The tools")]
        used = re.findall(r"etcd-envelope (check|verify|reencrypt|status)\b([^\n#;&|`]*)", story)
        self.assertGreater(len(used), 8)
        for name, rest in used:
            shown = subprocess.run([self.binary, name, "--help"], capture_output=True, text=True, check=True).stdout
            for flag in re.findall(r"--[a-z][a-z-]+", rest):
                self.assertIn(flag, shown)


if __name__ == "__main__":
    harness.main()
