# Everything that people and CI run. `make test` is exactly what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := sdk events scheduler executor console
CHECKED := $(PACKAGES) tests bench examples

.PHONY: demo test check fmt bench bench-peers faults clean

# Starts an embedded cluster, surveys the standard library on it, prints what it found.
demo: $(BIN)/.installed
	$(BIN)/python examples/stdlib_survey.py

PURE := tests/events tests/golden tests/scheduler tests/sdk tests/types tests/test_tidy.py
REAL := tests/executor tests/contract tests/integration tests/conformance tests/faults
COVER := --cov=millstream --cov=millstream_events --cov=millstream_scheduler --cov=millstream_executor

# Linters, type checkers and every test: the pure ones first, then those with real processes,
# one after the other. Coverage is that of the tests' own process; the hash seed is fixed
# because both halves of the pure tests must collect the same names, and hypothesis' seed so
# that a run can be repeated: explore with `pytest tests/events` and no seed.
test: $(BIN)/.installed-dev check
	PYTHONHASHSEED=0 $(BIN)/python -m pytest $(PURE) -m "not slow" -q -n 2 --hypothesis-seed=0 $(COVER) --cov-report=
	$(BIN)/python -m pytest $(PURE) $(REAL) -m slow -q --hypothesis-seed=0
	$(BIN)/python -m pytest $(REAL) -m "not slow" -q --durations=15 $(COVER) --cov-append --cov-report=term:skip-covered

check: $(BIN)/.installed-dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright

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
