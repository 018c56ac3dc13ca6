# `make run` and `make test` set up everything they need in .venv; a second call starts at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint audit fuzz e2e format browser servers bench load faults fortnight pictures deploy-check clean

help:
	@echo "make run     fill the embedded server with a demo programme and print who to call today"
	@echo "make test    run every test (unit, integration, end to end in a browser)"
	@echo "make e2e     only the tests in a real browser"
	@echo "make lint    formatting, linting, types, layers, security, Dagster definitions"
	@echo "make audit   known vulnerabilities of the pinned packages; asks an advisory service, does nothing without one"
	@echo "make fuzz    ask the service a thousand made-up questions for each address (long)"
	@echo "make pictures  photograph the UI anew for docs/pictures"
	@echo "make faults  break everything, many times, and write docs/reliability.md (long)"
	@echo "make fortnight  let fourteen nights pass under the real daemon, and write docs/fortnight.md (long)"
	@echo "make bench   print the table of figures for this machine (long)"
	@echo "make deploy-check  check what deploy/ holds, without an account"
	@echo "make load    a thousand clients read while things break, and write docs/load.md (long)"

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Bandicoot needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=/path/to/python3.11 run"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: pyproject.toml constraints.txt $(VENV)/python.stamp
	@echo "Installing into $(VENV), once"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt $(VENV)/python.stamp
	@echo "Installing into $(VENV), with what the tests need, once"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/run.stamp

run: $(VENV)/run.stamp
	$(BIN)/bandicoot run

# Two processes share what mostly waits for a server, the longest files first; what breaks things or is watched in a
# browser goes alone.
test: $(VENV)/dev.stamp browser servers
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/fortnight tests/installations tests/dagster tests/service tests/local_production tests/recovery tests/core tests/servers tests/test_forbidden_patterns.py tests/test_audit.py
	$(BIN)/pytest tests/faults tests/e2e

e2e: $(VENV)/dev.stamp browser
	$(BIN)/pytest tests/e2e

pictures: $(VENV)/dev.stamp browser
	BANDICOOT_PICTURES=docs/pictures $(BIN)/pytest tests/e2e -k "test_ui or test_call_sheet"

browser:
	@sh tests/e2e/install_browser.sh

servers:
	@sh tests/install_servers.sh

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive bandicoot_api bandicoot_core bandicoot_dagster
	$(BIN)/dg check defs --no-check-yaml

audit: $(VENV)/dev.stamp
	$(BIN)/python .ci/audit.py constraints.txt

# Questions made up for each address of the service; `make test` asks 25.
BANDICOOT_FUZZ_EXAMPLES ?= 1000

fuzz: $(VENV)/dev.stamp
	BANDICOOT_FUZZ_EXAMPLES=$(BANDICOOT_FUZZ_EXAMPLES) $(BIN)/pytest --timeout 3600 tests/service/test_openapi.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Apart from .venv: the tools that check Terraform and the like ask for other versions of much.
.venv-deploy/stamp: $(wildcard deploy/checks/requirements*.txt)
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$^)
	@touch $@

deploy-check: .venv-deploy/stamp
	@sh deploy/checks/install_tools.sh
	.venv-deploy/bin/pytest deploy/checks

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.figures

# Six minutes; at first as many more for the data, which are kept in BANDICOOT_LOAD_HOME or below the temporary folder.
load: $(VENV)/dev.stamp servers
	$(BIN)/python -m benchmarks.load

# How often each fault is tried; with 10, some ten minutes.
BANDICOOT_FAULT_TRIES ?= 10

faults: $(VENV)/dev.stamp servers
	BANDICOOT_FAULT_TRIES=$(BANDICOOT_FAULT_TRIES) BANDICOOT_FAULT_REPORT=docs/reliability.md $(BIN)/pytest --timeout 3600 tests/faults

# Fourteen nights; on two cores some 15 minutes.
fortnight: $(VENV)/dev.stamp servers
	BANDICOOT_FORTNIGHT=whole BANDICOOT_FORTNIGHT_REPORT=docs/fortnight.md $(BIN)/pytest --timeout 3600 tests/fortnight

clean:
	rm -rf $(VENV) .venv-deploy build *.egg-info
