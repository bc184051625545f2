#!/bin/sh
# SPDX-License-Identifier: MIT
# check_perplexity.sh RWKVLITE_MODEL MODELS: the demo model's held-out perplexity is that of
# PyTorch on the same checkpoint: 10.153 over 75,664 tokens.
set -eu
line=$("$1" perplexity "$2/demo.rwkvl" "$2/valid.txt")
echo "$line"
echo "$line" | awk '{ exit !($2 > 10.148 && $2 < 10.158 && $4 == 75664) }'
