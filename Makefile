# make demo    see it work
# make lstm    a TensorFlow model between MQTT and Kafka, code from git, compared with plain Keras
# make check   while working: lint and the fast tests
# make test    before a change is done: everything, with real brokers
# make chaos   the long form of the end-to-end tests, under faults; SEEDS=3 for more of them
# make fuzz    the long form of the fuzzing of the REST interface: thousands of requests
# make bench   figures against peers measured in the same run (ROWS=mqtt,hop for some of them)

PYTHON ?= python3
# Compiled modules are kept: compiling the tests anew each time would be a third of `make check`.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin

.PHONY: .venv demo lstm check lint test chaos fuzz bench clean

.venv: .venv/ready-dev

# .venv/ready-EXTRA: the environment holds what the extra of that name in pyproject.toml asks for.
.venv/ready-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Fogline needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv ..."
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --editable '.[$*]'
	@touch $@

demo: .venv/ready-demo
	$(BIN)/coord demo

lstm: .venv/ready-dev
	tests/install-real-parts.sh
	$(BIN)/python tests/servers.py --do $(BIN)/python examples/lstm-anomaly/run.py --mqtt {mqtt} --kafka {kafka}

check: .venv/ready-dev
	$(BIN)/ruff check
	$(BIN)/python -m pytest -q --numprocesses auto -m "not broker and not e2e"

lint: .venv/ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: .venv/ready-dev
	tests/install-real-parts.sh
	$(MAKE) lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

SEEDS ?= 1
chaos: .venv/ready-dev
	tests/install-real-parts.sh
	PYTHONPATH=tests $(BIN)/python tests/chaos/run.py --seeds $(SEEDS)

fuzz: .venv/ready-dev
	tests/install-real-parts.sh
	PYTHONPATH=tests $(BIN)/python tests/clients/schemathesis_full.py

bench: .venv/ready-dev
	tests/install-real-parts.sh
	PYTHONPATH=tests $(BIN)/python -m bench --rows "$(ROWS)"

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
