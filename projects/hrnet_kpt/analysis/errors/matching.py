"""Which detection stands for which instance, and what is wrong with each of its keypoints.

After M. R. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017.

Every detection that AP sees, the first 20 of an image and a category by score (or as many as `truth.max_detections`
says), is one of four:

* paired: it stands for an instance that counts, which stands for no other detection. Pairs are made as pycocotools
  makes them at OKS 0.5; then, by descending score, each detection whose OKS with every instance is below 0.5 gets the
  best instance that is left, at OKS 0.1 or more. The paper makes all pairs at 0.1 at once, where a poor detection may
  take the instance of a good one that scores less, or be charged with an instance though AP leaves it out.
* double: not paired, but with OKS 0.1 or more with an instance, which a detection of a higher score has taken.
* background: OKS below 0.1 with every instance.
* left out: pycocotools pairs it at OKS 0.5 with an instance that does not count: a crowd, or one without keypoints.

A labelled keypoint of a pair, by its similarity ks = exp(-d^2 / (2 area (2 sigma)^2)) with keypoints of the truth, each
with the sigma of that keypoint and the area of its instance, is

* good: ks >= 0.85 with its own;
* jitter, inversion, swap: the most similar one is its own, the mirrored one of the same instance, or the same or the
  mirrored one of another instance, at ks >= 0.5;
* miss: none is that similar.
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
# The OKS at which AP starts to count a detection, and from which one has something to do with an instance.
COUNTED_OKS, NEAR_OKS = 0.5, 0.1


@dataclass(frozen=True)
class Pair:
    """A detection and its instance. Arrays have an entry for each of the n keypoints of the category, in its order.

    Attributes:
        result: Index of the detection in the results.
        annotation: The instance.
        slots: Where the schema has each keypoint.
        similarity: With the keypoint's own truth; NaN where that is not labelled.
        kind: Index in KINDS; -1 where the truth is not labelled.
    """

    result: int
    annotation: Mapping[str, Any]
    slots: np.ndarray
    similarity: np.ndarray
    kind: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """What each keypoint takes from an OKS of 1: (1 - similarity) / number of labelled keypoints; (n,)."""
        labelled = self.kind >= 0
        return np.where(labelled, 1 - self.similarity, 0.0) / labelled.sum()

    @property
    def oks(self) -> float:
        return float(np.nanmean(self.similarity))


@dataclass(frozen=True)
class Matches:
    """What became of detections (indices in the results) and instances (annotations)."""

    pairs: list[Pair] = field(default_factory=list)
    doubles: list[int] = field(default_factory=list)
    background: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    missed: list[Mapping[str, Any]] = field(default_factory=list)


class Labels(NamedTuple):
    """The keypoints of all the instances of an image, in the order of the schema.

    Attributes:
        ids: Of the annotations.
        points: (instances, keypoints, 2).
        labelled: (instances, keypoints).
        width: (instances, keypoints), 2 area (2 sigma)^2.
    """

    ids: list[Any]
    points: np.ndarray
    labelled: np.ndarray
    width: np.ndarray


def match(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> Matches:
    """Match COCO-format results with the truth, and classify the errors of the keypoints of each pair.

    Results of categories without keypoints, and those of an image and a category that are too many to count for AP, are
    in no list.
    """
    matches = Matches()
    for category in truth.coco.getCatIds():
        if len(truth.keypoint_indices[category]):
            _match_category(truth, results, category, matches)
    return matches


def _match_category(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], category: Any, matches: Matches
) -> None:
    own = [i for i, result in enumerate(results) if result["category_id"] == category]
    evaluation = _evaluate(truth, [results[i] for i in own], category)
    for image in filter(None, evaluation.evalImgs):
        annotations = [
            annotation
            for annotation in truth.coco.imgToAnns.get(image["image_id"], ())
            if annotation["category_id"] == category
        ]
        detections = [own[int(id_) - 1] for id_ in image["dtIds"]]
        found, counted = _found(image, annotations)
        oks = np.reshape(
            evaluation.ious[image["image_id"], category], (len(detections), len(annotations))
        )
        free = [column for column in counted if column not in found.values()]
        for row, detection in enumerate(detections):
            if row in found:
                continue
            best = max(free, key=lambda column: oks[row, column], default=None)
            nearest = oks[row, counted].max(initial=0.0)
            if image["dtIgnore"][0, row]:
                matches.left_out.append(detection)
            elif best is not None and nearest < COUNTED_OKS and oks[row, best] >= NEAR_OKS:
                found[row] = best
                free.remove(best)
            else:
                (matches.doubles if nearest >= NEAR_OKS else matches.background).append(detection)
        matches.missed.extend(annotations[column] for column in free)
        labels = _labels(truth, image["image_id"]) if found else None
        for row, column in sorted(found.items()):
            assert labels is not None
            detection = detections[row]
            matches.pairs.append(
                _pair(truth, results[detection], detection, annotations[column], labels)
            )


def _evaluate(truth: GroundTruth, results: Sequence[Mapping[str, Any]], category: Any) -> COCOeval:
    """pycocotools' matching at OKS 0.5 of one category's results."""
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


def _found(
    image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, int], list[int]]:
    """For each row of a paired detection the column of its instance; the columns of all instances that count."""
    columns = {annotation["id"]: column for column, annotation in enumerate(annotations)}
    rows = {id_: row for row, id_ in enumerate(image["dtIds"])}
    found, counted = {}, []
    for id_, detection, ignored in zip(
        image["gtIds"], image["gtMatches"][0], image["gtIgnore"], strict=True
    ):
        if not ignored:
            counted.append(columns[id_])
            if detection:  # their ids count from 1
                found[rows[int(detection)]] = columns[id_]
    return found, counted


def _labels(truth: GroundTruth, image: Any) -> Labels:
    annotations = [
        annotation
        for annotation in truth.coco.imgToAnns[image]
        if len(truth.keypoint_indices[annotation["category_id"]])
    ]
    placed = np.zeros((len(annotations), len(truth.schema.names), 3))
    for row, annotation in zip(placed, annotations, strict=True):
        row[truth.keypoint_indices[annotation["category_id"]]] = _points(annotation)
    sigmas = np.tile(np.array(truth.schema.sigmas), (len(annotations), 1))
    for row, annotation in zip(sigmas, annotations, strict=True):
        row[truth.keypoint_indices[annotation["category_id"]]] = truth.sigmas[
            annotation["category_id"]
        ]
    # pycocotools adds the least number to the area, too.
    areas = np.array([annotation["area"] for annotation in annotations]) + np.spacing(1)
    return Labels(
        ids=[annotation["id"] for annotation in annotations],
        points=placed[..., :2],
        labelled=placed[..., 2] > 0,
        width=2 * areas[:, None] * (2 * sigmas) ** 2,
    )


def _pair(
    truth: GroundTruth,
    result: Mapping[str, Any],
    index: int,
    annotation: Mapping[str, Any],
    labels: Labels,
) -> Pair:
    slots = truth.keypoint_indices[annotation["category_id"]]
    flipped = np.array(truth.schema.flip_indices)[slots]
    me = labels.ids.index(annotation["id"])
    predicted = _points(result)[:, :2]

    def similarity(indices: np.ndarray) -> np.ndarray:
        """Of each keypoint with the one that each instance labels at `indices`; -1 without label; (instances, n)."""
        distance = ((labels.points[:, indices] - predicted) ** 2).sum(axis=2)
        return np.where(
            labels.labelled[:, indices], np.exp(-distance / labels.width[:, indices]), -1
        )

    same, mirrored = similarity(slots), similarity(flipped)
    own, inverted = same[me], np.where(flipped == slots, -1, mirrored[me])
    others = np.delete(np.maximum(same, mirrored), me, axis=0).max(axis=0, initial=-1)
    # The first of equal ones: jitter before inversion before swap.
    choices = np.stack([own, inverted, others])
    kind = np.where(choices.max(axis=0) >= CLOSE_SIMILARITY, choices.argmax(axis=0), MISS)
    kind[own >= GOOD_SIMILARITY] = GOOD
    kind[own < 0] = -1
    return Pair(index, annotation, slots, np.where(own < 0, np.nan, own), kind)


def _points(entry: Mapping[str, Any]) -> np.ndarray:
    """The keypoints of an annotation or a result, (n, 3)."""
    return np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
