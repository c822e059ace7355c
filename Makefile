# `make demo` and `make test` install what they need into .venv first.

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types contracts tests docs format bench pins arm dist clean distclean

BIN := .venv/bin
STAMP := .venv/.installed
PYTHON ?=
TORCH ?=
# Further arguments: make demo ARGS="--headless --seconds 5", make tests ARGS="tests/nire -x"
ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the interpreter, TORCH=cpu|cuda the build of torch, ARGS=... goes to the command"

# An installation that is older than one of these files is brought up to date.
$(STAMP): pyproject.toml setup.py constraints.txt requirements.txt .ci/setup
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" bash .ci/setup
	@touch $@

# PYTHON= or TORCH= on the command line runs the installation again.
ifeq ($(MAKELEVEL),0)
ifneq ($(filter command,$(origin PYTHON) $(origin TORCH)),)
.PHONY: $(STAMP)
endif
endif

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## run the whole pipeline on the synthetic camera; leaves pictures in out/demo
	@$(BIN)/nire-live demo $(ARGS)

test: $(STAMP) ## all checks: lint, types, import contracts, tests
	@bash .ci/check

lint: $(STAMP) ## format and lint, changing nothing
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/ruff format --check . || status=1; exit $$status

types: $(STAMP) ## types, strict
	$(BIN)/mypy

contracts: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

tests: $(STAMP) ## only the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

docs: $(STAMP) ## the documentation as a site: out/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(STAMP) ## format the code, and apply the fixes that ruff is sure of
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure this machine; ARGS="end_to_end --json out/bench.json" chooses
	@$(BIN)/nire-live bench $(ARGS)

# torch is not among them: .ci/setup says why. Nor is what only the extras `genicam`, `rerun`, `ray` and `tensorrt` need.
pins: ## write requirements.txt: the versions of constraints.txt with the hashes of their files, for `make install`
	python3 -m venv out/pins && out/pins/bin/pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make pins" out/pins/bin/uv pip compile --quiet --no-config --no-deps --no-annotate \
		--generate-hashes --no-emit-package torch --no-emit-package harvesters --no-emit-package genicam \
		--no-emit-package rerun-sdk --no-emit-package ray --no-emit-package torch-tensorrt \
		constraints.txt --output-file requirements.txt

# Only looked up, in the index: nothing is installed, and nothing runs on ARM.
arm: ## look up that each pin of the base installation has a wheel for Linux on ARM (aarch64, glibc 2.28)
	python3 -m venv out/pins && out/pins/bin/pip install --quiet uv
	@status=0; for version in 3.11 3.12 3.13; do \
		out/pins/bin/uv pip compile --quiet --no-config --no-annotate --no-header --only-binary :all: \
			--python-platform aarch64-manylinux_2_28 --python-version $$version \
			--constraint constraints.txt pyproject.toml --output-file out/pins/arm-$$version.txt >/dev/null || status=1; \
	done; [ $$status = 0 ] && wc -l out/pins/arm-*.txt; exit $$status

dist: $(STAMP) ## build the source distribution and the wheel, in dist
	$(BIN)/python -m build --no-isolation

clean: ## remove outputs and caches
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## also remove .venv
	rm -rf .venv
