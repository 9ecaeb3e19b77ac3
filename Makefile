# make demo    train on real digits, evaluate, export with proof, predict, one page       (everything under runs/demo/)
# make test    the quick suite        make oracles  against other implementations
# make lint    ruff and mypy          make prove    the long campaigns
# make cpp     the C++ programs, into build/cpp         make cpp-sanitized    the same under sanitizers
# make cpp-lint    clang-tidy over the sources of C++
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint oracles prove cpp cpp-sanitized cpp-lint clean
.DEFAULT_GOAL := test

.venv/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed ($(PYTHON) not found)"; exit 2; }
	$(PYTHON) -m venv .venv

# Installed once for each set of extras, and again when what is to be installed changes.
.venv/.installed-demo: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet -c constraints.txt -e ".[train,demo,onnx]"
	@touch $@

.venv/.installed-test: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all,dev]"
	@touch $@ .venv/.installed-demo

demo: .venv/.installed-demo
	@rm -rf runs/demo
	$(BIN)/vitrail train digits/cct_2_3x2_32 --out runs/demo
	$(BIN)/vitrail evaluate runs/demo --out runs/demo/predictions.csv
	$(BIN)/vitrail export runs/demo --format onnx
	$(BIN)/vitrail show digits --pictures runs/demo/pictures
	$(BIN)/vitrail predict runs/demo/bundle runs/demo/pictures --top 3
	@echo
	@echo "The whole run on one page:   runs/demo/report.html"
	@echo "Your own pictures next, one folder per class (source .venv/bin/activate first):"
	@echo "  vitrail train --model cct_7_3x1_32 --data PHOTOS --out runs/photos"
	@echo "  vitrail export runs/photos --format onnx"
	@echo "  vitrail predict runs/photos/bundle PICTURE.jpg"

test: .venv/.installed-test lint
	@$(BIN)/python cpp/build.py --if-possible
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

oracles: .venv/.installed-test
	PYTHON=$(PYTHON) bash tests/oracles/run

prove: .venv/.installed-test
	$(BIN)/python -m pytest -q -m prove --record results/prove.json

cpp: .venv/.installed-test
	@$(BIN)/python cpp/build.py

cpp-sanitized: .venv/.installed-test
	@$(BIN)/python cpp/build.py --sanitized

cpp-lint: .venv/.installed-test
	@$(BIN)/python cpp/build.py --lint

clean:
	rm -rf .venv .venv-oracles build *.egg-info
