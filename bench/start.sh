#!/bin/bash
# SPDX-License-Identifier: MIT
# How long the daemon takes to be ready and to its first token, through the client, with the model in
# the page cache (warm) and dropped from it (cold); and how often the idle daemon wakes up, which
# must be never. Medians of several starts, warm and cold in turns, with the least and the most.
#
# To add a figure: keep it in measure, print it at the end.
set -u

usage() {
    cat >&2 <<'END'
usage: bench/start.sh [OPTION]... MODEL.rwkvl
  --rounds N         starts of each kind (default 5)
  --idle N           seconds to watch the idle daemon (default 10)
  --prompt TEXT      what the first token comes after
  --set KEY=VALUE    passed to rwkvlited; may be repeated
  --build FOLDER     where the programs are built (default: build)
END
    exit 2
}

# shellcheck source=bench/common.sh
. "$(dirname "$0")/common.sh"

rounds=5 idle=10
prompt="Bring the red cup from the kitchen to the table, then come back and wait for me at the door."
take_options "rounds idle prompt set build" "$@"
take_model
for number in "$rounds" "$idle"; do
    case $number in
    *[!0-9]* | '' | 0) die "'$number' is no positive number" ;;
    esac
done
need_programs daemon/rwkvlited client/rwkvlite bench/rwkvlite-bench
daemon_program=$build/daemon/rwkvlited client_program=$build/client/rwkvlite
bench_program=$build/bench/rwkvlite-bench

# Starts the daemon; sets daemon and ready, the milliseconds it took.
start_daemon() {
    read -r daemon ready < <("$bench_program" spawn "$daemon_program" --set log.level=error \
        --set socket.path="$folder/socket" ${settings[@]+"${settings[@]}"} "$model" \
        2>"$folder/errors")
    [ -n "$daemon" ] || die "the daemon does not start: $(head -1 "$folder/errors")"
}

# measure KIND: one start; adds to the files of its times.
measure() {
    local begin=${EPOCHREALTIME/[.,]/}
    start_daemon
    timeout -k 5 300 "$client_program" --socket "$folder/socket" generate --max-tokens 1 \
        --ignore-end-token "$prompt" >/dev/null 2>"$folder/errors" ||
        die "no first token: $(head -1 "$folder/errors")"
    echo $((${EPOCHREALTIME/[.,]/} - begin)) | awk '{ print $1 / 1000 }' >>"$folder/token-$1"
    echo "$ready" >>"$folder/ready-$1"
}

# Context switches of all threads of the daemon so far.
switches() {
    cat /proc/"$daemon"/task/*/status | awk '/ctxt_switches:/ { sum += $2 } END { print sum }'
}

# print_times WORDS FILE
print_times() {
    sort -n "$2" | awk -v words="$1" '{ value[NR] = $1 } END {
        middle = int((NR + 1) / 2)
        median = NR % 2 ? value[middle] : (value[middle] + value[middle + 1]) / 2
        printf "%-18s %.1f ms (%.1f to %.1f)\n", words, median, value[1], value[NR] }'
}

folder=$(mktemp -d) daemon=''
trap 'stop_daemon; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

echo "machine            $("$bench_program" machine)"
echo "model              $model, $(stat -L -c %s "$model" | awk '{ printf "%.1f", $1 / 1048576 }') MiB"
echo "settings           ${settings[*]:-default}"
cat "$model" >/dev/null
for _ in $(seq "$rounds"); do
    measure warm
    stop_daemon
    "$bench_program" drop-cache "$model" || exit 1
    measure cold
    stop_daemon
done
start_daemon
sleep 1
before=$(switches)
sleep "$idle"
after=$(switches)
stop_daemon

print_times "ready, warm" "$folder/ready-warm"
print_times "ready, cold" "$folder/ready-cold"
print_times "first token, warm" "$folder/token-warm"
print_times "first token, cold" "$folder/token-cold"
echo "idle               $((after - before)) context switches in $idle s"
