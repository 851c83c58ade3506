# Works with GNU make 3.81 and newer: no grouped targets, no .ONESHELL.
PYTHON ?= python3
DAYS ?= 10
KEEP ?= 0

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

IMAGES := producer aggregator averages-consumer hourglassctl
TAG ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse --verify --quiet HEAD 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-images check docs lock images bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## install everything into .venv, exactly as locked
	@echo "ready: $(BIN)/hourglass --help"

# The lock carries the build backend, so the project itself installs without fetching anything unlocked.
$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "make: Hourglass needs Python 3.11 or newer; name one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: $(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## run the whole pipeline on an embedded Redis Cluster (DAYS=10, KEEP=1 leaves it running)
	@$(BIN)/hourglass demo --days $(DAYS) $(if $(filter 1,$(KEEP)),--keep)

test: $(STAMP) ## run every test that needs no container engine
	@$(BIN)/python -m pytest -m "not images and not kubernetes"

test-images: $(STAMP) ## build the images and test them, where Docker answers
	@$(BIN)/python -m pytest -m images

check: $(STAMP) ## lint, format, types, the arrows between packages, the generated docs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --project pyproject.toml
	@$(BIN)/lint-imports
	@$(BIN)/python -m hourglassctl.reference --check README.md

docs: $(STAMP) ## write the generated parts of README.md
	@$(BIN)/python -m hourglassctl.reference README.md

lock: $(STAMP) ## resolve pyproject.toml into the lock files again
	@$(COMPILE) pyproject.toml --extra embedded --extra postgres --extra otlp --group dev --output-file requirements-dev.lock
	@$(COMPILE) --group service --constraint requirements-dev.lock --output-file requirements.lock
	@$(COMPILE) --group warehouse --constraint requirements-dev.lock --output-file requirements-warehouse.lock

images: ## build the images, and push them where REGISTRY is given (TAG, DOCKER_BUILD_FLAGS)
	@set -e; for image in $(IMAGES); do \
		name=$(if $(REGISTRY),$(REGISTRY)/)hourglass/$$image:$(TAG); \
		DOCKER_BUILDKIT=1 docker build --target $$image --tag $$name --build-arg VERSION=$(TAG) \
			--build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) $(DOCKER_BUILD_FLAGS) .; \
		$(if $(REGISTRY),docker push $$name;) \
		echo $$name; \
	done

bench: $(STAMP) ## measure the pipeline beside its limits
	@$(BIN)/hourglass bench

clean: ## remove .venv and everything that tools left behind
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find services tests -name __pycache__ -type d -prune -exec rm -rf {} +
