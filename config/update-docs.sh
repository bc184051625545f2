#!/bin/sh
# SPDX-License-Identifier: MIT
# Rewrites the two files made from the table of options. Called by `ninja update-config-docs`.
set -eu
config_doc=$1
man=$MESON_SOURCE_ROOT/docs/rwkvlited.yaml.5.scd
"$config_doc" yaml >"$MESON_BUILD_ROOT/rwkvlited.yaml.new"
"$config_doc" man "$man" >"$MESON_BUILD_ROOT/rwkvlited.yaml.5.scd.new"
mv "$MESON_BUILD_ROOT/rwkvlited.yaml.new" "$MESON_SOURCE_ROOT/config/rwkvlited.yaml"
mv "$MESON_BUILD_ROOT/rwkvlited.yaml.5.scd.new" "$man"
