#!/bin/sh
# SPDX-License-Identifier: MIT
# The verbs and options in the manual page are those of the program.
set -eu
"$1" "$2" "$3" | diff -u "$3" - || {
    echo "docs/rwkvlite-model.1.scd is out of date: ninja update-model-docs" >&2
    exit 1
}
