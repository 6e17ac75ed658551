# `make demo` and `make test` set up everything they need in .venv; nothing else is assumed but Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := captures/09-anonymous-kubelet.pcap
DEMO_FACTS := captures/clusters/09-anonymous-kubelet

.PHONY: demo test lint golden picture bench fuzz agreement clean

$(BIN)/planewire: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(BIN)/planewire pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(BIN)/planewire
	@mkdir -p demo-report
	$(BIN)/planewire analyze $(DEMO) --cluster $(DEMO_FACTS) \
	    --csv demo-report --json demo-report/report.json --html demo-report/report.html --fail-on never
	@echo "Open the report: file://$(CURDIR)/demo-report/report.html"

test: $(VENV)/dev
	$(BIN)/python -m pytest

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden: $(VENV)/dev
	$(BIN)/python tests/golden/rebuild.py

picture: $(VENV)/dev
	$(BIN)/python tests/golden/picture.py

bench: $(VENV)/dev
	$(BIN)/python benchmarks/run.py

# Two million mutated frames, connections and captures; SEED and INPUTS may be given.
fuzz: $(VENV)/dev
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),2000000) --seed $(or $(SEED),1)
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/property

# Compares with tshark and other tools over every public capture and writes docs/agreement.md.
agreement: $(VENV)/dev
	$(BIN)/python -m tests.corpus.agreement

clean:
	rm -rf $(VENV) demo-report
