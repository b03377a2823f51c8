#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""conf/: does the program take every file that is shipped, are the steps of a rotation readable by each other, do the shells
complete what --help has?"""
import base64
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness  # first: it sets the path to tests/fake

CONF = harness.ROOT / "conf"
sys.path.insert(0, str(CONF))
import flags  # noqa: E402

KEY = "/registry/secrets/default/sample"


def run(*argv, data=b"", **options):
    return subprocess.run([str(a) for a in argv], input=data, capture_output=True, check=False, timeout=60, **options)


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="envelope-conf-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.proxy = harness.program("etcd-envelope")


class ConfigurationFile(Base):
    """conf/etcd-envelope.yaml; that it names every flag is flags.py's business (lint/flags)."""

    def settings(self, text, *more):
        path = self.folder / "etcd-envelope.yaml"
        path.write_text(text)
        done = run(self.proxy, "serve", *(["--config-file", path] if text else []), "--print-config", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    def test_as_shipped(self):
        """Only what is set there differs from the defaults."""
        said = self.settings((CONF / "etcd-envelope.yaml").read_text())
        defaults = self.settings("")
        differ = {line.split(":")[0] for line in set(said.splitlines()) ^ set(defaults.splitlines())}
        self.assertEqual(differ, {"encryption-provider-config"})

    def test_what_is_commented_out(self):
        """These are the defaults, and they are taken."""
        text = re.sub(r"^#([a-z-]+:)", r"\1", (CONF / "etcd-envelope.yaml").read_text(), flags=re.M)
        name = re.search(r"^allowed-client-names: (.*)\n", text, re.M)  # an empty list is refused on purpose: a sample
        said = self.settings(text, "--trusted-ca-file=ca.crt", "--cert-file=a.crt", "--key-file=a.key")
        self.assertRegex(said, rf"(?m)^allowed-client-names:\s+- \W*{name[1]}\W*$")
        text = text.replace(name[0], "")
        names = set(re.findall(r"^([a-z-]+):", text, re.M))
        printed = self.settings("")
        self.assertEqual(names - set(re.findall(r"^([a-z-]+):", printed, re.M)), set())
        self.assertEqual(self.settings(text).replace('"/etc/etcd-envelope/encryption.yaml"', '""'), printed)


class Samples(Base):
    def sample(self, name):
        text = (CONF / "examples" / f"encryption-{name}.yaml").read_text()
        for i in (1, 2):
            text = text.replace(f"@KEY{i}@", base64.b64encode(bytes([i]) * 32).decode())
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def names(self):
        return sorted(p.stem.removeprefix("encryption-") for p in (CONF / "examples").glob("encryption-*.yaml"))

    def test_all_are_taken(self):
        self.assertGreater(len(self.names()), 10)
        for name in self.names():
            allowed = ["--allow-identity-writes"] if name.startswith("off-") else []
            done = run(self.proxy, "check", "--offline", "--encryption-provider-config", self.sample(name), *allowed)
            self.assertEqual(done.returncode, 0, (name, done.stdout, done.stderr))
            if allowed:  # it says what it is for
                done = run(self.proxy, "check", "--offline", "--encryption-provider-config", self.sample(name))
                self.assertNotEqual(done.returncode, 0, name)

    def test_placeholders_are_no_keys(self):
        """Nobody's cluster is sealed with a key that everybody knows."""
        for path in (CONF / "examples").glob("encryption-*.yaml"):
            if "@KEY" in path.read_text():
                done = run(self.proxy, "check", "--offline", "--allow-identity-writes", "--encryption-provider-config", path)
                self.assertEqual(done.returncode, 1, path)

    def open(self, name, stored):
        return run(self.proxy, "decrypt", "--key", KEY, "--encryption-provider-config", self.sample(name),
                   "--allow-identity-writes", data=stored)

    def test_steps(self):
        """Proxies at neighbouring steps read what the others write; beyond a last step old values are refused."""
        for steps in (("secretbox", "rotate-1", "rotate-2", "rotate-3"), ("secretbox", "off-1")):
            for one, two in zip(steps, steps[1:]):
                for writer, reader in ((one, two), (two, one)):
                    done = run(self.proxy, "encrypt", "--key", KEY, "--encryption-provider-config", self.sample(writer),
                               "--allow-identity-writes", data=b"value")
                    self.assertEqual(done.returncode, 0, (writer, done.stderr))
                    self.assertEqual(self.open(reader, done.stdout).stdout, b"value", (writer, reader))
        old = run(self.proxy, "encrypt", "--key", KEY, "--encryption-provider-config", self.sample("rotate-1"), data=b"value")
        self.assertEqual(self.open("rotate-3", old.stdout).returncode, 4)


class ManPages(Base):
    def test_pages(self):
        """scdoc makes them; that they name every flag is flags.py's business, that they name no other one this test's."""
        programs = flags.Programs(harness.BUILD)
        every = {"--" + f.name for h in (*programs.commands.values(), programs.plugin) for f in h.flags()} | {
            "--print-value-only", "--name", "--yes"}  # etcdctl's; the word for any flag; one that only a text names
        for path in sorted((CONF / "man").glob("*.scd")):
            self.assertEqual(set(re.findall(r"--[a-z][a-z0-9-]*[a-z0-9]", path.read_text())) - every, set(), path)
            self.assertNotIn("\\\\", path.read_text(), "an escape that is escaped itself")
            self.assertEqual(re.findall(r"^\*--.*\n(?!\t)", path.read_text(), re.M), [], "a flag without a text")
            if shutil.which("scdoc"):
                done = run("scdoc", data=path.read_bytes())
                self.assertEqual((done.returncode, done.stderr), (0, b""), path)
                self.assertIn(b".SH NAME", done.stdout)


class Completion(Base):
    """What a shell offers is what --help has."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.programs = flags.Programs(harness.BUILD)

    def wanted(self):
        """Of each command: its flags. "": of none, the subcommands."""
        return {name: {"--" + f.name for f in self.programs.flags_of(name)} for name in self.programs.commands}

    def bash(self, *words, program="etcd-envelope"):
        function = "_" + program.replace("-", "_")
        script = ('source "$0"; function=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = run("bash", "-c", script, CONF / "completion" / "etcd-envelope.bash", function, program, *words,
                   cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return set(done.stdout.decode().split())

    def test_bash(self):
        self.assertEqual(self.bash(""), {*self.programs.said, "help"})
        self.assertEqual(self.bash("ver"), {"verify", "version"})
        for name, wanted in self.wanted().items():
            self.assertEqual(self.bash(name, "--"), wanted, name)
        self.assertEqual(self.bash("--list"), {f for f in self.wanted()["serve"] if f.startswith("--list")})
        self.assertEqual(self.bash("serve", "--log-level", ""), {"debug", "info", "warn", "error"})
        self.assertEqual(self.bash("serve", "--log-level", "=", "w"), {"warn"})
        self.assertEqual(self.bash("check", "--output", ""), {"text", "json"})
        self.assertEqual(self.bash("nonsense", "--"), set())
        (self.folder / "file.yaml").touch()
        self.assertIn("file.yaml", self.bash("serve", "--config-file", "fi"))
        self.assertEqual(self.bash("--", program="etcd-envelope-local-kms"),
                         {"--" + f.name for f in self.programs.plugin.flags()})

    @unittest.skipUnless(shutil.which("zsh"), "NOTICE: no zsh")
    def test_zsh(self):
        """The function is called as compsys does; what it would offer is what it tells _arguments and _describe."""
        script = ('_arguments() { print -rl -- "$@" }; _describe() { print -rl -- "${(@P)2}" }; _files() { }\n'
                  'service=$1; shift; words=("$@"); CURRENT=$#; source "$file"')
        def offered(*words, service="etcd-envelope"):
            done = run("zsh", "-f", "-c", script, "zsh", service, service, *words,
                       env={**os.environ, "file": str(CONF / "completion" / "_etcd-envelope")})
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            return done.stdout.decode()
        found = lambda text: set(re.findall(r"^\*(--[a-z0-9-]+)", text, re.M))  # noqa: E731
        self.assertEqual({line.split(":")[0] for line in offered("").splitlines()}, set(self.programs.said))
        for name, wanted in self.wanted().items():
            self.assertEqual(found(offered(name, "--")), wanted, name)
        self.assertEqual(found(offered("--")), self.wanted()["serve"])
        self.assertIn(":log-level:(debug info warn error)", offered("serve", "--"))
        self.assertEqual(found(offered("--", service="etcd-envelope-local-kms")),
                         {"--" + f.name for f in self.programs.plugin.flags()})

    @unittest.skipUnless(shutil.which("zsh"), "NOTICE: no zsh")
    def test_zsh_has_such_specs(self):
        """compsys itself understands each: a wrong bracket or colon would be an error of comparguments."""
        specs = re.findall(r"^        ('\*--.*')(?: \\)?$", (CONF / "completion" / "_etcd-envelope").read_text(), re.M)
        self.assertGreater(len(specs), 100)
        for spec in specs:
            text = spec[1:-1].replace("'\\''", "'")
            self.assertRegex(text, r"^\*--[a-z0-9-]+=?\[(?:[^\[\]:\\]|\\.)*\](?:$|:[^:]+:.+$)")
        self.assertEqual(run("zsh", "-n", CONF / "completion" / "_etcd-envelope").returncode, 0)

    @unittest.skipUnless(shutil.which("fish"), "NOTICE: no fish")
    def test_fish(self):
        def offered(line):
            done = run("fish", "--no-config", "-c", 'source $argv[1]; complete -C $argv[2]',
                       CONF / "completion" / "etcd-envelope.fish", line,
                       env={**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)})
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            return {text.split("\t")[0].rstrip("=") for text in done.stdout.decode().splitlines()}
        self.assertEqual(offered("etcd-envelope ") - {"help"}, set(self.programs.said))
        for name, wanted in self.wanted().items():
            self.assertEqual(offered(f"etcd-envelope {name} --"), wanted, name)
        self.assertEqual(offered("etcd-envelope --"), self.wanted()["serve"])
        self.assertEqual(offered("etcd-envelope serve --log-level "), {"debug", "info", "warn", "error"})
        self.assertEqual(offered("etcd-envelope-local-kms --"), {"--" + f.name for f in self.programs.plugin.flags()})


if __name__ == "__main__":
    harness.main()
