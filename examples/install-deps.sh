#!/bin/sh
# Installs what the build and the tests need on Debian 12 or newer (and its relatives), with apt-get, as root or by sudo.
# Does nothing where everything is there. usage: install-deps.sh [ci]: `ci` adds what .ci/run needs.
set -eu

missing=
need() { # PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has() { command -v "$1"; }
cmake_new() { cmake --version | awk 'NR == 1 { split($3, v, ".") } END { exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 25)) }'; }
compiles() { # HEADER...: a C program can include them
    for h in "$@"; do printf '#include <%s>\n' "$h"; done | cc -E - -o /dev/null
}
build_tools() { has cc && has g++ && has make; }

need build-essential build_tools
need cmake cmake_new
need ninja-build has ninja
need pkg-config has pkg-config
need libcmocka-dev compiles stdarg.h stddef.h stdint.h setjmp.h cmocka.h
need libpcre2-dev pkg-config --exists libpcre2-8
need libcjson-dev compiles cjson/cJSON.h
need libedit-dev pkg-config --exists libedit
need python3 has python3
if [ "${1:-}" = ci ]; then
    need clang has clang
    need clang-format has clang-format
    need clang-tidy has clang-tidy
    need abigail-tools has abidw
    need "$(clang --version 2>/dev/null | sed -n 's/.*clang version \([0-9]*\).*/libclang-rt-\1-dev/p' | grep . || echo libclang-rt-14-dev)" \
        sh -c 'echo "int LLVMFuzzerTestOneInput(const char *p, long n) { return !p && n; }" | clang -x c -fsanitize=fuzzer,address - -o /dev/null'
fi

[ -n "$missing" ] || { echo "Everything needed is installed."; exit 0; }
echo "Missing:$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "There is no apt-get here; install these packages, or what your system calls them, and start again." >&2
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "Run this as root, or install sudo, or install the packages above." >&2; exit 1; }
    sudo=sudo
fi
echo "Installing them with apt-get ..."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # words are wanted
{
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >"$log" 2>&1 &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing </dev/null >>"$log" 2>&1
} || { tail -n 30 "$log"; echo "apt-get failed." >&2; exit 1; }
echo "Installed."
