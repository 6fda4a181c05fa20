"""Real COCO photographs through the very path that COCO takes."""

import os

import pytest
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train

# Only data, input sizes, length and augmentations differ from what `make demo` trains.
OVERRIDES = [
    "dataloader.train.mapper.augmentations.0.short_edge_length=[320]",
    "dataloader.train.mapper.augmentations.0.max_size=448",
    "dataloader.test.mapper.augmentations.0.short_edge_length=320",
    "dataloader.test.mapper.augmentations.0.max_size=448",
    "train.max_iter=500",
    "train.seed=0",
]


@pytest.fixture
def all_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("all_threads")
def test_four_photographs_are_learnt_by_heart(photographs, tmp_path):
    """The goal is 0.90; what was measured stands in the README."""
    folder = photographs / "coco"
    data = [
        f"data.{split}.{key}"
        for split in ("train", "test")
        for key in (f"annotations={folder}/annotations.json", f"images={folder}")
    ]
    overrides = [*data, *OVERRIDES, f"train.output_dir={tmp_path / 'run'}"]
    results = train(load_config("hrnet_w18_small_kpt_synthetic.py", overrides))
    assert results["keypoints"]["AP"] >= 90
    assert results["bbox"]["AP"] >= 90
