# Each target sets up what it needs in .venv by itself. `make demo` needs nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --python-version 3.11 pyproject.toml constraints/build.in

.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint bench bench-kafka stack stack-down constraints clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(VENV)/.run $(if $(findstring flagd,$(ARGS)),$(VENV)/.flagd) ## Watch a broken model lose profit and be rolled back
	@$(BIN)/abmonitor demo $(ARGS)

test: $(VENV)/.dev ## Run all tests (those on a real Redis or Kafka: with redis-server, java, mvn and openssl)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not serial" $(ARGS) || test $$? = 5
	$(BIN)/python -m pytest -n 2 --dist loadfile -m serial $(ARGS) || test $$? = 5

chaos: $(VENV)/.dev ## Hurt workers, Kafka and Redis for a long time, and compare the counts
	ABMONITOR_CHAOS=long $(BIN)/python -m pytest tests/chaos $(ARGS)

lint: $(VENV)/.dev ## Style, types and the rule of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/grafana/*.py deploy/stack/*.py deploy/helm/copies.py
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## What the pipeline costs, side by side (needs redis-server)
	$(BIN)/python benchmarks/pipeline.py $(ARGS)

bench-kafka: $(VENV)/.dev ## The worker beside other engines, on a real Kafka (ten minutes; installs them)
	$(BIN)/python benchmarks/throughput.py $(ARGS)

stack: ## The whole stack in containers, with traffic, dashboards and alerts (needs Docker with Compose)
	@deploy/stack.sh up

stack-down: ## End the stack; its data is kept
	@deploy/stack.sh down

constraints: $(VENV)/.dev ## Pin the newest versions of all dependencies, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --upgrade -o constraints/run.txt
	$(COMPILE) --upgrade --extra dev -c constraints/run.txt -o constraints/dev.txt
	$(COMPILE) --extra flagd -c constraints/dev.txt -o constraints/flagd.txt
	$(COMPILE) --extra argo -c constraints/dev.txt -o constraints/argo.txt

$(VENV)/.run: constraints/run.txt pyproject.toml
	@echo "Setting up $(VENV) (once; this takes a minute)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "abmonitor needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r constraints/run.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.flagd: $(VENV)/.run constraints/flagd.txt
	@echo "Adding a client of feature flags (once)" >&2
	@$(INSTALL) --require-hashes -r constraints/flagd.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run constraints/dev.txt
	@echo "Adding what tests and checks need (once)" >&2
	@$(INSTALL) --require-hashes -r constraints/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e ./client
	@touch $@

clean: ## Remove everything that was set up
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
