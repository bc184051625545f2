#!/bin/bash
# SPDX-License-Identifier: MIT
# Decoding speed while other processes take CPUs: alone, beside a busy loop on the last CPU, and
# beside one on each. A model whose threads wait for each other must not lose more than what the
# others take: with one of two CPUs halved, three quarters of the time is left.
#
# The rounds go round (alone, one, all, alone, ...); medians. To add a case: its line in `cases`.
set -u

usage() {
    cat >&2 <<'END'
usage: bench/contended.sh [OPTION]... MODEL.rwkvl
  --threads N     threads that compute (default: one for each CPU)
  --tokens N      tokens in each round (default 64)
  --rounds N      rounds (default 5)
  --build FOLDER  where the programs are built (default: build)
END
    exit 2
}

# shellcheck source=bench/common.sh
. "$(dirname "$0")/common.sh"

threads=$(nproc) tokens=64 rounds=5
take_options "threads tokens rounds build" "$@"
take_model
need_programs bench/rwkvlite-bench
bench_program=$build/bench/rwkvlite-bench

# The CPUs that this process may use, one a line.
list_cpus() {
    awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status | tr , '\n' |
        while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done
}

busy=()
# start_busy CPU...: a loop that does nothing on each.
start_busy() {
    local cpu
    for cpu; do
        taskset -c "$cpu" sh -c 'while :; do :; done' &
        busy+=($!)
        disown
    done
}
stop_busy() {
    [ ${#busy[@]} = 0 ] || kill "${busy[@]}" 2>/dev/null
    busy=()
}

# Tokens a second of one round.
measure() {
    "$bench_program" decode --threads "$threads" --tokens "$tokens" --repeat 1 --json "$model" |
        sed -n 's/.*"tokens_per_second":\([0-9.]*\).*/\1/p'
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

mapfile -t cpus < <(list_cpus)
cases=(alone "one CPU taken" "all CPUs taken")
taken=("" "${cpus[-1]}" "${cpus[*]}")
folder=$(mktemp -d)
trap 'stop_busy; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

echo "machine            $("$bench_program" machine)"
echo "model              $model, $threads threads"
for _ in $(seq "$rounds"); do
    for i in "${!cases[@]}"; do
        # shellcheck disable=SC2086 # a list of numbers
        start_busy ${taken[$i]}
        measure >>"$folder/$i" || die "$model: cannot be measured"
        stop_busy
    done
done
alone=$(median <"$folder/0")
for i in "${!cases[@]}"; do
    awk -v name="${cases[$i]}" -v rate="$(median <"$folder/$i")" -v alone="$alone" \
        'BEGIN { printf "%-18s %.1f tokens/s, %.2f of alone\n", name, rate, rate / alone }'
done
