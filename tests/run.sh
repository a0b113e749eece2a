#!/usr/bin/env bash
# All checks and tests, in the order in which they are quickest to fail. Called by `make test`.
# E2E=required: without docker and kind the run fails. E2E_TOOLS: a command that brings them, run before they are needed.
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
not_run=()

step() {
    local name=$1 since=$SECONDS
    shift
    printf '\n== %s (at %d s)\n' "$name" $((since - begun))
    "$@"
    printf '== %s: done in %d s\n' "$name" $((SECONDS - since))
}

can_have_a_cluster() {
    for program in docker kind kubectl; do
        command -v "$program" >/dev/null || return 1
    done
    docker version >/dev/null 2>&1
}

step "lint, types, import contracts" make lint
step "protos" make protos
step "unit tests" make unit
step "contract, golden and mesh tests" .venv/bin/pytest -q tests/contract tests/golden tests/mesh
if [[ -n ${E2E_TOOLS:-} ]]; then
    step "docker, kind and what belongs to them" $E2E_TOOLS
fi
if [[ ${E2E:-} == required ]] || can_have_a_cluster; then
    step "images, and the release on a cluster" make e2e
else
    not_run+=("tests/e2e: docker, kind and kubectl are not all here, so no image was built and no cluster made")
fi
printf '\nall of it in %d s\n' $((SECONDS - begun))
for each in "${not_run[@]}"; do
    printf 'NOT RUN %s\n' "$each"
done
