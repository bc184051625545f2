#!/bin/sh
# SPDX-License-Identifier: MIT
# check_memory.sh MEMORY_SH BUILD MODEL: the benchmark prints its rows and leaves nothing behind.
# The model is a copy on the build folder's storage that nothing else uses. Skipped where memory
# cgroups cannot be made or files not dropped from memory.
set -u
script=$1 build=$2
folder=$(mktemp -d "$build/bench-memory.XXXXXX")
trap 'rm -rf "$folder"' EXIT
model=$folder/model.rwkvl
cp "$3" "$model" || exit 1
failed=0

fail() {
    echo "FAILED: $*: $(cat "$folder/output")"
    failed=1
}

"$script" --limits 64k "$model" >"$folder/output" 2>&1 && fail "a limit that is no number was taken"
TMPDIR=$folder "$script" --limits "none 1" --tokens 3 --seconds 20 --build "$build" "$model" \
    >"$folder/output" 2>&1
code=$?
if grep -Eq '^memory.sh: (no memory controller|.*\(root is needed\))|stay in the page cache' "$folder/output"; then
    cat "$folder/output"
    exit 77
fi
[ $code -eq 0 ] || fail "exit $code"
grep -Eq '^ +none +yes +[0-9.]+ +0 ' "$folder/output" || fail "no speed without a limit"
grep -Eq '^ +1 +(yes|no) +- ' "$folder/output" || fail "a speed within 1 MiB"
[ "$(find "$folder" | wc -l)" -eq 3 ] || fail "files left over: $(find "$folder")"
exit $failed
