# make demo     set up, then reconstruct the bundled photo into outputs/
# make test     set up, then run the tests
# make test-all the slow ones too
# make lab      set up, then open the notebooks in JupyterLab
# make lock     work requirements.lock out anew (make lock UPGRADE=--upgrade for newer versions)
# make lint     ruff over everything
# make clean    remove outputs and caches; .venv stays
#
# Another Python: make PYTHON=python3.12 test. More for pytest: make test ARGS="-k camera"

PYTHON ?= python3
ARGS ?=
UPGRADE ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PHOTO := $(firstword $(wildcard $(addprefix facerecon_lib/assets/astronaut.,png jpg jpeg)))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all lab lock lint clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup: $(READY)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "set-up: Python 3.11, 3.12 or 3.13 is needed, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | tail -n 1); run: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "set-up: '$(PYTHON)' comes without venv; install it (Debian, Ubuntu: apt install python3-venv) or run: make PYTHON=/path/to/another" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

# --no-compile: Python compiles what is imported on first use, a small part of what is installed.
$(READY): requirements.lock pyproject.toml | $(BIN)/python
	@echo "set-up: installing what requirements.lock lists into $(VENV) (some minutes the first time, about 7 GB)"
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@
	@echo "set-up: ready"

demo: $(READY)
	@test -n "$(PHOTO)" || { echo "demo: facerecon_lib/assets holds no astronaut photo" >&2; exit 1; }
	$(BIN)/facerecon fit $(PHOTO) --out outputs

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest --slow $(ARGS)

lab: $(READY)
	@if test -d notebooks; then $(BIN)/jupyter lab --notebook-dir=notebooks; \
	  else echo "lab: the notebooks folder is not there yet"; fi

# --universal: one file for Linux, macOS and Windows; no address of a registry is written into it.
lock: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group no-deps --universal \
	  --python-version 3.11 --fork-strategy fewest --no-emit-package opencv-python \
	  --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
	  --custom-compile-command "make lock" --output-file requirements.lock $(UPGRADE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf outputs build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
