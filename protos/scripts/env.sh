# Sourced by the other scripts: where the project, its tools and its Python are.
# PYTHON may name an interpreter that has the tools; else the workspace's, else our own, is taken.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
THIRD_PARTY=$TOOLS/third_party
# shellcheck source=versions.env
source "$ROOT/scripts/versions.env"

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$ROOT/../.venv/bin/python
    [[ -x $PYTHON ]] || PYTHON=$TOOLS/venv/bin/python
fi
PATH=$TOOLS/bin:$(dirname "$PYTHON"):$PATH
export PATH

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# finish_python DIR: the package markers. None in pyairtable/ and buf/: both are namespaces, so that
# PyPI's own pyairtable package, and whoever ships buf.*, can be installed beside us.
finish_python() {
    local package
    for package in "$1"/pyairtable/*/ "$1"/pyairtable/*/*/; do
        touch "$package/__init__.py" "$package/py.typed"
    done
    touch "$1/buf/validate/py.typed"
}

# publish FROM TO: puts a finished tree in the place of the old one; packages that are gone, go.
publish() {
    local part
    for part in python/pyairtable python/buf go/pyairtable; do
        mkdir -p "$2/$part"
        rm -rf "${2:?}/$part.old"
        mv "$2/$part" "$2/$part.old"
        mv "$1/$part" "$2/$part"
        rm -rf "${2:?}/$part.old"
    done
    mv "$1/descriptors.binpb" "$2/descriptors.binpb"
}
