# The whole project from three commands; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
SOAK ?= 5m
# Of tests, as most of them wait for something most of the time: with 3 two cores are idle for half of it. 0: none but
# pytest itself.
WORKERS ?= 5
RUN_TESTS = -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)
# On the second Python, when all is tested: not what is the same there, as other programs' views and most faults are.
ON_SECOND = unit golden integration ocs faults/input
SECOND_TESTS = $(if $(strip $(PYTEST)),,$(addprefix tests/,$(ON_SECOND)))
.PHONY: help demo demo-ocs test test-second schema soak lint format bench bench-long clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: .venv/.ready  ## a night in half a minute: broker, two streams, ingest, archiver, and proof
	@$(BIN)/python -m testbed.demo

demo-ocs: .venv/.ready  ## the recorder as OCS agents: crossbar, streams, and ocs-client-cli talking to them
	@$(BIN)/python -m testbed.demo.ocs

test: .venv/.ready  ## the whole test suite, on two Pythons; a part, on one: make test PYTEST=…
	$(BIN)/python $(RUN_TESTS)
ifeq ($(strip $(PYTEST)),)
	@$(MAKE) --no-print-directory test-second
endif

test-second: .venv/.ready  ## the same on the second one: the newest Python here, or the oldest that we support
	@second=$$($(BIN)/python tests/support/second_python.py) && { test -z "$$second" || { set -x; $$second $(RUN_TESTS) $(SECOND_TESTS); }; }

schema: .venv/.ready  ## write docs/g3.files.schema.json anew, after a change of archiver/core/events.py
	$(BIN)/python -m archiver.core.events > docs/g3.files.schema.json

soak: .venv/.ready  ## random faults one after another, for as long as is told: make soak SOAK=30m
	@$(BIN)/python -m tests.faults.soak --for $(SOAK)

lint: .venv/.ready  ## ruff, ruff format, mypy --strict, and the laws of the architecture (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

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
	rm -rf .venv .venv-second .kafka data/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[demo,ocs,socs,test,lint]'
	touch $@
