# Two commands set everything up: `make compare` and `make test`. Both build .venv first when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out/compare
MNIST ?= data/mnist

.PHONY: compare test test-all lint bench docs clean

compare: $(READY)  ## compare the notebook's activations, and sigmoid, on scikit-learn's digits
	$(BIN)/actlab compare relu tanh leaky_relu sigmoid --data digits --until-decided --out $(OUT)

test: $(READY)  ## the test suite without the tests marked slow
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest

lint: $(READY)  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## measure, each figure against a peer in the same run; writes pages below docs/
	$(BIN)/python -m benchmarks.functions
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.checking
	$(BIN)/python -m benchmarks.fleet --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.reliability --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.verdicts
	$(BIN)/python -m benchmarks.depth
	$(BIN)/python -m benchmarks.inside --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.formula

docs: $(READY)  ## the site, in docs/_build/html
	$(BIN)/python docs/make_pages.py
	$(BIN)/python -m sphinx -b html -W --keep-going -j 1 docs docs/_build/html

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[hiplot,dask,mlflow,report,docs,dev]"
	touch $@

clean:  ## remove what the commands above made
	rm -rf $(VENV) out dist docs/functions docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
