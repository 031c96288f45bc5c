#!/bin/sh
# Installs what is needed, builds the library and the llmo tool, and lets a small model tell a story.
#   LLMO_DEMO_MODEL   a GGUF file to use instead
#   LLMO_BUILD_JOBS   parallel compilers, default: all processors
set -eu
cd "$(dirname "$0")/.."

model=${LLMO_DEMO_MODEL:-}
if [ -z "$model" ]; then
    for file in examples/models/tavern.gguf ../shared/data/models/stories260K.gguf; do
        if [ -z "$model" ] && [ -f "$file" ]; then model=$file; fi
    done
fi
if [ -z "$model" ]; then
    echo "No model here. Set LLMO_DEMO_MODEL to a GGUF file of a language model, e.g. one of a few hundred MB:" >&2
    echo "    LLMO_DEMO_MODEL=/path/to/model.gguf sh examples/demo.sh" >&2
    exit 1
fi
[ -f "$model" ] || { echo "LLMO_DEMO_MODEL: there is no file $model" >&2; exit 1; }

echo "== Installing what is needed"
sh examples/install-deps.sh
echo "== Building"
sh examples/build.sh release

case $model in
*tavern*) prompt="The old innkeeper looks up and says:" ;;
*) prompt="Once upon a time" ;;
esac
echo "== Running: build/llmo run -m $model -p \"$prompt\" -n 120 --temp 0"
exec build/llmo run -m "$model" -p "$prompt" -n 120 --temp 0
