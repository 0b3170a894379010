# Everything starts from Python 3.11 and make. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
BENCH_LOCK := requirements-bench.lock
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run dev test lint format bench lock clean

help:  ## What there is to call
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

$(READY): $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# Without byte code every process would compile every module it imports.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV)/lib lakehouse_assets || true
	@touch $(READY)

setup: $(READY)  ## Make the environment in .venv

run: $(READY)  ## Simulate a shop, land its files, run everything, print what came out
	$(BIN)/lakehouse demo

dev: $(READY)  ## Open the Dagster web UI and the MLflow UI on this machine
	$(BIN)/lakehouse dev

test: $(READY)  ## Every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)  ## ruff, the type checker and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Format the code and sort out what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.bench: $(READY) $(BENCH_LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(BENCH_LOCK)
	@touch $@

bench: $(VENV)/.bench  ## The benchmarks, each against a named peer or limit
	for benchmark in forecast quality main_job ingest incremental landing start_up; do $(BIN)/python -m benchmarks.$$benchmark || exit 1; done

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate pyproject.toml

lock: $(READY)  ## Choose the newest versions that fit pyproject.toml
	$(COMPILE) --upgrade --extra bucket --extra dev -o $(LOCK)
	$(COMPILE) --extra bucket --extra dev --extra bench --constraint $(LOCK) -o $(BENCH_LOCK)

clean:  ## Remove the environment; data stays
	rm -rf $(VENV)
