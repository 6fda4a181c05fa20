"""A predictor: from images to the instances that a trained model detects."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ..config import load_config
from ..config.checks import resolve_and_check
from ..data.categories import resolve_classes, resolve_schema
from ..data.image_range import ImageRange, to_eight_bits
from ..data.images import convert_image, read_image
from ..data.masks import to_rle
from ..errors import UserError, refuse_errors
from ..evaluation.calibration import Calibration, load_calibration
from ..memory import keep_freed_memory
from ..weights.run_checkpoints import result_checkpoint
from .build import build_model, inference_model

logger = logging.getLogger(__name__)

ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True)
class Prediction:
    """The instances of one image, in pixels of the original image, highest score first.

    Attributes:
        instances: detectron2's, on the CPU: pred_boxes, scores, pred_classes, pred_masks (N x height x width, bool) if
            the model has masks and, if it has keypoints, pred_keypoints (N x K x 3: x, y, detectron2's score) in the
            order of the schema, box_scores and keypoint_scores.
        classes: names of the classes, each with the names of its keypoints.
        keypoint_names: names of the K keypoints.
        calibration: maps scores of keypoints to confidences.
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
        """The probability that the position of a keypoint is right, N x K from 0 to 1; see `Calibration`."""
        return self.calibration.confidence(self.instances.pred_keypoints[..., 2].numpy())

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The instances as dicts that json takes.

        Each has `class`, `score`, `box` (x1, y1, x2, y2) and, if its class has keypoints, `keypoints` (x, y and
        detectron2's score by name) and `confidences` of the keypoints by name; with masks, `mask`, COCO's RLE
        {size, counts}. x runs from 0 at the left edge of the image to its width, y from 0 at the upper edge.
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

    def to_supervision(self) -> tuple[Any, Any]:
        """The instances as `supervision.Detections` and `supervision.KeyPoints`, with `class_name` in their data.

        Coordinates are those of `objects`, and confidences of keypoints are calibrated. A keypoint that the class of
        its instance does not have is at 0, 0, and not visible. Without keypoints in the model, KeyPoints are empty.

        Raises:
            UserError: If the package supervision is not installed.
        """
        try:
            import supervision as sv
        except ImportError as error:
            raise UserError(
                'to_supervision() needs the package supervision: pip install "hrnet_kpt[track]"'
            ) from error
        found, names = self.instances, list(self.classes)
        class_id = found.pred_classes.numpy().astype(int)
        data: dict[str, Any] = {
            "class_name": np.array([names[index] for index in class_id], dtype=str)
        }
        scores = found.scores.numpy()
        detections = sv.Detections(
            xyxy=found.pred_boxes.tensor.numpy(),
            mask=found.pred_masks.numpy() if found.has("pred_masks") else None,
            confidence=scores,
            class_id=class_id,
            data=dict(data),
        )
        if not found.has("pred_keypoints") or not len(found):
            return detections, sv.KeyPoints.empty()
        own = np.array([[k in self.classes[name] for k in self.keypoint_names] for name in names])
        visible = own[class_id]
        keypoints = sv.KeyPoints(
            xy=found.pred_keypoints[..., :2].numpy() * visible[..., None],
            class_id=class_id,
            keypoint_confidence=(self.confidences * visible).astype(np.float32),
            detection_confidence=scores,
            visible=visible,
            data=data,
        )
        return detections, keypoints


class Predictor:
    """Maps an image, or a list of images, to a Prediction, or a list of these.

    It may be called from several threads. The process keeps the memory of an image for the next one (see
    `memory.keep_freed_memory`).

    Args:
        cfg: a config, with the classes, the keypoints and the transforms of evaluation.
        weights: path or URL of a checkpoint of the whole model. The evaluation in its run folder, if there is one,
            calibrates the confidences of keypoints.
        device: "cuda", "mps", "cpu"; by default the config's train.device. The CPU, if there is no such GPU.

    Raises:
        UserError: If the config is wrong, or the weights do not fit its model.
    """

    def __init__(self, cfg: DictConfig, weights: str | Path, device: str = "") -> None:
        if not str(weights):
            raise UserError("a predictor needs weights: give the path of a checkpoint")
        cfg = cfg.copy()
        cfg.train.init_checkpoint = ""  # the file may be missing here
        if device:
            cfg.train.device = device
        cfg, findings = resolve_and_check(cfg, training=False)
        for warning in refuse_errors(findings):
            logger.warning(warning)
        mapper = instantiate(cfg.dataloader.test.get("mapper"))
        if not (hasattr(mapper, "augmentations") and hasattr(mapper, "image_format")):
            raise UserError(
                "dataloader.test.mapper must have `augmentations` and an `image_format`, as a KeypointMapper has: a "
                "predictor transforms images as evaluation does"
            )
        self.augmentations = mapper.augmentations
        self.image_format: str = mapper.image_format
        self.image_range: ImageRange = getattr(mapper, "image_range", "8-bit")
        keep_freed_memory()
        model = inference_model(cfg, build_model(cfg, str(weights), whole=True))
        if not isinstance(model, GeneralizedRCNN):
            raise UserError(
                f"model is a {type(model).__name__}: a predictor needs a GeneralizedRCNN"
            )
        self.model = model
        self.classes: Mapping[str, Sequence[str]] = {
            name: list(names) for name, names in resolve_classes(cfg.data.classes).items()
        }
        self.schema = resolve_schema(instantiate(cfg.data.keypoints))
        self.calibration = load_calibration(Path(weights)) or Calibration()

    @classmethod
    def from_run(cls, folder: str | Path, device: str = "") -> Predictor:
        """A predictor with the config.yaml of a run folder and the checkpoint of `files_of_run`.

        Raises:
            UserError: If one of these is missing.
        """
        config, weights = files_of_run(folder)
        return cls(load_config(config), weights, device)

    @overload
    def __call__(self, images: ImageInput, color: str = ...) -> Prediction: ...

    @overload
    def __call__(
        self, images: list[Any] | tuple[Any, ...], color: str = ...
    ) -> list[Prediction]: ...

    def __call__(
        self, images: ImageInput | list[Any] | tuple[Any, ...], color: str = "RGB"
    ) -> Prediction | list[Prediction]:
        """Predict the instances in an image, or in each image of a list or tuple.

        Images of equal size after resizing form a batch, so that results do not depend on the other images.

        Args:
            images: see `to_array`.
            color: "RGB" or "BGR", the order of the channels of arrays and tensors.
        """
        if not isinstance(images, list | tuple):
            return self([images], color)[0]
        samples = [
            self._prepare(to_array(image, color, self.image_format, self.image_range))
            for image in images
        ]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, sample in enumerate(samples):
            groups.setdefault(tuple(sample["image"].shape), []).append(i)
        predictions: dict[int, Prediction] = {}
        for indices in groups.values():
            with torch.inference_mode():
                outputs = self.model.inference([samples[i] for i in indices])
            for i, output in zip(indices, outputs, strict=True):
                predictions[i] = Prediction(
                    output["instances"].to("cpu"), self.classes, self.schema.names, self.calibration
                )
        return [predictions[i] for i in range(len(samples))]

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        inputs = T.AugInput(image)
        try:
            self.augmentations(inputs)
        except (ValueError, ZeroDivisionError) as error:  # Pillow refuses a size of 0
            raise UserError(
                f"an image of {width} x {height} pixels is too elongated to be resized: crop it"
            ) from error
        pixels = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}


def to_array(
    image: ImageInput,
    color: str = "RGB",
    image_format: str = "RGB",
    image_range: ImageRange = "8-bit",
) -> np.ndarray:
    """Convert an image to an array, height x width x 3 of uint8.

    Args:
        image: a path; a Pillow image, which is rotated as its EXIF data say; an array, height x width x 3 or
            height x width, of uint8; or a tensor, 3 x height x width, of uint8. Other types of numbers need an
            image_range of [low, high].
        color: "RGB" or "BGR", the order of the channels of an array or a tensor.
        image_format: the order of the channels of the result.
        image_range: the range of pixels of more than 8 bits; see `images.read_image`.

    Raises:
        UserError: If `image` is something else.
        BadImageError: If a file cannot be read.
    """
    if color not in ("RGB", "BGR"):
        raise UserError(f"color={color!r}: write RGB or BGR, the order of the channels")
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if "://" in path:
            raise UserError(f"{path} is a URL: download the image, and give its path or its pixels")
        return read_image(Path(path), image_format, None, image_range)
    if isinstance(image, Image.Image):
        return convert_image(image, image_format, image_range)
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] != 3:
            raise UserError(f"the tensor is {tuple(image.shape)}: give 3 x height x width")
        image = image.detach().cpu().movedim(0, -1).numpy()
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{type(image).__name__} is not an image: give a path, a Pillow image, an array or a tensor"
        )
    if image.dtype != np.uint8:
        if isinstance(image_range, str) or image.dtype.kind not in "iuf":
            raise UserError(
                f"the image has dtype {image.dtype}: give uint8, 0 to 255, or set data.image_range=[low,high]"
            )
        image = to_eight_bits(image, image_range)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"the array is {image.shape}: give height x width x 3")
    return image if color == image_format else image[..., ::-1]


def files_of_run(folder: str | Path) -> tuple[str, str]:
    """The paths of a run folder's config.yaml and checkpoint: the newest, or the best if the run has ended with it.

    Raises:
        UserError: If one of these is missing, or no checkpoint can be read.
    """
    folder = Path(os.path.expanduser(folder))
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: there is no config.yaml in it")
    found = result_checkpoint(folder, mmap=True)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train, or go on with --resume")
    return str(folder / "config.yaml"), str(found[0])
