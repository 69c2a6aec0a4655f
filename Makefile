# make demo: install and build a small corpus.  make test: the test suite.  Needs Python 3.11 or 3.12.
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 --version >/dev/null 2>&1 && echo python3.12 || echo python3.11)
BIN := .venv/bin
# One thread per process: the suite and the workers are parallel by processes.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test slow crash lint format bench paper clean

demo: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh recipes/demo.sh

test: .venv/installed
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

slow: .venv/installed
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

crash: .venv/installed
	@HF_HUB_OFFLINE=1 $(BIN)/python tests/crash/crash.py

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Made again when what is to be installed changes.
.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (torch is large: a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv corpora paper

bench: .venv/installed
	@$(BIN)/python tests/bench/build.py --json bench-build.json
	@$(MAKE) --no-print-directory paper

# The paper's tables and figures at the size of a laptop, into paper/ (docs/reproduce.md).
paper: .venv/installed
	@PYTHON=$(BIN)/python sh recipes/paper/small.sh paper
