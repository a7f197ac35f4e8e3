# make run       set everything up and play: http://127.0.0.1:8080
# make test      set everything up and run every test, in WORKERS processes
# make coverage  the same in one process, with the lines and branches that no test reaches
# make lint      ruff, mypy, and the type check of the player
# make bench     measure this machine and print the tables (an hour)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Extra words for pip, for example PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple"
PIP_ARGS ?=
# Processes that share the tests out, file by file; most files wait more than they compute (two cores suffice for four).
WORKERS ?= 3
# Extra words for `riffstream serve`, for example SERVE_ARGS="--port 9000"
SERVE_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test coverage test-fast test-js lint format bench mini-smoke clean FORCE
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# Looked at each time, since it may be half made, moved, or without its Python; touched only when it is made again.
$(VENV)/.made: FORCE
	@sh .ci/environment "$(PYTHON)" "$(VENV)"

FORCE:

$(VENV)/.run: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@# Only the files of this package are used, and it asks for a numpy of 2017.
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps musicnn==0.1.0 || \
	  echo "musicnn cannot be installed: the tests of the tagger are skipped"
	@touch $@ $(VENV)/.run

# The accessibility checker and the HLS player of the browser tests; without npm those tests are skipped and say so.
$(VENV)/axe: $(VENV)/.made
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-save --prefix $@ axe-core@4 hls.js@1; \
	  else echo "npm is not installed: the accessibility check and the test of hls.js are skipped"; fi

run: $(VENV)/.run
	$(BIN)/riffstream serve $(SERVE_ARGS)

test: $(VENV)/.dev $(VENV)/axe
	@sh .ci/system-packages
	$(BIN)/python -m tests.second_try -n $(WORKERS)
	@$(MAKE) --no-print-directory test-js

# Coverage doubles the time of what is computed in Python.
coverage: $(VENV)/.dev $(VENV)/axe
	@sh .ci/system-packages
	$(BIN)/python -m pytest --cov --cov-report=term

# What most changes need while working: no browser, nothing over ten seconds.
test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not browser and not slow"

test-js:
	@if command -v node >/dev/null; then PYTHON="$(abspath $(BIN))/python" node --test client/tests/; else echo "node is not installed: the player's unit tests were not run"; fi

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@sh .ci/check-player

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.run
	$(BIN)/riffstream bench all

mini-smoke: $(VENV)/.dev
	$(BIN)/riffstream train smoke

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
