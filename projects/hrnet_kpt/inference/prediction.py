"""What a model sees in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..data.masks import to_rle
from ..evaluation.calibration import Calibration


@dataclass(frozen=True)
class Prediction:
    """The instances of one image, in pixels of the image as it was given; the best first.

    instances: detectron2's, on the CPU: pred_boxes, scores, pred_classes, pred_masks (N x height x width, bool) if the
        model has masks and, if it has keypoints, pred_keypoints (N x K x 3: x, y, detectron2's score) in the places of
        the schema, box_scores and keypoint_scores.
    classes: names of the classes, with the names of the keypoints that each has.
    keypoint_names: names of the K places.
    calibration: what makes confidences of the scores of keypoints.
    """

    instances: Instances
    classes: Mapping[str, Sequence[str]]
    keypoint_names: Sequence[str]
    calibration: Calibration = field(default_factory=Calibration)

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        height, width = self.instances.image_size
        return height, width

    @cached_property
    def confidences(self) -> np.ndarray:
        """N x K, from 0 to 1: how probable it is that the keypoint is where it was found; see `Calibration`."""
        return self.calibration.confidence(self.instances.pred_keypoints[..., 2].numpy())

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The instances as plain data, for a json.

        Each has `class`, `score`, `box` (x1, y1, x2, y2) and, if its class has keypoints, `keypoints`, x, y and
        detectron2's score by name, and `confidences` of the keypoints by name; with masks, `mask`, COCO's run lengths
        {size, counts}. x runs from 0, the left edge of the
        image, to its width; y from 0, its upper edge.
        """
        names = list(self.classes)
        found = []
        points = self.instances.pred_keypoints if self.instances.has("pred_keypoints") else None
        for i in range(len(self.instances)):
            name = names[int(self.instances.pred_classes[i])]
            new: dict[str, Any] = {
                "class": name,
                "score": float(self.instances.scores[i]),
                "box": self.instances.pred_boxes.tensor[i].tolist(),
            }
            if points is not None and self.classes[name]:
                for key, values in (("keypoints", points[i]), ("confidences", self.confidences[i])):
                    by_name = dict(zip(self.keypoint_names, values.tolist(), strict=True))
                    new[key] = {own: by_name[own] for own in self.classes[name]}
            if self.instances.has("pred_masks"):
                new["mask"] = to_rle(self.instances.pred_masks[i].numpy())
            found.append(new)
        return found
