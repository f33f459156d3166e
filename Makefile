# The whole project from three commands; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(PYTHON) packaging/environment.py

.DEFAULT_GOAL := help
SOAK ?= 5m
BARE ?= 1
# Processes that run tests. Most tests wait most of the time: with 3 processes two cores are idle for half of it. 0: only
# pytest itself.
WORKERS ?= 5
PART ?= 1/1
# A Python that may write no bytecode compiles a program's modules at each of thousands of starts, and the tests' own in
# each process.
unexport PYTHONDONTWRITEBYTECODE
RUN_TESTS = -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Tests that run on the second Python, too: not those that don't depend on Python, such as most faults; of those of real
# programs, the client library's and bad input's. With the commands' and the agents' they took 5 to 8 of the 30 minutes
# that there are.
ON_SECOND = unit golden integration/client faults/input
SECOND_TESTS = $(if $(strip $(PYTEST)),$(PYTEST),$(addprefix tests/,$(ON_SECOND)))
.PHONY: help demo demo-ocs test test-slow test-second schema figures man pictures soak lint format bench bench-long docs dist image bare clean

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: .venv/.demo  ## a night in half a minute, and a check of its files
	@$(BIN)/python -m testbed.demo

demo-ocs: .venv/.ready  ## the same as OCS agents, with crossbar and ocs-client-cli
	@$(BIN)/python -m testbed.demo.ocs

test: .venv/.ready  ## all tests but the slow ones; some, slow or not: make test PYTEST=…
	$(BIN)/python $(RUN_TESTS) $(if $(strip $(PYTEST)),$(PYTEST),-m 'not slow')

test-slow: .venv/.ready  ## the slow ones; half of them: PART=1/2, then PART=2/2
	$(BIN)/python $(RUN_TESTS) -m slow --part $(PART)

test-second: .venv/.ready  ## what depends on Python, on a second one: the newest here, or 3.11
	@second=$$($(BIN)/python tests/support/second_python.py) && { test -z "$$second" || { set -x; $$second $(RUN_TESTS) $(SECOND_TESTS); }; }

schema: .venv/.ready  ## regenerate docs/reference/g3.files.schema.json from the code
	$(BIN)/python -m archiver.core.events > docs/reference/g3.files.schema.json

figures: .venv/.ready  ## redraw what docs/understand/segmentation.md shows of the code
	@$(BIN)/python -m tests.figures

man: .venv/.ready  ## the man pages of all commands, in build/man
	@$(BIN)/python packaging/man_pages.py build/man

pictures: .venv/.ready  ## look at the page: screenshots of a simulated night, in build/page
	@$(BIN)/python -m tests.web.screenshots build/page

soak: .venv/.ready  ## random faults one after another: make soak SOAK=30m
	@$(BIN)/python -m tests.faults.soak --for $(SOAK)

lint: .venv/.ready  ## ruff, mypy --strict, and the laws of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: .venv/.ready  ## sort imports and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.ready  ## speed, latency, CPU, memory: make bench BENCH='--only both'
	@$(BIN)/python -m bench $(BENCH)

bench-long: .venv/.ready  ## many streams, growth: make bench-long WIDE='--only group'
	@$(BIN)/python -m bench.wide $(WIDE)
	@$(INSTALL) bench
	@$(BIN)/python -m bench.plots

docs: .venv/.ready  ## the site of docs/, in build/site; warnings are errors
	@$(INSTALL) docs
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/site

dist: .venv/.ready  ## wheel and sdist in build/dist, checked and tried
	@$(INSTALL) dist
	@$(BIN)/python packaging/distribution.py build/dist

# A tag of an image may have no "+", which a version between two releases has.
image: .venv/.ready  ## the container image, with its version, labels and SBOM
	@$(INSTALL) dist
	@version=$$($(BIN)/python -m setuptools_scm) && set -x && docker build --file compose/Dockerfile \
	  --build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) --tag g3-recorder:$$(echo $$version | tr + -) .

bare:  ## README's commands on a bare Debian 12 and 13, as root: make bare BARE=10
	@$(PYTHON) packaging/bare.py --times $(BARE) $(if $(strip $(PYTEST)),--tests '$(PYTEST)')

clean:  ## remove the environments and everything generated
	rm -rf .venv .venv-second .kafka build demo .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# What the demo needs, in seconds; and what everything else needs, in minutes.
.venv/.demo: pyproject.toml
	@$(INSTALL) demo
	@touch $@

.venv/.ready: pyproject.toml | .venv/.demo
	@$(INSTALL) demo,ocs,socs,web,test,browser,lint
	@touch $@
