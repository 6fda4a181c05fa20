"""What docs/datasets.md shows works as it stands."""

import json
import re
import shlex
from functools import partial

import pytest
from detectron2.config import instantiate
from omegaconf import OmegaConf

from hrnet_kpt.analysis.new_config.choose import Times
from hrnet_kpt.config import load_config
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.formats.recognize import FORMATS
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
    [example] = [block for block in blocks("python") if "import" in block]
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
    assert len(commands) >= 12
    assert all(command[0].startswith("tools/") for command in commands)
    parse_commands(commands)


@pytest.fixture
def shown(blocks):
    """Function of the words that a block of output has: its lines, without those left out."""

    def shown(words):
        [block] = [b for name in ("text", "python") for b in blocks(name) if words in b]
        return [line for line in block.splitlines() if line not in ("", "...")]

    return shown


@pytest.fixture
def at_photographs(photographs, tmp_path, monkeypatch):
    """The folders of the page's examples, `tubes` and `mouse`, in the working folder."""
    (tmp_path / "tubes").symlink_to(photographs / "glue_tubes")
    (tmp_path / "mouse").mkdir()
    for name in ("config.yaml", "labeled-data"):
        (tmp_path / "mouse" / name).symlink_to(photographs / "openfield_mouse" / name)
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("data_set", ["tubes", "mouse"])
def test_imports_print_what_is_shown(data_set, shown, blocks, at_photographs, load_tool, capsys):
    [command] = [b for b in blocks("") if f"import_data.py --input {data_set}" in b]
    assert load_tool("tools/import_data.py").main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == shown(f"{data_set}: ")


@pytest.mark.slow
def test_check_and_config_print_what_is_shown(
    shown, at_photographs, load_tool, capsys, monkeypatch
):
    imported = ["--input", "tubes", "--output", "datasets/tubes"]
    assert load_tool("tools/import_data.py").main(imported) == 0
    capsys.readouterr()
    check = ["--annotations", "datasets/tubes", "--draw", "output/tubes_samples"]
    assert load_tool("tools/check_dataset.py").main(check) == 0
    printed = capsys.readouterr().out.splitlines()
    assert set(shown("category ")) <= set(printed)

    times = Times(iteration=0.121, evaluation=3.22, start=0.248)  # of the machine of the page
    monkeypatch.setattr("hrnet_kpt.analysis.new_config.run.step_times", lambda *_: times)
    options = ["--data", "datasets/tubes", "--minutes", "10", "--output", "configs/tubes.py"]
    assert load_tool("tools/new_config.py").main([*options, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == shown("train it:")
    written = (at_photographs / "configs" / "tubes.py").read_text().splitlines()
    assert set(shown("load_page")) <= set(written)


def test_every_import_format_is_described(repository):
    described = re.findall(
        r"^\* \*\*`([a-z-]+)`\*\*:", (repository / PAGE).read_text(), re.MULTILINE
    )
    assert described == list(FORMATS)


def test_every_key_that_the_page_names_exists(repository):
    cfg = load_config("hrnet_w18_kpt.py")
    named = set(
        re.findall(
            r"\b(?<![_/])(?:data|train|dataloader)\.[a-z_.]+[a-z]", (repository / PAGE).read_text()
        )
    )
    # Files, modules, and a method in a config.
    named -= {"data.png", "data.yaml", "train.json", "data.augmentation", "data.transforms"}
    named -= {"data.train.update", "train.update"}
    nodes = {key: OmegaConf.select(cfg, key.rpartition(".")[0]) for key in named}
    missing = {key for key, node in nodes.items() if key.rpartition(".")[2] not in (node or ())}
    assert not missing
