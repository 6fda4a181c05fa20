"""A trained model that takes images and gives what is in them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from omegaconf import DictConfig

from ..config import load_config
from ..config.doctor import settle_and_check
from ..data.calibration import Calibration, calibration_beside
from ..data.image_range import ImageRange
from ..data.labels import given_classes, given_schema
from ..errors import UserError
from ..memory import keep_freed_memory
from ..weights.run_checkpoints import newest_file
from .building import build_model, inference_model
from .inputs import ImageInput, to_array
from .prediction import Prediction

logger = logging.getLogger(__name__)


class Predictor:
    """Called with an image, or a list of them, it returns a Prediction, or a list of these.

    cfg: a config; its classes, its keypoints and what evaluation does to an image are taken from it.
    weights: path or URL of a checkpoint of the whole model. Confidences of keypoints are calibrated by the evaluation
        in its run folder, if there is one.
    device: "cuda", "cpu", ...; the config's train.device by default, or the CPU where there is no GPU.

    It may be called from several threads at once. The process keeps the memory that an image needed, for the next one
    (see `memory.keep_freed_memory`). Raises UserError where the config is wrong, or the weights do not fit
    its model.
    """

    def __init__(self, cfg: DictConfig, weights: str | Path, device: str = "") -> None:
        if not str(weights):
            raise UserError("a predictor needs weights: give the path of a checkpoint")
        cfg = cfg.copy()
        cfg.train.init_checkpoint = ""  # that of the training may be elsewhere
        if device:
            cfg.train.device = device
        cfg, odd = settle_and_check(cfg, training=False)
        for warning in odd:
            logger.warning(warning)
        mapper = instantiate(cfg.dataloader.test.get("mapper"))
        if not (hasattr(mapper, "augmentations") and hasattr(mapper, "image_format")):
            raise UserError(
                "dataloader.test.mapper must have `augmentations` and an `image_format`, as a KeypointMapper has: a "
                "predictor does to its images what evaluation does"
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
            name: list(names) for name, names in given_classes(cfg.data.classes).items()
        }
        self.schema = given_schema(instantiate(cfg.data.keypoints))
        self.calibration = calibration_beside(Path(weights)) or Calibration()

    @classmethod
    def from_run(cls, folder: str | Path, device: str = "") -> Predictor:
        """A predictor of a run folder: of its config.yaml and its newest checkpoint, the one that --resume takes.

        Raises UserError where these are missing.
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
        """What is in an image, or in each image of a list or tuple.

        images: see `inputs.to_array`.
        color: "RGB" or "BGR", the order of the channels of arrays and tensors.

        Images that come out equally large after resizing go through the model together; so results do not depend on
        what else is in the list.
        """
        if not isinstance(images, list | tuple):
            return self._predict([images], color)[0]
        return self._predict(images, color)

    def _predict(self, images: Iterable[ImageInput], color: str) -> list[Prediction]:
        samples = [
            self._prepare(to_array(image, color, self.image_format, self.image_range))
            for image in images
        ]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, sample in enumerate(samples):
            groups.setdefault(tuple(sample["image"].shape), []).append(i)
        predictions: dict[int, Prediction] = {}
        for places in groups.values():
            with torch.inference_mode():
                outputs = self.model.inference([samples[i] for i in places])
            for i, output in zip(places, outputs, strict=True):
                predictions[i] = self._prediction(output["instances"])
        return [predictions[i] for i in range(len(samples))]

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        inputs = T.AugInput(image)
        try:
            self.augmentations(inputs)
        except (ValueError, ZeroDivisionError) as error:  # Pillow makes no image without pixels
            raise UserError(
                f"an image of {width} x {height} pixels is too long to be resized: cut it up"
            ) from error
        pixels = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}

    def _prediction(self, instances: Instances) -> Prediction:
        return Prediction(instances.to("cpu"), self.classes, self.schema.names, self.calibration)


def files_of_run(folder: str | Path) -> tuple[str, str]:
    """Config and weights of a run folder: its config.yaml, and the checkpoint that --resume would go on from.

    Raises UserError where these are missing, or no checkpoint can be read.
    """
    folder = Path(os.path.expanduser(folder))
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is no run folder: there is no config.yaml in it")
    weights = newest_file(folder)
    if weights is None:
        raise UserError(f"{folder} has no checkpoint yet: train, or go on with --resume")
    return str(folder / "config.yaml"), str(weights)
