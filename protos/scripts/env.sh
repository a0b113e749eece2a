# Sourced by the other scripts: where the project, its tools and its Python are.
# PYTHON may name an interpreter that has the tools; else our own is taken where there is one, else the
# workspace's.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
THIRD_PARTY=$TOOLS/third_party
# shellcheck source=versions.env
source "$ROOT/scripts/versions.env"

GIVEN_PYTHON=${PYTHON:-}
if [[ -n $GIVEN_PYTHON ]]; then
    PYTHON=$(command -v "$GIVEN_PYTHON") || { echo "PYTHON=$GIVEN_PYTHON is not there" >&2; exit 1; }
else
    PYTHON=$TOOLS/venv/bin/python
    [[ -x $PYTHON ]] || PYTHON=$ROOT/../.venv/bin/python
fi
PATH=$TOOLS/bin:$(dirname "$PYTHON"):$PATH
export PATH

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

protoc() {
    "$PYTHON" -m grpc_tools.protoc -I "$ROOT" -I "$THIRD_PARTY" "$@"
}

# new_work_folder OUTPUT: sets output, the folder that publish will fill, and work, a folder beside it
# on the same disk.
new_work_folder() {
    mkdir -p "$1"
    output=$(cd "$1" && pwd)
    work=$(mktemp -d "$output/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
}

# wait_for PID...: waits for all of them, since they write into one folder, and fails when one of them has.
wait_for() {
    local job failed=0
    for job in "$@"; do wait "$job" || failed=1; done
    return $failed
}

# The descriptor set is protoc's in both ways: buf keeps other comments and another order of options.
describe() {
    protoc --descriptor_set_out="$1" --include_imports --include_source_info "${@:2}"
}

# finish_python DIR: no stubs for what has no services, and the package markers. None in pyairtable/ and
# buf/: both are namespaces, so that PyPI's own pyairtable package, and whoever ships buf.*, can be
# installed beside us.
finish_python() {
    local package stub
    for stub in $(find "$1" -name '*_pb2_grpc.pyi'); do
        [[ -e ${stub%i} ]] || rm "$stub"
    done
    for package in "$1"/pyairtable/*/ "$1"/pyairtable/*/*/; do
        touch "$package/__init__.py" "$package/py.typed"
    done
    touch "$1/buf/validate/py.typed"
}

# publish FROM TO: puts a finished tree in the place of the old one; packages that are gone, go.
publish() {
    local part
    for part in python/pyairtable python/buf go/pyairtable openapi; do
        mkdir -p "$2/$part"
        rm -rf "${2:?}/$part.old"
        mv "$2/$part" "$2/$part.old"
        mv "$1/$part" "$2/$part"
        rm -rf "${2:?}/$part.old"
    done
    mv "$1/descriptors.binpb" "$2/descriptors.binpb"
}
