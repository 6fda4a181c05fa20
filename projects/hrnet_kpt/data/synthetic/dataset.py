"""The synthetic people data set: images and COCO-format annotations, drawn from a seed.

It is written to disk once, so that training reads it as it reads COCO. It is small but not easy: people overlap, are
truncated by the border, occluded by objects, and surrounded by shapes that look like limbs.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...errors import UserError
from ...io import replace_text
from ..coco import to_coco
from ..masks import to_rle
from ..schema import COCO_PERSON
from .figure import (
    LIMB_LIGHTNESS,
    SEAM,
    Array,
    Figure,
    Shape,
    capsule,
    disc,
    limb,
    random_colour,
    random_figure,
)

logger = logging.getLogger(__name__)

VERSION = (
    1  # part of the annotations: increment it when the drawing changes, and old files are rewritten
)
DESCRIPTION = "drawn people"  # part of the annotations, of earlier versions too: files with it may be overwritten
OTHER_FOLDER = "give another folder, so that no file of yours is overwritten"
NEAREST = Image.Resampling.NEAREST
OVERSAMPLING = 2
OBJECT = 255  # in a label map: an object in front of the people
PARTS_PER_FIGURE = 16  # in a label map, part p of figure f is 16 * f + p
MIN_HEIGHT = 0.25  # of a person, as a fraction of the image's height
MIN_VISIBLE = 7  # of the 12 keypoints below the head


def write_synthetic_people(
    root: str, num_train: int = 3000, num_test: int = 200, image_size: int = 192, seed: int = 0
) -> None:
    """Write `root`/{train,test}.json and the images `root`/{train,test}/, unless they exist.

    Each image depends only on the seed, the split and its index.

    Args:
        image_size: Width and height in pixels.

    Raises:
        UserError: If root contains files that are not of a synthetic data set and would be lost.
    """
    for stream, (split, count) in enumerate((("train", num_train), ("test", num_test))):
        parameters = {
            "version": VERSION,
            "split": split,
            "num_images": count,
            "image_size": image_size,
            "seed": seed,
        }
        if not _is_written(Path(root), parameters):
            _write_split(Path(root), stream, parameters)


def _is_written(root: Path, parameters: dict[str, Any]) -> bool:
    """Whether annotations with these parameters and all of their images exist.

    Raises:
        UserError: If they do not, and other files would be overwritten.
    """
    target, folder = root / f"{parameters['split']}.json", root / str(parameters["split"])
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
        listed = {image["file_name"] for image in content["images"]}
        if content["info"].get("parameters") == parameters and listed <= names:
            return True
        synthetic = content["info"]["description"] == DESCRIPTION
    except OSError:
        synthetic = True  # nothing to overwrite
    except (ValueError, KeyError, TypeError, AttributeError):
        synthetic = False
    if not synthetic:
        raise UserError(f"{target} is not a synthetic data set: {OTHER_FOLDER}")
    foreign = sorted(name for name in names if not re.fullmatch(r"\d{6}\.jpg", name))
    if foreign:
        raise UserError(
            f"{folder} contains {foreign[0]}, which is not a synthetic image: {OTHER_FOLDER}"
        )
    return False


def _write_split(root: Path, stream: int, parameters: dict[str, Any]) -> None:
    """Write the images, then the annotations: if these exist, the images are complete."""
    split, size = parameters["split"], parameters["image_size"]
    folder, target = root / split, root / f"{split}.json"
    logger.info("drawing %d images of synthetic people into %s", parameters["num_images"], folder)
    target.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(parameters["num_images"]):
        random = np.random.default_rng(
            np.random.SeedSequence(parameters["seed"], spawn_key=(stream, number))
        )
        image, people = draw_image(random, size)
        name = f"{number:06d}.jpg"
        image.save(folder / name, quality=90)
        images.append({"id": number + 1, "file_name": name, "width": size, "height": size})
        for person in people:
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, **person})
    names = list(COCO_PERSON.names)
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": names,
        "skeleton": [[names.index(a) + 1, names.index(b) + 1] for a, b in COCO_PERSON.skeleton],
    }
    content = {
        "info": {"description": DESCRIPTION, "parameters": parameters},
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
    for stale in {path.name for path in folder.glob("*.jpg")} - {i["file_name"] for i in images}:
        (folder / stale).unlink(missing_ok=True)
    replace_text(target, json.dumps(content))


def draw_image(rng: np.random.Generator, size: int) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Draw an image of size x size pixels; return it and the people's annotations without ids."""
    count = 1 + int(rng.choice(4, p=(0.35, 0.38, 0.19, 0.08)))
    while True:
        figures = _layout(rng, count, size)
        in_front = _objects_in_front(rng, size)
        people = annotate(figures, in_front, size)
        if all(is_clear(person, size) for person in people):
            break
    image = background(rng, size)
    behind = [shape for _ in range(rng.integers(5, 13)) for shape in clutter(rng, size)]
    shapes = behind + [shape for figure in figures for shape in figure.shapes] + in_front
    return render(rng, image, shapes, int(rng.integers(1, 14))), [p for p in people if p]


def render(
    rng: np.random.Generator, image: Image.Image, shapes: list[Shape], grain: int
) -> Image.Image:
    """Draw shapes on a background, in place, and reduce it; grain: the largest noise of a pixel's values."""
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        # The thin seam has no dark outline, which would cover most of it.
        darker = 20 if shape.colour == SEAM else 11
        outline = tuple(channel * darker // 20 for channel in shape.colour)
        draw.polygon(_vertices(shape.polygon), fill=shape.colour, outline=outline)
    pixels = np.asarray(image.reduce(OVERSAMPLING), dtype=np.int16)
    pixels = pixels + rng.integers(-grain, grain + 1, pixels.shape, dtype=np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _layout(rng: np.random.Generator, count: int, size: int) -> list[Figure]:
    """People of random heights, some of them close together, from back to front."""
    placed: list[tuple[Array, Array, Figure]] = []  # half width and height, centre
    tallest = (1.05, 0.95, 0.7, 0.6)[count - 1]
    for _ in range(count):
        figure = random_figure(rng)
        low, high = figure.extent()
        height = size * (0.27 + (tallest - 0.27) * rng.random() ** 1.15)
        scale = height / (high[1] - low[1])
        half = (high - low) * scale / 2
        close = rng.random() < 0.2
        for _ in range(8):
            inside = 0.85 if rng.random() < 0.75 else 0.5
            margin = np.minimum(half * inside, size / 2)
            centre = rng.uniform(margin, size - margin)
            if close and placed:
                other = placed[rng.integers(len(placed))]
                apart = (half + other[0])[0] * rng.uniform(0.3, 0.9) * rng.choice((-1, 1))
                centre = other[1] + np.array([apart, rng.normal(0, 0.08) * size])
                break
            if not any((np.abs(centre - at) < half + by).all() for by, at, _ in placed):
                break
        placed.append((half, centre, figure.place(scale, centre - (low + high) / 2 * scale)))
    placed.sort(key=lambda entry: entry[1][1] + entry[0][1])
    return [figure for _, _, figure in placed]


def annotate(
    figures: list[Figure], in_front: list[Shape], size: int
) -> list[dict[str, Any] | None]:
    """The annotations of these people without ids, None for one of whom nothing is visible."""
    label_map = Image.new("L", (size * OVERSAMPLING,) * 2)
    draw = ImageDraw.Draw(label_map)
    for index, figure in enumerate(figures):
        for shape in figure.shapes:
            draw.polygon(_vertices(shape.polygon), fill=PARTS_PER_FIGURE * index + shape.part)
    for shape in in_front:
        draw.polygon(_vertices(shape.polygon), fill=OBJECT)
    labels = np.asarray(label_map)
    # A pixel belongs to the figure with most of its samples; the background has the last index.
    person = np.where((labels == 0) | (labels == OBJECT), len(figures), labels // PARTS_PER_FIGURE)
    offsets = range(OVERSAMPLING)
    samples = [person[y::OVERSAMPLING, x::OVERSAMPLING] for y in offsets for x in offsets]
    votes = [
        sum((sample == index).view(np.uint8) for sample in samples)
        for index in range(len(figures) + 1)
    ]
    person_of_pixel = np.argmax(votes, axis=0)
    people: list[dict[str, Any] | None] = []
    for index, figure in enumerate(figures):
        flags = []
        for (x, y), parts in zip(figure.keypoints.tolist(), figure.seen_through, strict=True):
            if not (0 <= x < size and 0 <= y < size):
                flags.append(0)
                continue
            label = int(labels[int(y * OVERSAMPLING), int(x * OVERSAMPLING)])
            flags.append(2 if label - PARTS_PER_FIGURE * index in parts else 1)
        mask = person_of_pixel == index
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            people.append(None)
            continue
        box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
        keypoints: list[float] = []
        for point, flag in zip(to_coco(figure.keypoints).tolist(), flags, strict=True):
            rounded = [round(max(value, 0.0), 2) for value in point]
            keypoints += [*rounded, flag] if flag else [0, 0, 0]
        people.append(
            {
                "category_id": 1,
                "bbox": [int(value) for value in box],
                "area": int(mask.sum()),
                "segmentation": to_rle(mask),
                "iscrowd": 0,
                "keypoints": keypoints,
                "num_keypoints": sum(flag > 0 for flag in flags),
            }
        )
    return people


def is_clear(person: dict[str, Any] | None, size: int) -> bool:
    """Whether enough of a person is visible, and it is large enough, to be found."""
    if person is None or person["bbox"][3] < MIN_HEIGHT * size:
        return False
    return person["keypoints"][2::3][5:].count(2) >= MIN_VISIBLE


def _vertices(polygon: Array) -> list[float]:
    """A polygon for Pillow, whose coordinates are pixel indices, as COCO's are."""
    return to_coco(polygon * OVERSAMPLING).ravel().tolist()


def background(rng: np.random.Generator, size: int) -> Image.Image:
    """Smooth noise of random coarseness, with a few patches of texture."""
    side = size * OVERSAMPLING
    cells = int(rng.integers(2, 14))
    # Less colourful than people: mainly the lightness varies.
    base, contrast = rng.integers(50, 206) + rng.integers(-40, 41, 3), rng.integers(8, 60)
    clouds = base + rng.integers(-contrast, contrast + 1, (cells, cells, 1))
    clouds = clouds + rng.integers(-contrast, contrast + 1, (cells, cells, 3)) // 3
    image = Image.fromarray(clouds.clip(0, 255).astype(np.uint8))
    image = image.resize((size, size), Image.Resampling.BICUBIC).resize((side, side), NEAREST)
    for _ in range(rng.integers(0, 4)):
        colours = np.array([random_colour(rng) for _ in range(2)], dtype=np.uint8)
        rows, columns = rng.integers(1, 20, 2)
        pattern = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        if rng.random() < 0.5:
            pattern = rng.integers(0, 2, (rows, columns))
        width, height = (int(value) for value in rng.uniform(0.15, 0.6, 2) * side)
        patch = Image.fromarray(colours[pattern]).resize((width, height), NEAREST)
        x, y = (int(value) for value in rng.uniform(-0.2, 0.9, 2) * side)
        image.paste(patch, (x, y))
    return image


def clutter(rng: np.random.Generator, size: int) -> list[Shape]:
    """A box, an ellipse, a line, or a shape that looks like a part of a limb or a whole one."""
    kind = rng.choice(("box", "ellipse", "line", "limb", "limbs"), p=(0.17, 0.13, 0.15, 0.3, 0.25))
    centre = rng.uniform(0, size, 2)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    if kind in ("box", "ellipse"):
        half = rng.uniform(0.03, 0.2, 2) * size
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        unit_shape = square if kind == "box" else disc(np.zeros(2), 1.0)
        polygon = centre + unit_shape * half @ np.stack([along, across])
        return [Shape(polygon, random_colour(rng), 0)]
    length = rng.uniform(0.06, 0.3) * size
    if kind == "line":
        radius = rng.uniform(0.002, 0.012) * size
        ends = centre - along * length * 2, centre + along * length * 2
        return [Shape(capsule(*ends, (radius, radius)), random_colour(rng), 0)]
    radius = length * rng.uniform(0.12, 0.22)
    colour, seam = random_colour(rng, LIMB_LIGHTNESS), float(rng.choice((-1, 0, 1)))
    joint = centre + along * length
    shapes = limb(centre, joint, (radius, radius * 0.8), colour, seam, 0)
    if kind == "limbs":
        bend = angle + rng.uniform(-1.5, 1.5)
        end = joint + np.array([np.cos(bend), np.sin(bend)]) * length * 0.9
        shapes += limb(joint, end, (radius * 0.8, radius * 0.6), colour, seam, 0)
    return shapes


def _objects_in_front(rng: np.random.Generator, size: int) -> list[Shape]:
    """Up to two pieces of clutter that occlude people."""
    return [shape for _ in range(rng.choice(3, p=(0.6, 0.3, 0.1))) for shape in clutter(rng, size)]
