#!/bin/sh
# SPDX-License-Identifier: MIT
# check_table.sh RWKVLITE_BENCH MODEL [PYTHON]: the table has its rows, as text and as JSON; rows can
# be chosen; the baseline computes what the engine does. No time is looked at.
set -u
bench=$1 model=$2 python=${3:-}
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

table() {
    run "$bench" table --repeat 1 --tokens 3 --prefill 70 --prompt 5 --folder "$folder" "$@" \
        "$model"
}

table --json >"$folder/table.json" || fail "table --json"
for row in start start-token first-token prefill decode-1 decode-4 decode-16 state-copy \
    state-export state-import state-save state-load sampler tokenizer-bytes tokenizer-tokens; do
    grep -q "^{\"name\":\"$row\",\"unit\":\"[^\"]*\",\"median\":[1-9]*[0-9.e+-]*," \
        "$folder/table.json" || fail "no row $row: $(cat "$folder/table.json")"
done
for row in start-cold start-token-cold baseline-prefill baseline-decode; do # or why not
    grep -Eq "^\{\"name\":\"$row\",\"unit\":\"[^\"]*\",\"(median|absent)\":" "$folder/table.json" ||
        fail "no row $row: $(cat "$folder/table.json")"
done
grep -q '"baseline_difference":' "$folder/table.json" || fail "the baseline was not compared"
[ "$(find "$folder" | wc -l)" -eq 2 ] || fail "files left over: $(find "$folder")"
if [ -n "$python" ]; then
    "$python" -c 'import json, sys; rows = json.load(sys.stdin)["rows"]; assert len(rows) == 19
for row in rows:
    assert "absent" in row or row["low"] <= row["median"] <= row["high"], row
    assert ("step_bytes" in row) == ("of_bandwidth" in row), row' <"$folder/table.json" ||
        fail "not the JSON that was expected"
fi

table --rows sampler,state-c --threads 1 --cpu-mask 1073741824 >"$folder/table.txt" ||
    fail "table --rows"
[ "$(sed -n '/^row/,$p' "$folder/table.txt" | awk '{ printf "%s ", $1 }')" = \
    "row state-copy sampler " ] || fail "other rows: $(cat "$folder/table.txt")"
grep -q '^kernels *ref, 1 threads' "$folder/table.txt" || fail "kernels: $(cat "$folder/table.txt")"

refuse() {
    run "$bench" table "$@" "$model" >"$folder/refused" 2>&1
    [ $? -eq 2 ] || fail "taken: $*: $(cat "$folder/refused")"
}
refuse --rows decode,nonsense
refuse --weight-bytes 12parsec
refuse --chunk 3

exit $failed
