#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes README's picture of the status page, conf/status.png, from a real run: an etcd, a KMS plugin, the proxy, clients with a
changing load, and the page in a headless Chromium, after the plugin has gone away. Takes 5 minutes, for so much does the page
show.

    ENVELOPE_BUILD=build/release /usr/bin/python3 tests/e2e/picture.py [FILE [SECONDS]]
"""
import collections
import math
import pathlib
import random
import struct
import sys
import time
import zlib

import browser
import harness
from harness import wait_until

MAX_BYTES = 150 * 1000
WIDTH = 900
CHANCE = random.Random(5)


def load(proxy, seconds):
    """Reads, writes and now and then a list, in waves; some calls are refused."""
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < seconds:
        wave = 1 + math.sin((time.monotonic() - began) / 25) + CHANCE.random() / 2
        for _ in range(int(6 * wave) + 1):
            number += 1
            key = f"/registry/secrets/team-{number % 7}/secret-{number % 400}".encode()
            proxy.client.put(key, CHANCE.randbytes(900))
            proxy.client.get(key)
            if number % 5 == 0:
                proxy.client.get(key.replace(b"secrets", b"pods"))
        if number % 3 == 0:
            proxy.client.list(b"/registry/secrets/team-1/")
        if CHANCE.random() < 0.05:
            try:
                proxy.client.put(b"", b"")  # refused: a key must not be empty
            except harness.grpc.RpcError:
                pass
        time.sleep(0.2)


# --- a smaller PNG: 256 colours are plenty for text and lines ---

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def rows_of(png):
    """(width, rows of pixels as bytes of 3) of the PNGs that Chromium makes: 8 bits, RGB or RGBA, not interlaced."""
    at, parts, data = 8, {}, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        parts[kind] = png[at + 8:at + 8 + length]
        data += parts[kind] if kind == b"IDAT" else b""
        at += length + 12
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if depth != 8 or colour not in (2, 6) or rest != [0, 0, 0]:
        raise ValueError("an unusual PNG")
    step = 3 if colour == 2 else 4
    data, stride, before, rows = zlib.decompress(data), width * step, bytes(width * step), []
    for y in range(height):
        kind, line = data[y * (stride + 1)], bytearray(data[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):  # PNG, section 9.2
            left, up, corner = (line[i - step], before[i], before[i - step]) if i >= step else (0, before[i], 0)
            if kind == 1:
                line[i] = line[i] + left & 255
            elif kind == 2:
                line[i] = line[i] + up & 255
            elif kind == 3:
                line[i] = line[i] + (left + up) // 2 & 255
            elif kind == 4:
                guess = min((left, up, corner), key=lambda c, p=left + up - corner: abs(p - c))
                line[i] = line[i] + guess & 255
        before = bytes(line)
        rows.append([before[i:i + 3] for i in range(0, stride, step)])
    return width, rows


def with_palette(png):
    width, rows = rows_of(png)
    common = [colour for colour, _ in collections.Counter(pixel for row in rows for pixel in row).most_common(256)]
    index = {colour: i for i, colour in enumerate(common)}

    def place(colour):
        if colour not in index:
            index[colour] = min(range(len(common)), key=lambda i: sum((a - b) ** 2 for a, b in zip(colour, common[i])))
        return index[colour]
    lines = b"".join(b"\0" + bytes(map(place, row)) for row in rows)
    return (png[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0))
            + chunk(b"PLTE", b"".join(common)) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))


def main(to, seconds):
    env = harness.Env()
    window = None
    try:
        etcd = env.etcd()
        kms = env.kms()
        config = env.config(kms.path, resources=("secrets", "configmaps"), identity=True, provider="vault")
        proxy = env.proxy(etcd, config)
        load(proxy, seconds - 30)
        kms.stop()
        window = browser.Browser()
        window.size(WIDTH, 1000)
        window.dark(False)
        window.devtools("Emulation.setScrollbarsHidden", hidden=True)
        window.open("http://127.0.0.1:{}/".format(proxy.metrics_port))
        load(proxy, 30)
        wait_until(lambda: window.text("#plots") and "not well" in window.text("#verdict"), 30, "plugin's absence")
        window.size(WIDTH, 14 + round(window.run("return document.getElementById('plots').getBoundingClientRect().bottom;")))
        time.sleep(3)  # the page draws anew
        picture = with_palette(window.picture())
    finally:
        if window:
            window.quit()
        env.close()
    if len(picture) > MAX_BYTES:
        sys.exit(f"{len(picture)} bytes are too many for README")
    pathlib.Path(to).write_bytes(picture)
    print(f"{to}: {len(picture)} bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(harness.ROOT / "conf" / "status.png"),
         float(sys.argv[2]) if len(sys.argv) > 2 else 300)
