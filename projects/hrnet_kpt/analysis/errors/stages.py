"""Break AP down by error kind: correct one kind after another, and evaluate after each.

The stages are cumulative:

* jitter, inversion, swap, miss, good: the keypoints of that kind in paired detections move to their ground truth.
* score: within a category, paired detections and doubles exchange their ranks, so that all paired ones rank before all
  doubles; their order, and the ranks of all other detections, stay. The gain is what doubles cost by high scores.
* background_false_positives: all unpaired detections are removed. The gain is what background detections cost by
  ranking above paired ones, and what left-out detections cost at thresholds above their OKS.
* false_negatives: missed instances are removed. AP is then 1.

Differences from Ronchi and Perona: they correct a jitter to similarity 0.85, a miss to 0.5, and keep good keypoints, so
that OKS thresholds above 0.85 end as false positives and negatives; here keypoints move to their ground truth, and
`good` is the cost of the remaining imprecision. Their optimal score is the OKS with any instance, lowered for doubles
by Soft-NMS; with corrected keypoints that would rank all background detections last, and leave nothing for their own
stage. They choose false positives and negatives anew at each threshold; here matches are made once.

If no two instances coincide, the contributions to the AP of all areas of `score`, of the stages after it, and of all
keypoint kinds together are never negative. The contribution of a single kind can be slightly negative: if two
detections lie between the same two instances, correcting some of their keypoints may exchange their matches at a
threshold. The contributions to medium and large AP can be negative, too, because pycocotools prefers instances of that
size, whichever instance a detection is paired with.

Late keypoint stages gain the most, because an OKS of 0.95 needs all keypoints. The lost OKS of each kind
(tables.keypoint_table) does not depend on the order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import Params

from ...evaluation.ground_truth import GroundTruth, index
from ...evaluation.scoring import evaluate_keypoints
from .matching import KINDS, Matches, Pair, points_of

STAGES = (*KINDS, "score", "background_false_positives", "false_negatives")
_PARAMETERS = Params("keypoints")
# COCO's ranges of the area of an instance in square pixels, both ends included.
AREAS: dict[str, tuple[float, float]] = dict(
    zip(_PARAMETERS.areaRngLbl, _PARAMETERS.areaRng, strict=True)
)
STATS_INDEX = {"all": 0, "medium": 3, "large": 4}  # of the AP of each area in COCOeval.stats
# In the last stage, keypoints that the own instance does not label move here, so that they match no other instance.
FAR = -1e6


def break_down_ap(matches: Matches) -> dict[str, dict[str, Any]]:
    """Compute keypoint AP, 0 to 1, over all 10 OKS thresholds, and the contribution of each stage to it.

    Returns:
        {"AP": ..., "after": {stage: AP}, "contributions": {stage: difference}} for each of AREAS that has instances.
    """
    truth, results = matches.truth, matches.results
    points = {i: points_of(results[i]) for i in matches.seen}

    def evaluate(scores: Mapping[int, float], truth: GroundTruth = truth) -> dict[str, float]:
        """AP by area of the detections in `scores`, with these scores and the current `points`."""
        changed = [
            {**results[i], "score": score, "keypoints": points[i].ravel()}
            for i, score in sorted(scores.items())
        ]
        return _precision(truth, changed)

    given = _precision(truth, results)
    areas = [area for area in AREAS if given[area] >= 0]
    after: dict[str, dict[str, float]] = {}
    for number, kind in enumerate(KINDS):
        for pair in matches.pairs:
            own = pair.kind == number
            points[pair.result][own, :2] = points_of(pair.annotation)[own, :2]
        after[kind] = evaluate({i: results[i]["score"] for i in matches.seen})
    after["score"] = evaluate(_best_scores(matches))
    scores = {area: _paired_scores(matches.pairs, AREAS[area]) for area in areas}
    after["background_false_positives"] = {area: evaluate(scores[area])[area] for area in areas}
    for pair in matches.pairs:
        points[pair.result][pair.kind < 0, :2] = FAR
    findable = _without(truth, matches.missed)
    after["false_negatives"] = {area: evaluate(scores[area], findable)[area] for area in areas}
    found = {}
    for area in areas:
        # AP is -1 without instances, which is so if all were missed and are removed.
        values = {stage: ap[area] if ap[area] >= 0 else 1.0 for stage, ap in after.items()}
        gains = np.diff([given[area], *values.values()]).tolist()
        contributions = dict(zip(STAGES, gains, strict=True))
        found[area] = {"AP": given[area], "after": values, "contributions": contributions}
    return found


def _precision(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Keypoint AP by area; -1 without instances."""
    evaluation = evaluate_keypoints(truth, results)
    assert evaluation is not None  # matches exist, so that a category has keypoints
    return {area: float(evaluation.stats[STATS_INDEX[area]]) for area in AREAS}


def _best_scores(matches: Matches) -> dict[int, float]:
    """Scores that rank paired detections before doubles, see the stage `score`."""
    results = matches.results
    paired = {pair.result for pair in matches.pairs}
    near = paired | set(matches.doubles)
    scores: dict[int, float] = {}
    # pycocotools ranks equal scores by image, then in the order of the results.
    ranking = sorted(matches.seen, key=lambda i: (-results[i]["score"], results[i]["image_id"], i))
    for category in {results[i]["category_id"] for i in ranking}:
        ranks = {
            i: -float(rank)
            for rank, i in enumerate(ranking)
            if results[i]["category_id"] == category
        }
        scores |= ranks
        near_by_rank = [i for i in ranks if i in near]
        order = sorted(near_by_rank, key=lambda i: i not in paired)
        scores |= {i: ranks[j] for i, j in zip(order, near_by_rank, strict=True)}
    return scores


def _paired_scores(pairs: Sequence[Pair], area: tuple[float, float]) -> dict[int, float]:
    """Scores of the paired detections, once corrected, with which pycocotools matches each to its own instance.

    pycocotools matches a detection to the best instance in the area range, and to the last of equally good ones. The
    detection of an instance may fit another one with fewer labelled keypoints as well, but not one with more: instances
    with fewer labels come first. Detections whose instance is outside the area range come last, because they would take
    one inside it.
    """

    def key(pair: Pair) -> tuple[bool, int]:
        return not area[0] <= pair.annotation["area"] <= area[1], int((pair.kind >= 0).sum())

    return {pair.result: -float(rank) for rank, pair in enumerate(sorted(pairs, key=key))}


def _without(truth: GroundTruth, annotations: Sequence[Mapping[str, Any]]) -> GroundTruth:
    """The ground truth without the given annotations."""
    left_out = {annotation["id"] for annotation in annotations}
    kept = [a for a in truth.coco.dataset["annotations"] if a["id"] not in left_out]
    content = {**truth.coco.dataset, "annotations": [dict(annotation) for annotation in kept]}
    return dataclasses.replace(truth, coco=index(content))
