"""Reasons of an AP of 0 or NaN, from the matches of pycocotools' evaluation."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from ..errors import join_names
from .ground_truth import GroundTruth
from .scoring import category_precision

NAMES = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
MEASURES = {"bbox": "IoU", "segm": "IoU", "keypoints": "OKS"}
TINY_AREA = 0.05  # of the box
MIN_PRECISION = 0.0005  # a lower AP is logged as 0.0 percent
MAX_CLASSES = 10  # that are named, or explained one by one; the others are counted


@dataclass
class Matches:
    """The instances and detections of a category, and how they match at IoU or OKS 0.5, at all sizes.

    Attributes:
        counted: Number of instances that count.
        ignored: Number of other instances, by reason.
        results: Number of results, including those over the limit of their image.
        outcomes: For each detection within the limit, by descending score: 1 if it matches an instance that counts, 0
            if it matches an ignored one (and counts neither as true nor as false positive), -1 if it matches none.
        best: The highest IoU or OKS of a detection with an instance that counts.
        best_ignored: The same with an ignored instance.
    """

    counted: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    results: int = 0
    outcomes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    best: float = 0.0
    best_ignored: float = 0.0


def explain(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], evaluation: COCOeval, task: str
) -> list[str]:
    """A sentence for each category whose AP is NaN, or 0.0 in percent.

    Categories without instances share one sentence, and so do categories without detections.
    """
    precisions = category_precision(evaluation)
    low = [category for category, precision in precisions.items() if precision < MIN_PRECISION]
    if not low:
        return []
    matches = count_matches(truth, results, evaluation, task, low)
    total = len(precisions)

    def shared(problem: str, categories: Sequence[Any], reason: str = "") -> str:
        names = [truth.coco.cats[category]["name"] for category in categories]
        return (
            f"AP of {NAMES[task]} {problem} for {len(names)} of {total} classes: {reason}"
            f"{join_names(names, MAX_CLASSES)}"
        )

    sentences = []
    absent = [c for c in low if not matches[c].counted and not matches[c].ignored]
    if len(absent) > 1:
        sentences.append(shared("cannot be computed", absent, "no instances in the annotations: "))
        low = [c for c in low if c not in absent]
    undetected = [c for c in low if matches[c].counted and not matches[c].results]
    if len(undetected) > 1:
        sentences.append(shared("is 0", undetected, "no detections: "))
        low = [c for c in low if c not in undetected]
    for category in low[:MAX_CLASSES]:
        of = f" of {truth.coco.cats[category]['name']}" if total > 1 else ""
        reason = _reason(truth, matches[category], task, category, precisions[category])
        sentences.append(f"AP of {NAMES[task]}{of} {reason}")
    if low[MAX_CLASSES:]:
        sentences.append(shared("is also 0 or cannot be computed", low[MAX_CLASSES:]))
    return sentences


def count_matches(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    evaluation: COCOeval,
    task: str,
    categories: Sequence[Any],
) -> dict[Any, Matches]:
    """Count instances, detections and their matches by category id."""
    given = Counter(result["category_id"] for result in results)
    found = {category: Matches(results=given[category]) for category in categories}
    for annotation in truth.coco.dataset["annotations"]:
        if annotation["category_id"] in found and annotation["image_id"] not in truth.coco.imgs:
            found[annotation["category_id"]].ignored["of images that are not in the json"] += 1
    scores: dict[Any, list[float]] = defaultdict(list)
    outcomes: dict[Any, list[int]] = defaultdict(list)
    for image in evaluation.evalImgs:
        category = image and image["category_id"]
        if category not in found or image["aRng"] != evaluation.params.areaRng[0]:
            continue
        matches = found[category]
        ignored = dict(zip(image["gtIds"], np.asarray(image["gtIgnore"], dtype=bool), strict=True))
        matches.counted += sum(not value for value in ignored.values())
        matches.ignored.update(
            _reason_to_ignore(truth.coco.anns[id_], task) for id_, value in ignored.items() if value
        )
        matched = np.where(np.asarray(image["dtMatches"][0]) > 0, 1, -1)
        outcomes[category] += np.where(image["dtIgnore"][0], 0, matched).tolist()
        scores[category] += image["dtScores"]
        overlaps = evaluation.ious[image["image_id"], category]
        if not len(overlaps) or not ignored:
            continue
        # Columns are in the order of the json, which ids count; `gtIds` has the ignored ones at the end.
        columns = np.array([ignored[id_] for id_ in sorted(ignored)])
        overlaps = np.reshape(overlaps, (-1, len(columns)))
        matches.best = max(matches.best, overlaps[:, ~columns].max(initial=0.0))
        matches.best_ignored = max(matches.best_ignored, overlaps[:, columns].max(initial=0.0))
    for category, matches in found.items():
        order = np.argsort(-np.array(scores[category]), kind="stable")
        matches.outcomes = np.array(outcomes[category], dtype=int)[order]
    return found


def _reason_to_ignore(annotation: Mapping[str, Any], task: str) -> str:
    if annotation["iscrowd"]:
        return "crowds"
    if task == "keypoints" and not annotation["num_keypoints"]:
        return "without a keypoint of v > 0"
    return "larger than COCO's largest area"


def _reason(
    truth: GroundTruth, matches: Matches, task: str, category: Any, precision: float
) -> str:
    measure, detections = MEASURES[task], len(matches.outcomes)
    ignored = ", ".join(f"{count} {reason}" for reason, count in matches.ignored.items())
    if not matches.counted:
        if ignored:
            return f"cannot be computed: all of the ground truth is ignored ({ignored})"
        return "cannot be computed: there is no ground truth"
    parts = [
        f"is {'0' if precision == 0 else f'{100 * precision:.1g} percent'}: {matches.counted} instances count"
        + (f" (ignored: {ignored})" if ignored else "")
    ]
    if not matches.results:
        return f"{parts[0]}; there are no detections"
    true = np.flatnonzero(matches.outcomes > 0)
    if len(true):
        false = matches.outcomes < 0
        parts.append(
            f"of {detections} detections {len(true)} match an instance with {measure} 0.5 or more, {false.sum()} match "
            f"none, {false[: true[0]].sum()} of these with a higher score than the first match"
        )
    else:
        parts.append(
            f"of {detections} detections the best has {measure} {_floor(matches.best)} with an instance that counts; a "
            "match needs 0.5"
        )
    neutral = int((matches.outcomes == 0).sum())
    if neutral:
        parts.append(
            f"{neutral} match ignored instances ({measure} up to {_floor(matches.best_ignored)}) and count neither as "
            "true nor as false positives"
        )
    beyond = matches.results - detections
    if beyond:
        parts.append(
            f"{beyond} more do not count: they are not among the {truth.detection_limit(task)} highest scores of their "
            "image"
        )
    annotations = [a for a in truth.coco.dataset["annotations"] if a["category_id"] == category]
    fractions = [a["area"] / max(a["bbox"][2] * a["bbox"][3], 1e-9) for a in annotations]
    if task == "keypoints" and np.median(fractions) < TINY_AREA:
        parts.append(
            f"areas are tiny, the median is {np.median(fractions):.2%} of the box, so that OKS tolerates almost no "
            "distance: repair `area` in the json"
        )
    return "; ".join(parts)


def _floor(value: float) -> str:
    """Two decimals, not rounded up: 0.499 is below 0.5."""
    return f"{math.floor(100 * value) / 100:.2f}"
