#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC1091,SC2154
# The main job in one command, on a fresh Debian 12 or 13: builds the programs, starts etcd, a local KMS and the
# proxy on free loopback ports, writes a Secret through the proxy, shows what lies in etcd and what is read back.
#   run.sh [--keep] [--build-dir DIR]
#   --keep            leaves all three running and prints how to talk to them and how to stop them
#   --build-dir DIR   takes the programs from there and builds nothing
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/packages.sh"
say() { printf '%s\n' "== $*"; } # in order with what the commands print

keep=no build=
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --build-dir) build=$2; shift ;;
    *) sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done

cd "$root"
packages_install "${packages_show[@]}"
etcd_ready "$root/build/etcd"
if [ -z "$build" ]; then
    build=$root/build/release
    say "building into build/release"
    log=$(mktemp)
    if ! { cmake --preset release && cmake --build --preset release; } >"$log" 2>&1; then
        tail -n 50 "$log" >&2
        exit 1
    fi
    rm -f "$log"
fi

umask 077
work=$(mktemp -d)
pids=()

stop() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND...: in the background, with a log file.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 </dev/null &
    pids+=($!)
}

# A TCP port of 127.0.0.1 on which nothing listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# wait_for NAME COMMAND...: until the command works, at most 20 s; shows the log of NAME otherwise.
wait_for() {
    local name=$1
    shift
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    say "$name does not come up:"
    tail -n 20 "$work/$name.log" >&2
    exit 1
}

etcd_port=$(free_port)
proxy_port=$(free_port)
metrics_port=$(free_port)
while [ "$proxy_port" = "$etcd_port" ]; do proxy_port=$(free_port); done
while [ "$metrics_port" = "$etcd_port" ] || [ "$metrics_port" = "$proxy_port" ]; do metrics_port=$(free_port); done
etcdctl() { env -u ETCDCTL_ENDPOINTS ETCDCTL_API=3 "$etcd_dir/etcdctl" --endpoints "http://127.0.0.1:$1" "${@:2}"; }
raw() { etcdctl "$etcd_port" "$@"; }
through() { etcdctl "$proxy_port" "$@"; }

say "etcd on 127.0.0.1:$etcd_port"
start etcd "$etcd_dir/etcd" --data-dir "$work/etcd" --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls http://127.0.0.1:0
wait_for etcd raw get up

say "local KMS on $work/kms.sock"
"$build/etcd-envelope-local-kms" --generate-key "$work/kek" >/dev/null
start kms "$build/etcd-envelope-local-kms" --listen "unix://$work/kms.sock" --key-file "$work/kek"
wait_for kms test -S "$work/kms.sock"

say "etcd-envelope on 127.0.0.1:$proxy_port"
sed "s|@KMS_SOCKET@|$work/kms.sock|" "$here/encryption.yaml" >"$work/encryption.yaml"
start proxy "$build/etcd-envelope" serve --listen-client-urls "http://127.0.0.1:$proxy_port" \
    --listen-metrics-urls "http://127.0.0.1:$metrics_port" --etcd-servers "http://127.0.0.1:$etcd_port" \
    --encryption-provider-config "$work/encryption.yaml"
wait_for proxy through put /registry/secrets/default/ready yes

key=/registry/secrets/default/quickstart
secret='{"kind":"Secret","apiVersion":"v1","metadata":{"name":"quickstart"},"stringData":{"password":"open sesame"}}'
say "written through the proxy: $key"
printf '%s\n' "$secret"
printf '%s' "$secret" | through put "$key" >/dev/null

say "the bytes in etcd (the first 160):"
raw get "$key" --print-value-only >"$work/raw"
head -c 160 "$work/raw" | hexdump -C
if grep -q 'open sesame' "$work/raw" || ! head -c 21 "$work/raw" | grep -q '^k8s:enc:kms:v2:local'; then
    say "NOT SEALED"
    exit 1
fi

say "read back through the proxy:"
back=$(through get "$key" --print-value-only)
printf '%s\n' "$back"
if [ "$back" != "$secret" ]; then
    say "NOT THE SAME"
    exit 1
fi

if [ "$keep" = yes ]; then
    trap - EXIT
    cat <<TEXT
== still running:
   proxy  http://127.0.0.1:$proxy_port   etcd  http://127.0.0.1:$etcd_port   files and logs  $work
   health and metrics  http://127.0.0.1:$metrics_port
   try    $etcd_dir/etcdctl --endpoints 127.0.0.1:$proxy_port get /registry/secrets --prefix
   stop   kill ${pids[*]}; rm -rf $work
TEXT
else
    say "sealed in etcd, the same when read back; stopping"
fi
