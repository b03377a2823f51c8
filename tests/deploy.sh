#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC1091
# README's "Deploy", by its own commands, under a real systemd: makes the Debian package in one minimal Debian 13, boots another
# one, fresh but for etcd, in namespaces of its own, installs the package there, and looks at what an administrator counts on
# (tests/deploy/checks.sh). For maintainers; needs root, debootstrap and a kernel with cgroup 2.
#   deploy.sh [--release NAME] [--builder DIR] [--keep DIR]
#   --release NAME    trixie (default) or bookworm
#   --builder DIR     the system in which the package is made lies there and stays (see debian.sh)
#   --keep DIR        the system that was booted stays there
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/.." && pwd)
. "$source/conf/quickstart/packages.sh"

release=trixie builder='' root=''
while [ $# -gt 0 ]; do
    case $1 in
    --release) release=$2; shift ;;
    --builder) builder=$2; shift ;;
    --keep) root=$2; shift ;;
    *) sed -n '4,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/deploy.XXXXXX")
chmod 755 "$work" # apt's own user reads there
runner='' init=''

finish() {
    local status=$?
    power_off || true
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- README's own text ---

# The commands under "A Debian package"; its first line makes the package, the others install and start it.
readme_commands() {
    awk '/^A Debian package/ { on = 1 } /^The files of/ { on = 0 } on && sub(/^    /, "")' "$source/README.md"
}

# The runbook's commands that change the local KMS's key.
runbook_rotation() {
    awk '/^The local KMS, as root/ { on = 1 } /^An old key is needed/ { on = 0 } on && sub(/^    /, "")' "$source/conf/runbooks.md"
}

# Its EncryptionConfiguration, with the endpoint that the commands name for the local KMS.
readme_encryption() {
    awk '/^```yaml/ { on = 1; next } /^```/ { on = 0 } on' "$source/README.md" |
        sed 's|unix:///[^"]*|unix:///run/etcd-envelope-kms/kms.sock|'
}

# --- the machine ---

# Boots $root; init becomes the process id of its systemd, runner that of the process that ends with it.
boot() {
    local deadline=$((SECONDS + 60))
    unshare --mount --fork --kill-child "$here/deploy/boot.sh" "$root" >"$work/boot.log" 2>&1 </dev/null &
    runner=$!
    until init=$(cat "$root/boot.pid" 2>/dev/null) && [ -n "$init" ] && inside systemctl show --property=Version >/dev/null 2>&1; do
        if [ $SECONDS -gt $deadline ] || ! kill -0 $runner 2>/dev/null; then
            say "no systemd comes up:"
            cat "$work/boot.log" >&2
            return 1
        fi
        sleep 0.2
    done
    inside systemctl is-system-running --wait >/dev/null || true # "degraded": a container has no kernel modules to load
}

# Runs a command in the booted system.
inside() {
    nsenter --target "$init" --mount --pid --uts --ipc --net --cgroup --root --wd -- /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

power_off() {
    local deadline=$((SECONDS + 60))
    [ -n "$runner" ] || return 0
    inside systemctl poweroff >/dev/null 2>&1 || true
    while kill -0 "$runner" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || kill -KILL "$init" # and with it all in its namespace
        sleep 0.2
    done
    wait "$runner" || true
    runner='' init=''
    rm -f "$root/boot.pid"
}

# --- the test ---

[ -n "$builder" ] || builder=$work/builder
[ -n "$root" ] || root=$work/root
if [ -e "$root/etc/debian_version" ]; then
    say "$root is no fresh system"
    exit 2
fi

say "the package, made by README's command in a $release"
# shellcheck disable=SC2016
"$here/debian.sh" "$release" --root "$builder" -- bash -c '. conf/quickstart/packages.sh
    packages_install "${packages_build[@]}" dpkg-dev file scdoc' >"$work/builder.log" 2>&1 ||
    { tail -n 30 "$work/builder.log" >&2; exit 1; }
make=$(readme_commands | head -n 1)
"$here/debian.sh" "$release" --root "$builder" -- bash -exc "$make" >"$work/package.log" 2>&1 ||
    { tail -n 30 "$work/package.log" >&2; exit 1; }

say "a minimal $release with systemd and Debian's etcd"
"$here/debian.sh" "$release" --root "$root" -- bash -c 'apt-get -qq update &&
    apt-get -qq -y --no-install-recommends install systemd systemd-sysv dbus etcd-server etcd-client' >"$work/root.log" 2>&1 ||
    { tail -n 30 "$work/root.log" >&2; exit 1; }
mkdir -p "$root/src/build/release"
cp "$builder"/src/build/release/etcd-envelope_*.deb "$root/src/build/release/"
# It has no network when it runs: what the package depends on waits in apt's cache.
"$here/debian.sh" "$release" --root "$root" -- bash -c \
    'apt-get -qq -y --no-install-recommends --download-only install ./build/release/etcd-envelope_*.deb' >"$work/root.log" 2>&1 ||
    { tail -n 30 "$work/root.log" >&2; exit 1; }
printf 'APT::Get::Assume-Yes "true";\nAPT::Sandbox::User "root";\n' >"$root/etc/apt/apt.conf.d/60deploy"
readme_encryption >"$root/src/encryption.yaml"
readme_commands | tail -n +2 >"$root/src/deploy-commands"
runbook_rotation >"$root/src/rotate-commands"

boot
say "README's commands, in the running system"
inside bash -exc 'cd /src && . ./deploy-commands'
inside /src/tests/deploy/checks.sh running
say "and after a boot"
power_off
boot
inside /src/tests/deploy/checks.sh booted
inside /src/tests/deploy/checks.sh purged
say "deployed, used, booted again and purged by README's commands under $(inside systemctl --version | head -n 1)"
