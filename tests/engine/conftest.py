"""Helpers for tests that compare runs."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

# Measured times, which differ between runs.
MEASURED = ("time", "data_time", "eta_seconds", "data_time_share", "rank_data_time")


def difference(one, other, where=""):
    """The path of the first difference in nested content, "" if there is none: tensors bit by bit, NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        return "" if one.dtype == other.dtype and torch.equal(one, other) else where
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: {sorted(one.keys() ^ other.keys(), key=str)}"
        found = [difference(one[key], other[key], f"{where}.{key}") for key in one]
        return next(filter(None, found), "")
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where}: {one}, not {other}"
        found = [
            difference(a, b, f"{where}.{i}")
            for i, (a, b) in enumerate(zip(one, other, strict=True))
        ]
        return next(filter(None, found), "")
    return "" if one == other or (one != one and other != other) else f"{where}: {one}, not {other}"


def refuse_constant(name):
    raise ValueError(f"{name} is no json")


def read_metrics(folder):
    """The lines of metrics.json without what was measured."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in MEASURED} for line in lines]


@pytest.fixture(scope="session")
def assert_same_run():
    """Function of two run folders: their weights, states and metrics are the same, bit by bit.

    checkpoint: the name of the last checkpoint in the first folder.
    """

    def check(folder, expected, checkpoint="model_final.pth"):
        contents = []
        for path in (Path(folder) / checkpoint, Path(expected) / "model_final.pth"):
            content = torch.load(path, weights_only=True)
            metrics = content["trainer"].pop("metrics")
            content["trainer"]["recent"] = {k: v for k, v in metrics.items() if k not in MEASURED}
            contents.append(content)
        assert not difference(*contents)
        # By their texts, in which NaN is NaN.
        lines = [*map(str, read_metrics(folder))], [*map(str, read_metrics(expected))]
        assert len(lines[0]) == len(lines[1])
        for line, other in zip(*lines, strict=True):
            assert line == other

    return check


@pytest.fixture(scope="session")
def assert_files_load():
    """Function of a run folder: each file in it can be read, and none is unfinished."""

    def check(folder):
        for path in Path(folder).rglob("*"):
            if path.is_dir():
                continue
            if path.suffix == ".pth":
                content = torch.load(path, weights_only=True)
                assert all(v.isfinite().all() for v in content["model"].values()), path
            elif path.name == "metrics.json":
                iterations = [
                    json.loads(line, parse_constant=refuse_constant)["iteration"]
                    for line in path.read_text().splitlines()
                ]
                assert iterations == sorted(set(iterations)), "an iteration twice"
            elif path.suffix == ".json":
                json.loads(path.read_text(), parse_constant=refuse_constant)
            elif path.suffix == ".yaml":
                yaml.safe_load(path.read_text())
            elif path.suffix == ".png":
                Image.open(path).verify()
            elif path.suffix == ".py":
                compile(path.read_text(), str(path), "exec")
            elif path.name == "last_checkpoint":
                assert (Path(folder) / path.read_text()).is_file()
            else:
                assert path.suffix == ".txt" or path.name.startswith(
                    ("events.out", "log.txt.rank")
                ), path
                if path.suffix == ".txt":
                    assert path.read_text().endswith("\n") or not path.read_text()

    return check
