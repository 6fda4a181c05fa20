"""What each type of error costs: AP after correcting one after another.

The stages, each on top of those before it:

* jitter, inversion, swap, miss, good: the keypoints of that kind in paired detections are put onto their truth.
* score: paired detections and doubles of a category trade places in the ranking, so that all paired ones come
  before all doubles; otherwise their order, and the places of the other detections, stay. What this gains is
  what doubles cost by ranking too high.
* background_false_positives: all detections that are not paired are removed. What this gains is what those near no
  instance cost by ranking above paired ones; so do those left out, at thresholds above their OKS.
* false_negatives: instances that no detection is paired with are removed. AP is then 1.

What differs from Ronchi and Perona: they put a jitter onto similarity 0.85, a miss onto 0.5 and leave good
keypoints as they are, so that OKS thresholds above 0.85 end as false positives and negatives; here keypoints go onto
their truth, and `good` says what the remaining imprecision costs. Their optimal score is the OKS with any instance,
lowered for doubles by Soft-NMS; with corrected keypoints that would rank all background last, and none of it would be
left for its own stage. They choose false positives and negatives at each threshold anew; here pairs are chosen once.

Where no two instances coincide, contributions of `score`, of the stages after it, and of the keypoints together are
never negative for all areas. A kind of keypoint by itself can be, slightly: with two detections between the same two
instances a part of the corrections may change who gets which at a threshold. So can medium and large, since pycocotools
prefers instances of the size in question, whichever a detection is paired with.

What comes late among the keypoints gains much: an OKS of 0.95 needs all of them. The lost OKS of each kind
(tables.keypoint_table) does not depend on an order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from ...evaluation.ground_truth import GroundTruth, index
from ...evaluation.scoring import evaluate_keypoints
from .matching import KINDS, Matches, Pair

STAGES = (*KINDS, "score", "background_false_positives", "false_negatives")
_PARAMETERS = Params("keypoints")
# COCO's ranges of an instance's area in square pixels, both ends included; and where COCOeval.stats has their AP.
AREAS: dict[str, tuple[float, float]] = {
    name: (low, high)
    for name, (low, high) in zip(_PARAMETERS.areaRngLbl, _PARAMETERS.areaRng, strict=True)
}
POSITIONS = {"all": 0, "medium": 3, "large": 4}
# Where, once all else is right, those keypoints go that the own instance does not label, lest they hit another's.
FAR = -1e6

Results = Sequence[Mapping[str, Any]]


def break_down_ap(
    truth: GroundTruth, results: Results, matches: Matches
) -> dict[str, dict[str, Any]]:
    """AP of keypoints, and what each stage adds to it; from 0 to 1.

    Of all 10 thresholds, and of as many detections of an image as `truth.detections` says.

    Returns:
        {"AP": ..., "after": {stage: AP}, "contributions": {stage: difference}} for each of AREAS that has instances.
    """
    given = _precision(evaluate_keypoints(truth, results))
    areas = [area for area in AREAS if given[area] >= 0]
    after: dict[str, dict[str, float]] = {area: {} for area in areas}

    def evaluate(stage: str, truth: GroundTruth, results: Results, areas: Sequence[str]) -> None:
        precision = _precision(evaluate_keypoints(truth, results))
        for area in areas:
            # No instances are left where all were missed: nothing remains to be found.
            after[area][stage] = precision[area] if precision[area] >= 0 else 1.0

    seen = _seen(matches)
    points = {i: np.array(results[i]["keypoints"], dtype=float).reshape(-1, 3) for i in seen}
    for number, kind in enumerate(KINDS):
        for pair in matches.pairs:
            _correct(points[pair.result], pair, number)
        scores = {i: results[i]["score"] for i in seen}
        evaluate(kind, truth, _changed(results, points, scores), areas)
    evaluate("score", truth, _changed(results, points, _best_scores(results, matches)), areas)
    scores_by_area = {area: _paired_scores(matches.pairs, AREAS[area]) for area in areas}
    for area, scores in scores_by_area.items():
        evaluate("background_false_positives", truth, _changed(results, points, scores), [area])
    for pair in matches.pairs:
        points[pair.result][pair.kind < 0, :2] = FAR
    findable = _without(truth, matches.missed)
    for area, scores in scores_by_area.items():
        evaluate("false_negatives", findable, _changed(results, points, scores), [area])
    return {
        area: {
            "AP": given[area],
            "after": after[area],
            "contributions": {
                stage: after[area][stage] - before
                for stage, before in zip(STAGES, [given[area], *after[area].values()], strict=False)
            },
        }
        for area in areas
    }


def _precision(evaluation: COCOeval) -> dict[str, float]:
    """AP by area; -1 where there are no instances."""
    return {area: float(evaluation.stats[POSITIONS[area]]) for area in AREAS}


def _seen(matches: Matches) -> list[int]:
    """The detections that AP sees, in their order."""
    paired = [pair.result for pair in matches.pairs]
    return sorted([*paired, *matches.doubles, *matches.background, *matches.left_out])


def _correct(points: np.ndarray, pair: Pair, kind: int) -> None:
    """Put the keypoints of one kind onto their truth, in place."""
    truth = np.array(pair.annotation["keypoints"], dtype=float).reshape(-1, 3)
    points[pair.kind == kind, :2] = truth[pair.kind == kind, :2]


def _changed(
    results: Results, points: Mapping[int, np.ndarray], scores: Mapping[int, float]
) -> list[dict[str, Any]]:
    """The results that have a score in `scores`, with new scores and keypoints."""
    return [
        {**results[i], "score": score, "keypoints": points[i].ravel()}
        for i, score in sorted(scores.items())
    ]


def _best_scores(results: Results, matches: Matches) -> dict[int, float]:
    """Scores by which paired detections rank before doubles; see the stage `score`."""
    paired = {pair.result for pair in matches.pairs}
    near = paired | set(matches.doubles)
    scores: dict[int, float] = {}
    # Equal scores rank as in pycocotools: by image, then in the order of the results.
    ranking = sorted(
        _seen(matches), key=lambda i: (-results[i]["score"], results[i]["image_id"], i)
    )
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
    """Scores for paired detections alone, all of them right, that let each find its own instance.

    pycocotools gives a detection the best instance of the area range, and the last of equally good ones. An instance
    with few labelled keypoints may be as good for the detection of one that has the same and more of them, not the
    other way round: those with fewer come first. Detections whose instance is not of that area come last, as they
    would take one that is.
    """

    def key(pair: Pair) -> tuple[bool, int]:
        return not area[0] <= pair.annotation["area"] <= area[1], int((pair.kind >= 0).sum())

    return {pair.result: -float(rank) for rank, pair in enumerate(sorted(pairs, key=key))}


def _without(truth: GroundTruth, annotations: Sequence[Mapping[str, Any]]) -> GroundTruth:
    """The truth without some of its annotations."""
    left_out = {annotation["id"] for annotation in annotations}
    kept = [a for a in truth.coco.dataset["annotations"] if a["id"] not in left_out]
    content = {**truth.coco.dataset, "annotations": [dict(annotation) for annotation in kept]}
    return dataclasses.replace(truth, coco=index(content))
