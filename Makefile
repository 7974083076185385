# Each target sets up what it needs; on a fresh machine that is Python 3.11 or later and make.
# A second run goes straight to work: .venv holds a stamp for what is installed.

VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# The first of these that is new enough; `make PYTHON=…` takes another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

DICOM ?=
DEMO_EXIT ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-viewers check docs bench chaos model fix clean

help:  ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-19s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.service  ## Start the service, send it studies, show the worklist (DICOM=folder, DEMO_EXIT=1)
	@$(VENV)/bin/python -m vigil_inference.demo $(if $(DICOM),"$(DICOM)") $(if $(DEMO_EXIT),--exit)

test: $(VENV)/.everything  ## Run the whole suite, slow and system tests too
	@.ci/install-peers
	$(VENV)/bin/python -m pytest --durations=15 $(PYTEST)

test-viewers: $(VENV)/.everything  ## Open the results in the OHIF viewer, and keep screenshots
	@.ci/install-peers
	$(VENV)/bin/python -m pytest tests/viewers $(PYTEST)
	@echo "What OHIF showed: var/artefacts/viewers"

check: $(VENV)/.everything  ## Lint, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# A notebook is run anew when it or the code that it calls has changed; on generated pictures, so
# that no radiograph gets into the site.
CODE = $(shell find src training inference -name '*.py')
NOTEBOOKS := $(patsubst %,var/%,$(wildcard notebooks/*.ipynb))
docs: $(NOTEBOOKS) | $(VENV)/.everything  ## Build the documentation site into var/site
	@.ci/install-site-scripts
	$(VENV)/bin/python -m mkdocs build --strict
	@echo "Open var/site/index.html"

var/notebooks/%.ipynb: notebooks/%.ipynb $(CODE) | $(VENV)/.everything
	VIGIL_DATA=/nowhere $(VENV)/bin/python -m nbconvert --log-level=WARN --to notebook --execute \
		--output-dir var/notebooks $<

bench: $(VENV)/.everything  ## Measure against the limit and the others: picture, start, receive, load, pace, growth, training (BENCH="receive --rounds 3")
	@$(VENV)/bin/python -m tests.bench $(BENCH)

chaos: $(VENV)/.everything  ## Prove it under fire: kills, full disks, dead peers, broken files (CHAOS="kills --kills 20")
	@.ci/install-peers
	@$(VENV)/bin/python -m tests.chaos $(CHAOS)

DATA ?= ../shared/data/cxr-train
MODEL := vigil-lite0-256
WITHOUT := runs/tuberculosis-without-montgomery runs/tuberculosis-without-shenzhen
model: runs/lite0-256/.done $(WITHOUT:=/.done)  ## Train, export, quantize and measure the default bundle (DATA=folder)
	$(VENV)/bin/vigil export runs/lite0-256 --data "$(DATA)" --to models/$(MODEL)
	for run in $(WITHOUT); do \
		$(VENV)/bin/vigil export $$run --data "$(DATA)" --to $$run/bundle || exit 1; done
	$(VENV)/bin/vigil evaluate --bundle models/$(MODEL) --manifest "$(DATA)/manifest.csv" \
		--split val --gate "$(DATA)/../gate/manifest.csv" --heat-maps --card \
		$(WITHOUT:%=--without %/bundle)
	$(VENV)/bin/vigil quantize models/$(MODEL) --data "$(DATA)"

# A run that was interrupted goes on where it stopped.
runs/lite0-256/.done: runs/lite0-256-first/.done
runs/%/.done: training/configs/%.toml | $(VENV)/.everything
	$(VENV)/bin/vigil train $< --data "$(DATA)" $(if $(wildcard runs/$*/checkpoint.pt),--resume)
	touch $@

fix: $(VENV)/.everything  ## Mend what the linter and the formatter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## Remove the environment, caches and what the demo received
	rm -rf $(VENV) var/demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src training inference tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later was not found; make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.service: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service into $(VENV) …"
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.everything: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the service, training, notebooks, documentation and development tools into $(VENV) …"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[training,mlflow,xrv,notebooks,docs,dev]'
	@touch $@ $(VENV)/.service
