# Every tool comes from .venv, which is made from constraints.txt; nothing else has to be installed or activated.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPOSE := docker compose -f deploy/compose.yaml

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test proof fixtures simulate compare mutants crashpoints chaos duplicates poison skew soak check fmt lint format types layers sizes bench docs up down clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: $(READY) ## audit the standard library on 2 workers, kill a worker and the orchestrator, resume, verify
	$(BIN)/rollforward demo

test: $(READY) ## run all tests against real Redis, PostgreSQL and workers
	$(BIN)/pytest -n 4 --dist worksteal
	$(BIN)/pytest -q -n 2 tests/conformance --executor celery

proof: fixtures simulate compare mutants crashpoints chaos duplicates poison skew ## everything that `make test` is too short for, in turn: hours

fixtures: $(READY) ## change every expectation of every fixture, one at a time: its case must fail then
	$(BIN)/python -m tests.conformance.mutate

simulate: $(READY) ## play SEEDS simulations of the recording protocol on a virtual clock
	$(BIN)/python -m tests.chaos.simulate --seeds $${SEEDS:-2000}

compare: $(READY) ## compare the ledger in Redis with the one in memory, call by call
	$(BIN)/python -m tests.chaos.compare --seeds 200

mutants: $(READY) ## show that the simulation catches broken versions of the protocol
	$(BIN)/python -m tests.chaos.mutants

chaos: $(READY) ## kill KILLS processes of real deployments, from SEED, then crash EXAMPLES random graphs at random writes
	$(BIN)/python -m tests.chaos.processes --kills $${KILLS:-200} --seed $${SEED:-1}
	ROLLFORWARD_PROPERTY_EXAMPLES=$${EXAMPLES:-300} $(BIN)/pytest -q --timeout 3600 tests/property

duplicates: $(READY) ## deliver one message in twenty of 10,000 instances twice
	$(BIN)/python -m tests.chaos.processes --duplicates

poison: $(READY) ## run 1,000 instances that kill their process, among sound ones
	$(BIN)/python -m tests.chaos.processes --poison

skew: $(READY) ## let faults come while clocks are a day ahead or behind; LIBFAKETIME names the library where it is not installed
	$(BIN)/python -m tests.chaos.processes --skew --store postgresql --kills 10 --seed 2 $${LIBFAKETIME:+--faketime $$LIBFAKETIME}

soak: $(READY) ## go on with new seeds until something is wrong, or you stop it
	seed=$${SEED:-$$(date +%s)}; while true; do \
		$(BIN)/python -m tests.chaos.simulate --first $$seed --seeds 2000 && \
		$(BIN)/python -m tests.chaos.processes --kills $${KILLS:-200} --seed $$seed || exit 1; \
		seed=$$((seed + 2000)); done

crashpoints: $(READY) ## end a process at every point of the crash matrix, over every store
	$(BIN)/python -m tests.chaos.crashpoints --jobs 2

check: lint format types layers sizes test ## everything CI asks for; the tests come last

fmt: $(READY) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## check the code with ruff
	$(BIN)/ruff check .

format: $(READY) ## check that the code is formatted
	$(BIN)/ruff format --check .

types: $(READY) ## check the types with mypy --strict
	$(BIN)/mypy

layers: $(READY) ## check that no lower layer imports an upper one
	$(BIN)/lint-imports

sizes: $(READY) ## check the sizes of files and functions, and their names
	$(BIN)/pytest -q tests/unit/test_house_rules.py

docs: $(READY) ## check that the links of README and docs resolve and that the README tells the truth
	$(BIN)/pytest -q tests/unit/test_docs.py tests/acceptance/test_readme.py

bench: $(READY) ## measure what docs/benchmarks.md tabulates
	for instances in 1000 5000 20000; do $(BIN)/python -m benchmarks.fan_out --instances $$instances; echo; done
	$(BIN)/python -m benchmarks.fan_out --instances 20000 --executor local
	$(BIN)/python -m benchmarks.fan_out --parts

deploy/.env: # secrets of this machine's compose deployment, made once
	umask 077 && for name in REDIS_OPERATOR_PASSWORD REDIS_WORKER_PASSWORD REDIS_ORCHESTRATOR_PASSWORD \
		REDIS_DASHBOARD_PASSWORD REDIS_FLOWER_PASSWORD POSTGRES_PASSWORD FLOWER_PASSWORD GRAFANA_PASSWORD \
		ROLLFORWARD_SECRET; do \
		echo "$$name=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(24))')"; done > $@

up: deploy/.env ## start redis, postgres, the orchestrator, 2 workers and flower with docker compose
	$(COMPOSE) up --build --detach --wait

down: deploy/.env ## stop what `make up` started and keep its data
	$(COMPOSE) down

clean: ## remove .venv, caches and build results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
