# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo
SEED ?= 0

.PHONY: demo test slow check docs clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[fast,dev]'
	touch $@

demo: .venv/installed
	rm -rf $(RUN)
	$(BIN)/archer train --run $(RUN) --seed $(SEED) --set threads=1

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p archer
	$(BIN)/mypy tests
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

docs: .venv/installed
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv runs build site
