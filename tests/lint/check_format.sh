#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# clang-format 14 would change nothing. Other versions format differently, so without 14 this is
# skipped (status 77). check_format.sh [ROOT]
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}

for tool in clang-format-14 clang-format; do
    if command -v "$tool" >/dev/null && "$tool" --version | grep -q 'version 14\.'; then
        cd "$root"
        find src tests bench -type f \( -name '*.c' -o -name '*.h' \) -print0 |
            xargs -0 --no-run-if-empty "$tool" --dry-run -Werror
        exit 0
    fi
done
echo "skipped: no clang-format 14"
exit 77
