# make lab             set up, then open notebook 00 in JupyterLab
# make demo            set up, then reconstruct the bundled photo into outputs/
# make test            set up, then run the unit tests and every notebook once
# make test-notebooks  every notebook of both trees, its outputs compared with the stored ones
# make test-all        the slow tests too, and every notebook twice
# make notebooks       make notebooks/ from solutions/ and run both (make notebooks ONLY=03)
# make colab           write the Colab badges: make colab REPO=owner/name [BRANCH=main]
# make setup           set up .venv and nothing else
# make lint            form, who may import whom, and the workflows
# make lock            work requirements.lock out anew (make lock UPGRADE=--upgrade: newer versions)
# make clean           remove caches; .venv and outputs/ stay
#
# Another Python: make PYTHON=python3.12 lab
# More for pytest, and no notebooks: make test ARGS="-k camera"
# More for JupyterLab: make lab ARGS="--no-browser --port 8889"

PYTHON ?= python3
ARGS ?=
UPGRADE ?=
ONLY ?=
REPO ?=
BRANCH ?= main
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# All but dlib, whose weights are for research only.
EXTRAS := train course face-alignment pytorch3d models model
LAB := $(VENV)/.lab
PHOTO := $(firstword $(wildcard $(addprefix facerecon_lib/assets/astronaut.,png jpg jpeg)))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-notebooks test-all lab notebooks colab lock lint clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

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

# With ARGS only what they choose among the unit tests.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)
	@$(if $(strip $(ARGS)),:,$(MAKE) --no-print-directory test-notebooks)

# loadfile: a notebook's cells stay with one worker.
test-notebooks: $(READY)
	$(BIN)/python -m pytest --nbval -n 2 --dist loadfile notebooks solutions

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --slow $(ARGS)
	@$(MAKE) --no-print-directory test-notebooks
	@$(MAKE) --no-print-directory test-notebooks

# An upload of more than the server's own 10 MiB would close the kernel's connection.
lab: $(LAB)
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --notebook-dir=notebooks \
	  --ServerApp.tornado_settings='{"websocket_max_message_size": 104857600}' \
	  --LabApp.default_url=/lab/tree/$(notdir $(firstword $(wildcard notebooks/0*.ipynb))) $(ARGS)

# No question about news at the first start. nbgrader's buttons are for instructors:
# docs/INSTRUCTORS.md says how to have them back. Its own commands for this take 20 s; these two
# files are what they write.
NBGRADER_PARTS := formgrader validate_assignment assignment_list course_list
COMMA := ,
$(LAB): $(READY)
	@mkdir -p $(VENV)/etc/jupyter/labconfig $(VENV)/etc/jupyter/jupyter_server_config.d
	@echo '{"disabledExtensions": {"@jupyter/nbgrader": true,' \
	  '"@jupyterlab/apputils-extension:announcements": true}}' \
	  > $(VENV)/etc/jupyter/labconfig/page_config.json
	@echo '{"ServerApp": {"jpserver_extensions": {"nbgrader": false' \
	  '$(foreach part,$(NBGRADER_PARTS),$(COMMA) "nbgrader.server_extensions.$(part)": false)}}}' \
	  > $(VENV)/etc/jupyter/jupyter_server_config.d/nbgrader.off.json
	@touch $@

notebooks: $(READY)
	$(BIN)/python data_scripts/make_notebooks.py $(addprefix --only ,$(ONLY)) $(ARGS)

colab: $(READY)
	@test -n "$(REPO)" || { echo "colab: say where the course is on GitHub: make colab REPO=owner/name" >&2; exit 1; }
	@$(BIN)/python data_scripts/make_notebooks.py --colab "$(REPO)" --branch "$(BRANCH)"

# --universal: one file for Linux, macOS and Windows; no address of a registry is written into it.
lock: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml $(addprefix --extra ,$(EXTRAS)) --group dev --group no-deps --universal \
	  --python-version 3.11 --fork-strategy fewest --no-emit-package opencv-python \
	  --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
	  --custom-compile-command "make lock" --output-file requirements.lock $(UPGRADE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
