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

.PHONY: setup run studio pages check check-types check-rest test fast slow nightly browser gpu bench docs docs-serve notebooks wheel faults soak estimates fuzz lock audit sbom clean

run: $(VENV)/.ready
	$(BIN)/glassworks reproduce birth --scale laptop --only main --only theory --only width

studio: setup
	$(BIN)/glassworks studio

setup: $(VENV)/.ready $(PAGES)

# torch comes first and pinned, the rest is the set that was tested together, each file held against its hash. On Linux the public index serves the CUDA
# build of torch; for the small CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

pages: $(PAGES)

web/node_modules/.ready: web/package.json web/package-lock.json | $(VENV)/.ready
	$(NPM) ci --no-audit --no-fund --silent
	touch $@

$(PAGES): $(shell find web/src web/build web/public -type f 2>/dev/null) web/index.html web/vite.config.ts web/node_modules/.ready
	$(NPM) run build --silent

# The checker of types takes one core for a minute, those of the pages the other.
check: setup
	$(MAKE) --no-print-directory -j 2 check-types check-rest

check-types: setup
	$(BIN)/basedpyright

check-rest: setup
	$(BIN)/ruff format --check src tests benchmarks faults fuzz supply docs
	$(BIN)/ruff check src tests benchmarks faults fuzz supply docs
	$(BIN)/lint-imports
	$(NPM) run check --silent
	$(NPM) test --silent

test: check fast slow

# The tests of the pages need a browser; without the right to install one they are skipped, and say so.
browser:
	command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || echo "no chromium: tests of the pages will be skipped"

fast: setup
	$(FAST) -n 2 -q

# 8 bits: in a folder apart, for the other libraries load it wherever they find it, and seconds with it.
$(VENV)/quantized: supply/quantized.txt | $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $@ -r supply/quantized.txt

slow: setup browser $(VENV)/quantized
	$(BIN)/python -m tests.fetch
	$(ONE) $(BIN)/python -m pytest -m "slow and not nightly" -n 2 --dist loadgroup -q

# What takes longer than CI has time for: more commands killed, larger models foretold, sharded stages, Ray.
nightly: setup browser $(VENV)/quantized
	$(BIN)/python -m tests.fetch all
	$(ONE) $(BIN)/python -m pytest -m nightly -n 2 --dist loadgroup -q

gpu: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu -q

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks $(BENCH)

SITE := NO_MKDOCS_2_WARNING=1 $(ONE) $(BIN)/mkdocs
# The site into site/ (about 20 s, no network), after its pages, examples and links were tested.
docs: $(VENV)/.ready
	$(ONE) $(BIN)/python -m pytest tests/docs -q
	$(SITE) build --strict --quiet --site-dir site

docs-serve: $(VENV)/.ready
	$(SITE) serve --dev-addr 127.0.0.1:8000

# Runs the notebooks and keeps what they print.
notebooks: $(VENV)/.ready
	$(ONE) $(BIN)/python docs/website/run_notebooks.py

# The wheel in a new environment, its packages fetched by pip (minutes). CI does a short form with links to what is installed.
wheel: setup
	GLASSWORKS_WHEEL=fetched $(ONE) $(BIN)/python -m pytest tests/docs/test_wheel.py -m slow -q

# What was injected (kills, full disks, signals, ...) and what happened: docs/guide/24-hard-to-break.md.
faults: $(VENV)/.ready
	$(ONE) $(BIN)/python -m faults

# Ten thousand examinations in one process: memory, files and threads stand still (ten minutes).
soak: $(VENV)/.ready
	$(ONE) $(BIN)/python -m faults.soak

# Memory and time foretold before a model is loaded, beside what then happens, on five sizes (minutes).
estimates: $(VENV)/.ready
	GLASSWORKS_ALL_SIZES=1 $(ONE) $(BIN)/python -m pytest tests/instruments/test_estimate.py -m slow -s -q

# Coverage-guided fuzzing of everything that reads what somebody else wrote (minutes).
fuzz: $(VENV)/.ready
	$(ONE) $(BIN)/python -m fuzz

# The supply chain: constraints.txt resolved anew; known vulnerabilities (needs the network); bills of materials and licences.
lock audit: $(VENV)/.ready
	$(BIN)/python -m supply $@

sbom: setup
	$(BIN)/python -m supply sbom

clean:
	rm -rf $(VENV) site web/node_modules src/glassworks/studio/static .pytest_cache .ruff_cache .import_linter_cache
