# `make` lists the targets. Each target makes what it needs, beginning with the environment (.venv).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=
IMAGE ?= interlock

.DEFAULT_GOAL := help
.PHONY: help setup lock demo serve test check proto fuzz bench bench-compare soak bench-peers loadtest image clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## makes the environment in .venv, exactly as locked

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Interlock needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): name another with make PYTHON=python3.12 setup" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages (first time: some minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

LOCK := build/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

lock: ## rewrites the three requirements*.lock files and the peers' (UPGRADE=1 takes newer versions)
	@test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install -qq --disable-pip-version-check uv; }
	$(LOCK) pyproject.toml --extra dev -o requirements.lock $(if $(UPGRADE),--upgrade)
	$(LOCK) pyproject.toml -c requirements.lock -o requirements-runtime.lock
	for peer in loadtests/peers/*/requirements.in; do $(LOCK) $$peer -o $${peer%.in}.txt $(if $(UPGRADE),--upgrade) || exit 1; done
	echo setuptools | $(LOCK) - -c requirements.lock -o requirements-build.lock

demo: $(READY) ## runs the tour: serve, split, shadow, promote, measure, roll back (KEEP=1 leaves it running)
	@$(BIN)/python -m gateway.demo $(if $(KEEP),--keep)

serve: $(READY) ## runs the gateway with its default settings; its data is in ./home
	@$(BIN)/interlock serve --home home

test: $(READY) ## runs every test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(READY) ## checks format, lint, strict types, architecture, and that generated code is current
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && PYTHON=$(BIN)/python protos/generate.sh "$$out" \
	  && diff -r -x __pycache__ "$$out" gateway/protocol/pb || { echo "generated code is stale: run make proto" >&2; exit 1; }

proto: $(READY) ## generates gateway/protocol/pb from protos/
	PYTHON=$(BIN)/python protos/generate.sh

fuzz: $(READY) ## looks for a random model whose row proof is wrong (MODELS=20000)
	RANDOM_MODELS=$(or $(MODELS),20000) $(BIN)/python -m pytest -q tests/runtime/proof/test_random_models.py

bench: $(READY) ## measures the request path, swaps, overload and more against goals (SCENARIO=path runs one)
	@$(BIN)/python -m loadtests.bench $(if $(SCENARIO),--scenario $(SCENARIO))

bench-compare: $(READY) ## compares this tree and revision BASE in alternation (BASE=main SCENARIO=path; OWN=1 where modules have moved)
	@test -n "$(BASE)" || { echo "name the revision to compare with: make bench-compare BASE=main" >&2; exit 1; }
	@$(BIN)/python -m loadtests.bench.compare $(BASE) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(OWN),--own-scenarios)

soak: $(READY) ## runs 1,000 swaps under load with misbehaving callers and looks for leaks (SWAPS=200 is shorter)
	@$(BIN)/python -m loadtests.bench --scenario soak --out out/soak.json $(if $(SWAPS),--swaps $(SWAPS))

bench-peers: $(READY) ## compares with MLServer, KServe and PyTriton, each in its own environment (PEERS="--only mlserver")
	@$(BIN)/python -m loadtests.peers $(PEERS)

loadtest: $(READY) ## runs every load scenario with locust (SCENARIO=steady runs one)
	@$(BIN)/python -m loadtests.run $(or $(SCENARIO),all)

image: ## builds the container image (needs a Docker engine)
	@docker info >/dev/null 2>&1 || { echo "make image needs a running Docker engine: 'docker info' fails here" >&2; exit 1; }
	docker build --tag $(IMAGE) .

clean: ## removes everything that make made, the environment too; ./home stays
	rm -rf $(VENV) build out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find gateway registry tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +
