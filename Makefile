# Two commands do all the set-up on a fresh machine: `make lab` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell command -v $(p) >/dev/null && $(p) -c 'import sys, venv, ensurepip; print(sys.version_info >= (3, 11))' 2>/dev/null | grep -q True && echo $(p))))
VENV := .venv/bin
export FPGA_HYBRID_LAB_CACHE ?= $(HOME)/.cache/fpga-hybrid-lab

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: tools
tools: ## the tools environment (.venv): hashed packages and collections
	@if [ -z "$(PYTHON)" ]; then
	  echo "No Python >= 3.11 with venv found: installing Debian's python3-venv."
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3 python3-venv
	fi
	@$(or $(PYTHON),/usr/bin/python3) lab/tools.py

# ---- the lab

.PHONY: lab
lab: tools ## a real cluster on this machine: depot, hosts, site.yml, verify.yml
	@. .venv/bin/activate
	lab/lab up
	ansible-playbook site.yml
	ansible-playbook playbooks/verify.yml
	lab/lab status

.PHONY: evaluate
evaluate: tools ## the tutorial's evaluation on the running lab: a job that finds no board makes an instance appear (FAMILY=f1: with F1)
	@. .venv/bin/activate
	lab/lab up
	lab/lab evaluate --family $(or $(FAMILY),f2)

.PHONY: lab-check
lab-check: ## what the lab needs of this machine; changes nothing, needs no root
	@python3 lab/lab check

.PHONY: lab-reset
lab-reset: ## remove the lab's hosts; depot and cache stay
	@python3 lab/lab reset

.PHONY: lab-clean
lab-clean: ## remove the lab and leave the machine as it was; the cache stays
	@python3 lab/lab clean

.PHONY: verify
verify: tools ## check the running lab's cluster
	@$(VENV)/ansible-playbook playbooks/verify.yml

# ---- tests

.PHONY: test
test: tools ## everything under two minutes a test: lint, unit tests, sanity, molecule
	@$(VENV)/python tests/run.py quick

.PHONY: test-all
test-all: tools ## also the slow ones, on the running lab; their results go into docs/test-all.md
	@$(VENV)/python tests/run.py all

.PHONY: unit
unit: tools ## unit tests only
	@$(VENV)/pytest tests/unit -q

.PHONY: lint
lint: tools ## ruff, mypy, yamllint, ansible-lint, documentation
	@$(VENV)/python tests/run.py lint

.PHONY: bench-site
bench-site: tools ## site.yml against a bare shell script on the same hosts
	@$(VENV)/python tests/bench/site.py

.PHONY: bench-bootstrap
bench-bootstrap: tools ## a join by bootstrap against the bare commands, on worker3 of the running lab
	@PATH=$(CURDIR)/$(VENV):$$PATH $(VENV)/python -m tests.bench.bootstrap

.PHONY: bench-device-plugin
bench-device-plugin: tools ## start, memory, idling and answers of the device plugin with 16 boards
	@PYTHONPATH=roles/fpga_device_plugin/files $(VENV)/python -m tests.bench.device_plugin

.PHONY: bench-aws
bench-aws: tools ## EC2 inventory and node pools against amazon.aws; no lab, no AWS; an hour (BENCH=--document writes docs/bench-aws.md)
	@$(VENV)/python -m tests.bench.aws $(BENCH)

# ---- keeping

BUILD ?= build

.PHONY: dist
dist: tools ## the collection's tarball, in build/
	@mkdir -p $(BUILD)
	$(VENV)/ansible-galaxy collection build --force --output-path $(BUILD)

.PHONY: lock
lock: tools ## resolve requirements/*.in anew into hashed lock files
	@$(VENV)/pip install --quiet uv
	$(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url requirements/tools.in -o requirements/tools.txt
	$(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url requirements/importer.in -o requirements/importer.txt
	$(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url requirements/docsite.in -o requirements/docsite.txt
	$(VENV)/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-emit-index-url requirements/core-newest.in -o requirements/core-newest.txt
	$(VENV)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url requirements/device_plugin.in -o roles/fpga_device_plugin/files/requirements.txt
