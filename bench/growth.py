# SPDX-License-Identifier: Apache-2.0
"""How cost grows: CPU a request and peak memory by connections, watches and length of a list, before the stub, beside
nghttpx. Every load has processes of its own, so that a peak is its own."""
from load import Load

GROUP = "growth"
PROXIES = ("etcd-envelope", "nghttpx")
ROUNDS = 3  # at most
CONNECTIONS = [Load("1 x 32", "range", 1, 32), Load("10 x 4", "range", 10, 4), Load("100 x 2", "range", 100, 2),
               Load("1000 x 1", "range", 1000, 1, scale=3)]
LISTS = [Load("1 object", "range"), Load("50 objects, 50 KiB", "list-50"), Load("500 objects, 500 KiB", "list-500"),
         Load("5,000 objects, 10 MiB", "list-5000", scale=2), Load("25,600 objects, 25 MiB", "list-big", scale=3),
         Load("102,400 objects, 200 MiB", "list-huge", scale=8)]


def watches(count):
    """At most 250 on a connection."""
    return Load(f"{count:,} watches", "watch", max(4, count // 250), watchers=count)


def loads(options):
    counts = [20, 200, 2000] + ([10000] if options.many_watches else [])
    return CONNECTIONS + [watches(n) for n in counts] + (LISTS[:4] if options.quick else LISTS)


def measure(bench, ports):
    proxies = [p for p in bench.proxies if p.name in PROXIES]
    for load in loads(bench.options):
        group = bench.start_group(False, ports, GROUP, proxies, what=load.name)
        bench.measure(group, GROUP, [load], ports[0], rounds=min(bench.options.rounds, ROUNDS))
        for process in group:
            if process.is_alive():
                bench.growth.setdefault(load.name, {})[process.proxy.name] = process.memory("VmHWM")
            bench.stop(process)


def table(s, results):
    """(head, rows): CPU us a request (event, list), peak MiB."""
    head = ["load"] + [f"{name}, {what}" for name in PROXIES for what in ("CPU us", "peak MiB")] + ["CPU of nghttpx's"]
    rows = []
    for load in s.loads(GROUP):
        row = [load]
        for name in PROXIES:
            cpu, peak = s.cpu(GROUP, load, name), results["growth"].get(load, {}).get(name)
            row += ["-" if cpu is None else f"{cpu:,.1f}", "-" if peak is None else f"{peak / 1024:.1f}"]
        ratio = s.cpu_ratio(GROUP, load, "nghttpx")
        rows.append(row + ["-" if ratio is None else f"{ratio:.2f}"])
    return head, rows
