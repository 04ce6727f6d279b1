# `make` alone lists what there is. Only git, make and Python 3.11 to 3.14 with pip are needed.

LAKEHOUSE_ENVIRONMENT ?= development
export LAKEHOUSE_ENVIRONMENT
ARGS ?=

RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
BIN := .venv/bin
PLAYBOOK := $(BIN)/ansible-playbook -i inventories/local
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: venv
venv: $(RUNTIME) ## Prepare .venv: Ansible, the collection on its path, every dependency of the controller

$(RUNTIME): requirements.txt tools/bootstrap.py
	@echo "Preparing .venv ..."
	@if [ -e $(DEVELOPMENT) ]; then tools/python tools/bootstrap.py .venv requirements-dev.txt; \
		else tools/python tools/bootstrap.py .venv requirements.txt; fi
	@touch $@

$(DEVELOPMENT): requirements-dev.txt tools/bootstrap.py
	@echo "Preparing .venv with the development tools ..."
	@tools/python tools/bootstrap.py .venv requirements-dev.txt
	@touch $(RUNTIME) $@

.PHONY: lock
lock: $(RUNTIME) ## Resolve requirements*.in anew and write the lock files
	$(COMPILE) --upgrade requirements.in --output-file requirements.txt
	$(COMPILE) requirements-dev.in --output-file requirements-dev.txt
