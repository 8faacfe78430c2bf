# `make` alone says what there is. Everything runs in .venv, which the first target that needs it creates.

VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev
WORKERS ?= 2
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)

# Processes are the parallelism; a library that starts threads of its own slows them down and changes results.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export NUMEXPR_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help env demo emulator test test-slow lint bench clean

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

env: $(VENV)/.stamp ## create .venv with everything in it, once

demo: env ## run the whole flow on the embedded sample: minutes, no network
	$(BIN)/astrid run

test: env ## every test that needs no network, no GPU and no patience
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 10

test-slow: env ## the tests that take minutes, one after the other
	$(BIN)/python -m pytest -m slow --durations 10

lint: env ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env ## measure the benchmarks
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only

emulator: env ## serve stand-ins of the archives on this machine, to try surveys of archives offline
	$(BIN)/python -m tests.archives.emulator

clean: ## remove .venv and every cache; runs/ and cubes/ stay
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv installs in a fraction of pip's time but is a convenience: without it, or where it fails, pip does the same.
# It does not read pip's configuration, so pip's local files and index are handed over.
$(VENV)/.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) -V) (once; a minute with uv, a few with pip) ..."
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot create virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@pip="$(BIN)/python -m pip --disable-pip-version-check"; \
	if [ -z "$(NO_UV)" ] && $$pip install --quiet -c constraints.txt uv && { \
		links=$$($$pip config get global.find-links 2>/dev/null | xargs); \
		index=$$($$pip config get global.index-url 2>/dev/null | xargs); \
		echo "Installing about 100 packages with uv ..."; \
		UV_SYSTEM_CERTS=1 UV_FIND_LINKS=$${UV_FIND_LINKS:-$$links} $${index:+env UV_DEFAULT_INDEX=$$index} $(BIN)/uv pip install --quiet \
			--python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'; }; then :; \
	else \
		echo "Installing about 100 packages with pip (a few minutes) ..."; \
		$$pip install --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]'; \
	fi
	@touch $@
	@echo "$(VENV) is ready."
