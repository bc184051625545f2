#!/bin/bash
# SPDX-License-Identifier: MIT
# Tokens a second of the daemon against the memory it may use: for each limit a memory cgroup
# without swap, a daemon in it, one generation. The model file is dropped from the page cache
# before, so that its pages are charged to the group as the daemon reads them.
#
# Needs root and a memory controller of cgroup v2 or v1. To add a column: measure and print_row.
set -u

usage() {
    cat >&2 <<'END'
usage: bench/memory.sh [OPTION]... MODEL.rwkvl
  --limits "MIB..."  limits to try in turn, in MiB or "none" (default: none 128 96 64 48 32)
  --tokens N         tokens to generate at each limit (default 32)
  --seconds N        stop a generation after this long (default 120)
  --set KEY=VALUE    passed to rwkvlited; may be repeated
  --build FOLDER     where the programs are built (default: build)
END
    exit 2
}

# shellcheck source=bench/common.sh
. "$(dirname "$0")/common.sh"

limits="none 128 96 64 48 32" tokens=32 seconds=120
take_options "limits tokens seconds set build" "$@"
take_model
for limit in $limits; do
    case $limit in
    none) ;;
    *[!0-9]* | '') die "--limits: '$limit' is neither a number of MiB nor none" ;;
    esac
done
need_programs daemon/rwkvlited client/rwkvlite bench/rwkvlite-bench
daemon_program=$build/daemon/rwkvlited client_program=$build/client/rwkvlite
bench_program=$build/bench/rwkvlite-bench

# ---- cgroups ----

# The mount point of a memory controller; sets version and root.
find_controller() {
    while read -r _ root type options _; do
        if [ "$type" = cgroup2 ] && grep -qw memory "$root/cgroup.controllers" 2>/dev/null; then
            version=2
            return 0
        fi
        case $type,$options, in
        cgroup,*,memory,*)
            version=1
            return 0
            ;;
        esac
    done </proc/mounts
    return 1
}

# make_group MIB|none: an empty group with this limit; sets group.
make_group() {
    local bytes=max
    group=$root/rwkvlite-bench-$$
    mkdir "$group" || return 1
    if [ "$version" = 2 ]; then
        [ "$1" = none ] || bytes=$(($1 << 20))
        echo "$bytes" >"$group/memory.max" || return 1
        [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
    elif [ "$1" != none ]; then
        bytes=$(($1 << 20))
        echo "$bytes" >"$group/memory.limit_in_bytes" || return 1
        [ ! -e "$group/memory.memsw.limit_in_bytes" ] ||
            echo "$bytes" >"$group/memory.memsw.limit_in_bytes"
    fi 2>/dev/null
}

remove_group() {
    [ -n "$group" ] || return 0
    for _ in $(seq 50); do # its last process may not be gone yet
        rmdir "$group" 2>/dev/null && break
        sleep 0.1
    done
    [ ! -d "$group" ] || echo "memory.sh: $group: cannot be removed" >&2
    group=
}

# of_file FILE NAME: the number after a name at a line's start.
of_file() {
    awk -v name="$2" '$1 == name { print $2; exit }' "$group/$1" 2>/dev/null
}

peak_bytes() {
    cat "$group/memory.peak" 2>/dev/null || cat "$group/memory.max_usage_in_bytes" 2>/dev/null
}

oom_kills() {
    if [ "$version" = 2 ]; then
        of_file memory.events oom_kill
    else
        of_file memory.oom_control oom_kill
    fi
}

# ---- the daemon ----

# Starts the daemon in the group and waits for its socket.
start_daemon() {
    # shellcheck disable=SC2016 # the inner shell's
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$daemon_program" \
        --set log.level=error --set socket.path="$folder/socket" \
        ${settings[@]+"${settings[@]}"} "$model" 2>"$folder/errors" &
    daemon=$!
    disown # so that its end is not announced
    for _ in $(seq 600); do
        [ ! -S "$folder/socket" ] || return 0
        kill -0 "$daemon" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

client() {
    timeout -k 5 $((seconds + 60)) "$client_program" --socket "$folder/socket" --json "$@" \
        2>>"$folder/errors"
}

# generate N: the result of a generation as JSON.
generate() {
    client generate --max-tokens "$1" --no-stream --temperature 1 --top-p 1 --presence-penalty 0 \
        --frequency-penalty 0 --seed 1 --ignore-end-token --deadline-ms $((seconds * 1000)) "the "
}

# of_json NAME: the number of that name in the JSON on standard input.
of_json() {
    sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"
}

# ---- the table ----

print_row() {
    printf '%8s  %-7s %8s %6s %9s %9s %9s %9s\n' "$@"
}

mib() {
    awk -v bytes="${1:-}" 'BEGIN { if (bytes == "") print "-"; else printf "%.1f", bytes / 1048576 }'
}

# measure MIB|none: one row of the table.
measure() {
    local started=yes rate=- resident=- result
    make_group "$1" || die "$root: a group with a limit of $1 cannot be made (root is needed)"
    "$bench_program" drop-cache "$model" || exit 1
    if ! start_daemon; then
        started=no
    elif generate 4 >/dev/null; then # has read all that is always needed
        result=$(generate "$tokens")
        rate=$(printf '%s\n' "$(of_json tokens <<<"$result") $(of_json generate_ms <<<"$result")" |
            awk 'NF == 2 && $2 > 0 { printf "%.2f", $1 * 1000 / $2; exit } { print "-" }')
        resident=$(mib "$(client stats | of_json mapped_resident)")
    fi
    print_row "$1" $started "$rate" "$(oom_kills)" "$(mib "$(peak_bytes)")" "$resident" \
        "$(of_file memory.stat pgmajfault)" "$(of_file memory.stat workingset_refault_file)"
    if [ $started = no ] || [ "$rate" = - ]; then
        awk '{ print "          " $0; exit }' "$folder/errors"
    fi
    if [ "$1" != none ] && [ "${resident%.*}" != - ] && [ "${resident%.*}" -gt "$1" ]; then
        echo "          another process has read the file as well: the limit did not hold for it"
    fi
    stop_daemon
    remove_group
}

finish() {
    stop_daemon
    remove_group
    rm -rf "$folder"
}

find_controller || die "no memory controller of cgroup v1 or v2 is mounted here"
if [ "$version" = 2 ] && ! grep -qw memory "$root/cgroup.subtree_control"; then
    echo +memory 2>/dev/null >"$root/cgroup.subtree_control" ||
        die "$root: the memory controller cannot be passed on to groups (root is needed)"
fi
[ -w "$root" ] || die "$root: groups cannot be made here (root is needed)"
group='' daemon='' folder=$(mktemp -d)
trap finish EXIT
trap 'exit 130' INT TERM

echo "machine            $("$bench_program" machine)"
echo "cgroup             version $version at $root"
echo "model              $model, $(mib "$(stat -L -c %s "$model")") MiB"
echo "settings           ${settings[*]:-default}"
print_row limit started tokens/s killed peak resident faults refaults
print_row MiB '' '' '' MiB 'MiB' major pages
for limit in $limits; do
    measure "$limit"
done
