.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
PROJECT := pyproject.toml constraints.txt

.PHONY: help setup demo test lint bench clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/python:
	$(PYTHON) -m venv .venv
	@touch $@

# torch first and by itself: asked for by another package, pip might take a newer build with CUDA packages.
.venv/installed: .venv/python $(PROJECT)
	@echo "Installing oovrec into .venv (a minute or two the first time)"
	$(INSTALL) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for tests and checks"
	$(INSTALL) --editable '.[dev]'
	@touch $@

# RecBole's model classes, whose weights the tests copy into ours; out of reach of everything else.
.recbole: tests/recbole/requirements.txt | .venv/installed-dev
	rm -rf $@ $@.part
	$(INSTALL) --no-deps --target $@.part --requirement $<
	mv $@.part $@ && touch $@

# RecBole and RecTools whole, for benchmarks alone.
.peers: benchmarks/peers/requirements.txt
	rm -rf $@ $@.part
	$(PYTHON) -m venv $@.part
	$@.part/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	mv $@.part $@ && touch $@

setup: .venv/installed  ## a .venv with the oovrec command

demo: setup  ## real films and users: tokens, a language model, honest figures, a report
	$(BIN)/oovrec run --out runs/demo $(if $(wildcard runs/demo/config.yaml),--resume)

test: lint .recbole  ## lint, types and all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/installed-dev  ## style, types, one-way rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev .peers  ## speed against the stock paths, in one run each
	$(BIN)/python benchmarks/tokens.py --data ../shared/data/beauty --clusters 100 --write
	$(BIN)/python benchmarks/training.py --rows train-t5-small train-t5-small-bf16
	$(BIN)/python benchmarks/training.py --rows train-all-positions --batches 128 1024
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/decoding.py --data ../shared/data/beauty --vocabulary ../shared/t5-tokenizer
	$(BIN)/python benchmarks/sequential.py --data ../shared/data/beauty
	$(BIN)/python benchmarks/sequential.py --data ml-100k

clean:  ## remove the .venv and tools' caches; runs stay
	rm -rf .venv .recbole .recbole.part .peers .peers.part .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
