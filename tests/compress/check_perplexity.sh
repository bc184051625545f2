#!/bin/sh
# SPDX-License-Identifier: MIT
# check_perplexity.sh RWKVLITE_MODEL MODELS: the demo model's held-out perplexity is that of
# PyTorch on the same checkpoint: 10.153 over 75,664 tokens; with q8 within 0.3 %, q4 1 % of it.
set -eu
line=$("$1" perplexity "$2/demo.rwkvl" "$2/valid.txt")
echo "$line"
echo "$line" | awk '{ exit !($2 > 10.148 && $2 < 10.158 && $4 == 75664) }'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for preset in q8 q4; do
    "$1" compress "$2/demo.rwkvl" -o "$folder/$preset.rwkvl" --preset $preset
    line=$("$1" perplexity "$folder/$preset.rwkvl" "$2/valid.txt")
    echo "$preset: $line"
    echo "$line" | awk -v most=$([ $preset = q8 ] && echo 10.183 || echo 10.254) \
        '{ exit !($2 > 10.05 && $2 < most && $4 == 75664) }'
done
