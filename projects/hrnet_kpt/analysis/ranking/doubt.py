"""How much a model is in doubt about an image: about keypoints, boxes, and between the image and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image
from torch import Tensor

from ...data.schema import KeypointSchema
from ...inference import Predictor
from ...inference.tta_merging import keypoint_similarities

Found = dict[str, Any]  # an object of `Prediction.objects`

MIN_SCORE = 0.2  # detections with a lower score are left out
SURE = 0.5  # score of an object that is counted and drawn with its keypoints
SAME_IOU = 0.5  # of an object in the image and in the mirror image


@dataclass(frozen=True)
class Doubt:
    """The doubt about an image, in numbers of objects.

    Attributes:
        keypoints: Sum over the objects, weighted by their scores: the mean of 4 c (1 - c) over the keypoints, c being
            the confidence. 1 for an object with confidences of 0.5, 0 for one with 0 and 1.
        boxes: Sum over the objects of 4 s (1 - s), s being the score.
        mirror: How many objects differ in the mirror image: the sum of scores times 1 - OKS (1 - IoU without
            keypoints), with an OKS of 0 for objects that are found in one of the images only.
    """

    keypoints: float
    boxes: float
    mirror: float

    @property
    def score(self) -> float:
        return self.keypoints + self.boxes + self.mirror


@dataclass(frozen=True)
class Pair:
    """An object of the image, and the same one of the mirror image; None where there is none.

    Attributes:
        difference: From 0 to 1.
    """

    found: Found | None
    mirrored: Found | None
    difference: float


def compare_mirrored(predictor: Predictor, image: Image.Image) -> tuple[list[Found], list[Pair]]:
    """The objects of an image, in RGB, and their pairs with those of its mirror image.

    Objects with a score below MIN_SCORE are left out.
    """
    pixels = np.asarray(image)
    predictions = predictor([pixels, np.ascontiguousarray(pixels[:, ::-1])])
    objects, mirrored = (
        [found for found in prediction.objects if found["score"] >= MIN_SCORE]
        for prediction in predictions
    )
    mirrored = unmirrored(mirrored, image.width, predictor.schema)
    return objects, pair_objects(objects, mirrored, predictor.schema)


def doubt_of(objects: Sequence[Found], pairs: Sequence[Pair]) -> Doubt:
    """The doubt about an image.

    Args:
        objects: Of the image.
        pairs: Of `pair_objects`.
    """
    keypoints = boxes = 0.0
    for found in objects:
        score = found["score"]
        boxes += 4 * score * (1 - score)
        confidences = np.array(list(found.get("confidences", {}).values()))
        if len(confidences):
            keypoints += score * float((4 * confidences * (1 - confidences)).mean())
    mirror = 0.0
    for pair in pairs:
        scores = [each["score"] for each in (pair.found, pair.mirrored) if each is not None]
        mirror += pair.difference * sum(scores) / 2
    return Doubt(keypoints, boxes, mirror)


def unmirrored(objects: Sequence[Found], width: int, schema: KeypointSchema) -> list[Found]:
    """Objects of a mirror image, `width` pixels wide, as objects of the image."""
    partner = {a: b for pair in schema.flip_pairs for a, b in (pair, pair[::-1])}

    def moved(found: Found) -> Found:
        x0, y0, x1, y1 = found["box"]
        new = {**found, "box": [width - x1, y0, width - x0, y1]}
        if "keypoints" in found:
            for key in ("keypoints", "confidences"):
                values = found[key]
                new[key] = {name: values[partner.get(name, name)] for name in values}
            new["keypoints"] = {n: [width - x, y, s] for n, (x, y, s) in new["keypoints"].items()}
        return new

    return [moved(found) for found in objects]


def pair_objects(
    objects: Sequence[Found], mirrored: Sequence[Found], schema: KeypointSchema
) -> list[Pair]:
    """Pair the objects of an image with those of its mirror image, the highest score first, by class and IoU.

    Args:
        objects: Of the image.
        mirrored: Of `unmirrored`.
        schema: With the sigmas of OKS.
    """
    overlaps = pairwise_iou(_boxes(objects), _boxes(mirrored)).numpy()
    free, pairs = set(range(len(mirrored))), []
    for row in sorted(range(len(objects)), key=lambda row: -objects[row]["score"]):
        found = objects[row]
        same = [i for i in free if mirrored[i]["class"] == found["class"]]
        best = max(same, key=lambda i: overlaps[row, i], default=None)
        if best is None or overlaps[row, best] < SAME_IOU:
            pairs.append(Pair(found, None, 1.0))
            continue
        free.remove(best)
        other = mirrored[best]
        alike = (
            similarities(found, other, schema).mean()
            if found.get("keypoints")
            else overlaps[row, best]
        )
        pairs.append(Pair(found, other, 1 - float(alike)))
    return pairs + [Pair(None, mirrored[i], 1.0) for i in sorted(free)]


def _boxes(objects: Sequence[Found]) -> Boxes:
    return Boxes(torch.tensor([o["box"] for o in objects], dtype=torch.float64).reshape(-1, 4))


def similarities(found: Found, other: Found, schema: KeypointSchema) -> Tensor:
    """The term of OKS of each keypoint of two objects of one class."""
    ours, theirs = (torch.tensor([list(o["keypoints"].values())]) for o in (found, other))
    all_sigmas = dict(zip(schema.names, schema.sigmas, strict=True))
    sigmas = torch.tensor([all_sigmas[name] for name in found["keypoints"]])
    x0, y0, x1, y1 = found["box"]
    areas = torch.tensor([(x1 - x0) * (y1 - y0)])
    return keypoint_similarities(ours, theirs, areas, sigmas)[0, 0]
