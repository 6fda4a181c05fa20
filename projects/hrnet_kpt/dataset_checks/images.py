"""What is wrong with the images of a data set: they are opened, one by one."""

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
from .finding import Finding, counted, unique
from .table import AnnotationTable

Size = tuple[int, int]
MIN_CONTRAST = 16  # gray levels: nothing is to be seen in an image with less


class Opened(NamedTuple):
    """An image of a json that can be read.

    Attributes:
        image_id: its id.
        path: its file.
        stored, upright: width and height of the file's pixels, before and after they are turned as its EXIF data say.
        turned: whether the EXIF data say that they are to be turned or mirrored.
        annotated: width and height in the json, None where it does not have them.
        fingerprint: what tells it from other images.
        deep: whether it has more than 8 bits for a channel.
        contrast: the largest difference of two pixels, in 0 to 255.
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
    """Open every image of a json that is there; what is wrong with them, and those that can be read.

    Args:
        table: of the json.
        images: the folder of the images.
        image_range: data.image_range of the training.
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
    failed = [
        (entry.get("id"), result)
        for (entry, _), result in zip(jobs, results, strict=True)
        if isinstance(result, BadImageError)
    ]
    for name, alpha, what in (
        ("image-unreadable", False, "that cannot be read"),
        ("image-alpha-only", True, "that show nothing but by their transparency"),
    ):
        bad = [(i, e) for i, e in failed if isinstance(e, AlphaOnlyError) == alpha]
        if bad:
            sentence = (
                f"{{}} {what}, the first one {bad[0][1]}: repair the files, take them out of the json, or set "
                "data.on_bad_image=skip"
            )
            found += _finding("error", table.where, name, sentence, [i for i, _ in bad])
    for check in (_depths, _contrasts, _sizes, _duplicates):
        found += check(opened, table.where)
    return found, opened


def check_leaks(
    test: Sequence[Opened], where: str, train: Sequence[Opened], train_where: str
) -> list[Finding]:
    """Warnings about images of the test set that are in the training set too, as of check_images."""
    prints, others = [o.fingerprint for o in test], [o.fingerprint for o in train]
    copies = equal_files(prints, others)
    again = {i: j for i, j in similar_images(prints, others).items() if i not in copies}
    found = []
    for name, what, pairs in (
        ("test-image-in-train", "bytes", copies),
        ("test-picture-in-train", "picture", again),
    ):
        for i, j in list(pairs.items())[:1]:
            sentence = (
                f"{{}} with the same {what} as one of {train_where}, that training sees too: AP comes out too high; "
                f"the first one {test[i].path} is {train[j].path}"
            )
            found += _finding("warning", where, name, sentence, [test[i].image_id for i in pairs])
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


def _depths(opened: Sequence[Opened], where: str) -> list[Finding]:
    deep = [image for image in opened if image.deep]
    if len(deep) == len(opened):
        return []
    return _about(
        "warning",
        where,
        "image-depths-mixed",
        f"{{}} of more than 8 bits, the first one {{first}}, among {len(opened)}: data.image_range scales these, and "
        "leaves those of 8 bits as they are; see that they look alike",
        deep,
    )


def _contrasts(opened: Sequence[Opened], where: str) -> list[Finding]:
    flat = [image for image in opened if image.contrast < MIN_CONTRAST]
    if 2 * len(flat) <= len(opened):
        return []
    return _about(
        "warning",
        where,
        "images-nearly-constant",
        f"{{}} of {len(opened)} that are nearly constant, the first one {{first}}: of 0 to 255, their darkest and "
        f"brightest pixel differ by less than {MIN_CONTRAST}; for images of more than 8 bits set "
        "data.image_range=[low,high], else convert them",
        flat,
    )


def _sizes(opened: Sequence[Opened], where: str) -> list[Finding]:
    wrong: list[Opened] = []
    upright: list[Opened] = []
    as_stored: list[Opened] = []
    unclear: list[Opened] = []
    for image in opened:
        if image.annotated not in (None, image.upright, image.stored):
            wrong.append(image)
        elif image.turned:
            if image.annotated is None or image.upright == image.stored:
                unclear.append(image)
            else:
                (upright if image.annotated == image.upright else as_stored).append(image)
    found = []
    if wrong:
        (width, height), annotated = wrong[0].upright, wrong[0].annotated
        assert annotated is not None
        found += _about(
            "error",
            where,
            "image-size-wrong",
            f"{{}} of another size than the json says, the first one {{first}}: {width} x {height} pixels, annotated "
            f"for {annotated[0]} x {annotated[1]}; find the files that were annotated, or set data.on_bad_image=skip",
            wrong,
        )
    for name, chosen, how in (
        ("exif-upright", upright, "upright, which has the size that the json says"),
        (
            "exif-as-stored",
            as_stored,
            "as stored, not turned, which has the size that the json says",
        ),
        (
            "exif-unclear",
            unclear,
            "upright, though no size in the json tells whether they were annotated so: look at drawings of them",
        ),
    ):
        sentence = f"{{}} whose EXIF data turn or mirror them, the first one {{first}}: read {how}"
        found += _about("warning", where, name, sentence, chosen)
    return found


def _duplicates(opened: Sequence[Opened], where: str) -> list[Finding]:
    prints = [o.fingerprint for o in opened]
    copies = {i: j for i, j in equal_files(prints).items() if opened[i].path != opened[j].path}
    again = {
        i: j
        for i, j in similar_images(prints).items()
        if i not in copies and prints[i].digest != prints[j].digest
    }
    found = []
    for name, what, pairs in (
        ("image-copied", "bytes", copies),
        ("picture-repeated", "picture", again),
    ):
        for j in list(pairs.values())[:1]:
            sentence = (
                f"{{}} with the same {what} as an earlier one, the first one {{first}} is {opened[j].path}: it counts "
                "several times"
            )
            found += _about("warning", where, name, sentence, [opened[i] for i in pairs])
    return found


def _about(
    level: str, where: str, name: str, sentence: str, images: Sequence[Opened]
) -> list[Finding]:
    """The finding about some images; {first} in the sentence becomes the first one's file."""
    if images:
        sentence = sentence.replace("{first}", images[0].path)
    return _finding(level, where, name, sentence, [image.image_id for image in images])


def _finding(level: str, where: str, name: str, sentence: str, ids: Sequence[Any]) -> list[Finding]:
    """The finding about images of these ids, none without ids; {} in the sentence becomes their number."""
    if not ids:
        return []
    sentence = sentence.replace("{}", counted(len(ids), "image"), 1)
    return [Finding(level, where, name, sentence, (), unique(ids))]


SIDE = 32  # of a thumbnail, in cells
# Gray levels: below this standard deviation a thumbnail has nothing to tell images apart by.
FLAT = 5.0
# Correlation, of thumbnails of half as many cells a side, from which images are compared cell by cell.
LIKE = 0.995
# Standard deviations of the thumbnail, less than which every cell of the same image differs. Photographs saved anew
# as JPEG of quality 30 differ by up to 0.3, at half the size most do; a thing that has moved differs by 1 or more.
DIFFERENCE = 0.35
ROWS = 256


class Fingerprint(NamedTuple):
    """What tells an image from another: a digest of the file's bytes, and SIDE x SIDE gray levels, uint8."""

    digest: bytes
    cells: np.ndarray


def fingerprint(content: bytes, image: Image.Image) -> Fingerprint:
    """The fingerprint of a file's bytes and the image in it."""
    cells = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return Fingerprint(hashlib.blake2b(content, digest_size=16).digest(), cells)


def equal_files(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each image whose file equals one of the others, byte for byte: the first such one.

    Args:
        prints: of a set.
        others: of another set; None for the earlier ones of the same set.
    """
    first: dict[bytes, int] = {}
    for j, other in enumerate(prints if others is None else others):
        first.setdefault(other.digest, j)
    equal = {i: first[p.digest] for i, p in enumerate(prints) if p.digest in first}
    return equal if others is not None else {i: j for i, j in equal.items() if j != i}


def similar_images(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each image that one of the others shows too, in another quality or size: that one. Arguments as above.

    Images are the same if their thumbnails, of mean 0 and standard deviation 1, differ by less than DIFFERENCE in
    every cell. Only the best correlated one is compared so. Flat ones are never the same.
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
    """Thumbnails, and coarse ones of mean 0 and length 1 as rows, 0 where flat."""
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
