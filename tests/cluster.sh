#!/usr/bin/env bash
# A cluster for e2e tests. `up`: that of KUBECONFIG where one answers, else a kind cluster of our own, of two nodes.
# `down`: deletes ours, and no other. `load IMAGE...`: brings images to the nodes of a kind cluster, whoever made it.
# Called by `make cluster`, `make cluster-down` and `make load`.
set -euo pipefail
cd "$(dirname "$0")/.."
NAME=pyairtable

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is not on PATH: a cluster for tests needs docker, kind and kubectl"
    done
}

answers() {
    kubectl get --raw=/readyz --request-timeout=10s >/dev/null 2>&1
}

ours() {
    kind get clusters --quiet 2>/dev/null | grep -qx "$NAME"
}

up() {
    local context
    need kubectl
    if [[ -n ${KUBECONFIG:-} ]] && answers; then
        echo "using the cluster of KUBECONFIG=$KUBECONFIG, context $(kubectl config current-context)"
        return
    fi
    context=$(kubectl config current-context 2>/dev/null || true)
    if [[ -n ${KUBECONFIG:-} && -n $context && $context != "kind-$NAME" ]]; then
        fail "the cluster of KUBECONFIG=$KUBECONFIG does not answer: start it, or unset KUBECONFIG to have a kind cluster made"
    fi
    need docker kind
    docker version >/dev/null 2>&1 || fail "docker does not answer: start it (a kind cluster is made of containers)"
    if ours; then
        if kind export kubeconfig --name "$NAME" --quiet 2>/dev/null && answers; then
            echo "using the kind cluster $NAME, which runs already"
            return
        fi
        echo "the kind cluster $NAME does not answer: making it anew"
        kind delete cluster --name "$NAME" --quiet
    fi
    echo "making the kind cluster $NAME${KIND_NODE_IMAGE:+ of $KIND_NODE_IMAGE}"
    kind create cluster --name "$NAME" --config tests/e2e/kind.yaml ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"} --quiet
    kubectl wait --for=condition=Ready node --all --timeout=180s >/dev/null
}

down() {
    need docker kind
    if ours; then
        kind delete cluster --name "$NAME"
    else
        echo "there is no kind cluster $NAME"
    fi
}

load() {
    need docker kind kubectl
    local context
    context=$(kubectl config current-context)
    [[ $context == kind-* ]] || fail "the context $context is no kind cluster: push the images to a registry that its nodes" \
        "pull from, and install with image.repository and operator.image.repository"
    kind load docker-image "$@" --name "${context#kind-}"
}

case ${1:-} in
    up | down | load) "$@" ;;
    *) fail "usage: $0 up | down | load IMAGE..." ;;
esac
