"""The sheet of the images that should be labelled first, with what the model is in doubt about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ...data.coco import to_coco, to_result
from ...data.images import open_image
from ...data.schema import KeypointSchema
from ...inference import Predictor
from ...inference.predict.inputs import Input
from ...inference.predict.preannotations import VISIBLE
from ...visualization.draw import captioned, contact_sheet, draw_image
from .doubt import SURE, Doubt, Found, Pair, compare_mirrored, similarities

NUM_IMAGES, COLUMNS = 24, 4
CELL = 512  # pixels
MAX_NAME = 20  # letters
FILLED, HOLLOW = 1.0, 0.01  # scores of keypoints that draw_image draws so
SAME = 0.5  # term of OKS of two keypoints that are at the same place
DIFFERENCE = (255, 0, 255)


def draw_sheet(predictor: Predictor, images: Sequence[tuple[Input, Doubt]]) -> Image.Image:
    """Draw the first NUM_IMAGES images of a ranking.

    Keypoints with a confidence below VISIBLE are hollow. A line joins a keypoint to its other place in the mirror
    image; objects that are only in this one are called "mirror". Of objects with a score below SURE, only the box is
    drawn.
    """
    cells = []
    for rank, (item, doubt) in enumerate(images[:NUM_IMAGES], 1):
        image = open_image(item.path, image_range=predictor.image_range)
        objects, pairs = compare_mirrored(predictor, image)
        drawn = draw_doubt(image, objects, pairs, predictor.schema)
        parts = f"keypoints {doubt.keypoints:.1f} boxes {doubt.boxes:.1f} mirror {doubt.mirror:.1f}"
        cells.append(captioned(drawn, f"{rank}: {parts}  {item.path.name[-MAX_NAME:]}"))
    return contact_sheet(cells, min(COLUMNS, len(cells)))


def draw_doubt(
    image: Image.Image, objects: Sequence[Found], pairs: Sequence[Pair], schema: KeypointSchema
) -> Image.Image:
    """The image, CELL pixels on its longer side, with objects of `compare_mirrored`."""
    only = [pair.mirrored for pair in pairs if pair.found is None and pair.mirrored is not None]
    instances = [_drawable(found, schema, "") for found in objects]
    instances += [_drawable(found, schema, "mirror") for found in only]
    drawn = draw_image(image, instances, schema, CELL)
    scale, draw = CELL / max(image.size), ImageDraw.Draw(drawn)
    for pair in pairs:
        if pair.found is None or pair.mirrored is None or not pair.found.get("keypoints"):
            continue
        if pair.found["score"] < SURE:
            continue
        alike = similarities(pair.found, pair.mirrored, schema)
        for name, similarity in zip(pair.found["keypoints"], alike.tolist(), strict=True):
            if similarity < SAME:
                ends = [pair.found["keypoints"][name][:2], pair.mirrored["keypoints"][name][:2]]
                places = to_coco([[scale * x, scale * y] for x, y in ends])
                draw.line([tuple(place) for place in places.tolist()], DIFFERENCE, 2)
    return drawn


def _drawable(found: Found, schema: KeypointSchema, label: str) -> dict[str, Any]:
    points, confidences = found.get("keypoints", {}), found.get("confidences", {})
    keypoints = [
        (*points[name][:2], FILLED if confidences[name] >= VISIBLE else HOLLOW)
        if name in points and found["score"] >= SURE
        else (0, 0, 0)
        for name in schema.names
    ]
    result = to_result(None, None, found["score"], found["box"], keypoints, found.get("mask"))
    return {**result, "label": label}
