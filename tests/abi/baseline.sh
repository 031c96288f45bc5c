#!/bin/sh
# Writes tests/abi/llmoffload-<ABI major>.abi, the description of the public interface that later builds are compared
# with. To be run when a release is made, and after a compatible addition.
set -eu
cd "$(dirname "$0")/../.."
major=$(sed -n 's/^#define LLMO_ABI_MAJOR *\([0-9]*\).*/\1/p' include/llmoffload.h)
cmake --preset debug -DLLMO_CUDA=OFF >/dev/null
cmake --build --preset debug --target llmoffload >/dev/null
abidw --exported-interfaces-only --headers-dir include --drop-private-types --type-id-style hash --no-show-locs \
    --no-comp-dir-path --no-corpus-path build-debug/libllmoffload.so | sed "s#$(pwd)/##" >"tests/abi/llmoffload-$major.abi"
wc -c "tests/abi/llmoffload-$major.abi"
