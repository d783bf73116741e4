# The verbs of this project. Each installs what it needs into .venv; nothing else is touched.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-long test-k8s test-chart k8s-tools coverage check audit format docs bench lock clean

demo: .venv/run  ## the whole thing, on the embedded broker
	@$(BIN)/thorn-stream demo $(ARGS)

test: .venv/dev  ## what is quick; parts that need Java are skipped, and say so, where it is missing
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not long and not k8s" $(ARGS)

test-long: .venv/dev  ## what takes minutes as well
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest $(ARGS)

test-k8s: .venv/dev  ## the chart, the alerts and the image's file, with the tools of k8s-tools
	THORN_REQUIRE_K8S=1 $(BIN)/python -m pytest -m k8s tests/k8s $(ARGS)

test-chart: .venv/dev  ## the part of it that .ci/run takes: needs no more than `make k8s-tools ARGS=check`
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/k8s/test_chart.py tests/k8s/test_live.py $(ARGS)

k8s-tools:  ## builds them once into $$TOOLS_DIR (~/.cache/thorn-stream/tools): minutes; needs Go and apt-get
	nice -n 19 tests/k8s/tools $(ARGS)

coverage: .venv/dev  ## of lines and branches, by what `make test` runs, processes included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m "not long" $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90
	$(BIN)/coverage report --fail-under=95 --include="thorn_stream/core/*"
	$(BIN)/python -m tests.support.exclusions

check: .venv/dev  ## format, lint, types, import contracts, reference pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m thorn_stream.ops.reference --check docs/reference

audit: .venv/bin/python  ## known vulnerabilities of what is pinned; says what could not be checked
	@$(BIN)/python .ci/audit

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev  ## CPU per delivery against a bare socket, in one run; more: docs/performance.md
	$(BIN)/python -m bench $(ARGS)

docs: .venv/dev  ## the reference pages and what the chart has of the code, made from the code
	$(BIN)/python -m thorn_stream.ops.reference docs/reference
	$(BIN)/python -m tests.k8s.generate

lock: .venv/dev  ## pin what is installed, with hashes
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile $(PIN) --output-file requirements/image.lock pyproject.toml
	$(BIN)/pip-compile $(PIN) --extra dev --output-file requirements/dev.lock pyproject.toml

PIN := --quiet --generate-hashes --strip-extras --no-header --no-annotate --upgrade \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"thorn_stream needs Python 3.11 or later, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv

.venv/run: requirements/image.lock pyproject.toml | .venv/bin/python
	@echo "installing into .venv ..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements/image.lock
	@$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

.venv/dev: requirements/dev.lock pyproject.toml | .venv/bin/python
	@echo "installing into .venv ..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	@$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@ .venv/run

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
