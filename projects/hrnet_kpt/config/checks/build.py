"""The model of a config on the meta device, where tensors have shapes and no content, and its features there."""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ...errors import one_line, refuse_errors
from ..findings import Finding, error
from ..keys import value_at
from ..signatures import calls, target_of
from ..structure import check_structure, unknown_argument

HEADS = ("box", "mask", "keypoint")  # of the ROI heads


class Feature(NamedTuple):
    """A feature map (1, channels, height, width) and its real stride in pixels."""

    map: Tensor
    stride: float


Features = dict[str, Feature]


def build_on_meta(cfg: DictConfig) -> tuple[nn.Module | None, list[Finding]]:
    """The model in evaluation mode, or None and the reason why it cannot be built."""
    model = try_to_build(cfg.model)
    if isinstance(model, Exception) and "meta" in str(
        model
    ):  # some layers look at numbers when they are made
        model = try_to_build(cfg.model, "cpu")
        model = model.to("meta") if isinstance(model, nn.Module) else model
    if isinstance(model, nn.Module):
        return model.eval(), []
    unknown = _unknown_features(cfg)
    if unknown:
        return None, unknown
    # The innermost part that fails is to blame.
    parts = [(f"model.{key}", node) for key, node in calls(cfg.model)]
    for key, node in sorted(parts, key=lambda part: -part[0].count(".")):
        reason = try_to_build(node)
        if isinstance(reason, Exception):
            return None, [_failure(key, reason, node)]
    return None, [_failure("model", model, cfg.model)]


def build_or_refuse(cfg: DictConfig) -> nn.Module:
    """The same for those who need the model; raises UserError where it cannot be built."""
    refuse_errors(f for f in check_structure(cfg) if f.keys[0].split(".")[0] == "model")
    model, problems = build_on_meta(cfg)
    refuse_errors(problems)
    assert model is not None
    return model


def describe(reason: Exception) -> str:
    """An exception in one line; of one without words, the line that raised it."""
    frames = traceback.extract_tb(reason.__traceback__)
    return one_line(reason) + (frames[-1].line or "" if frames and not str(reason) else "")


def try_to_build(node: DictConfig, device: str = "meta") -> Any:
    """What the node makes, or the exception that it raises."""
    logger = logging.getLogger("detectron2.config.instantiate")
    logger.disabled = True  # it would say that something fails, without the reason
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return instantiate(node)
    except Exception as reason:
        return reason
    finally:
        logger.disabled = False


def _unknown_features(cfg: DictConfig) -> list[Finding]:
    """Names of features that the backbone, if that at least can be built, does not have."""
    backbone = try_to_build(cfg.model.get("backbone"))
    found: list[Finding] = []
    if not isinstance(backbone, nn.Module):
        return found
    produced = list(backbone.output_shape())  # type: ignore[operator]
    for part in ("proposal_generator.", *(f"roi_heads.{part}_" for part in HEADS)):
        names = value_at(cfg.model, f"{part}in_features")
        if names is not None:
            found += unknown_features(produced, names, f"model.{part}in_features")
    return found


def _failure(key: str, reason: Exception, node: DictConfig) -> Finding:
    """What stopped a part from being built, under the name that it has here."""
    message, text = str(reason), f"{key} cannot be built: {describe(reason)}"
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", message)
    if isinstance(reason, TypeError) and unexpected and unexpected[1] in node:
        return unknown_argument(key, unexpected[1], target_of(node))
    shape = node.get("input_shape")
    # The only one that a height and width may be left out for.
    is_predictor = key.endswith("predictor")
    if isinstance(reason, TypeError) and isinstance(shape, DictConfig):
        absent = [name for name in ("channels", "height", "width") if shape.get(name) is None]
        if absent and (absent[0] == "channels" or not is_predictor):
            missing = f"{key}.input_shape.{absent[0]}"
            sentence = f"{missing} is missing: let it follow the features and the pooler ({describe(reason)})"
            return error("shape-differs", missing, sentence)
    for words, name, keys, remedy in KNOWN:
        if re.search(words, message):
            named = tuple(f"{key}{path}" if path.startswith(".") else path for path in keys)
            return error(name, named or key, f"{text}: {remedy.format(key=key)}")
    return error("model-wrong", key, text)


def compute_features(model: Any) -> Features:
    """What the backbone gives for an image whose sides every stride divides."""
    divisor = max(1, getattr(model.backbone, "size_divisibility", 0))
    square = getattr(model.backbone, "padding_constraints", {}).get("square_size", 0)
    height, width = (square or math.lcm(divisor, 64) * n for n in (4, 5))
    image = torch.zeros(1, len(model.pixel_mean), height, width, device="meta")
    return {name: Feature(x, height / x.shape[2]) for name, x in model.backbone(image).items()}


def select(features: Features, names: Any, key: str) -> tuple[list[Feature], list[Finding]]:
    """The features of these names, or what is wrong with the names."""
    unknown = list(unknown_features(features, names, key))
    return ([], unknown) if unknown else ([features[name] for name in names], [])


def unknown_features(produced: Iterable[str], names: Iterable[str], key: str) -> Iterator[Finding]:
    """A finding if `key` asks for features that are not produced, or for none."""
    names, there = list(names), ", ".join(produced)
    unknown = [name for name in names if name not in produced]
    keys = (key, "model.backbone.out_features")
    if not names:
        yield error(
            "features-empty",
            keys,
            f"{key} is empty: name some of {there}, which model.backbone produces",
        )
    if len(set(names)) < len(names):
        yield error(
            "features-repeated", keys, f"{key}={names} names a feature twice: name each once"
        )
    if unknown:
        sentence = (
            f"{key} asks for {unknown}, which model.backbone does not produce: name some of {there}"
        )
        yield error("feature-unknown", keys, sentence)


def whole(strides: Iterable[float]) -> list[float]:
    """Strides as one writes them: 4, not 4.0."""
    return [int(stride) if float(stride).is_integer() else stride for stride in strides]


POOLED = ("model.roi_heads.box_in_features", "model.roi_heads.keypoint_in_features")
LEVELS = ("model.backbone.out_features", "model.proposal_generator.in_features")
# Words of the message, the finding, the keys that are concerned (those with a dot in front: of the part), the remedy.
KNOWN: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "_out_feature",
        "features-undeclared",
        (),
        "a backbone sets _out_features, _out_feature_channels and _out_feature_strides before it is wired",
    ),
    (r"in_features=\[\]", "features-empty", (".in_features",), "set {key}.in_features"),
    ("in_features=", "feature-unknown", (".in_features",), "set {key}.in_features"),
    (r"in_features\[0\]=", "strides-differ", (".in_features",), "set {key}.in_features"),
    ("out_features=", "feature-unknown", (".out_features",), "set {key}.out_features"),
    (
        r"'NoneType' object has no attribute '(fill_|data|zero_|normal_)",
        "bias-missing",
        (),
        "a layer without bias is initialised as if it had one: a neck initialises its own layers alone, for a loop "
        "over self.modules() reaches the backbone's and undoes its weights",
    ),
    (
        "no stride is known",
        "feature-unknown",
        (".features", *LEVELS, *POOLED),
        "name features that model.proposal_generator has too",
    ),
    (
        "in anchor generator",
        "levels-differ",
        (".sizes", ".aspect_ratios", ".strides"),
        "set {key}.sizes and {key}.aspect_ratios for each of {key}.strides, or one list for all",
    ),
    (
        "do not form a pyramid",
        "scales-differ",
        (".scales", *LEVELS, *POOLED),
        f"name the features of {POOLED[0]} and {LEVELS[1]} from fine to coarse, each of twice the stride of the one "
        "before",
    ),
    (
        "not power of 2",
        "scales-differ",
        (".scales",),
        "a scale is 1 / stride, and strides are powers of two",
    ),
)
