# `make demo` and `make test` set up all they need in $(VENV), on a fresh machine with Python 3.11+ and make.
# A second run installs nothing, until pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
# The range of pyproject.toml; or for example: make demo TORCH=torch==2.13.0
TORCH ?= $(shell sed -n 's/^ *"\(torch[<>=][^"]*\)",*/\1/p' pyproject.toml)
# Without an NVIDIA driver the CPU wheels, which are smaller by gigabytes. Set it empty to use pip's own index.
TORCH_INDEX ?= $(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && echo https://download.pytorch.org/whl/cpu)
OUTPUT ?= runs/demo
SHARED ?= ../shared
SCALE ?= testbed
JOBS ?= 2
PAPER = $(BIN)/python benchmarks/paper/run.py $(1) --scale $(SCALE) --shared $(SHARED) --jobs $(JOBS) $(FLAGS)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format paper-toxigen paper-winrate paper-jigsaw paper-ablations clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24
	@echo "  PYTHON=python3.12 chooses the interpreter of $(VENV), TORCH=torch==2.13.0 the torch"

demo: $(VENV)/.train ## train, verify and compare on a built-in language (a few minutes, nothing to download)
	$(BIN)/constraintc demo --output $(OUTPUT)

test: lint types ## all checks: style, imports, types, tests
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.test ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.test ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/.test ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The tables of benchmarks/paper need corpora and models beside the checkout; a killed run goes on where it was.
paper-toxigen: $(VENV)/.paper ## every system on ToxiGen, with utility and cost (hours; SCALE=testbed|gpu-small|paper)
	$(call PAPER,toxigen)

paper-winrate: $(VENV)/.paper ## the pairwise judge on the same rows
	$(call PAPER,winrate)

paper-jigsaw: $(VENV)/.paper ## classification and generation on Jigsaw
	$(call PAPER,jigsaw)

paper-ablations: $(VENV)/.paper ## what each part of the method is worth
	$(call PAPER,ablations)

clean: ## remove .venv, caches and builds; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "error: no \`$(PYTHON)\` on this machine; install Python 3.11 or later, or name one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: \`$(PYTHON)\` is $$("$(PYTHON)" -V 2>&1), Python 3.11 or later is needed: make PYTHON=python3.12" >&2; \
	  exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "error: no virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# torch comes first and alone, so that the index of the CPU wheels serves nothing else; where that index cannot be
# reached, pip's own serves. A torch in the range that is installed already stays.
$(VENV)/.train: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV): some minutes the first time"
	$(PIP) install --quiet "pip>=25.1"
	$(if $(TORCH_INDEX),$(PIP) install --quiet --retries 1 --timeout 60 --no-deps --index-url $(TORCH_INDEX) "$(TORCH)" ||) \
	  $(PIP) install --quiet "$(TORCH)"
	$(PIP) install --quiet --editable ".[train]"
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.train
	$(PIP) install --quiet --group test --group lint
	@touch $@

$(VENV)/.paper: pyproject.toml $(VENV)/.train
	$(PIP) install --quiet --group benchmark
	@touch $@
