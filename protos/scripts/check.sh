#!/usr/bin/env bash
# Fails when generated/ is not what generate.sh makes of the protos. The line that names the compiler
# is left out of the comparison: it says whether buf or protoc was used.
source "$(dirname "$0")/env.sh"

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$ROOT/scripts/generate.sh" "$fresh"
for part in python/pyairtable python/buf go/pyairtable openapi descriptors.binpb; do
    diff -r --brief --exclude=__pycache__ --ignore-matching-lines='^// \(	\|- \)protoc  ' \
        "$ROOT/generated/$part" "$fresh/$part" || fail "generated code is stale: run make generate"
done
