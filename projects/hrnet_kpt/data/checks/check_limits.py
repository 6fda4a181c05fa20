"""More objects in an image than an evaluation counts, or a model reports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...evaluation.ground_truth import COCO_DETECTIONS
from ...evaluation.scoring import describe_limits
from .annotation_table import AnnotationTable
from .findings import Finding


def check_limits(
    table: AnnotationTable, max_detections: int | None = None, reported: int | None = None
) -> Iterator[Finding]:
    """Warnings about images with more instances than detections that count for AP, or that the model reports.

    max_detections: how many count of an image and a category, for boxes and keypoints; None for COCO's 100 and 20.
    reported: how many the model reports of an image, of all classes together; None if that is not known.
    """
    instances = (table.image >= 0) & ~table.crowd & (table.category >= 0)
    labelled = np.zeros(len(instances), dtype=bool)
    for category in range(len(table.categories)):
        rows, points = table.keypoints(category)
        labelled[rows] = (points[..., 2] > 0).any(axis=1)
    for task, chosen in (("keypoints", instances & labelled), ("bbox", instances)):
        yield from _counted(table, chosen, task, max_detections)
    counts = np.bincount(table.image[instances], minlength=len(table.images))
    if reported is not None and counts.max(initial=0) > reported:
        yield from table.image_finding(
            "warning",
            "limits-exceeded",
            f"{{}} with more objects, up to {counts.max()}, than the {reported} that the model reports of an image: "
            f"set model.roi_heads.box_predictor.test_topk_per_image={counts.max()}",
            np.flatnonzero(counts > reported),
        )


def _counted(
    table: AnnotationTable, chosen: np.ndarray, task: str, max_detections: int | None
) -> Iterator[Finding]:
    most = max_detections or COCO_DETECTIONS[task]
    counts = [
        np.bincount(table.image[chosen & (table.category == category)], minlength=len(table.images))
        for category in range(len(table.categories))
    ]
    counts = [own for own in counts if own.any()]
    sentence = describe_limits(counts, task, max_detections)
    if sentence:
        over = np.flatnonzero(np.max(counts, axis=0) > most)
        yield from table.image_finding("warning", "limits-exceeded", sentence, over)
