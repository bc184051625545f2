#!/bin/sh
# SPDX-License-Identifier: MIT
# The service and socket units are ones that systemd understands, and the service is sandboxed:
# check.sh SERVICE SOCKET. Skipped (77) without systemd-analyze.
set -eu
service=$1 socket=$2
if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: no systemd-analyze"
    exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# verify wants the program to exist, and before installation it does not.
sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$service" >"$folder/rwkvlited.service"
cp "$socket" "$folder/rwkvlited.socket"
cd "$folder"

# An unknown directive or value is only a line on standard error, so there must be none.
systemd-analyze verify --man=no ./rwkvlited.service ./rwkvlited.socket 2>complaints || true
# Other units of the machine are loaded as well and may have faults of their own.
if grep rwkvlited complaints; then
    exit 1
fi

# The threshold is in tenths: exposure must stay below 2.0.
systemd-analyze security --offline=true --no-pager --threshold=19 ./rwkvlited.service >table || {
    cat table
    exit 1
}
tail -n 1 table

# Sessions are kept apart by the peers' uids, which a user namespace would make all alike.
if grep -E '^(PrivateUsers|DynamicUser)=' rwkvlited.service; then
    echo "rwkvlited.service: see the comments on these directives"
    exit 1
fi
