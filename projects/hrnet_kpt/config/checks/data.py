"""Checks of data settings that a config repeats: counts, flips, the schema, paths and colours."""

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
    left_right_pairs,
    says_near_and_off,
    top_bottom_pairs,
)
from ..findings import Finding, error, warning
from ..keys import value_at
from ..override_values import shown
from ..signatures import accepts
from .build import describe, try_to_build

# Of ImageNet, with which the public HRNet weights were trained; pixel values are 0 to 255.
RGB_MEAN = [123.675, 116.28, 103.53]
RGB_STD = [58.395, 57.12, 57.375]

# Keys whose value follows from another key.
COUNTS = {
    "model.roi_heads.keypoint_head.num_keypoints": "data.keypoints",
    "model.roi_heads.num_classes": "data.classes",
    "model.roi_heads.mask_head.num_classes": "data.classes",
    "model.num_classes": "data.classes",  # of one-stage detectors
    "model.head.num_classes": "data.classes",
    "dataloader.train.mapper.keypoint_hflip_indices": "data.keypoints",
}
COPIES = {
    **{
        f"{place}.{name}": f"{split if name in ('annotations', 'images') else 'data'}.{name}"
        for place, split in (
            ("dataloader.train.dataset", "data.train"),
            ("dataloader.test.dataset", "data.test"),
            ("dataloader.evaluator", "data.test"),
        )
        for name in ("annotations", "images", "keypoints", "classes")
    },
    "dataloader.train.mapper.image_range": "data.image_range",
    "dataloader.test.mapper.image_range": "data.image_range",
}


def check_data_settings(cfg: DictConfig) -> list[Finding]:
    """Check counts, flips, schema, sigmas, paths and colours, wherever the config has them."""
    keys = ("data.keypoints", "data.classes")
    try:
        schema = resolve_schema(instantiate(cfg.data.keypoints))
        classes = resolve_classes(instantiate(cfg.data.get("classes", "auto")))
        schema.flip_indices, [len(names) for names in classes.values()]
    except (ValueError, TypeError, AttributeError) as reason:
        message = f"data.keypoints and data.classes are not valid ({describe(reason)}): set both to auto to read them"
        return [error("schema-wrong", keys, message)]
    if not classes:
        return [error("schema-wrong", keys[1], "data.classes is empty: name a class, or set auto")]
    return [
        *_check_counts(cfg, schema, len(classes)),
        *_check_schema(cfg, schema, classes),
        *_check_masks(cfg),
        *_check_copies(cfg),
        *_check_mirrors(cfg, schema, classes),
        *_check_mappers(cfg),
        *_check_colours(cfg),
    ]


def _check_counts(cfg: DictConfig, schema: KeypointSchema, num_classes: int) -> Iterator[Finding]:
    # detectron2 trains a head with too many keypoints without an error, on the wrong rows of its output.
    for key, source in COUNTS.items():
        right: Any = num_classes if source == "data.classes" else len(schema.names)
        right = list(schema.flip_indices) if key.endswith("indices") else right
        parent, _, name = key.rpartition(".")
        node = value_at(cfg, parent)
        if not accepts(node, name):
            continue
        value = try_to_build(node.get(name), "cpu")
        if isinstance(value, Exception):
            message = f"{key} cannot be computed ({describe(value)}): let it follow {source}"
            yield error("count-differs", (key, source), message)
            continue
        plain = list(value) if isinstance(right, list) and value is not None else value
        # A missing count is found when the part is built, unless the part sets it itself.
        if plain != right and (value is not None or isinstance(right, list)):
            found = "missing" if value is None else shown(plain)
            message = f"{key} is {found}, but {source} gives {shown(right)}: let it follow {source}"
            yield error("count-differs", (key, source), message)
    key = "dataloader.evaluator.kpt_oks_sigmas"
    sigmas = value_at(cfg, key)
    if sigmas is not None and len(sigmas) != len(schema.names):
        message = f"{key} has {len(sigmas)} sigmas for {len(schema.names)} keypoints: set one for each keypoint"
        yield error("count-differs", (key, "data.keypoints"), message)


def _check_schema(cfg: DictConfig, schema: KeypointSchema, classes: Classes) -> Iterator[Finding]:
    key = "data.keypoints.sigmas"
    unset = isinstance(cfg.data.keypoints, DictConfig) and not cfg.data.keypoints.get("sigmas")
    if unset and schema.names:
        message = f"{key} is missing: {DEFAULT_SIGMA} is used for every keypoint; set it"
        yield warning("sigmas-missing", key, message)
    large = [name for name, sigma in zip(schema.names, schema.sigmas, strict=True) if sigma > 0.5]
    if large:
        message = (
            f"{key} of {', '.join(large[:5])} are above 0.5 (COCO's are 0.025 to 0.107): any point then counts as "
            "correct and keypoint AP means little; set smaller ones"
        )
        yield warning("sigma-large", key, message)
    mirrored = {frozenset(pair) for pair in schema.flip_pairs}
    unpaired = [
        pair
        for pair in left_right_pairs(schema.names)
        # "near" can also mean near to the camera.
        if frozenset(pair) not in mirrored and not says_near_and_off(pair)
    ]
    if unpaired:
        key = "data.keypoints.flip_pairs"
        message = f"{key} does not swap {_pairs(unpaired)}: mirrored images would have them on the wrong side; add them"
        yield warning("flips-missing", key, message)
    owned = {name for names in classes.values() for name in names}
    orphans = [name for name in schema.names if name not in owned]
    if orphans:
        message = (
            f"data.keypoints has {', '.join(orphans[:3])}, which no class of data.classes has, so nothing trains them: "
            "add them to a class, or remove them from data.keypoints"
        )
        yield warning("keypoints-unused", ("data.classes", "data.keypoints"), message)


def _check_mirrors(cfg: DictConfig, schema: KeypointSchema, classes: Classes) -> Iterator[Finding]:
    """Classes and corners that a mirrored image confuses, whichever keypoints are swapped."""
    key = "dataloader.train.mapper.augmentations"
    mapper = try_to_build(value_at(cfg, "dataloader.train.mapper"), "cpu")
    directions = flip_directions(getattr(mapper, "augmentations", T.AugmentationList([])).augs)
    sides = left_right_pairs(list(classes))
    if sides and directions:
        message = (
            f"data.classes {_pairs(sides)} are left and right of the same object, and {key} mirrors images: a mirrored "
            "one looks like the other but keeps its class; remove RandomFlip, or make one class of them"
        )
        yield warning("classes-mirrored", ("data.classes", key), message)
    corners = top_bottom_pairs(schema.names) if "vertical" in directions else []
    if corners:
        message = (
            f"{key} flips images vertically and swaps left and right, which is right for bodies; corners named by "
            f"their position in the image need a swap of {_pairs(corners)}: remove the vertical flip"
        )
        yield warning("corners-mirrored", (key, "data.keypoints.flip_pairs"), message)


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{first} and {second}" for first, second in pairs[:3])


def _check_masks(cfg: DictConfig) -> Iterator[Finding]:
    """Segmentations are read exactly if the model has a mask head."""
    if value_at(cfg, "dataloader.train.dataset.masks") is None or "roi_heads" not in cfg.model:
        return  # data or a model of another kind
    key, head = "data.masks", "model.roi_heads.mask_head"
    has_head = value_at(cfg, head) is not None
    if has_head != cfg.data.get("masks", False):
        message = f"{key}={not has_head}, but the model has {'a' if has_head else 'no'} {head}: set {key}={has_head}"
        yield error("masks-differ", (key, head), message)


def _check_copies(cfg: DictConfig) -> Iterator[Finding]:
    """Nodes that take a value from `data` by interpolation, and were given another."""
    for key, source in COPIES.items():
        parent, _, name = key.rpartition(".")
        value, expected = value_at(cfg, key), value_at(cfg, source)
        if value is None and name == "image_range":
            value = "8-bit"  # the mapper's default
        if expected is None or value == expected or not accepts(value_at(cfg, parent), name):
            continue
        found, right = (
            shown(list(node.get("names", node)) if isinstance(node, DictConfig) else node)
            for node in (value, expected)
        )
        message = f"{key} is {found}, but {source} is {right}: set {source} only, and let {key} follow ${{{source}}}"
        yield error("copies-differ", (key, source), message)


def _check_mappers(cfg: DictConfig) -> Iterator[Finding]:
    for split, training in (("train", True), ("test", False)):
        key = f"dataloader.{split}.mapper"
        node = value_at(cfg, key)
        if not isinstance(node, DictConfig):
            continue
        reason = try_to_build(node, "cpu")
        if isinstance(reason, Exception):
            message = f"{key} cannot be built: {describe(reason)}: check its augmentations"
            yield error("mapper-wrong", key, message)
        if node.get("is_train", training) != training:
            message = f"{key}.is_train={node.is_train} must be {training} for this split"
            yield error("value-wrong", f"{key}.is_train", message)


def _check_colours(cfg: DictConfig) -> Iterator[Finding]:
    order = value_at(cfg, "model.input_format")
    for split in ("train", "test"):
        key = f"dataloader.{split}.mapper.image_format"
        mapped = value_at(cfg, key)
        if mapped is not None and mapped != order and "input_format" in cfg.model:
            message = f"{key} is {mapped}, but model.input_format is {order}: let it follow ${{model.input_format}}"
            yield error("colours-differ", (key, "model.input_format"), message)
    if "pixel_mean" not in cfg.model:
        return
    keys = ("model.pixel_mean", "model.pixel_std")
    mean, std = (_numbers(cfg, key) for key in keys)
    both = f"model.pixel_mean={mean} and model.pixel_std={std}"
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        message = f"{both} must have three numbers each, those of pixel_std positive"
        yield error("colours-wrong", keys, message)
    elif max(mean) <= 1 and max(std) <= 1 and any(mean):
        message = f"{both} are for pixels from 0 to 1, but they are 0 to 255: multiply both by 255"
        yield error("colours-wrong", keys, message)
    elif "hrnet" in str(value_at(cfg, "model.backbone.bottom_up._target_")).lower():
        yield from _check_hrnet_colours(order, mean, std)


def _check_hrnet_colours(order: Any, mean: list[float], std: list[float]) -> Iterator[Finding]:
    step = -1 if order == "BGR" else 1
    right_mean, right_std = RGB_MEAN[::step], RGB_STD[::step]
    reversed_mean = mean == right_mean[::-1]
    if reversed_mean:
        message = f"model.pixel_mean={mean} is not in the order of model.input_format={order}: set {right_mean}"
        yield error("colours-differ", ("model.pixel_mean", "model.input_format"), message)
    unusual = []
    if not reversed_mean and not _near(mean, right_mean):
        unusual.append(("model.pixel_mean", mean, f"ImageNet's {right_mean}"))
    if not _near(std, right_std):
        unusual.append(("model.pixel_std", std, f"ImageNet's {right_std}"))
    if order != "RGB":
        unusual.append(("model.input_format", order, "RGB"))
    for key, value, usual in unusual:
        message = f"{key}={value}, but HRNet weights were trained with {usual}: set it, unless the weights are your own"
        yield warning("colours-unusual", key, message)


def _near(values: list[float], expected: list[float]) -> bool:
    return all(abs(a - b) < 0.5 for a, b in zip(values, expected, strict=True))


def _numbers(cfg: DictConfig, key: str) -> list[float]:
    value = value_at(cfg, key)
    if not OmegaConf.is_list(value) or not all(isinstance(x, int | float) for x in value):
        return []
    return [float(x) for x in value]
