#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""refusing.py PART[,PART] PROGRAM ARGUMENT...: runs a program as a container may that refuses system calls: those of
seccomp, of landlock. They answer EPERM."""
import ctypes
import os
import platform
import struct
import sys

ARCH = {"x86_64": {"seccomp": 317, "prctl": 157}, "aarch64": {"seccomp": 277, "prctl": 167}}[platform.machine()]
PARTS = {"seccomp": [ARCH["seccomp"]], "landlock": [444, 445, 446]}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of a word at an offset; compare, skip on if true, if false
ALLOW, EPERM = 0x7fff0000, 0x00050001
AT_CALL, AT_ARGUMENT = 0, 16  # where the kernel shows them to a filter


def program(parts):
    calls = [number for part in parts for number in PARTS[part]]
    lines = [(LOAD, 0, 0, AT_CALL)]
    for number in calls:
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, EPERM)]
    if "seccomp" in parts:
        lines += [(EQUAL, 0, 3, ARCH["prctl"]), (LOAD, 0, 0, AT_ARGUMENT), (EQUAL, 0, 1, PR_SET_SECCOMP),
                  (RETURN, 0, 0, EPERM)]
    return lines + [(RETURN, 0, 0, ALLOW)]


def main():
    lines = program(sys.argv[1].split(","))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0) != 0:
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
