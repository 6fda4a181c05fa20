#!/usr/bin/env python
"""Measure the training images per second of the data loader: measure_loading.py CONFIG [key=value ...]."""

import sys
import time

from detectron2.config import instantiate

from hrnet_kpt.config import load_config

IMAGES = 200


def main(argv: list[str] | None = None) -> int:
    name, *overrides = sys.argv[1:] if argv is None else argv
    cfg = load_config(name, ["train.seed=0", *overrides])
    if "generate" in cfg.data:
        instantiate(cfg.data.generate)
    for workers, prefetch in ((0, 2), (1, 2), (2, 1), (2, 2), (2, 8)):
        cfg.dataloader.train.update(num_workers=workers, prefetch_factor=prefetch)
        batches = iter(instantiate(cfg.dataloader.train))
        count = len(next(batches))  # the workers have started
        start = time.perf_counter()
        while count < IMAGES:
            count += len(next(batches))
        rate = count / (time.perf_counter() - start)
        batches.close()
        print(f"num_workers={workers} prefetch_factor={prefetch}: {rate:.1f} images/s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
