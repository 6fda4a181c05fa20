"""What the config says of the data, in more than one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import detectron2.data.transforms as T
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from ...data.categories import Classes, resolve_classes, resolve_schema
from ...data.mapper import flip_directions
from ...data.schema import (
    DEFAULT_SIGMA,
    KeypointSchema,
    is_near_off_pair,
    left_right_pairs,
    top_bottom_pairs,
)
from ..findings import Finding, error, warning
from ..keys import value_at
from ..override_values import shown
from ..signatures import call_parameters, target_of
from .build import describe, try_to_build

# ImageNet's, with which the public HRNet weights were trained; pixel values are 0 to 255.
RGB_MEAN = (123.675, 116.28, 103.53)
RGB_STD = (58.395, 57.12, 57.375)

COUNTS = {
    "model.roi_heads.keypoint_head.num_keypoints": "data.keypoints",
    "model.roi_heads.num_classes": "data.classes",
    "model.roi_heads.mask_head.num_classes": "data.classes",
    "model.num_classes": "data.classes",  # of one-stage detectors
    "model.head.num_classes": "data.classes",
    "dataloader.train.mapper.keypoint_hflip_indices": "data.keypoints",
}


def check_data_settings(cfg: DictConfig) -> list[Finding]:
    """Counts, flips, schema, sigmas, paths and colours, wherever they are said."""
    try:
        schema = resolve_schema(instantiate(cfg.data.keypoints))
        classes = resolve_classes(instantiate(cfg.data.get("classes", "auto")))
        schema.flip_indices, [len(names) for names in classes.values()]
    except (ValueError, TypeError, AttributeError) as reason:
        sentence = f"data.keypoints and data.classes are no schema ({describe(reason)}): set both to auto to read them"
        return [error("schema-wrong", ("data.keypoints", "data.classes"), sentence)]
    if not classes:
        return [
            error(
                "schema-wrong",
                "data.classes",
                "data.classes is empty: name a class, or set it to auto",
            )
        ]
    return [
        *_check_counts(cfg, schema, len(classes)),
        *_check_schema(cfg, schema, classes),
        *_check_masks(cfg),
        *_check_copies(cfg),
        *_check_image_ranges(cfg),
        *_check_mirrors(cfg, schema, classes),
        *_check_mappers(cfg),
        *_check_colours(cfg),
    ]


def _check_counts(cfg: DictConfig, schema: KeypointSchema, num_classes: int) -> Iterator[Finding]:
    """detectron2 trains a head of too many keypoints without a word, on the wrong rows of its output."""
    for key, source in COUNTS.items():
        right: Any = num_classes if source == "data.classes" else len(schema.names)
        right = list(schema.flip_indices) if key.endswith("indices") else right
        parent, _, name = key.rpartition(".")
        node = value_at(cfg, parent)
        if not isinstance(node, DictConfig) or name not in call_parameters(target_of(node)).names:
            continue
        value = try_to_build(node.get(name), "cpu")
        if isinstance(value, Exception):
            yield error(
                "count-differs",
                (key, source),
                f"{key} cannot be computed ({describe(value)}): leave it to {source}",
            )
            continue
        plain = list(value) if isinstance(right, list) and value is not None else value
        # A count that is missing is found where the part is built, unless the part gives it itself.
        if plain != right and (value is not None or isinstance(right, list)):
            begin = f"{key} is missing" if value is None else f"{key} is {shown(plain)}"
            sentence = f"{begin}, but by {source} it is {shown(right)}: leave it to {source}"
            yield error("count-differs", (key, source), sentence)
    sigmas = value_at(cfg, "dataloader.evaluator.kpt_oks_sigmas")
    if sigmas is not None and len(sigmas) != len(schema.names):
        key = "dataloader.evaluator.kpt_oks_sigmas"
        sentence = f"{key} has {len(sigmas)} sigmas, data.keypoints {len(schema.names)} keypoints: give one for each"
        yield error("count-differs", (key, "data.keypoints"), sentence)


def _check_schema(cfg: DictConfig, schema: KeypointSchema, classes: Classes) -> Iterator[Finding]:
    unknown = isinstance(cfg.data.keypoints, DictConfig) and not cfg.data.keypoints.get("sigmas")
    if unknown and schema.names:
        key = "data.keypoints.sigmas"
        yield warning(
            "sigmas-missing", key, f"{key} is missing: every keypoint gets {DEFAULT_SIGMA}; set it"
        )
    mirrored = {frozenset(pair) for pair in schema.flip_pairs}
    unpaired = [
        pair
        for pair in left_right_pairs(schema.names)
        if frozenset(pair) not in mirrored and not is_near_off_pair(pair)  # near may be: the camera
    ]
    if unpaired:
        pairs = ", ".join(f"{left} and {right}" for left, right in unpaired[:3])
        key = "data.keypoints.flip_pairs"
        sentence = f"{key} does not swap {pairs}: in mirrored images they would be taught the wrong way round; add them"
        yield warning("flips-missing", key, sentence)
    owned = {name for names in classes.values() for name in names}
    orphans = [name for name in schema.names if name not in owned]
    if orphans:
        keys = ("data.classes", "data.keypoints")
        shown_orphans = ", ".join(orphans[:3])
        sentence = f"data.keypoints has {shown_orphans}, which no class of data.classes has: nothing trains them"
        yield warning(
            "keypoints-unused",
            keys,
            f"{sentence}; add them to a class, or leave them out of data.keypoints",
        )
    large = [name for name, sigma in zip(schema.names, schema.sigmas, strict=True) if sigma > 0.5]
    if large:
        yield warning(
            "sigma-large",
            "data.keypoints.sigmas",
            f"data.keypoints.sigmas of {', '.join(large[:5])} are above 0.5 (COCO's are 0.025 to 0.107): with such any "
            "point counts as found and keypoint AP means little; set data.keypoints.sigmas",
        )


def _check_mirrors(cfg: DictConfig, schema: KeypointSchema, classes: Classes) -> Iterator[Finding]:
    """What a mirrored image turns into something else, and the swap of keypoints does not make good."""
    key = "dataloader.train.mapper.augmentations"
    mapper = try_to_build(value_at(cfg, "dataloader.train.mapper"), "cpu")
    directions = flip_directions(getattr(mapper, "augmentations", T.AugmentationList([])).augs)
    sides = left_right_pairs(list(classes))
    if sides and directions:
        shown_sides = ", ".join(f"{left} and {right}" for left, right in sides[:3])
        yield warning(
            "classes-mirrored",
            ("data.classes", key),
            f"data.classes {shown_sides} are left and right of the same: {key} mirrors images, in which one looks like "
            "the other and keeps its class; leave RandomFlip out, or make one class of them",
        )
    corners = top_bottom_pairs(schema.names) if "vertical" in directions else []
    if corners:
        shown_corners = ", ".join(f"{top} and {bottom}" for top, bottom in corners[:3])
        yield warning(
            "corners-mirrored",
            (key, "data.keypoints.flip_pairs"),
            f"{key} mirrors vertically, which swaps left and right, as it is with bodies; of a thing whose corners are "
            f"named as they stand in the image, it would have to swap {shown_corners}: leave the vertical flip out",
        )


def _check_masks(cfg: DictConfig) -> Iterator[Finding]:
    """Outlines that a mask head needs, or that no head learns."""
    if value_at(cfg, "dataloader.train.dataset.masks") is None or "roi_heads" not in cfg.model:
        return  # data or a model of another kind
    key, head = "data.masks", "model.roi_heads.mask_head"
    there = value_at(cfg, head) is not None
    if there != cfg.data.get("masks", False):
        sentence = (
            f"{key}={not there}, but {head} is {'there' if there else 'missing'}: set {key}={there}"
        )
        yield error("masks-differ", (key, head), sentence)


def _check_copies(cfg: DictConfig) -> Iterator[Finding]:
    """Nodes that take their value from `data` by interpolation, and were given another."""
    places = {
        "dataloader.train.dataset": "data.train",
        "dataloader.test.dataset": "data.test",
        "dataloader.evaluator": "data.test",
    }
    for place, split in places.items():
        for name in ("annotations", "images", "keypoints", "classes"):
            source = f"{split if name in ('annotations', 'images') else 'data'}.{name}"
            value = value_at(cfg, f"{place}.{name}")
            expected = value_at(cfg, source)
            node = value_at(cfg, place)
            takes = isinstance(node, DictConfig) and name in call_parameters(target_of(node)).names
            if takes and expected is not None and value != expected:
                key = f"{place}.{name}"
                told, right = (shown(_brief(node)) for node in (value, expected))
                sentence = f"{key} is {told}, but {source} is {right}: set {source} alone"
                yield error("copies-differ", (key, source), sentence)


def _check_image_ranges(cfg: DictConfig) -> Iterator[Finding]:
    source = value_at(cfg, "data.image_range")
    for split in ("train", "test"):
        key = f"dataloader.{split}.mapper"
        node = value_at(cfg, key)
        if source is None or not isinstance(node, DictConfig):
            continue
        if "image_range" not in call_parameters(target_of(node)).names:
            continue  # a mapper of one's own
        value = node.get("image_range", "8-bit")
        if value != source:
            sentence = (
                f"{key}.image_range is {shown(value)}, but data.image_range is {shown(source)}"
            )
            keys = (f"{key}.image_range", "data.image_range")
            yield error("copies-differ", keys, f"{sentence}: let it follow ${{data.image_range}}")


def _check_mappers(cfg: DictConfig) -> Iterator[Finding]:
    """Augmentations are built, which takes no data."""
    for split, expected in (("train", True), ("test", False)):
        key = f"dataloader.{split}.mapper"
        node = value_at(cfg, key)
        if not isinstance(node, DictConfig):
            continue
        reason = try_to_build(node, "cpu")
        if isinstance(reason, Exception):
            yield error(
                "mapper-wrong",
                key,
                f"{key} cannot be built: {describe(reason)}: see its augmentations",
            )
        if node.get("is_train", expected) != expected:
            sentence = (
                f"{key}.is_train={node.is_train} must be {expected}: the run needs instances so"
            )
            yield error("value-wrong", f"{key}.is_train", sentence)


def _check_colours(cfg: DictConfig) -> Iterator[Finding]:
    colour = value_at(cfg, "model.input_format")
    for split in ("train", "test"):
        key = f"dataloader.{split}.mapper.image_format"
        mapped = value_at(cfg, key)
        if mapped is not None and mapped != colour and "input_format" in cfg.model:
            sentence = f"{key} is {mapped}, but model.input_format is {colour}: let it follow ${{model.input_format}}"
            yield error("colours-differ", (key, "model.input_format"), sentence)
    if "pixel_mean" not in cfg.model:
        return
    mean, std = (_numbers(cfg, f"model.pixel_{name}") for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        keys = ("model.pixel_mean", "model.pixel_std")
        yield error(
            "colours-wrong",
            keys,
            f"model.pixel_mean={mean} and pixel_std={std} need three numbers each, std above 0",
        )
    elif max(mean) <= 1 and max(std) <= 1 and any(mean):
        keys = ("model.pixel_mean", "model.pixel_std")
        sentence = f"model.pixel_mean={mean} and pixel_std={std} are for pixels from 0 to 1, but these are 0 to 255"
        yield error("colours-wrong", keys, f"{sentence}: multiply both by 255")
    elif "hrnet" in str(value_at(cfg, "model.backbone.bottom_up._target_")).lower():
        yield from _check_hrnet_colours(colour, mean, std)


def _check_hrnet_colours(colour: Any, mean: list[float], std: list[float]) -> Iterator[Finding]:
    order = -1 if colour == "BGR" else 1
    right_mean, right_std = list(RGB_MEAN)[::order], list(RGB_STD)[::order]
    if mean == right_mean[::-1] and mean != right_mean:
        keys = ("model.pixel_mean", "model.input_format")
        sentence = f"model.pixel_mean={mean} is in the other order than model.input_format={colour}: it is {right_mean}"
        yield error("colours-differ", keys, sentence)
    elif not _near(mean, right_mean):
        sentence = f"model.pixel_mean={mean} is not ImageNet's {right_mean}, which HRNet weights were trained with"
        yield warning(
            "colours-unusual",
            "model.pixel_mean",
            f"{sentence}: set it, unless the weights are your own",
        )
    if not _near(std, right_std):
        sentence = f"model.pixel_std={std} is not ImageNet's {right_std}, which HRNet weights were trained with"
        yield warning(
            "colours-unusual",
            "model.pixel_std",
            f"{sentence}: set it, unless the weights are your own",
        )
    if colour != "RGB":
        sentence = f"model.input_format={colour}, but HRNet weights were trained on RGB"
        yield warning(
            "colours-unusual",
            "model.input_format",
            f"{sentence}: set RGB, unless the weights are your own",
        )


def _near(values: list[float], expected: list[float]) -> bool:
    return all(abs(a - b) < 0.5 for a, b in zip(values, expected, strict=True))


def _numbers(cfg: DictConfig, key: str) -> list[float]:
    value = value_at(cfg, key)
    if not OmegaConf.is_list(value) or not all(isinstance(x, int | float) for x in value):
        return []
    return [float(x) for x in value]


def _brief(value: Any) -> Any:
    return list(value.get("names", value)) if isinstance(value, DictConfig) else value
