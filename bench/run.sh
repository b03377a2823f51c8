#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The bench in one command: installs what it needs, unpacks the peers (nothing of them is installed, so no
# service starts), builds the release preset, measures. Options go to run.py: bench/run.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2154
. conf/quickstart/packages.sh

stages=''
for argument in "$@"; do
    case $argument in
    -h | --help) exec python3 bench/run.py --help ;;
    --stages=*) stages=${argument#*=} ;;
    esac
    [ "${previous:-}" != --stages ] || stages=$argument
    previous=$argument
done

# peers_unpack DIR: nghttpx, haproxy and nginx of this Debian with all libraries that are not installed here.
peers_unpack() {
    local dir=$1 work deb
    [ ! -x "$dir/usr/sbin/nghttpx" ] || return 0
    command -v apt-get >/dev/null || return 1
    work=$(mktemp -d)
    mkdir -p "$work/archives/partial" "$dir"
    as_root apt-get -qq update >&2 || true
    as_root apt-get -qq -y --no-install-recommends --download-only -o "Dir::Cache::archives=$work/archives" \
        -o APT::Sandbox::User= install nghttp2-proxy haproxy nginx >&2 || { rm -rf "$work"; return 1; }
    for deb in "$work"/archives/*.deb; do
        dpkg -x "$deb" "$dir"
    done
    rm -rf "$work"
}

packages_install "${packages_build[@]}" openssl python3 valgrind
etcd_dir=$PWD/build/etcd
if [ "$stages" != instructions ]; then # which needs nobody else
    packages_install gnuplot-nox strace
    etcd_ready "$PWD/build/etcd"
    peers_unpack "$PWD/build/bench-peers" ||
        say "NOTICE: the peers cannot be had; those that are installed are measured"
fi
log=$(mktemp)
say "building into build/release"
if ! cmake --preset release >"$log" 2>&1 ||
    ! cmake --build --preset release --target etcd-envelope bench >>"$log" 2>&1; then
    cat "$log"
    exit 1
fi
rm -f "$log"
exec python3 bench/run.py --etcd "$etcd_dir" "$@"
