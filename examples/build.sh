#!/bin/sh
# Configures and builds one of the presets of CMakePresets.json, quietly: the whole output is shown on failure only.
# usage: build.sh PRESET [CMAKE_OPTION...]
set -eu
cd "$(dirname "$0")/.."
preset=$1
shift
jobs=${LLMO_BUILD_JOBS:-$(nproc 2>/dev/null || echo 2)}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
sed -n 's/^-- \(CUDA backend.*\)/\1/p' "$log"
cmake --build --preset "$preset" --parallel "$jobs" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo "Built the $preset preset, $jobs jobs."
