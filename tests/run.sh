#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything in one command, on a fresh Debian 12 or 13: installs, builds, runs ctest, then a short run under
# AddressSanitizer+UBSan and one under ThreadSanitizer. Under ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2154
. conf/quickstart/packages.sh

usage() {
    cat <<'TEXT'
tests/run.sh [options]
  --preset NAME     of the main run: dev (default), release, ...
  --no-sanitizers   the main run only
  --sanitizers-only asan and tsan only
  --long            larger counts in the end-to-end tests; sanitizers run all of them
  --soak MINUTES    afterwards, the leak and fault tests over and over with fresh seeds
  --filter REGEX    only the tests whose name matches (ctest -R)
  --jobs N          tests at a time (default: the number of processors)
  --no-install      the packages are there already
TEXT
}

preset=dev long='' soak=0 filter='' install=yes sanitizers=yes main=yes
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=$2; shift ;;
    --no-sanitizers) sanitizers=no ;;
    --sanitizers-only) main=no ;;
    --long) long=1 ;;
    --soak) soak=$2; shift ;;
    --filter) filter=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --no-install) install=no ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

if [ "$install" = yes ]; then
    packages=("${packages_test[@]}")
    [ -z "${CI:-}" ] || packages+=("${packages_lint[@]}")
    packages_install "${packages[@]}"
fi
etcd_ready "$PWD/build/etcd"
say "$("$etcd_dir/etcd" --version | head -n 1)"
export ENVELOPE_ETCD_DIR=$etcd_dir
if promtool_ready "$PWD/build/promtool"; then
    export ENVELOPE_PROMTOOL=$promtool
else
    say "NOTICE: no promtool to be had, e2e/promtool is skipped"
fi
[ -z "$long" ] || export E2E_LONG=1
ENVELOPE_COMPILER_LAUNCHER=$(command -v ccache || true)
export ENVELOPE_COMPILER_LAUNCHER

# Some tests have bounds on time. On CI's shared machines one that fails is run a second time; ctest shows both.
again=()
[ -z "${CI:-}" ] || again=(--repeat until-pass:2)

failed=()
summary=()

# check PRESET [ctest options]: configures, builds and tests; ctest's closing lines are kept for the end.
check() {
    local preset=$1 log started=$SECONDS
    shift
    log=$(mktemp)
    say "$preset: build"
    if ! cmake --preset "$preset" -DBUILD_TESTING=ON >"$log" 2>&1 || ! cmake --build --preset "$preset" >"$log" 2>&1; then
        cat "$log"
        failed+=("$preset (build)")
        rm -f "$log"
        return 0
    fi
    say "$preset: built in $((SECONDS - started)) s; tests"
    ctest --preset "$preset" --no-tests=error -j "$jobs" "${again[@]}" ${filter:+-R "$filter"} "$@" 2>&1 | tee "$log" ||
        failed+=("$preset")
    summary+=("$preset: $(grep 'tests passed' "$log" || echo 'no test ran'), $((SECONDS - started)) s with the build")
    rm -f "$log"
}

if [ "$main" = yes ]; then
    check "$preset"
fi
if [ "$sanitizers" = yes ]; then
    # A report ends the program with a status of its own, which the tests see.
    export ASAN_OPTIONS=abort_on_error=0:exitcode=99:detect_leaks=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    export TSAN_OPTIONS=halt_on_error=1:exitcode=99:second_deadlock_stack=1
    for sanitizer in asan tsan; do
        if [ -n "$long" ]; then
            check "$sanitizer" -L 'unit|e2e'
        elif [ "$sanitizer" = tsan ]; then # functions of one thread have nothing to race with
            check "$sanitizer" -L 'unit|short' -E '^unit/(pb|grpc|envelope|etcd|config|http1)/'
        else
            check "$sanitizer" -L 'unit|short'
        fi
    done
fi
if [ "$soak" != 0 ]; then
    say "soak: $soak minutes"
    until=$((SECONDS + soak * 60)) rounds=0
    while [ $SECONDS -lt $until ]; do
        rounds=$((rounds + 1))
        E2E_LONG=1 ctest --preset "$preset" -R 'e2e/(leak|lies|faults|kms|restart)' || {
            failed+=("soak round $rounds")
            break
        }
    done
    summary+=("soak: $rounds rounds")
fi

echo
printf '%s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
