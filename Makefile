# Every target prints what it runs. PYTHON chooses the interpreter that makes .venv (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests use one thread per process: more threads than cores cost a factor of ten.
ONE := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
FAST := $(ONE) $(BIN)/python -m pytest --jaxtyping-packages=glassworks,beartype.beartype

.PHONY: setup run check test fast slow gpu bench docs clean

run: $(VENV)/.ready
	$(BIN)/glassworks reproduce birth --scale laptop --only main --only theory --only width

setup: $(VENV)/.ready

# torch comes first and pinned, the rest is the set that was tested together. On Linux the public index serves the CUDA
# build of torch; for the small CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

check: $(VENV)/.ready
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: check fast slow

fast: $(VENV)/.ready
	$(FAST) -n 2 -q

slow: $(VENV)/.ready
	$(ONE) $(BIN)/python -m pytest -m slow -q

gpu: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu -q

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

docs: $(VENV)/.ready
	$(ONE) $(BIN)/python -m pytest tests/docs -q

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache
