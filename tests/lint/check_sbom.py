#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a build: check_sbom.py SOURCE BUILD

Is it SPDX 2.3 (the rules of its clauses 6, 7 and 11 for the fields that are there), is each library that the programs load
in it with the version that pkg-config and the headers say, does the maker refuse a library that nobody has found, and are
two documents of the same programs equal? Exit status 0 or 1; 77: this build has none.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
SBOM = BUILD / "etcd-envelope.spdx.json"
PROGRAMS = ("etcd-envelope", "etcd-envelope-local-kms")
# pkg-config's name: what the programs of every build load.
ALWAYS = ("libuv", "libnghttp2", "openssl", "libprotobuf-c", "yaml-0.1", "libsodium", "libseccomp")
DOCUMENT = {"spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages", "relationships"}
PACKAGE = {"SPDXID", "name", "versionInfo", "downloadLocation", "filesAnalyzed", "licenseConcluded", "licenseDeclared",
           "copyrightText", "externalRefs"}


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=60, **options)


def needed(program):
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-W", "-d", program).stdout))


class Document(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.doc = json.loads(SBOM.read_text())
        cls.packages = {p["name"]: p for p in cls.doc["packages"]}

    def test_document(self):
        self.assertEqual(set(self.doc), DOCUMENT)
        self.assertEqual((self.doc["spdxVersion"], self.doc["dataLicense"], self.doc["SPDXID"]),
                         ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT"))
        self.assertRegex(self.doc["documentNamespace"], r"^[a-z][a-z0-9+.-]*:[^#\s]+$")  # a URI without fragment
        self.assertRegex(self.doc["creationInfo"]["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for creator in self.doc["creationInfo"]["creators"]:
            self.assertRegex(creator, r"^(Tool|Organization|Person): \S")

    def test_packages(self):
        ids = [p["SPDXID"] for p in self.doc["packages"]]
        self.assertEqual(len(ids), len(set(ids)))
        for package in self.doc["packages"]:
            with self.subTest(package=package["name"]):
                self.assertEqual(set(package), PACKAGE)
                self.assertRegex(package["SPDXID"], r"^SPDXRef-[A-Za-z0-9.-]+$")
                self.assertRegex(package["versionInfo"], r"^\d+(\.\d+)+")
                for field in ("licenseConcluded", "licenseDeclared"):
                    self.assertIn(package[field], ("NOASSERTION", "Apache-2.0"))
                for ref in package["externalRefs"]:
                    self.assertEqual((ref["referenceCategory"], ref["referenceType"]), ("PACKAGE-MANAGER", "purl"))
                    self.assertRegex(ref["referenceLocator"], r"^pkg:(deb/debian|generic)/[a-zA-Z0-9._+-]+@[\w.%-]+$")

    def test_relationships(self):
        main = self.packages["etcd-envelope"]["SPDXID"]
        ids = {p["SPDXID"] for p in self.doc["packages"]}
        said = [(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in self.doc["relationships"]]
        self.assertEqual(said[0], ("SPDXRef-DOCUMENT", "DESCRIBES", main))
        self.assertEqual({s[:2] for s in said[1:]}, {(main, "DYNAMIC_LINK")})
        self.assertEqual([s[2] for s in said[1:]], sorted(ids - {main}))

    def test_versions(self):
        """As pkg-config says them, not as somebody wrote them down."""
        self.assertLessEqual({*ALWAYS, "glibc", "http_parser"}, set(self.packages))
        for name, package in self.packages.items():
            said = run("pkg-config", "--modversion", name)
            if said.returncode == 0:
                self.assertEqual(package["versionInfo"], said.stdout.strip(), name)
        self.assertEqual(self.packages["glibc"]["versionInfo"], run("getconf", "GNU_LIBC_VERSION").stdout.split()[1])

    def test_complete(self):
        """As many components as kinds of libraries that the programs load."""
        libraries = set.union(*(needed(BUILD / p) for p in PROGRAMS))
        stems = {re.sub(r"\.so.*", "", name) for name in libraries}
        stems -= {s for s in stems if re.match(r"lib([almtu]+san|gcov|gcc_s|m|pthread|dl|rt|resolv)$|ld-linux", s)}
        one = {"libcrypto": "openssl", "libssl": "openssl", "libc": "glibc", "libyaml-0": "yaml-0.1"}
        self.assertEqual({one.get(s, s.replace("libhttp_parser", "http_parser")) for s in stems},
                         set(self.packages) - {"etcd-envelope"})


class Maker(unittest.TestCase):
    """sbom.py on a program of the test's own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="envelope-sbom-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program = self.folder / "program"
        (self.folder / "p.c").write_text("#include <openssl/crypto.h>\n"
                                         "int main(void) { return OpenSSL_version_num() == 0; }\n")
        done = run("cc", "-o", self.program, self.folder / "p.c", "-lcrypto")
        self.assertEqual(done.returncode, 0, done.stderr)

    def make(self, name, *components, **environment):
        out = self.folder / name
        argv = [sys.executable, SOURCE / "conf" / "cmake" / "sbom.py", "--out", out, "--name", "n", "--version", "1.0",
                "--compiler", "cc"]
        for component in components:
            argv += ["--component", component]
        done = run(*argv, self.program, env={**os.environ, **environment})
        return done, out

    def crypto(self):
        folder = run("pkg-config", "--variable=libdir", "openssl").stdout.strip()
        return f"openssl|3.0.1|{folder}/libcrypto.so|libssl-dev 3.0.1-1+deb12u1"

    def test_unknown_library(self):
        done, out = self.make("none")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("libcrypto.so.3, which is of no component", done.stderr)
        self.assertFalse(out.exists())

    def test_equal(self):
        """Whatever folder and time; the components in any order; only those that are linked."""
        unused = f"unused|1.2|{run('cc', '-print-file-name=libcmocka.so').stdout.strip()}|"
        first, a = self.make("a", self.crypto(), unused, SOURCE_DATE_EPOCH="1700000000")
        second, b = self.make("b", unused, self.crypto(), SOURCE_DATE_EPOCH="1700000000", TZ="Asia/Tokyo")
        third, c = self.make("c", self.crypto())
        self.assertEqual((first.returncode, second.returncode, third.returncode), (0, 0, 0), first.stderr)
        self.assertEqual(a.read_bytes(), b.read_bytes())
        doc = json.loads(a.read_text())
        self.assertEqual(doc["creationInfo"]["created"], "2023-11-14T22:13:20Z")
        self.assertEqual([p["name"] for p in doc["packages"]], ["n", "glibc", "openssl"])
        self.assertEqual(doc["packages"][2]["externalRefs"][0]["referenceLocator"],
                         "pkg:deb/debian/libssl-dev@3.0.1-1%2Bdeb12u1")
        self.assertNotEqual(doc["documentNamespace"], json.loads(c.read_text())["documentNamespace"])


if __name__ == "__main__":
    if not SBOM.exists():
        print("NOTICE: this build has no SBOM")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
