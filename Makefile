# The two commands of the README: `make demo` and `make test`. Both make .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := music,rl,gym,atari,box2d,commerce,serve,export,search,notify,dev
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-all test-kiosk lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(STAMP)

demo: setup
	$(BIN)/python -m daybreak.demo

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2

test-all: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# The kiosk has an environment of its own: Gradio wants an older Pillow than what the figures were measured with.
test-kiosk:
	test -x .venv-kiosk/bin/python || $(PYTHON) -m venv .venv-kiosk
	.venv-kiosk/bin/python -m pip install -q --disable-pip-version-check -c constraints-kiosk.txt torch==2.13.0
	.venv-kiosk/bin/python -m pip install -q --disable-pip-version-check -c constraints-kiosk.txt -e '.[music,rl,kiosk,dev]'
	OMP_NUM_THREADS=1 .venv-kiosk/bin/python -m pytest tests/ship/test_kiosk.py tests/ship/test_kiosk_screen.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench:
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check -e '.[music,search,notify,bench]'
	set -e; for script in benchmarks/lab_*.py benchmarks/music_*.py; do .venv-bench/bin/python $$script --quick; done
