#!/bin/sh
# The shared library exports exactly the calls of the header, which are those of symbols.expected, and is called
# libllmoffload.so.<ABI major>. usage: symbols.sh LIBRARY ABI_FOLDER HEADER PYTHON
set -eu
library=$1 abi=$2 header=$3 python=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$work/exported"
LC_ALL=C sort -u "$abi/symbols.expected" >"$work/expected"
LC_ALL=C sort -u "$work/exported" -o "$work/exported"
diff -u "$work/expected" "$work/exported" || {
    echo "exported symbols differ from $abi/symbols.expected (a new call is added there; none may go within an ABI major)"
    exit 1
}
"$python" "$abi/header.py" "$header" functions | LC_ALL=C sort >"$work/declared"
diff -u "$work/declared" "$work/exported" || { echo "exported symbols differ from the header"; exit 1; }

major=$(sed -n 's/^#define LLMO_ABI_MAJOR *\([0-9]*\).*/\1/p' "$header")
readelf -dW "$library" | grep -qF "Library soname: [libllmoffload.so.$major]" || { echo "wrong soname"; exit 1; }
# What a host may have to ship with it: the C library alone.
needed=$(readelf -dW "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc|libm|libpthread|libdl|librt|libpcre2-8|ld-linux.*)\.so' || true)
[ -z "$needed" ] || { echo "the library needs $needed"; exit 1; }
echo "$(wc -l <"$work/exported") symbols"
