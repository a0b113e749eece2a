# What people, CI and skaffold call. Every target stands for one thing, and installs what it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
SKAFFOLD_VERSION := v2.16.1
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready
# Where bytecode is not written later (PYTHONDONTWRITEBYTECODE), each process would compile 800 modules for a second.
export UV_COMPILE_BYTECODE := 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(UV):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install python3, or set PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: set PYTHON=/path/to/python3.11 or newer"; exit 1; }
	@$(PYTHON) -m venv .tools || { echo "Python's venv module is missing: install python3-venv"; exit 1; }
	@.tools/bin/pip install --quiet uv==$(UV_VERSION)

# xds-protos ships older copies of files that belong to two other packages; theirs must be the ones that stay.
$(READY): pyproject.toml uv.lock protos/pyproject.toml services/pyproject.toml operators/pyproject.toml laptop/pyproject.toml | $(UV)
	@$(UV) sync --frozen --quiet --python $$(command -v $(PYTHON))
	@$(UV) pip install --quiet --no-deps --reinstall $$($(BIN)/python -c 'from importlib.metadata import version as v; print(*[f"{name}=={v(name)}" for name in ("googleapis-common-protos", "opentelemetry-proto")])')
	@touch $@

.PHONY: install
install: $(READY) ## Put everything that the project needs into .venv

.PHONY: run
run: install ## Start the whole platform on this machine; Ctrl-C ends it, the data stays in .pyairtable
	@exec $(BIN)/python -m pyairtable_laptop run $(ARGS)

.PHONY: test
test: install ## Everything: lint, types, import contracts, protos, and all tests
	@tests/run.sh

.PHONY: unit
unit: install ## The unit tests alone, in less than ten seconds
	@$(BIN)/pytest -q tests/unit

.PHONY: lint
lint: install ## Style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: install ## Bring the code into form
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

.PHONY: generate
generate: install ## Generate Go, Python and OpenAPI from the protos
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos generate-protoc

.PHONY: protos
protos: protos-lint protos-breaking protos-check protos-go ## Lint the protos, and check that generated code and baseline fit them

.PHONY: protos-lint
protos-lint: install ## Style of the protos: buf, the AIPs, format
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos lint

.PHONY: protos-breaking
protos-breaking: install ## Nothing that a client of the last release uses may go or change
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos breaking

.PHONY: protos-check
protos-check: install ## Generated code is what the protos make
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos check

.PHONY: protos-go
protos-go: install ## The generated Go builds and vets
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos test-go

.PHONY: new-service
new-service: install ## Make a service of your own: make new-service NAME=greeter
	@test -n "$(NAME)" || { echo "give it a name: make new-service NAME=greeter"; exit 2; }
	@$(BIN)/python -m pyairtable_laptop new-service $(NAME)

.PHONY: bench
bench: install ## Measure what the README states; takes a few minutes
	@$(BIN)/python -m bench

.PHONY: wheels
wheels: $(UV) ## Build the distributions into dist/
	@$(UV) build --quiet --all-packages --wheel --out-dir dist

.PHONY: images
images: ## Build the images of the services and the operator with docker; BASE_IMAGE and PIP_CONF are passed on
	@for target in services operator; do \
	  DOCKER_BUILDKIT=1 docker build --target $$target --tag ghcr.io/pyairtable/$$target:0.1.0 \
	    $${BASE_IMAGE:+--build-arg BASE_IMAGE=$$BASE_IMAGE} --secret id=pip,src=$${PIP_CONF:-/dev/null} .; \
	done

.PHONY: charts
charts: install ## Lint the charts, validate what they render, and compare it with the golden files
	@$(BIN)/pytest -q tests/golden/charts tests/contract/test_charts.py

.PHONY: load
load: images ## Build the images, and bring them to the nodes of the kind cluster
	@tests/cluster.sh load ghcr.io/pyairtable/services:0.1.0 ghcr.io/pyairtable/operator:0.1.0

.PHONY: cluster
cluster: ## A cluster for e2e: that of KUBECONFIG where one answers, else a kind cluster is made (KIND_NODE_IMAGE)
	@tests/cluster.sh up

.PHONY: e2e
e2e: install cluster ## Build the images, and test the release on the cluster
	@$(BIN)/pytest -q tests/e2e

.PHONY: skaffold
skaffold: ## Put the skaffold that the cluster tests run into .tools/bin, where none is on PATH
	@command -v skaffold >/dev/null || { mkdir -p .tools/bin && curl -fsSLo .tools/bin/skaffold \
	  https://storage.googleapis.com/skaffold/releases/$(SKAFFOLD_VERSION)/skaffold-$$(uname -s | tr A-Z a-z)-$$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/') \
	  && chmod +x .tools/bin/skaffold; }

.PHONY: cluster-down
cluster-down: ## Delete the kind cluster that `make cluster` made
	@tests/cluster.sh down

.PHONY: sbom
sbom: $(UV) ## Write what the images contain to dist/*.cdx.json (CycloneDX)
	@mkdir -p dist
	@$(UV) export --quiet --frozen --no-dev --format cyclonedx1.5 --package pyairtable-mesh \
	  --extra postgresql --extra telemetry-official --output-file dist/services.cdx.json >/dev/null
	@$(UV) export --quiet --frozen --no-dev --format cyclonedx1.5 --package pyairtable-operator \
	  --all-extras --output-file dist/operator.cdx.json >/dev/null

include release.mk

.PHONY: clean
clean: ## Remove what was built or installed here; .pyairtable, the data, stays
	@rm -rf .venv .tools dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@$(MAKE) -C protos clean
