#!/bin/sh
# SPDX-License-Identifier: MIT
# check_planted.sh RWKVLITE_BENCH RWKVLITE_MODEL: a small planted model is valid, as active as was
# asked, the same for the same seed; its texts are read back as the tokens they were sampled as.
set -u
bench=$1 model=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

run() {
    ${MESON_EXE_WRAPPER:-} "$@"
}

fail() {
    echo "FAILED: $*"
    failed=1
}

# make NAME OPTION...: a model whose table is left in NAME.txt.
make() {
    name=$1
    shift
    run "$bench" make-planted --layers 2 --width 64 --vocab 512 --clusters 8 --tokens 512 "$@" \
        "$folder/$name.rwkvl" >"$folder/$name.txt" || fail "make-planted $*"
}

# active NAME LOW HIGH: every layer's share of active neurons lies between.
active() {
    awk -v low="$2" -v high="$3" '
        /^ *[0-9]+ .*%.*%$/ { layers++; if ($2 < low || $2 > high) bad = 1 }
        END { exit bad || layers != 2 }' "$folder/$1.txt" ||
        fail "activity not within $2 and $3: $(cat "$folder/$1.txt")"
}

make first
make again
make other --seed 2 --tokens 0
make busy --activity 40
active first 8 16
active busy 32 48
cmp "$folder/first.rwkvl" "$folder/again.rwkvl" || fail "the same seed gave another file"
cmp "$folder/first.txt" "$folder/again.txt" || fail "the same seed gave other texts"
cmp -s "$folder/first.rwkvl" "$folder/other.rwkvl" && fail "another seed gave the same file"
run "$model" info --verify "$folder/first.rwkvl" >/dev/null || fail "info --verify"

# 4 texts of 128 tokens of three letters, and the end of each.
run "$bench" activity --tokens 512 --texts 4 --text "$folder/text" "$folder/first.rwkvl" \
    >/dev/null || fail "activity"
[ "$(wc -c <"$folder/text")" -eq $((3 * 512 + 3)) ] || fail "short tokens in the texts"
run "$model" perplexity --json "$folder/first.rwkvl" "$folder/text" >"$folder/perplexity.json"
grep -q '"tokens": *512[^0-9]' "$folder/perplexity.json" || fail "$(cat "$folder/perplexity.json")"

run "$bench" make-planted --width 96 "$folder/x" >/dev/null 2>&1
[ $? -eq 2 ] || fail "a width that is no multiple of the head size was taken"

exit $failed
