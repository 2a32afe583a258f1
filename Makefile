# Two commands set everything up: `make compare` and `make test`. Both build .venv first when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out/compare
MNIST ?= data/mnist
# Two processes of one thread each are faster than one of two; a file's tests stay together, for what they share.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: compare test test-all lint bench docs clean

compare: $(READY)  ## compare the notebook's activations, and sigmoid, on scikit-learn's digits
	$(BIN)/actlab compare relu tanh leaky_relu sigmoid --data digits --until-decided --out $(OUT)

test: $(READY)  ## the test suite without the tests marked slow
	$(PARALLEL) -m "not slow"

test-all: $(READY)  ## the whole test suite
	$(PARALLEL)

lint: $(READY)  ## style, formatting, types, and that no import points back
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY)  ## measure, each figure against a peer in the same run; writes pages below docs/
	$(BIN)/python -m benchmarks.functions
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.checking
	$(BIN)/python -m benchmarks.fleet --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.reliability --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.verdicts
	$(BIN)/python -m benchmarks.null_comparisons
	$(BIN)/python -m benchmarks.judged
	$(BIN)/python -m benchmarks.depth
	$(BIN)/python -m benchmarks.fair --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.diagnostics --data-dir $(MNIST)
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.formula
	$(BIN)/python -m benchmarks.judging
	$(BIN)/python -m benchmarks.importing
	$(BIN)/python -m benchmarks.exporting

docs: $(READY)  ## the site, in docs/_build/html
	$(BIN)/python docs/make_pages.py
	$(BIN)/python -m sphinx -b html -W --keep-going -j 1 docs docs/_build/html

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): this takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[hiplot,dask,mlflow,report,docs,dev]"
	touch $@

clean:  ## remove what the commands above made
	rm -rf $(VENV) out dist docs/functions docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
