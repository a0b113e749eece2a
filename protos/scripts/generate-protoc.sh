#!/usr/bin/env bash
# Generates Go, Python, OpenAPI and the descriptor set with protoc alone (the one in grpcio-tools).
# Usage: generate-protoc.sh [OUTPUT], by default generated/.
"$(dirname "$0")/install-tools.sh" || exit
source "$(dirname "$0")/env.sh"

new_work_folder "${1:-$ROOT/generated}"
mkdir "$work/python" "$work/go" "$work/openapi"
cd "$ROOT"
mapfile -t files < <(find pyairtable -name '*.proto' | LC_ALL=C sort)
mapfile -t services < <(grep -l '^service ' "${files[@]}")

# Each run of protoc reads all files anew: as few runs as there is balance in.
jobs=()
protoc --python_out="$work/python" --mypy_out=quiet:"$work/python" "${files[@]}" buf/validate/validate.proto & jobs+=($!)
protoc --grpc_python_out="$work/python" --mypy_grpc_out=quiet,only_async,generate_concrete_servicer_stubs:"$work/python" "${services[@]}" & jobs+=($!)
describe "$work/descriptors.binpb" "${files[@]}" \
    --go_out="$work/go" --go_opt=paths=source_relative \
    --go-grpc_out="$work/go" --go-grpc_opt=paths=source_relative \
    --plugin=protoc-gen-openapi=scripts/protoc_gen_openapi.py --openapi_out="$work/openapi" & jobs+=($!)
wait_for "${jobs[@]}"

finish_python "$work/python"
publish "$work" "$output"
