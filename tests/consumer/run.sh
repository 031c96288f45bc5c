#!/bin/sh
# Builds consumer.c against an installed tree that was moved after the installation, by pkg-config and by find_package
# (shared and static), and against the source tree by add_subdirectory; runs each and checks the version printed.
# usage: run.sh SOURCE BUILD VERSION (installed|source)
set -eu
source=$1 build=$2 version=$3 way=$4
here=$source/tests/consumer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() { # NAME PROGRAM
    out=$("$2") || { echo "$1: the program failed"; exit 1; }
    [ "$out" = "llmoffload $version" ] || { echo "$1: printed '$out', expected 'llmoffload $version'"; exit 1; }
    echo "$1: $out"
}

case $way in
installed)
    cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    mv "$work/first" "$work/moved"
    if grep -rlF -e "$work" -e "$source" -e "$build" "$work/moved" --include='*.cmake' --include='*.pc'; then
        echo "the files above hold an absolute path"
        exit 1
    fi
    libdir=$(dirname "$(find "$work/moved" -name 'libllmoffload.so')")

    PKG_CONFIG_PATH=$libdir/pkgconfig
    export PKG_CONFIG_PATH
    [ "$(pkg-config --modversion llmoffload)" = "$version" ] || { echo "pkg-config gives another version"; exit 1; }
    # shellcheck disable=SC2046 # words are wanted
    cc "$here/consumer.c" -o "$work/by_pkgconfig" $(pkg-config --cflags --libs llmoffload) -Wl,-rpath,"$libdir"
    check pkg-config "$work/by_pkgconfig"
    # every object of the archive is linked, so that a missing private library shows
    # shellcheck disable=SC2046
    cc "$here/consumer.c" -o "$work/by_pkgconfig_static" $(pkg-config --cflags llmoffload) \
        -Wl,--whole-archive "$libdir/libllmoffload.a" -Wl,--no-whole-archive \
        $(pkg-config --static --libs llmoffload | sed 's/-lllmoffload//')
    check "pkg-config --static" "$work/by_pkgconfig_static"

    cmake -S "$here" -B "$work/b" -G Ninja -DCMAKE_PREFIX_PATH="$work/moved" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    ;;
source)
    cmake -S "$here" -B "$work/b" -G Ninja -DLLMO_SOURCE="$source" -DLLMO_CUDA=OFF -DCMAKE_BUILD_TYPE=Debug \
        >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    ;;
*)
    echo "unknown way: $way"
    exit 1
    ;;
esac
cmake --build "$work/b" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
check "$way, shared" "$work/b/consumer"
check "$way, static" "$work/b/consumer_static"
if ldd "$work/b/consumer_static" | grep -q llmoffload; then
    echo "the static program needs the shared library"
    exit 1
fi
