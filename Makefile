# Two commands: `make demo` (clean machine -> trained, evaluated model and report) and
# `make test`. Both make their own environment in .venv; PYTHON names the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo demo-full demo-real test lint clean

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) scripts/demo.sh demo

# At most two hours on two cores.
demo-full: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) scripts/demo.sh full

# MANIFEST=... names a catalogue of your own or any other.
demo-real: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) MANIFEST=$(MANIFEST) scripts/demo.sh real

test: $(READY)
	$(BIN)/python -m pytest tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(OUT)
