"""Samples of a data set, each as it is annotated and, beside it, mirrored."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..coco import load_keypoint_dataset
from ..drawing import contact_sheet, draw_image
from ..images import BadImageError, open_image
from ..keypoints import KeypointSchema
from ..labels import read_labels
from ..mapper import KeypointMapper
from .check_annotations import read_json

logger = logging.getLogger(__name__)

SIDE = 420  # of a picture, the longer one, in pixels
CAPTION = 22
COLUMNS = 4


def write_sample_sheet(annotations: str, images: str, folder: str, count: int = 16) -> Path:
    """Write folder/samples.png: the images with the most labelled keypoints, and their mirror images.

    A mirrored sample went through the mapper of training with a certain flip, flip pairs applied: the colour that shows
    the left side must be on the left side of the body in both pictures. Images that cannot be read are passed over.
    Returns the path. Raises UserError where the json cannot be loaded, or no image be read.
    """
    schema, classes = read_labels(read_json(annotations), annotations)
    records = load_keypoint_dataset(annotations, images, schema, classes)
    records.sort(key=lambda record: -_labelled(record))
    flip = KeypointMapper(
        is_train=True,
        augmentations=[T.RandomFlip(prob=1.0)],
        image_format="RGB",
        keypoint_hflip_indices=schema.flip_indices,
    )
    pictures: list[Image.Image] = []
    for record in records:
        try:
            pictures += _as_annotated_and_mirrored(record, schema, flip)
        except BadImageError as error:
            logger.warning("Not drawn: %s", error)
        if len(pictures) == 2 * count:
            break
    if not pictures:
        raise BadImageError(f"{annotations}: none of its images can be read from {images}")
    path = Path(folder) / "samples.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, COLUMNS if len(pictures) > 2 else 2).save(path)
    return path


def _labelled(record: dict[str, Any]) -> int:
    return sum(v > 0 for a in record["annotations"] for v in a["keypoints"][2::3])


def _as_annotated_and_mirrored(
    record: dict[str, Any], schema: KeypointSchema, flip: KeypointMapper
) -> list[Image.Image]:
    size = (record["width"], record["height"]) if "width" in record else None
    image = open_image(record["file_name"], size)
    instances = [
        {"bbox": a["bbox"], "keypoints": _pixel_indices(np.array(a["keypoints"]).reshape(-1, 3))}
        for a in record["annotations"]
        if not a["iscrowd"]
    ]
    sample = flip(record)
    mirrored = sample["instances"]
    boxes = mirrored.gt_boxes.tensor.numpy()
    boxes[:, 2:] -= boxes[:, :2]
    flipped = [
        {"bbox": box.tolist(), "keypoints": _pixel_indices(points)}
        for box, points in zip(boxes, mirrored.gt_keypoints.tensor.numpy(), strict=True)
    ]
    picture = Image.fromarray(sample["image"].permute(1, 2, 0).numpy())
    name = os.path.basename(record["file_name"])
    return [
        _captioned(draw_image(image, instances, schema, SIDE), f"{name}, as annotated"),
        _captioned(
            draw_image(picture, flipped, schema, SIDE),
            "mirrored; the left of the body is orange again",
        ),
    ]


def _pixel_indices(points: np.ndarray) -> list[float]:
    """COCO's coordinates of continuous ones."""
    moved = points.astype(np.float64)
    moved[:, :2] -= 0.5
    values: list[float] = np.where(moved[:, 2:] > 0, moved, 0).ravel().tolist()
    return values


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    result = Image.new("RGB", (picture.width, picture.height + CAPTION), (255, 255, 255))
    result.paste(picture, (0, CAPTION))
    font = ImageFont.load_default(size=CAPTION * 0.6)
    ImageDraw.Draw(result).text((2, 3), text, fill=(0, 0, 0), font=font)
    return result
