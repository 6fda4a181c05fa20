"""The views of test-time augmentation, and merging their detections by weighted box fusion and OKS-NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Scores of a detection and of its mirror image differ by rounding errors up to this.
SAME_SCORE = 1e-4


@dataclass(frozen=True)
class View:
    """A resized, and maybe mirrored, version of an image.

    Attributes:
        image_size: height and width of the image in pixels.
        scale: factor of both; the products are rounded.
        mirrored: left and right are swapped.
    """

    image_size: tuple[int, int]
    scale: float
    mirrored: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view in pixels."""
        height, width = (max(1, round(length * self.scale)) for length in self.image_size)
        return height, width

    def apply(self, image: Tensor) -> Tensor:
        """The view of an image (3 x H x W); of float if it is resized."""
        if self.size != self.image_size:
            # With antialiasing, as Pillow resizes the images of the test set.
            image = F.interpolate(
                image[None].float(), self.size, mode="bilinear", align_corners=False, antialias=True
            )[0]
        return image.flip(-1) if self.mirrored else image

    def boxes_from_image(self, boxes: Tensor) -> Tensor:
        """Convert boxes (N x 4) of the image to boxes of the view."""
        boxes = boxes * _factors(self.image_size, self.size, boxes)
        return _mirror(boxes, self.size[1]) if self.mirrored else boxes

    def boxes_to_image(self, boxes: Tensor) -> Tensor:
        """Convert boxes (N x 4) of the view to boxes of the image."""
        boxes = _mirror(boxes, self.size[1]) if self.mirrored else boxes
        return boxes * _factors(self.size, self.image_size, boxes)

    def maps_to_image(self, maps: Tensor, flip_indices: Sequence[int]) -> Tensor:
        """Convert heatmaps (N x K x S x S) of the view to heatmaps of the image.

        Args:
            maps: heatmaps of boxes.
            flip_indices: the index of each keypoint's mirrored partner, K.
        """
        if not self.mirrored:
            return maps
        indices = torch.tensor(flip_indices).to(maps.device, non_blocking=True)
        return maps.index_select(1, indices).flip(-1)


def _factors(size: tuple[int, int], new_size: tuple[int, int], like: Tensor) -> Tensor:
    y, x = (new / old for new, old in zip(new_size, size, strict=True))
    return like.new_tensor([x, y, x, y])


def _mirror(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def weighted_box_fusion(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_views: int, iou_thresh: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted box fusion (Solovyev et al. 2019, https://arxiv.org/abs/1910.13302) within each class.

    Boxes, highest score first, join the cluster whose box they overlap most, if the IoU is above `iou_thresh`, or start
    a new one. A cluster's box is the mean of its boxes, weighted by their scores; its score is the mean of their
    scores, times min(number of boxes, num_views) / num_views, so that objects found in few views count less.

    Boxes of equal scores are assigned to the same clusters, as if they joined at once: so the detections of a
    mirror-symmetric image, which come in pairs of equal scores, are fused symmetrically.

    Args:
        boxes: N x 4, x1, y1, x2, y2.
        scores: N, positive.
        classes: N.
        num_views: the number of views that the boxes come from.
        iou_thresh: IoU above which boxes are one object.

    Returns:
        Boxes M x 4, scores M and classes M, highest score first.
    """
    # One copy from a GPU and one back for all classes together: each copy waits for the GPU.
    given = torch.cat([boxes, scores[:, None], classes[:, None].to(boxes)], dim=1)
    table = given.cpu().double().numpy()
    found = [table[:0]]
    for class_ in np.unique(table[:, 5]):
        mine = table[table[:, 5] == class_]
        fused, fused_scores = _fuse(mine[:, :4], mine[:, 4], num_views, iou_thresh)
        found.append(np.column_stack([fused, fused_scores, np.full(len(fused), class_)]))
    merged = torch.from_numpy(np.concatenate(found)).to(given.dtype)
    merged = merged[merged[:, 4].argsort(descending=True, stable=True)].to(given.device)
    return merged[:, :4], merged[:, 4].to(scores.dtype), merged[:, 5].to(classes.dtype)


def object_keypoint_similarity(
    keypoints: Tensor, others: Tensor, areas: Tensor, sigmas: Tensor
) -> Tensor:
    """COCO's OKS (https://cocodataset.org/#keypoints-eval) over all keypoints, from 0 to 1.

    Args:
        keypoints: N x K x 2 or more; x, y.
        others: M x K x 2 or more.
        areas: N, of the objects of `keypoints`, in square pixels.
        sigmas: K.

    Returns:
        N x M.
    """
    return keypoint_similarities(keypoints, others, areas, sigmas).mean(dim=-1)


def keypoint_similarities(
    keypoints: Tensor, others: Tensor, areas: Tensor, sigmas: Tensor
) -> Tensor:
    """The term of each keypoint in `object_keypoint_similarity`, N x M x K."""
    squared = (keypoints[:, None, :, :2] - others[None, :, :, :2]).square().sum(dim=-1)
    spread = 2 * areas.clamp(min=1e-6)[:, None, None] * (2 * sigmas).square()
    return (-squared / spread).exp()


def oks_nms(
    keypoints: Tensor, scores: Tensor, areas: Tensor, sigmas: Tensor, oks_thresh: float
) -> Tensor:
    """Greedy non-maximum suppression of instances of one class by their keypoints.

    An instance is dropped if its OKS with a kept instance of a higher score is above `oks_thresh`.

    Args:
        keypoints: N x K x 2 or more.
        scores: N.
        areas: N, of the boxes, in square pixels; OKS uses that of the higher score.
        sigmas: K.

    Returns:
        The indices of the kept instances, highest score first.
    """
    order = scores.argsort(descending=True, stable=True)
    ordered = keypoints[order]
    similar = object_keypoint_similarity(ordered, ordered, areas[order], sigmas) > oks_thresh
    later = torch.ones_like(similar).triu(diagonal=1)
    drops = (similar & later).cpu()
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if kept[i]:
            kept &= ~drops[i]
    return order[kept.to(order.device)]


def _fuse(
    boxes: np.ndarray, scores: np.ndarray, num_views: int, iou_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    # For each cluster: the sum of its boxes, weighted by score, the sum of their scores, and their number.
    sums, weights, numbers = np.zeros_like(boxes), np.zeros_like(scores), np.zeros_like(scores)
    opened = start = 0
    while start < len(boxes):
        end = int(np.searchsorted(-scores, SAME_SCORE - scores[start], side="right"))
        before = opened
        overlaps = _overlap(boxes[start:end], sums[:before] / weights[:before, None])
        for i in range(start, end):
            best = _best(overlaps[i - start], iou_thresh)
            if best is None:
                new = sums[before:opened] / weights[before:opened, None]
                best = _best(_overlap(boxes[i : i + 1], new)[0], iou_thresh)
                best = opened if best is None else before + best
                opened = max(opened, best + 1)
            sums[best] += scores[i] * boxes[i]
            weights[best] += scores[i]
            numbers[best] += 1
        start = end
    sums, weights, numbers = sums[:opened], weights[:opened], numbers[:opened]
    seen = np.minimum(numbers, num_views) / num_views
    return sums / weights[:, None], weights / numbers * seen


def _best(overlaps: np.ndarray, iou_thresh: float) -> int | None:
    if overlaps.max(initial=0.0) <= iou_thresh:
        return None
    return int(overlaps.argmax())


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU, N x M, with a small bonus for near boxes, which decides between boxes of equal IoU."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (high - low).clip(0).prod(axis=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    distance = np.abs(boxes[:, None] - others[None]).max(axis=2)
    union = areas[:, None] + other_areas - intersection
    return intersection / union.clip(1e-9) - 1e-12 * distance
