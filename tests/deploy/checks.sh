#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What deploy.sh looks at inside the system that it booted, where README's commands have been run.
#   checks.sh running|booted|purged
set -euo pipefail
proxy=127.0.0.1:23790 metrics=http://127.0.0.1:23791 etcd=127.0.0.1:2379
config=(--config-file /etc/etcd-envelope/etcd-envelope.yaml)
units=(etcd-envelope.socket etcd-envelope.service etcd-envelope-local-kms.socket etcd-envelope-local-kms.service)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed() {
    printf 'FAILED: %s\n' "$*" >&2
    systemctl --no-pager --lines=0 status "${units[@]}" >&2 || true
    journalctl --no-pager --lines=40 -u 'etcd-envelope*' >&2 || true
    exit 1
}

# holds TEXT COMMAND...: within 90 s the command works.
holds() {
    local text=$1 deadline=$((SECONDS + 90))
    shift
    until "$@" >"$work/said" 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            cat "$work/said" >&2
            failed "$text"
        fi
        sleep 0.2
    done
    printf 'ok: %s\n' "$text"
}

never() {
    ! "$@"
}

through() { etcdctl --endpoints "$proxy" "$@"; }
raw() { etcdctl --endpoints "$etcd" "$@"; }
tool() { runuser -u etcd-envelope -- etcd-envelope "$1" "${config[@]}" "${@:2}"; }
agrees() { etcd-envelope status --metrics-urls "$metrics"; }
main_pid() { systemctl show --property=MainPID --value "$1"; }

is_sealed() {
    raw get "/registry/secrets/default/$1" --print-value-only | head -c 22 | grep -q '^k8s:enc:kms:v2:local:'
}

reads() {
    [ "$(through get "/registry/secrets/default/$1" --print-value-only)" = "$2" ]
}

# --- what runs, and as whom ---

# No capability, no new privileges, a system call filter, and the user of its own.
is_confined() {
    local unit=$1 user=$2 status
    status=/proc/$(main_pid "$unit")/status
    grep -q '^CapEff:[[:space:]]*0*$' "$status" && grep -q '^CapBnd:[[:space:]]*0*$' "$status" &&
        grep -q '^NoNewPrivs:[[:space:]]*1$' "$status" && grep -q '^Seccomp:[[:space:]]*2$' "$status" &&
        [ "$(stat -c %U "/proc/$(main_pid "$unit")")" = "$user" ]
}

owned() {
    [ "$(stat -c '%a %U:%G' "$1")" = "$2" ]
}

running_as_meant() {
    local unit
    for unit in "${units[@]}"; do
        holds "$unit is active" systemctl --quiet is-active "$unit"
        holds "$unit is enabled" systemctl --quiet is-enabled "$unit"
    done
    holds "the proxy is confined" is_confined etcd-envelope.service etcd-envelope
    holds "the local KMS is confined" is_confined etcd-envelope-local-kms.service etcd-envelope-kms
    holds "its configuration is the proxy's alone" owned /etc/etcd-envelope/encryption.yaml '600 etcd-envelope:etcd-envelope'
    holds "its folder is root's" owned /etc/etcd-envelope '750 root:etcd-envelope'
    holds "the key is the KMS's alone" owned /etc/etcd-envelope-kms/kek '600 etcd-envelope-kms:etcd-envelope-kms'
    holds "the KMS's socket is for the proxy" owned /run/etcd-envelope-kms/kms.sock '660 etcd-envelope-kms:etcd-envelope'
    holds "the proxy cannot read the key" never runuser -u etcd-envelope -- cat /etc/etcd-envelope-kms/kek
    holds "status is well" agrees
}

# The scores are those that the units name, or better: systemd-analyze asks the running manager.
is_secure() {
    systemd-analyze security --no-pager "$1" | awk -v most="$2" \
        '/Overall exposure level/ { sub(/.*: /, ""); found = 1; exit !($1 + 0 <= most + 0) } END { exit !found }'
}

units_are_right() {
    holds "systemd-analyze verify finds nothing" verify
    holds "security of the proxy" is_secure etcd-envelope.service 1.4
    holds "security of the local KMS" is_secure etcd-envelope-local-kms.service 0.5
}

verify() {
    local said status=0
    # A minimal system has no man(1).
    said=$(systemd-analyze verify --man=no "${units[@]}" 2>&1) || status=$?
    printf '%s\n' "$said"
    [ "$status" = 0 ] && ! grep -q etcd-envelope <<<"$said"
}

# --- reload and restart ---

reloads() {
    sed -i 's/resources: \[secrets\]/resources: [secrets, configmaps]/' /etc/etcd-envelope/encryption.yaml
    systemctl reload etcd-envelope
    through put /registry/configmaps/default/a 'a value' >/dev/null
    raw get /registry/configmaps/default/a --print-value-only | head -c 22 | grep -q '^k8s:enc:kms:v2:local:'
}

# A file that cannot be read: systemctl says nothing, status does, and what was in force stays.
refuses_a_wrong_file() {
    cp -p /etc/etcd-envelope/encryption.yaml "$work/good"
    sed -i 's/kind: EncryptionConfiguration/kind: Nonsense/' /etc/etcd-envelope/encryption.yaml
    systemctl reload etcd-envelope
    holds "status tells of a failed reload" never agrees
    holds "the old configuration serves" through put /registry/secrets/default/meanwhile x
    holds "what it seals is sealed" is_sealed meanwhile
    cp -p "$work/good" /etc/etcd-envelope/encryption.yaml
    systemctl reload etcd-envelope
    holds "status is well again" agrees
}

# Connections, one after the other, and writes: none may be refused, nothing acknowledged may be lost.
hammer() {
    local n=0
    while [ ! -e "$work/stop" ]; do
        (exec 3<>"/dev/tcp/127.0.0.1/${proxy##*:}") 2>>"$work/refused" || echo "connection $n" >>"$work/refused"
        n=$((n + 1))
        sleep 0.002
    done
    echo "$n" >"$work/connections"
}

write() {
    local n=0
    while [ ! -e "$work/stop" ]; do
        n=$((n + 1))
        if through --command-timeout=30s --dial-timeout=30s put "/registry/secrets/default/r$n" "value $n" >/dev/null 2>>"$work/errors"; then
            echo "$n" >>"$work/written"
        else
            echo "write $n" >>"$work/refused"
        fi
    done
}

more_than() {
    [ "$(wc -l <"$work/written")" -gt "$1" ]
}

restarted() {
    local pid
    pid=$(main_pid "$1")
    [ "$pid" != 0 ] && [ "$pid" != "$2" ] && systemctl --quiet is-active "$1"
}

# By the runbook's command; the same version, for there is no other.
upgraded() {
    apt-get -qq --reinstall install /src/build/release/etcd-envelope_*.deb >"$work/upgrade" 2>&1 ||
        { cat "$work/upgrade" >&2; failed "an upgrade"; }
}

restarts_refuse_nobody() {
    local hammering writing before i n
    : >"$work/refused"
    : >"$work/written"
    hammer &
    hammering=$!
    write &
    writing=$!
    for i in restart restart upgrade restart; do
        holds "writes go on before a $i" more_than "$(wc -l <"$work/written")"
        before=$(main_pid etcd-envelope.service)
        if [ "$i" = upgrade ]; then upgraded; else systemctl restart etcd-envelope; fi
        holds "after it another process serves" restarted etcd-envelope.service "$before"
    done
    holds "writes go on" more_than "$(($(wc -l <"$work/written") + 1))"
    touch "$work/stop"
    wait $hammering $writing
    [ ! -s "$work/refused" ] || { cat "$work/refused" "$work/errors" >&2; failed "somebody was refused"; }
    while read -r n; do
        reads "r$n" "value $n" || failed "write $n was acknowledged and is lost"
    done <"$work/written"
    printf 'ok: %s connections, %s writes, nobody refused, nothing lost\n' "$(cat "$work/connections")" "$(wc -l <"$work/written")"
    rm "$work/stop"
}

# As by the kernel when memory is out: calls in flight fail, but who connects waits.
comes_back_when_killed() {
    local hammering before
    : >"$work/refused"
    hammer &
    hammering=$!
    before=$(main_pid etcd-envelope.service)
    kill -KILL "$before"
    holds "systemd starts it again" restarted etcd-envelope.service "$before"
    touch "$work/stop"
    wait $hammering
    [ ! -s "$work/refused" ] || { cat "$work/refused" >&2; failed "a connection was refused"; }
    rm "$work/stop"
    before=$(main_pid etcd-envelope-local-kms.service)
    kill -KILL "$before"
    holds "systemd starts the local KMS again" restarted etcd-envelope-local-kms.service "$before"
    holds "all is well again" agrees
}

# --- the local KMS's key, by the runbook ---

# As status shows it.
write_key() {
    etcd-envelope status --metrics-urls "$metrics" --output json | grep -o '"write_keys": *"[^"]*"' || true
}

has_other_key() {
    local now
    now=$(write_key)
    [ -n "$now" ] && [ "$now" != "$1" ]
}

rotates() {
    local before
    before=$(write_key)
    [ -n "$before" ] || failed "status names no key"
    bash -exc '. /src/rotate-commands' >"$work/rotation" 2>&1 || { cat "$work/rotation" >&2; failed "the runbook's commands"; }
    cat "$work/rotation"
    holds "journalctl says that the key was taken" grep -q '\[.*key file reloaded' "$work/rotation"
    holds "the proxy has" has_other_key "$before"
    holds "old values are due" due
    tool reencrypt --rate 1000 || failed "reencrypt"
    tool verify || failed "verify"
    holds "all is readable" reads first 'a value'
}

due() {
    local status=0
    tool reencrypt --dry-run || status=$?
    [ "$status" = 3 ]
}

# --- the three times ---

case $1 in
running)
    running_as_meant
    units_are_right
    holds "a write" through put /registry/secrets/default/first 'a value'
    holds "it is sealed" is_sealed first
    holds "it is read" reads first 'a value'
    holds "what is not protected passes" through put /registry/pods/default/first 'a pod'
    holds "check" tool check
    holds "a reload protects more" reloads
    refuses_a_wrong_file
    restarts_refuse_nobody
    comes_back_when_killed
    rotates
    ;;
booted)
    running_as_meant
    holds "what was written before is read" reads first 'a value'
    holds "verify" tool verify
    holds "a write" through put /registry/secrets/default/booted 'again'
    holds "it is sealed" is_sealed booted
    ;;
purged)
    apt-get -qq -y purge etcd-envelope >"$work/purge" 2>&1 || { cat "$work/purge" >&2; failed "purge"; }
    holds "it says what it keeps" grep -q 'is kept, for it may hold keys' "$work/purge"
    holds "nothing runs" never grep -qs '^etcd-envelope' /proc/[0-9]*/comm
    holds "nobody listens" never bash -c "exec 3<>/dev/tcp/${proxy%:*}/${proxy##*:}"
    holds "the key is kept" owned /etc/etcd-envelope-kms/kek '600 etcd-envelope-kms:etcd-envelope-kms'
    holds "so is the configuration" test -s /etc/etcd-envelope/encryption.yaml
    for unit in "${units[@]}"; do
        holds "no $unit is left" never systemctl cat "$unit"
        holds "it is not enabled" never test -e "/etc/systemd/system/multi-user.target.wants/$unit" -o \
            -e "/etc/systemd/system/sockets.target.wants/$unit"
    done
    ;;
*)
    exit 2
    ;;
esac
