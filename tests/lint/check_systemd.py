#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What systemd's own tools say of conf/systemd/: `verify` finds nothing, `security` no more than the unit's comment names,
systemd-sysusers makes the users and systemd-tmpfiles the folders. Then all that is named there belongs together, and each service
is as closed as is promised. Exit status 77, which CTest takes for skipped, without systemd-analyze."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ROOT / "conf" / "systemd"
MARGIN = 1.0  # another version of systemd judges differently
# What both services promise beside that score, which some of it does not count in.
PROMISED = ("LimitCORE=0", "MemoryMax=", "MemorySwapMax=0", "UMask=0077", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n",
            "AmbientCapabilities=\n", "ProtectSystem=strict", "PrivateDevices=yes", "MemoryDenyWriteExecute=yes",
            "RestrictAddressFamilies=AF_", "RestrictNamespaces=yes", "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged", "SystemCallArchitectures=native")


def run(*argv, **env):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "warning", **env})
    return done.returncode, done.stdout + done.stderr


def verify(folder, build):
    """Programs and man pages are looked for where they were built."""
    units = []
    for path in sorted([*UNITS.glob("*.service"), *UNITS.glob("*.socket")]):
        text = re.sub(r"^Documentation=.*\n", "", path.read_text(), flags=re.M)
        (folder / path.name).write_text(text.replace("ExecStart=/usr/bin/", f"ExecStart={build}/"))
        units.append(folder / path.name)
    status, said = run("systemd-analyze", "verify", *units, SYSTEMD_UNIT_PATH=f"{folder}:")
    said = "\n".join(line for line in said.splitlines() if str(folder) in line or "etcd-envelope" in line)
    if status != 0 or said:
        yield f"systemd-analyze verify: {status}: {said}"
    (folder / units[0].name).write_text(units[0].read_text().replace("[Service]", "[Service]\nNoSuchThing=yes"))
    if "NoSuchThing" not in run("systemd-analyze", "verify", units[0], SYSTEMD_UNIT_PATH=f"{folder}:")[1]:
        yield "systemd-analyze verify does not find mistakes"


def security():
    version = run("systemd-analyze", "--version")[1].split()[1]
    for path in sorted(UNITS.glob("*.service")):
        named = re.search(r"security --offline=true: ([\d.]+) of 10 with systemd (\d+)", path.read_text())
        _, said = run("systemd-analyze", "security", "--offline=true", "--no-pager", path)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        if not named or not found:
            yield f"{path.name}: no score named, or none found: {said[-300:]}"
        elif float(found[1]) > float(named[1]) + (0 if version == named[2] else MARGIN):
            yield f"{path.name}: security says {found[1]}, the comment {named[1]}"


def promises(name, text):
    for line in PROMISED:
        if "\n" + line not in text:
            yield f"{name}: no {line.strip()}"
    for family in re.findall(r"AF_\w+", "".join(re.findall(r"^RestrictAddressFamilies=.*", text, re.M))):
        if family not in ("AF_UNIX", "AF_INET", "AF_INET6"):
            yield f"{name}: {family} is allowed"


def promised():
    for path in sorted(UNITS.glob("*.service")):
        text = path.read_text()
        yield from promises(path.name, text)
        for line in PROMISED:
            if not list(promises(path.name, text.replace("\n" + line, "\n#"))):
                yield f"{path.name}: that {line.strip()} is missing would not be found"


def users_and_folders(folder):
    (folder / "etc").mkdir()
    for name in ("sysusers", "tmpfiles"):
        shutil.copy(UNITS / f"{name}.conf", folder / f"{name}.conf")
    status, said = run("systemd-sysusers", f"--root={folder}", folder / "sysusers.conf")
    passwd = folder / "etc" / "passwd"
    users = set(re.findall(r"^([^:]+):", passwd.read_text(), re.M)) if passwd.exists() else set()
    if status != 0 or not {"etcd-envelope", "etcd-envelope-kms"} <= users:
        yield f"systemd-sysusers: {status}: {said} {users}"
        return
    if os.geteuid() != 0:
        return
    status, said = run("systemd-tmpfiles", f"--root={folder}", "--create", folder / "tmpfiles.conf")
    modes = {p: oct((folder / p).stat().st_mode & 0o7777) for p in ("etc/etcd-envelope", "etc/etcd-envelope-kms")
             if (folder / p).exists()}
    if status != 0 or list(modes.values()) != ["0o750", "0o750"]:
        yield f"systemd-tmpfiles: {status}: {said} {modes}"


def together():
    """Users, paths and sockets that one file names are those that another one makes."""
    text = {p.name: p.read_text() for p in UNITS.iterdir()}
    for name in ("etcd-envelope", "etcd-envelope-local-kms"):
        unit = text[name + ".service"]
        user = re.search(r"^User=(\S+)", unit, re.M)[1]
        if not re.search(rf"^u {user} ", text["sysusers.conf"], re.M):
            yield f"{name}.service: user {user} is not in sysusers.conf"
        for path in re.findall(r" (/etc/[\w-]+)/", "\n".join(re.findall(r"^ExecStart=.*", unit, re.M))):
            if not re.search(rf"^d {path} ", text["tmpfiles.conf"], re.M):
                yield f"{name}.service: {path} is not in tmpfiles.conf"
    plugin = re.search(r"--listen unix://(\S+)", text["etcd-envelope-local-kms.service"])[1]
    if f"ListenStream={plugin}\n" not in text["etcd-envelope-local-kms.socket"]:
        yield f"etcd-envelope-local-kms.socket does not listen on {plugin}"
    listen = re.search(r"^listen-client-urls: http://(\S+)$", (ROOT / "conf/etcd-envelope.yaml").read_text(), re.M)[1]
    if f"ListenStream={listen}\n" not in text["etcd-envelope.socket"]:
        yield f"etcd-envelope.socket does not listen on {listen}, as etcd-envelope.yaml says"


def main(argv):
    problems = [*together(), *promised()]
    if not shutil.which("systemd-analyze"):
        print("\n".join(problems) or "NOTICE: no systemd-analyze, units are not verified")
        return 1 if problems else 77
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        problems += verify(pathlib.Path(one), pathlib.Path(argv[1]).resolve())
        problems += security()
        problems += users_and_folders(pathlib.Path(two))
    print("\n".join(problems) or "systemd: no complaints")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
