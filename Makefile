# make run    sets everything up and opens the app on the embedded checkpoint
# make test   sets everything up, a browser included, and passes the tests
# The rest is for working on TagLoop itself.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
QUIET := --quiet --disable-pip-version-check
# TAGLOOP_ variables of the person's own must not reach the tests
CLEAN := env $(shell env | sed -n 's/^\(TAGLOOP_[A-Z_]*\)=.*/-u \1/p')

.PHONY: run test test-faults test-slow test-lowest soak audit lock lint format screenshots clean

run: $(VENV)/.runtime
	$(BIN)/python app.py $(ARGS)

test: $(VENV)/.everything lint
	@sh tests/install_chromium.sh
	$(CLEAN) $(BIN)/python -m pytest -m "not faults and not slow" $(ARGS)

# an hour or two, with nothing else to do; FAULTS= for fewer kills and writers, half an hour
FAULTS ?= full
test-faults: $(VENV)/.everything
	@sh tests/install_chromium.sh
	$(CLEAN) FAULTS=$(FAULTS) $(BIN)/python -m pytest -m "faults or demand or planted" --fault-table $(ARGS)

test-slow: $(VENV)/.peers
	@sh tests/install_chromium.sh
	$(CLEAN) $(BIN)/python -m pytest -m slow $(ARGS)

# with the lower bounds of requirements.txt, in an environment of its own
test-lowest: tests/lowest.py
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(PYTHON) tests/lowest.py > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install $(QUIET) -r tests/requirements.txt -c $(VENV)-lowest/lowest.txt
	$(CLEAN) $(VENV)-lowest/bin/python -m pytest -m "not faults and not slow and not browser" $(ARGS)

# an hour unless ARGS="--minutes 5" says otherwise
soak: $(VENV)/.everything
	$(CLEAN) $(BIN)/python -m tests.faults.soak $(ARGS)

# known vulnerabilities of what is locked; asks pypi.org, and fails for what that does not know
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install $(QUIET) pip-audit
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock $(ARGS)

# the newest versions that go together, into requirements.lock; what CI installs and tests
lock:
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install $(QUIET) -r tests/requirements.txt
	{ sed -n '/^#/p' requirements.lock; $(VENV)-lock/bin/python -m pip freeze; } > $(VENV)-lock/new && mv $(VENV)-lock/new requirements.lock
	rm -rf $(VENV)-lock

lint: $(VENV)/.everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(VENV)/.everything
	@sh tests/install_chromium.sh
	@fc-list :lang=zh | grep -q . || { echo "error: no font here has Chinese, and pictures would show boxes. Install one: apt-get install fonts-wqy-zenhei" >&2; exit 2; }
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) $(VENV)-* .pytest_cache .ruff_cache .hypothesis

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "error: TagLoop needs Python 3.11 or newer. Install it, or name one: make PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements.txt requirements.lock
	$(BIN)/python -m pip install $(QUIET) -r requirements.txt -c requirements.lock
	@touch $@

$(VENV)/.peers: $(VENV)/.everything tests/peers.txt
	$(BIN)/python -m pip install $(QUIET) -r tests/peers.txt
	@touch $@

$(VENV)/.everything: $(VENV)/.python requirements.txt requirements.lock tests/requirements.txt
	$(BIN)/python -m pip install $(QUIET) -r tests/requirements.txt -c requirements.lock
	@touch $@
