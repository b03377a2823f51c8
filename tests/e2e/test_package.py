#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian package that cpack makes of this build: what is in it, what lintian says, and, with E2E_INSTALL naming a folder
with a Debian system of its own (see tests/debian.sh), that it installs there and purges without leaving anything but keys.
Exit status 77, which CTest takes for skipped, where the tools for packages are missing."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness

TOOLS = ("cpack", "dpkg-deb", "dpkg-shlibdeps", "gzip")
# Of a sanitizer's or debug build these are no mistakes of the package.
OF_THE_BUILD = {"hardening-no-pie", "library-not-linked-against-libc"}


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=150, **options)


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="envelope-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        done = run("cpack", "-G", "DEB", "-B", cls.folder, "--config", harness.BUILD / "CPackConfig.cmake")
        debs = list(cls.folder.glob("*.deb"))
        if done.returncode != 0 or len(debs) != 1:
            raise AssertionError(f"cpack: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        cls.deb = debs[0]
        done = run("dpkg-deb", "-x", cls.deb, cls.folder / "root")
        assert done.returncode == 0, done.stderr
        run("dpkg-deb", "-e", cls.deb, cls.folder / "control")

    def test_contents(self):
        """Every file of conf/ that a machine needs is where Debian looks for it; nothing is anywhere else."""
        root = self.folder / "root"
        files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
        wanted = {"usr/bin/etcd-envelope", "usr/bin/etcd-envelope-local-kms", "etc/etcd-envelope/etcd-envelope.yaml",
                  "usr/lib/sysusers.d/etcd-envelope.conf", "usr/lib/tmpfiles.d/etcd-envelope.conf",
                  "usr/share/bash-completion/completions/etcd-envelope", "usr/share/zsh/vendor-completions/_etcd-envelope",
                  "usr/share/bash-completion/completions/etcd-envelope-local-kms",
                  "usr/share/fish/vendor_completions.d/etcd-envelope.fish", "usr/share/doc/etcd-envelope/copyright",
                  "usr/share/doc/etcd-envelope/changelog.gz", "usr/share/doc/etcd-envelope/README.md"}
        wanted |= {f"usr/lib/systemd/system/{p.name}" for pattern in ("*.service", "*.socket")
                   for p in (harness.ROOT / "conf" / "systemd").glob(pattern)}
        if (pathlib.Path(os.environ.get("ENVELOPE_BUILD", "build/dev")) / "etcd-envelope.spdx.json").exists():
            wanted.add("usr/share/doc/etcd-envelope/etcd-envelope.spdx.json")
        if shutil.which("scdoc"):
            wanted |= {"usr/share/man/man1/etcd-envelope.1.gz", "usr/share/man/man1/etcd-envelope-local-kms.1.gz"}
        self.assertEqual(wanted - files, set())
        others = {f for f in files - wanted if not f.startswith("usr/share/doc/etcd-envelope/")}
        self.assertEqual(others, set())
        self.assertFalse(any(p.stat().st_mode & 0o022 for p in root.rglob("*")), "nothing is writable by others")

    def test_control(self):
        fields = run("dpkg-deb", "-f", self.deb).stdout
        self.assertRegex(fields, r"(?m)^Package: etcd-envelope$")
        depends = re.search(r"(?m)^Depends: (.*)$", fields)[1]
        for name in ("libc6", "libssl3", "libuv1", "libnghttp2-14", "libyaml-0-2", "libsodium23", "libseccomp2", "libprotobuf-c1"):
            self.assertIn(name, depends)
        self.assertEqual((self.folder / "control" / "conffiles").read_text(), "/etc/etcd-envelope/etcd-envelope.yaml\n")
        for name in ("postinst", "prerm", "postrm"):
            self.assertEqual(run("sh", "-n", self.folder / "control" / name).returncode, 0)
            self.assertTrue(os.access(self.folder / "control" / name, os.X_OK))

    @unittest.skipUnless(shutil.which("lintian"), "NOTICE: no lintian")
    def test_lintian(self):
        if harness.SANITIZED:
            self.skipTest("a sanitizer's build")
        done = run("lintian", "--allow-root", "--tag-display-limit", "0", self.deb)
        errors = [line for line in done.stdout.splitlines() if line.startswith("E:") and not OF_THE_BUILD & set(line.split())]
        self.assertEqual(errors, [], done.stdout + done.stderr)

    @unittest.skipUnless(os.environ.get("E2E_INSTALL"), "NOTICE: E2E_INSTALL names no Debian system")
    def test_install_and_purge(self):
        """In a Debian system of its own; the package's dependencies have to be there or to be had."""
        root = pathlib.Path(os.environ["E2E_INSTALL"])
        def inside(*argv):
            done = run("chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
                       *argv)
            self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])
            return done.stdout + done.stderr
        shutil.copy(self.deb, root / "tmp" / "package.deb")
        inside("apt-get", "-qq", "update")
        inside("apt-get", "-qq", "-y", "install", "--no-install-recommends", "/tmp/package.deb")
        self.assertIn("etcd-envelope", inside("etcd-envelope", "version"))
        self.assertIn("etcd-envelope-kms", inside("getent", "passwd", "etcd-envelope-kms"))
        self.assertEqual(oct((root / "etc/etcd-envelope").stat().st_mode & 0o777), "0o750")
        kek = root / "etc/etcd-envelope-kms/kek"
        inside("etcd-envelope-local-kms", "--allow-unlocked-memory", "--generate-key", "/etc/etcd-envelope-kms/kek")
        self.assertIn("is kept, for it may hold keys", inside("dpkg", "--purge", "etcd-envelope"))
        self.assertTrue(kek.exists(), "what keys sealed needs them for ever")
        self.assertFalse((root / "etc/etcd-envelope").exists())
        kek.unlink()
        inside("dpkg", "-i", "/tmp/package.deb")
        inside("dpkg", "--purge", "etcd-envelope")
        left = [p for p in root.glob("etc/etcd-envelope*")] + [p for p in root.glob("usr/bin/etcd-envelope*")]
        self.assertEqual(left, [])


if __name__ == "__main__":
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        print("NOTICE: the package is not made without", *missing, file=sys.stderr)
        sys.exit(77)
    harness.main()
