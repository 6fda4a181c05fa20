"""Every shipped config: parameters, two iterations of training, evaluation and saving."""

import functools
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.engine import train

CONFIGS = sorted(p.name for p in (Path(__file__).resolve().parents[2] / "configs").glob("*.py"))
WIDTHS = (18, 32, 40, 48)
TASKS = ("kpt", "box", "mask", "mask_kpt", "cascade")

# Parameters in millions, of the widths above. Those of bottom_up and neck agree with the published 21.3, 41.2, 57.6 and
# 77.5 of the classification nets.
BOTTOM_UPS = (9.562, 29.306, 45.521, 65.325)
NECKS = (3.020, 3.074, 3.104, 3.135)
RPN, BOX_HEAD, KEYPOINT_HEAD = 0.594, 13.896, 17.838


def predictor(classes, agnostic=False):
    return 1025 * ((classes + 1) + 4 * (1 if agnostic else classes)) / 1e6


def mask_head(classes):
    convolutions = 4 * (9 * 256 * 256 + 256)
    return (convolutions + 4 * 256 * 256 + 256 + 257 * classes) / 1e6


HEADS = {
    "kpt": BOX_HEAD + predictor(1) + KEYPOINT_HEAD,
    "box": BOX_HEAD + predictor(80),
    "mask": BOX_HEAD + predictor(80) + mask_head(80),
    "mask_kpt": BOX_HEAD + predictor(1) + mask_head(1) + KEYPOINT_HEAD,
    "cascade": 3 * (BOX_HEAD + predictor(1, agnostic=True)) + mask_head(1) + KEYPOINT_HEAD,
}
FASTER_RCNN = (27.5, 47.3, 63.5, 83.4)  # 80 classes


@functools.cache
def bottom_up(width):
    """The bottom_up node of the width's keypoint config, and its parameters in millions."""
    node = LazyConfig.load(f"configs/hrnet_w{width}_kpt.py").model.backbone.bottom_up
    with torch.device("meta"):
        return node, millions(instantiate(node))


def millions(model):
    # FrozenBN keeps its weight and bias as buffers.
    affine = [b for n, b in model.named_buffers() if n.endswith((".weight", ".bias"))]
    return sum(t.numel() for t in [*model.parameters(), *affine]) / 1e6


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("width", WIDTHS)
def test_parameters(width, task, shallow):
    cfg = LazyConfig.load(f"configs/hrnet_w{width}_{task}.py")  # as plain detectron2 does
    node, bottom_up_count = bottom_up(width)
    assert cfg.model.backbone.bottom_up == node
    with torch.device("meta"):
        model = instantiate(shallow(cfg).model)
    i = WIDTHS.index(width)
    count = millions(model) - millions(model.backbone.bottom_up) + bottom_up_count
    # Each of the four parts is rounded to a thousand.
    assert count == pytest.approx(BOTTOM_UPS[i] + NECKS[i] + RPN + HEADS[task], abs=0.003)
    if task == "box":
        assert count == pytest.approx(FASTER_RCNN[i], abs=0.05)


def test_no_two_share_more_than_five_lines(repository):
    contents = {}
    for path in [*(repository / "configs").rglob("*.py")]:
        text = re.sub(r'^""".*?"""', "", path.read_text(), flags=re.DOTALL)
        text = re.sub(r"^(from|import) [^(\n]*(\([^)]*\))?", "", text, flags=re.MULTILINE)
        lines = (line.strip() for line in text.splitlines())
        # Lines of brackets and commas do not count.
        contents[path.name] = {line for line in lines if re.search(r"\w", line)}
    for (name, lines), (other, others) in itertools.combinations(contents.items(), 2):
        assert len(lines & others) <= 5, f"{name} and {other}: {sorted(lines & others)}"


@pytest.mark.parametrize(
    ("name", "override"),
    [("hrnet_w18_mask.py", "data.masks=false"), ("hrnet_w18_kpt.py", "data.masks=true")],
)
def test_mask_heads_need_segmentations(name, override):
    found = [f for f in check_config(load_config(name, [override])) if f.level == "error"]
    assert [finding.name for finding in found] == ["masks-differ"]


# Overrides that make a config small and fast: of the page, the R50 and a cascade.
SMALL = {
    "model.backbone.out_channels": 16,
    "model.backbone.bottom_up.width": 4,
    "model.backbone.bottom_up.num_modules": [1, 1, 1, 1],
    "model.backbone.bottom_up.num_blocks": [1, 1, 1, 1],
    "model.backbone.bottom_up.stage1_channels": 8,
    "model.backbone.bottom_up.norm": "BN",
    "model.backbone.bottom_up.stem.norm": "BN",
    "model.backbone.bottom_up.stages.norm": "BN",
    "model.backbone.bottom_up.freeze_at": 0,
    "model.proposal_generator.post_nms_topk": [30, 20],
    "model.roi_heads.batch_size_per_image": 16,
    "model.roi_heads.box_head.fc_dims": [16, 16],
    "model.roi_heads.box_heads.0.fc_dims": [16, 16],
    "model.roi_heads.box_heads.1.fc_dims": [16, 16],
    "model.roi_heads.box_heads.2.fc_dims": [16, 16],
    "model.roi_heads.box_predictor.test_score_thresh": 0.0,
    "model.roi_heads.box_predictors.2.test_score_thresh": 0.0,
    "model.roi_heads.mask_head.conv_dims": [8, 8],
    "model.roi_heads.keypoint_head.conv_dims": [8],
    "dataloader.test.mapper.augmentations.0.short_edge_length": 96,
    "train.init_checkpoint": "",
    "dataloader.train.total_batch_size": 2,
    "dataloader.train.num_workers": 0,
    "dataloader.test.num_workers": 0,
    "train.max_iter": 2,
    "train.eval_period": 0,
    "train.device": "cpu",
}
SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    if re.match(r"hrnet_w(32|40|48)|.*(light|3x|synthetic|small)|r50_fpn_box", name)
    else name
    for name in CONFIGS
]


@pytest.mark.parametrize("name", SLOW)
def test_trains_evaluates_and_is_saved(name, drawn_people, tmp_path):
    paths = [f"data.root={drawn_people}", f"train.output_dir={tmp_path / 'run'}"]
    for split in ("train", "test"):
        folder = drawn_people / split
        paths += [f"data.{split}.annotations={folder}.json", f"data.{split}.images={folder}"]
    cfg = load_config(name)
    keys = [key for key in SMALL if OmegaConf.select(cfg, key) is not None]
    cfg = load_config(name, [*paths, *(f"{key}={SMALL[key]}" for key in keys)])
    cfg.data.pop("generate", None)
    resize = cfg.dataloader.train.mapper.augmentations[0]
    sizes = {"short_edge_length": [96], "target_height": 96, "target_width": 96}
    resize.update({key: size for key, size in sizes.items() if key in resize})

    assert not [str(f) for f in check_config(cfg) if f.level == "error"]
    scores = train(cfg)
    tasks = {"bbox"} | ({"segm"} if cfg.data.masks else set())
    tasks |= {"keypoints"} if "keypoint_head" in cfg.model.roi_heads else set()
    assert set(scores) == tasks
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    losses = {key for row in rows for key in row if key.startswith("loss_")}
    assert ("loss_mask" in losses) == cfg.data.masks
    assert ("loss_keypoint" in losses) == ("keypoints" in tasks)

    shapes = []
    for config in (cfg, *(load_config(tmp_path / f"run/config.{kind}") for kind in ("yaml", "py"))):
        with torch.device("meta"):
            state = instantiate(config.model).state_dict()
        shapes.append({name: tensor.shape for name, tensor in state.items()})
    assert shapes[0] == shapes[1] == shapes[2]
