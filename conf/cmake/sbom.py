#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a build, as SPDX 2.3 (JSON); conf/cmake/sbom.cmake calls it.

What is in it is what the programs are linked with: each library has to be one of the components that CMake found, or
of the C library, else the build ends here. Two builds of one state give the same bytes: the time is SOURCE_DATE_EPOCH,
or 1970.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

READELF = os.environ.get("READELF", "readelf")  # where we build for another machine its own
# What gcc and libc link by themselves.
C_LIBRARY = re.compile(r"^(lib(c|m|dl|pthread|rt|resolv)\.so|ld-linux|linux-vdso)")
SANITIZER = re.compile(r"^lib([almtu]+san|gcov|gcc_s)\.so")


class Component:
    def __init__(self, text):
        self.name, self.version, library, self.package = (text.split("|") + ["", "", ""])[:4]
        self.sonames = {tag(path, "SONAME")[0] for path in library.split(",") if path and tag(path, "SONAME")}


def tag(path, kind):
    """The values of a tag of the dynamic section."""
    out = subprocess.run([READELF, "-W", "-d", path], check=True, capture_output=True, text=True).stdout
    return re.findall(rf"\({kind}\).*\[(.*)\]", out)


def libc_version(compiler):
    """Of the system that is built for, as its headers say."""
    macros = subprocess.run([compiler, "-dM", "-E", "-include", "features.h", "-x", "c", "/dev/null"], check=True,
                            capture_output=True, text=True).stdout
    parts = [re.search(rf"#define __GLIBC{part}__ (\d+)", macros) for part in ("", "_MINOR")]
    return ".".join(p[1] for p in parts) if all(parts) else ""


def spdx_id(name):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def package(name, version, purl, licence="NOASSERTION"):
    out = {"SPDXID": spdx_id(name), "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
           "filesAnalyzed": False, "licenseConcluded": "NOASSERTION", "licenseDeclared": licence,
           "copyrightText": "NOASSERTION"}
    if not version:
        del out["versionInfo"]
    out["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]
    return out


def purl_of(component):
    if component.package:
        name, _, version = component.package.partition(" ")
        return f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A').replace('~', '%7E')}"
    return f"pkg:generic/{component.name}" + (f"@{component.version}" if component.version else "")


def linked(programs, components, compiler):
    """The components that the programs need, each once, in order; a library that is of none is an error."""
    found = {}
    for library in sorted({name for program in programs for name in tag(program, "NEEDED")}):
        owner = next((c for c in components if library in c.sonames), None)
        if owner is None and C_LIBRARY.match(library):
            owner = Component(f"glibc|{libc_version(compiler)}")
        if owner is None and not SANITIZER.match(library):
            sys.exit(f"sbom: the programs need {library}, which is of no component that the build has found")
        if owner is not None:
            found[owner.name] = owner
    return [found[name] for name in sorted(found)]


def document(name, version, components):
    main = package(name, version, f"pkg:generic/{name}@{version}", "Apache-2.0")
    packages = [main] + [package(c.name, c.version, purl_of(c)) for c in components]
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                  "relatedSpdxElement": main["SPDXID"]}]
    relations += [{"spdxElementId": main["SPDXID"], "relationshipType": "DYNAMIC_LINK",
                   "relatedSpdxElement": p["SPDXID"]} for p in packages[1:]]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    when = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(json.dumps([packages, relations, when]).encode()).hexdigest()
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"{name}-{version}", "documentNamespace": f"urn:sha256:{digest}",
            "creationInfo": {"created": when, "creators": [f"Tool: {name}-sbom"]},
            "packages": packages, "relationships": relations}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--component", action="append", default=[])
    for flag in ("--out", "--name", "--version", "--compiler"):
        parser.add_argument(flag, required=True)
    parser.add_argument("programs", nargs="+")
    args = parser.parse_args()
    components = linked(args.programs, [Component(c) for c in args.component], args.compiler)
    text = json.dumps(document(args.name, args.version, components), indent=2) + "\n"
    pathlib.Path(args.out).write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
