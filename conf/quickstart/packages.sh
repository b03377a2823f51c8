# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# What this project needs from Debian 12 or 13, in one place: sourced by tests/run.sh and
# conf/quickstart/run.sh. Nothing is started and no file of the system is changed but by apt-get install.

# To build the programs.
packages_build=(gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libnghttp2-dev libssl-dev
    libprotobuf-c-dev protobuf-c-compiler libhttp-parser-dev libyaml-dev libsodium-dev libseccomp-dev)
# To test them.
packages_test=("${packages_build[@]}" libcmocka-dev libjansson-dev scdoc protobuf-compiler python3 python3-grpcio
    python3-protobuf python3-hpack python3-cryptography python3-yaml openssl valgrind iproute2)
# To judge the source's form as CI does, units, man pages, completion and package included.
packages_lint=(clang-format systemd scdoc zsh fish lintian)
# To look at the status page as its users do; 130 MB more to fetch, so only CI installs them.
packages_browser=(chromium chromium-driver)
# To fuzz them.
packages_fuzz=(clang libclang-rt-dev)
# To show them.
packages_show=("${packages_build[@]}" openssl bsdextrautils)

say() { printf '%s\n' "== $*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# packages_install NAME...: installs those that are missing. Without apt (another distribution) it
# only says what is needed.
packages_install() {
    local missing=() name
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: install the equivalents of: $*"
        return 0
    fi
    for name in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -q '^installed$' ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 \
        install --no-install-recommends "${missing[@]}" >&2
}

# The mirror's URI for the running release ($1 = its code name), from the machine's own apt sources.
apt_mirror() {
    local codename=$1 file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        sed -E 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]*)?/deb /' "$file" |
            awk -v r="$codename" '$1 == "deb" && $3 == r { print $2; exit }'
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        awk -v r="$codename" '
            function stanza() { if (uri != "" && hit) print uri; uri = ""; hit = 0 }
            /^[[:space:]]*$/ { stanza() }
            tolower($1) == "uris:" { uri = $2 }
            tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == r) hit = 1 }
            END { stanza() }' "$file"
    done
}

# etcd_download DIR RELEASE [MIRROR]: etcd-server and etcd-client of RELEASE, unpacked into DIR and not
# installed, so that no service starts. With a MIRROR: through an apt configuration of its own that
# knows this mirror only.
etcd_download() {
    local dir=$1 release=$2 mirror=${3:-} work options=(-o APT::Sandbox::User=root)
    work=$(mktemp -d)
    chmod 755 "$work" # apt's own user writes here
    if [ -n "$mirror" ]; then
        mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/parts"
        echo "deb $mirror $release main" >"$work/sources.list"
        options+=(-o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
            -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache"
            -o Acquire::Languages=none -o Acquire::Retries=3)
        apt-get -qq "${options[@]}" update >&2 || { rm -rf "$work"; return 1; }
    fi
    if ! (cd "$work" && apt-get -qq "${options[@]}" download etcd-server etcd-client >&2); then
        rm -rf "$work"
        return 1
    fi
    mkdir -p "$dir"
    local deb
    for deb in "$work"/etcd-*.deb; do
        dpkg -x "$deb" "$work/root" || { rm -rf "$work"; return 1; }
    done
    mv "$work"/root/usr/bin/etcd* "$dir/" && rm -rf "$work"
    [ -x "$dir/etcd" ] && "$dir/etcd" --version >/dev/null
}

# etcd_ready DIR: sees to it that etcd and etcdctl can be run, in DIR if need be, and sets etcd_dir to
# the folder that has them. 3.5 or later if at all possible.
etcd_ready() {
    local dir=$1 codename mirror found
    found=${ENVELOPE_ETCD_DIR:-$(dirname "$(command -v etcd || echo /nowhere/etcd)")}
    if [ -x "$found/etcd" ] && [ -x "$found/etcdctl" ] && ! etcd_is_old "$found"; then
        etcd_dir=$found
        return 0
    fi
    etcd_dir=$dir
    if [ -x "$dir/etcdctl" ] && "$dir/etcd" --version >/dev/null 2>&1; then
        return 0
    fi
    command -v apt-get >/dev/null || { say "no etcd 3.5 in PATH"; return 1; }
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if [ "$codename" = bookworm ]; then
        mirror=$(apt_mirror bookworm | head -n 1)
        say "Debian 12 has etcd 3.4: taking etcd-server and etcd-client 3.5 from Debian 13"
        if [ -n "$mirror" ] && etcd_download "$dir" trixie "$mirror"; then
            return 0
        fi
        say "NOTICE: no packages of Debian 13 to be had, falling back to etcd 3.4 of Debian 12"
    fi
    etcd_download "$dir" "$codename" && return 0
    as_root apt-get -qq update >&2 && etcd_download "$dir" "$codename"
}

# promtool_ready DIR: promtool, unpacked into DIR and not installed, so that no service starts. Debian 13 has a package
# of this name, in Debian 12 it is a part of prometheus. Sets promtool.
promtool_ready() {
    local dir=$1 work package=prometheus
    promtool=$(command -v promtool || echo "$dir/promtool")
    [ ! -x "$promtool" ] || return 0
    command -v apt-get >/dev/null || return 1
    apt_knows prometheus || as_root apt-get -qq update >&2 || true
    ! apt_knows promtool || package=promtool
    work=$(mktemp -d)
    chmod 755 "$work"
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2) &&
        dpkg -x "$work/${package}_"*.deb "$work/root" &&
        mkdir -p "$dir" && mv "$work/root/usr/bin/promtool" "$dir/"
    rm -rf "$work"
    [ -x "$promtool" ]
}

apt_knows() {
    apt-cache show "$1" >/dev/null 2>&1
}

etcd_is_old() {
    "$1/etcd" --version | grep -qE '^etcd Version: (2\.|3\.[0-4]\.)'
}
