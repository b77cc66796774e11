PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS := modeling_mt2/constraints.txt
SOURCES := $(shell find modeling_mt2 feature_extraction train model_cards -type f -not -path '*/__pycache__/*' -not -path '*/space/*')

# On more cores than two, more processes may test: `make test WORKERS=8`.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q --dist loadfile -n $(WORKERS)

.PHONY: demo demo-train test test-slow test-encodings test-lowest lint bench clean

demo: .venv/package  ## keys and nearest songs, by the published model; AUDIO=~/Music takes your own songs
	$(BIN)/python -m mt2_music.train.demo $(if $(AUDIO),--audio "$(AUDIO)")

demo-train: .venv/package  ## the whole way in a few minutes, with a model trained on the spot
	$(BIN)/python -m mt2_music.train.demo --train $(if $(AUDIO),--audio "$(AUDIO)")

test: .venv/package  ## the test suite, but for the slowest
	$(PYTEST) -m "not slow"

test-slow: .venv/package  ## the slowest tests: launchers, and every command in a process of its own
	$(PYTEST) -m slow

test-encodings: .venv/package  ## the test suite where text is not UTF-8 unless one says so, as on Windows
	PYTHONIOENCODING=cp1252 $(PYTEST) -m "not slow"
	LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $(PYTEST) -m "not slow"

test-lowest:  ## the test suite with the lowest versions that pyproject.toml allows; several gigabytes
	.ci/lowest -m "not slow" --dist loadfile -n $(WORKERS)

lint: .venv/package  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/package  ## speed against nnAudio and a bare torch encoder
	$(BIN)/python benchmarks/speed/front_end.py
	$(BIN)/python benchmarks/speed/encoder.py

clean:  ## forget environment and demo
	rm -rf .venv .venv-lowest demo

# torch first and alone, so that nothing else decides which build is taken. tinysoundfont without its dependencies:
# they are for playing aloud and do not build everywhere; without it the demo plays plain tones and says so.
.venv/requirements: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) ".[dev,synth]"
	-$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --no-deps tinysoundfont
	touch $@

.venv/package: .venv/requirements README.md $(SOURCES)
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	rm -rf build mt2_music.egg-info
	touch $@
