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

.PHONY: engine sanitize aarch64 windows vnni web require-compiler
# The engine is native: it needs a compiler, and CMake, which pip brings.
CXX_FOUND := $(shell command -v c++ || command -v g++ || command -v clang++)
ENGINE_TOOLS := $(VENV)/.engine-tools
ENGINE_WHEEL := $(VENV)/.engine
ENGINE_SOURCES := $(shell find engine -name '*.cpp' -o -name '*.h' -o -name '*.txt' -o -name '*.py' -o -name '*.toml')
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake -G Ninja
# Ninja cannot use make's job server, and would say so.
CMAKE_BUILD := MAKEFLAGS= $(BIN)/cmake --build
NO_COMPILER := the engine needs a C++17 compiler: apt-get install g++ (Debian), xcode-select --install (macOS)

.PHONY: help quickstart install test check format docs
.DEFAULT_GOAL := help

help:  ## show this
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: OUT=$(OUT)  MINUTES=(the recipe's)  PRETRAIN=(1: first)  JOBS=$(JOBS)  PYTHON=$(PYTHON)"

quickstart: $(INSTALLED)  ## synthesise speech, train both recognisers, score and demonstrate them
	@$(if $(CXX_FOUND),$(MAKE) --no-print-directory $(ENGINE_WHEEL) || echo "the engine could not be built and is left out",:)
	@$(BIN)/dualmode quickstart --out $(OUT) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PRETRAIN),--pretrain)

install: $(INSTALLED)  ## create .venv with dualmode and everything that tests need

test: $(REFERENCE) $(if $(CXX_FOUND),$(ENGINE_WHEEL))  ## run the checks and every test
	@$(if $(CXX_FOUND),:,echo "the engine's own tests are left out: $(NO_COMPILER)")
	@$(MAKE) --no-print-directory -j 2 --output-sync check $(if $(CXX_FOUND),engine)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(REFERENCE)  ## ruff, mypy and the architecture test
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

engine: require-compiler $(ENGINE_WHEEL)  ## build the device engine (library, command, wheel) and run its native tests
	$(CMAKE) -S engine -B build/engine
	$(CMAKE_BUILD) build/engine
	$(BIN)/ctest --test-dir build/engine --output-on-failure
	@ln -sf ../../build/engine/command/dualmode-engine $(BIN)/dualmode-engine
	@echo "build/engine/command/dualmode-engine, build/engine/libdualmode_engine.a, build/wheels"

sanitize: require-compiler $(ENGINE_TOOLS)  ## the engine's tests under the address, undefined behaviour and thread sanitizers
	$(CMAKE) -S engine -B build/sanitize -DDUALMODE_SANITIZE=address,undefined -DDUALMODE_COMMAND=OFF
	$(CMAKE_BUILD) build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure
	build/sanitize/tests/test_artifact 100000
	$(CMAKE) -S engine -B build/threads -DDUALMODE_SANITIZE=thread -DDUALMODE_COMMAND=OFF
	$(CMAKE_BUILD) build/threads
	build/threads/tests/test_api

aarch64: $(ENGINE_TOOLS)  ## cross-compile the engine for 64-bit ARM and test it under qemu
	@command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64 || \
		{ echo "this needs a cross compiler and an emulator: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }
	$(CMAKE) -S engine -B build/aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
		"-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	$(CMAKE_BUILD) build/aarch64
	$(BIN)/ctest --test-dir build/aarch64 --output-on-failure

windows: $(ENGINE_TOOLS)  ## cross-compile the engine for Windows and test it under Wine
	@command -v x86_64-w64-mingw32-g++-posix && command -v wine || \
		{ echo "this needs a cross compiler and Wine: apt-get install g++-mingw-w64-x86-64-posix wine64"; exit 1; }
	$(CMAKE) -S engine -B build/windows -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 \
		-DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++-posix -DCMAKE_EXE_LINKER_FLAGS=-static \
		-DCMAKE_CROSSCOMPILING_EMULATOR=wine
	$(CMAKE_BUILD) build/windows
	LC_ALL=C.UTF-8 WINEDEBUG=-all $(BIN)/ctest --test-dir build/windows --output-on-failure

vnni: require-compiler $(ENGINE_TOOLS)  ## test the VNNI kernels on a processor with AVX2, their multiplication emulated
	$(CMAKE) -S engine -B build/vnni -DDUALMODE_EMULATE_VNNI=ON
	$(CMAKE_BUILD) build/vnni
	$(BIN)/ctest --test-dir build/vnni --output-on-failure

web: $(ENGINE_TOOLS)  ## compile the engine for browsers; the page is then in build/web
	@command -v emcmake || { echo "this needs Emscripten: apt-get install emscripten"; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" emcmake cmake -G Ninja -S web -B build/web
	NODE_PATH="$${NODE_PATH:-/usr/share/nodejs}" $(CMAKE_BUILD) build/web
	cp web/index.html web/*.js build/web

$(ENGINE_WHEEL): $(ENGINE_TOOLS) $(ENGINE_SOURCES)
	@echo "Building the device engine: once, about a minute."
	@rm -rf build/wheels
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/wheels ./engine
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall build/wheels/dualmode_engine-*.whl
	@touch $@

require-compiler:
	@test -n "$(CXX_FOUND)" || { echo "$(NO_COMPILER)"; exit 1; }

$(ENGINE_TOOLS): $(INSTALLED)
	$(PIP_INSTALL) -e '.[engine]'
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dualmode needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV): once, a few minutes, mostly for PyTorch."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) "$(TORCH)"
	$(PIP_INSTALL) -e '.[train,synth,written,test]'
	@touch $@

# What tests compare with, and nothing else needs; the quickstart does not wait for it.
$(REFERENCE): $(INSTALLED)
	$(PIP_INSTALL) -e '.[reference,onnx,serve,ray,align]'
	@touch $@

# What builds the documentation site, and nothing else needs.
$(DOCS): $(INSTALLED)
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@
