#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything in one command, on a fresh Debian 12 or 13: installs, builds, runs ctest, then a short run under
# AddressSanitizer+UBSan and one under ThreadSanitizer. Some 30 minutes on two cores.
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
  --more            also: the release build with warnings as errors, what it is hardened with, its instructions per
                    request beside those that bench/instructions.txt keeps, what gcc -fanalyzer finds beside tests/analyze_exceptions.txt,
                    each header compiled alone, and 10 s of each fuzzer, for which clang is installed
  --long            larger counts in the end-to-end tests; sanitizers run all of them; with --more the release is
                    built twice and compared, clang-tidy looks at src/, each security rule is broken to see which test
                    notices, and the lines of the parsers that run are counted
  --etcds           also: reads, writes, watches, leases and the tools with each version of etcd that a release of Debian has
                    (3.4 of Debian 12 to that of sid), where they can be fetched; --long does it, too
  --soak MINUTES    afterwards, the leak and fault tests over and over with fresh seeds, and as long again the release
                    build at half of full load through rotations, reloads and restarts of etcd and plugin
  --filter REGEX    only the tests whose name matches (ctest -R)
  --jobs N          tests at a time (default: the number of processors)
  --no-install      the packages are there already
TEXT
}

preset=dev long='' etcds=no soak=0 filter='' install=yes sanitizers=yes main=yes more=no
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=$2; shift ;;
    --no-sanitizers) sanitizers=no ;;
    --sanitizers-only) main=no ;;
    --more) more=yes ;;
    --long) long=1 etcds=yes ;;
    --etcds) etcds=yes ;;
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
    [ -z "${CI:-}" ] || packages_install "${packages_browser[@]}" || say "NOTICE: no chromium to be had"
fi
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    say "NOTICE: without chromium and chromium-driver the status page is not looked at: e2e/page is skipped"
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

failed=()
summary=()
none=error # when nothing is there to run in one of several runs
[ -z "$filter" ] || none=ignore # it may name tests of one kind only

# tests PRESET [ctest options]: one run of ctest; its closing lines are kept for the end.
tests() {
    local preset=$1 log started=$SECONDS
    shift
    log=$(mktemp)
    ctest --preset "$preset" -j "$jobs" ${filter:+-R "$filter"} "$@" 2>&1 | tee "$log" || failed+=("$preset")
    summary+=("$preset: $(grep 'tests passed' "$log" || echo 'no test ran'), $((SECONDS - started)) s")
    rm -f "$log"
}

# build PRESET [configure options]: configures and builds; what was printed is shown when it fails.
build() {
    local preset=$1 configure=$1 log status=0 started=$SECONDS
    shift
    [ "$preset" != headers ] || configure=dev
    log=$(mktemp)
    say "$preset: build"
    if cmake --preset "$configure" "$@" >"$log" 2>&1 && cmake --build --preset "$preset" >"$log" 2>&1; then
        say "$preset: built in $((SECONDS - started)) s"
    else
        cat "$log"
        failed+=("$preset (build)")
        status=1
    fi
    rm -f "$log"
    return $status
}

# check PRESET [ctest options]: configures, builds and tests.
check() {
    local preset=$1
    shift
    build "$preset" -DBUILD_TESTING=ON || return 0
    if [ -z "${CI:-}" ]; then
        tests "$preset" --no-tests=error "$@"
        return 0
    fi
    # On CI's shared machines a test that asserts a bound on time is run a second time when it fails, and no other
    # is: a leak that was found once was found.
    tests "$preset" --no-tests=$none "$@" -LE timing
    tests "$preset" --no-tests=$none "$@" -L timing --repeat until-pass:2
}

# sanitize PRESET [ctest options]: check, with the sanitizers' reports in files: one of a first try counts, too.
sanitize() {
    local preset=$1 reports=$PWD/build/$1/reports
    rm -rf "$reports"
    mkdir -p "$reports"
    # A report ends the program with a status of its own, which the tests see.
    export ASAN_OPTIONS=abort_on_error=0:exitcode=99:detect_leaks=1:log_path=$reports/asan
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:log_path=$reports/ubsan
    export TSAN_OPTIONS=halt_on_error=1:exitcode=99:second_deadlock_stack=1:log_path=$reports/tsan
    check "$@"
    if [ -n "$(ls "$reports")" ]; then
        cat "$reports"/*
        failed+=("$preset (sanitizer reports)")
    fi
}

# Memory runs out at each place of each unit test program; those that try that themselves aside.
fail_each() {
    local programs
    mapfile -t programs < <(find build/asan/tests -name 'test_*' -type f -executable ! -name '*nomem*' | sort)
    ASAN_OPTIONS='' UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 python3 tests/unit/fail_each.py --jobs "$jobs" "${programs[@]}" ||
        failed+=("memory that runs out")
}

# What our own code costs, counted by callgrind, is not more than what is kept for this release and compiler.
count_instructions() {
    local log started=$SECONDS
    log=$(mktemp)
    if ! cmake --build --preset release --target bench >"$log" 2>&1; then
        cat "$log"
        failed+=("instructions (build)")
    # Twice: how requests fall together in a loaded machine's loop turns is worth up to 2 %.
    elif python3 bench/run.py --stages instructions --check --out build/bench-instructions ||
        python3 bench/run.py --stages instructions --check --out build/bench-instructions; then
        summary+=("instructions: counted, $((SECONDS - started)) s")
    else
        failed+=(instructions)
    fi
    rm -f "$log"
}

etcd_version() {
    "$1/etcd" --version | sed -n 1p # all of it is read: who writes to nobody ends with an error
}

# other_etcds: the files of e2e that concern etcd itself, with each other version that is to be had. In folders of their own,
# and not installed. Not headers and probes, whose odd requests are answered by the release of Go that an etcd was built with.
other_etcds() {
    local release mirror version seen
    local files='kv|watch|services|lies|large|flow|streams|restart|etcdctl|tools|verify|reencrypt|quarantine|snapshot'
    seen=" $(etcd_version "$etcd_dir") "
    # shellcheck disable=SC1091
    mirror=$(apt_mirror "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" | sed -n 1p)
    for release in bookworm trixie forky sid; do
        local dir=$PWD/build/etcd-$release started=$SECONDS
        if [ ! -x "$dir/etcd" ] && ! etcd_download "$dir" "$release" "$mirror"; then
            say "NOTICE: no etcd of Debian's $release to be had"
            continue
        fi
        version=$(etcd_version "$dir")
        case $seen in *" $version "*) continue ;; esac
        seen+="$version "
        say "$version"
        if ENVELOPE_ETCD_DIR=$dir E2E_LONG='' ctest --preset "$preset" -j "$jobs" -LE timing \
            -R "^e2e/($files|moving|story|upgrade|drop_keys|converge)\$"; then
            summary+=("$version: passed, $((SECONDS - started)) s")
        else
            failed+=("$version")
        fi
    done
}

# analyze TOOL: what a static analyzer finds in src/ is what is kept as an exception, and no more.
analyze() {
    local tool=$1 status=0 started=$SECONDS
    [ "$install" = no ] || [ "$tool" = gcc ] || packages_install "$tool" || true
    [ -e build/dev/compile_commands.json ] || cmake --preset dev -DBUILD_TESTING=ON >/dev/null
    cmake --build --preset dev --target proto_kms proto_etcd >/dev/null # headers that are made
    python3 tests/analyze.py --tool "$tool" --jobs "$jobs" || status=$?
    case $status in
    0) summary+=("$tool: no finding that is not kept, $((SECONDS - started)) s") ;;
    77) summary+=("$tool: skipped, it is not Debian 12's") ;;
    *) failed+=("analyze $tool") ;;
    esac
}

if [ "$main" = yes ]; then
    check "$preset"
    [ "$etcds" = no ] || other_etcds
fi
if [ "$sanitizers" = yes ]; then
    for sanitizer in asan tsan; do
        if [ -n "$long" ]; then
            sanitize "$sanitizer" -L 'unit|e2e'
            [ "$sanitizer" = tsan ] || fail_each
        elif [ "$sanitizer" = tsan ]; then # functions of one thread have nothing to race with
            sanitize "$sanitizer" -L 'unit|short' -E '^unit/(pb|grpc|envelope|etcd|config|http1)/'
        else
            sanitize "$sanitizer" -L 'unit|short'
        fi
    done
fi
if [ "$more" = yes ]; then
    unset ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS # a fuzzer prints its report
    if build release -DENVELOPE_WERROR=ON; then
        summary+=("release: built without a warning")
        python3 tests/lint/check_binary.py build/release/etcd-envelope build/release/etcd-envelope-local-kms ||
            failed+=("release (hardening)")
        count_instructions
        [ -z "$long" ] || tests/reproducible.sh || failed+=("two builds are not equal")
    fi
    analyze gcc
    [ -z "$long" ] || analyze clang-tidy
    ! build headers || summary+=("headers: each compiles alone")
    [ "$install" = no ] || packages_install "${packages_fuzz[@]}" || failed+=("fuzz (clang)")
    ! build fuzz || tests fuzz --no-tests=$none
    if [ -n "$long" ]; then
        python3 tests/mutation/run.py --jobs "$jobs" || failed+=("a security rule that nothing guards")
        if build coverage -DBUILD_TESTING=ON; then
            tests coverage --no-tests=$none -L 'unit|fuzz'
            python3 tests/coverage.py --check || failed+=("parsers (coverage)")
        fi
    fi
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
    ! build release || tests/soak.py --minutes "$soak" || failed+=("soak of $soak minutes")
fi

echo
printf '%s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
