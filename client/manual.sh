#!/bin/sh
# SPDX-License-Identifier: MIT
# The part of rwkvlite(1) that is made from the program's tables. With PAGE compares it with what
# PROGRAM prints; without, rewrites it (`ninja update-client-manual`): manual.sh PROGRAM [PAGE].
set -eu
program=$1
page=${2:-$MESON_SOURCE_ROOT/docs/rwkvlite.1.scd}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Unquoted: a cross build's wrapper may be a command with arguments.
${MESON_EXE_WRAPPER:-} "$program" help --manual >"$folder/part"
awk -v part="$folder/part" '
    /^; options and commands: end$/ { inside = 0; ends++ }
    !inside { print }
    /^; options and commands: begin$/ {
        inside = 1
        while ((getline line < part) > 0)
            print line
    }
    END { if (ends != 1 || inside) exit 1 }
' "$page" >"$folder/page" || {
    echo "$page: the marker lines are missing" >&2
    exit 1
}
if [ $# -eq 2 ]; then
    diff -u "$page" "$folder/page" || {
        echo "run: ninja update-client-manual" >&2
        exit 1
    }
else
    cat "$folder/page" >"$page"
fi
