# Everything starts from Python 3.11 and make. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK := requirements.lock
DEV_LOCK := requirements-dev.lock
BENCH_LOCK := requirements-bench.lock
SETUP_LOCK := requirements-setup.lock
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
# As `python -m benchmarks.set_up` measures it.
SIZE := 400 MB to download, 1.6 GB on disk

.DEFAULT_GOAL := help
.PHONY: help setup run dev test docs lint format bench lock clean

help:  ## What there is to call
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

# A locked set of packages, each checked against its hashes. uv needs seconds; where it cannot reach what pip is configured for, pip does it.
define install
	@echo "Installing $(words $(shell grep -oE '^[a-z][^ =]*==' $(1) | sort -u)) packages from $(1)"
	@$(UV) pip install --system-certs --python $(BIN)/python --require-hashes --no-deps -r $(1) \
	  || { echo "uv could not install them. pip tries, which takes some minutes."; \
	       $(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-deps -r $(1); }
endef

# Without byte code every process would compile every module it imports. Tests of packages are never imported.
define compile
	@echo "Compiling byte code"
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 -x '/(tests?|testing)/' $(VENV)/lib lakehouse_assets || true
endef

$(READY): $(LOCK) $(SETUP_LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Making the environment in $(VENV): $(SIZE)"
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing uv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(SETUP_LOCK)
	$(call install,$(LOCK))
	@echo "Installing lakehouse-assets"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(call compile)
	@touch $(READY)

$(DEV_READY): $(READY) $(DEV_LOCK)
	$(call install,$(DEV_LOCK))
	$(call compile)
	@touch $(DEV_READY)

setup: $(READY)  ## Make the environment in .venv

run: $(READY)  ## Simulate a shop, land its files, run everything, print what came out
	$(BIN)/lakehouse demo

dev: $(READY)  ## Open the Dagster web UI, the MLflow UI and the pages for people on this machine
	$(BIN)/lakehouse dev

# Without byte code each worker would compile every test, and each process that a test starts the whole package.
test: $(DEV_READY)  ## Every test
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 3 --dist worksteal

docs: $(DEV_READY)  ## The documentation site, in build/docs
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

lint: $(DEV_READY)  ## ruff, the type checker, the import rules, and that Dagster loads the definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@home=$$(mktemp -d) && cp dagster.yaml $$home && DAGSTER_HOME=$$home $(BIN)/dg check defs; code=$$?; rm -rf $$home; exit $$code

format: $(DEV_READY)  ## Format the code and sort out what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.ready-bench: $(DEV_READY) $(BENCH_LOCK)
	$(call install,$(BENCH_LOCK))
	@touch $@

bench: $(VENV)/.ready-bench  ## The benchmarks, each against a named peer or limit
	for benchmark in forecast processes fraud parity serving lookup quality monitoring main_job ingest incremental incremental_monitors landing start_up set_up full_disk kills sweeps; do $(BIN)/python -m benchmarks.$$benchmark || exit 1; done

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate

lock: $(DEV_READY)  ## Choose the newest versions that fit pyproject.toml
	$(COMPILE) pyproject.toml --upgrade --extra bucket --extra excel --extra pages --extra redis --extra dev -o $(DEV_LOCK)
	$(COMPILE) pyproject.toml --upgrade --extra pages --constraint $(DEV_LOCK) -o $(LOCK)
	$(COMPILE) pyproject.toml --extra bucket --extra excel --extra pages --extra redis --extra dev --extra bench --constraint $(DEV_LOCK) -o $(BENCH_LOCK)
	$(COMPILE) --group setup --upgrade -o $(SETUP_LOCK)

clean:  ## Remove the environment; data stays
	rm -rf $(VENV)
