# `make demo` and `make test` need Python 3.11 or later, a C++ compiler (the CRF is compiled) and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Small tensors are no quicker with many threads, and test processes share the cores. There are more of them than a small
# machine has cores, because many tests wait: for commands, signals and disks. What is compiled is kept. Files of tests
# are handed out in the order of tests/conftest.py: those that take longest come first.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-slow test-long check format lint types layers docs-check docs site man figures reformat clean

help:
	@echo "make demo       run the whole method on drawn images, in minutes"
	@echo "make test       the tests that are not slow"
	@echo "make test-slow  the slow tests"
	@echo "                make test SLOW=1: both in one run, as in CI"
	@echo "make test-long  tests of what the store promises, at large sizes: hours"
	@echo "make check      format, lint, types, layers, docs, site; with -j 2 in half the time"
	@echo "make figures    print the size of the package and of its parts"
	@echo "make docs       write the generated pages"
	@echo "make site       build the site in build/site; make man: the manual page in build/man"
	@echo "make reformat   format the code and fix what can be fixed automatically"
	@echo "make clean      remove the virtual environment and the caches"
	@echo ".ci/run         run all checks and tests"

# Each stamp file records an installation, so that the next call does not repeat it.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or later is needed, as in make PYTHON=python3.12" \
		% sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.package: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install -e '.[dev,docs]'
	@touch $(VENV)/.package $@

demo: $(VENV)/.package
	$(BIN)/mcis demo

# One run of all tests imports their files once, and shares what they are made from.
test: $(VENV)/.dev
	$(PYTEST) -m "$(if $(SLOW),not long,not slow and not long)"

test-slow: $(VENV)/.dev
	$(PYTEST) -m "slow and not long"

test-long: $(VENV)/.dev
	MCIS_LONG=$${MCIS_LONG:-1} $(PYTEST) -m "promise or long"

check: format lint types layers docs-check site figures

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs-check: $(VENV)/.dev
	$(BIN)/python docs/scripts/generate.py --check
	$(BIN)/python docs/scripts/words.py

docs: $(VENV)/.dev
	$(BIN)/python docs/scripts/generate.py

site: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -q -c docs/scripts -d build/doctrees . build/site

figures: $(VENV)/.dev
	@$(BIN)/python tests/helpers/figures.py

man: $(VENV)/.dev
	$(BIN)/python -m sphinx -q -b man -c docs/scripts -d build/doctrees . build/man

reformat: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
