#!/bin/sh
# SPDX-License-Identifier: MIT
# check_contended.sh CONTENDED_SH BUILD MODEL: the benchmark prints its three ratios. Skipped where
# there is no taskset.
set -u
command -v taskset >/dev/null || exit 77
output=$("$1" --threads 2 --rounds 1 --tokens 4 --build "$2" "$3" 2>&1) || {
    echo "FAILED: exit $?: $output"
    exit 1
}
for case in alone "one CPU taken" "all CPUs taken"; do
    echo "$output" | grep -Eq "^$case +[0-9.]+ tokens/s, [0-9.]+ of alone$" || {
        echo "FAILED: no line of '$case': $output"
        exit 1
    }
done
