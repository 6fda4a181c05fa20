"""Calibration of keypoint scores: from detectron2's scores, which are not probabilities, to confidences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIN_SIMILARITY = 0.5  # a keypoint is correct if its similarity, its term of COCO's OKS, is as high
MIN_KEYPOINTS = 100  # labelled keypoints that a fit needs
ITERATIONS = 50  # Newton's method needs about ten


@dataclass(frozen=True)
class Calibration:
    """Confidence of a keypoint = 1 / (1 + exp(-(slope * ln(score) + offset))), from 0 to 1.

    The confidence estimates the fraction of correct keypoints among the labelled keypoints with this score, in
    detected instances. A keypoint at a distance of d pixels is correct if exp(-d^2 / (2 area (2 sigma)^2)) >= 0.5.

    The default was measured on synthetic people, with the model of the synthetic config. Every evaluation fits the
    calibration of its own model and data.
    """

    slope: float = 1.57
    offset: float = 4.8

    def confidence(self, scores: np.ndarray) -> np.ndarray:
        """The confidences of detectron2's scores (above 0, in an array of any shape)."""
        exponent = self.slope * np.log(np.maximum(scores, 1e-12)) + self.offset
        return np.asarray(1 / (1 + np.exp(-exponent)))


def fit_calibration(scores: np.ndarray, similarities: np.ndarray) -> Calibration | None:
    """Fit a calibration by maximum likelihood (Platt, 1999).

    Args:
        scores: (N,), detectron2's scores of labelled keypoints.
        similarities: (N,), their similarities; NaN for keypoints of instances that were not detected.

    Returns:
        None if there are too few keypoints, or if the score does not rise with the similarity.
    """
    known = np.isfinite(similarities) & (scores > 0)
    x, correct = np.log(scores[known]), similarities[known] >= MIN_SIMILARITY
    # Equal scores leave the slope to rounding.
    if len(x) < MIN_KEYPOINTS or np.ptp(x) < 1e-6:
        return None
    # Platt's targets add one sample to each of the two sides, which keeps the slope finite.
    positives, negatives = correct.sum(), (~correct).sum()
    target = np.where(correct, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    features = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    for _ in range(ITERATIONS):
        probability = 1 / (1 + np.exp(-(features @ weights).clip(-30, 30)))
        hessian = (features * (probability * (1 - probability))[:, None]).T @ features
        step = np.linalg.lstsq(hessian, features.T @ (target - probability), rcond=None)[0]
        weights += step.clip(-2, 2)
    slope, offset = weights.tolist()
    return Calibration(slope, offset) if slope > 0.01 else None


def load_calibration(weights: Path) -> Calibration | None:
    """The calibration in inference/evaluation.json beside a checkpoint; None if there is none."""
    try:
        content = json.loads((weights.parent / "inference" / "evaluation.json").read_bytes())
        found = content["calibration"]
        return Calibration(float(found["slope"]), float(found["offset"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
