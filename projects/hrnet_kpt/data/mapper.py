"""The mapper: dataset dicts to the inputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data.detection_utils import filter_empty_instances
from detectron2.structures import Boxes, BoxMode, Instances, Keypoints

from .image_range import ImageRange, parse_range
from .images import annotated_size, read_image
from .masks import transformed_masks


class KeypointInput(T.AugInput):
    """The input of augmentations: an image, its boxes and keypoints.

    They are passed to an augmentation whose `get_transform` has arguments of these names.

    Attributes:
        image: (height, width, 3).
        boxes: (N, 4) x1, y1, x2, y2.
        keypoints: (N, K, 3) x, y, v.
    """

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray, keypoints: np.ndarray) -> None:
        super().__init__(image, boxes=boxes)
        self.keypoints = keypoints

    def transform(self, tfm: T.Transform) -> None:
        super().transform(tfm)
        self.keypoints = transformed_keypoints(self.keypoints, tfm)


class KeypointMapper:
    """Read and augment the image of a dataset dict, and convert its annotations to detectron2's Instances.

    The result of a call is a dict with `image` (uint8, 3 x H x W), `height` and `width` of the file, and `instances`:
    without crowds, boxes clipped to the image and without empty ones, keypoints outside the image set to 0, masks if
    the dict has segmentations. A call raises BadImageError if the image file cannot be used.

    Args:
        is_train: Whether to add the instances.
        augmentations: Augmentations of detectron2, and others that take `image`, `boxes` or `keypoints`.
        image_format: "RGB" or "BGR".
        keypoint_hflip_indices: Keypoint i of a flipped instance is keypoint keypoint_hflip_indices[i] of the instance.
            Required for training.
        image_range: The range of pixels with more than 8 bits; see `images.read_image`.
        cache_mib: Images are kept in memory, up to this size in MiB in each worker process: decoded, and resized if the
            first augmentation is a ResizeShortestEdge to a single length.
    """

    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        keypoint_hflip_indices: Sequence[int] = (),
        image_range: ImageRange = "8-bit",
        cache_mib: float = 0.0,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        first = augmentations[0] if augmentations else None
        self.resize = first if has_one_length(first) else None
        self.after_resize = T.AugmentationList(augmentations[1:] if self.resize else augmentations)
        self.image_format = image_format
        self.image_range = parse_range(image_range)
        self.keypoint_hflip_indices = np.array(keypoint_hflip_indices, dtype=np.int64)
        self.cache: dict[str, tuple[np.ndarray, T.Transform]] = {}
        self.free_bytes = cache_mib * 2**20

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        sample = {key: value for key, value in record.items() if key != "annotations"}
        image, resize = self._read(record)
        height, width = (resize.h, resize.w) if self.resize else image.shape[:2]
        sample["height"], sample["width"] = height, width
        annotations = [
            annotation
            for annotation in record.get("annotations", ())
            if self.is_train and not annotation.get("iscrowd", 0)
        ]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
        keypoints = np.array([a["keypoints"] for a in annotations], dtype=np.float64)
        shape = len(annotations), len(self.keypoint_hflip_indices), 3
        inputs = KeypointInput(
            image,
            boxes=resize.apply_box(np.array(boxes, dtype=np.float64).reshape(-1, 4)),
            keypoints=transformed_keypoints(keypoints.reshape(shape), resize),
        )
        transforms = T.TransformList([resize, self.after_resize(inputs)])
        if self.is_train:
            classes = [annotation["category_id"] for annotation in annotations]
            instances = self._instances(inputs, classes, is_mirrored(transforms))
            if annotations and "segmentation" in annotations[0]:
                segmentations = [annotation["segmentation"] for annotation in annotations]
                instances.gt_masks = transformed_masks(segmentations, transforms, (height, width))
            sample["instances"] = filter_empty_instances(instances)
        pixels = np.ascontiguousarray(inputs.image.transpose(2, 0, 1))
        sample["image"] = torch.as_tensor(pixels)
        return sample

    def _read(self, record: dict[str, Any]) -> tuple[np.ndarray, T.Transform]:
        """The image, resized if that is always the same, and the transform that did it."""
        name = record["file_name"]
        if name in self.cache:
            return self.cache[name]
        image = read_image(name, self.image_format, annotated_size(record), self.image_range)
        resize = T.NoOpTransform()
        if self.resize:
            length, max_size = self.resize.short_edge_length[0], self.resize.max_size
            size = T.ResizeShortestEdge.get_output_shape(*image.shape[:2], length, max_size)
            resize = T.ResizeTransform(*image.shape[:2], *size, self.resize.interp)
            image = resize.apply_image(image)
        # The first images stay: in epochs of random order, this is as good as replacing them.
        if image.nbytes <= self.free_bytes:
            self.free_bytes -= image.nbytes
            self.cache[name] = image, resize
        return image, resize

    def _instances(self, inputs: KeypointInput, classes: list[int], mirrored: bool) -> Instances:
        height, width = inputs.image.shape[:2]
        boxes = inputs.boxes.clip(0, [width, height, width, height])
        keypoints = inputs.keypoints
        if mirrored:
            keypoints = keypoints[:, self.keypoint_hflip_indices]
        inside = (keypoints[..., :2] >= 0) & (keypoints[..., :2] <= (width, height))
        labelled = inside.all(axis=-1) & (keypoints[..., 2] > 0)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
        if keypoints.shape[1]:
            instances.gt_keypoints = Keypoints(keypoints * labelled[..., None])
        return instances


def transformed_keypoints(keypoints: np.ndarray, transform: T.Transform) -> np.ndarray:
    """Keypoints (N, K, 3) in the transformed image."""
    points = transform.apply_coords(keypoints[..., :2].reshape(-1, 2))
    return np.concatenate([points.reshape(*keypoints.shape[:2], 2), keypoints[..., 2:]], axis=2)


def has_one_length(augmentation: T.Augmentation | None) -> bool:
    """Whether an augmentation resizes the shortest edge, and always to the same length."""
    return (
        isinstance(augmentation, T.ResizeShortestEdge)
        and len({*augmentation.short_edge_length}) == 1
    )


def flip_directions(augmentations: Sequence[T.Augmentation]) -> set[str]:
    """The directions, "horizontal" and "vertical", of detectron2's RandomFlips among the augmentations."""
    found: set[str] = set()
    for augmentation in augmentations:
        if isinstance(augmentation, T.RandomFlip) and augmentation.prob > 0:
            found |= {d for d in ("horizontal", "vertical") if getattr(augmentation, d)}
        elif isinstance(augmentation, T.AugmentationList):
            found |= flip_directions(augmentation.augs)
        elif isinstance(augmentation, T.RandomApply) and augmentation.prob > 0:
            found |= flip_directions([augmentation.aug])
    return found


def is_mirrored(transforms: T.Transform) -> bool:
    """Whether transforms exchange left and right: flips along either axis do, rotations do not.

    detectron2 counts only horizontal flips.
    """
    corner, x, y = transforms.apply_coords(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    return bool(np.linalg.det([x - corner, y - corner]) < 0)
