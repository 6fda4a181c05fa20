"""Match detections to ground-truth instances, and classify the localization error of each keypoint.

The taxonomy is that of M. R. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation", ICCV 2017.

Each detection that counts for AP (by score the first 20 of an image and category, or `truth.max_detections`) is one of:

* paired: matched to an instance. pycocotools' matches at OKS 0.5 come first. Then, by descending score, a detection
  whose OKS is below 0.5 with every instance gets the best unmatched instance with OKS >= 0.1. The paper matches all
  at 0.1 at once. There a poor detection may take the instance of a good one with a lower score, and a detection that
  AP ignores may count as an error.
* double: not matched, but OKS >= 0.1 with an instance that is matched to a detection of a higher score.
* background: OKS < 0.1 with every instance.
* left out: pycocotools matches it at OKS 0.5 to an ignored instance: a crowd, or one without labelled keypoints.

The similarity of a keypoint to a ground-truth keypoint is ks = exp(-d^2 / (2 area (2 sigma)^2)), with the sigma of the
ground-truth keypoint and the area of its instance. A labelled keypoint of a pair is:

* good: ks >= 0.85 with its own ground truth;
* jitter, inversion, swap: the highest ks, and ks >= 0.5, is with its own ground truth, with the mirrored keypoint of
  the same instance, or with the same or the mirrored keypoint of another instance;
* miss: no ks >= 0.5.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from ...evaluation.ground_truth import GroundTruth, results_index

KINDS = ("jitter", "inversion", "swap", "miss", "good")
GOOD = KINDS.index("good")
MISS = KINDS.index("miss")
GOOD_SIMILARITY, CLOSE_SIMILARITY = 0.85, 0.5
# The lowest OKS threshold of AP, and the OKS from which a detection belongs to an instance.
COUNTED_OKS, NEAR_OKS = 0.5, 0.1


@dataclass(frozen=True)
class Pair:
    """A detection and its instance. Arrays have shape (n,) for the n keypoints of the category, in its order.

    Attributes:
        result: Index of the detection in the results.
        annotation: The instance.
        indices: Index of each keypoint in the schema.
        similarity: To the keypoint's own ground truth; NaN if that is not labelled.
        distance: To the keypoint's own ground truth, in pixels; NaN if that is not labelled.
        kind: Index in KINDS; -1 if the ground truth is not labelled.
    """

    result: int
    annotation: Mapping[str, Any]
    indices: np.ndarray
    similarity: np.ndarray
    distance: np.ndarray
    kind: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """OKS lost by each keypoint: (1 - similarity) / number of labelled keypoints; shape (n,)."""
        labelled = self.kind >= 0
        return np.where(labelled, 1 - self.similarity, 0.0) / labelled.sum()

    @property
    def oks(self) -> float:
        return float(np.nanmean(self.similarity))


@dataclass(frozen=True)
class Matches:
    """COCO-format results matched to the ground truth: indices in the results, and annotations that are missed."""

    truth: GroundTruth
    results: Sequence[Mapping[str, Any]]
    pairs: list[Pair] = field(default_factory=list)
    doubles: list[int] = field(default_factory=list)
    background: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    missed: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def seen(self) -> list[int]:
        """Indices of the detections that count for AP, ascending."""
        paired = [pair.result for pair in self.pairs]
        return sorted([*paired, *self.doubles, *self.background, *self.left_out])


class Labels(NamedTuple):
    """The ground-truth keypoints of all instances of an image, in the order of the schema.

    Attributes:
        ids: Ids of the annotations.
        points: (instances, keypoints, 2), in pixels.
        labelled: (instances, keypoints), bool.
        width: (instances, keypoints), 2 area (2 sigma)^2 in square pixels.
    """

    ids: list[Any]
    points: np.ndarray
    labelled: np.ndarray
    width: np.ndarray


def match(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> Matches:
    """Match COCO-format results to the ground truth, and classify the error of each keypoint of each pair.

    Results of categories without keypoints, and results beyond the limit of detections per image and category, are in
    no list.
    """
    matches = Matches(truth, results)
    for category in truth.coco.getCatIds():
        if len(truth.keypoint_indices[category]):
            _match_category(matches, category)
    return matches


def _match_category(matches: Matches, category: Any) -> None:
    truth, results = matches.truth, matches.results
    own = [i for i, result in enumerate(results) if result["category_id"] == category]
    evaluation = _evaluate(truth, [results[i] for i in own], category)
    for image in filter(None, evaluation.evalImgs):
        annotations = [
            annotation
            for annotation in truth.coco.imgToAnns.get(image["image_id"], ())
            if annotation["category_id"] == category
        ]
        detections = [own[int(id_) - 1] for id_ in image["dtIds"]]
        shape = len(detections), len(annotations)
        oks = np.reshape(evaluation.ious[image["image_id"], category], shape)
        columns = {annotation["id"]: column for column, annotation in enumerate(annotations)}
        free = [
            columns[i]
            for i, ignore in zip(image["gtIds"], image["gtIgnore"], strict=True)
            if not ignore
        ]
        counted, found, ignored = [*free], {}, image["dtIgnore"][0]
        for row, id_ in enumerate(image["dtMatches"][0]):
            if id_ and not ignored[row]:  # an id is 0 without a match
                found[row] = columns[int(id_)]
                free.remove(found[row])
        for row, detection in enumerate(detections):
            if row in found:
                continue
            best = max(free, key=lambda column: oks[row, column], default=None)
            nearest = oks[row, counted].max(initial=0.0)
            if ignored[row]:
                matches.left_out.append(detection)
            elif best is not None and nearest < COUNTED_OKS and oks[row, best] >= NEAR_OKS:
                found[row] = best
                free.remove(best)
            else:
                (matches.doubles if nearest >= NEAR_OKS else matches.background).append(detection)
        matches.missed.extend(annotations[column] for column in free)
        labels = _labels(truth, image["image_id"])
        for row, column in sorted(found.items()):
            matches.pairs.append(_pair(matches, detections[row], annotations[column], labels))


def _evaluate(truth: GroundTruth, results: Sequence[Mapping[str, Any]], category: Any) -> COCOeval:
    """Run pycocotools' matching at OKS 0.5 for the results of one category."""
    evaluation = COCOeval(truth.coco, results_index(truth.coco, results), "keypoints")
    parameters = evaluation.params
    parameters.catIds = [category]
    parameters.kpt_oks_sigmas = truth.sigmas[category]
    parameters.maxDets = [truth.detection_limit("keypoints")]
    parameters.iouThrs = np.array([COUNTED_OKS])
    parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation


def _labels(truth: GroundTruth, image: Any) -> Labels:
    annotations = annotations_with_keypoints(truth, image)
    placed = np.zeros((len(annotations), len(truth.schema.names), 3))
    sigmas = np.tile(np.array(truth.schema.sigmas), (len(annotations), 1))
    for row, annotation in enumerate(annotations):
        indices = truth.keypoint_indices[annotation["category_id"]]
        placed[row, indices] = points_of(annotation)
        sigmas[row, indices] = truth.sigmas[annotation["category_id"]]
    # pycocotools adds np.spacing(1) to the area, too.
    areas = np.array([annotation["area"] for annotation in annotations]) + np.spacing(1)
    return Labels(
        ids=[annotation["id"] for annotation in annotations],
        points=placed[..., :2],
        labelled=placed[..., 2] > 0,
        width=2 * areas[:, None] * (2 * sigmas) ** 2,
    )


def _pair(matches: Matches, index: int, annotation: Mapping[str, Any], labels: Labels) -> Pair:
    indices = matches.truth.keypoint_indices[annotation["category_id"]]
    flipped = np.array(matches.truth.schema.flip_indices)[indices]
    me = labels.ids.index(annotation["id"])
    predicted = points_of(matches.results[index])[:, :2]

    def similarity(others: np.ndarray) -> np.ndarray:
        """Similarity of each keypoint to keypoint `others` of each instance, (instances, n); -1 if not labelled."""
        squared = ((labels.points[:, others] - predicted) ** 2).sum(axis=2)
        return np.where(labels.labelled[:, others], np.exp(-squared / labels.width[:, others]), -1)

    same, mirrored = similarity(indices), similarity(flipped)
    own, inverted = same[me], np.where(flipped == indices, -1, mirrored[me])
    others = np.delete(np.maximum(same, mirrored), me, axis=0).max(axis=0, initial=-1)
    # argmax takes the first of equal values: jitter before inversion before swap.
    choices = np.stack([own, inverted, others])
    kind = np.where(choices.max(axis=0) >= CLOSE_SIMILARITY, choices.argmax(axis=0), MISS)
    kind[own >= GOOD_SIMILARITY] = GOOD
    kind[own < 0] = -1
    distance = np.linalg.norm(labels.points[me, indices] - predicted, axis=1)
    own, distance = (np.where(kind < 0, np.nan, values) for values in (own, distance))
    return Pair(index, annotation, indices, own, distance, kind)


def annotations_with_keypoints(truth: GroundTruth, image: Any) -> list[Mapping[str, Any]]:
    """The annotations of an image whose category has keypoints."""
    own = truth.coco.imgToAnns.get(image, ())
    return [a for a in own if len(truth.keypoint_indices[a["category_id"]])]


def points_of(entry: Mapping[str, Any]) -> np.ndarray:
    """The keypoints of an annotation or a result as x, y and visibility or score, (n, 3)."""
    return np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
