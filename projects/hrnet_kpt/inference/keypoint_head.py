"""The keypoint head in inference: batched decoding of heatmaps, and scores of instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from detectron2.modeling.roi_heads import BaseKeypointRCNNHead
from detectron2.structures import Instances
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.keypoint_decoding import dark_positions, decode_heatmaps

INSTANCE_SCORES = ("box", "keypoints", "combined")
DECODINGS = ("highest", "dark")


class DecodingKeypointHead(nn.Module):
    """A trained keypoint head for inference.

    `forward` takes pooled features (N x C x S x S) and the instances of their images; it returns the instances, highest
    score first, with `pred_keypoints` (N x K x 3: x, y, score), `box_scores` and `keypoint_scores`.

    Args:
        head: detectron2's head, whose layers are used.
        instance_score: the meaning of an instance's `scores`, all from 0 to 1:
            "box": the probability of its class;
            "keypoints": the mean of the scores of its keypoints, each clamped to 1;
            "combined": the product of both.
        class_keypoints: for each class, the indices of its keypoints; all of them by default.
        decoding: "highest", the maximum of the resized heatmap, as detectron2 does; or "dark", a position between the
            heatmap's cells (see dark_positions). Scores are the same.

    Raises:
        UserError: If `instance_score` or `decoding` is unknown.
    """

    counted: Tensor

    def __init__(
        self,
        head: BaseKeypointRCNNHead,
        instance_score: str = "box",
        class_keypoints: Sequence[Sequence[int]] = (),
        decoding: str = "highest",
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("instance_score", instance_score, INSTANCE_SCORES),
            ("keypoint_decoding", decoding, DECODINGS),
        ):
            if value not in known:
                raise UserError(f"inference.{key}={value!r}: write one of {', '.join(known)}")
        self.head = head
        self.instance_score = instance_score
        self.decoding = decoding
        self.class_keypoints = [list(indices) for indices in class_keypoints]
        # C x K: 1 for the keypoints of a class, else 0. On the head's device: a copy for each image would wait for it.
        counted = [[i in own for i in range(self.num_keypoints)] for own in self.class_keypoints]
        device = next(head.parameters()).device
        self.register_buffer(
            "counted", torch.tensor(counted, dtype=torch.float32, device=device), persistent=False
        )

    @property
    def num_keypoints(self) -> int:
        return int(self.head.num_keypoints)

    def layers(self, x: Tensor) -> Tensor:
        """The heatmaps of pooled features: N x K x side x side, logits."""
        return cast(Tensor, self.head.layers(x))

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances]:
        return self.decode(self.layers(x), instances)

    def decode(self, maps: Tensor, instances: list[Instances]) -> list[Instances]:
        """`forward` for given heatmaps."""
        boxes = torch.cat([found.pred_boxes.tensor for found in instances])
        decoded = decode_heatmaps(maps, boxes)
        keypoints = torch.cat([decoded[..., :2], decoded[..., 3:]], dim=2)
        if self.decoding == "dark":
            keypoints[..., :2] = dark_positions(maps, boxes)
        parts = keypoints.split([len(found) for found in instances])
        return [self._scored(*pair) for pair in zip(instances, parts, strict=True)]

    def _scored(self, instances: Instances, keypoints: Tensor) -> Instances:
        instances.pred_keypoints = keypoints
        if not instances.has("scores"):  # boxes that the caller gave
            return instances
        instances.box_scores = instances.scores
        instances.keypoint_scores = self._keypoint_scores(keypoints, instances.pred_classes)
        if self.instance_score == "box":
            return instances
        instances.scores = instances.keypoint_scores
        if self.instance_score == "combined":
            instances.scores = instances.box_scores * instances.keypoint_scores
        return instances[instances.scores.argsort(descending=True)]

    def _keypoint_scores(self, keypoints: Tensor, classes: Tensor) -> Tensor:
        """The mean over each instance's own keypoints; 1 for those of a class that has none."""
        if self.class_keypoints:
            counted = self.counted[classes]
        else:
            counted = keypoints.new_ones(len(keypoints), keypoints.shape[1])
        total = (keypoints[..., 2].clamp(max=1) * counted).sum(dim=1)
        count = counted.sum(dim=1)
        return torch.where(count > 0, total / count.clamp(min=1), 1.0)
