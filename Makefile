# Everything a newcomer types: make demo, make test. Set-up is done on the way.
#
#   TORCH        which torch to install first (a bare "torch" pulls gigabytes of CUDA libraries)
#   TORCH_INDEX  where to find it, empty for the default index
#   VENV         where the virtual environment lives

PYTHON ?= python3.11
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV ?= .venv

PIN_HASH := $(shell cat pyproject.toml constraints.txt Makefile | sha256sum | cut -c1-16)
PINS := $(VENV)/.pins-$(PIN_HASH)
PY := $(VENV)/bin/python
# The machine's pip may be configured noisily; this never changes what is installed.
PIP := $(PY) -m pip --disable-pip-version-check

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test lint bench figures clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(PINS): pyproject.toml constraints.txt Makefile
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or set PYTHON=..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; about a minute where packages are cached)"
	@$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt "$(TORCH)"
	@$(PIP) install -q -c constraints.txt -e ".[sim,train,data,theory,dev]"
	@rm -f $(VENV)/.pins-* && touch $@

setup: $(PINS)  ## create $(VENV) with everything pinned
	@$(PY) -c "import cures" 2>/dev/null && test "$$($(PY) -c 'import cures, pathlib; print(pathlib.Path(cures.__file__).parents[1])')" = "$(CURDIR)" \
		|| $(PIP) install -q --no-deps -e .

demo: setup  ## a simulator comparison and a real tiny language model, at most 6 minutes on 2 cores
	@$(PY) -m figures demo

test: setup  ## the whole test suite
	@$(PY) -m pytest -q -n 2 --dist worksteal

lint: setup  ## formatter, linter, type checker
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: setup  ## time of an import, a scheduler step and allocate (run on an idle machine)
	@$(PY) benchmarks/import_time.py
	@$(PY) benchmarks/scheduler_step.py
	@$(PY) benchmarks/allocate.py

figures: setup  ## every figure of the paper: make the missing runs (10 minutes once), draw, write the page
	@$(PY) -m figures runs
	@$(PY) -m figures all

clean:  ## remove the environment, builds and caches; run folders stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
