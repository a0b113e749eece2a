#!/usr/bin/env bash
# Puts everything that generation needs into .tools, from PyPI and the Go module proxy only.
# Needs Python >= 3.11 and Go. Runs in an instant when there is nothing to do.
source "$(dirname "$0")/env.sh"

python_tools_present() {
    [[ -x $PYTHON ]] && "$PYTHON" - <<EOF 2>/dev/null
from importlib.metadata import version
assert version("buf-bin") == "$BUF_VERSION"
assert version("grpcio-tools") == "$GRPC_TOOLS_VERSION"
assert version("mypy-protobuf") == "$MYPY_PROTOBUF_VERSION"
assert version("googleapis-common-protos") == "$GOOGLEAPIS_VERSION"
EOF
}

install_python_tools() {
    local requirements=(
        "buf-bin==$BUF_VERSION" "grpcio-tools==$GRPC_TOOLS_VERSION"
        "mypy-protobuf==$MYPY_PROTOBUF_VERSION" "googleapis-common-protos==$GOOGLEAPIS_VERSION"
    )
    PYTHON=$TOOLS/venv/bin/python
    if command -v uv >/dev/null; then
        uv venv --quiet --clear "$TOOLS/venv"
        uv pip install --quiet --python "$PYTHON" "${requirements[@]}"
    else
        python3 -m venv --clear "$TOOLS/venv" || fail "python3 has no venv module: install python3-venv or uv"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
    fi
}

install_go_tools() {
    command -v go >/dev/null || fail "go is not on PATH: install Go from https://go.dev/dl or your distribution"
    (cd "$ROOT/tools" && GOFLAGS=-mod=readonly go build -o "$TOOLS/bin/" tool)
}

# The protos that ours import, from the packages that carry them.
collect_third_party() {
    local site module folder
    site=$("$PYTHON" -c 'import google.api, pathlib; print(pathlib.Path(google.api.__path__[0]).parent)')
    module=$(go mod download -json "github.com/bufbuild/protovalidate@$PROTOVALIDATE_VERSION" |
        "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    rm -rf "$THIRD_PARTY"
    for folder in api rpc type; do
        mkdir -p "$THIRD_PARTY/google/$folder"
        cp "$site/$folder"/*.proto "$THIRD_PARTY/google/$folder/"
    done
    mkdir -p "$THIRD_PARTY/buf/validate"
    cp "$module/proto/protovalidate/buf/validate/validate.proto" "$THIRD_PARTY/buf/validate/"
    chmod -R u+w "$THIRD_PARTY"
}

pins() {
    cat "$ROOT/scripts/versions.env" "$ROOT/tools/go.mod"
}

stamp=$TOOLS/installed
if ! python_tools_present; then
    [[ -z $GIVEN_PYTHON ]] || fail "$GIVEN_PYTHON lacks the tools of scripts/versions.env: unset PYTHON or install them"
    install_python_tools
fi
if ! pins | cmp -s - "$stamp"; then
    mkdir -p "$TOOLS/bin"
    install_go_tools
    collect_third_party
    pins >"$stamp"
fi
