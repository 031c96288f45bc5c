#!/bin/sh
# Neither library imports a function that ends the process, prints, jumps or installs a signal handler.
# usage: undefined.sh SHARED STATIC CUDA(0|1)
set -eu
banned='abort|exit|_exit|_Exit|quick_exit|__assert_fail|__assert|longjmp|_longjmp|siglongjmp|__longjmp_chk|signal|sigaction|raise|kill|printf|vprintf|__printf_chk|__vprintf_chk|puts|putchar|perror|fprintf|__fprintf_chk|vfprintf|fputs|fwrite|system|setlocale|setenv|putenv'
# The static CUDA runtime, which is part of the shared library in a build with CUDA, imports these. It is not our code:
# fwrite writes its debug files, kill serves its process checks, setenv its own settings.
allowed_cuda='fwrite|kill|setenv'
status=0
imports() {
    nm -u "$@" 2>/dev/null | awk 'NF == 2 { sub(/@.*/, "", $2); print $2 }' | sort -u
}
shared=$(imports -D "$1")
[ -n "$shared" ] || { echo "no imports found in $1"; exit 1; }
bad=$(echo "$shared" | grep -xE "$banned" || true)
[ "$3" = 0 ] || bad=$(echo "$bad" | grep -vxE "$allowed_cuda" || true)
[ -z "$bad" ] || { echo "$1 imports: $(echo "$bad" | tr "\n" " ")"; status=1; }
# the archive holds our code alone, so there is no exception
bad=$(imports "$2" | grep -xE "$banned" || true)
[ -z "$bad" ] || { echo "$2 imports: $(echo "$bad" | tr "\n" " ")"; status=1; }
[ $status -ne 0 ] || echo "$(echo "$shared" | wc -l) imports, none banned"
exit $status
