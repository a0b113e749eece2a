#!/usr/bin/env bash
# Generates Go, Python, OpenAPI and the descriptor set with buf: the main way.
# Usage: generate.sh [OUTPUT], by default generated/.
"$(dirname "$0")/install-tools.sh" || exit
source "$(dirname "$0")/env.sh"

new_work_folder "${1:-$ROOT/generated}"
cd "$ROOT"
mapfile -t files < <(find pyairtable -name '*.proto' | LC_ALL=C sort)

jobs=()
buf generate --output "$work" & jobs+=($!)
buf generate --template buf.gen.validate.yaml --output "$work" & jobs+=($!)
describe "$work/descriptors.binpb" "${files[@]}" & jobs+=($!)
wait_for "${jobs[@]}"

finish_python "$work/python"
publish "$work" "$output"
