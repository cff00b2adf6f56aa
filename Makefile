# Two commands do everything on a fresh machine: `make` and `make test`.
PYTHON ?= python3
CORES ?= all
SCALE ?= quick

ROOM := 10
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := results
.PHONY: results test test-systems lint format lock clean help setup

results: $(READY) ## compute the quick scale (SCALE=desktop or SCALE=paper for the others) and say where the report is
	snakemake --cores $(CORES) $(SCALE)
	robustgen summary --scale $(SCALE)

test: $(READY) ## run the tests, with line coverage
	python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=90

test-systems: $(READY) ## test on a real SLURM, sshd and S3 server, and interrupt things (Debian, root; FAULT_TRIALS=54 for more)
	tests/cluster/slurm.sh install
	tests/remote/install.sh
	python -m pytest -m "cluster or remote or faults" -n 3 --dist loadfile tests/cluster tests/remote tests/faults

lint: $(READY) ## check format, style, types and the workflow
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

format: $(READY) ## rewrite the sources in the project's format
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflow

setup: $(READY) ## make .venv from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "robustgen needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -d .venv || $(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 1e9; sys.exit(free < $(ROOM) and f"setting up takes $(ROOM) GB, of which .venv keeps 7; there is room for {free:.1f} GB here: make some")'
	$(PYTHON) -m venv .venv
	@mkdir -p .venv/tmp # the system's folder for such files is smaller than torch on many nodes
	TMPDIR="$(CURDIR)/.venv/tmp" $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@rm -rf .venv/tmp
	@touch $@

lock: ## renew requirements.lock from pyproject.toml (needs the network)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet uv
	.cache/lock/bin/uv pip compile --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --quiet --group dev pyproject.toml -o requirements.lock

clean: ## delete what was computed here, keeping the DVC cache and the committed results
	rm -rf .snakemake logs data models report.zip dvc_plots .cache/runs .cache/checkpoints .cache/defense

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'
