"""What is wrong with the images of a data set: they are opened, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from ..image_files import image_paths
from ..image_range import ImageRange, find_image_range, is_deep
from ..images import (
    ORIENTATION,
    UPRIGHT,
    AlphaOnlyError,
    BadImageError,
    contrast,
    listed_size,
    open_image,
)
from .findings import Finding, counted, unique
from .same_pictures import Fingerprint, equal_files, equal_pictures, fingerprint

Size = tuple[int, int]
LEAST_CONTRAST = 16  # gray levels: nothing is to be seen in an image with less


class Opened(NamedTuple):
    """An image of a json that can be read.

    image_id: its id. path: its file.
    stored, upright: width and height of the file's pixels, before and after they are turned as its EXIF data say.
    turned: whether the EXIF data say that they are to be turned or mirrored.
    listed: width and height in the json, None where it does not say them.
    deep: whether it has more than 8 bits for a channel. contrast: the largest difference of two pixels, in 0 to 255.
    """

    image_id: Any
    path: str
    stored: Size
    upright: Size
    turned: bool
    listed: tuple[Any, Any] | None
    fingerprint: Fingerprint
    deep: bool
    contrast: int


def check_images(
    content: Mapping[str, Any], where: str, images: str, image_range: ImageRange = "auto"
) -> tuple[list[Finding], list[Opened]]:
    """Open every image of a json that is there; what is wrong with them, and those that can be read.

    content, where: the json, as of read_json, and its path. images: the folder of the images.
    image_range: data.image_range of the training.
    """
    jobs = [
        (entry, path)
        for entry, path in zip(
            content["images"], image_paths(content["images"], images), strict=True
        )
        if path is not None and os.path.isfile(path)
    ]
    found = []
    if image_range == "auto":
        image_range, unclear = find_image_range([path for _, path in jobs])
        if unclear:
            found.append(_finding("error", where, "image-range-unclear", unclear, []))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside of python's lock
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
                f"{counted(len(bad), 'image')} {what}, the first one {bad[0][1]}: repair the files, take "
                "them out of the json, or set data.on_bad_image=skip"
            )
            found.append(_finding("error", where, name, sentence, [i for i, _ in bad]))
    found += [*_depths(opened, where), *_contrasts(opened, where)]
    return [*found, *_sizes(opened, where), *_duplicates(opened, where)], opened


def check_leaks(
    test: Sequence[Opened], where: str, train: Sequence[Opened], train_where: str
) -> list[Finding]:
    """Warnings about images of the test set that are in the training set too, as of check_images."""
    prints, others = [o.fingerprint for o in test], [o.fingerprint for o in train]
    copies = equal_files(prints, others)
    again = {i: j for i, j in equal_pictures(prints, others).items() if i not in copies}
    said = "that training sees too: AP comes out too high"
    found = []
    for name, what, pairs in (
        ("test-image-in-train", "with the same bytes as one of", copies),
        ("test-picture-in-train", "with the same picture as one of", again),
    ):
        if pairs:
            i, j = next(iter(pairs.items()))
            sentence = (
                f"{counted(len(pairs), 'image')} {what} {train_where}, {said}; the first one {test[i].path} is "
                f"{train[j].path}"
            )
            found.append(
                _finding("warning", where, name, sentence, [test[i].image_id for i in pairs])
            )
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
        listed=listed_size(entry),
        fingerprint=fingerprint(Path(path).read_bytes(), image),
        deep=deep,
        contrast=contrast(image),
    )


def _depths(opened: Sequence[Opened], where: str) -> Iterator[Finding]:
    deep = [image for image in opened if image.deep]
    if 0 < len(deep) < len(opened):
        sentence = (
            f"{counted(len(deep), 'image')} of more than 8 bits, the first one {deep[0].path}, among {len(opened)}: "
            "data.image_range scales these, and leaves those of 8 bits as they are; see that they look alike"
        )
        yield _finding("warning", where, "image-depths-mixed", sentence, [o.image_id for o in deep])


def _contrasts(opened: Sequence[Opened], where: str) -> Iterator[Finding]:
    flat = [image for image in opened if image.contrast < LEAST_CONTRAST]
    if 2 * len(flat) > len(opened):
        sentence = (
            f"{counted(len(flat), 'image')} of {len(opened)} that are nearly constant, the first one {flat[0].path}: "
            f"of 0 to 255, their darkest and brightest pixel differ by less than {LEAST_CONTRAST}; for images of more "
            "than 8 bits set data.image_range=[low,high], else convert them"
        )
        yield _finding(
            "warning", where, "images-nearly-constant", sentence, [o.image_id for o in flat]
        )


def _sizes(opened: Sequence[Opened], where: str) -> Iterator[Finding]:
    wrong: list[Opened] = []
    upright: list[Opened] = []
    as_stored: list[Opened] = []
    unclear: list[Opened] = []
    for image in opened:
        if image.listed not in (None, image.upright, image.stored):
            wrong.append(image)
        elif image.turned:
            if image.listed is None or image.upright == image.stored:
                unclear.append(image)
            else:
                (upright if image.listed == image.upright else as_stored).append(image)
    if wrong:
        first = wrong[0]
        assert first.listed is not None
        sentence = (
            f"{counted(len(wrong), 'image')} of another size than the json says, the first one {first.path}: "
            f"{first.upright[0]} x {first.upright[1]} pixels, annotated for {first.listed[0]} x {first.listed[1]}; "
            "find the files that were annotated, or set data.on_bad_image=skip"
        )
        yield _finding("error", where, "image-size-wrong", sentence, [o.image_id for o in wrong])
    for name, chosen, said in (
        ("exif-upright", upright, "read upright, which has the size that the json says"),
        (
            "exif-as-stored",
            as_stored,
            "read as stored, not turned, which has the size that the json says",
        ),
        (
            *("exif-unclear", unclear),
            "read upright, though no size in the json tells whether they were annotated so: look at pictures of them",
        ),
    ):
        if chosen:
            sentence = (
                f"{counted(len(chosen), 'image')} whose EXIF data turn or mirror them, the first one {chosen[0].path}: "
                f"{said}"
            )
            yield _finding("warning", where, name, sentence, [o.image_id for o in chosen])


def _duplicates(opened: Sequence[Opened], where: str) -> Iterator[Finding]:
    prints = [o.fingerprint for o in opened]
    copies = {i: j for i, j in equal_files(prints).items() if opened[i].path != opened[j].path}
    again = {
        i: j
        for i, j in equal_pictures(prints).items()
        if i not in copies and prints[i].digest != prints[j].digest
    }
    for name, pairs, what in (
        ("image-copied", copies, "with the same bytes as an earlier one"),
        ("picture-repeated", again, "with the same picture as an earlier one"),
    ):
        if pairs:
            i, j = next(iter(pairs.items()))
            sentence = (
                f"{counted(len(pairs), 'image')} {what}, the first one {opened[i].path} is {opened[j].path}: it counts "
                "several times"
            )
            yield _finding("warning", where, name, sentence, [opened[i].image_id for i in pairs])


def _finding(level: str, where: str, name: str, sentence: str, ids: Sequence[Any]) -> Finding:
    return Finding(level, where, name, sentence, (), unique(ids))
