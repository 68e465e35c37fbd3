# `make` lists what there is to do. Every step is a script in scripts/ that runs alone, too, and that
# finds out for itself, in less than a tenth of a second, when there is nothing left to do.
# All paths are relative: the folder may have spaces in its name.

SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PYTHON_BIN := .venv/bin/python
TINY_MODEL := .tools/models/tiny.gguf
# LOCK_FLAGS=--upgrade takes the newest versions that requirements*.txt allow.
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(LOCK_FLAGS)

.PHONY: help quickstart quickstart-rag test lint test-unit test-local test-cluster test-clients test-long lock clean \
	system venv-dev ollama llamacpp haproxy model

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

quickstart: ## Try it on this machine: sets everything up, then deploys and benchmarks a small model
	@echo '[1/5] Python environment (.venv)'
	@scripts/make_venv.sh
	@echo '[2/5] Ollama'
	@scripts/get_ollama.sh
	@echo '[3/5] HAProxy'
	@scripts/get_haproxy.sh
	@echo '[4/5] Demo model (SmolLM2 135M)'
	@$(PYTHON_BIN) scripts/get_model.py
	@echo '[5/5] Deployment of recipe_ex/quickstart.json'
	@$(PYTHON_BIN) orch.py recipe_ex/quickstart.json --site local --no-monitoring

quickstart-rag: ## The same with retrieval: ask the small model about this project's own docs
	@scripts/make_venv.sh --dev
	@scripts/get_ollama.sh
	@scripts/get_haproxy.sh
	@$(PYTHON_BIN) scripts/get_model.py
	@$(PYTHON_BIN) scripts/get_embedding_model.py
	@$(PYTHON_BIN) orch.py recipe_ex/quickstart_rag.json --site local

test: ## Run all checks and tests; as root on Debian or Ubuntu also on a real Slurm
	@scripts/run_tests.sh

lint: venv-dev ## Check format, types and shell scripts
	@scripts/lint.sh

test-unit: venv-dev ## Run the unit tests (seconds, no services)
	@scripts/run_pytest.sh tests/unit

test-local: system venv-dev ollama llamacpp haproxy model ## Run the tests with real processes on this machine
	@scripts/run_pytest.sh tests/local

test-cluster: system venv-dev ollama llamacpp haproxy model ## Run the tests on a real Slurm (root on Debian or Ubuntu)
	@scripts/run_pytest.sh tests/cluster

test-clients: system venv-dev ollama llamacpp haproxy model ## Run the tests with clients that others have made (1 GB)
	@scripts/make_clients.sh
	@PYTHON_BIN=.clients/clients/bin/python scripts/run_pytest.sh tests/clients

test-long: test-clients ## Run the tests that take too long for `make test`
	@scripts/run_pytest.sh tests/unit -m long
	@scripts/run_pytest.sh tests/local -m long
	@scripts/run_pytest.sh tests/cluster -m long

lock: venv-dev ## Write requirements*.lock again after a change of requirements*.txt
	@$(COMPILE) --output-file requirements.lock requirements.txt
	@$(COMPILE) --constraint requirements.lock --output-file requirements-dev.lock requirements-dev.txt
	@$(COMPILE) --output-file requirements-clients.lock requirements-clients.txt
	@$(COMPILE) --output-file requirements-aider.lock requirements-aider.txt
	@$(COMPILE) --output-file requirements-llamacpp.lock requirements-llamacpp.txt

clean: ## Remove .venv, .clients and .tools (never output)
	@rm -rf .venv .clients .tools .pytest_cache .ruff_cache .mypy_cache .hypothesis

# Steps of the targets above. With -j the scripts' own locks keep them apart.
system:
	@scripts/get_system_packages.sh

venv-dev:
	@scripts/make_venv.sh --dev

ollama:
	@scripts/get_ollama.sh

llamacpp: venv-dev
	@scripts/get_llamacpp.sh

# After `system`: both forbid Debian's packages to start services, and the first to end lifts that.
haproxy: | system
	@scripts/get_haproxy.sh

model: $(TINY_MODEL)
	@$(PYTHON_BIN) scripts/get_model.py
	@$(PYTHON_BIN) scripts/get_embedding_model.py

$(TINY_MODEL): scripts/make_tiny_model.py | venv-dev
	@$(PYTHON_BIN) $< $@
