"""Why an AP is 0 or cannot be computed: from the matches of the evaluation that gave it."""

from __future__ import annotations

import math
from collections import Counter
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
SHOWN_AS_0 = 0.0005  # an AP below is written as 0.0 percent
MOST_CLASSES = 10  # as many are named or explained, each by itself; the rest is counted


@dataclass
class Tally:
    """What became of the detections and the instances of a category, at all sizes and the lowest IoU or OKS, 0.5.

    Attributes:
        counted: Instances that count.
        ignored: The others, by reason.
        given: All results.
        seen: Those that are not too many for their image, by descending score: whether each matches an instance that
            counts (1), one that is ignored (0, which is neither right nor wrong), or none (-1).
        best, best_ignored: The highest IoU or OKS of a detection with an instance that counts, or is ignored.
    """

    counted: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    given: int = 0
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    best: float = 0.0
    best_ignored: float = 0.0


def explain(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], evaluation: COCOeval, task: str
) -> list[str]:
    """Sentences that say why AP is NaN, or 0 in percent with one decimal, for each category where it is.

    Categories without any instance share a sentence, and so do those of which the model finds nothing.
    """
    precisions = category_precision(evaluation)
    wanted = [category for category, precision in precisions.items() if precision < SHOWN_AS_0]
    if not wanted:
        return []
    tallies = _tally(truth, results, evaluation, task, wanted)
    total = len(precisions)
    absent = [c for c in wanted if not tallies[c].counted and not tallies[c].ignored]
    unfound = [c for c in wanted if tallies[c].counted and not tallies[c].given]
    sentences = []
    if len(absent) > 1:
        sentences.append(
            f"AP of {NAMES[task]} cannot be computed for {len(absent)} of {total} classes: no instance in the "
            f"annotations: {_names(truth, absent)}"
        )
    if len(unfound) > 1:
        sentences.append(
            f"AP of {NAMES[task]} is 0 for {len(unfound)} of {total} classes: the model finds none at all: "
            f"{_names(truth, unfound)}"
        )
    alone = [
        category
        for category in wanted
        if not (category in absent and len(absent) > 1)
        and not (category in unfound and len(unfound) > 1)
    ]
    for category in alone[:MOST_CLASSES]:
        of = f" of {truth.coco.cats[category]['name']}" if total > 1 else ""
        reason = _reason(truth, tallies[category], task, category, precisions[category])
        sentences.append(f"AP of {NAMES[task]}{of} {reason}")
    if len(alone) > MOST_CLASSES:
        rest = alone[MOST_CLASSES:]
        sentences.append(
            f"AP of {NAMES[task]} is 0 or cannot be computed for {len(rest)} more of {total} classes: "
            f"{_names(truth, rest)}"
        )
    return sentences


def _tally(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    evaluation: COCOeval,
    task: str,
    categories: Sequence[Any],
) -> dict[Any, Tally]:
    tallies = {category: Tally() for category in categories}
    for result in results:
        if result["category_id"] in tallies:
            tallies[result["category_id"]].given += 1
    for annotation in truth.coco.dataset["annotations"]:
        tally = tallies.get(annotation["category_id"])
        if tally is not None and annotation["image_id"] not in truth.coco.imgs:
            tally.ignored["of images that are not listed"] += 1
    scores: dict[Any, list[np.ndarray]] = {category: [] for category in categories}
    outcomes: dict[Any, list[np.ndarray]] = {category: [] for category in categories}
    everywhere = evaluation.params.areaRng[0]
    for image in evaluation.evalImgs:
        if image is None or image["aRng"] != everywhere or image["category_id"] not in tallies:
            continue
        category = image["category_id"]
        tally = tallies[category]
        ignored = dict(zip(image["gtIds"], np.asarray(image["gtIgnore"], dtype=bool), strict=True))
        for id_, left_out in ignored.items():
            if left_out:
                tally.ignored[_reason_to_ignore(truth.coco.anns[id_], task)] += 1
            else:
                tally.counted += 1
        matched, left_out = np.asarray(image["dtMatches"][0]) > 0, image["dtIgnore"][0]
        outcomes[category].append(np.where(left_out, 0, np.where(matched, 1, -1)))
        scores[category].append(np.array(image["dtScores"], dtype=float))
        overlaps = evaluation.ious[image["image_id"], category]
        if not len(overlaps) or not ignored:
            continue
        # Columns are in the order of the json, `gtIds` has those that are ignored at the end.
        columns = np.array(
            [
                ignored[annotation["id"]]
                for annotation in truth.coco.imgToAnns[image["image_id"]]
                if annotation["category_id"] == category
            ]
        )
        overlaps = np.reshape(overlaps, (-1, len(columns)))
        tally.best = max(tally.best, overlaps[:, ~columns].max(initial=0.0))
        tally.best_ignored = max(tally.best_ignored, overlaps[:, columns].max(initial=0.0))
    for category, tally in tallies.items():
        if outcomes[category]:
            order = np.argsort(-np.concatenate(scores[category]), kind="stable")
            tally.seen = np.concatenate(outcomes[category])[order]
    return tallies


def _reason_to_ignore(annotation: Mapping[str, Any], task: str) -> str:
    if annotation["iscrowd"]:
        return "crowds"
    if task == "keypoints" and not annotation["num_keypoints"]:
        return "without a keypoint of v > 0"
    return "of an area beyond COCO's largest"


def _reason(truth: GroundTruth, tally: Tally, task: str, category: Any, precision: float) -> str:
    measure = MEASURES[task]
    said = ", ".join(f"{count} {reason}" for reason, count in tally.ignored.items())
    if not tally.counted:
        what = (
            f"all of the ground truth is ignored ({said})" if said else "there is no ground truth"
        )
        return f"cannot be computed: {what}"
    parts = [
        f"is {'0' if precision == 0 else f'{100 * precision:.1g} percent'}: {tally.counted} instances count"
        + (f" (ignored: {said})" if said else "")
    ]
    if not tally.given:
        return f"{parts[0]}; the model finds none at all"
    right = np.flatnonzero(tally.seen > 0)
    wrong = int((tally.seen < 0).sum())
    if len(right):
        before = int((tally.seen[: right[0]] < 0).sum())
        parts.append(
            f"of {len(tally.seen)} detections {len(right)} match an instance with {measure} 0.5 or more, {wrong} match "
            f"none, {before} of these with a higher score than the first that does"
        )
    else:
        parts.append(
            f"of {len(tally.seen)} detections the best has {measure} {_down(tally.best)} with an instance that counts, "
            "0.5 is the least that does"
        )
    neither = int((tally.seen == 0).sum())
    if neither:
        parts.append(
            f"{neither} match ignored instances ({measure} up to {_down(tally.best_ignored)}) and count neither as "
            "right nor as wrong"
        )
    beyond = tally.given - len(tally.seen)
    if beyond:
        parts.append(
            f"{beyond} more are not among the first {truth.detections(task)} of their image by score and do not count"
        )
    annotations = [a for a in truth.coco.dataset["annotations"] if a["category_id"] == category]
    shares = [a["area"] / max(a["bbox"][2] * a["bbox"][3], 1e-9) for a in annotations]
    if task == "keypoints" and np.median(shares) < TINY_AREA:
        parts.append(
            f"areas are tiny, the median is {np.median(shares):.2%} of the box, so that OKS forgives next to "
            "nothing: mend `area` in the json"
        )
    return "; ".join(parts)


def _down(value: float) -> str:
    """Two decimals, not rounded up: 0.499 is below 0.5."""
    return f"{math.floor(100 * value) / 100:.2f}"


def _names(truth: GroundTruth, categories: Sequence[Any]) -> str:
    return join_names([truth.coco.cats[category]["name"] for category in categories], MOST_CLASSES)
