"""The settings of other codebases: a config accepts them, and they reproduce the source's geometry."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from hrnet_kpt.config import load_config
from hrnet_kpt.config.checks.check import check_config
from hrnet_kpt.config.resolve import differing_settings
from hrnet_kpt.weights.layouts import find_layout

CONFIG = "configs/hrnet_w18_kpt.py"
PARTS = ["bottom_up", "neck", "RPN", "box head", "mask head", "keypoint head"]
SAMPLED_TWICE = [
    f"model.roi_heads.{part}_pooler.{setting}"
    for part in ("box", "keypoint")
    for setting in ("pooler_type=ROIAlign", "sampling_ratio=2")
]
WHOLE_PIXELS = [
    "model.proposal_generator.anchor_generator.offset=0.5",
    "+model.proposal_generator.anchor_boundary_thresh=0.0",
    *SAMPLED_TWICE,
]
# Overrides of the page; other layouts need none.
DIFFERENCES = {
    "maskrcnn-benchmark": WHOLE_PIXELS,
    "hrnet-object-detection": WHOLE_PIXELS,
    "torchvision": SAMPLED_TWICE,
}
SIZES, RATIOS, STRIDES = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0), (4, 8, 16, 32, 64)


def overrides_for(layout):
    settings = find_layout(layout).settings_of(PARTS)
    return differing_settings(load_config(CONFIG), settings)


@pytest.mark.parametrize(
    "layout",
    ["timm", "pose", "mmpose", "mmdet", "detectron2", "hrnet_kpt", *DIFFERENCES],
)
def test_settings_that_differ_are_overrides_that_load(layout):
    overrides = overrides_for(layout)
    assert sorted(overrides) == sorted(DIFFERENCES.get(layout, []))
    if overrides:
        cfg = load_config(CONFIG, overrides)
        assert [str(f) for f in check_config(cfg) if f.level == "error"] == []
        # With them nothing differs any more.
        assert differing_settings(cfg, find_layout(layout).settings_of(PARTS)) == []


def test_colours_differ_from_those_of_a_config_with_others():
    settings = find_layout("timm").settings_of(["bottom_up"])
    others = ["model.input_format=BGR", "model.pixel_std=[1.0,1.0,1.0]"]
    assert differing_settings(load_config(CONFIG, others), settings) == [
        "model.input_format=RGB",
        "model.pixel_std=[58.395,57.12,57.375]",
    ]


# Anchors of one position, stride, size and each ratio of height to width, as the source has them: (ratios, 4).


def detectron_anchors(stride, size):
    """maskrcnn-benchmark: the ratios' sides of a cell are rounded, then scaled to the size; both ends count."""
    widths = torch.tensor([stride**2 / ratio for ratio in RATIOS]).sqrt().round()
    heights = (widths * torch.tensor(RATIOS)).round()
    half = (torch.stack([widths, heights], dim=1) * size / stride - 1) / 2
    centre = (stride - 1) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def old_mmdet_anchors(stride, size):
    roots = torch.tensor(RATIOS).sqrt()
    half = (torch.stack([stride / roots, stride * roots], dim=1) * (size / stride) - 1) / 2
    centre = (stride - 1) / 2
    return torch.cat([centre - half, centre + half], dim=1).round()


def mmdet_anchors(stride, size):
    roots = torch.tensor(RATIOS).sqrt()
    half = torch.stack([stride / roots, stride * roots], dim=1) * (size / stride) / 2
    return torch.cat([-half, half], dim=1)


def torchvision_anchors(stride, size):
    generator = AnchorGenerator(((size,),), (RATIOS,))
    images = ImageList(torch.zeros(1, 3, stride, stride), [(stride, stride)])
    [anchors] = generator(images, [torch.zeros(1, 1, 1, 1)])
    return anchors


def centres_and_sides(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


@pytest.mark.parametrize(
    "layout, theirs, end, shift, fraction, pixels",
    [
        # The source's rounding errors: of centres in pixels, and of sides as a fraction and in pixels.
        ("mmdet", mmdet_anchors, 0, 1e-3, 0, 1e-3),
        ("torchvision", torchvision_anchors, 0, 1e-3, 0, 1),
        ("maskrcnn-benchmark", detectron_anchors, 1, 1e-3, 0.061, 0),
        ("hrnet-object-detection", old_mmdet_anchors, 1, 1e-3, 0, 1),
    ],
)
def test_anchors_are_those_of_the_source(layout, theirs, end, shift, fraction, pixels):
    cfg = load_config(CONFIG, overrides_for(layout))
    ours = instantiate(cfg.model.proposal_generator.anchor_generator)(
        [torch.zeros(1, 1, 1, 1) for _ in STRIDES]
    )
    for boxes, stride, size in zip(ours, STRIDES, SIZES, strict=True):
        expected = theirs(stride, size) + torch.tensor([0, 0, end, end])
        (here, sides), (there, their_sides) = map(centres_and_sides, (boxes.tensor, expected))
        assert (here - there).abs().max() <= shift
        assert ((sides - their_sides).abs() <= pixels + fraction * sides).all()


@pytest.mark.parametrize("part, size", [("box", 7), ("keypoint", 14)])
def test_regions_are_pooled_as_in_torchvision(part, size):
    cfg = load_config(CONFIG, overrides_for("torchvision"))
    pooler = instantiate(cfg.model.roi_heads[f"{part}_pooler"])
    random = torch.Generator().manual_seed(0)
    levels = [torch.randn(1, 3, 256 // s, 256 // s, generator=random) for s in (4, 8, 16, 32)]
    # Small ones and large ones, for each level some.
    corners = torch.rand(40, 2, generator=random) * 100
    sides = 2 ** (3 + 4.2 * torch.rand(40, 2, generator=random))
    boxes = torch.cat([corners, corners + sides], dim=1)
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], size, sampling_ratio=2)
    expected = theirs({str(i): x for i, x in enumerate(levels)}, [boxes], [(256, 256)])
    # The same kernel of torchvision's on the same boxes.
    torch.testing.assert_close(pooler(levels, [Boxes(boxes)]), expected, rtol=0, atol=1e-5)
    # Other settings would show.
    aligned = instantiate(load_config(CONFIG).model.roi_heads[f"{part}_pooler"])
    assert (aligned(levels, [Boxes(boxes)]) - expected).abs().max() > 0.1
