# Every target builds the environment it needs; PYTHON picks the interpreter.
PYTHON ?= python3

ifeq ($(OS),Windows_NT)
VENV_BIN := Scripts
else
VENV_BIN := bin
endif

TEST_VENV := .venv-test
DEMO_VENV := .venv-demo
DOCS_VENV := .venv-docs
OLDEST_VENV := .venv-oldest
TEST_PYTHON := $(TEST_VENV)/$(VENV_BIN)/python
DEMO_PYTHON := $(DEMO_VENV)/$(VENV_BIN)/python
DOCS_PYTHON := $(DOCS_VENV)/$(VENV_BIN)/python
OLDEST_PYTHON := $(OLDEST_VENV)/$(VENV_BIN)/python
TEST_STAMP := $(TEST_VENV)/installed.stamp
DEMO_STAMP := $(DEMO_VENV)/installed.stamp
DOCS_STAMP := $(DOCS_VENV)/installed.stamp
OLDEST_STAMP := $(OLDEST_VENV)/installed.stamp
NEIGHBOURS_STAMP := $(TEST_VENV)/neighbours.stamp
BENCHMARKS := $(patsubst bench_%.py,%,$(sort $(notdir $(wildcard benchmarks/*/bench_*.py))))

# $(1): environment, $(2): its interpreter, $(3): extra. torch goes first so that
# the pinned build is in place before anything that depends on torch is resolved.
# pip would compile 15,000 files one by one, for more than a minute.
define install
$(PYTHON) -m venv $(1)
$(2) -m pip install -q --no-compile -c constraints.txt torch
$(2) -m pip install -q --no-compile -c constraints.txt -e ".[$(3)]"
$(2) .ci/compile.py
$(2) -c "import pathlib; pathlib.Path('$(1)', 'installed.stamp').touch()"
endef

# What the compiled solver is built from: when it changes, install again.
COMPILED := $(wildcard skcausalmeta/solvers/_compiled/*.pyx \
	skcausalmeta/solvers/_compiled/kernel*.c skcausalmeta/solvers/_compiled/*.h)

# Two test processes on two cores: more than one thread each would compete.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Tests start processes, each of which would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

PYTEST := $(ONE_THREAD) $(TEST_PYTHON) -m pytest -q -n 2 --dist worksteal

.PHONY: help demo test test-slow test-fast test-neighbours test-oldest lint style types
.PHONY: bench-smoke docs clean

help:
	@echo "make test         lint, then the tests and docstring examples but slow ones"
	@echo "make test-slow    the slow ones: benchmarks, examples, processes, fuzzing"
	@echo "make test-neighbours  the page of recipes, with the packages it imports"
	@echo "make test-oldest  common and head tests on the lowest versions of setup.py"
	@echo "make lint         ruff check, ruff format --check, mypy"
	@echo "make demo         python -m skcausalmeta demo: a table and demo.png"
	@echo "make bench-smoke  run every benchmark at its smallest size"
	@echo "make docs         build docs/_build/html, the examples included"
	@echo "make clean        remove environments, caches and builds"

$(TEST_STAMP): setup.py constraints.txt $(COMPILED)
	$(call install,$(TEST_VENV),$(TEST_PYTHON),test)

# What the page of recipes beside other packages imports.
$(NEIGHBOURS_STAMP): $(TEST_STAMP)
	$(TEST_PYTHON) -m pip install -q -c constraints.txt -e ".[neighbours]"
	$(TEST_PYTHON) -c "import pathlib; pathlib.Path('$(NEIGHBOURS_STAMP)').touch()"

$(DEMO_STAMP): setup.py constraints.txt $(COMPILED)
	$(call install,$(DEMO_VENV),$(DEMO_PYTHON),plot)

$(DOCS_STAMP): setup.py constraints.txt $(COMPILED)
	$(call install,$(DOCS_VENV),$(DOCS_PYTHON),docs)

# The package itself is not installed: it is imported from here.
$(OLDEST_STAMP): setup.py constraints.txt .ci/lowest.py
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_PYTHON) .ci/lowest.py > $(OLDEST_VENV)/lowest.txt
	$(OLDEST_PYTHON) -m pip install -q -r $(OLDEST_VENV)/lowest.txt
	$(OLDEST_PYTHON) -c "import pathlib; pathlib.Path('$(OLDEST_STAMP)').touch()"

lint: style types

style: $(TEST_STAMP)
	$(TEST_PYTHON) -m ruff check .
	$(TEST_PYTHON) -m ruff format --check .

types: $(TEST_STAMP)
	$(TEST_PYTHON) -m mypy skcausalmeta

# mypy has one process: beside the tests it leaves no core idle.
test: style
	@$(MAKE) --no-print-directory -j 2 types test-fast

test-fast: $(TEST_STAMP)
	$(PYTEST) -m "not slow"

test-slow: $(TEST_STAMP)
	$(PYTEST) -m slow

test-neighbours: $(NEIGHBOURS_STAMP)
	$(PYTEST) tests/test_neighbours.py

test-oldest: $(OLDEST_STAMP)
	@$(OLDEST_PYTHON) -m pip freeze
	$(ONE_THREAD) PYTHONPATH=. $(OLDEST_PYTHON) -m pytest -q -m "not slow" \
		tests/heads tests/test_common.py

demo: $(DEMO_STAMP)
	$(DEMO_PYTHON) -m skcausalmeta demo --output demo.png

bench-smoke: $(TEST_STAMP)
	@set -e; for name in $(BENCHMARKS); do \
		echo "$$name --smoke"; \
		$(ONE_THREAD) $(TEST_PYTHON) -m benchmarks $$name --smoke; \
	done

docs: $(DOCS_STAMP)
	$(ONE_THREAD) $(DOCS_PYTHON) -m sphinx -W --keep-going docs docs/_build/html

clean:
	rm -rf docs/_build docs/api docs/auto_examples docs/results.rst
	rm -rf $(TEST_VENV) $(DEMO_VENV) $(DOCS_VENV) $(OLDEST_VENV) build dist skcausalmeta.egg-info demo.png
	rm -f skcausalmeta/solvers/_compiled/_kernel.c
	rm -f skcausalmeta/solvers/_compiled/*.so skcausalmeta/solvers/_compiled/*.pyd
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find skcausalmeta tests benchmarks examples -name __pycache__ -prune \
		-exec rm -rf {} + 2>/dev/null || true
