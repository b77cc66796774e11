PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find modeling_mt2 feature_extraction train model_cards -type f -not -path '*/__pycache__/*' -not -path '*/space/*')

.PHONY: demo demo-train test lint bench clean

demo: .venv/package  ## keys and nearest songs, by the published model; AUDIO=~/Music takes your own songs
	$(BIN)/python -m mt2_music.train.demo $(if $(AUDIO),--audio "$(AUDIO)")

demo-train: .venv/package  ## the whole way in a few minutes, with a model trained on the spot
	$(BIN)/python -m mt2_music.train.demo --train $(if $(AUDIO),--audio "$(AUDIO)")

test: .venv/package  ## the test suite
	$(BIN)/python -m pytest -q

lint: .venv/package  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/package  ## speed against nnAudio and a bare torch encoder
	$(BIN)/pip install --quiet --constraint constraints.txt "nnAudio>=0.3.3"
	$(BIN)/python benchmarks/front_end.py
	$(BIN)/python benchmarks/encoder.py

clean:  ## forget environment and demo
	rm -rf .venv demo

# torch first and alone, so that nothing else decides which build is taken. tinysoundfont without its dependencies:
# they are for playing aloud and do not build everywhere; without it the demo plays plain tones and says so.
.venv/requirements: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt ".[dev,synth]"
	-$(BIN)/pip install --quiet --constraint constraints.txt --no-deps tinysoundfont
	touch $@

.venv/package: .venv/requirements README.md $(SOURCES)
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	rm -rf build mt2_music.egg-info
	touch $@
