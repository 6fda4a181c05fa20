"""Samples of a data set, each as it is annotated and, beside it, mirrored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
from PIL import Image

from ...visualization.adapters import drawable_record
from ...visualization.draw import captioned, contact_sheet, draw_image
from ...visualization.run_images import draw_usable
from ..coco import load_keypoint_dataset, read_json
from ..image_range import ImageRange, find_image_range
from ..images import BadImageError, listed_size, open_image
from ..keypoints import KeypointSchema
from ..labels import read_labels
from ..mapper import KeypointMapper

SIDE = 420  # of a picture, the longer one, in pixels
COLUMNS = 4


def write_sample_sheet(
    annotations: str,
    images: str,
    folder: str,
    image_range: ImageRange = "auto",
    count: int = 16,
) -> Path:
    """Write folder/samples.png: the images with the most labelled keypoints, and their mirror images.

    A mirrored sample went through the mapper of training with a certain flip, flip pairs applied: the colour that shows
    the left side must be on the left side of the body in both pictures. Images that cannot be read are passed over.
    Returns the path. Raises UserError where the json cannot be loaded, or no image be read.
    """
    schema, classes = read_labels(read_json(annotations), annotations)
    records = load_keypoint_dataset(annotations, images, schema, classes)
    records.sort(key=lambda record: -_labelled(record))
    if image_range == "auto":
        image_range, _ = find_image_range([record["file_name"] for record in records])
    flip = KeypointMapper(
        is_train=True,
        augmentations=[T.RandomFlip(prob=1.0)],
        image_format="RGB",
        keypoint_hflip_indices=schema.flip_indices,
        image_range=image_range,
    )

    def draw(record: dict[str, Any]) -> list[Image.Image]:
        return _as_annotated_and_mirrored(record, schema, list(classes), flip)

    drawn, _ = draw_usable(records, draw, 2 * count)
    if not drawn:
        raise BadImageError(f"{annotations}: none of its images can be read from {images}")
    path = Path(folder) / "samples.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(drawn, COLUMNS if len(drawn) > 2 else 2).save(path)
    return path


def _labelled(record: dict[str, Any]) -> int:
    return sum(v > 0 for a in record["annotations"] for v in a["keypoints"][2::3])


def _as_annotated_and_mirrored(
    record: dict[str, Any], schema: KeypointSchema, classes: Sequence[str], flip: KeypointMapper
) -> list[Image.Image]:
    image = open_image(record["file_name"], listed_size(record), flip.image_range)
    sample = flip(record)
    mirrored = Image.fromarray(sample["image"].permute(1, 2, 0).numpy())
    name = os.path.basename(record["file_name"])
    return [
        captioned(
            draw_image(image, drawable_record(record, classes), schema, SIDE),
            f"{name}, as annotated",
        ),
        captioned(
            draw_image(mirrored, drawable_record(sample, classes), schema, SIDE),
            "mirrored; left is orange again"
            if schema.flip_pairs
            else "mirrored; no left and right",
        ),
    ]
