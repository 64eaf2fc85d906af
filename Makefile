# Two commands matter to a reader: `make book` and `make test`. README.md says what to type without make.
PYTHON ?= python3
PY := .venv/bin/python
HTML := _build/html/index.html
# Two BLAS threads slow each other down as soon as anything else runs.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=120 \
	--nbval-sanitize-with tests/nbval_sanitize.cfg

.PHONY: help env book serve test lint unit nbval lowest notebooks experiments bench world stamp picture lock clean
help:
	@grep -E '^## ' Makefile | sed 's/^## //'

env:
	@"$(PYTHON)" tools/environment.py

## make book             build the HTML book and say where it is
book: env
	$(PY) tools/build_book.py

## make serve            build the book, serve it on this machine and open it
serve: book
	$(PY) tools/serve.py

## make test             everything that CI runs: style, types, tests, notebooks, strict book build
test: env lint unit nbval
	$(PY) tools/build_book.py

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

unit: env
	HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2

nbval: env
	HF_HUB_OFFLINE=1 $(PY) -m pytest $(NBVAL) notebooks -n 2 --dist loadfile

## make lowest           core tests with the lowest versions that pyproject.toml allows
lowest: env
	$(PY) tools/lowest.py

## make notebooks        execute the notebooks, store their outputs, record their claims
notebooks: env
	$(PY) tools/notebooks.py

## make experiments      run the long experiments and record their claims (hours)
experiments: env
	STEERLIB_RECORD=1 $(PY) -m experiments.world
	STEERLIB_RECORD=1 $(PY) -m experiments.directions
	STEERLIB_RECORD=1 $(PY) -m experiments.axbench -j 2
	STEERLIB_RECORD=1 $(PY) -m experiments.scaling -j 2
	STEERLIB_RECORD=1 $(PY) -m experiments.sae -j 2
	STEERLIB_RECORD=1 $(PY) -m experiments.values -j 2
	STEERLIB_RECORD=1 $(PY) -m experiments.values_replication
	STEERLIB_RECORD=1 $(PY) -m experiments.mera -j 2
	STEERLIB_RECORD=1 $(PY) -m experiments.bipo -j 2

## make bench            measure the speed table of README.md
bench: env
	STEERLIB_RECORD=1 $(PY) -m benchmarks.bench

## make world            train the embedded models again (hours; it goes on where it was stopped)
world: env
	$(PY) -m steerlib.world.train --out data/world --seed 0
	$(PY) -m steerlib.world.train --out data/world-b --seed 1
	# on from the checkpoint of the line above: two figures were still short at 26 M
	$(PY) -m steerlib.world.train --out data/world-b --seed 1 --tokens 29000000

## make stamp URL=...    write the repository's address everywhere
stamp: env
	$(PY) tools/stamp.py $(URL)

## make picture          draw the picture of README.md from a real answer
picture: env
	$(PY) tools/picture.py

## make lock             resolve requirements.txt again
lock: env
	$(PY) tools/lock.py

## make clean            remove what was built (not .venv)
clean:
	rm -rf _build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
