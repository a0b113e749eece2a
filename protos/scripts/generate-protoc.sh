#!/usr/bin/env bash
# Generates Go, Python and the descriptor set with protoc alone (the one in grpcio-tools).
# Usage: generate-protoc.sh [OUTPUT], by default generated/.
source "$(dirname "$0")/env.sh"
"$ROOT/scripts/install-tools.sh"

output=$(realpath -m "${1:-$ROOT/generated}")
mkdir -p "$output"
work=$(mktemp -d "$output/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/python" "$work/go"
cd "$ROOT"

protoc() {
    "$PYTHON" -m grpc_tools.protoc -I . -I "$THIRD_PARTY" "$@"
}

mapfile -t files < <(find pyairtable -name '*.proto' | LC_ALL=C sort)
mapfile -t services < <(grep -l '^service ' "${files[@]}")

jobs=()
protoc --python_out="$work/python" --mypy_out=quiet:"$work/python" "${files[@]}" buf/validate/validate.proto & jobs+=($!)
protoc --grpc_python_out="$work/python" --mypy_grpc_out=quiet,only_async:"$work/python" "${services[@]}" & jobs+=($!)
protoc --go_out="$work/go" --go_opt=paths=source_relative \
    --go-grpc_out="$work/go" --go-grpc_opt=paths=source_relative "${files[@]}" & jobs+=($!)
protoc --descriptor_set_out="$work/descriptors.binpb" --include_imports --include_source_info "${files[@]}" & jobs+=($!)
for job in "${jobs[@]}"; do wait "$job"; done

finish_python "$work/python"
publish "$work" "$output"
