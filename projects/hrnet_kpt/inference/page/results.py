"""What the page shows of a prediction: objects and keypoints above the sliders, drawn, in tables and in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ...data.schema import KeypointSchema
from ...visualization.adapters import drawable_object
from ...visualization.draw import draw_image

Found = Mapping[str, Any]  # an object of `Prediction.objects`
Record = Mapping[str, Any]  # a line of the json of tools/predict.py

TEXT = 1 / 52  # of the image's longer side; a page has more space than a sheet of images
FRAME = ("frame", "time", "id")  # columns of videos
OBJECT = ("object", "class", "score", "keypoints", "confidence", "left", "top", "width", "height")
KEYPOINT = ("object", "keypoint", "x", "y", "confidence")


@dataclass(frozen=True)
class Settings:
    """The sliders and switches of the page.

    Attributes:
        score: The lowest score of an object.
        confidence: The lowest confidence of a keypoint.
        names: Write names and confidences of keypoints into the image.
        mirrored: Predict the mirrored image, too.
        track: Give the objects of a video ids.
        smooth: Smooth the keypoints of objects with an id.
    """

    score: float = 0.5
    confidence: float = 0.0
    names: bool = False
    mirrored: bool = False
    track: bool = False
    smooth: bool = False


def visible_objects(objects: Iterable[Found], settings: Settings) -> list[dict[str, Any]]:
    """The objects above the score, with their keypoints above the confidence."""
    visible = []
    for found in objects:
        if found["score"] < settings.score:
            continue
        new = dict(found)
        if "keypoints" in found:
            confidences = found["confidences"].items()
            names = [name for name, value in confidences if value >= settings.confidence]
            for key in ("keypoints", "confidences"):
                new[key] = {name: found[key][name] for name in names}
        visible.append(new)
    return visible


def draw_objects(
    image: Image.Image,
    visible: Sequence[Found],
    schema: KeypointSchema,
    names: bool,
    size: int,
    image_size: tuple[int, int] | None = None,
) -> Image.Image:
    """The image with visible objects, their class, number or id, and score; see `draw_image`."""
    drawn = []
    for number, found in enumerate(visible, start=1):
        new = drawable_object({"id": number, **found}, schema, with_class=True)
        if names:
            labels = found.get("confidences", {})
            new["keypoint_labels"] = [
                f"{name.replace('_', ' ')} {labels[name]:.0%}" if name in labels else ""
                for name in schema.names
            ]
        drawn.append(new)
    return draw_image(image, drawn, schema, size, image_size, TEXT)


def object_rows(record: Record) -> list[dict[str, Any]]:
    """A row for each object of a record with visible objects, by the names of FRAME and OBJECT."""
    rows = []
    for number, found in enumerate(record["objects"], start=1):
        left, top, right, bottom = found["box"]
        confidences = list(found.get("confidences", {}).values())
        rows.append(
            {
                "frame": record.get("frame"),
                "time": record.get("time"),
                "id": found.get("id"),
                "object": number,
                "class": found["class"],
                "score": round(found["score"], 3),
                "keypoints": len(confidences),
                "confidence": round(float(np.mean(confidences)), 3) if confidences else None,
                "left": round(left, 1),
                "top": round(top, 1),
                "width": round(right - left, 1),
                "height": round(bottom - top, 1),
            }
        )
    return rows


def keypoint_rows(record: Record) -> list[dict[str, Any]]:
    """A row for each keypoint of a record with visible objects, by the names of FRAME and KEYPOINT."""
    return [
        {
            "frame": record.get("frame"),
            "time": record.get("time"),
            "id": found.get("id"),
            "object": number,
            "keypoint": name,
            "x": round(x, 1),
            "y": round(y, 1),
            "confidence": round(found["confidences"][name], 3),
        }
        for number, found in enumerate(record["objects"], start=1)
        for name, (x, y, _) in found.get("keypoints", {}).items()
    ]


def columns(names: Sequence[str], is_video: bool, has_ids: bool = False) -> list[str]:
    """The columns of a table: those of videos only where they have something to say."""
    return [*FRAME[: 2 + has_ids], *names] if is_video else list(names)


def csv_header(schema: KeypointSchema, names: Sequence[str]) -> list[str]:
    """The columns of the csv file: the image, `names` of `object_rows`, and three for each keypoint of the schema."""
    parts = ("x", "y", "confidence")
    return ["image", *names, *(f"{name} {part}" for name in schema.names for part in parts)]


def csv_rows(record: Record, schema: KeypointSchema, names: Sequence[str]) -> list[list[Any]]:
    """A row for each object of a record with visible objects; keypoints that it does not have are empty."""
    rows = []
    for row, found in zip(object_rows(record), record["objects"], strict=True):
        values: list[Any] = [record["image"], *(row[name] for name in names)]
        for name in schema.names:
            if name in found.get("keypoints", {}):
                x, y, _ = found["keypoints"][name]
                values += [round(x, 2), round(y, 2), round(found["confidences"][name], 4)]
            else:
                values += [""] * 3
        rows.append(values)
    return rows
