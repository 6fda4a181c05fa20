# Every target creates .venv if necessary; requirements/setup.sh documents the variables PYTHON and DETECTRON2.
#   make setup   create .venv
#   make demo    train on the embedded data set, evaluate, draw: output/demo; OVERRIDES="key=value ..." for the config
#   make bench   benchmark HRNet-W18 and other models: output/benchmark; OVERRIDES as above, BENCH="--size ..." for flags
#   make gpu     test and benchmark on a GPU: output/gpu; in .venv if it exists, otherwise with `python3` and its torch;
#                GPU="--minutes 30" for flags; `make gpu --dry-run` tries everything on the CPU with tiny models
#   make lint    format, ruff, mypy
#   make test    lint and the default tests, in two processes (`.venv/bin/python -m pytest -m slow` runs the slow tests)

# Without set-up, which needs a network.
GPU_PYTHON = $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: setup demo bench gpu lint test

setup:
	@sh requirements/setup.sh

demo: setup
	.venv/bin/python tools/lazyconfig_train_net.py --config-file configs/hrnet_w18_small_kpt_synthetic.py \
		--resume train.output_dir=output/demo $(OVERRIDES)

bench: setup
	.venv/bin/python docs/scripts/performance.py $(OVERRIDES) --config-file configs/hrnet_w18_kpt.py $(BENCH)

# `+` runs the line under --dry-run too, which is the flag n of make.
gpu:
	+PYTHONPATH=projects$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON) docs/scripts/gpu.py $(if $(findstring n,$(firstword -$(MAKEFLAGS))),--dry-run) $(GPU)

lint: setup
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

test: lint
	.venv/bin/python -m pytest -q -n 2 --dist loadfile
