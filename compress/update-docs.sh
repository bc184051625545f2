#!/bin/sh
# SPDX-License-Identifier: MIT
# update-docs.sh RWKVLITE_MODEL MANUAL: prints the manual page with the part that follows from the
# verbs' tables made anew. `ninja update-model-docs` puts it in place; a test compares the two.
set -eu
sed '/^; Made from the tables of the verbs/q' "$2"
${MESON_EXE_WRAPPER:-} "$1" --manual
sed -n '/^; End of what is made from the tables of the verbs/,$p' "$2"
