#!/bin/sh
# SPDX-License-Identifier: MIT
# check_faults.sh RWKVLITE_MODEL MODELS: compress that is killed, or finds no room, leaves no file;
# what it can say is one line.
set -u
program=$1 demo=$2/demo.rwkvl
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
mkdir "$folder/out"

fail() {
    echo "FAILED: $*"
    failed=1
}

# The folder for results holds nothing, hidden files included.
expect_nothing() {
    [ -z "$(ls -A "$folder/out")" ] || fail "$1: left $(ls -A "$folder/out")"
    rm -rf "$folder/out"
    mkdir "$folder/out"
}

# expect_line PATTERN: of the last run's errors.
expect_line() {
    grep -Eq "$1" "$folder/error" || fail "expected $1: $(head -n 3 "$folder/error")"
    [ "$(wc -l <"$folder/error")" -eq 1 ] || fail "more than one line: $(cat "$folder/error")"
}

# Killed after more and more time, until one run ends by itself.
delay=0.02 killed=0
while :; do
    "$program" compress "$demo" -o "$folder/out/x" --calibration-tokens 600 --quiet &
    process=$!
    sleep $delay
    kill -KILL $process 2>/dev/null
    wait $process 2>/dev/null && break
    killed=$((killed + 1))
    expect_nothing "killed after $delay s"
    [ $killed -lt 30 ] || fail "not done after $delay s"
    [ $failed -eq 0 ] || exit 1
    delay=$(echo "$delay" | awk '{ print $1 * 1.5 + 0.05 }')
done
[ $killed -gt 0 ] || fail "nothing was killed"
"$program" info --verify "$folder/out/x" >/dev/null || fail "the file of a whole run is not whole"
rm "$folder/out/x"

# No room: a limit of the size of files, then of the file system, where one may be mounted.
(
    ulimit -f 1000
    "$program" compress "$demo" -o "$folder/out/x" --no-calibrate --preset q4 2>"$folder/error" &&
        touch "$folder/done"
)
[ ! -e "$folder/done" ] || fail "no limit of the size of files"
expect_line 'out/x: cannot reserve [0-9]+ bytes: File too large'
expect_nothing 'a limit of the size of files'
if unshare -Urm true 2>/dev/null; then
    # shellcheck disable=SC2016 # the inner shell's
    unshare -Urm sh -c 'mount -t tmpfs -o size=1m none "$1" && {
        "$2" compress "$3" -o "$1/x" --no-calibrate --preset q4 2>"$4" && echo made "$1"
        ls -A "$1"
    }' sh "$folder/out" "$program" "$demo" "$folder/error" >"$folder/left"
    [ -s "$folder/left" ] && fail "a full disk: left $(cat "$folder/left")"
    expect_line 'out/x: cannot reserve [0-9]+ bytes: No space left on device'
fi
exit $failed
