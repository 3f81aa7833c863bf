# Two commands for a fresh machine: `make demo` and `make test`. `make check` is what CI adds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONWARNINGS ?=

.PHONY: demo test check format clean

demo: $(VENV)/.ready
	$(BIN)/preceptor distill digits

test: $(VENV)/.ready-dev
	$(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright
	$(BIN)/pytest -p no:cacheprovider -q --doctest-modules preceptor
	$(BIN)/python tests/readme_commands.py

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,check]'
	touch $@
