#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC1091
# Runs README's two commands on a fresh minimal system of a named Debian release: debootstrap's variant minbase in a
# folder of its own, with the mirror and the proxy settings of this machine's apt. For maintainers; needs root.
#   debian.sh RELEASE [--root DIR] [-- COMMAND...]
#   --root DIR        the system lies there and stays; a second run takes it as it is
#   -- COMMAND...     runs this in the copied source folder instead of the two commands
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/conf/quickstart/packages.sh"

release=${1:-} root='' keep=no
case $release in
'' | -*) sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
shift
while [ $# -gt 0 ]; do
    case $1 in
    --root) root=$2 keep=yes; shift ;;
    --) shift; break ;;
    *) sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done

# In a mount and process namespace of its own: mounts and whatever a test leaves running end with it.
if [ -z "${ENVELOPE_IN_NAMESPACE:-}" ]; then
    if [ "$keep" = no ]; then
        root=$(mktemp -d "${TMPDIR:-/var/tmp}/debian-$release.XXXXXX")
        chmod 755 "$root" # apt's own user reads there
    fi
    status=0
    ENVELOPE_IN_NAMESPACE=1 unshare --mount --pid --fork --kill-child "$0" "$release" --root "$root" -- "$@" || status=$?
    [ "$keep" = yes ] || rm -rf --one-file-system "$root"
    exit "$status"
fi

if [ ! -e "$root/etc/debian_version" ] || [ -d "$root/debootstrap" ]; then
    mirror=$(apt_mirror "$(. /etc/os-release && echo "$VERSION_CODENAME")" | head -n 1)
    say "$release: debootstrap from this machine's mirror into $root"
    log=$(mktemp)
    if ! debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$mirror" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        exit 1
    fi
    rm -f "$log"
    apt-config dump --format '%f "%v";%n' Acquire | grep -E '^Acquire::(https?|Check)[-A-Za-z]*::?' \
        >"$root/etc/apt/apt.conf.d/50machine" || true
    [ ! -d /usr/local/share/ca-certificates ] ||
        cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts" # as the installer does
fi

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/src"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
tar -C "$source" --exclude=./build --exclude=./.git -cf - . | tar -C "$root/src" -xf -

inside() {
    chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 ${CI:+CI="$CI"} /bin/sh -c 'cd /src && exec "$@"' sh "$@"
}

if [ $# -gt 0 ]; then
    inside "$@"
else
    inside conf/quickstart/run.sh
    inside tests/run.sh
fi
