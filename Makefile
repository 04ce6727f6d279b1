# `make` alone lists what there is. Only git, make and Python 3.11 to 3.14 with pip are needed.

LAKEHOUSE_ENVIRONMENT ?= development
export LAKEHOUSE_ENVIRONMENT
# Where Python may keep nothing that it compiled, each of some hundred playbooks of the gate compiles its packages again.
unexport PYTHONDONTWRITEBYTECODE
# More arguments for ansible-playbook: make deploy ARGS='--check --diff'
ARGS ?=

BIN := .venv/bin
# Ansible finds the collection, and its configuration, by these paths.
COLLECTION := .venv/collections/ansible_collections/crypto_lakehouse/platform
PLAYBOOK = $(BIN)/ansible-playbook -i inventories/local
PYTEST = $(BIN)/pytest --junit-xml=.cache/reports/$@.xml

RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
# The programs that a host runs, installed for the tests the way the host role does it.
SOFTWARE := .cache/software
SOFTWARE_LOCKS := roles/host/files/requirements.txt requirements-test.txt
SOFTWARE_PYTHON := $(SOFTWARE)/venv/.complete
SOFTWARE_PACKAGES := prometheus prometheus-alertmanager prometheus-node-exporter
SOFTWARE_COMPLETE := $(SOFTWARE)/.complete
# What a cluster needs on the controller: kubernetes.core, helm and kubectl.
KUBE := .cache/kube
KUBE_COMPLETE := .venv/.kubernetes
# A registry that tests push charts to.
REGISTRY := .cache/registry/packages
REGISTRY_COMPLETE := .cache/registry/.complete
# Debian's etcd, which the stand-in for K3s runs.
K3S := .cache/k3s/packages
K3S_COMPLETE := .cache/k3s/.complete
# The load generator of the benchmark; it is in no other program's way.
BENCH := .cache/bench/packages
BENCH_COMPLETE := .cache/bench/.complete
# The image of hosts with systemd, and the key by which they are reached.
HOSTS_COMPLETE := .cache/hosts/.complete
# The browser that tests of web pages drive.
BROWSER := .cache/browser/chromium
POLICY := .cache/policy/venv
POLICY_COMPLETE := $(POLICY)/.complete
IMAGE ?= docker.io/crypto-lakehouse/application:1.0.0
BUILDER ?= $(firstword $(foreach name,docker podman buildah,$(shell command -v $(name))))
# The collections that the benchmark of AWS compares this one with.
PEER := .cache/bench-aws/venv
PEER_COMPLETE := $(PEER)/.complete

COMPILE = @$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' Makefile

venv: $(RUNTIME) ## Prepare .venv: Ansible and all that the controller needs, with the collection on its path
	@:

kubernetes: $(KUBE_COMPLETE) ## Add what a cluster needs: kubernetes.core to .venv, helm and kubectl to .cache/kube/bin
	@:

deploy: $(RUNTIME) ## Deploy the platform to this machine, or change what differs
	@$(PLAYBOOK) playbooks/deploy.yml $(ARGS)

plan: $(RUNTIME) ## Show what deploy would change
	@$(PLAYBOOK) playbooks/plan.yml $(ARGS)

drift: $(RUNTIME) ## Fail when deploy would change anything
	@$(PLAYBOOK) playbooks/drift.yml $(ARGS)

health: $(RUNTIME) ## Check every layer and fail when something is unhealthy
	@$(PLAYBOOK) playbooks/health.yml $(ARGS)

verify: $(RUNTIME) ## Prove that data, metrics and alerts go all the way through
	@$(PLAYBOOK) playbooks/verify.yml $(ARGS)

destroy: $(RUNTIME) ## Remove the platform from this machine; data stays (ARGS='-e lakehouse_destroy_data=true' removes it)
	@$(PLAYBOOK) playbooks/destroy.yml -e 'lakehouse_destroy_confirm=$(LAKEHOUSE_ENVIRONMENT)' $(ARGS)

test: $(DEVELOPMENT) ## The gate: every check and every test, side by side
	@$(BIN)/python tools/gate.py test

check: $(DEVELOPMENT) ## The checks and tests that the change in the work tree affects, by imports (ARGS='--base COMMIT')
	@$(BIN)/python tools/gate.py check $(ARGS)

sweep: export LAKEHOUSE_TEST_SWEEP = 1
sweep: $(DEVELOPMENT) ## The gate with every example and every case that it tests samples of; takes hours
	@$(BIN)/python tools/gate.py test

lint: $(DEVELOPMENT) ## Every check that runs nothing of the platform
	@$(BIN)/python tools/gate.py lint

prepare: $(DEVELOPMENT) $(SOFTWARE_COMPLETE) $(KUBE_COMPLETE) $(REGISTRY_COMPLETE) $(K3S_COMPLETE) $(POLICY_COMPLETE) $(BROWSER) $(HOSTS_COMPLETE) ## Prepare every environment and program of the gate
	@:

lint-python: $(DEVELOPMENT) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(DEVELOPMENT) ## mypy --strict on plugins, tools and tests
	$(BIN)/mypy $(COLLECTION)/plugins tools tests

lint-application: $(DEVELOPMENT) $(SOFTWARE_PYTHON) ## mypy --strict on the application
	cd roles/application/files && '$(CURDIR)/$(SOFTWARE)/venv/bin/mypy' --cache-dir=../../../.cache/mypy-application

lint-yaml: $(DEVELOPMENT) ## yamllint
	$(BIN)/yamllint --strict .

lint-ansible: $(DEVELOPMENT) $(KUBE_COMPLETE) ## ansible-lint, production profile
	cd $(COLLECTION) && NO_COLOR=1 ANSIBLE_HOME='$(CURDIR)/.cache/ansible-lint' PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint --offline --strict --profile production

lint-specs: $(DEVELOPMENT) ## Defaults and argument specifications of every role agree
	$(BIN)/python tools/check_argument_specs.py roles

lint-manifests: $(DEVELOPMENT) $(POLICY_COMPLETE) ## Policies of checkov on every object for clusters
	$(BIN)/python tools/check_manifests.py $(POLICY)/bin/checkov

lint-files: $(DEVELOPMENT) ## No tracked file holds a secret or the name of a package registry
	$(BIN)/python tools/check_files.py

lint-words: $(DEVELOPMENT) ## Text for people holds no expression that tools/words.txt rules out
	$(BIN)/python tools/check_words.py

lint-workflows: $(DEVELOPMENT) ## actionlint, and shellcheck on the commands of workflows
	PATH="$(CURDIR)/$(BIN):$$PATH" actionlint

lint-changelog: $(DEVELOPMENT) ## antsibull-changelog
	HOME='$(CURDIR)/.cache' $(BIN)/antsibull-changelog lint

docs-check: $(DEVELOPMENT) ## Documentation of modules, plugins and roles
	cd $(COLLECTION) && HOME='$(CURDIR)/.cache' PATH="$(CURDIR)/$(BIN):$$PATH" antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .

sanity: $(DEVELOPMENT) ## ansible-test sanity
	$(BIN)/python tools/sanity.py $(ARGS)

# Whole blueprints, runs that are killed after each call, every object for every version, playbooks: no part of the everyday loop.
LONG := tests/unit/aws/test_blueprint.py tests/unit/aws/test_wording.py tests/unit/engine/test_convergence.py \
	$(wildcard tests/unit/aws/test_eks*.py)
LONG_KUBE := tests/unit/kube/test_wait.py tests/unit/catalogue/test_kubernetes_schemas.py tests/unit/tools/test_check_manifests.py \
	tests/unit/callback/test_progress.py

# TESTS names test files to run instead of all of a step.
unit: TESTS = tests/unit $(patsubst %,--ignore=%,$(LONG) $(LONG_KUBE))
unit: $(DEVELOPMENT) ## Unit tests, below a minute
	$(PYTEST) -q --numprocesses=auto --dist=loadfile $(TESTS) $(ARGS)

application: TESTS =
application: $(SOFTWARE_COMPLETE) ## Tests of the application, on a real object store and database
	cd roles/application/files && '$(CURDIR)/$(SOFTWARE)/venv/bin/python' -m pytest -q --numprocesses=2 --dist=loadfile \
		--junit-xml='$(CURDIR)/.cache/reports/$@.xml' $(TESTS) $(ARGS)

browser: $(BROWSER) ## Prepare the browser that tests of web pages drive
	@:

hosts: $(HOSTS_COMPLETE) ## Prepare podman and the image of hosts with systemd (as root)
	@:

# One more than cores: now and then something is waited for. More make each other late. tests/integration/groups.py says
# which tests stay together.
INTEGRATION_WORKERS := 3
integration: TESTS = tests/integration --ignore=tests/integration/aws --ignore=tests/integration/kube
integration: export LAKEHOUSE_TEST_SOFTWARE = $(CURDIR)/$(SOFTWARE)
integration: $(DEVELOPMENT) $(SOFTWARE_COMPLETE) $(BROWSER) $(K3S_COMPLETE) $(KUBE_COMPLETE) ## Tests on real servers
	$(PYTEST) -q --numprocesses=$(INTEGRATION_WORKERS) --dist=loadgroup --no-loadscope-reorder $(TESTS) $(ARGS)

aws: TESTS = tests/integration/aws $(LONG)
aws: $(DEVELOPMENT) ## Tests of the AWS part, on emulators
	$(PYTEST) -q --numprocesses=auto --dist=loadfile $(TESTS) $(ARGS)

kube: TESTS = tests/integration/kube $(LONG_KUBE)
kube: export LAKEHOUSE_TEST_PROGRAMS = $(CURDIR)/$(KUBE)/bin
kube: export LAKEHOUSE_TEST_REGISTRY = $(CURDIR)/$(REGISTRY)/usr/bin/docker-registry
kube: $(DEVELOPMENT) $(KUBE_COMPLETE) $(REGISTRY_COMPLETE) ## Tests of the part for clusters, on the API server of KUBECONFIG or KUBEBUILDER_ASSETS where there is one
	$(PYTEST) -q --numprocesses=auto --dist=loadfile $(TESTS) $(ARGS)

molecule: $(DEVELOPMENT) $(HOSTS_COMPLETE) $(K3S_COMPLETE) $(KUBE_COMPLETE) ## Every Molecule scenario (as root)
	$(BIN)/python tools/run_molecule.py --junit-xml=.cache/reports/$@.xml $(ARGS)

bench: $(DEVELOPMENT) $(BENCH_COMPLETE) ## Measure what the README reports (ARGS='--only queries' one part of it)
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-kube: $(DEVELOPMENT) $(KUBE_COMPLETE) ## Compare server-side apply with kubectl and kubernetes.core, on the cluster of KUBECONFIG or KUBEBUILDER_ASSETS
	$(BIN)/python -m tests.benchmarks.kube $(ARGS)

bench-k3s: $(DEVELOPMENT) $(HOSTS_COMPLETE) $(K3S_COMPLETE) $(KUBE_COMPLETE) ## Install a K3s cluster of three servers and two agents twice, on hosts with systemd (as root)
	$(BIN)/python -m tests.benchmarks.k3s $(ARGS)

bench-aws: $(DEVELOPMENT) $(PEER_COMPLETE) ## Compare the foundation on AWS with that of the community's collections
	$(BIN)/python -m tests.benchmarks.aws $(ARGS)

image: ## Build the application's image (IMAGE=, BUILDER=, ARGS='--build-arg BASE=... --secret id=ca,src=...')
	@test -n '$(BUILDER)' || { echo 'docker, podman or buildah is needed' >&2; exit 1; }
	$(BUILDER) build --tag '$(IMAGE)' --file roles/application/files/Containerfile $(ARGS) roles/application/files

services: $(SOFTWARE_COMPLETE) ## Prepare the programs that the tests run
	@:

lock: LOCK_ARGS = $(ARGS)
package: $(RUNTIME) ## Build the collection into .cache/package, install it elsewhere, and run a playbook of it
	@$(BIN)/python tools/package.py .cache/package

lock: $(RUNTIME) ## Write the lock files anew (ARGS=--upgrade takes newer versions)
	$(COMPILE) roles/application/files/pyproject.toml --output-file roles/application/files/requirements.txt
	$(COMPILE) roles/application/files/pyproject.toml roles/host/files/requirements.in \
		--output-file roles/host/files/requirements.txt
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) requirements-dev.in --override requirements-dev-overrides.in --output-file requirements-dev.txt
	$(COMPILE) requirements-test.in --output-file requirements-test.txt
	$(COMPILE) roles/application/files/requirements-build.in --output-file roles/application/files/requirements-build.txt
	$(COMPILE) requirements-policy.in --output-file requirements-policy.txt
	$(subst 3.11,3.12,$(COMPILE)) --no-deps requirements-kube.in --output-file requirements-kube.txt
	$(subst 3.11,3.12,$(COMPILE)) requirements-bench.in --output-file requirements-bench.txt

clean: ## Remove .venv and .cache; a deployed platform stays
	rm -rf .venv .cache

# The stamps are newer than the locks when there is nothing to do, which costs no process at all.
$(RUNTIME): requirements.txt tools/bootstrap.py
	@echo 'Preparing .venv'
	@tools/python tools/bootstrap.py .venv "$$(test -e $(DEVELOPMENT) && echo requirements-dev.txt || echo $<)"
	@touch $@

$(DEVELOPMENT): requirements-dev.txt $(RUNTIME)
	@echo 'Preparing .venv with the development tools'
	@tools/python tools/bootstrap.py .venv $<
	@touch $@

$(SOFTWARE_PYTHON): $(SOFTWARE_LOCKS) roles/application/files/pyproject.toml tools/bootstrap.py
	@echo 'Preparing the Python packages that the tests run'
	@tools/python tools/bootstrap.py --editable roles/application/files $(SOFTWARE)/venv $(SOFTWARE_LOCKS)
	@touch $@

$(SOFTWARE_COMPLETE): $(SOFTWARE_PYTHON) roles/host/files/unpack_packages.py roles/host/files/link_programs.py
	@echo 'Preparing the packages of the distribution that the tests run'
	@packages=$$($(SOFTWARE)/venv/bin/python roles/host/files/unpack_packages.py --state=$(SOFTWARE)/apt \
		--into=$(SOFTWARE)/packages --optional=grafana $(SOFTWARE_PACKAGES)) && \
		$(SOFTWARE)/venv/bin/python roles/host/files/link_programs.py $(SOFTWARE) "$$packages"
	@touch $@

$(KUBE_COMPLETE): requirements-kube.txt tools/bootstrap.py tools/kubernetes_tools.py $(RUNTIME)
	@echo 'Preparing kubernetes.core, helm and kubectl'
	@tools/python tools/bootstrap.py --python-version=3.12 $(KUBE)/venv $<
	@tools/python tools/kubernetes_tools.py $(KUBE)/venv .venv/collections $(KUBE)/bin
	@touch $@

$(REGISTRY_COMPLETE): roles/host/files/unpack_packages.py $(RUNTIME)
	@echo 'Preparing the registry that the tests run'
	@$(BIN)/python roles/host/files/unpack_packages.py --state=.cache/registry/apt --into=$(REGISTRY) docker-registry >/dev/null
	@touch $@

$(K3S_COMPLETE): roles/host/files/unpack_packages.py $(RUNTIME)
	@echo 'Preparing the etcd that the stand-in for K3s runs'
	@$(BIN)/python roles/host/files/unpack_packages.py --state=.cache/k3s/apt --into=$(K3S) etcd-server etcd-client >/dev/null
	@touch $@

$(BENCH_COMPLETE): roles/host/files/unpack_packages.py $(RUNTIME)
	@echo 'Preparing the load generator of the benchmark'
	@$(BIN)/python roles/host/files/unpack_packages.py --state=.cache/bench/apt --into=$(BENCH) wrk libluajit-5.1-2 >/dev/null
	@touch $@

$(BROWSER): tools/browser.py roles/host/files/unpack_packages.py
	@echo 'Preparing the browser that the tests drive'
	@tools/python tools/browser.py $(@D)

$(HOSTS_COMPLETE): tools/systemd_hosts.py tools/bootstrap.py | $(RUNTIME)
	@echo 'Preparing podman and the image of hosts with systemd'
	@$(BIN)/python $< image
	@touch $@

$(POLICY_COMPLETE): requirements-policy.txt tools/bootstrap.py
	@echo 'Preparing checkov'
	@tools/python tools/bootstrap.py $(POLICY) $<
	@touch $@

$(PEER_COMPLETE): requirements-bench.txt tools/bootstrap.py
	@echo 'Preparing the collections that the benchmark compares with'
	@tools/python tools/bootstrap.py $(PEER) $<
	@touch $@

.PHONY: help venv kubernetes browser hosts deploy plan drift health verify destroy test check prepare sweep lint lint-python lint-types lint-application lint-yaml \
	lint-ansible lint-specs lint-manifests lint-files lint-words lint-workflows lint-changelog docs-check sanity unit application integration aws kube molecule bench bench-aws bench-k3s bench-kube \
	image services package lock clean
