"""The commands, tables, numbers and outputs of docs/weights.md are right."""

import re
import shlex
from functools import partial

import pytest
import timm
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.config.resolve import differing_settings
from hrnet_kpt.weights.layouts import LAYOUTS

BOTTOM_UP = "backbone.bottom_up."
HEADS = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


@pytest.fixture
def page(repository):
    return (repository / "docs" / "weights.md").read_text()


@pytest.fixture
def blocks(code_blocks):
    return partial(code_blocks, "weights.md")


@pytest.fixture
def rows(page):
    """Function of a table's first heading: its rows, a list of cells each."""

    def rows(heading):
        table = re.search(rf"^\| {heading} \|.*?\n\n", page, re.DOTALL | re.MULTILINE)[0]
        lines = table.strip().splitlines()[2:]
        return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]

    return rows


@pytest.fixture(scope="module")
def classifier():
    """Shapes of the tensors of timm's HRNet-W18 by name, counters left out."""
    with torch.device("meta"):
        state = timm.create_model("hrnet_w18", pretrained=False).state_dict()
    return {name: value.shape for name, value in state.items() if "num_batches_tracked" not in name}


@pytest.fixture
def stand_ins(classifier, tmp_path, monkeypatch):
    """The files that the examples name, with numbers that tell tensors apart, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    random = torch.Generator().manual_seed(0)
    tensors = {name: torch.rand(shape, generator=random) for name, shape in classifier.items()}
    torch.save(tensors, "hrnetv2_w18_imagenet_pretrained.pth")
    bottom_up = {name: value for name, value in tensors.items() if not name.startswith(HEADS)}
    detector = {f"backbone.{name}": value for name, value in bottom_up.items()}
    detector["roi_head.bbox_head.fc_cls.bias"] = torch.arange(81.0)
    torch.save({"meta": {}, "state_dict": detector}, "mask_rcnn_hrnetv2p_w18_2x_coco.pth")
    return bottom_up


def test_every_layout_is_in_the_table_and_nothing_else(rows, page):
    named = [re.fullmatch(r"`([\w-]+)`", row[0])[1] for row in rows("layout")]
    assert set(named) == {layout.name for layout in LAYOUTS}
    # HRNet-Image-Classification's files, and open-mmlab's copies of them, have timm's layout.
    assert len(named) == len(LAYOUTS) + 2 and "nine layouts" in page and len(LAYOUTS) == 9


def test_table_tells_licence_and_content_of_each_source(rows):
    for row in rows("layout"):
        assert len(row) == 4
        code, weights = row[2].split("; ", 1)
        assert code and weights
    assert all(len(row) == 3 for row in rows("heads of"))


@pytest.mark.parametrize("width", [18, 32, 40, 48])
def test_files_that_the_configs_start_from_are_in_the_table(width, page):
    address = load_config(f"hrnet_w{width}_kpt.py").train.init_checkpoint
    folder, _, name = address.rpartition("/")
    assert name in page and f"<{folder}/" in page


def test_numbers_of_tensors_are_those_of_timm_s_network(classifier, page):
    heads = [name for name in classifier if name.startswith(HEADS)]
    fusion = [name for name in classifier if re.match(r"stage4\.2\.fuse_layers\.[1-3]\.", name)]
    bottom_up = len(classifier) - len(heads)
    assert (
        f"{bottom_up} of {bottom_up} backbone tensors from timm layout; {len(heads)} head" in page
    )
    assert f"{bottom_up - len(fusion)} of {bottom_up} backbone tensors from pose layout" in page
    assert f"{len(fusion)} tensors, `stage4.2.fuse_layers.1` to `3`" in " ".join(page.split())


def test_settings_of_the_table_are_all_that_differs_from_the_page(rows):
    keys = {}
    for heads, settings, _ in rows("heads of"):
        listed = re.findall(r"`(\+?model\.[^`]*)`", settings)
        if "those of torchvision" in settings:
            listed += keys["torchvision"]
        for name in re.findall(r"`([\w-]+)`", heads):
            keys[name] = listed
    for layout in LAYOUTS:
        wanted = {key: value for part in layout.settings.values() for key, value in part.items()}
        overrides = differing_settings(load_config("hrnet_w18_kpt.py"), wanted)
        # The page has no mask head, and so no pooler for one.
        assert set(overrides) == set(keys.get(layout.name, [])), layout.name
    assert {name for name, overrides in keys.items() if overrides} == {
        "torchvision",
        "maskrcnn-benchmark",
        "hrnet-object-detection",
    }


def test_commands_are_ones_that_the_tools_take(blocks, load_tool, repository):
    lines = [line for block in blocks("") for line in re.sub(r"\\\n", " ", block).splitlines()]
    assert len(lines) == 10
    for name, *arguments in map(shlex.split, lines):
        args = load_tool(name).parser().parse_intermixed_args(arguments)
        if args.config_file:
            assert (repository / args.config_file).is_file()
            load_config(repository / args.config_file, args.overrides)


def test_example_of_loading_fills_the_backbone(blocks, stand_ins, capsys):
    names = {}
    exec(blocks("python")[0], names)
    state = names["model"].state_dict()
    for name, value in stand_ins.items():
        torch.testing.assert_close(state[BOTTOM_UP + name], value, rtol=0, atol=0)
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"{line} [hrnetv2_w18_imagenet_pretrained.pth]" in blocks("text")[0].splitlines()
    assert names["loaded"].parts == ["bottom_up"] and "neck" in names["loaded"].absent


def test_example_of_renaming_gives_both_names(blocks, stand_ins):
    names = {}
    exec(blocks("python")[1], names)
    ours, bottom_up = names["ours"], names["bottom_up"]
    scores = ours["roi_heads.box_predictor.cls_score.bias"]
    torch.testing.assert_close(scores, torch.arange(81.0), rtol=0, atol=0)
    assert {name.removeprefix(BOTTOM_UP) for name in ours if name.startswith(BOTTOM_UP)} == set(
        bottom_up
    )
    with torch.device("meta"):
        network = timm.create_model("hrnet_w18", pretrained=False)
    missing, unexpected = network.load_state_dict(bottom_up, strict=False, assign=True)
    assert not unexpected and all(
        name.startswith(HEADS) or name.endswith("num_batches_tracked") for name in missing
    )
    state = network.state_dict()
    for name, value in stand_ins.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
