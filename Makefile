SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help

PYTHON ?= python3
MEMES ?=
ARGS ?=
BIN := .venv/bin
GENERATOR := .venv/protos
LOCK := .venv/lock
REQUIREMENTS := gateway search embedder cli
GENERATE = cd protos && ../$(GENERATOR)/bin/python -m grpc_tools.protoc -I. \
	--plugin=protoc-gen-mypy=../$(GENERATOR)/bin/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=../$(GENERATOR)/bin/protoc-gen-mypy_grpc \
	$(foreach kind,python grpc_python mypy mypy_grpc,--$(kind)_out=$(1)) \
	$$(find memetwin -name '*.proto' | sort) 2> >(grep -v '^Writing mypy' >&2)

.PHONY: help install protos docs format lint fresh check test test-long bench bench-gpu up tour down images lock sbom audit

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Install the project and its development tools into .venv

.venv/installed: pyproject.toml deploy/constraints.txt deploy/local/memetwin
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint deploy/constraints.txt --group dev \
		--editable '.[embedder,search,gateway,training,cli]'
	install -m 755 deploy/local/memetwin $(BIN)/memetwin
	touch $@

$(GENERATOR)/installed: deploy/protos.txt | .venv/installed
	test -x $(GENERATOR)/bin/python || $(PYTHON) -m venv $(GENERATOR)
	$(GENERATOR)/bin/python -m pip install --quiet --requirement deploy/protos.txt
	touch $@

protos: $(GENERATOR)/installed ## Generate the Python stubs from the protos
	rm -rf protos/gen && mkdir -p protos/gen
	$(call GENERATE,gen)

docs: install ## Write the generated parts of the documentation
	$(BIN)/python -m tools.docs

format: install ## Format the code and fix what can be fixed automatically
	$(BIN)/ruff format services tests deploy tools
	$(BIN)/ruff check --fix services tests deploy tools
	$(BIN)/buf format protos --write --exclude-path protos/gen

lint: install ## Check style, types, import rules and protos
	$(BIN)/ruff format --check services tests deploy tools
	$(BIN)/ruff check services tests deploy tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/published.binpb

fresh: $(GENERATOR)/installed ## Fail if the committed stubs differ from the protos
	rm -rf .memetwin/gen && mkdir -p .memetwin/gen
	$(call GENERATE,../.memetwin/gen)
	diff -r --exclude=__pycache__ protos/gen .memetwin/gen

check: lint fresh ## Run lint and fresh, and check the documentation
	$(BIN)/python -m pytest --quiet tests/unit/docs

test: install ## Run the tests against a real Redis, except those that take minutes
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/faults
	$(BIN)/python -m pytest tests/faults
endif

test-long: install ## Run the tests that take minutes
	$(BIN)/python -m pytest -m long $(ARGS)

bench: install ## Run the benchmarks and print the tables of tests/bench/RESULTS.md
	$(BIN)/python -m tests.bench $(ARGS)

bench-gpu: install ## Benchmark the embedder on the GPU of this machine
	$(BIN)/python -m tests.bench.gpu

up: install ## Start the stack, load the demo (and MEMES=FOLDER), print the addresses
	$(BIN)/python -m deploy.local up
	$(BIN)/memetwin load --demo
	$(if $(MEMES),$(BIN)/memetwin load "$(MEMES)")

tour: install ## Show what the running stack can do
	$(BIN)/memetwin tour

screenshots: install ## Take the documentation's pictures of the running stack
	$(BIN)/python -m tools.screenshots

down: install ## Stop the stack
	$(BIN)/python -m deploy.local down

images: ## Build the three container images
	for service in embedder search gateway; do \
		docker build --file deploy/docker/Dockerfile --target $$service --tag memetwin/$$service . ; \
	done

$(LOCK)/installed: deploy/lock.txt | .venv/installed
	test -x $(LOCK)/bin/python || $(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --requirement deploy/lock.txt
	touch $@

lock: $(LOCK)/installed ## Write the images' pinned requirements with hashes
	$(BIN)/python -m tools.lock $(LOCK)/bin/uv

sbom: $(LOCK)/installed ## Write a CycloneDX bill of materials of each image to .memetwin/sbom
	mkdir -p .memetwin/sbom
	for name in $(REQUIREMENTS); do \
		{ cat deploy/requirements/$$name.txt; \
			if [ $$name = embedder ]; then grep '^torch==' deploy/constraints.txt; fi; } | \
		$(LOCK)/bin/cyclonedx-py requirements - --pyproject pyproject.toml --output-reproducible \
			--output-format JSON --output-file .memetwin/sbom/$$name.json ; \
	done

audit: $(LOCK)/installed ## Look for known vulnerabilities in the images' requirements
	for name in $(REQUIREMENTS); do \
		$(LOCK)/bin/pip-audit --require-hashes --disable-pip --progress-spinner off \
			--requirement deploy/requirements/$$name.txt ; \
	done
