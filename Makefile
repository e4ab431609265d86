# Two commands matter: `make demo` and `make test`. Each sets up what it needs on a machine with Python 3.11.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export FOREXGPT_HOME ?= $(CURDIR)/.forexgpt
export DAGSTER_HOME := $(FOREXGPT_HOME)/dagster
WORKERS ?= $(shell nproc)

.PHONY: help demo test test-all ui lint bench clean setup

help:
	@echo "make demo      run the whole platform once on real EUR/USD candles"
	@echo "make ui        Dagster on http://127.0.0.1:3000, MLflow on http://127.0.0.1:5000"
	@echo "make test      the tests (under 8 minutes); make test-all adds the slow ones"
	@echo "make lint      ruff, mypy, import contracts, dg check"
	@echo "make bench     measure against peers; make bench ONLY=name"
	@echo "make clean     remove caches (the state in FOREXGPT_HOME stays)"

# The stamp is written last, so an interrupted installation starts again. Packages are readable for all, whatever the
# umask: as root, the PostgreSQL of the tests runs as another user.
$(READY): pyproject.toml constraints.txt requirements-ctrader.txt
	umask 022; test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	umask 022; $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	umask 022; $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-ctrader.txt
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/forexgpt demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not network"

test-all: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not network"

ui: $(READY)
	$(BIN)/forexgpt ui

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	env -u DAGSTER_HOME VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

bench: $(READY)
	$(BIN)/python -m benchmarks.run $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find forexgpt_core forexgpt_assets migrations tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
