# Every target prints what it runs. PYTHON chooses the interpreter that makes .venv (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests use one thread per process: more threads than cores cost a factor of ten.
ONE := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
FAST := $(ONE) $(BIN)/python -m pytest --jaxtyping-packages=glassworks,beartype.beartype

PAGES := src/glassworks/studio/static/index.html
# Node comes from a Python package, into the same folder as Python. It brings certificates of its own; behind a company's
# proxy only those of the system will do, as pip and curl take them.
NPM := NODE_USE_SYSTEM_CA=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm --prefix web

.PHONY: setup run studio pages check test fast slow browser gpu bench docs clean

run: $(VENV)/.ready
	$(BIN)/glassworks reproduce birth --scale laptop --only main --only theory --only width

studio: setup
	$(BIN)/glassworks studio

setup: $(VENV)/.ready $(PAGES)

# torch comes first and pinned, the rest is the set that was tested together. On Linux the public index serves the CUDA
# build of torch; for the small CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

pages: $(PAGES)

web/node_modules/.ready: web/package.json web/package-lock.json | $(VENV)/.ready
	$(NPM) ci --no-audit --no-fund --silent
	touch $@

$(PAGES): $(shell find web/src web/build web/public -type f 2>/dev/null) web/index.html web/vite.config.ts web/node_modules/.ready
	$(NPM) run build --silent

check: setup
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(NPM) run check --silent
	$(NPM) test --silent

test: check fast slow

# The tests of the pages need a browser; without the right to install one they are skipped, and say so.
browser:
	command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || echo "no chromium: tests of the pages will be skipped"

fast: setup
	$(FAST) -n 2 -q

slow: setup browser
	$(ONE) $(BIN)/python -m pytest -m slow -n 2 -q

gpu: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu -q

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

docs: $(VENV)/.ready
	$(ONE) $(BIN)/python -m pytest tests/docs -q

clean:
	rm -rf $(VENV) web/node_modules src/glassworks/studio/static .pytest_cache .ruff_cache .import_linter_cache
