# Every target creates .venv if necessary; requirements/setup.sh documents the variables PYTHON and DETECTRON2.
#   make setup   create .venv
#   make demo    train on the embedded data set, evaluate, draw: output/demo; OVERRIDES="key=value ..." for the config
#   make bench   benchmark HRNet-W18 and other models: output/benchmark; OVERRIDES as above, BENCH="--size ..." for flags
#   make gpu     test and benchmark on a GPU: output/gpu; in .venv if it exists, otherwise with `python3` and its torch;
#                GPU="--minutes 30" for flags; `make gpu --dry-run` tries everything on the CPU with tiny models
#   make docs    build the docs site: output/site
#   make lint    format, ruff, mypy
#   make test    lint and the default tests, in two processes (`.venv/bin/python -m pytest -m slow` runs the slow tests)

# Without set-up, which needs a network.
GPU_PYTHON = $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: setup demo bench gpu docs lint test

setup:
	@sh requirements/setup.sh

demo: setup
	.venv/bin/hrnet-kpt demo $(OVERRIDES)

bench: setup
	.venv/bin/python docs/scripts/performance.py $(OVERRIDES) --config-file configs/hrnet_w18_kpt.py $(BENCH)

# `+` runs the line under --dry-run too, which is the flag n of make.
gpu:
	+PYTHONPATH=projects$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON) docs/scripts/gpu.py $(if $(findstring n,$(firstword -$(MAKEFLAGS))),--dry-run) $(GPU)

# Warnings about the site are errors. Python's are of torch about detectron2's code.
docs: setup
	rm -rf output/site
	.venv/bin/python -W ignore -m sphinx -W --keep-going -q -d output/doctrees -E -c docs/site . output/site
	@echo "output/site/index.html"

lint: setup
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

test: lint
	.venv/bin/python -m pytest -q -n 2 --dist loadfile
