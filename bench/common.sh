# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What the scripts of this folder share; sourced by them after they have defined usage, which exits.
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../build settings=()

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# take_options "NAME..." ARGUMENT...: options of these names set the variables of the same names;
# --set KEY=VALUE is added to settings; all else is added to models.
take_options() {
    local names=" $1 " name
    shift
    models=()
    while [ $# -gt 0 ]; do
        name=${1#--}
        case $1 in
        --*)
            if [ $# -lt 2 ] || [[ $names != *" $name "* ]]; then usage; fi
            if [ "$name" = set ]; then settings+=(--set "$2"); else printf -v "$name" %s "$2"; fi
            shift
            ;;
        -*) usage ;;
        *) models+=("$1") ;;
        esac
        shift
    done
}

# take_model: sets model, the only one of models.
take_model() {
    [ ${#models[@]} = 1 ] || usage
    model=${models[0]}
    [ -r "$model" ] || die "$model: cannot be read"
}

# need_programs FOLDER/NAME...: dies unless they are built.
need_programs() {
    local program
    for program; do
        [ -x "$build/$program" ] || die "$build/$program: not built"
    done
}

# Ends the process whose number is in daemon, if any.
stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null
    for _ in $(seq 200); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$daemon" 2>/dev/null
    daemon=
}
