#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lays envelope.go into etcd's package `integration` and has its clusters call it.

    lay.py FOLDER      FOLDER has etcd's cluster.go: tests/integration of 3.5, or vendor/go.etcd.io/etcd/integration of Kubernetes

Each edit names a line that etcd has today; one that is not found ends the run, so nothing is ever tested without the proxy
by mistake."""
import pathlib
import re
import shutil
import sys

TAKES_TLS = """func (m *member) envelope(network, address string) (string, error) {
	if m.ClientTLSInfo == nil {
		return throughEnvelope(network, address)
	}
	i := m.ClientTLSInfo
	return throughEnvelope(network, address, i.CertFile, i.KeyFile, i.TrustedCAFile)
}

"""
# (a regular expression, what takes its place) for each release. A client's connection breaks and stands still where the
# tests want it to: the bridge is in front of the proxy.
OLD = [
    (r"\tm\.grpcBridge, err = newBridge\(m\.grpcAddr\)\n",
     "\tif m.grpcAddr, err = m.envelope(\"unix\", m.grpcAddr); err != nil {\n\t\tl.Close()\n\t\treturn err\n\t}\n\\g<0>"),
    (r"(func \(m \*member\) Terminate\(.*?\n\tm\.Close\(\)\n)",
     "\\1\tendEnvelope(\"localhost:\" + m.Name)\n\tendEnvelope(\"127.0.0.1:\" + m.Name)\n"),
    (r"func \(m \*member\) ElectionTimeout\(\)", TAKES_TLS + "\\g<0>"),
]
NEW = [
    (r"\tm\.grpcURL = fmt\.Sprintf\(\"%s://%s\", m\.clientScheme\(\), grpcAddr\)\n",
     "\tseen, err := m.envelope(network, grpcAddr)\n\tif err != nil {\n\t\tgrpcListener.Close()\n\t\treturn err\n\t}\n"
     "\tm.grpcURL = fmt.Sprintf(\"%s://%s\", m.clientScheme(), seen)\n"),
    (r"\tm\.grpcBridge, err = newBridge\(dialer\{network: network, addr: grpcAddr\}, bridgeListener\)\n",
     "\tseen, err := m.envelope(network, grpcAddr)\n\tif err != nil {\n\t\tbridgeListener.Close()\n\t\treturn nil, err\n\t}\n"
     "\tm.grpcBridge, err = newBridge(dialer{network: network, addr: seen}, bridgeListener)\n"),
    (r"(func \(m \*member\) Terminate\(.*?\n\tm\.Close\(\)\n)",
     "\\1\t_, host, port := m.grpcAddr()\n\tendEnvelope(host + \":\" + port)\n"),
    (r"func \(m \*member\) ElectionTimeout\(\)", TAKES_TLS + "\\g<0>"),
    # Member lists show the proxy's URL, not etcd's (README.md).
    (r"ClientURLs: m\.ClientURLs\.StringSlice\(\),\n\t\t\tIsLearner", "ClientURLs: envelopeMembers(m.ClientURLs.StringSlice()),\n\t\t\tIsLearner"),
    (r"\t\t\tm\.ID = 0\n\t\t}\n\t\tif reflect", "\t\t\tm.ID, m.ClientURLs = 0, envelopeMembers(m.ClientURLs)\n\t\t}\n\t\tif reflect"),
]
# Clients of the tests keep all that they write under a protected prefix, if ENVELOPE_NAMESPACE names one.
DIRECT = [
    (r"\treturn clientv3\.New\(cfg\)\n",
     "\tc, err := clientv3.New(cfg)\n\tif prefix := envelopeNamespace(); err == nil && prefix != \"\" {\n"
     "\t\tc.KV = namespace.NewKV(c.KV, prefix)\n\t\tc.Watcher = namespace.NewWatcher(c.Watcher, prefix)\n"
     "\t\tc.Lease = namespace.NewLease(c.Lease, prefix)\n\t}\n\treturn c, err\n"),
    (r"\t\"go\.etcd\.io/etcd/client/v3\"\n", "\\g<0>\t\"go.etcd.io/etcd/client/v3/namespace\"\n"),
]


def edit(path, edits):
    text = path.read_text()
    for expression, instead in edits:
        text, count = re.subn(expression, instead, text, count=1, flags=re.S)
        if count != 1:
            sys.exit(f"lay.py: {path}: no line for {expression}")
    path.write_text(text)


def main():
    folder = pathlib.Path(sys.argv[1])
    if (folder / "envelope.go").exists():
        shutil.copy(pathlib.Path(__file__).parent / "envelope.go", folder)
        return
    is_new = "m.grpcURL" in (folder / "cluster.go").read_text()
    edit(folder / "cluster.go", NEW if is_new else OLD)
    if is_new:
        edit(folder / "cluster_direct.go", DIRECT)
    shutil.copy(pathlib.Path(__file__).parent / "envelope.go", folder)


main()
