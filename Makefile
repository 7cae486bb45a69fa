# Everything a newcomer types: make demo, make test. Set-up is done on the way.
#
#   TORCH        which torch to install first (a bare "torch" pulls gigabytes of CUDA libraries)
#   TORCH_INDEX  where to find it, empty for the default index
#   EXTRAS       one more extra: procedural (reasoning-gym, which needs a C compiler); its tests are skipped without
#   VENV         where the virtual environment lives
#   VLLM_VENV    where that of test-vllm lives
#   TRL_VENV     where that of test-trl and against-trl lives
#   VERL_VENV    where that of test-verl lives
#   DOCS_VENV    where that of docs lives
#   SERIES       of league: a name for the runs of a kind of processor that the page does not have yet
#   TRL_PINS     which TRL: constraints-trl.txt, the newest; constraints-trl-0.25.txt, a year older

PYTHON ?= python3.11
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
EXTRAS ?=
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
TRL_PINS ?= constraints-trl.txt
TRL_VENV ?= .venv-trl
VERL_VENV ?= .venv-verl
DOCS_VENV ?= .venv-docs
SERIES ?=

comma := ,
PIN_HASH := $(shell (cat pyproject.toml constraints.txt Makefile; echo "$(EXTRAS)") | sha256sum | cut -c1-16)
PINS := $(VENV)/.pins-$(PIN_HASH)
PY := $(VENV)/bin/python
# The machine's pip may be configured noisily; this never changes what is installed.
PIP := $(PY) -m pip --disable-pip-version-check

# What is imported is compiled then, and kept, instead of everything that is installed: half of the set-up.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test test-slow setup-vllm test-vllm setup-trl test-trl setup-verl test-verl lint bench bench-train bench-trl against-trl figures league gpu-check docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(PINS): pyproject.toml constraints.txt Makefile
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or set PYTHON=..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; about a minute where packages are cached)"
	@$(PIP) install -q --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt "$(TORCH)"
	@$(PIP) install -q --no-compile -c constraints.txt -e ".[sim,train,data,theory,dev$(addprefix $(comma),$(EXTRAS))]"
	@rm -f $(VENV)/.pins-* && touch $@

setup: $(PINS)  ## create $(VENV) with everything pinned
	@$(PY) -c "import cures" 2>/dev/null && test "$$($(PY) -c 'import cures, pathlib; print(pathlib.Path(cures.__file__).parents[1])')" = "$(CURDIR)" \
		|| $(PIP) install -q --no-deps -e .

demo: setup  ## a simulator comparison and a real tiny language model, at most 6 minutes on 2 cores
	@$(PY) -m figures demo

test: setup  ## the test suite
	@$(PY) -m pytest -q -n 2 --dist worksteal -m "not slow"

test-slow: setup  ## what it leaves out: variants and long runs
	@$(PY) -m pytest -q -n 2 --dist worksteal -m slow

setup-vllm:  ## create $(VLLM_VENV) with vLLM for CPUs
	@.ci/vllm_environment "$(PYTHON)" "$(VLLM_VENV)" "$(TORCH_INDEX)"

# Exit status 75 of the first line is "not here", which is no failure. VLLM_GREEN is touched after a success.
test-vllm:  ## the rollout engines on a real vLLM, at most 5 minutes on 2 cores; skipped where none can be had
	@.ci/vllm_environment "$(PYTHON)" "$(VLLM_VENV)" "$(TORCH_INDEX)" || { test $$? = 75 && exit 0; exit 1; }; \
		CURES_TEST_VLLM=1 "$(VLLM_VENV)/bin/python" -m pytest -q -n 2 --dist loadfile -W default tests/vllm \
		$(if $(VLLM_GREEN),&& touch "$(VLLM_GREEN)")

setup-trl:  ## create $(TRL_VENV) with TRL
	@.ci/trl_environment "$(PYTHON)" "$(TRL_VENV)" "$(TRL_PINS)" "$(TORCH_INDEX)"

test-trl:  ## the adapter on a real TRL, at most 5 minutes on 2 cores; skipped where none can be had
	@.ci/trl_environment "$(PYTHON)" "$(TRL_VENV)" "$(TRL_PINS)" "$(TORCH_INDEX)" || { test $$? = 75 && exit 0; exit 1; }; \
		CURES_TEST_TRL=1 "$(TRL_VENV)/bin/python" -m pytest -q -n 2 --dist loadfile -W default tests/trl tests/hosts \
		$(if $(TRL_GREEN),&& touch "$(TRL_GREEN)")

lint: setup  ## formatter, linter, type checker
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: setup  ## time of an import, a scheduler step and allocate (run on an idle machine)
	@$(PY) -m benchmarks.import_time
	@$(PY) -m benchmarks.scheduler_step
	@$(PY) -m benchmarks.allocate

bench-train: setup  ## speed of generation, gradient moments and verifiers in train/ (run on an idle machine)
	@$(PY) -m benchmarks.native_generation
	@$(PY) -m benchmarks.gradient_moments
	@$(PY) -m benchmarks.verifiers

setup-verl:  ## create $(VERL_VENV) with verl
	@.ci/verl_environment "$(PYTHON)" "$(VERL_VENV)" "$(TORCH_INDEX)"

test-verl:  ## the hooks in a real verl, at most 5 minutes on 2 cores; skipped where none can be had
	@.ci/verl_environment "$(PYTHON)" "$(VERL_VENV)" "$(TORCH_INDEX)" || { test $$? = 75 && exit 0; exit 1; }; \
		CURES_TEST_VERL=1 "$(VERL_VENV)/bin/python" -m pytest -q -W default tests/verl tests/hosts \
		$(if $(VERL_GREEN),&& touch "$(VERL_GREEN)")

bench-trl: setup-trl  ## what the adapter adds to a step of TRL (run on an idle machine)
	@$(TRL_VENV)/bin/python -m benchmarks.trl_overhead

against-trl: setup-trl  ## a training step against TRL's, in an environment of its own (half an hour)
	@$(TRL_VENV)/bin/python -m pip install -q -c constraints-trl.txt -e ".[train,data]"
	@$(TRL_VENV)/bin/python -m benchmarks.against_trl

figures: setup  ## every figure of the paper: make the missing runs (half an hour once), draw, write the page
	@$(PY) -m figures runs
	@$(PY) -m figures all

league: setup  ## every scheduler in the simulator, most on the language model; says first how long it takes
	@$(PY) -m figures league $(if $(SERIES),--series $(SERIES))

gpu-check: setup  ## what only a GPU can show, at most 8 minutes on one; without one, a rehearsal that says so
	@$(PY) -m benchmarks.gpu_check --out runs/gpu_check

docs:  ## the documentation as a site in site/: pages, theory, results, API; broken links are errors
	@.ci/docs_environment "$(PYTHON)" "$(DOCS_VENV)"
	@NO_MKDOCS_2_WARNING=1 "$(DOCS_VENV)/bin/python" -m mkdocs build --strict

clean:  ## remove the environment, builds and caches; run folders stay
	rm -rf $(VENV) $(VLLM_VENV) $(TRL_VENV) $(VERL_VENV) $(DOCS_VENV) build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
