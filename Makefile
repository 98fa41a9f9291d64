# Everything a clone needs is made here. `make dev` runs a gateway, `make test` proves it.
# PYTHON=… chooses the interpreter, VENV=… another place than .venv for what it installs, ARGS=…
# passes options to `moorage dev` and to pytest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup anew develop clients system languages dev room test test-all unit lint check soak chaos bench screenshots \
	wheels lock clean

ifeq ($(PYTHON),)
PYTHON := $(shell scripts/find-python)
endif
VENV := .venv
BIN := $(VENV)/bin
# Real gateways, chains and sandboxes wait more than they work.
AT_ONCE := 4
# A worker that crashed is not replaced: pytest-xdist hangs at the end of a run that had one (its
# issue 1323), and the run has failed. It ends at once, and names the test.
ONCE := --max-worker-restart 0
# Unit tests open a database each: in memory, where the machine has room there, they wait for no disk.
IN_MEMORY := $(shell test "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 2000000 2>/dev/null && echo TMPDIR=/dev/shm)
UNIT = $(IN_MEMORY) $(BIN)/pytest --numprocesses auto --dist worksteal $(ONCE)
BESIDE_UNIT = $(BIN)/pytest --ignore tests/unit --numprocesses $(AT_ONCE) --dist loadgroup --no-loadscope-reorder $(ONCE)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib src
# Images set it; then each gateway and worker of a run would compile all of src/ and tests/ again.
unexport PYTHONDONTWRITEBYTECODE
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

help:
	@echo "make dev     set up, then run a gateway with local chains on this machine"
	@echo "make test    set up, then run what a change must pass: in ten minutes"
	@echo "make test-all  every test: other engines, clients, apps and faults, the long flows"
	@echo "make unit    set up, then run the unit tests"
	@echo "make check   lint, types, layers and unit tests"
	@echo "make soak    ten minutes of two hundred apps, crashes and kills"
	@echo "make chaos   five minutes of two gateways, whose servers and selves fail again and again"
	@echo "make bench   measure, and write bench/RESULTS.md"
	@echo "make screenshots  a picture of every page in both themes and three widths, in screenshots/, and the README's"
	@echo "make wheels  build the wheels of gateway and client into dist/"
	@echo "make setup   the set-up alone: system packages, .venv, the local chains' node"
	@echo "make lock    resolve requirements/*.txt again"
	@echo "make clean   remove what the set-up made; the data in .moorage stays"

setup: system $(VENV)/.installed node_modules/.package-lock.json

# A .venv is of use only where it was made, with the Python that is chosen, and with pip in it.
ifneq ($(shell test ! -e $(VENV) || { test "$$($(BIN)/python -ISV)" = "$$("$(PYTHON)" -ISV)" && \
	grep -F "$(CURDIR)/$(BIN)/python" $(BIN)/pip; } >/dev/null 2>&1 || echo no),)
$(VENV)/.installed: anew
endif

anew:
	@rm -rf $(VENV)

develop: setup $(VENV)/.developing

clients: .venv-clients/.installed tests/clients/node_modules/.package-lock.json

dev: setup
	$(BIN)/moorage dev $(ARGS)

test: $(if $(ARGS),,room lint) develop clients languages
ifeq ($(ARGS),)
	$(UNIT) tests/unit
	$(BESIDE_UNIT) -m "not extended"
else
	$(BIN)/pytest $(ARGS)
endif

test-all: room lint develop clients languages
	$(UNIT) tests/unit
	$(UNIT) tests/unit/ledger tests/unit/storage --database postgresql
	$(BESIDE_UNIT)

# An estimate of what a run takes at its peak, of the disk for temporary files and of the memory.
room:
	@scripts/room --disk-mib 6000 --memory-mib 4000

unit: develop
	$(UNIT) tests/unit $(ARGS)

lint: develop
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Beside each other: neither keeps two cores busy to its end.
check: develop
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

soak: develop
	SOAK_APPS=200 SOAK_SECONDS=600 $(BIN)/pytest tests/soak --capture=no $(ARGS)

chaos: develop languages
	CHAOS_SECONDS=300 $(BIN)/pytest tests/flows/test_chaos.py --capture=no $(ARGS)

bench: develop languages
	@scripts/system-packages "$(PYTHON)" bench
	$(BIN)/python bench/run.py $(ARGS)

screenshots: develop clients languages
	$(BIN)/pytest tests/pages/screenshots.py $(ARGS)

system:
	@scripts/system-packages "$(PYTHON)"

languages: | system
	@scripts/system-packages "$(PYTHON)" languages

# Packages come by their hashes alone, and as the lock names them: an older pip that resolves them
# again takes a newer release for an extra. Our own needs no index, as its build backend is installed.
# Compiling all at once takes half as long as pip's one by one.
$(VENV)/.installed: requirements/runtime.txt requirements/build.txt pyproject.toml client/pyproject.toml | system
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || "$(or $(filter-out $(BIN)/%,$(PYTHON)),$$(scripts/find-python))" -m venv --clear $(VENV)
	@$(PIP) install --no-compile --no-deps --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable ./client
	@echo "Compiling it ..."
	@$(COMPILE)
	@touch $@

$(VENV)/.developing: requirements/dev.txt $(VENV)/.installed
	@echo "Setting up the developers' tools ..."
	@$(PIP) install --no-compile --no-deps --require-hashes -r requirements/dev.txt
	@echo "Compiling them ..."
	@$(COMPILE)
	@touch $@

# npm itself writes this file last.
node_modules/.package-lock.json: package.json package-lock.json | system
	@echo "Setting up the local chains' node ..."
	@npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Clients of others, which tests let pay; apart from ours, as they bring much that we do not use.
.venv-clients/.installed: requirements/clients.txt $(VENV)/.installed
	@echo "Setting up the clients of others ..."
	@.venv-clients/bin/python -c '' 2>/dev/null || $(BIN)/python -m venv --clear .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check --no-input --quiet \
		install --no-compile --no-deps --require-hashes -r requirements/clients.txt
	@.venv-clients/bin/python -m compileall -q -j 0 .venv-clients/lib
	@touch $@

tests/clients/node_modules/.package-lock.json: tests/clients/package.json tests/clients/package-lock.json | system
	@echo "Setting up the clients of others in JavaScript ..."
	@cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

wheels: setup
	@$(PIP) wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . ./client

lock: develop
	$(LOCK) --all-extras pyproject.toml client/pyproject.toml -o requirements/runtime.txt
	$(LOCK) requirements/build.in -c requirements/runtime.txt -o requirements/build.txt
	$(LOCK) --all-extras pyproject.toml client/pyproject.toml requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt
	$(LOCK) requirements/clients.in -c requirements/dev.txt -o requirements/clients.txt

clean:
	rm -rf .venv .venv-* node_modules tests/clients/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -r {} +
