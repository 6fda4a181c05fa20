"""YOLO-pose: a yaml with `kpt_shape`, and a label file, .txt, for each image.

The format is that of https://docs.ultralytics.com/datasets/pose. A row of a label file has the class, the center and
the size of the box, and x, y or x, y, v of each keypoint; all lengths are fractions of the upright image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...io import replace_text
from ..coco import to_coco
from ..images import DRIVE, IMAGE_EXTENSIONS, files_below, upright_size
from .imported import Imported, LabelledObject, Options
from .keypoint_objects import grow_extents
from .yolo_yaml import (
    Header,
    as_text,
    find_yaml,
    load_yaml,
    read_header,
    shorten,
    to_yaml,
    yamls_with_keypoints,
)

NAME = "yolo"
TITLE = "YOLO-pose"

SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
# Those of YOLO, too: images that cannot be read here are counted.
SUFFIXES = (*IMAGE_EXTENSIONS, ".mpo", ".dng", ".heic", ".pfm")
MAX_ERRORS = 10  # lines with errors that are named
OUTSIDE = 0.01  # fraction of the image by which rounding may move a point out of it


def recognize(path: Path) -> str:
    """What shows that a folder or yaml is of this format: the yaml; "" if it is not."""
    found = yamls_with_keypoints(path)
    return f"{found[0].name} with `kpt_shape`" if found else ""


def read(path: Path, options: Options) -> Imported:
    """Read a folder with a yaml, or the yaml.

    `train`, `val` and `test` are folders, lists of folders, or .txt lists of images. They are relative to
    `path`, or to the yaml where that does not exist, as in a copy from another machine. The labels of .../images/a.jpg
    are .../labels/a.txt, or beside the image. An image of two splits belongs to the first one.

    Flip pairs are those of `flip_idx`, if it is there. Without `kpt_names`, keypoints have the names of the options,
    those of COCO's persons if it is the same set, or else numbers.

    Raises:
        UserError: If the yaml or a row is wrong, or no image or no label is found.
    """
    if options.ignore:
        raise UserError("--ignore is not for YOLO-pose, which has no labels of points")
    file = Path(os.path.abspath(find_yaml(path)))
    content = load_yaml(file)
    imported = Imported(file.parent)
    header = read_header(file, content, options.keypoints, imported.assumed)
    splits = _images_of_splits(file, content, imported)
    every = [image for images in splits.values() for image in images]
    imported.root = Path(os.path.commonpath([image.parent for image in every]))
    imported.categories = header.categories
    labels = {image: _label_file(image) for image in every}
    if not any(labels.values()):
        raise UserError(
            f"{file}: none of its {len(every)} images has labels: expected {_label_files(every[0])[0]} for {every[0]}"
        )
    _count_orphans(labels, imported)
    errors: list[str] = []
    for split, images in splits.items():
        for image in images:
            _add_image(imported, split, image, labels[image], header, errors)
    if errors:
        more = len(errors) - MAX_ERRORS
        rest = [f"and {more} more lines with errors"] if more > 0 else []
        raise UserError("\n".join([*errors[:MAX_ERRORS], *rest]))
    if not imported.files:
        raise UserError(f"{file}: none of its {len(every)} images can be read")
    grow_extents(imported, options.grow_boxes)
    return imported


def _images_of_splits(
    file: Path, content: Mapping[Any, Any], imported: Imported
) -> dict[str, list[Path]]:
    """The image files of each split that has any, without those of an earlier split."""
    declared = as_text(content.get("path") or ".").replace("\\", "/")
    folder = file.parent
    roots = [folder / declared, folder, folder.parent / declared, folder / Path(declared).name]
    roots = list(dict.fromkeys(Path(os.path.normpath(root)) for root in roots))
    splits: dict[str, list[Path]] = {}
    used: dict[Path, str] = {}
    for key, split in SPLITS.items():
        value = content.get(key)
        for text in value if isinstance(value, list) else [value] if value else []:
            found = _find(as_text(text), roots)
            if found is None and key == "test":  # Roboflow names the folder of an empty split, too
                imported.left_out[f"`test` of {file.name}: there is no {shorten(text)}"] += 1
                continue
            if found is None:
                raise UserError(
                    f"{file}: {key}: there is no {shorten(text)} in {' or '.join(map(str, roots[:2]))}: correct it, or "
                    "`path`"
                )
            for image in _images_at(found, roots, imported):
                if image in used:
                    imported.left_out[f"images of {split} that are already in {used[image]}"] += 1
                else:
                    used[image] = split
                    splits.setdefault(split, []).append(image)
    if not splits:
        raise UserError(f"{file}: no images: give folders of images as `train` and `val`")
    return splits


def _find(text: str, roots: Sequence[Path]) -> Path | None:
    """A file or folder relative to one of the roots.

    Where it does not exist, leading `..` are dropped, as YOLO does for Roboflow's exports, and so are the first folders
    of absolute paths, which may be another machine's, but no folder with the name of a split.
    """
    text = text.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    ends = [text, "/".join(parts)]
    if text.startswith("/") or DRIVE.match(text):
        last = max((i for i, part in enumerate(parts) if part in SPLITS), default=len(parts) - 1)
        ends += ["/".join(parts[start:]) for start in range(1, last + 1)]
    for end in ends:
        for root in roots:
            path = os.path.normpath(root / end)
            if end and os.path.exists(path):
                return Path(path)
    return None


def _images_at(path: Path, roots: Sequence[Path], imported: Imported) -> Iterator[Path]:
    """The images of a folder and its subfolders, those of a list, or the image itself."""
    if path.is_dir():
        names = files_below(str(path))
        yield from (path / name for name in names if name.lower().endswith(SUFFIXES))
    elif path.suffix.lower() in SUFFIXES:
        yield path
    else:
        for line in _lines(path):
            if line:
                image = _find(line, [path.parent, *roots])
                if image is not None and image.is_file():
                    yield image
                else:
                    imported.left_out[f"images of {path.name} that do not exist"] += 1


def _label_files(image: Path) -> list[Path]:
    """Where the labels of an image may be: in `labels` for `images`, and beside it."""
    beside, parts = image.with_suffix(".txt"), image.parts
    last = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"), None)
    if last is None:
        return [beside]
    return [Path(*parts[:last], "labels", *beside.parts[last + 1 :]), beside]


def _label_file(image: Path) -> Path | None:
    return next((file for file in _label_files(image) if file.is_file()), None)


def _count_orphans(labels: Mapping[Path, Path | None], imported: Imported) -> None:
    """Count label files without an image, in folders of labels."""
    used = set(labels.values())
    folders = {file.parent for image in labels for file in _label_files(image)[:-1]}
    orphans = [file for folder in folders for file in folder.glob("*.txt") if file not in used]
    count = sum(file.name != "classes.txt" for file in orphans)
    if count:
        imported.left_out["label files without an image"] = count


def _add_image(
    imported: Imported,
    split: str,
    image: Path,
    label: Path | None,
    header: Header,
    errors: list[str],
) -> None:
    try:
        width, height = upright_size(image)
    except UserError:
        imported.left_out["images that cannot be read"] += 1
        return
    image_id = imported.add_image(split, image, (width, height))
    if label is None:
        imported.assumed["images without a label file: without objects"] += 1
        return
    seen = set()
    for number, line in enumerate(_lines(label), 1):
        words = line.split()
        if not words:
            continue
        if line in seen:
            imported.left_out["rows that their file has twice"] += 1
            continue
        seen.add(line)
        try:
            values, more = _parse_row(words, header)
        except UserError as error:
            errors.append(f"{label}: line {number}: {error}")
            continue
        category = header.categories[int(values[0])]
        box = values[1:5] * [width, height, width, height]
        points = _keypoints(values[5:], header, imported)
        points[:, :2] *= [width, height]
        points[points[:, 2] > 0] = to_coco(points[points[:, 2] > 0])
        own = len(category["keypoints"])
        beyond = int((points[own:, 2] > 0).sum())
        if beyond:
            imported.left_out[f"keypoints of {category['name']} without a name in kpt_names"] += (
                beyond
            )
        corners = [*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)]
        imported.add_object(split, image_id, category["id"], corners, points[:own], **more)


def _lines(file: Path) -> list[str]:
    """The lines of a label file or of a list of images, stripped."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start})") from error
    return [line.strip() for line in text.split("\n")]


def _parse_row(words: Sequence[str], header: Header) -> tuple[np.ndarray, dict[str, int]]:
    """The numbers of a row, and its `track_id` if there is one more number, as CVAT writes for tracks.

    Raises:
        UserError: If the row is wrong, with what is expected.
    """
    expected = 5 + header.count * header.dims
    more: dict[str, int] = {}
    if len(words) == expected + 1 and words[-1].isdecimal() and len(words[-1]) < 10:
        more, words = {"track_id": int(words[-1])}, words[:-1]
    if len(words) != expected:
        shape = f"kpt_shape [{header.count}, {header.dims}]"
        hint = ""
        if len(words) == 5:
            hint = "; it is a box without keypoints"
        elif len(words) == 5 + header.count * (5 - header.dims):
            hint = f"; it would fit kpt_shape [{header.count}, {5 - header.dims}]"
        elif len(words) > 5 and len(words) % 2:
            hint = "; it may be the polygon of a segmentation"
        raise UserError(f"{len(words)} values, where {shape} needs {expected}{hint}")
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise UserError("not all values are finite numbers")
    if not (values[0].is_integer() and 0 <= values[0] < len(header.categories)):
        raise UserError(
            f"class {words[0]}, but {header.path.name} has the classes 0 to {len(header.categories) - 1}"
        )
    points: np.ndarray = values[5:].reshape(-1, header.dims)
    if header.dims == 3:
        wrong = [v for v in points[:, 2] if v not in (0, 1, 2)]
        if wrong:
            raise UserError(
                f"visibility {wrong[0]:g}: it must be 0, 1 or 2; other values are scores of predictions"
            )
        points = points[points[:, 2] > 0]
    lengths = np.concatenate([values[1:5], points[:, :2].ravel()])
    too_large = lengths[lengths > 1 + OUTSIDE]
    if len(too_large):
        raise UserError(
            f"{too_large[0]:g} is no fraction of the image: x is divided by its width, y by its height"
        )
    # Two values of a point below 0 mean that it is not labelled.
    signed = lengths if header.dims == 3 else lengths[:4]
    if (signed < -OUTSIDE).any() or (values[3:5] < 0).any():
        raise UserError(f"{signed.min():g}: positions and sizes in the image must not be negative")
    return values, more


def _keypoints(values: np.ndarray, header: Header, imported: Imported) -> np.ndarray:
    """The points of a row as (K, 3): x, y in fractions of the image, and v; 0, 0, 0 if not labelled."""
    if header.dims == 2:
        xy = values.reshape(-1, 2)
        labelled = (xy.min(axis=1) >= 0) & (xy.max(axis=1) > 0)
        imported.assumed["keypoints without a visibility: v = 2"] += int(labelled.sum())
        if not labelled.all():
            what = "keypoints at 0, 0 or below 0, without a visibility: not labelled"
            imported.assumed[what] += int((~labelled).sum())
        points = np.column_stack([xy, 2.0 * labelled])
    else:
        points = np.array(values.reshape(-1, 3))
    points[points[:, 2] == 0] = 0
    return points


def write_labels(labels: Imported, output: Path) -> None:
    """Write `data.yaml`, and the label file of each image in `images/`.

    Keypoints are in the order of their class. The rows of classes with fewer keypoints than others end in zeros.
    """
    replace_text(output / "data.yaml", to_yaml(labels.categories))
    classes = {category["name"]: index for index, category in enumerate(labels.categories)}
    count = max(len(category["keypoints"]) for category in labels.categories)
    for image, objects in labels.objects_of_images():
        size = image["width"], image["height"]
        rows = [_row(found, classes[found.name], size, count) for found in objects]
        path = _label_files(output / "images" / image["file_name"])[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "".join(f"{row}\n" for row in rows))


def _row(found: LabelledObject, index: int, size: tuple[int, int], count: int) -> str:
    """An object as a row. index: of its class; count: of keypoints."""
    corners = np.array(found.box).reshape(2, 2) / size
    points = np.zeros((count, 3))
    for row, (x, y, v) in zip(points, found.keypoints.values(), strict=False):
        if v:
            row[:] = (*np.clip(np.array((x, y)) / size, 0, 1), v)
    values = [*corners.mean(axis=0), *(corners[1] - corners[0]), *points.ravel()]
    return " ".join([str(index), *(f"{value:.8g}" for value in values)])
