#!/bin/sh
# Every global symbol of the static library starts with llmo_ or llmoi_, so that it never collides with a host's.
# usage: static_symbols.sh ARCHIVE
set -eu
archive=$1
names=$(nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }')
[ "$(echo "$names" | grep -c '^llmo_')" -ge 10 ] || { echo "no public symbols in $archive"; exit 1; }
# nvcc gives each of its objects a registration symbol with a random name; they are weak or unique by construction
wrong=$(echo "$names" | grep -vE '^(llmo|llmoi)_|^__(fatbinwrap|nv_|cuda_)' || true)
[ -z "$wrong" ] || { echo "globals without our prefix:"; echo "$wrong"; exit 1; }
echo "$(echo "$names" | wc -l) symbols"
