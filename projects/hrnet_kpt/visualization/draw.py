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
# Keypoints with a lower score are drawn hollow. detectron2's scores are not probabilities; see its Visualizer.
KEYPOINT_THRESHOLD = 0.05
VISIBLE = 2  # COCO's v of a keypoint that is labelled and visible

MASK_COLORS = ((70, 110, 255), (255, 70, 160), (255, 215, 0), (0, 200, 190), (170, 90, 255))
MASK_ALPHA = np.uint8(110)  # of 255
# Fractions of the image's longer side, so that images of all sizes look alike.
LINE = 1 / 160
TEXT, SMALL_TEXT = 1 / 36, 1 / 58
MIN_LINE, MIN_TEXT = 1.25, 9  # pixels
LABEL_ROWS = 10  # by which a label may move up or down to avoid other labels
# Fractions of the line width.
MAX_RADIUS, MIN_RADIUS = 1.6, 0.3
RIM, BOX_WIDTH = 0.5, 0.6
# Radius by the mean distance to the two nearest keypoints, so that dots of dense keypoints do not touch.
RADIUS_FRACTION = 0.33
# Pillow draws without antialiasing: smaller images are drawn enlarged, and reduced.
MAX_ENLARGEMENT, ENLARGED_SIZE = 4, 3200


def draw_image(
    image: Image.Image,
    instances: Sequence[Mapping[str, Any]],
    schema: KeypointSchema,
    size: int,
    image_size: tuple[int, int] | None = None,
    text: float = TEXT,
) -> Image.Image:
    """A copy of an image with COCO annotations or results drawn on it.

    Keypoints on the left of the body are orange, on the right blue, others light. Keypoints with v = 1 (hidden) or a
    score below KEYPOINT_THRESHOLD are hollow; keypoints with v = 0 are not drawn. Masks are tinted. The detections with
    the highest scores, or the smallest annotations, are on top.

    Args:
        image: Any size and mode.
        instances: Each has `bbox` (x, y, width, height) and may have `keypoints` (x, y, v in turn for the whole schema,
            or x, y, score if the instance has a score), `segmentation` (polygons or RLE), `score` (of the instance,
            from 0 to 1), `label` (a string, such as its class) and `keypoint_labels` (a string for each keypoint of the
            schema). Coordinates are COCO's: pixels of `image`, in which keypoints are half a pixel less than boxes.
        size: The longer side of the copy in pixels.
        image_size: Width and height of the image that coordinates are for, if `image` is a resized version of it.
        text: Size of labels as a fraction of `size`.
    """
    image_size = image_size or image.size
    scale, line = size / max(image_size), max(MIN_LINE, LINE * size)
    enlarged = max(1, min(MAX_ENLARGEMENT, ENLARGED_SIZE // size))
    width, height = (max(1, round(scale * side)) for side in image_size)
    drawn = image.convert("RGB").resize(
        (enlarged * width, enlarged * height), Image.Resampling.BICUBIC
    )
    ordered = sorted(instances, key=lambda i: (i.get("score", 1.0), -math.prod(i["bbox"][2:])))
    for number, instance in enumerate(ordered):
        if instance.get("segmentation"):
            bitmap = to_bitmap(instance["segmentation"], image_size[::-1])
            alpha = Image.fromarray(bitmap * MASK_ALPHA)
            alpha = alpha.resize(drawn.size, Image.Resampling.BILINEAR)
            drawn.paste(MASK_COLORS[number % len(MASK_COLORS)], mask=alpha)
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
        if label:
            _draw_label(drawn, _corners(instance["bbox"], scale), label, taken, text)
    for instance in reversed(ordered):
        _draw_keypoint_labels(drawn, instance, scale, line, taken)
    return drawn


def contact_sheet(images: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Images in rows of `columns`, with `gap` pixels between them, in cells as wide as the widest image."""
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
    """The image below a line of text. A text that is too long loses its beginning, such as folders."""
    font = _font(max(image.size))
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
    # A wrong annotation may have a negative width or height.
    (x0, x1), (y0, y1) = sorted(corners[::2]), sorted(corners[1::2])
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
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
            width = min(line, 0.7 * radii[a], 0.7 * radii[b])
            width = max(1, round(width if filled[a] and filled[b] else width / 2))
            sides = {colors[a], colors[b]} - {MIDDLE}
            color = sides.pop() if len(sides) == 1 else MIDDLE
            bones.append(([tuple(points[a]), tuple(points[b])], width, color))
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
    image: Image.Image,
    corners: Sequence[float],
    label: str,
    taken: list[tuple[float, ...]],
    text: float,
) -> None:
    """Write above the box, at the image's border inside or below it, as near as `taken` labels allow."""
    draw = ImageDraw.Draw(image)
    font = _font(max(image.size), text)
    margin = 0.15 * font.size
    width, height = font.getlength(label) + 2 * margin, 1.25 * font.size
    x = max(0.0, min(corners[0], image.width - width))
    above, inside, below = corners[1] - height, max(0.0, corners[1]), corners[3]
    top = above if above >= 0 else inside if below - inside > 3 * height else below
    top = min(top, image.height - height)
    rectangles = [
        (x, top + row * height, x + width, top + (row + 1) * height)
        for row in sorted(range(-LABEL_ROWS, LABEL_ROWS + 1), key=abs)
    ]
    free = (
        r
        for r in rectangles
        if 0 <= r[1] <= image.height - height and not any(_overlap(r, other) for other in taken)
    )
    rectangle = next(free, rectangles[0])
    taken.append(rectangle)
    draw.rectangle(rectangle, fill=OUTLINE)
    draw.text((x + margin, rectangle[1] + height / 2), label, BOX, font, anchor="lm")


def _draw_keypoint_labels(
    image: Image.Image,
    instance: Mapping[str, Any],
    scale: float,
    line: float,
    taken: list[tuple[float, ...]],
) -> None:
    """Write beside each keypoint that is drawn; labels without a free place are left out."""
    labels: Sequence[str] = instance.get("keypoint_labels", ())
    if not labels:
        return
    draw, font = ImageDraw.Draw(image), _font(max(image.size), SMALL_TEXT)
    values = np.array(instance["keypoints"], dtype=float).reshape(-1, 3)
    points = to_coco(scale * from_coco(values[:, :2]))
    gap, height = (MAX_RADIUS + RIM) * line, 1.2 * font.size
    shown = values[:, 2] > 0
    dots = [_disc(point, gap) for point in points[shown]]
    for label, (x, y) in zip(np.array(labels)[shown].tolist(), points[shown], strict=True):
        width = font.getlength(label) + 0.3 * font.size
        rectangles = [
            (left, top, left + width, top + height)
            for left in (x + gap, x - gap - width, x - width / 2)
            for top in (y - height / 2, y + gap, y - gap - height)
        ]
        free = (
            r
            for r in rectangles
            if min(r[:2]) >= 0
            and (r[2] <= image.width and r[3] <= image.height)
            and not any(_overlap(r, other) for other in [*taken, *dots])
        )
        if label and (rectangle := next(free, None)):
            taken.append(rectangle)
            draw.rectangle(rectangle, fill=OUTLINE)
            left_middle = rectangle[0] + 0.15 * font.size, rectangle[1] + height / 2
            draw.text(left_middle, label, MIDDLE, font, anchor="lm")


def _radii(points: np.ndarray, line: float) -> np.ndarray:
    """Radii of dots, small enough to stay apart where keypoints are dense, such as in a face."""
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    distances.sort(axis=1)
    others = distances[:, 1:3]  # the first is the keypoint itself
    nearest = others.mean(axis=1) if others.size else np.full(len(points), np.inf)
    return (RADIUS_FRACTION * nearest).clip(MIN_RADIUS * line, MAX_RADIUS * line)


def _colors(schema: KeypointSchema) -> list[Color]:
    colors = dict.fromkeys(schema.names, MIDDLE)
    # Names take precedence, because a schema's pairs may have the right keypoint first.
    for pairs in (schema.flip_pairs, left_right_pairs(schema.names)):
        for left, right in pairs:
            colors[left], colors[right] = LEFT, RIGHT
    return list(colors.values())


def _corners(box: Sequence[float], scale: float) -> list[float]:
    x, y, width, height = box
    return [scale * value for value in (x, y, x + width, y + height)]


def _disc(center: Sequence[float], radius: float) -> tuple[float, float, float, float]:
    x, y = center
    return x - radius, y - radius, x + radius, y + radius


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@lru_cache
def _font(size: int, fraction: float = TEXT) -> ImageFont.FreeTypeFont:
    """The font for an image whose longer side has `size` pixels, of this fraction of it."""
    # Pillow's default font has Latin letters only, and no umlauts.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(
        str(folder / "DejaVuSans-Bold.ttf"), max(MIN_TEXT, round(fraction * size))
    )
