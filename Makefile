# make demo: video -> grid -> 4D asset, with the weights that ship.   make test: the tests.   make lint, make bench.
.PHONY: demo test test-all lint format bench setup-demo setup-dev

demo: setup-demo
	@.venv/bin/python tools/demo.py

# A process for each core; the tests of a file share fixtures that take seconds, so they stay in one process.
test: setup-dev
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-all: setup-dev
	@.venv/bin/python -m pytest -m "slow or not slow" --timeout=3600

lint: setup-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright
	@.venv/bin/python tools/sync_packages.py --check

format: setup-dev
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# The benchmarks that need no files; the others (tables of the models, rendering, reconstruction) name theirs in --help.
BENCHMARKS = train_step overfit sampling_memory sampling_speedups four_real_cost metrics_reaction

bench: setup-dev
	@for name in $(BENCHMARKS); do echo "== $$name"; .venv/bin/python benchmarks/$$name.py || exit 1; done

setup-demo:
	@tools/setup.sh

setup-dev:
	@tools/setup.sh all,dev
