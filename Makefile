# Everything a contributor runs. Set-up happens by itself, into .venv, whenever pyproject.toml
# is newer than the last set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# Tests write much and keep nothing: memory serves them as well as a disk, where enough of it is free.
ROOMY  := $(shell .ci/roomy)
TMPDIR ?= $(or $(ROOMY),/tmp)
# Processes that share the tests; 0 runs them in one, which a debugger needs.
JOBS   ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && n=4; echo $$n)
# Another order of sets at each run, the same in all processes of a run.
HASHSEED ?= $(shell awk 'BEGIN { srand(); printf "%d", rand() * 2147483647 }')

# Tests that take as long as they are told to.
LONG := -o faulthandler_timeout=0

.PHONY: all test lint unit soak demo bench bench-peers bench-scale bench-concurrency bench-eviction fuzz clean setup
.DEFAULT_GOAL := test

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "diskcache needs Python 3.11 or newer: set PYTHON=/path/to/python")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --editable '.[bench,cli,dev,test,test-with]'
	@$(BIN)/python benchmarks/environment.py > /dev/null || echo 'tests of the upgrade from version 5 will be skipped'
	@touch $@

# The last line of the output is pytest's summary.
test: lint unit

lint: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: run .venv/bin/ruff format .'; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

unit: $(STAMP)
	@TMPDIR=$(TMPDIR) PYTHONHASHSEED=$(HASHSEED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What takes minutes: the largest scenarios of tests/explorer.
demo: $(STAMP)
	@$(BIN)/python -m diskcache demo

# Beside version 5.6.3, then the cache on a server beside others there.
bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py $(ARGS)
	@$(if $(ARGS),,$(BIN)/python benchmarks/peers.py --only redis-py remote 'remote hot' 'django redis' cashews aiocache)

# SECONDS is how long; SEED repeats a run.
SECONDS ?= 600
fuzz: $(STAMP)
	@DISKCACHE_FUZZ_SECONDS=$(SECONDS) $(if $(SEED),DISKCACHE_FUZZ_SEED=$(SEED)) \
		$(BIN)/python -m pytest tests/security/test_fuzz.py -rA -p no:randomly $(LONG) $(ARGS)

KILLS   ?= 10000
KILLING ?= 3600
# A million operations of processes that share caches and are killed now and then, all explained; then as many
# kills of all kinds, or as fit into so many seconds.
soak: $(STAMP)
	@EXPLORE_ALL=1 $(BIN)/python -m pytest tests/explorer -s $(LONG)
	@$(BIN)/python -m tests.history.run $(ARGS)
	@DISKCACHE_TEST_SOAK=1 $(BIN)/python -m pytest tests/concurrency/test_space.py tests/concurrency/test_opening.py -s $(LONG)
	@TMPDIR=$(TMPDIR) $(BIN)/python -m tests.crash.soak --kills $(KILLS) --seconds $(KILLING)

bench-peers: $(STAMP)
	@$(BIN)/python benchmarks/peers.py $(ARGS)

bench-scale: $(STAMP)
	@$(BIN)/python benchmarks/scale.py $(ARGS)

bench-concurrency: $(STAMP)
	@$(BIN)/python benchmarks/concurrency.py $(ARGS)

# TRACES is a folder of traces; docs/benchmarks.md says of which form.
bench-eviction: $(STAMP)
	@TMPDIR=$(TMPDIR) $(BIN)/python benchmarks/eviction.py $(TRACES) $(ARGS)

clean:
	@rm -rf $(VENV) .ci-venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
