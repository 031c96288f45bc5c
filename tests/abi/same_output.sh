#!/bin/sh
# A program prints what the file holds. usage: same_output.sh EXPECTED PROGRAM [ARG...]
set -eu
expected=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$@" >"$work/out"
if ! diff -u "$expected" "$work/out"; then
    echo "If the change keeps programs built against released headers working, update $expected:"
    echo "    $* > $expected"
    exit 1
fi
