#!/bin/sh
# SPDX-License-Identifier: MIT
# check_tool.sh RWKVLITE_MODEL MODELS FIXTURES: the program as a user runs it: exit codes, error
# lines, output of every verb. No file may be left over by a verb that fails.
set -u
program=$1 models=$2 fixtures=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

tool() {
    ${MESON_EXE_WRAPPER:-} "$program" "$@"
}

fail() {
    echo "FAILED: $*"
    failed=1
}

# expect CODE PATTERN ARGUMENT...: runs the program; its output must match the pattern.
expect() {
    code=$1 pattern=$2
    shift 2
    tool "$@" >"$folder/output" 2>&1
    found=$?
    [ "$found" -eq "$code" ] || fail "exit $found, expected $code: $*: $(head -n 3 "$folder/output")"
    [ -z "$pattern" ] || grep -Eq -- "$pattern" "$folder/output" || fail "$*: $(head -n 3 "$folder/output")"
    if [ "$code" -ne 0 ] && [ "$(wc -l <"$folder/output")" -ne 1 ]; then
        fail "more than one line: $*"
    fi
}

demo=$models/demo.rwkvl
tiny=$folder/tiny.rwkvl

expect 0 'Usage: rwkvlite-model VERB' --help
expect 0 '^rwkvlite-model [0-9]+\.' --version
expect 0 '--group-norm-eps' import --help
expect 2 'no verb'
expect 2 "unknown verb 'inof' \(did you mean info\?\)" inof
expect 2 'did you mean --vocab' import --vocav bytes a b
expect 2 '0 arguments, expected: CHECKPOINT \[MODEL.rwkvl\]' import
expect 2 'expected one model file to make: -o MODEL.rwkvl' import a
expect 2 'expected one model file to make' import a b -o c
expect 2 '-o needs a value' import a -o
expect 2 'unknown option -x' import a -x b
expect 2 "none of auto\|f32\|f16" import --type f64 a b
expect 2 'expected up to 65536 IDs below 8192' logits "$demo" --tokens 1,8192
expect 2 'expected up to 65536 IDs' logits "$demo" --tokens 1,,2
expect 2 'has no vocabulary: give --vocab' import "$fixtures/rwkv6.safetensors" "$tiny"
expect 1 'absent.pth: cannot open' import --vocab bytes "$folder/absent.pth" "$tiny"
expect 1 'valid.txt: no checkpoint: expected' import --vocab bytes "$models/valid.txt" "$tiny"
expect 1 'absent.rwkvl: cannot open' info "$folder/absent.rwkvl"
expect 1 'cannot create' import --vocab bytes "$fixtures/rwkv6.safetensors" "$folder/no/tiny.rwkvl"
[ "$(find "$folder" -type f | wc -l)" -eq 1 ] || fail "files left over: $(ls -A "$folder")"

cat >"$folder/chat.json" <<'END'
{"system": "S: {text}", "user": "U: {text}", "assistant": "A:", "separator": "\n", "stop": "\n"}
END
expect 0 '' import --vocab bytes --chat-template "$folder/chat.json" --quiet \
    "$fixtures/rwkv6.safetensors" -o "$tiny"
[ -f "$tiny" ] || fail "import wrote nothing"
[ -s "$folder/output" ] && fail "import --quiet is not quiet"
expect 0 '^rwkv6.safetensors \(safetensors, f16\): rwkv-6, 2 layers, width 32, ' \
    import --vocab bytes "$fixtures/rwkv6.safetensors" "$folder/said.rwkvl"
expect 1 '/dev/null: cannot create: not a regular file' \
    import --vocab bytes "$fixtures/rwkv6.safetensors" /dev/null
expect 0 'rwkv-6' info --verify "$tiny"
expect 0 '"architecture": "rwkv-6"' info --json "$tiny"
expect 0 '"user": "U: \{text\}"' info --json "$tiny"
expect 0 'blocks.1.att.maa_w2 +f(16|32)' info --tensors "$tiny"
for bad in '{}' '[]' '{"system"' \
    '{"system":"S","user":"U: {text}","assistant":"A:","separator":"","stop":"x"}' \
    '{"system":"{text}","user":"{text}","assistant":"A:","separator":"","stop":"x","more":"y"}'; do
    printf '%s' "$bad" >"$folder/bad.json"
    expect 1 'bad.json:' import --vocab bytes --chat-template "$folder/bad.json" \
        "$fixtures/rwkv6.safetensors" "$folder/other.rwkvl"
    [ ! -e "$folder/other.rwkvl" ] || fail "a model in spite of $bad"
done

expect 0 '^\{"tokens":\[34,105\],"logits":\[-?[0-9.e-]+(,-?[0-9.e-]+){255}\]\}$' \
    logits "$tiny" --tokens 34,105
tool logits "$tiny" --tokens 34,105,110 --serial >"$folder/serial"
tool logits "$tiny" --tokens 34,105,110 --threads 1 >"$folder/chunk"
cmp -s "$folder/serial" "$folder/chunk" || fail "logits differ between serial and chunk"

expect 1 'not the model|is missing' import-state "$models/base.pth" "$demo" "$folder/x.rwkvs"
expect 0 'blocks.N.att.time_state' import-state --help

expect 2 'needs --output FILE or --dry-run' compress "$demo"
expect 2 'none of lite' compress "$demo" -o "$folder/x.rwkvl" --preset q9
expect 1 'cannot create' compress "$demo" -o "$folder/no/x.rwkvl"
expect 2 'none of keep' compress "$demo" --dry-run --head q5
expect 0 '^ffn.value.weight f16 +3145728  ffn.value.rows q4r +884736 +6$' \
    compress "$demo" --preset q4 --dry-run
expect 0 '^head.weight f16 +4194304  head.weight q8 +2228224 +1$' \
    compress "$demo" --preset q4 --dry-run --head q8
expect 0 '^all +18895872 +16221696 +201$' \
    compress "$demo" --preset q4 --dry-run --ffn-mode dense --ffn keep --head keep --loras q8
expect 0 '^emb.weight f16 +4194304  emb.weight q8r +2228224 +1$' \
    compress "$demo" --dry-run --embedding q8
for preset in q8 q4; do
    expect 0 '' compress "$demo" -o "$folder/$preset.rwkvl" --preset $preset --threads 1 \
        --no-calibrate
    expect 0 '' compress "$demo" --output "$folder/again.rwkvl" --preset $preset --threads 3 \
        --no-calibrate
    cmp -s "$folder/$preset.rwkvl" "$folder/again.rwkvl" || fail "$preset: threads change the file"
    expect 0 "^  head +$preset +1 tensors" info --verify "$folder/$preset.rwkvl"
    expect 1 "is $preset already" compress "$folder/$preset.rwkvl" -o "$folder/x.rwkvl"
done
expect 0 'q4, projections 4 bits.*; rounded to nearest' info "$folder/q4.rwkvl"
head -c 3000 "$models/valid.txt" >"$folder/text"
for threads in 1 2; do
    expect 0 '' compress "$demo" -o "$folder/calibrated$threads.rwkvl" --preset q4 \
        --threads $threads --calibration "$folder/text"
    expect 0 '' compress "$demo" -o "$folder/own$threads.rwkvl" --preset q4 \
        --threads $threads --calibration-tokens 100
done
cmp -s "$folder/calibrated1.rwkvl" "$folder/calibrated2.rwkvl" || fail "threads change calibration"
cmp -s "$folder/own1.rwkvl" "$folder/own2.rwkvl" || fail "threads change the model's own text"
cmp -s "$folder/calibrated1.rwkvl" "$folder/q4.rwkvl" && fail "calibration changes nothing"
expect 0 'q4, .*; calibrated on 3000 bytes of text' info "$folder/calibrated1.rwkvl"
expect 0 "q4, .*; calibrated on text of the model's own" info "$folder/own1.rwkvl"
printf '\0' >"$folder/empty"
expect 1 'empty: the text has no token to read' compress "$demo" -o "$folder/x.rwkvl" \
    --calibration "$folder/empty"
[ ! -e "$folder/x.rwkvl" ] || fail "compress left a file behind"

expect 1 'nothing makes the weights fit into 1.0 MiB: the least is [0-9.]+ MiB' \
    compress "$demo" --target-memory 1MiB --dry-run
expect 0 '^compression: exact,' compress "$demo" --target-memory 20MiB --dry-run
expect 0 '^compression: lite, ' compress "$demo" --target-memory 4MiB --dry-run
expect 0 '^weights in memory: [0-9.]+ MiB, lite, ' compress "$demo" --target-memory 4MiB \
    -o "$folder/small.rwkvl" --calibration-tokens 100 --report "$folder/report.json"
expect 0 '^cache +[0-9]+ neurons a layer' info "$folder/small.rwkvl"
grep -q '"output_kept": 0.9' "$folder/report.json" || fail "compress wrote no report"
bytes=$(sed -n 's/.*"weights_in_memory_bytes": \([0-9]*\).*/\1/p' "$folder/report.json")
[ "$bytes" -le 4194304 ] || fail "$bytes bytes of weights instead of 4 MiB"

prompt=$(printf 'User: back up 2 meters now\n\nAssistant:')
expect 0 '^ \[\{"action":"drive","meters":-2\}\]$' \
    generate "$demo" "$prompt" --temperature 0 --stop "
"
tool generate "$demo" "User: " --seed 5 --temperature 1 --top-p 0.9 --max-tokens 20 >"$folder/a"
tool generate "$demo" "User: " --seed 5 --temperature 1 --top-p 0.9 --max-tokens 20 >"$folder/b"
cmp -s "$folder/a" "$folder/b" || fail "the same seed gave two texts"
[ "$(wc -c <"$folder/a")" -gt 10 ] || fail "generate printed nothing"

expect 2 "weight_bytes: '64MB' is no size" generate "$demo" "User: " --weight-bytes 64MB
expect 2 'weight_bytes: -1 is outside 0 to' generate "$demo" "User: " --weight-bytes -1
expect 2 'embedding_rows: 0 is outside 1 to' generate "$demo" "User: " --embedding-rows 0
for how in "--weight-bytes mapped" "--weight-bytes 64MiB" "--embedding-rows 1" --full-head; do
    # shellcheck disable=SC2086 # an option and its value
    tool generate "$demo" "User: " --seed 5 --temperature 1 --top-p 0.9 --max-tokens 20 $how \
        >"$folder/b"
    cmp -s "$folder/a" "$folder/b" || fail "$how: another text"
done

printf 'One.\0\0Two.' >"$folder/text"
expect 0 '^\{"perplexity":[0-9.]+,"loss":[0-9.]+,"tokens":6,"documents":2,' \
    perplexity --json "$tiny" "$folder/text"
printf 'x' >"$folder/short"
expect 1 'short: the text has no token to predict' perplexity "$tiny" "$folder/short"

# evaluate
printf '{"text": "One two"}\n\n{"text": "One"}\n' >"$folder/bad.jsonl"
expect 1 'bad.jsonl:3: the text has no last word after a space' \
    evaluate "$tiny" --lambada "$folder/bad.jsonl"
expect 1 'bad.jsonl:1: no "prompt"' evaluate "$tiny" --commands "$folder/bad.jsonl"
expect 1 'absent.jsonl' evaluate "$tiny" --commands "$folder/absent.jsonl"
expect 1 'short: the text has no token to predict' evaluate "$tiny" --text "$folder/short"
expect 1 'absent.rwkvl' evaluate "$tiny" "$folder/absent.rwkvl"
expect 1 'another vocabulary than that of' \
    evaluate "$tiny" --base "$demo" --text "$folder/text" --speed-tokens 0
expect 2 '--text is missing' evaluate "$tiny" --base "$demo"
expect 2 '0 arguments, expected: MODEL' evaluate
expect 1 'cannot create' evaluate "$tiny" --html "$folder/no/page.html" --speed-tokens 1
printf '{"text": "One two"}\n{"text": "A third word", "more": 3}' >"$folder/good.jsonl"
printf '{"prompt": "One", "answer": " two"}\n' >"$folder/prompts.jsonl"
set -- --text "$folder/text" --lambada "$folder/good.jsonl" --commands "$folder/prompts.jsonl"
expect 0 '^Perplexity +[0-9.]+ +[0-9.]+$' evaluate "$tiny" "$demo" "$@" --speed-tokens 2
for threads in 1 2; do
    tool evaluate "$tiny" "$@" --base "$tiny" --speed-tokens 0 --json --threads $threads \
        --html "$folder/page.html" >"$folder/json$threads"
done
cmp -s "$folder/json1" "$folder/json2" || fail "threads change an evaluation"
grep -q '"speed"' "$folder/json1" && fail "evaluate measures speed though it must not"
expect 0 '^layer 1 +100.0 / - +100.0 / -$' evaluate "$tiny" "$demo" --layers --speed-tokens 2 \
    --weight-bytes mapped --full-head
expect 0 '^Memory saving, times +[0-9.]+$' evaluate "$tiny" --text "$folder/text" --base "$tiny" \
    --speed-tokens 2
grep -Eq '"top1_agreement": 1.0' "$folder/json1" || fail "evaluate: a model differs from itself"
grep -q '</html>' "$folder/page.html" || fail "evaluate wrote no page"
grep -Eq '<script|(src|href)=|url\(' "$folder/page.html" && fail "the page is not self-contained"

tool info "$tiny" >/dev/full 2>"$folder/output" && fail "a full disk went unnoticed"

exit $failed
