#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the default configuration unless there is one: install-config.sh FILE FOLDER. Called by
# `meson install`, which sets DESTDIR.
set -eu
target=${DESTDIR:-}$2/$(basename "$1")
if [ -e "$target" ]; then
    echo "Keeping $target"
else
    mkdir -p "$(dirname "$target")"
    install -m 0644 "$1" "$target"
    echo "Installing $1 to $target"
fi
