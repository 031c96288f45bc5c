#!/bin/sh
# Installs what is needed, builds, and runs all tests. Everything after `--` goes to ctest, e.g. -- -R tokenizer.
#   LLMO_BUILD_JOBS   parallel compilers and tests, default: all processors
#   LLMO_PRESET       preset to build and test, default: release (asan, tsan, debug: see CMakePresets.json)
set -eu
cd "$(dirname "$0")/.."
[ "${1:-}" != -- ] || shift
preset=${LLMO_PRESET:-release}
jobs=${LLMO_BUILD_JOBS:-$(nproc 2>/dev/null || echo 2)}
build=build
[ "$preset" = release ] || build=build-$preset

rm -f "$build/ctest.xml"
sh examples/install-deps.sh
sh examples/build.sh "$preset"
status=0
ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error \
    --output-junit ctest.xml "$@" </dev/null || status=$?
[ -f "$build/ctest.xml" ] || { echo "0 passed, 1 failed"; exit 1; }
python3 tests/scripts/ctest_summary.py "$build/ctest.xml"
exit $status
