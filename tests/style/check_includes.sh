#!/bin/sh
# SPDX-License-Identifier: MIT
# Who may include whom: check_includes.sh ROOT. Prints FILE:LINE for each include that breaks a
# rule and exits 1. Tests and benchmarks may use any module; they keep only the form of the path.
set -eu
cd "$1"

# shellcheck disable=SC2016 # the program is awk's
find base bench client compress config daemon engine proto tests -name '*.[ch]' | LC_ALL=C sort |
    xargs awk '
BEGIN {
    # Our own folders that each folder may include beside itself.
    allowed["base"] = ""
    allowed["engine"] = "base"
    allowed["proto"] = "base"
    allowed["config"] = "base"
    allowed["compress"] = "base engine"
    allowed["client"] = "base proto"
    allowed["daemon"] = "base config engine proto"
    # Libraries that only some places know.
    users["lapacke.h"] = "compress/low_rank.c"
    users["cblas.h"] = "bench/blas_openblas.c"
    users["uv.h"] = "daemon/"
    users["yaml.h"] = "config/"
    users["msgpack.h"] = "proto/ engine/metadata.c"
}
function fail(text) {
    printf "%s:%d: %s\n", FILENAME, FNR, text
    failed = 1
}
function has(list, word) {
    return index(" " list " ", " " word " ") > 0
}
function check_library(header, folder,    library, places, count, i) {
    library = header
    sub(/\/.*/, ".h", library) # <msgpack/pack.h> is of <msgpack.h>
    if (!(library in users) || !(folder in allowed))
        return
    count = split(users[library], places, " ")
    for (i = 1; i <= count; i++)
        if (index(FILENAME, places[i]) == 1)
            return
    fail("<" header "> is only for " users[library])
}
function check_own(header, folder,    from) {
    from = header
    if (!sub(/\/.*/, "", from)) {
        fail("\"" header "\": include paths begin at the root")
        return
    }
    if ((getline line < header) < 0)
        fail("\"" header "\": no such file below the root")
    close(header)
    if (folder in allowed && from != folder && !has(allowed[folder], from))
        fail(folder "/ may not include \"" header "\"")
    if (header ~ /\/internal\.h$/ && folder in allowed && from != folder)
        fail("\"" header "\" is only for " from "/")
}
/^[ \t]*#[ \t]*include/ {
    folder = FILENAME
    sub(/\/.*/, "", folder)
    if (match($0, /<[^>]*>/))
        check_library(substr($0, RSTART + 1, RLENGTH - 2), folder)
    else if (match($0, /"[^"]*"/))
        check_own(substr($0, RSTART + 1, RLENGTH - 2), folder)
}
END { exit failed }
' || exit 1
