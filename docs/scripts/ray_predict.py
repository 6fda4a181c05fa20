#!/usr/bin/env python
"""Predict the images of a folder with Ray Data: docs/scripts/ray_predict.py RUN IMAGES OUTPUT --processes 4

It needs `pip install "ray[data]"`. OUTPUT becomes a folder of json files with a line for each image, in any order.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ray

from hrnet_kpt.data.images import IMAGE_EXTENSIONS
from hrnet_kpt.inference import Predictor


class Predict:
    """A process with a model."""

    def __init__(self, run: str) -> None:
        self.predictor = Predictor.from_run(run)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        objects = self.predictor(row["image"]).objects
        return {**row, "objects": json.dumps(objects)}  # a column of Arrow has one type


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("images")
    parser.add_argument("output")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--gpus", type=float, default=0, help="of a process")
    args = parser.parse_args(argv)
    paths = sorted(Path(args.images).resolve().rglob("*"))
    images = [str(path) for path in paths if path.suffix.lower() in IMAGE_EXTENSIONS]
    rows = ray.data.from_items([{"image": path} for path in images])
    found = rows.map(
        Predict,
        fn_constructor_args=[str(Path(args.run).resolve())],
        concurrency=args.processes,
        num_gpus=args.gpus,
    )
    found.write_json(str(Path(args.output).resolve()))


if __name__ == "__main__":
    main()
