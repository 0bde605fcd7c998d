.DEFAULT_GOAL := help
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready

.PHONY: help setup quickstart test test-all test-tensorflow lint format clean
help: ## show this list
	@grep -hE "^[a-z-]+:.*##" $(MAKEFILE_LIST) | sed "s/:.*## /\t/"

$(STAMP): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -e ".[dev]" -c constraints.txt
	touch $@

setup: $(STAMP) ## create .venv with the tested versions

quickstart: $(STAMP) ## set up, then train, search and evaluate on two embedded tasks (minutes on a CPU)
	$(PY) -m runner.quickstart

test: $(STAMP) ## set up, then every test but the slow and GPU ones
	$(PY) -m pytest -m "not slow and not gpu and not tensorflow"

test-all: $(STAMP) ## the slow tests too
	$(PY) -m pytest -m "not gpu and not tensorflow"

test-tensorflow: $(STAMP) ## the tests that need TensorFlow (pip install -e ".[data,tfds-build]" first)
	$(PY) -m pytest -m tensorflow tests/data/sources/test_tfds_build.py

lint: $(STAMP) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP) ## format the code
	$(VENV)/bin/ruff format .

clean: ## remove the virtual environment
	rm -rf $(VENV)
