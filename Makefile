# dsac_robot: `make help` lists the targets. `make demo` and `make test` each set a fresh machine up wholly.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := ros,sim,train,deploy,data,report,video,ray,dev
ARM := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm cppcheck gcc libc6-dev
GL := libegl1 libgl1 libgl1-mesa-dri

# The venv brings its own ROS 2. A sourced system ROS would put other versions of the same modules before it.
unexport PYTHONPATH LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

.PHONY: help venv gl arm faketime test lint format demo colcon pin clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  \1\t/' | expand -t 12

venv: $(READY) ## make .venv with the pinned versions (Python 3.11 or newer)

# Where PyPI's default torch is the CUDA build, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets the small one.
$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11, which the pins in constraints.txt need: run make PYTHON=python3.11 (or newer)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y python3-venv; } || \
	  { echo "$(PYTHON) cannot make virtual environments: run sudo apt-get install python3-venv, then make again" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$(EXTRAS)]'
	touch $@

# What MuJoCo draws with where there is no screen and no GPU. Without root it is only said: nothing but --video needs it.
gl: ## install Mesa's OpenGL, which renders videos in software
	@libraries="$$(ldconfig -p)"; \
	  { grep -q 'libEGL_\(mesa\|nvidia\).so' <<< "$$libraries" && grep -q 'libGL.so.1' <<< "$$libraries"; } || \
	  { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y $(GL); } || \
	  echo "videos cannot be drawn here: run sudo apt-get install $(GL)" >&2

# What builds the firmware and runs its ARM image. Without root the tests of tests/firmware name what they miss.
arm: ## install the ARM compiler, QEMU and cppcheck
	@missing=""; for tool in arm-none-eabi-gcc qemu-system-arm cppcheck gcc gcov; do command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	  [ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends $(ARM); } || \
	  { echo "the firmware cannot be built and tested here without$$missing: run sudo apt-get install $(ARM)" >&2; exit 1; }

# What sets the clock of one process in a test of the guard.
faketime: ## install libfaketime
	@compgen -G '/usr/lib/*/faketime/libfaketime.so.1' > /dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends libfaketime; } || \
	  { echo "the test of a wall clock that is set cannot run: run sudo apt-get install libfaketime" >&2; exit 1; }

test: lint gl arm faketime ## ruff, mypy and all tests; the ROS graph tests run one at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not loop"
	@if compgen -G 'tests/loop/test_*.py' > /dev/null; then $(BIN)/python -m pytest -m loop; fi

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv ## let ruff rewrite imports and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: venv gl ## drive the simulated robot through every level of the safety ladder; the report lands in out/demo
	$(BIN)/dsac-robot demo --out out/demo

# With a system ROS the usual `colcon build` in a workspace does the same. Afterwards: source out/colcon/install/setup.bash
colcon: venv ## build the ament package with colcon into out/colcon
	env -u AMENT_PREFIX_PATH PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/colcon --log-base out/colcon/log build --base-paths . --packages-select dsac_robot \
	  --build-base out/colcon/build --install-base out/colcon/install

pin: venv ## write constraints.txt anew from what .venv holds
	$(BIN)/python tools/pin.py > constraints.txt.new
	mv constraints.txt.new constraints.txt
	touch $(READY)

clean: ## remove .venv and everything built
	rm -rf $(VENV) build dist install log out/colcon *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
