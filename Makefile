# On a fresh clone, `make train` and `make test` are the two commands; each sets up what it needs.
# Needs make and a Python 3.11 to 3.13 with the venv module; nothing else.
VENV ?= .venv
LOCK := requirements.lock
RUN  := $(VENV)/bin/python

# The first interpreter that really runs, has venv and is recent enough (a shim may exist and fail).
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c '$(SUITABLE)' >/dev/null 2>&1; then echo $$p; exit; fi; done)

# JAX for CUDA where an NVIDIA driver is present.
CUDA := $(shell if [ -e /proc/driver/nvidia/version ] || nvidia-smi >/dev/null 2>&1; then echo ',cuda'; fi)

.DEFAULT_GOAL := help
.PHONY: help setup train test test-quick test-all check format bench docs lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.dev ## the environment for working on gpusim, in .venv

train: $(VENV)/.base ## train the ant (ARGS="--env humanoid ..." adds or overrides flags)
	$(RUN) -m gpusim.train --env ant --num-envs 4096 $(ARGS)

test: $(VENV)/.dev ## all fast tests, in two processes
	$(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

test-quick: $(VENV)/.dev ## a first answer, within a minute
	$(RUN) -m pytest -m quick $(ARGS)

test-all: $(VENV)/.dev ## the slow tests too
	$(RUN) -m pytest -m "not gpu" $(ARGS)

check: $(VENV)/.dev ## lint, format check, types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(VENV)/.dev ## format the sources and apply lint fixes
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/.bench ## physics, training and start-up against the peers
	$(RUN) -m bench.physics --env ant
	$(RUN) -m bench.train --env ant
	$(RUN) -m bench.compile

docs: $(VENV)/.docs ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict

lock: $(VENV)/.dev ## renew requirements.lock: one file for Python 3.11 to 3.13, with and without CUDA
	$(RUN) -m pip install --quiet uv
	$(RUN) -m uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --upgrade \
		--no-header --no-annotate --quiet --output-file $(LOCK)

clean: ## remove the environment and caches (not runs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info

# The lock is given as constraints: it fixes versions, pyproject.toml says what is wanted.
$(RUN):
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.11 to 3.13 with the venv module found;" \
		"install one (Debian: apt-get install python3-venv) or say PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "setting up $(VENV): about a minute, most of it for downloads"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(LOCK) pyproject.toml | $(RUN)
	@$(RUN) -m pip install --quiet --constraint $(LOCK) --editable '.[video$(CUDA)]'
	@touch $@

# Of Playground its code and files are enough for tests; what it draws and what Warp needs is large.
$(VENV)/.dev: $(VENV)/.base
	$(RUN) -m pip install --quiet --constraint $(LOCK) --editable '.[dev,notebook]'
	$(RUN) -m pip install --quiet --constraint $(LOCK) --no-deps playground
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(RUN) -m pip install --quiet --constraint $(LOCK) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(RUN) -m pip install --quiet --constraint $(LOCK) --editable '.[bench]'
	@touch $@
