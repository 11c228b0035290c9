# The commands of the README. Each sets up .venv first, with pip alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-emoji test test-slow test-backbones test-oldest check docs release check-neighbours bench bench-methods faults paper checkpoint clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[all,dev,docs]'
	touch $@

demo: setup  ## train, evaluate and search on the bundled sample; the report lands in runs/demo
	rm -rf runs/demo
	$(BIN)/crh demo --out runs/demo

# EMOJI: folder of the whole benchmark, which `python benchmarks/builders/emoji_build.py --out DIR` makes; else the sample.
demo-emoji: setup  ## centers that never move and centers that do, side by side; the report lands in runs/demo-emoji
	rm -rf runs/demo-emoji
	$(BIN)/crh demo --dataset emoji --out runs/demo-emoji $(if $(EMOJI),--data-dir $(EMOJI))

# One thread a test process: two of them that compute with all cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: setup  ## all tests but the slow ones, on all cores
	$(PYTEST) -m "not slow"

test-slow: setup  ## the tests that take several seconds each: kills, process groups, the browser
	$(PYTEST) -m slow

test-backbones: setup  ## all architectures of docs/backbones.md: minutes
	$(PYTEST) tests/backbones

# SHARE_TORCH=1, as in CI, takes torch, torchvision and the tools of tests from .venv: 3 GB less to download. The file
# shared.pth shows them to Python and to pip, which uninstalls nothing outside of its own environment. It leaves out the
# rooms whose tests compute rather than call other libraries.
ifdef SHARE_TORCH
OLDEST := .venv-oldest-shared
OLDEST_EXTRAS := all
OLDEST_TESTS := $(addprefix --ignore=tests/,builders demo fuzz metrics report training/objectives)
else
OLDEST := .venv-oldest
OLDEST_EXTRAS := all,dev
endif
OLDEST_VERSIONS := $(OLDEST)/bin/python tests/install/oldest_versions.py $(if $(SHARE_TORCH),--except torch torchvision)

$(OLDEST)/.installed: pyproject.toml tests/install/oldest_versions.py $(if $(SHARE_TORCH),$(VENV)/.installed)
	rm -rf $(OLDEST)
	$(PYTHON) -m venv $(OLDEST)
	$(if $(SHARE_TORCH),ls -d $(abspath $(VENV))/lib/python*/site-packages > "$$(ls -d $(OLDEST)/lib/python*/site-packages)/shared.pth")
	$(OLDEST_VERSIONS) > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet -c $(OLDEST)/constraints.txt -e '.[$(OLDEST_EXTRAS)]'
	touch $@

test-oldest: $(OLDEST)/.installed  ## the quick tests with the oldest versions that pyproject.toml allows
	$(OLDEST_VERSIONS) --installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto -m "not slow" $(OLDEST_TESTS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## build the documentation as a site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# make release TAG=v1.2.3 asks in addition that the tag and CHANGELOG.md name the version.
release: setup  ## build dist/, and try it and a model on a Hub in an environment of their own: minutes, and 6 GB of disk
	$(BIN)/python tests/install/release.py $(if $(TAG),--tag $(TAG))

# NEIGHBOURS: some of trainers, vllm and colab; else all.
check-neighbours: setup  ## the wheel beside other libraries, in environments of their own: minutes and 7 GB of disk each
	$(BIN)/python tests/install/neighbours.py $(NEIGHBOURS)

# These read what benchmarks/method_data.py stores.
STORED_FEATURES := $(addprefix benchmarks/bench_,methods.py growing.py words.py unseen_term.py)

bench: setup
	for script in $(filter-out $(STORED_FEATURES),$(wildcard benchmarks/bench_*.py)); do $(BIN)/python $$script || exit 1; done

bench-methods: setup  ## all methods on all data: hours; goes on where it was
	$(BIN)/python benchmarks/method_data.py runs/methods-data
	$(BIN)/python benchmarks/bench_methods.py --data runs/methods-data

# SECONDS: of all kinds of damage and faults together; `make faults` in CI takes 60.
SECONDS := 1200
faults: setup  ## damaged input, killed runs, sources and tables that change, hostile requests: what was tried, and what failed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py --seconds $$(($(SECONDS) / 3))
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/faults.py --seconds $$(($(SECONDS) * 2 / 3))

# make paper CRH_DATA_ROOT=DIR, with DIR/stanford_cars, DIR/nabirds, DIR/coco and DIR/cifar100; PAPER: more options.
paper: setup  ## run all cells of the paper's table whose data are there; PAPER=--list shows them
	$(BIN)/python training/paper.py $(PAPER)

# Debian's package dataset-fashion-mnist puts the official files there.
FASHION_MNIST ?= /usr/share/datasets/fashion-mnist
CHECKPOINT := modeling_crh/checkpoints/fashion-mnist-64

checkpoint: setup  ## train the checkpoint that ships, from the official files
	$(BIN)/crh train training/recipes/fashion-mnist-64.yaml --data-dir $(FASHION_MNIST) --out runs/fashion-mnist-64
	cd runs/fashion-mnist-64/model && cp config.json preprocessor_config.json model.safetensors $(abspath $(CHECKPOINT))/
	$(BIN)/crh evaluate $(CHECKPOINT) --dataset fashion_mnist --data-dir $(FASHION_MNIST) --json

clean:
	rm -rf $(VENV) .venv-* runs build dist site *.egg-info
