"""What docs/datasets.md shows works as it stands."""

import json
import re
import shlex
from functools import partial

import pytest
from detectron2.config import instantiate
from omegaconf import OmegaConf

from hrnet_kpt.config import load_config
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.loaders import seeded
from hrnet_kpt.dataset_checks.annotations import check_annotations
from hrnet_kpt.dataset_checks.table import annotation_table

PAGE = "docs/datasets.md"


@pytest.fixture
def blocks(code_blocks):
    return partial(code_blocks, "datasets.md")


def test_example_of_the_format_is_clean(blocks):
    [example] = blocks("json")
    assert check_annotations(annotation_table(json.loads(example), "example")) == []


def test_example_of_augmentations_gives_samples(blocks, synthetic_people):
    [example] = blocks("python")
    cfg = load_config("hrnet_w18_kpt.py")
    exec(example, {"dataloader": cfg.dataloader})
    mapper = instantiate(cfg.dataloader.train.mapper)
    records = load_keypoint_dataset(
        str(synthetic_people / "train.json"), str(synthetic_people / "train")
    )
    sizes = set()
    for seed, record in enumerate(records):
        with seeded(seed):
            sample = mapper(record)
        sizes.add(tuple(sample["image"].shape[1:]))
        points = sample["instances"].gt_keypoints.tensor
        assert (points[..., 2] > 0).any(dim=1).all()
    assert len(sizes) > 3 and max(max(size) for size in sizes) <= 1600


def test_every_command_is_one_that_its_tool_takes(blocks, repository, parse_commands):
    commands = [
        shlex.split(command)
        for block in blocks("")
        for command in re.sub(r"\\\n", " ", block).splitlines()
        if command
    ]
    tools = [command for command in commands if command[0].startswith("tools/")]
    assert len(tools) >= 5
    parse_commands(tools)
    scripts = [command[1] for command in commands if command[0] == "python"]
    assert all((repository / script).is_file() for script in scripts) and len(scripts) == 2


def test_every_key_that_the_page_names_exists(repository):
    cfg = load_config("hrnet_w18_kpt.py")
    named = set(
        re.findall(
            r"\b(?<![_/])(?:data|train|dataloader)\.[a-z_.]+[a-z]", (repository / PAGE).read_text()
        )
    )
    named -= {"data.png", "data.augmentation", "data.transforms"}  # a file, and modules
    nodes = {key: OmegaConf.select(cfg, key.rpartition(".")[0]) for key in named}
    missing = {key for key, node in nodes.items() if key.rpartition(".")[2] not in (node or ())}
    assert not missing
