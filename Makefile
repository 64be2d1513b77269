# Everything a new machine needs beyond Python >= 3.11 with pip, make and git is installed here: into .venv, and (what
# the tests' control plane is built from) into the user's cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= auto
DEMO_DIR ?= .demo
SBOM ?= sbom.cdx.json
SBOM_ENV ?= $(VENV)/sbom
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/tests

.DEFAULT_GOAL := help
.PHONY: help deps lock sbom generate manifests tools node lint format test test-unit fuzz test-cluster bench demo demo-down clean

help: ## Show this help.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml
	@echo "installing the locked dependencies into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; name one: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<1'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

deps: $(STAMP) ## Install the locked dependencies into .venv.

lock: $(STAMP) ## Re-resolve requirements.lock, and its runtime part, from the ranges in pyproject.toml.
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --group dev --extra preview pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url -c requirements.lock pyproject.toml -o requirements-runtime.lock

sbom: $(STAMP) ## Write sbom.cdx.json: what the image brings of Python, by name, version and licence (CycloneDX).
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SBOM_ENV)
	$(BIN)/uv pip install --quiet --python $(SBOM_ENV)/bin/python --require-hashes -r requirements-runtime.lock
	@version=$$($(BIN)/python -c 'import aim_engine; print(aim_engine.__version__)') \
		&& sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > $(SBOM_ENV)/pyproject.toml
	$(BIN)/cyclonedx-py environment --pyproject $(SBOM_ENV)/pyproject.toml --mc-type application --short-PURLs \
		--output-reproducible --output-file $(SBOM) $(SBOM_ENV)/bin/python

generate: deps ## Write what is generated from the code: CRDs, alert rules, dashboards, parts of the chart, reference pages.
	$(BIN)/python -m aim_engine.api.crd crds
	$(BIN)/python -m aim_engine.telemetry.alerts deploy
	$(BIN)/python -m aim_engine.telemetry.dashboards dashboards deploy/helm/dashboards
	$(BIN)/python deploy/generate.py
	$(BIN)/python docs/generate.py

manifests: tools ## Write deploy/manifests from the chart.
	$(BIN)/python deploy/manifests/generate.py

tools: deps ## Build the programs of the tests' control plane (once a machine, minutes; then nothing).
	@$(BIN)/python -m testbed.tools > /dev/null

node: deps ## Build what the tests' real node needs, and its images; says so where none can run (not root, ...).
	@$(BIN)/python -m cluster prepare

format: deps ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: deps ## Check format, style, types and layers.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy operator tests
	$(BIN)/lint-imports

test: node tools lint ## Everything. Fails where the control plane cannot be had.
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not serial"
	$(BIN)/pytest -m serial

test-unit: deps ## Only what needs no control plane; the others are skipped, and counted.
	@echo "test-unit: tests that need a control plane are SKIPPED; 'make test' runs them"
	AIM_TESTS_WITHOUT_CLUSTER=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

fuzz: tools ## Search on: the property tests with examples nobody has seen yet ('make test' repeats its own).
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m hypothesis --hypothesis-profile searching

test-cluster: tools ## Test a cluster of yours: make test-cluster KUBECONFIG=FILE [OPERATOR_IMAGE=... ENGINE_IMAGE=...].
	@test -n "$(KUBECONFIG)" || { echo "name the cluster: make test-cluster KUBECONFIG=FILE"; exit 1; }
	AIM_TESTS_KUBECONFIG="$(KUBECONFIG)" AIM_TESTS_OPERATOR_IMAGE="$(OPERATOR_IMAGE)" AIM_TESTS_ENGINE_IMAGE="$(ENGINE_IMAGE)" \
		$(BIN)/pytest tests/cluster

bench: tools ## Measure speed and memory (docs/reference/performance.md); some ten minutes. Prints, never fails.
	@for bench in tests/bench/*.py; do echo "== $$bench"; $(BIN)/python $$bench; done

demo: deps ## Show the product on a simulated cluster, or on your own with KUBECONFIG_DEMO=FILE.
	@$(BIN)/python -m demo up --dir $(DEMO_DIR)

demo-down: deps ## End the demo and remove what it brought.
	@$(BIN)/python -m demo down --dir $(DEMO_DIR)

clean: ## Remove everything made here, except the demo (demo-down) and the user's cache.
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find operator tests -name __pycache__ -prune -exec rm -rf {} +
