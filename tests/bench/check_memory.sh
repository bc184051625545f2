#!/bin/sh
# SPDX-License-Identifier: MIT
# check_memory.sh MEMORY_SH BUILD MODEL: the benchmark prints its rows and leaves nothing behind.
# Skipped where memory cgroups cannot be made.
set -u
script=$1 build=$2 model=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

fail() {
    echo "FAILED: $*: $(cat "$folder/output")"
    failed=1
}

"$script" --limits 64k "$model" >"$folder/output" 2>&1 && fail "a limit that is no number was taken"
TMPDIR=$folder "$script" --limits "none 1" --tokens 3 --seconds 20 --build "$build" "$model" \
    >"$folder/output" 2>&1
code=$?
if grep -Eq '^memory.sh: (no memory controller|.*\(root is needed\))' "$folder/output"; then
    cat "$folder/output"
    exit 77
fi
[ $code -eq 0 ] || fail "exit $code"
grep -Eq '^ +none +yes +[0-9.]+ +0 ' "$folder/output" || fail "no speed without a limit"
grep -Eq '^ +1 +(yes|no) +- ' "$folder/output" || fail "a speed within 1 MiB"
[ "$(find "$folder" | wc -l)" -eq 2 ] || fail "files left over: $(find "$folder")"
exit $failed
