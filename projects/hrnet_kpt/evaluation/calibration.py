"""From detectron2's keypoint scores, which are no probabilities, to confidences, which are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RIGHT = (
    0.5  # least similarity (the keypoint's part of COCO's OKS) of a keypoint that counts as found
)
FEWEST = 100  # labelled keypoints that a calibration is made of
ITERATIONS = 50  # Newton's method needs about ten


@dataclass(frozen=True)
class Calibration:
    """Confidence of a keypoint = 1 / (1 + exp(-(slope * ln(score) + offset))), from 0 to 1.

    It is the share of right keypoints among labelled ones with such a score, in instances that were found: right is a
    keypoint whose similarity, exp(-d^2 / (2 area (2 sigma)^2)) at a distance of d pixels, is 0.5 at least.

    The default was measured on synthetic people, with the model of the synthetic config; other models and data need
    their own, which every evaluation makes.
    """

    slope: float = 1.57
    offset: float = 4.8

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """Of detectron2's scores, above 0, in any shape."""
        exponent = self.slope * np.log(np.maximum(scores, 1e-12)) + self.offset
        confidence: np.ndarray = 1 / (1 + np.exp(-exponent))
        return confidence


def fit_calibration(scores: np.ndarray, similarities: np.ndarray) -> Calibration | None:
    """The calibration that makes what was found most likely (Platt, 1999), None where it cannot be told.

    Args:
        scores, similarities: Of the labelled keypoints, in any order, those of instances that were not found NaN.
    """
    known = np.isfinite(similarities) & (scores > 0)
    x, right = np.log(scores[known]), similarities[known] >= RIGHT
    # Scores that are all alike leave the slope to rounding.
    if len(x) < FEWEST or np.ptp(x) < 1e-6:
        return None
    # Platt's targets: as if there were one more of each kind, which keeps the slope finite.
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    columns = np.stack([x, np.ones_like(x)], axis=1)
    values = np.zeros(2)
    for _ in range(ITERATIONS):
        share = 1 / (1 + np.exp(-(columns @ values).clip(-30, 30)))
        hessian = (columns * (share * (1 - share))[:, None]).T @ columns
        step = np.linalg.lstsq(hessian, columns.T @ (target - share), rcond=None)[0]
        values += step.clip(-2, 2)
    slope, offset = (float(value) for value in values)
    # Scores that tell nothing, or the contrary, are no basis.
    return Calibration(slope, offset) if slope > 0.01 else None


def calibration_beside(weights: Path) -> Calibration | None:
    """What the last evaluation in the folder of a run's weights has found, if there is one."""
    try:
        content = json.loads((weights.parent / "inference" / "evaluation.json").read_bytes())
        found = content["calibration"]
        return Calibration(float(found["slope"]), float(found["offset"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
