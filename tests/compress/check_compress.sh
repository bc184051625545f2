#!/bin/sh
# SPDX-License-Identifier: MIT
# check_compress.sh RWKVLITE_MODEL MODELS FIXTURES: files that compress writes, of every
# architecture: the exact form gives the logits of the model it was made from, all forms open and
# verify, and threads change nothing.
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

# made OPTION...: compresses $base twice, with 1 and 2 threads, into $folder/made.
made() {
    for threads in 1 2; do
        tool compress "$base" -o "$folder/made$threads" --threads $threads \
            --calibration-tokens 70 --quiet "$@" 2>"$folder/error" ||
            fail "$base $*: $(cat "$folder/error")"
    done
    cmp "$folder/made1" "$folder/made2" || fail "$base $*: threads change the file"
    mv "$folder/made1" "$folder/made"
    tool info --verify --tensors "$folder/made" >"$folder/info" || fail "$base $*: not a model"
}

# has PATTERN: the file made last lists such a tensor.
has() {
    grep -Eq "$1" "$folder/info" || fail "$base: no '$1' in the file"
}

# same_logits [OPTION]...: the file made last, read so, gives $base's logits.
same_logits() {
    tool logits "$base" --tokens 34,105,110,7,9 >"$folder/a"
    tool logits "$folder/made" --tokens 34,105,110,7,9 "$@" >"$folder/b"
    cmp -s "$folder/a" "$folder/b" || fail "$base: other logits"
}

# Rows with 8 or 4 bits need a width that is a multiple of 32, which not all have here; factors of
# a matrix stay as they are.
for version in 4 5.1 5.2 5.2-x058 5.2-x059 6 7; do
    base=$folder/base$version
    tool import --vocab bytes "$fixtures/rwkv$version.safetensors" "$base" --quiet ||
        fail "import of $version"
    made --preset exact
    has 'blocks.1.ffn.value.rows +f(16|32) '
    same_logits
    made --preset q8 --embedding q8
    case $version in
    5.2-x05? | [67]) has 'blocks.0.ffn.value.rows +q8r ' && has 'emb.weight +q8r ' ;;
    *) has 'blocks.0.ffn.value.weight +q8 ' && has 'emb.weight +f(16|32) ' ;;
    esac
    made --preset exact --ffn-mode predicted --ffn-planes 1
    has 'blocks.1.ffn.neurons +f(16|32) '
    has 'blocks.1.ffn.predictor.planes +p1 '
    made --preset q4 --ffn-mode predicted --recall 0.9
    case $version in
    5.2-x05? | [67]) has 'blocks.0.ffn.neurons +q4r ' && has 'blocks.0.ffn.predictor.planes +p2 ' ;;
    *) has 'blocks.0.ffn.value.weight +q4 ' ;;
    esac
    made --preset lite
    has 'head.planes +p1 '
    made --preset q8 --head-mode clusters --cluster-rows 8 --ffn-mode predicted --mlp
    has 'head.clusters.tokens +u32 '
    has 'head.clusters.weight +q8 '
    for mode in clusters planes; do
        made --preset exact --head-mode $mode --cluster-rows 16
        same_logits --full-head
    done
    made --preset q4 --loras q8
    case $version in
    5.2-x05? | [67]) has 'blocks.1.ffn.value.rows +q4r ' ;;
    *) has 'blocks.1.ffn.value.weight +q4 ' ;;
    esac
done
base=$models/demo.rwkvl
made --preset exact
same_logits
made --preset exact --head-mode clusters
same_logits --full-head
tool info "$folder/made" | grep -q '; a token reads [0-9.]* of 256 clusters of the head' ||
    fail 'the file does not say what a token reads'
head -c 1000 "$models/valid.txt" >"$folder/text"
made --preset paper --calibration "$folder/text"
has 'blocks.5.att.value.down.weight +q8 '
has 'blocks.5.ffn.predictor.mlp2.weight +f16 '
has 'head.clusters.weight +q8 '
tool info "$folder/made" | grep -q '^compression *paper, projections 8 bits.*calibrated on 1000' ||
    fail 'the file does not say how it was compressed'
exit $failed
