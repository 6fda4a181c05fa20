"""Contact sheets of annotated and augmented images, and of predictions beside the ground truth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from detectron2.config import instantiate
from omegaconf import DictConfig
from PIL import Image

from ..config.signatures import accepts, with_labels
from ..data.categories import resolve_classes, resolve_schema
from ..data.image_range import ImageRange, find_image_range, parse_range
from ..data.images import annotated_size, open_image
from ..data.loaders import seeded
from ..data.schema import KeypointSchema
from ..errors import UserError
from ..io import atomic_write
from .adapters import drawable, drawable_record
from .draw import captioned, contact_sheet, draw_image
from .run_images import SCORE_THRESHOLD, draw_usable, paths_by_id, read_detections, read_test_truth

Item = TypeVar("Item")

VERSIONS = {
    "train": 3,
    "test": 1,
}  # outputs of the mapper for an image; that of test images is not random
CELL = 448  # pixels
LARGE_CELL = 640


def draw_data(cfg: DictConfig, split: str, num: int, seed: int, output: Path) -> list[str]:
    """Draw annotated images, each beside the augmented images that the model gets.

    Args:
        cfg: A config.
        split: "train" or "test", of cfg.dataloader. For "test" the mapper transforms the annotations, too, which the
            model does not get.
        num: Number of images, chosen at random from those with annotations.
        seed: Seed of the choice and of the augmentations.
        output: The image file.

    Returns:
        A message for each image that was left out because it cannot be used.

    Raises:
        UserError: If no image can be used.
    """
    cfg = cfg.copy()
    schema = resolve_schema(instantiate(cfg.data.keypoints))
    loader = cfg.dataloader[split]
    if not (isinstance(loader.get("mapper"), DictConfig) and "dataset" in loader):
        raise UserError(
            f"dataloader.{split} has no `dataset` and `mapper`: loaders of other kinds cannot be drawn"
        )
    if split == "test" and accepts(loader.mapper, "is_train"):
        loader = with_labels(cfg)
    dataset = list(instantiate(loader.dataset))
    image_range = _image_range(cfg, [record["file_name"] for record in dataset])
    mapper = instantiate(loader.mapper)
    classes = list(resolve_classes(cfg.data.classes))
    annotated = [index for index, record in enumerate(dataset) if record.get("annotations")]

    def draw(index: int) -> list[Image.Image]:
        record = dataset[index]
        image = open_image(record["file_name"], annotated_size(record), image_range)
        path, folder = Path(record["file_name"]), cfg.data[split].images
        name = path.relative_to(folder) if path.is_relative_to(folder) else path.name
        images = [_cell(image, drawable_record(record, classes), schema, str(name))]
        for version in range(VERSIONS[split]):
            with seeded(seed, index, version):
                sample = mapper(copy.deepcopy(record))
            pixels = sample["image"].numpy().transpose(1, 2, 0)
            if cfg.model.get("input_format") == "BGR":
                pixels = pixels[..., ::-1]
            image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
            what = f"augmented, {version + 1}" if split == "train" else "as the model gets it"
            images.append(_cell(image, drawable_record(sample, classes), schema, what))
        return images

    items = annotated or range(len(dataset))
    return _draw_sheet(items, num, seed, draw, 1 + VERSIONS[split], output)


def draw_comparison(cfg: DictConfig, results: Path, num: int, seed: int, output: Path) -> list[str]:
    """Draw the ground truth of test images beside COCO-format results, a row for each image.

    Results with a score of SCORE_THRESHOLD or more are drawn; images are chosen from those with annotations or results.

    Returns:
        As draw_data.

    Raises:
        UserError: If no image can be used, or if the results do not match the test set.
    """
    cfg = cfg.copy()
    truth = read_test_truth(cfg)
    detections = read_detections(results, truth)
    entries = sorted(truth.coco.imgs.values(), key=lambda entry: entry["id"])
    paths = paths_by_id(truth, cfg.data.test.images)
    image_range = _image_range(cfg, list(paths.values()))
    full = [e for e in entries if e["id"] in detections or truth.coco.imgToAnns.get(e["id"])]

    def draw(entry: dict[str, Any]) -> list[Image.Image]:
        image = open_image(paths[entry["id"]], annotated_size(entry), image_range)
        annotations = truth.coco.imgToAnns.get(entry["id"], [])
        found = detections.get(entry["id"], [])
        captions = (
            f"{entry['file_name']}: ground truth, {len(annotations)}",
            f"prediction, {len(found)} with a score of {SCORE_THRESHOLD:.0%} or more",
        )
        drawn = (
            draw_image(image, drawable(truth, instances), truth.schema, LARGE_CELL)
            for instances in (annotations, found)
        )
        return list(map(captioned, drawn, captions))

    return _draw_sheet(full or entries, num, seed, draw, 2, output)


def _cell(
    image: Image.Image, instances: list[dict[str, Any]], schema: KeypointSchema, what: str
) -> Image.Image:
    caption = f"{what}: {image.width} × {image.height}"
    return captioned(draw_image(image, instances, schema, CELL), caption)


def _image_range(cfg: DictConfig, paths: Sequence[str]) -> ImageRange:
    """data.image_range, in which `auto` is replaced in place by the range of these images."""
    if cfg.data.get("image_range") == "auto":
        found, _ = find_image_range(paths)
        cfg.data.image_range = found if isinstance(found, str) else list(found)
    return parse_range(cfg.data.get("image_range", "8-bit"))


def _draw_sheet(
    items: Sequence[Item],
    num: int,
    seed: int,
    draw: Callable[[Item], list[Image.Image]],
    columns: int,
    output: Path,
) -> list[str]:
    """Draw a random choice of the items, in their order; return a message for each unusable one."""
    if num < 1 or seed < 0:
        raise UserError(f"{num} images with seed {seed}: at least 1 image, and a seed of 0 or more")
    chosen = np.random.default_rng(seed).choice(len(items), min(num, len(items)), replace=False)
    images, skipped = draw_usable([items[i] for i in sorted(chosen)], draw)
    if not images:
        raise UserError("\n".join(skipped) or "there are no images to draw")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as unfinished:
            contact_sheet(images, columns).save(unfinished)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}") from error
    return skipped
