# `make demo` and `make test` work in a fresh clone: they make .venv, install once under constraints.txt, and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test environments docs lint clean

demo: $(INSTALLED)
	rm -rf demo
	$(BIN)/metadyn demo -o demo

# Each core runs files of its own; four processes of torch are enough for the memory of a laptop.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# What users have who have not this environment: a few minutes and gigabytes, which are removed again.
environments: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/environments -rP --durations 0

# The site in docs/_build/html, its tutorials run; a warning fails. It takes a minute or two.
docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pinned torch comes first and alone: a build for this machine's CPU satisfies it, where one is offered.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo docs/_build
