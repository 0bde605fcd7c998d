.DEFAULT_GOAL := help
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
CONSTRAINTS ?= constraints.txt

.PHONY: help setup quickstart test test-slow test-all test-lowest test-tensorflow test-browser test-cluster torture docs gpu-check gpu-pack lint format clean
help: ## show this list
	@grep -hE "^[a-z-]+:.*##" $(MAKEFILE_LIST) | sed "s/:.*## /\t/"

$(STAMP): pyproject.toml $(CONSTRAINTS)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -e ".[dev]" -c $(CONSTRAINTS)
	touch $@

setup: $(STAMP) ## create .venv with the tested versions

quickstart: $(STAMP) ## set up, then train, search and evaluate on two embedded tasks (minutes on a CPU)
	$(PY) -m runner.quickstart

# A file's tests stay in one process, which keeps what they share.
PARALLEL = -n logical --maxprocesses 8 --dist loadfile
HERE = not gpu and not tensorflow and not browser and not cluster
test: $(STAMP) ## set up, then every test but the slow and GPU ones
	$(PY) -m pytest $(PARALLEL) -m "not slow and $(HERE)"

test-slow: $(STAMP) ## the slow tests alone: sweeps, kills, processes of their own
	$(PY) -m pytest $(PARALLEL) -m "slow and $(HERE)"

test-all: test test-slow ## the slow tests too

test-lowest: ## the tests with the lowest versions that pyproject.toml permits, in .venv-lowest
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

test-tensorflow: $(STAMP) ## the tests that need TensorFlow (pip install -e ".[data,tfds-build]" first)
	$(PY) -m pytest -m tensorflow tests/data/sources/test_tfds_build.py

torture: $(STAMP) ## kills, hostile inputs, full disks, everything twice at once (an hour; docs/reliability.md)
	$(PY) -m tools.torture

docs: $(STAMP) ## the documentation as a site, in site/index.html (no network)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet  # silences an advertisement

test-cluster: $(STAMP) ## sweeps under Ray (pip install -e ".[ray]" first)
	$(PY) -m pytest -m cluster tests/commands

test-browser: $(STAMP) ## the HTML report in a real browser (chromium and chromedriver; pip install selenium first)
	$(PY) -m pytest -m browser tests/runner/report

gpu-check: $(STAMP) ## everything that a GPU has to show, in 8 minutes at most; CHECK="budget=300" for keys
	$(PY) -m tools.gpu_check $(CHECK)

# For a machine without a network: its Python's version, and the platforms that its wheels may be for.
GPU_PYTHON ?= 3.12
GPU_PLATFORMS = $(foreach v,manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1,--platform $(v)_x86_64)
gpu-pack: $(STAMP) ## collect the wheels that travel with the checkout to a machine without a network
	rm -rf gpu_wheels
	$(PY) -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
		$(GPU_PLATFORMS) -d gpu_wheels -r tools/gpu_check/wheels.txt
	$(PY) -m pip wheel -q --no-deps -w gpu_wheels antlr4-python3-runtime==4.9.3  # there is no wheel of it
	du -sh gpu_wheels

lint: $(STAMP) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP) ## format the code
	$(VENV)/bin/ruff format .

clean: ## remove the virtual environment
	rm -rf $(VENV)
