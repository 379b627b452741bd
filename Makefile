# One command per thing. Needs make, bash and Python 3.11 or newer; uv, the virtualenv and every cache come by themselves
# and lie in the cache folder: nothing is written into the tree.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wsgi-operator
UV_VERSION := 0.13.8
UV := $(or $(shell command -v uv),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
# one virtualenv per tree: two clones must not test each other's code
TREE_ID := $(shell pwd -P | sha256sum | cut -c1-8)
export UV_PROJECT_ENVIRONMENT ?= $(CACHE)/venv-$(TREE_ID)
PYTHON := $(UV_PROJECT_ENVIRONMENT)/bin/python
export PATH := $(UV_PROJECT_ENVIRONMENT)/bin:$(PATH)

export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
export MYPY_CACHE_DIR := $(CACHE)/mypy
export RUFF_CACHE_DIR := $(CACHE)/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
PYTEST = pytest -o cache_dir="$(CACHE)/pytest" $(PYTEST_ARGS)
# Most tests wait for real servers, so three files wait at the same time; those that wait for pods use less CPU still.
TOGETHER := -n 3 --dist loadfile
SHARING := -n 6 --dist loadfile --no-loadscope-reorder
OWN_SESSION := $(shell command -v setsid)

SCRIPTS := $(shell grep -lsI '^\#!/bin/bash\|shellcheck shell=bash' cluster/* cluster/lib/* .ci/*)

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: venv ## the whole story on a real cluster: freeze, heal, resize, restore (Linux, root, Go; or KUBECONFIG)
	@$(PYTHON) -m demo

.PHONY: demo-local
demo-local: venv ## the healing half in under two minutes, with Python alone
	@$(PYTHON) -m demo.local

# Who starts a cluster, or changes one for everybody on it, mostly waits, and takes longest: so it runs beside those who
# have no cluster, and goes first. In a session of its own, it hears of Ctrl-C from us alone, once.
.PHONY: test
test: lint ground ## everything that this machine can run: check, real servers, real pods; says what it skips
	@failed=0; told=$$(mktemp); $(OWN_SESSION) $(PYTEST) -m alone >"$$told" 2>&1 & alone=$$!; \
	  trap 'kill -INT $$alone 2>/dev/null || true; wait; rm -f "$$told"' EXIT; trap 'exit 130' INT TERM; \
	  nice -n 5 $(PYTEST) $(TOGETHER) -m "not cluster and not alone" || failed=1; \
	  wait $$alone || failed=1; alone=; cat "$$told"; \
	  $(PYTEST) $(SHARING) -m "cluster and not alone" || failed=1; exit $$failed

.PHONY: check
check: lint ## format, lint, walls, types, and the tests that need no server and no cluster
	@$(PYTEST) $(TOGETHER) -m "not servers and not cluster and not alone"

.PHONY: lint
lint: venv ## format, lint, walls and types alone
	@$(UV) lock --check --quiet || { echo "error: uv.lock does not fit the pyproject.toml files: uv lock" >&2; exit 1; }
	@ruff format --check --quiet . || { echo "error: not formatted: make format" >&2; exit 1; }
	@ruff check --quiet .
	@shellcheck -x $(SCRIPTS)
	@lint-imports --cache-dir "$(CACHE)/import-linter" >"$(CACHE)/lint-imports.log" || { cat "$(CACHE)/lint-imports.log"; exit 1; }
	@mypy

.PHONY: format
format: venv ## put the code into the house's format
	@ruff format --quiet . && ruff check --quiet --fix .

.PHONY: bench-sidecar
bench-sidecar: venv ## what a look costs, beside psutil and prometheus-process-exporter; what a request costs with us beside it
	@$(PYTHON) -m benchmarks.sidecar $(BENCH_ARGS)

.PHONY: bench-healing
bench-healing: venv ## from the fault to the cure, 20 runs each: frozen worker, orphans, stuck arbiter
	@$(PYTHON) -m benchmarks.healing $(BENCH_ARGS)

.PHONY: bench-roll
bench-roll: venv ## requests lost per change of settings under open-loop load, by rolls and in running pods (our own cluster)
	@$(PYTHON) -m benchmarks.roll $(BENCH_ARGS)

.PHONY: false-alarms
false-alarms: venv ## healthy but nasty behaviour over releases and classes: no kill, no false incident
	@$(PYTHON) -m benchmarks.false_alarms $(BENCH_ARGS)

.PHONY: soak
soak: venv ## 10,000 respawns under load: the sidecar does not grow
	@$(PYTHON) -m benchmarks.soak $(BENCH_ARGS)

.PHONY: kill-trials
kill-trials: venv ## 10,000 kills under pid reuse, 100 forking trees: nobody else is hit, nobody survives (root)
	@$(PYTHON) -m benchmarks.kill_trials $(BENCH_ARGS)

.PHONY: bench-operator
bench-operator: venv ## the operator with 1,000 WSGIServers and 10,000 pods on a real API server: latency, sweep, memory, rest (root)
	@$(PYTHON) -m benchmarks.fleet $(BENCH_ARGS)

.PHONY: chaos
chaos: venv ## the operator killed 200 times at any moment, API server and kubelet too: the end is right each time (root)
	@$(PYTHON) -m benchmarks.chaos $(BENCH_ARGS)

.PHONY: fuzz
fuzz: venv ## 1,000,000 hostile inputs over every parser: no crash, no growth
	@$(PYTHON) -m benchmarks.fuzz $(BENCH_ARGS)

.PHONY: red
red: venv ## takes each rule out of a copy and tells its story: every one must fail (root on cgroup v1; ten minutes)
	@UV="$(UV)" $(PYTHON) -m benchmarks.red $(BENCH_ARGS)

.PHONY: cluster-up
cluster-up: ## start a Kubernetes of one node on this machine (Linux, root, Go); node Ready in seconds
	@cluster/up

.PHONY: cluster-down
cluster-down: ## end it; leaves nothing behind
	@cluster/down

.PHONY: kubeconfig
kubeconfig: ## print the kubeconfig that demo and tests use: KUBECONFIG, or our cluster's
	@cluster/kubeconfig

.PHONY: images
images: ## build the images of sidecar and operator, and load them into the cluster
	@cluster/image wsgi-sidecar dev . sidecar
	@cluster/image wsgi-operator dev . operator

# Long builds happen here, where their progress is seen, not inside a test. Where no cluster can be, the tests say so.
.PHONY: ground
ground: venv
	@cluster/up --prepare || [ "$${REQUIRE_CLUSTER:-}" != 1 ]
	@$(PYTHON) -m tests.servers.packages
	@$(PYTHON) -m tests.charts.schemas

.PHONY: venv
venv: $(UV)
	@$(UV) sync --quiet --frozen

$(CACHE)/uv-$(UV_VERSION)/bin/uv:
	@echo "  fetching uv $(UV_VERSION) …" >&2
	@command -v python3 >/dev/null || { echo "error: there is no python3 here: install Python 3.11 or newer." >&2; exit 1; }
	@mkdir -p "$(CACHE)" && rm -rf "$(CACHE)/uv-$(UV_VERSION)" && python3 -m venv "$(CACHE)/uv-$(UV_VERSION)" >&2 || \
	  { echo "error: python3 cannot make a virtualenv: apt-get install python3-venv, or install uv (https://docs.astral.sh/uv)." >&2; exit 1; }
	@"$(CACHE)/uv-$(UV_VERSION)/bin/pip" install --quiet --disable-pip-version-check uv==$(UV_VERSION)
