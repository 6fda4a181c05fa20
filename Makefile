# Every target creates .venv if necessary; requirements/setup.sh documents the variables PYTHON and DETECTRON2.
#   make setup   create .venv
#   make demo    train on the embedded data set, evaluate, draw: output/demo; OVERRIDES="key=value ..." for the config
#   make bench   benchmark HRNet-W18 and other models: output/benchmark; OVERRIDES as above, BENCH="--size ..." for flags
#   make docs    build the docs site: output/site
#   make lint    format, ruff, mypy
#   make test    lint and the default tests, in two processes (`.venv/bin/python -m pytest -m slow` runs the slow tests)

.PHONY: setup demo bench docs lint test

setup:
	@sh requirements/setup.sh

demo: setup
	.venv/bin/hrnet-kpt demo $(OVERRIDES)

bench: setup
	.venv/bin/python docs/scripts/performance.py $(OVERRIDES) --config-file configs/hrnet_w18_kpt.py $(BENCH)

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
