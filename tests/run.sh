#!/usr/bin/env bash
# All checks and tests, in the order in which they are quickest to fail. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    printf '\n== %s\n' "$1"
    shift
    "$@"
}

begun=$SECONDS
step "lint, types, import contracts" make lint
step "protos" make protos
step "unit tests" .venv/bin/pytest -q tests/unit -m "not postgresql"
step "the same stores on PostgreSQL" .venv/bin/pytest -q tests/unit -m postgresql
step "contract, golden and mesh tests" .venv/bin/pytest -q tests/contract tests/golden tests/mesh
printf '\nall of it in %d s\n' $((SECONDS - begun))
