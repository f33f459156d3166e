# The whole project from three commands; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
SOAK ?= 5m
# Of tests, as most of them wait for something most of the time; 0: none but pytest itself.
WORKERS ?= 3
.PHONY: help demo demo-ocs test schema soak lint format bench bench-long clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/.ready  ## a night in half a minute: broker, two streams, ingest, archiver, and proof
	@$(BIN)/python -m compose.demo

demo-ocs: .venv/.ready  ## the recorder as OCS agents: crossbar, streams, and ocs-client-cli talking to them
	@$(BIN)/python -m compose.demo_ocs

test: .venv/.ready  ## the whole test suite, on a real broker
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

schema: .venv/.ready  ## write docs/g3.files.schema.json anew, after a change of archiver/event.py
	$(BIN)/python -m archiver.event > docs/g3.files.schema.json

soak: .venv/.ready  ## random faults one after another, for as long as is told: make soak SOAK=30m
	@PYTHONPATH=tests/integration $(BIN)/python tests/faults/soak.py --for $(SOAK)

lint: .venv/.ready  ## ruff, ruff format, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready  ## let ruff order imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.ready  ## speed, lateness, CPU, memory, beside what a user would run instead: make bench BENCH='--only both'
	@$(BIN)/python -m bench $(BENCH)

bench-long: .venv/.ready  ## how wide it goes, and how cost grows: an hour; make bench-long WIDE='--only group'
	@$(BIN)/python -m bench.wide $(WIDE)
	@$(BIN)/pip install --quiet --editable '.[bench]'
	@$(BIN)/python -m bench.plots

clean:  ## remove the environment and everything made here
	rm -rf .venv .kafka data/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[demo,ocs,test,lint]'
	touch $@
