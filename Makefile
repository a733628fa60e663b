# make run    sets everything up and opens the app on the embedded checkpoint
# make test   sets everything up, a browser included, and passes the tests
# The rest is for working on TagLoop itself.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# TAGLOOP_ variables of the person's own must not reach the tests
CLEAN := env $(shell env | sed -n 's/^\(TAGLOOP_[A-Z_]*\)=.*/-u \1/p')

.PHONY: run test test-faults test-slow lint format screenshots clean

run: $(VENV)/.runtime
	$(BIN)/python app.py $(ARGS)

test: $(VENV)/.everything lint
	@sh tests/install_chromium.sh
	$(CLEAN) $(BIN)/python -m pytest -m "not faults and not slow" $(ARGS)

test-faults: $(VENV)/.everything
	@sh tests/install_chromium.sh
	$(CLEAN) $(BIN)/python -m pytest -m "faults or demand or planted" --fault-table $(ARGS)

test-slow: $(VENV)/.peers
	@sh tests/install_chromium.sh
	$(CLEAN) $(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(VENV)/.everything
	@sh tests/install_chromium.sh
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "error: TagLoop needs Python 3.11 or newer. Install it, or name one: make PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.peers: $(VENV)/.everything tests/peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/peers.txt
	@touch $@

$(VENV)/.everything: $(VENV)/.python requirements.txt tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@
