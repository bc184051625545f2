#!/bin/sh
# SPDX-License-Identifier: MIT
# Compares the default file and the manual's option part with what config_doc makes of the table:
# check_docs.sh CONFIG_DOC YAML SCD. A difference is mended by `ninja update-config-docs`.
set -eu
config_doc=$1 yaml=$2 man=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Unquoted: a cross build's wrapper may be a command with arguments.
${MESON_EXE_WRAPPER:-} "$config_doc" yaml >"$folder/yaml"
${MESON_EXE_WRAPPER:-} "$config_doc" man "$man" >"$folder/man"
diff -u "$yaml" "$folder/yaml"
diff -u "$man" "$folder/man"

# The comparison means something only if the generator refuses a page it has no place in.
echo "no markers" >"$folder/other"
if ${MESON_EXE_WRAPPER:-} "$config_doc" man "$folder/other" >/dev/null 2>"$folder/error"; then
    echo "a page without marker lines was accepted" >&2
    exit 1
fi
grep -q "$folder/other: the marker lines" "$folder/error"
