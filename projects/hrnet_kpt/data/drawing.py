"""Pictures of people with their boxes and skeletons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .keypoints import KeypointSchema

LEFT, RIGHT, MIDDLE = (255, 140, 0), (0, 160, 255), (240, 240, 240)
BOX = (80, 220, 100)
# Below this score a keypoint is drawn hollow. detectron2's scores are no probabilities; see its Visualizer.
KEYPOINT_THRESHOLD = 0.05


def draw_instance(
    image: Image.Image,
    box: Sequence[float],
    keypoints: Sequence[float],
    schema: KeypointSchema,
    label: str = "",
    scale: float = 1.0,
) -> None:
    """Draw one instance on `image` in place: orange on the left side of the body, blue on the right.

    box: x, y, width, height. keypoints: x, y, score or visibility, for each keypoint in turn; those at 0 are left
    out. Both in pixels of an image that is `scale` times smaller than `image`.
    """
    draw = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 250))
    x, y, width, height = (scale * value for value in box)
    draw.rectangle((x, y, x + width, y + height), outline=BOX, width=line)
    points = {
        name: (scale * keypoints[3 * i], scale * keypoints[3 * i + 1], keypoints[3 * i + 2])
        for i, name in enumerate(schema.names)
        if keypoints[3 * i + 2] > 0
    }
    colors = _colors(schema)
    for first, second in schema.skeleton:
        if first in points and second in points:
            color = colors[first] if colors[first] == colors[second] else MIDDLE
            draw.line([points[first][:2], points[second][:2]], fill=color, width=line)
    radius = 1.4 * line
    for name, (px, py, score) in points.items():
        fill = colors[name] if score >= KEYPOINT_THRESHOLD else None
        draw.ellipse(
            (px - radius, py - radius, px + radius, py + radius), fill=fill, outline=(0, 0, 0)
        )
    if label:
        height = max(10, max(image.size) // 26)
        font = ImageFont.load_default(size=height)
        corner = (x + 2 * line, max(0.0, y - 1.2 * height))
        draw.rectangle(draw.textbbox(corner, label, font=font), fill=(0, 0, 0))
        draw.text(corner, label, fill=BOX, font=font)


def contact_sheet(pictures: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Pictures in rows of `columns`, each in a cell of the largest one's size."""
    width = max(picture.width for picture in pictures) + gap
    height = max(picture.height for picture in pictures) + gap
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), (255, 255, 255))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (gap + i % columns * width, gap + i // columns * height))
    return sheet


def draw_image(
    image: Image.Image, instances: Sequence[dict[str, Any]], schema: KeypointSchema, size: int
) -> Image.Image:
    """A copy of `image`, its longer side `size` pixels, with COCO annotations or results drawn on it."""
    scale = size / max(image.size)
    picture = image.convert("RGB").resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )
    for instance in sorted(instances, key=lambda instance: instance.get("score", 1.0)):
        label = f"{instance['score']:.0%}" if "score" in instance else ""
        draw_instance(picture, instance["bbox"], instance["keypoints"], schema, label, scale)
    return picture


def _colors(schema: KeypointSchema) -> dict[str, tuple[int, int, int]]:
    left = {pair[0] for pair in schema.flip_pairs}
    right = {pair[1] for pair in schema.flip_pairs}
    return {
        name: LEFT if name in left else RIGHT if name in right else MIDDLE for name in schema.names
    }
