"""Images with boxes, masks, skeletons and labels drawn on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.coco import from_coco, to_coco
from ..data.masks import to_bitmap
from ..data.schema import KeypointSchema, left_right_pairs

Color = tuple[int, int, int]

LEFT, RIGHT, MIDDLE = (255, 140, 0), (0, 160, 255), (240, 240, 240)
BOX = (80, 220, 100)
OUTLINE = (0, 0, 0)
# Below this score a keypoint is drawn hollow. detectron2's scores are no probabilities; see its Visualizer.
KEYPOINT_THRESHOLD = 0.05
VISIBLE = 2  # COCO's v of a keypoint that is labelled and not hidden

TINTS = ((70, 110, 255), (255, 70, 160), (255, 215, 0), (0, 200, 190), (170, 90, 255))
TINT_SHARE = np.uint8(110)  # of 255
# Shares of the image's longer side: images of all sizes look alike.
LINE = 1 / 160
TEXT = 1 / 36
THINNEST_LINE, SMALLEST_TEXT = 1.25, 9  # pixels
LABEL_ROWS = 10  # that a label may move up or down to where there is none yet
# Shares of a line's width.
LARGEST_RADIUS, SMALLEST_RADIUS = 1.6, 0.3
RIM, BOX_WIDTH = 0.5, 0.6
# Of the mean distance to the nearest two keypoints: dots in a row do not touch.
RADIUS_SHARE = 0.33
# Pillow draws without antialiasing: smaller images are drawn enlarged, and reduced.
MOST_ENLARGED, ENLARGED_SIZE = 4, 3200


def draw_image(
    image: Image.Image, instances: Sequence[Mapping[str, Any]], schema: KeypointSchema, size: int
) -> Image.Image:
    """A copy of an image with COCO annotations or results drawn on it.

    Args:
        image: of any size.
        instances: each has `bbox` (x, y, width, height), and may have
            `keypoints`: those of the whole schema, x, y, v in turn, or x, y, score if the instance has a score;
            `segmentation`: polygons or RLE;
            `score`: of the whole, from 0 to 1; `label`: a string, such as its class.
            Coordinates are COCO's: pixels of `image`, keypoints half a pixel less than boxes.
        schema: what the keypoints are.
        size: the longer side of the copy in pixels.

    Keypoints on the left of the body are orange, on the right blue, others light. Those of v = 1 (hidden) or a score
    below KEYPOINT_THRESHOLD are hollow, those of 0 left out. Masks are tinted. The best detections,
    or the smallest instances, are on top.
    """
    scale, line = size / max(image.size), _line(size)
    enlarged = max(1, min(MOST_ENLARGED, ENLARGED_SIZE // size))
    width, height = (max(1, round(scale * side)) for side in image.size)
    drawn = image.convert("RGB").resize(
        (enlarged * width, enlarged * height), Image.Resampling.BICUBIC
    )
    ordered = sorted(instances, key=_rank)
    for number, instance in enumerate(ordered):
        if instance.get("segmentation"):
            bitmap = to_bitmap(instance["segmentation"], (image.height, image.width))
            share = Image.fromarray(bitmap * TINT_SHARE).resize(
                drawn.size, Image.Resampling.BILINEAR
            )
            drawn.paste(TINTS[number % len(TINTS)], mask=share)
    for instance in ordered:
        # On whole pixels of the final image.
        box = [enlarged * round(value) for value in _corners(instance["bbox"], scale)]
        _draw_box(drawn, box, enlarged * round(BOX_WIDTH * line))
    for instance in ordered:
        filled_from = KEYPOINT_THRESHOLD if "score" in instance else VISIBLE
        keypoints = instance.get("keypoints", ())
        _draw_skeleton(drawn, keypoints, schema, enlarged * scale, enlarged * line, filled_from)
    drawn = drawn.reduce(enlarged)
    taken: list[tuple[float, ...]] = []
    for instance in reversed(ordered):
        label = instance.get("label", "")
        if "score" in instance:
            label = f"{label} {instance['score']:.0%}".strip()
        _draw_label(drawn, _corners(instance["bbox"], scale), label, taken)
    return drawn


def contact_sheet(images: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Images in rows of `columns`, each row as high as its highest one, all columns as wide as the widest."""
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    heights = [max(image.height for image in row) for row in rows]
    width = max(image.width for image in images)
    size = columns * (width + gap) + gap, sum(heights) + (len(rows) + 1) * gap
    sheet = Image.new("RGB", size, (255, 255, 255))
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for i, image in enumerate(row):
            sheet.paste(image, (gap + i * (width + gap), top))
        top += height + gap
    return sheet


def captioned(image: Image.Image, text: str) -> Image.Image:
    """The image under a line of text, which loses its beginning, such as folders, where it is too long."""
    font = _font(image)
    shown, start = text, 0
    while start < len(text) and font.getlength(shown) > image.width:
        start += 1
        shown = f"…{text[start:]}"
    top = round(1.5 * font.size)
    result = Image.new("RGB", (image.width, image.height + top), (255, 255, 255))
    ImageDraw.Draw(result).text((0, top / 2), shown, (0, 0, 0), font, anchor="lm")
    result.paste(image, (0, top))
    return result


def _draw_box(image: Image.Image, corners: Sequence[float], width: int) -> None:
    draw = ImageDraw.Draw(image)
    x0, y0, x1, y1 = corners
    # A box may be turned inside out by a wrong annotation.
    x0, x1, y0, y1 = min(x0, x1), max(x0, x1) - 1, min(y0, y1), max(y0, y1) - 1
    x1, y1 = max(x0, x1), max(y0, y1)
    rim = max(1, width // 2)
    draw.rectangle((x0 - rim, y0 - rim, x1 + rim, y1 + rim), outline=OUTLINE, width=rim)
    draw.rectangle((x0, y0, x1, y1), outline=BOX, width=width)


def _draw_skeleton(
    image: Image.Image,
    keypoints: Sequence[float],
    schema: KeypointSchema,
    scale: float,
    line: float,
    filled_from: float,
) -> None:
    values = np.array(keypoints, dtype=float).reshape(-1, 3)
    shown = np.flatnonzero(values[:, 2] > 0)
    if not len(shown):
        return
    draw = ImageDraw.Draw(image)
    # Pillow's coordinates are pixel indices, as COCO's are.
    points = to_coco(scale * from_coco(values[:, :2]))
    radii = np.zeros(len(values))
    radii[shown] = _radii(points[shown], line)
    filled = values[:, 2] >= filled_from
    colors = _colors(schema)
    bones = []
    for bone in schema.skeleton:
        a, b = (schema.names.index(name) for name in bone)
        if radii[a] and radii[b]:
            width = min(line, 0.7 * radii[a], 0.7 * radii[b]) * (
                1 if filled[a] and filled[b] else 0.5
            )
            color = _bone_color(colors[a], colors[b])
            bones.append(([tuple(points[a]), tuple(points[b])], max(1, round(width)), color))
    for ends, width, _ in bones:
        draw.line(ends, fill=OUTLINE, width=width + 2 * max(1, round(RIM * line)))
    for ends, width, color in bones:
        draw.line(ends, fill=color, width=width)
    for i in shown:
        draw.ellipse(_disc(points[i], radii[i] + RIM * line), fill=OUTLINE)
    for i in shown:
        fill = colors[i] if filled[i] else None
        ring = max(1, round(0.35 * radii[i]))
        draw.ellipse(_disc(points[i], radii[i]), fill=fill, outline=colors[i], width=ring)


def _draw_label(
    image: Image.Image, corners: Sequence[float], label: str, taken: list[tuple[float, ...]]
) -> None:
    """Write above the box, at the image's border inside or below it; as near as may be where `taken` has labels."""
    if not label:
        return
    draw = ImageDraw.Draw(image)
    font = _font(image)
    margin = 0.15 * font.size
    width, height = font.getlength(label) + 2 * margin, 1.25 * font.size
    x = max(0.0, min(corners[0], image.width - width))
    above, inside, below = corners[1] - height, max(0.0, corners[1]), corners[3]
    top = above if above >= 0 else inside if below - inside > 3 * height else below
    top = min(top, image.height - height)
    places = [
        (x, top + row * height, x + width, top + (row + 1) * height)
        for row in sorted(range(-LABEL_ROWS, LABEL_ROWS + 1), key=abs)
    ]
    free = (
        place
        for place in places
        if 0 <= place[1] <= image.height - height and not any(_overlap(place, q) for q in taken)
    )
    place = next(free, places[0])
    taken.append(place)
    draw.rectangle(place, fill=OUTLINE)
    draw.text((x + margin, place[1] + height / 2), label, BOX, font, anchor="lm")


def _radii(points: np.ndarray, line: float) -> np.ndarray:
    """Of dots so small that those of a dense part, such as a face, stay apart."""
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    distances.sort(axis=1)
    others = distances[:, 1:3]  # the first is the keypoint itself
    nearest = others.mean(axis=1) if others.size else np.full(len(points), np.inf)
    return (RADIUS_SHARE * nearest).clip(SMALLEST_RADIUS * line, LARGEST_RADIUS * line)


def _colors(schema: KeypointSchema) -> list[Color]:
    colors = dict.fromkeys(schema.names, MIDDLE)
    # What names say counts; a schema's pairs need not have the left one first.
    for pairs in (schema.flip_pairs, left_right_pairs(schema.names)):
        for left, right in pairs:
            colors[left], colors[right] = LEFT, RIGHT
    return list(colors.values())


def _bone_color(first: Color, second: Color) -> Color:
    sides = {first, second} - {MIDDLE}
    return sides.pop() if len(sides) == 1 else MIDDLE


def _line(size: float) -> float:
    return max(THINNEST_LINE, LINE * size)


def _corners(box: Sequence[float], scale: float) -> list[float]:
    x, y, width, height = box
    return [scale * value for value in (x, y, x + width, y + height)]


def _disc(center: Sequence[float], radius: float) -> tuple[float, float, float, float]:
    x, y = center
    return x - radius, y - radius, x + radius, y + radius


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _rank(instance: Mapping[str, Any]) -> tuple[float, float]:
    return instance.get("score", 1.0), -math.prod(instance["bbox"][2:])


def _font(image: Image.Image) -> ImageFont.FreeTypeFont:
    return _font_of_height(max(SMALLEST_TEXT, round(TEXT * max(image.size))))


@lru_cache
def _font_of_height(height: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has no umlauts, and no letters but Latin ones.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), height)
