#!/bin/sh
# Builds every tests/fuzz/fuzz_<name>.c with clang's fuzzer and sanitizers and runs each for some seconds, starting from
# small valid models and tests/fuzz/corpus/<name>/ if that is there. usage: fuzz_smoke.sh SECONDS [NAME]
set -eu
cd "$(dirname "$0")/../.."
limit=$1
only=${2:-*}
sanitize=address,undefined
sh examples/build.sh fuzz
mkdir -p build-fuzz/seeds
cc -Iinclude -Itests/support tests/fuzz/seeds.c tests/support/tiny_model.c tests/support/gguf_build.c -o build-fuzz/make_seeds
build-fuzz/make_seeds build-fuzz/seeds
findings=0
for source in tests/fuzz/fuzz_$only.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    clang -g -O1 -fsanitize=fuzzer,$sanitize -fno-sanitize-recover=all -Iinclude -Ilib -Ilib/iface -Icpu -Itests/support \
        "$source" build-fuzz/libllmoffload.a -o "build-fuzz/fuzz_$name" -lpcre2-8 -lpthread -lm
    work=build-fuzz/corpus-$name
    mkdir -p "$work"
    seeds=build-fuzz/seeds
    [ ! -d "tests/fuzz/corpus/$name" ] || seeds="$seeds tests/fuzz/corpus/$name"
    echo "-- $name, $limit seconds"
    # shellcheck disable=SC2086 # words are wanted
    if build-fuzz/fuzz_"$name" -max_total_time="$limit" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/$name-" "$work" $seeds >"build-fuzz/$name.log" 2>&1; then
        grep -E 'number_of_executed_units|peak_rss' "build-fuzz/$name.log" || true
    else
        tail -n 60 "build-fuzz/$name.log"
        echo "$name: a finding, kept as build-fuzz/$name-*"
        findings=$((findings + 1))
    fi
done
[ $findings -eq 0 ]
