#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the release twice, in folders of different names and lengths, at different times, and compares programs and SBOM:
# what somebody else builds of a commit is what we built of it. Takes the committed state.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
for folder in one a-longer-name/two; do
    mkdir -p "$root/$folder"
    git archive HEAD | tar -x -C "$root/$folder"
    (cd "$root/$folder" && CCACHE_DISABLE=1 cmake --preset release >log 2>&1 && CCACHE_DISABLE=1 cmake --build --preset release >>log 2>&1) ||
        { cat "$root/$folder/log"; exit 1; }
done
for program in etcd-envelope etcd-envelope-local-kms etcd-envelope.spdx.json; do
    cmp "$root/one/build/release/$program" "$root/a-longer-name/two/build/release/$program"
done
echo "two builds are equal"
