# Everything that people and CI run. `make test` is exactly what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := sdk events scheduler executor console
CHECKED := $(PACKAGES) tests bench examples

.PHONY: demo test test-sdk test-core cover check check-mypy check-pyright check-style fmt bench \
	bench-peers faults clean

# Starts an embedded cluster, surveys the standard library on it, prints what it found.
demo: $(BIN)/.installed
	$(BIN)/python examples/stdlib_survey.py

# The pure tests, in two parts that take a core about as long.
PURE_SDK := tests/sdk
PURE_CORE := tests/events tests/golden tests/scheduler tests/types tests/test_tidy.py
# Files that take long come first, so that none is left over when the others are done.
REAL := tests/faults tests/integration tests/executor tests/contract tests/conformance
# Pure files that have a slow test, which the pure steps leave out.
LONG = $(shell grep -rl --include='*.py' pytest.mark.slow $(PURE_SDK) $(PURE_CORE))
COVER := --cov=millstream --cov=millstream_events --cov=millstream_scheduler --cov=millstream_executor
# Hypothesis' seed is fixed, and for the pure tests that of hashes, so that a run can be repeated:
# explore with `pytest tests/events` and none.
PYTEST := $(BIN)/python -m pytest -q --hypothesis-seed=0

# Linters, type checkers and every test, on two cores: the pure ones first, then those with real
# processes, three files at once since they also wait, then by themselves those that measure time
# or load both cores.
# Bytecode is written beforehand: hundreds of processes would each compile what they import.
test: $(BIN)/.installed-dev check
	$(BIN)/python -m compileall -q $(PACKAGES)
	PYTHONHASHSEED=0 $(MAKE) -j 2 test-sdk test-core
	$(PYTEST) $(LONG) $(REAL) -m "not alone" -n 3 --dist loadfile --no-loadscope-reorder --durations=15
	$(PYTEST) $(REAL) -m alone --durations=15

test-sdk: $(BIN)/.installed-dev
	$(PYTEST) $(PURE_SDK) -m "not slow"

test-core: $(BIN)/.installed-dev
	$(PYTEST) $(PURE_CORE) -m "not slow"

# Which lines the tests reach in their own process; twice as slow as without.
cover: $(BIN)/.installed-dev
	$(PYTEST) $(PURE_SDK) $(PURE_CORE) $(REAL) -m "not slow" $(COVER) --cov-report=term:skip-covered

check: $(BIN)/.installed-dev
	$(MAKE) -j 2 check-mypy check-pyright check-style

check-mypy: $(BIN)/.installed-dev
	$(BIN)/mypy

check-pyright: $(BIN)/.installed-dev
	$(BIN)/pyright

check-style: $(BIN)/.installed-dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports

fmt: $(BIN)/.installed-dev
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# Our figures, as a table and a plot; `python -m bench ... --json` gives the rows.
bench: $(BIN)/.installed-bench
	$(BIN)/python -m bench --plot .millstream/bench

# Ours beside the peers that can be imported (install some with pip first), and the ratios.
bench-peers: $(BIN)/.installed-bench
	$(BIN)/python -m bench.peers

# Kills, stops and starves real processes; prints what each fault cost.
faults: $(BIN)/.installed-dev
	$(BIN)/python -m pytest tests/faults -q -s -m chaos

clean:
	rm -rf $(VENV) .millstream .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(BIN)/.installed-bench: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	touch $@
