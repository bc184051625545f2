#!/bin/sh
# SPDX-License-Identifier: MIT
# check_start.sh START_SH BUILD MODEL: the benchmark prints its figures, sees an idle daemon sleep
# and leaves nothing behind. The model is a copy on the build folder's storage that nothing else
# uses. Skipped where files cannot be dropped from memory.
set -u
script=$1 build=$2
folder=$(mktemp -d "$build/bench-start.XXXXXX")
trap 'rm -rf "$folder"' EXIT
model=$folder/model.rwkvl
cp "$3" "$model" || exit 1
failed=0

fail() {
    echo "FAILED: $*: $(cat "$folder/output")"
    failed=1
}

"$script" --rounds 0 "$model" >"$folder/output" 2>&1 && fail "no rounds were taken"
"$script" --build "$build" "$folder/output" >"$folder/refused" 2>&1 && fail "no model was taken"
TMPDIR=$folder "$script" --rounds 2 --idle 1 --build "$build" "$model" >"$folder/output" 2>&1
code=$?
if grep -q 'stay in the page cache' "$folder/output"; then
    cat "$folder/output"
    exit 77
fi
[ $code -eq 0 ] || fail "exit $code"
for figure in "ready, warm" "ready, cold" "first token, warm" "first token, cold"; do
    grep -Eq "^$figure +[0-9.]+ ms \([0-9.]+ to [0-9.]+\)$" "$folder/output" || fail "no $figure"
done
grep -Eq '^idle +0 context switches in 1 s$' "$folder/output" || fail "the idle daemon wakes up"
[ "$(find "$folder" | wc -l)" -eq 4 ] || fail "files left over: $(find "$folder")"
exit $failed
