#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC1091
# Builds the programs and the unit tests for arm64 and runs the latter, published vectors and Kubernetes' own included,
# under qemu-user: on a fresh minimal Debian of this machine's architecture, with Debian's cross compiler and arm64
# libraries. For maintainers; needs root and debootstrap.
#   arm64.sh [RELEASE] [--root DIR] [-R REGEX]
#   RELEASE      trixie (the default) or bookworm
#   --root DIR   the system lies there and stays; a second run takes it as it is
#   -R REGEX     only these tests
# Also says what is left out, and why: see unfit below.
set -euo pipefail
cd "$(dirname "$0")/.."

# Under qemu-user these fail by qemu, not by us.
unfit=()

if [ "${1:-}" = --inside ]; then
    filter=${2:-.}
    . conf/quickstart/packages.sh
    export DEBIAN_FRONTEND=noninteractive
    dpkg --add-architecture arm64
    apt-get -qq update
    libraries=()
    for package in "${packages_build[@]}" libcmocka-dev libjansson-dev; do
        case $package in lib*-dev) libraries+=("$package:arm64") ;; esac
    done
    apt-get -qq -y install --no-install-recommends cmake ninja-build pkg-config protobuf-c-compiler python3 \
        crossbuild-essential-arm64 qemu-user "${libraries[@]}" >/dev/null
    rm -rf build/arm64 # a kept one may be of other sources, whose times say nothing
    cmake --preset dev -B build/arm64 -DCMAKE_TOOLCHAIN_FILE="$PWD/conf/cmake/arm64.cmake" -DBUILD_TESTING=ON
    cmake --build build/arm64 -j "$(nproc)"
    file_of() { aarch64-linux-gnu-readelf -h "build/arm64/$1" | grep -q AArch64 || { say "$1 is not for arm64"; exit 1; }; }
    file_of etcd-envelope
    file_of etcd-envelope-local-kms
    [ "$(qemu-aarch64 build/arm64/etcd-envelope version)" = "$(grep -o 'etcd-envelope VERSION [0-9.]*' CMakeLists.txt | sed 's/ VERSION//')" ]
    left_out=$(IFS='|'; echo "${unfit[*]:-nothing}")
    say "left out under qemu-user: $left_out"
    ctest --test-dir build/arm64 -L unit -R "$filter" -E "^($left_out)\$" --no-tests=error --output-on-failure
    exit
fi

release=trixie options=() filter=.
while [ $# -gt 0 ]; do
    case $1 in
    --root) options+=(--root "$2"); shift ;;
    -R) filter=$2; shift ;;
    trixie | bookworm) release=$1 ;;
    *) sed -n '4,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
exec tests/debian.sh "$release" "${options[@]}" -- tests/arm64.sh --inside "$filter"
