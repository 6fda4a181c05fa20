"""Open the images of a data set and check them: readability, size, EXIF orientation, depth, duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from ..data.image_range import ImageRange, find_image_range, is_deep
from ..data.images import (
    ORIENTATION,
    UPRIGHT,
    AlphaOnlyError,
    BadImageError,
    annotated_size,
    contrast,
    image_paths,
    open_image,
)
from .finding import Finding, image_findings
from .table import AnnotationTable

Size = tuple[int, int]
MIN_CONTRAST = 16  # gray levels: an image with less shows nothing


class Opened(NamedTuple):
    """An image of a json that can be read.

    Attributes:
        image_id: Its id.
        path: Its file.
        stored, upright: Width and height of the file's pixels, before and after EXIF orientation.
        turned: Whether EXIF data rotate or mirror it.
        annotated: Width and height in the json, None where they are missing.
        fingerprint: For comparison with other images.
        deep: Whether it has more than 8 bits per channel.
        contrast: The largest difference of two pixels, in 0 to 255.
    """

    image_id: Any
    path: str
    stored: Size
    upright: Size
    turned: bool
    annotated: tuple[Any, Any] | None
    fingerprint: Fingerprint
    deep: bool
    contrast: int


def check_images(
    table: AnnotationTable, images: str, image_range: ImageRange = "auto"
) -> tuple[list[Finding], list[Opened]]:
    """Open every existing image of a json, in the folder `images`, with the training's data.image_range.

    Returns:
        The findings, and the images that can be read.
    """
    jobs = [
        (entry, path)
        for entry, path in zip(table.images, image_paths(table.images, images), strict=True)
        if path is not None and os.path.isfile(path)
    ]
    found = []
    if image_range == "auto":
        image_range, unclear = find_image_range([path for _, path in jobs])
        if unclear:
            found.append(Finding("error", table.where, "image-range-unclear", unclear))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside of Python's lock
        opening = pool.map(lambda job: _open(job[0], job[1], image_range), jobs)
        results = list(tqdm(opening, total=len(jobs), desc="images", disable=None))
    opened = [result for result in results if isinstance(result, Opened)]
    failed: dict[str, list[tuple[Any, BadImageError]]] = {}
    for (entry, _), result in zip(jobs, results, strict=True):
        if isinstance(result, BadImageError):
            alpha = isinstance(result, AlphaOnlyError)
            name = "image-alpha-only" if alpha else "image-unreadable"
            failed.setdefault(name, []).append((entry.get("id"), result))
    for name, bad in failed.items():
        found += image_findings(table.where, name, [id_ for id_, _ in bad], first=bad[0][1])
    for check in (_check_pixels, _check_sizes, _check_duplicates):
        found += check(opened, table.where)
    return found, opened


def check_leaks(
    test: Sequence[Opened], where: str, train: Sequence[Opened], train_where: str
) -> list[Finding]:
    """Warn about images of the test set that are in the training set too, both as of check_images."""
    prints, others = [o.fingerprint for o in test], [o.fingerprint for o in train]
    copies = equal_files(prints, others)
    again = {i: j for i, j in similar_images(prints, others).items() if i not in copies}
    found = []
    for name, pairs in (("test-image-in-train", copies), ("test-picture-in-train", again)):
        other = next((train[j].path for j in pairs.values()), None)
        found += _about(where, name, [test[i] for i in pairs], train=train_where, other=other)
    return found


def _open(entry: Mapping[str, Any], path: str, image_range: ImageRange) -> Opened | BadImageError:
    try:
        image = open_image(path, image_range=image_range)
    except BadImageError as error:
        return error
    with Image.open(path) as file:
        stored, deep = file.size, is_deep(file)
        try:
            turned = file.getexif().get(ORIENTATION) in UPRIGHT
        except Exception:  # damaged EXIF data raise anything at all; open_image ignores them too
            turned = False
    return Opened(
        image_id=entry.get("id"),
        path=path,
        stored=stored,
        upright=image.size,
        turned=turned,
        annotated=annotated_size(entry),
        fingerprint=fingerprint(Path(path).read_bytes(), image),
        deep=deep,
        contrast=contrast(image),
    )


def _check_pixels(opened: Sequence[Opened], where: str) -> list[Finding]:
    found = []
    total = len(opened)
    deep = [image for image in opened if image.deep]
    if len(deep) < total:
        found += _about(where, "image-depths-mixed", deep, total=total)
    flat = [image for image in opened if image.contrast < MIN_CONTRAST]
    if 2 * len(flat) > total:
        found += _about(where, "images-nearly-constant", flat, total=total, contrast=MIN_CONTRAST)
    return found


def _check_sizes(opened: Sequence[Opened], where: str) -> list[Finding]:
    images: dict[str, list[Opened]] = {}
    for image in opened:
        if image.annotated not in (None, image.upright, image.stored):
            name = "image-size-wrong"
        elif not image.turned:
            continue
        elif image.annotated is None or image.upright == image.stored:
            name = "exif-unclear"
        else:
            name = "exif-upright" if image.annotated == image.upright else "exif-as-stored"
        images.setdefault(name, []).append(image)
    found = []
    for name, chosen in images.items():
        actual, annotated = (
            " x ".join(map(str, size or ())) for size in (chosen[0].upright, chosen[0].annotated)
        )
        found += _about(where, name, chosen, actual=actual, annotated=annotated)
    return found


def _check_duplicates(opened: Sequence[Opened], where: str) -> list[Finding]:
    prints = [o.fingerprint for o in opened]
    copies = {i: j for i, j in equal_files(prints).items() if opened[i].path != opened[j].path}
    again = {
        i: j
        for i, j in similar_images(prints).items()
        if i not in copies and prints[i].digest != prints[j].digest
    }
    found = []
    for name, pairs in (("image-copied", copies), ("picture-repeated", again)):
        other = next((opened[j].path for j in pairs.values()), None)
        found += _about(where, name, [opened[i] for i in pairs], other=other)
    return found


def _about(where: str, name: str, images: Sequence[Opened], **values: Any) -> list[Finding]:
    """The finding of a name about some images, whose message names the file of the first one."""
    if not images:
        return []
    ids = [image.image_id for image in images]
    return image_findings(where, name, ids, first=images[0].path, **values)


SIDE = 32  # of a thumbnail, in cells
# Gray levels: thumbnails of a smaller standard deviation are too flat to be compared.
FLAT = 5.0
# Correlation of thumbnails of SIDE / 2, from which images are compared cell by cell.
LIKE = 0.995
# Thumbnails of the same image differ by less in every cell, in standard deviations of the thumbnail. Photographs saved
# again as JPEG of quality 30 differ by up to 0.3, and most do at half the size; an object that moved by 1 or more.
DIFFERENCE = 0.35
ROWS = 256  # compared at a time


class Fingerprint(NamedTuple):
    """A digest of a file's bytes, and a thumbnail of SIDE x SIDE gray levels, uint8."""

    digest: bytes
    cells: np.ndarray


def fingerprint(content: bytes, image: Image.Image) -> Fingerprint:
    """The fingerprint of a file's bytes and the image in it."""
    cells = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return Fingerprint(hashlib.blake2b(content, digest_size=16).digest(), cells)


def equal_files(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each image whose file equals one of the others, byte for byte: index of the first such one.

    Args:
        prints: Of a data set.
        others: Of another data set; None for the earlier images of the same one.
    """
    first: dict[bytes, int] = {}
    for j, other in enumerate(prints if others is None else others):
        first.setdefault(other.digest, j)
    equal = {i: first[p.digest] for i, p in enumerate(prints) if p.digest in first}
    return equal if others is not None else {i: j for i, j in equal.items() if j != i}


def similar_images(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each image that equals one of the others but for quality and size: index of that one.

    Images are the same if their thumbnails, of mean 0 and standard deviation 1, differ by less than DIFFERENCE in
    every cell. Only the best correlated one is compared so. Flat ones are never the same. Arguments as for equal_files.
    """
    if not prints or (others is not None and not others):
        return {}
    cells, coarse = _thumbnails(prints)
    other_cells, other_coarse = (cells, coarse) if others is None else _thumbnails(others)
    found: dict[int, int] = {}
    for start in range(0, len(prints), ROWS):
        correlation = coarse[start : start + ROWS] @ other_coarse.T
        if others is None:
            correlation = np.tril(correlation, start - 1)  # with earlier ones
        for row, j in enumerate(correlation.argmax(axis=1).tolist()):
            i = start + row
            if correlation[row, j] > LIKE:
                difference = abs(_unit(cells[i]) - _unit(other_cells[j]))
                if difference.max() < DIFFERENCE:
                    found[i] = j
    return found


def _thumbnails(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails, and coarse ones of mean 0 and norm 1 as rows, 0 where flat."""
    cells = np.stack([p.cells for p in prints])
    half = cells.reshape(len(cells), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    rows = half.reshape(len(cells), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    rows[cells.std(axis=(1, 2)) < FLAT] = 0
    return cells, rows


def _unit(cells: np.ndarray) -> np.ndarray:
    levels = cells.astype(np.float64)
    return (levels - levels.mean()) / levels.std()
