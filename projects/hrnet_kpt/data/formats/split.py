"""The splits of a data set: those of its source, or a test set of whole series of images."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ...errors import UserError

# Images and annotations by the name of their list.
Part = dict[str, list[dict[str, Any]]]

MIN_SERIES = 5  # fewer series by file names are no reason to split by them
FRAME = re.compile(r"[\W_]*\d+$")
VERSION = re.compile(r"\.rf\.[0-9a-f]{32}")  # Roboflow's augmented versions of one photograph


def make_splits(
    parts: Mapping[str, Part], test_share: float | None = None, series: str = ""
) -> tuple[dict[str, Part], list[str]]:
    """The splits to write: "train", "test" and perhaps "val", or "all".

    Args:
        parts: The splits of the source: "train", "val", "test", or "all". "val" becomes "test" where there is none. A
            single one is a source without splits.
        test_share: Fraction of the images that become "test", for a source without splits.
        series: What images of one series, which are in one split, have in common: "folder"; "image": nothing; a
            character: the file name up to the first one; "": see `series_of`.

    Returns:
        The splits, and remarks for the user.

    Raises:
        UserError: If the source has splits and a share is given, or lacks "train", or a set would be empty.
    """
    remarks = []
    if series and test_share is None:
        raise UserError(f"--series {series} is of a split: give --test-share, too")
    if len(parts) > 1:
        counts = ", ".join(f"{name} {len(part['images'])}" for name, part in parts.items())
        if test_share is not None:
            raise UserError(
                f"--test-share {test_share:g}: the source is split already ({counts} images), and its split is kept: "
                "leave the option out"
            )
        if "train" not in parts:
            raise UserError(
                f"the source has {counts} images, but no train: give one of its files alone"
            )
        splits = {name: parts[name] for name in ("train", "val", "test") if name in parts}
        if "test" not in splits:
            splits["test"] = splits.pop("val")
            remarks.append("val is written as test.json: the source has no test")
        elif "val" in splits:
            remarks.append("val is written as val.json, and not used: test.json is evaluated")
        return splits, remarks
    ((name, part),) = parts.items()
    if name != "all":
        remarks.append(f"the source has only a {name} split: taken as one without splits")
    if test_share is None:
        return {"all": part}, remarks
    if not 0 < test_share < 1:
        raise UserError(
            f"--test-share {test_share:g}: give a fraction between 0 and 1, such as 0.2"
        )
    key, remark = series_of([image["file_name"] for image in part["images"]], series)
    sizes = Counter(key(image["file_name"]) for image in part["images"])
    test = choose_test(sizes, test_share)
    splits = {"train": _select(part, lambda name: key(name) not in test)}
    splits["test"] = _select(part, lambda name: key(name) in test)
    share = len(splits["test"]["images"]) / len(part["images"])
    counts = "" if key is _stem else f": {len(test)} of {len(sizes)} series"
    return splits, [*remarks, f"test is {share:.0%} of the images, chosen {remark}{counts}"]


def series_of(names: Sequence[str], series: str = "") -> tuple[Callable[[str], str], str]:
    """The function that names an image's series, and a remark for the user.

    By default the series is the folder if there are several, else the file name without the number at its end (the
    frames of a video) if that gives at least MIN_SERIES series, else the image itself.

    Raises:
        UserError: If all images are of one series.
    """
    if series == "image":
        return _stem, "by image"
    if series == "folder" or (not series and len(set(map(_folder, names))) > 1):
        key, remark = _folder, "by folder"
    elif series:
        key, remark = lambda name: name.split(series)[0], f"by the name before {series!r}"
    else:
        key, remark = _without_number, "by the name without the number at its end"
        count = len(set(map(key, names)))
        if count == len(set(map(_stem, names))):
            return _stem, "by image"
        if count < MIN_SERIES:
            return _stem, (
                "by image; if these are frames of one video, the test frames are of the same video, and the test set "
                "says little about others"
            )
    if names and len(set(map(key, names))) == 1:
        raise UserError(
            f"--series {series}: all {len(names)} images are of one series, {key(names[0])!r}: give another character, "
            "or --series image"
        )
    return key, remark


def choose_test(sizes: Mapping[str, int], share: float) -> set[str]:
    """Series for the test set, by the hash of their names, so that a series stays in its set when others are added.

    Where the number of images is then not within a quarter of the share, as with few series, series are taken in the
    order of their hashes as long as each brings it closer to the share.

    Args:
        sizes: Number of images by series.
        share: Fraction of the images for the test set.

    Raises:
        UserError: If there are fewer than two series.
    """
    if len(sizes) < 2:
        raise UserError(
            f"--test-share {share:g}: {sum(sizes.values())} images cannot be split: give more images"
        )
    hashes = {
        name: int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 2**32
        for name in sizes
    }
    chosen = {name for name in sizes if hashes[name] < share}
    target = share * sum(sizes.values())
    count = sum(sizes[name] for name in chosen)
    if abs(count - target) <= target / 4 and 0 < len(chosen) < len(sizes):
        return chosen
    chosen, count = set(), 0
    for name in sorted(sizes, key=lambda name: (hashes[name], name)):
        if abs(count + sizes[name] - target) < abs(count - target) and len(chosen) < len(sizes) - 1:
            chosen.add(name)
            count += sizes[name]
    return chosen or {min(sizes, key=lambda name: (sizes[name], hashes[name]))}


def _select(part: Part, wanted: Callable[[str], bool]) -> Part:
    images = [image for image in part["images"] if wanted(image["file_name"])]
    ids = {image["id"] for image in images}
    annotations = [a for a in part["annotations"] if a["image_id"] in ids]
    return {"images": images, "annotations": annotations}


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _stem(name: str) -> str:
    """The name without extension: that of a photograph, for all of Roboflow's versions of it."""
    return VERSION.sub("", str(PurePosixPath(name).with_suffix("")))


def _without_number(name: str) -> str:
    return FRAME.sub("", _stem(name))
