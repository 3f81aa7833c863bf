# Two commands for a fresh machine with Python 3.11+, git and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format clean

demo: $(VENV)/.ready  ## the main job, on real images, in minutes
	$(BIN)/preceptor distill digits

test: $(VENV)/.ready-dev  ## every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

check: $(VENV)/.ready-dev  ## what a change must keep beside the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright
	$(BIN)/pytest --doctest-modules -p no:cacheprovider -q preceptor
	$(BIN)/python tests/readme_commands.py

format: $(VENV)/.ready-dev  ## bring the tree into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment
	rm -rf $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
# torch first and by name, so that the pinned build is taken and nothing larger.
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --editable '.[test,check]'
	touch $@
