#!/bin/bash
# SPDX-License-Identifier: MIT
# Instructions that one token costs, for each instruction set: decoding (with choosing the token),
# and reading a prompt in steps of 64 tokens. What a run of N + M tokens takes more than one of N,
# over M: starting cancels out. Unlike times these are the same on a busy machine.
#
# Programs for this machine are counted by valgrind, which knows neither VNNI nor AVX-512 nor SDOT;
# those built with .ci/aarch64.ini by qemu, with bench/qemu_count.c, which knows all of ARM's.
# To add an instruction set: its bits (engine/kernels.h) in `list_columns`.
set -u

usage() {
    cat >&2 <<'END'
usage: bench/instructions.sh [OPTION]... [MODEL.rwkvl]...
  --compress "PRESET..."  count also what rwkvlite-model makes of each (q8 q4 lite ...)
  --columns "NAME..."     instruction sets (default: reference and all that can be counted)
  --tokens N              tokens counted in decoding (default 4)
  --build FOLDER          where the programs are built (default: build)
The default model is models/demo.rwkvl. The reference reads no prompts: it would take minutes.
END
    exit 2
}

# shellcheck source=bench/common.sh
. "$(dirname "$0")/common.sh"

compress='' columns='' tokens=4
take_options "compress columns tokens build" "$@"
case $tokens in
*[!0-9]* | '' | 0) die "--tokens: '$tokens' is not a number of tokens" ;;
esac
[ ${#models[@]} -gt 0 ] || models=("$here/../models/demo.rwkvl")
need_programs compress/rwkvlite-model
program=$build/compress/rwkvlite-model
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# ---- counting ----

# of_elf PROGRAM: the architecture it is for, as uname -m names it.
of_elf() {
    case $(od -An -tu2 -j18 -N2 "$1" | tr -d ' ') in
    62) echo x86_64 ;;
    183) echo aarch64 ;;
    *) echo unknown ;;
    esac
}

machine=$(of_elf "$program") runner=()
if [ "$machine" = "$(uname -m)" ]; then
    command -v valgrind >/dev/null || die "valgrind is not installed"
    counter=(valgrind --tool=callgrind --callgrind-out-file=/dev/null)
elif [ "$machine" = aarch64 ]; then
    command -v qemu-aarch64 >/dev/null || die "qemu-aarch64 is not installed"
    ${CC:-cc} -std=c11 -O2 -shared -fPIC -o "$folder/count.so" "$here/qemu_count.c" ||
        die "qemu_count.c: cannot be compiled"
    runner=(qemu-aarch64)
    counter=(qemu-aarch64 -plugin "$folder/count.so")
else
    die "$program: not for this machine, nor for aarch64"
fi

# list_columns: names and bits of what can be counted.
list_columns() {
    echo reference 1073741824
    case $machine,${runner[*]-} in
    x86_64,*) echo avx2 1 ;;
    aarch64,) echo neon 2 ;;
    aarch64,qemu*) printf '%s\n' 'neon 2' 'dotprod 18' 'i8mm 50' ;;
    esac
}

# count ARGUMENT...: the instructions that rwkvlite-model takes.
count() {
    "${counter[@]}" "$program" "$@" 2>"$folder/errors" >/dev/null || return 1
    sed -n 's/^.*Collected : \([0-9]*\)$/\1/p; s/^instructions: //p' "$folder/errors"
}

# difference LESS MORE TOKENS: instructions of a token, in millions.
difference() {
    awk -v less="$1" -v more="$2" -v tokens="$3" 'BEGIN {
        if (less == "" || more == "") print "failed"
        else if (more <= less) print "ended" # the text, early
        else printf "%.2f", (more - less) / tokens / 1e6
    }'
}

# decode MODEL MASK TOKENS: of a run that generates so many.
decode() {
    count generate --threads 1 --cpu-mask "$2" --temperature 0 --presence-penalty 0 \
        --frequency-penalty 0 --max-tokens "$3" "$1" "the "
}

# prompt MODEL MASK TOKENS: of a run that reads so many.
prompt() {
    count logits --threads 1 --cpu-mask "$2" --tokens "$(seq -s, 1 "$3")" "$1"
}

# ---- the table ----

print_row() {
    printf '%-24s %-10s %10s %10s\n' "$@"
}

# measure MODEL NAME: its rows.
measure() {
    local column mask read
    while read -r column mask; do
        case " ${columns:-$column} " in
        *" $column "*) ;;
        *) continue ;;
        esac
        read=-
        [ "$column" = reference ] ||
            read=$(difference "$(prompt "$1" "$mask" 64)" "$(prompt "$1" "$mask" 128)" 64)
        print_row "$2" "$column" "$(difference "$(decode "$1" "$mask" 2)" \
            "$(decode "$1" "$mask" $((2 + tokens)))" "$tokens")" "$read"
    done < <(list_columns)
}

print_row model columns decode prompt
print_row '' "$machine" 'million' 'million'
for model in "${models[@]}"; do
    [ -r "$model" ] || die "$model: cannot be read"
    name=$(basename "$model" .rwkvl)
    measure "$model" "$name"
    for preset in $compress; do
        ${runner[@]+"${runner[@]}"} "$program" compress --preset "$preset" \
            -o "$folder/made.rwkvl" "$model" >"$folder/errors" 2>&1 || die "$(cat "$folder/errors")"
        measure "$folder/made.rwkvl" "$name, $preset"
        rm "$folder/made.rwkvl"
    done
done
