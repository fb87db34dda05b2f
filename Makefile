# Each target is enough by itself on a fresh machine: it makes .venv, installs the package with the
# versions in constraints.txt, and then does its work. Needs Python >= 3.11 and nothing else.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= quick
WORKERS ?= 2
RESULTS ?= results/$(SCALE)
PYTEST_WORKERS ?= 2
# `make evidence` takes what these folders hold; those that are not here are passed over.
SHIPPED ?= $(wildcard results/quick results/paper)
INPUTS := pyproject.toml constraints.txt
# The --out folders of finished runs that `make zoo` and `make release` read.
STORE ?=
# `make check` runs the tests of one folder below tests/ and the examples of the same room.
ROOM ?=
NOT_NOW := not slow and not gpu and not peers and not browser
# Neighbours stay on one worker, so that what a file of tests shares is made once.
SPREAD := -n $(PYTEST_WORKERS) --dist worksteal

# Several numerical threads in each of several processes slow one another down many times over.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help reproduce evidence readme test test-browser test-peers peers leaderboard board lint check room bench gpu docs zoo release clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce      rerun the papers at scale quick and write the report"
	@echo "make test           run the tests"
	@echo "make test-browser   run the tests that look at pages in a headless Chromium, where there is one"
	@echo "make test-peers     run the tests that need other attack libraries, in an environment of theirs"
	@echo "make test-package   install wheel and sdist into empty environments and run them"
	@echo "make test-versions  run the quick tests with the oldest and the newest torch"
	@echo "make leaderboard    rank attacks, those of other libraries too, over classifiers with known errors"
	@echo "make lint           check style and types"
	@echo "make check          style, types and the tests of one room: make check ROOM=attacks"
	@echo "make bench          time everything against its rivals and write docs/speed.md"
	@echo "make gpu            what is worth computing on a graphics card, in pieces of ten minutes"
	@echo "make docs           build the documentation"
	@echo "make evidence       copy what reports need from results/ into evidence/"
	@echo "make readme         write the tables of claims into README.md and docs/verdicts.md"
	@echo "make zoo            add entries to the zoo: make zoo STORE='results/paper results/quick'"
	@echo "make release        build and check wheel and sdist; archives of results into release/"
	@echo "make clean          remove everything that can be made again, except results"

reproduce: $(VENV)/.installed
	$(BIN)/trueboundary reproduce --scale $(SCALE) --workers $(WORKERS) --out $(RESULTS)

evidence: $(VENV)/.installed
	$(BIN)/trueboundary ship $(SHIPPED) --into evidence

readme: $(VENV)/.installed
	$(BIN)/trueboundary report evidence --readme README.md --scales docs/verdicts.md

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SPREAD) --doctest-modules tests src \
	  -m "$(NOT_NOW)"

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 0 tests -m "browser and not slow"

# Each is built, installed where nothing else is, and asked for a number, a card and a report.
test-package: $(VENV)/.installed
	rm -rf build/package build/empty
	$(BIN)/python -m pip install -q -c constraints.txt build
	$(BIN)/python -m build --outdir build/package . >/dev/null
	set -e; for file in build/package/trueboundary-*; do echo "$$file"; \
	  $(BIN)/python -m venv --clear build/empty; \
	  build/empty/bin/python -m pip install -q -c constraints.txt "$$file"; \
	  build/empty/bin/trueboundary theory cap --dim 500 --distance 0.18; \
	  build/empty/bin/trueboundary audit model mnist-0-6-symmetric-linear-svm \
	    --problem mnist-0-6-symmetric --n-points 2; \
	  build/empty/bin/trueboundary run spheres-fraction --scale smoke --out build/empty/results; \
	done

# Torches of the package index, with their CUDA libraries: some 6 GB of disk for each.
TORCHES ?= 2.10.0 2.14.1
test-versions:
	@set -e; for version in $(TORCHES); do \
	  $(MAKE) --no-print-directory VENV=.venv-torch-$$version TORCH=$$version versions; done

versions: $(VENV)/.installed-torch
	$(BIN)/python -m pytest -q $(SPREAD) tests -m "$(NOT_NOW) and not cluster"

leaderboard:
	@$(MAKE) --no-print-directory VENV=.venv-peers board

# Attacks of which a point costs up to some 4,000 evaluations; `all` in their place takes hours.
ATTACKS ?= NearestError NearestError-3-starts DDN FMN DeepFool CarliniWagnerL2-3x100 \
  LogDensityGradient ManifoldAttack HopSkipJump \
  $(addprefix foolbox:,CW-3x500 CW-9x1000 DDN-100 FMN-100 DeepFool-50 EAD-9x100 NewtonFool-100 \
    MI-FGSM-10 FGM) \
  $(addprefix art:,CW-10x10 DeepFool-100 NewtonFool-100) \
  $(addprefix torchattacks:,CW-500 DeepFool-50 FAB-100 EAD-9x100) \
  $(addprefix adv_lib:,DDN-100 DDN-100-quantised FMN-100 DeepFool-100 SuperDeepFool-100 ALMA-500 \
    PDGD-500 FAB-100 TR-1000)

board: $(VENV)/.installed-peers
	$(BIN)/python -m trueboundary audit attack $(ATTACKS) --out results/leaderboard \
	  --json docs/leaderboard.json --figure docs/images/leaderboard.png --page docs/leaderboard.md

test-peers:
	@$(MAKE) --no-print-directory VENV=.venv-peers peers

peers: $(VENV)/.installed-peers
	$(BIN)/python -m pytest $(SPREAD) tests -m "peers and not gpu"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: room lint
	$(BIN)/python -m pytest $(SPREAD) --doctest-modules tests/$(ROOM) \
	  $(wildcard src/trueboundary/$(ROOM)) -m "$(NOT_NOW) and not cluster"

room:
	@test -f "$(firstword $(wildcard tests/$(ROOM)/test_*.py))" || { \
	  echo "There are no tests of a room '$(ROOM)'. The rooms are" \
	    $(patsubst tests/%/,%,$(sort $(dir $(wildcard tests/*/test_*.py)))). >&2; exit 2; }

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/speed

gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

zoo: $(VENV)/.installed
	@test -n "$(STORE)" || { echo "Say which finished runs: make zoo STORE=results/quick" >&2; exit 2; }
	$(BIN)/trueboundary release zoo $(STORE)

release: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m pip install -q -c constraints.txt build twine
	$(BIN)/python -m build --outdir dist . >/dev/null
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/trueboundary release archives $(STORE)

clean:
	rm -rf $(VENV) .venv-peers .venv-torch-* docs/_build docs/_made build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@set -e; for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  if command -v $$name >/dev/null && \
	     $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$name"; \
	    $$name -m venv $(VENV) || { echo "$$name cannot make a virtual environment: install its" \
	      "venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	      rm -rf $(VENV); exit 1; }; \
	    exit 0; \
	  fi; \
	done; \
	echo "trueboundary needs Python 3.11 or newer, and none is on the PATH." >&2; exit 1

# One stamp for each set of packages; redone when versions or dependencies change.
$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,cluster]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-torch: $(INPUTS) | $(BIN)/python
	grep -v '^torch==\|^nvidia\|^triton' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install -q -c $(VENV)/constraints.txt "torch==$(TORCH)" -e ".[dev,cluster]"
	@touch $@

$(VENV)/.installed-docs: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	@touch $@ $(VENV)/.installed

# torchattacks and adv-lib ask for torchvision, which may replace torch, for visdom and for an old
# requests; none of it is needed by what is called here.
$(VENV)/.installed-peers: $(INPUTS) constraints-peers.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -c constraints-peers.txt -e ".[dev]" \
	  foolbox adversarial-robustness-toolbox numba setuptools
	$(BIN)/python -m pip install -q -c constraints-peers.txt --no-deps torchattacks adv-lib
	@touch $@
