# Two commands: `make demo` and `make test`. Both need Python 3.10 or later and make, and nothing else.
PYTHON ?= python3
# Each file of versions has an environment of its own: .venv, .venv-newest for constraints-newest.txt.
CONSTRAINTS ?= constraints.txt
VENV ?= .venv$(patsubst constraints%.txt,%,$(notdir $(CONSTRAINTS)))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test slow matrix lint reference encoders clients clients-nemo clean

demo: $(INSTALLED)
	$(BIN)/python examples/train.py figure=mi_bound.png
	@echo "Open TensorBoard with: $(BIN)/tensorboard --logdir runs"

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Pythons 3.10 to 3.13 (as far as they are found) with the oldest and the newest versions: an hour, 3 GB of downloads
# and 12 GB of free disk for each. ENTRIES="3.13:newest" for some, CORE=--core for fewer tests.
matrix:
	$(PYTHON) .ci/matrix.py $(CORE) $(ENTRIES)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/reference.py --check

# The tables of lightning_mi/README.md, from the code.
reference: $(INSTALLED)
	$(BIN)/python .ci/reference.py

# The benchmark on public encoders, in an environment of its own: .venv-encoders. It needs apt-get, to download
# recorded speech (no root), and takes about two hours of one core.
ENCODERS := .venv-encoders
encoders: $(ENCODERS)/.installed .cache/speech/.unpacked
	for half in search judge; do for stage in prepare embed score report; do \
	  $(ENCODERS)/bin/python examples/public_encoders/run.py $$stage $$half || exit 1; done; done

$(ENCODERS)/.installed: pyproject.toml constraints.txt examples/public_encoders/requirements.txt
	$(PYTHON) -m venv $(ENCODERS)
	$(ENCODERS)/bin/python -m pip install --quiet --upgrade pip
	$(ENCODERS)/bin/python -m pip install --quiet -e ".[examples]" -c constraints.txt
	$(ENCODERS)/bin/python -m pip install --quiet --no-deps -r examples/public_encoders/requirements.txt
	@touch $@

.cache/speech/.unpacked: examples/public_encoders/packages.txt
	mkdir -p $(@D)
	cd $(@D) && apt-get download $$(grep -v '^#' $(CURDIR)/$<) && for package in *.deb; do dpkg -x $$package .; done
	@touch $@

# Models and batches of other libraries, the callback's value beside that by hand: two environments, some minutes each.
clients: .venv-clients/.installed
	.venv-clients/bin/python -m lightning_mi.examples.clients.run

clients-nemo: .venv-clients-nemo/.installed
	.venv-clients-nemo/bin/python -m lightning_mi.examples.clients.run --only nemo_toolkit

.venv-clients/.installed: pyproject.toml constraints.txt examples/clients/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet -e ".[examples]" -c constraints.txt
	$(@D)/bin/python -m pip install --quiet --no-deps -r examples/clients/requirements.txt
	@touch $@

.venv-clients-nemo/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet -e ".[examples]" "nemo_toolkit[asr]==3.0.0"
	@touch $@

# Everything that the project needs, in the versions that are known to work together.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"lightning-mi needs Python 3.10 or later, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12") if v < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]" -c $(CONSTRAINTS)
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) .venv .venv-* .cache runs mi_bound.png
