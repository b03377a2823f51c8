#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC1091,SC2317
# Runs etcd's and Kubernetes' own code through the proxy: etcd's Go client beside one that asks etcd itself, the
# integration tests of etcd 3.5 and the storage tests of Kubernetes 1.20, and a kube-apiserver. All of it is built in a
# Debian 13 of its own from Debian's packages and sources. For maintainers; needs root, debootstrap, 6 GiB and an hour.
#   genuine.sh --root DIR [--build DIR] [--etcd DIR] [prepare] [story] [etcd] [kubernetes] [apiserver]
#   --root DIR    where that system lies and stays; a second run takes it as it is
#   --build DIR   the proxy under test (build/release)
#   --etcd DIR    with etcd and etcdctl (build/etcd)
# Without a step all are done. Logs and what each test said are under DIR/genuine/out; exit status 1 when something
# failed; genuine/known.txt names what is left out.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/conf/quickstart/packages.sh"

root='' build=$source/build/release etcd=$source/build/etcd steps=()
while [ $# -gt 0 ]; do
    case $1 in
    --root) root=$2; shift ;;
    --build) build=$(cd "$2" && pwd); shift ;;
    --etcd) etcd=$(cd "$2" && pwd); shift ;;
    prepare | story | etcd | kubernetes | apiserver) steps+=("$1") ;;
    *) sed -n '4,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
[ -n "$root" ] || { sed -n '4,13s/^# \{0,1\}//p' "$0"; exit 2; }
[ ${#steps[@]} -gt 0 ] || steps=(prepare story etcd kubernetes apiserver)
mkdir -p "$root"
root=$(cd "$root" && pwd)
bin=$root/genuine/bin out=$root/genuine/out failed=0 children=()
mkdir -p "$out"

end_children() {
    [ ${#children[@]} -eq 0 ] || kill "${children[@]}" 2>/dev/null || true
    wait
    children=()
}
trap end_children EXIT

free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Everything that Kubernetes could encrypt, and each key that begins with a slash.
start_plugin() {
    local keys=$out/kek
    [ -e "$keys" ] || "$build/etcd-envelope-local-kms" --generate-key "$keys"
    "$build/etcd-envelope-local-kms" --listen "unix://$out/kms.sock" --key-file "$keys" >"$out/kms.log" 2>&1 &
    children+=($!)
    printf '%s\n' 'apiVersion: apiserver.config.k8s.io/v1' 'kind: EncryptionConfiguration' 'resources:' \
        '- resources: ["*.*"]' '  providers:' \
        "  - kms: {apiVersion: v2, name: genuine, endpoint: 'unix://$out/kms.sock', timeout: 10s}" >"$out/encryption.yaml"
    flags="--encryption-provider-config $out/encryption.yaml --protect-prefix /=secrets"
}

wait_for() { # what, command...
    local what=$1 i
    shift
    for ((i = 0; i < 600; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    say "genuine: no $what within a minute"
    exit 1
}

start_etcd() { # folder; sets client_port
    local peer
    client_port=$(free_port) peer=$(free_port)
    rm -rf "$1" && mkdir -p "$1"
    "$etcd/etcd" --name one --data-dir "$1/data" --listen-client-urls "http://127.0.0.1:$client_port" \
        --advertise-client-urls "http://127.0.0.1:$client_port" --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "one=http://127.0.0.1:$peer" \
        --quota-backend-bytes 8000000000 >"$1/etcd.log" 2>&1 &
    children+=($!)
    wait_for etcd "$etcd/etcdctl" --endpoints "127.0.0.1:$client_port" endpoint health
}

start_proxy() { # folder; in front of client_port, which it takes over
    local port
    port=$(free_port)
    # shellcheck disable=SC2086
    "$build/etcd-envelope" serve --etcd-servers "http://127.0.0.1:$client_port" --listen-metrics-urls '' \
        --listen-client-urls "http://127.0.0.1:$port" $flags >"$1/proxy.log" 2>&1 &
    children+=($!)
    client_port=$port
    wait_for proxy "$etcd/etcdctl" --endpoints "127.0.0.1:$client_port" endpoint health
}

# etcd's own proxy, in front of client_port.
start_grpc_proxy() { # folder
    local port
    port=$(free_port)
    "$etcd/etcd" grpc-proxy start --endpoints "127.0.0.1:$client_port" --listen-addr "127.0.0.1:$port" \
        >"$1/grpc-proxy.log" 2>&1 &
    children+=($!)
    client_port=$port
    wait_for grpc-proxy "$etcd/etcdctl" --endpoints "127.0.0.1:$client_port" endpoint health
}

tell() { # folder, flags...
    local folder=$1
    shift
    timeout 900 "$bin/story" -endpoints "127.0.0.1:$client_port" "$@" >"$folder/story" 2>"$folder/log" ||
        echo "exit status $?" >>"$folder/story"
}

compare() { # name
    if diff "$out/$1-direct/story" "$out/$1-proxy/story" >"$out/$1.diff"; then
        say "genuine: $1: the same ($(wc -l <"$out/$1-direct/story") lines)"
    else
        say "genuine: $1: not the same: $out/$1.diff"
        failed=1
    fi
}

# Each with an etcd of its own, so that revisions are the same.
do_story() {
    start_plugin
    for kind in direct proxy; do
        start_etcd "$out/story-$kind"
        [ "$kind" = direct ] || start_proxy "$out/story-$kind"
        tell "$out/story-$kind" -idle 25s
        start_etcd "$out/ctl-$kind"
        [ "$kind" = direct ] || start_proxy "$out/ctl-$kind"
        "$source/tests/genuine/ctl.sh" "$etcd/etcdctl" "127.0.0.1:$client_port" >"$out/ctl-$kind/story" 2>&1
        start_etcd "$out/grpc-proxy-$kind"
        [ "$kind" = direct ] || start_proxy "$out/grpc-proxy-$kind"
        start_grpc_proxy "$out/grpc-proxy-$kind"
        tell "$out/grpc-proxy-$kind" \
            -only compaction,concurrency,errors,keepalive,kubernetes,kv,large,leases,many,mirror,ranges,rewatch,stm,thousands,txn,watch
    done
    compare story
    compare ctl
    compare grpc-proxy
    end_children
}

# A Go test binary, in the folder of its package, with all that it starts in a process namespace of its own. What is known to
# fail is left out: what it leaves behind would have etcd's tests skip those after it. A run that came to no end has failed.
run_tests() { # name, binary, folder
    local said=$out/$1.log known bad
    known=$(sed -nE "s/^(${1%%.*}|$1) ([^ ]*).*/\2/p" "$source/tests/genuine/known.txt" | paste -s -d "|")
    mkdir -p "$out/proxies"
    (cd "$3" && ENVELOPE_PROGRAM=$build/etcd-envelope ENVELOPE_FLAGS="$flags --workers 1" ENVELOPE_LOGS=$out/proxies \
        unshare --pid --fork --kill-child --mount-proc "$bin/$2" -test.v -test.timeout 25m -test.skip "^(${known:-none})\$" \
        >"$said" 2>&1) || true
    bad=$(sed -n 's/^--- FAIL: \([^ ]*\).*/\1/p' "$said" | tr '\n' ' ')
    grep -qx -e PASS -e FAIL "$said" || bad+='(no end)'
    say "genuine: $1: $(grep -c '^--- PASS' "$said" || true) passed, $(grep -c '^--- SKIP' "$said" || true) skipped${bad:+, failed: $bad}"
    [ -z "$bad" ] || failed=1
}

do_etcd() {
    local package name
    start_plugin
    # shellcheck disable=SC2013
    for package in $(sed -n "s/^etcd_tests='\(.*\)'/\1/p" "$source/tests/genuine/prepare.sh"); do
        name=$(printf %s "$package" | tr / _)
        [ "$package" != . ] || name=integration
        run_tests "etcd-$name" "etcd-$name" "$root/genuine/gopath/src/go.etcd.io/etcd/tests/integration/$package"
    done
    ENVELOPE_NAMESPACE=/registry/secrets/default/ run_tests etcd-clientv3.sealed etcd-clientv3 \
        "$root/genuine/gopath/src/go.etcd.io/etcd/tests/integration/clientv3"
    end_children
}

do_kubernetes() {
    local name package
    start_plugin
    while read -r name package; do
        run_tests "kubernetes-$name" "kubernetes-$name" "$root/genuine/kubernetes/src/k8s.io/kubernetes/$package"
    done <"$source/tests/genuine/kubernetes.txt"
    end_children
}

do_apiserver() {
    ENVELOPE_APISERVER=$bin/kube-apiserver ENVELOPE_BUILD=$build ENVELOPE_ETCD_DIR=$etcd \
        /usr/bin/python3 "$source/tests/genuine/test_apiserver.py" || failed=1
}

do_prepare() { "$source/tests/debian.sh" trixie --root "$root" -- tests/genuine/prepare.sh; }

for step in "${steps[@]}"; do
    "do_$step"
done
exit $failed
