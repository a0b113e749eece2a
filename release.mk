# A release. On main: `make release-prepare VERSION=1.2.3`, review, commit, and push the tag that it names, which makes
# .github/workflows/release.yml run `make release` and `make release-publish`. `make release DRY_RUN=1` tries the first
# at any time; nothing but release-publish sends anything anywhere.
RELEASE := dist/release
RELEASE_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGES := services operator
PLATFORMS := linux/amd64,linux/arm64
REGISTRY_HOST := ghcr.io
REGISTRY := $(REGISTRY_HOST)/pyairtable

.PHONY: release-prepare
release-prepare: install ## Put VERSION everywhere, close the changelog, move the protos' baseline and the charts' golden files
	@test -n "$(VERSION)" || { echo "give it a version: make release-prepare VERSION=1.2.3"; exit 2; }
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos lint breaking check
	@$(BIN)/python -m release move $(VERSION)
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos baseline
	@$(UV) lock --quiet
	@$(BIN)/pytest -q tests/golden/charts --update >/dev/null
	@echo "Review, and commit as: Release $(VERSION). Then:"
	@echo "  git tag v$(VERSION) && git push origin main v$(VERSION)"

.PHONY: release
release: release-check release-python release-protos release-charts release-images release-sbom release-notes ## Build everything that a release has into dist/release; DRY_RUN=1 before its version is tagged
	@$(BIN)/python -m release checksums $(RELEASE)
	@echo "$(RELEASE) has the release $(RELEASE_VERSION)"

.PHONY: release-check
release-check: install ## Fail when versions differ, or the tag (TAG=v1.2.3) is another's
	@$(BIN)/python -m release check
	@test -z "$(TAG)" || test "$(TAG)" = "v$(RELEASE_VERSION)" || { echo "the tag is $(TAG), the version $(RELEASE_VERSION)"; exit 1; }
	@rm -rf $(RELEASE) && mkdir -p $(RELEASE)

.PHONY: release-python
release-python: install ## Wheels and source distributions
	@for package in pyairtable-protos pyairtable-mesh pyairtable-operator; do \
	  $(UV) build --quiet --package $$package --out-dir $(RELEASE)/python; \
	done
	@rm -f $(RELEASE)/python/.gitignore

.PHONY: release-protos
release-protos: install ## The Go module, the descriptor set and the OpenAPI document
	@PYTHON=$(CURDIR)/$(BIN)/python $(MAKE) -C protos check
	@$(BIN)/python -m release go-module $(RELEASE)/go
	@cp protos/generated/descriptors.binpb $(RELEASE)/pyairtable-$(RELEASE_VERSION).binpb
	@cp protos/generated/openapi/pyairtable.json $(RELEASE)/pyairtable-$(RELEASE_VERSION).openapi.json

.PHONY: release-charts
release-charts: install ## The charts, packaged
	@helm=$$($(BIN)/python -c 'from tests import helm; print(helm.program())'); \
	for chart in pyairtable pyairtable-operator pyairtable-crds; do \
	  $$helm package charts/$$chart --destination $(RELEASE)/charts >/dev/null 2>&1; \
	done

# No $(MAKE) in what sends or builds: `make --dry-run` would run such a line.
build-images = for image in $(IMAGES); do \
	  docker buildx build --target $$image --platform $(PLATFORMS) --output type=$(1) \
	    --build-arg VERSION=$(RELEASE_VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	    --tag $(REGISTRY)/$$image:$(RELEASE_VERSION) $${BASE_IMAGE:+--build-arg BASE_IMAGE=$$BASE_IMAGE} \
	    --secret id=pip,src=$${PIP_CONF:-/dev/null} .; \
	done

.PHONY: release-images
release-images: ## Names of the images; built for both architectures too, where docker is and DRY_RUN is not set
	@for image in $(IMAGES); do echo "$(REGISTRY)/$$image:$(RELEASE_VERSION) $(PLATFORMS)"; done >$(RELEASE)/images.txt
	@if [[ -n "$(DRY_RUN)" ]] || ! command -v docker >/dev/null; then \
	  sed 's/^/not built: /' $(RELEASE)/images.txt; \
	else $(call build-images,cacheonly); fi

.PHONY: release-sbom
release-sbom: sbom ## What the images contain, as CycloneDX
	@mkdir -p $(RELEASE)/sbom && cp dist/*.cdx.json $(RELEASE)/sbom/

.PHONY: release-notes
release-notes: install ## The changelog's section of this version
	@$(BIN)/python -m release notes $(if $(DRY_RUN),--dry-run) >$(RELEASE)/notes.md

.PHONY: release-login
release-login: ## Log in where release-publish sends things, with REGISTRY_USER, REGISTRY_TOKEN and PROTOS_TOKEN
	@echo "$$REGISTRY_TOKEN" | docker login $(REGISTRY_HOST) --username "$$REGISTRY_USER" --password-stdin
	@echo "$$REGISTRY_TOKEN" | helm registry login $(REGISTRY_HOST) --username "$$REGISTRY_USER" --password-stdin
	@git config --global url."https://x-access-token:$$PROTOS_TOKEN@github.com/pyairtable/pyairtable-protos".insteadOf $(PROTOS_REPOSITORY)

.PHONY: release-publish
ifdef DRY_RUN
release-publish: ## Send dist/release away: images, charts, PyPI, Go, GitHub release; CI calls it on a tag
	@echo "would publish:"; cut -d' ' -f3 $(RELEASE)/SHA256SUMS; cut -d' ' -f1 $(RELEASE)/images.txt
else
release-publish: publish-images publish-charts publish-python publish-go publish-github
endif

# The builder's cache has the images already.
.PHONY: publish-images publish-charts publish-python publish-go publish-github
publish-images:
	@$(call build-images,registry)

publish-charts:
	@for chart in $(RELEASE)/charts/*.tgz; do helm push $$chart oci://$(REGISTRY)/charts; done

publish-python:
	@$(UV) publish $(RELEASE)/python/*

# The Go module's path is that of a repository of its own, which has what is in protos/ here: Go finds it by its tag there.
PROTOS_REPOSITORY := https://github.com/pyairtable/pyairtable-protos
publish-go:
	@commit=$$(git subtree split --quiet --prefix protos); \
	git push $(PROTOS_REPOSITORY) $$commit:refs/heads/main $$commit:refs/tags/v$(RELEASE_VERSION) \
	  $$commit:refs/tags/generated/go/v$(RELEASE_VERSION)

publish-github:
	@gh release create v$(RELEASE_VERSION) --verify-tag --title $(RELEASE_VERSION) --notes-file $(RELEASE)/notes.md \
	  $$(find $(RELEASE) -type f ! -name notes.md ! -name list ! -name '*.info' ! -name '*.mod')
