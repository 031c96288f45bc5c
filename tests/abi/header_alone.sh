#!/bin/sh
# The header compiles alone and twice, as C99, C11, C++11 and C++20, without a warning. usage: header_alone.sh INCLUDE
set -eu
include=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <llmoffload.h>\n#include <llmoffload.h>\nextern int an_int;\nint an_int = LLMO_OK;\n' >"$work/one.c"
cp "$work/one.c" "$work/one.cc"
tried=0
for compiler in gcc clang g++ clang++; do
    command -v $compiler >/dev/null 2>&1 || { echo "no $compiler here"; continue; }
    case $compiler in
    *++) standards="c++11 c++20" file=$work/one.cc ;;
    *) standards="c99 c11" file=$work/one.c ;;
    esac
    for standard in $standards; do
        $compiler -std="$standard" -Wall -Wextra -pedantic -Werror -Wundef -fsyntax-only -I "$include" "$file"
        echo "$compiler -std=$standard: ok"
        tried=$((tried + 1))
    done
done
[ $tried -ge 2 ] || { echo "no compiler found"; exit 1; }
# Nothing but its two C headers comes in by it.
included=$(grep -o '^#include <.*>' "$include/llmoffload.h" | sort | tr '\n' ' ')
[ "$included" = "#include <stddef.h> #include <stdint.h> " ] || { echo "the header includes $included"; exit 1; }
