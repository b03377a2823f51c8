#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots the Debian system in a folder: systemd as process 1 of process, network and cgroup namespaces of its own. deploy.sh
# calls it in a mount namespace; the process id of systemd stands in FOLDER/boot.pid while it runs.
#   boot.sh FOLDER
set -euo pipefail
root=$1

if [ "${2:-}" = inside ]; then
    ip link set lo up 2>/dev/null || true # systemd does it, too
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" # the cgroup of this namespace is its root
    cd "$root"
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=other PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --show-status=0
fi

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"

# A cgroup of version 2 for all of it, also where the machine itself still uses version 1; there it has no controllers, and
# MemoryMax= and the like do nothing.
groups=$(mktemp -d)
mount -t cgroup2 cgroup2 "$groups"
group=$groups/etcd-envelope-deploy.$$
mkdir "$group"
finish() {
    find "$group" -depth -type d -exec rmdir {} + || true
    umount "$groups"
    rmdir "$groups"
}
trap finish EXIT
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net "$0" "$root" inside
) &
runner=$!
until init=$(pgrep --parent "$runner" | head -n 1) && [ -n "$init" ]; do
    kill -0 "$runner"
    sleep 0.05
done
echo "$init" >"$root/boot.pid"
wait "$runner" || true
