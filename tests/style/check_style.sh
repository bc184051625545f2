#!/bin/sh
# SPDX-License-Identifier: MIT
# What the house style asks of every file and a script can see: check_style.sh ROOT. Prints
# FILE:LINE for each fault and exits 1. A long file gives only a warning, as the question is
# whether it has two subjects. Layout is checked by clang-format 14 where it is installed.
set -eu
cd "$1"
failed=0

# files NAME...: those of the source tree whose names match, without build folders.
files() {
    for name in "$@"; do
        find . \( -path './build*' -o -path './.git' \) -prune -o -type f -name "$name" -print
    done | sed 's|^\./||' | LC_ALL=C sort
}

# shellcheck disable=SC2016 # the program is awk's
# A function's braces stand alone at the start of their lines, by clang-format's rules.
files '*.c' '*.h' | xargs awk '
function fail(text) {
    printf "%s:%d: %s\n", FILENAME, FNR, text
    failed = 1
}
FNR == 1 {
    in_function = 0
    if ($0 != "/* SPDX-License-Identifier: MIT */")
        fail("the first line is not the SPDX line")
}
FNR == 2 && !/^\/\*/ { fail("a comment that says what the file owns comes after the SPDX line") }
/^\{$/ { in_function = 1 }
/^\}/ { in_function = 0 }
in_function && /^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else)/ { fail("#if inside a function") }
/^[ \t]*typedef[ \t]+(struct|union)/ { fail("typedef of a struct") }
FNR == 901 { printf "%s: warning: more than 900 lines: does it hold two subjects?\n", FILENAME }
END { exit failed }
' || failed=1

files '*.sh' '*.py' | xargs awk '
FNR == 1 { found = 0 }
/^# SPDX-License-Identifier: MIT$/ { found = 1 }
FNR == 3 && !found {
    printf "%s:1: no SPDX line among the first three\n", FILENAME
    failed = 1
}
END { exit failed }
' || failed=1

formatter=$(command -v clang-format-14 || command -v clang-format || true)
case $(${formatter:-true} --version) in
*"version 14."*) files '*.c' '*.h' | xargs "$formatter" --dry-run --Werror || failed=1 ;;
*) echo "skipped: layout, which needs clang-format 14" ;;
esac

exit $failed
