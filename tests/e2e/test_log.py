#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What peers send cannot forge a field or a line of the log, nor make its JSON invalid; and the log does not say
which secrets there are, but at level debug."""
import hashlib
import json
import re

import harness  # first: it sets the path to tests/fake
import h2raw
from harness import Code, envelope, wait_until
from protos import rpc

RANGE = "/etcdserverpb.KV/Range"
FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')
ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)")
HOSTILE = [b'gzip" status=OK text="fine', b"a\\", b"gzip\xff\xfe\xc3(", b'\\" level=error x="', b"a\tb", b"=" * 60,
           "gzip\u202e\u2028".encode(), b"%s%n%s"]


def unquoted(value):
    if not value.startswith('"'):
        return value.encode()
    named = {"n": "\n", "r": "\r", "t": "\t"}
    return ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" else named.get(m[1], m[1]),
                      value[1:-1]).encode("latin-1")


def fields(text):
    """The fields of a line as a list of (key, value): all of the text has to be fields."""
    found, at = [], 0
    while at < len(text):
        match = FIELD.match(text, at)
        if match is None:
            raise AssertionError(f"no field at {text[at:]!r} of {text!r}")
        found.append((match[1], unquoted(match[2])))
        at = match.end()
    return found


class Log(harness.OwnProxies):
    def start_proxy(self, *flags):
        proxy = self.env.proxy(self.etcd, self.config, name=self.name, flags=flags)
        self.addCleanup(proxy.stop)
        return proxy

    def lines(self, proxy, message, is_json):
        """The fields of the lines with this message."""
        found = []
        for line in proxy.process.log_path.read_bytes().splitlines():
            if is_json:
                record = json.loads(line.decode("utf-8"))
                self.assertEqual(list(record)[:3], ["ts", "level", "msg"])
                if record["msg"] == message:
                    found.append([(k, str(v).encode("latin-1")) for k, v in list(record.items())[3:]])
            else:
                text = line.decode("ascii")
                match = re.fullmatch(r"\S+Z (debug|info |warn |error) (.*)", text)
                self.assertIsNotNone(match, text)
                if match[2].startswith(message + " "):
                    found.append(fields(match[2][len(message) + 1:]))
        return found

    def hostile_calls(self, is_json):
        proxy = self.start_proxy("--log-level=info", f"--log-format={'json' if is_json else 'text'}")
        body = rpc.RangeRequest(key=b"x").SerializeToString()
        for number, text in enumerate(HOSTILE):
            def logged():
                client = h2raw.Client(proxy.address)
                self.addCleanup(client.close)
                self.assertEqual(client.call(RANGE, body, extra=[("grpc-encoding", text)]).status,
                                 Code.UNIMPLEMENTED.value[0])
                return [line for line in self.lines(proxy, "call failed", is_json)
                        if b"grpc-encoding \"" + text[:64] + b'"' in dict(line)["text"]]
            # At most one line a second at this place of the code.
            line = wait_until(logged, 10, f"line for {text!r}", step=0.3)[0]
            self.assertEqual([key for key, _ in line], ["call", "method", "reason", "status", "text"], number)
            self.assertEqual(dict(line)["status"], b"UNIMPLEMENTED")
        if is_json:
            self.assertRegex(proxy.process.log(), r'"msg":"call failed","call":\d+,"method":"')

    def test_text(self):
        self.hostile_calls(is_json=False)

    def test_json(self):
        self.hostile_calls(is_json=True)

    def names(self, level):
        """Reads a damaged secret, alone and in a watch; returns what the log says of it."""
        key = self.secret("launch-codes")
        stored = envelope.seal(key, b"value")
        self.raw.put(key, stored[:-1] + bytes([stored[-1] ^ 1]))
        proxy = self.start_proxy(f"--log-level={level}")
        self.assertStatus(Code.DATA_LOSS, proxy.client.get, key, text=key.decode())
        watch = proxy.client.watch_stream()
        watch.create(key, start_revision=1)
        while not watch.next().canceled:
            pass
        watch.cancel()
        for message in ("call failed", "watch cancelled"):
            wait_until(lambda m=message: self.lines(proxy, m, False), 5, message)
        return key, proxy.process.log()

    def test_names_are_hashed(self):
        key, log = self.names("info")
        self.assertNotIn("launch-codes", log)
        self.assertEqual(log.count(f"cannot decrypt sha256:{hashlib.sha256(key).hexdigest()[:16]}\""), 2)

    def test_names_at_debug(self):
        key, log = self.names("debug")
        named = [line for line in log.splitlines() if "launch-codes" in line]
        self.assertEqual(len(named), 2)
        for line in named:
            self.assertEqual(line.split()[1], "debug")
            self.assertIn(f"key={key.decode()}", line)


if __name__ == "__main__":
    harness.main()
