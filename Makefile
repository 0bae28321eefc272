# dualmode: everything from a fresh clone with Python 3.11 or newer and make. `make help` explains.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
OUT ?= runs/quickstart
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
REFERENCE := $(VENV)/.reference
DOCS := $(VENV)/.docs
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\)$$/\1/p' constraints.txt)
# docopt alone, which num2words needs, has no wheel: it is one file of plain Python.
PIP_INSTALL := $(BIN)/python -m pip install --only-binary :all: --no-binary docopt -c constraints.txt
# Test processes share the cores by files, so each computes with one thread.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help quickstart install test check format docs
.DEFAULT_GOAL := help

help:  ## show this
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: OUT=$(OUT)  MINUTES=(the recipe's)  PRETRAIN=(1: first)  JOBS=$(JOBS)  PYTHON=$(PYTHON)"

quickstart: $(INSTALLED)  ## synthesise speech, train both recognisers, score them, hear them work
	@$(BIN)/dualmode quickstart --out $(OUT) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PRETRAIN),--pretrain)

install: $(INSTALLED)  ## make .venv with dualmode and all that tests need

test: check $(REFERENCE)  ## run the checks and every test
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(INSTALLED)  ## ruff, mypy and the architecture test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(INSTALLED)  ## let ruff format the code and sort its imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DOCS)  ## build the documentation site into build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/docs/index.html"

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dualmode needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV): once, some minutes, most of them for PyTorch."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) "$(TORCH)"
	$(PIP_INSTALL) -e '.[synth,written,test]'
	@touch $@

# What tests compare with, and nothing else needs; the quickstart does not wait for it.
$(REFERENCE): $(INSTALLED)
	$(PIP_INSTALL) -e '.[reference,onnx,serve]'
	@touch $@

# What builds the documentation site, and nothing else needs.
$(DOCS): $(INSTALLED)
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@
