# SPDX-License-Identifier: Apache-2.0
"""What encryption at rest costs: writes and reads before a real etcd, direct, through the proxy unprotected, and
sealed by each provider, by size of the value and number of clients (a connection with one request at a time each)."""
import base64
import json
import os
import subprocess

import peers
from load import Load

NAMES = ["identity", "kms v2", "aesgcm", "secretbox", "aescbc"]
SIZES, CLIENTS = (1, 10, 100), (1, 10, 64, 128)  # KiB
KINDS = (("put", "write"), ("range", "read"))
GROUP = "providers"
ROUNDS = 3  # at most: 432 measurements, under seven minutes


def load_name(kind, kib, clients):
    return f"{dict(KINDS)[kind]} {kib} KiB, {clients}"


def loads(is_quick):
    sizes, clients = (SIZES[:2], CLIENTS[::2]) if is_quick else (SIZES, CLIENTS)
    return [Load(load_name(kind, kib, n), kind, n, 1, value=kib * 1024)
            for kib in sizes for kind, _ in KINDS for n in clients]


def configuration(name, folder):
    """The text of an EncryptionConfiguration with this provider alone."""
    key = "keys: [{name: bench, secret: " + base64.b64encode(os.urandom(32)).decode() + "}]"
    entry = {"identity": "identity: {}",
             "kms v2": f'kms: {{apiVersion: v2, name: bench, endpoint: "unix://{folder}/kms.sock", timeout: 3s}}'}
    return ("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
            "  - resources: [secrets]\n    providers:\n      - " + entry.get(name, f"{name}: {{{key}}}") + "\n")


def proxy(name, folder):
    """etcd-envelope with this provider, whose configuration lies in the run's folder."""
    path = folder / f"encryption-{name.replace(' ', '-')}.yaml"
    path.write_text(configuration(name, folder))
    path.chmod(0o600)

    def command(spot):
        line = peers.envelope(spot)
        line[line.index("--encryption-provider-config") + 1] = str(path)
        return line + (["--allow-identity-writes"] if name == "identity" else [])

    return peers.Proxy(name, command, is_sealed=True)


def etcdctl(bench, port, *arguments):
    run = subprocess.run([str(bench.options.etcd / "etcdctl"), f"--endpoints=127.0.0.1:{port}", *arguments],
                         capture_output=True, text=True, timeout=60, check=True, env=bench.files.env)
    return run.stdout


def read_key(bench, port, key):
    return json.loads(etcdctl(bench, port, "get", key, "-w", "json"))


def stored_bytes(answer):
    """Of the value in etcdctl's answer in JSON; None: no such key."""
    kvs = answer.get("kvs")
    return len(base64.b64decode(kvs[0]["value"])) if kvs else None


def compact(bench, port):
    """History of one load is not the next one's burden, and etcd uses its pages again."""
    etcdctl(bench, port, "compact", str(read_key(bench, port, "x")["header"]["revision"]))


def measure(bench):
    port = bench.start_etcd()
    group = bench.start_group(False, (port, port), GROUP, [proxy(name, bench.folder) for name in NAMES])
    rounds = min(bench.options.rounds, ROUNDS)
    for load in loads(bench.options.quick):
        bench.measure(group, GROUP, [load], port, upstream=bench.etcd, real=True, rounds=rounds)
        if load.kind == "put":
            for name in ["direct"] + [p.proxy.name for p in group]:
                key = f"/registry/secrets/bench/{name.replace(' ', '-')}-put-00000"
                bench.stored.setdefault(str(load.value), {})[name] = stored_bytes(read_key(bench, port, key))
        compact(bench, port)
    for process in group:
        bench.stop(process)
    bench.stop(bench.etcd)


# --- the report

def thousands(value):
    return "-" if value is None else f"{value:,.0f}"


def cells(s, load, name):
    """per second (of direct), p50 / p99, CPU of proxy + of etcd."""
    def of(pick):
        return s.median(GROUP, load, lambda r: pick(r[name]))

    ratio = s.rate_ratio(GROUP, load, name)
    own = "" if name == "direct" else f"{thousands(of(lambda x: x['cpu_us_proxy']))} + "
    return (f"{thousands(of(lambda x: x['per_s']))}/s ({'-' if ratio is None else format(ratio, '.2f')}), "
            f"{thousands(of(lambda x: x['us']['p50']))} / {thousands(of(lambda x: x['us']['p99']))} us, "
            f"CPU {own}{thousands(of(lambda x: x['cpu_us_upstream']))}")


def tables(s, results):
    """(title, head, rows) of each table."""
    known = s.loads(GROUP)
    names = ["direct"] + [n for n in NAMES if n in s.proxies(GROUP)]
    for kib in SIZES:
        for kind, word in KINDS:
            clients = [n for n in CLIENTS if load_name(kind, kib, n) in known]
            if clients:
                rows = [[name] + [cells(s, load_name(kind, kib, n), name) for n in clients] for name in names]
                yield (f"{word}s of {kib} KiB: requests/s (of direct), p50 / p99, CPU us a request of the proxy + etcd",
                       ["provider"] + [f"{n} clients" if n > 1 else "1 client" for n in clients], rows)
    if results["stored"]:
        sizes = sorted(results["stored"], key=int)
        yield ("Stored bytes of a value", ["provider"] + [f"{int(x) // 1024} KiB" for x in sizes],
               [[name] + [thousands(results["stored"][x].get(name)) for x in sizes] for name in names])


def sentences(s, results):
    """Two that can be quoted; none when their loads were not measured."""
    def cpu(kind, name, who="cpu_us_proxy"):
        return s.median(GROUP, load_name(kind, 1, 64), lambda r: r[name][who])

    known = [s.rate_ratio(GROUP, load_name(kind, 1, 64), "kms v2") for kind, _ in KINDS]
    stored = results["stored"].get("1024", {}).get("kms v2")
    costs = [cpu(kind, name) for kind, _ in KINDS for name in ("kms v2", "identity")]
    etcd = cpu("put", "direct", "cpu_us_upstream")
    if None in known + costs + [stored, etcd]:
        return ""
    return (f"With KMS v2 and 64 clients, writes of 1 KiB through the proxy reach {known[0] * 100:.0f} % and reads "
            f"{known[1] * 100:.0f} % of what etcd does without it, all on the same machine; a value of 1 KiB takes "
            f"{stored - 1024} bytes more in etcd. The proxy spends {costs[0]:.0f} us of CPU on a write and "
            f"{costs[2]:.0f} us on a read, of which encryption is {max(0, costs[0] - costs[1]):.1f} and "
            f"{max(0, costs[2] - costs[3]):.1f}; etcd itself spends {etcd:.0f} us on the write.\n")
