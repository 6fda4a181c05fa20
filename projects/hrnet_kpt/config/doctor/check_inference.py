"""What evaluation and prediction are asked to do, against what the model has."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig
from torch import nn

from ...errors import UserError
from ..findings import Finding, error
from ..keys import value_at
from .build import said, try_to_build


def check_inference(cfg: DictConfig, model: nn.Module | None) -> Iterator[Finding]:
    """Settings of test-time augmentation, and a score of keypoints that nobody predicts.

    model: the config's, on the meta device; None if it could not be built.
    """
    key = "inference.tta"
    if value_at(cfg, key) is not None:
        augmentation = try_to_build(cfg.inference.tta)
        if isinstance(augmentation, Exception):
            yield error("inference-wrong", key, f"{key} cannot be built: {said(augmentation)}")
        elif model is not None and augmentation.enabled:
            try:
                augmentation.augmented(model)
            except UserError as reason:
                yield error("inference-wrong", key, f"{key}: {reason}")
    key = "inference.instance_score"
    score = value_at(cfg, key)
    heads = getattr(model, "roi_heads", None)
    if model is not None and score not in (None, "box") and not getattr(heads, "keypoint_on", 0):
        sentence = f"{key}={score} needs keypoints, and the model has none: set {key}=box"
        yield error("inference-wrong", key, sentence)
