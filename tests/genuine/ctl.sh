#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ctl.sh ETCDCTL ENDPOINT: says what etcdctl answers to its subcommands, without what differs from one etcd to the next.
set -u
export ETCDCTL_API=3
ctl=("$1" --endpoints "$2") key=/registry/secrets/default folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

same() {
    sed -E 's/127\.0\.0\.1:[0-9]+/ADDRESS/g; s/[0-9]{17,}/ID/g; s/[0-9a-f]{15,16}/ID/g; s/"ts":"[^"]*"/TIME/; s/0x[0-9a-f]+/POINTER/g
        s/took = .*//; s/took .*//; s/remaining\([0-9]+s\)/remaining/; s/, [0-9.]+ [kMG]?B,/, SIZE,/; s#/tmp/[^" ]*#FILE#g
        s/"size":"[^"]*"//; s/hash: [0-9]+//; s/(ADDRESS), [0-9]+$/\1, HASH/; s#http://[^ ,]*#URL#g'
}
t() {
    printf '$ %s\n' "$*" | same
    timeout 120 "${ctl[@]}" "$@" 2>&1 | same
    echo "status ${PIPESTATUS[0]}"
}

t put $key/a one; t put $key/a two --prev-kv; t get $key/a; t get $key --prefix --keys-only; t get $key/a --rev 2
echo from stdin | t put $key/b
t get $key/b --print-value-only; t put $key/c x --ignore-value; t get '' --from-key --count-only -w fields
printf 'mod("%s/a") > "0"\n\nput %s/a three\nget %s/a\n\nget %s/a\n\n' $key $key $key $key | t txn
for form in simple json fields; do t get $key/a -w $form; done
t get $key --prefix --order DESCEND --sort-by MODIFY --limit 1
t del $key/b --prev-kv; t del nothing
t compaction 3; t compaction 3; t get $key/a --rev 2
lease=$("${ctl[@]}" lease grant 500 | awk '{print $2}')
t put $key/l x --lease="$lease"; t lease timetolive "$lease" --keys; t lease keep-alive --once "$lease"; t lease list
t lease revoke "$lease"; t get $key/l; t lease revoke "$lease"
t endpoint health; t endpoint status -w simple | sed -E 's/, [0-9]+, [0-9]+, $//'; t endpoint hashkv; t alarm list; t alarm disarm; t defrag
t member list -w simple; t member remove 1234; t member promote 1234; t move-leader 1234
t snapshot save "$folder/snapshot" | grep -v '^{'
t snapshot status "$folder/snapshot" -w json | grep -c totalKey
printf 'watch %s/w --rev 1\n' $key >"$folder/watch"
timeout 5 "${ctl[@]}" watch $key/w --rev 1 2>&1 | same
timeout 5 "${ctl[@]}" watch $key/a --rev 4 --prev-kv 2>&1 | same
t lock $key/lock -- echo locked
timeout 5 "${ctl[@]}" elect $key/elect me 2>&1 | same
t user add root:secret; t user add alice:x; t role add root; t role add r; t user list; t role list
t role grant-permission r --prefix=true readwrite $key; t role get r; t user grant-role root root
t user grant-role alice r; t user get alice; t auth status; t auth enable; t get $key/a; t --user alice:x get $key/a
t --user alice:x put $key/a z; t --user alice:x put /other z; t --user alice:bad get $key/a
t --user root:secret auth status; t --user root:secret auth disable; t user delete alice; t role revoke-permission r $key
t role delete r; t user delete root; t role delete root
# The figures are another machine's tomorrow: only whether it got through counts.
t check datascale --load s | grep -o -e '^PASS' -e '^FAIL: Could not' -e '^status.*'
timeout 120 "${ctl[@]}" check perf --load s 2>&1 | grep -c -e 'Throughput' -e 'Slowest' -e 'Stddev'
"${ctl[@]}" put $key/mirror x >/dev/null
timeout 8 "${ctl[@]}" make-mirror "$2" --prefix $key/mirror --dest-prefix /registry/secrets/copy 2>/dev/null
t get /registry/secrets/copy --prefix
t version
