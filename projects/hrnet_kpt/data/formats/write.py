"""Writes an imported data set: a folder with train.json, test.json and images/."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import UserError, join_names
from ...io import UNFINISHED, atomic_write, replace_text, to_json
from ..areas import AREA_FRACTION, plausible_area
from ..categories import flip_pairs_of, is_positive, keypoint_names
from .imported import Imported
from .split import Part

RECORD = "import.txt"  # what was done; it shows that a folder was written here
FIRST_LINE = "Imported from "
IMAGES = "images"
NAMES = ("train", "val", "test", "all")


def write(
    imported: Imported,
    splits: Mapping[str, Part],
    output: Path,
    source: Path,
    remarks: list[str],
    copy: bool = False,
) -> list[str]:
    """Write a json for each split, and the images to `images/`, as symbolic links or copies.

    A second call gives the same folder. A folder that has anything else is refused.

    Args:
        imported: The categories, the image files, and what was left out and assumed.
        splits: Of `make_splits`.
        output: The folder to write.
        source: What was imported.
        remarks: Lines for the report.
        copy: Copy the images; else they are links, or copies where links cannot be made.

    Returns:
        The report, which is written to RECORD, too.

    Raises:
        UserError: If the folder holds other files, or cannot be written.
    """
    source = Path(os.path.abspath(source))
    refuse_output(output, source)
    first_line = f"{FIRST_LINE}{source}"
    add_areas(imported, splits)
    try:
        output.mkdir(parents=True, exist_ok=True)
        replace_text(output / RECORD, f"{first_line}\nnot finished\n")
        how = write_images(imported, splits, output / IMAGES, copy)
        for name in NAMES:
            path = output / f"{name}.json"
            if name in splits:
                content = {**imported.info, "categories": imported.categories, **splits[name]}
                replace_text(path, to_json(content))
            else:
                path.unlink(missing_ok=True)  # of an earlier call, with or without a test set
        report = [*_describe(imported, splits, output), *how, *remarks]
        replace_text(output / RECORD, "\n".join([first_line, *report, ""]))
    except OSError as error:
        raise UserError(
            f"{error.filename or output} cannot be written: {error.strerror or error}"
        ) from error
    return report


def refuse_output(output: Path, source: Path) -> None:
    """Refuse a folder that is in the source, or holds what was not imported from this source.

    Raises:
        UserError: If so.
    """
    inside, outside = Path(os.path.realpath(output)), Path(os.path.realpath(source))
    if inside == outside or outside in inside.parents:
        raise UserError(f"{output} is in the data set itself, {source}: give an --output elsewhere")
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file: give another --output")
    others = [path.name for path in sorted(output.iterdir()) if not path.name.startswith(".")]
    first_line = ""
    with suppress(OSError, UnicodeDecodeError):
        first_line = (output / RECORD).read_text(encoding="utf-8").partition("\n")[0]
    if others and first_line != f"{FIRST_LINE}{os.path.abspath(source)}":
        earlier = first_line.removeprefix(FIRST_LINE) if first_line.startswith(FIRST_LINE) else ""
        what = (
            f"was imported from {earlier}"
            if earlier
            else f"has other files: {join_names(others, 4)}"
        )
        raise UserError(f"{output}, for the imported data, {what}: give another --output")


def add_areas(imported: Imported, splits: Mapping[str, Part]) -> None:
    """Give each object that has a box, and no area or 0, a plausible area, in place."""
    for part in splits.values():
        sizes = {image["id"]: (image.get("width"), image.get("height")) for image in part["images"]}
        for annotation in part["annotations"]:
            box: Any = annotation.get("bbox")
            boxed = isinstance(box, list) and len(box) == 4
            if not boxed or not all(is_positive(side) and side < 1e9 for side in box[2:]):
                continue
            if annotation.get("area"):
                continue
            annotation["area"] = round(plausible_area(annotation, sizes[annotation["image_id"]]), 2)
            what = f"areas: of the segmentation, else {AREA_FRACTION:g} of the box"
            imported.assumed[what] += 1


def write_images(
    imported: Imported, splits: Mapping[str, Part], folder: Path, copy: bool
) -> list[str]:
    """Link or copy the images of all splits, and write those that have no file; return remarks."""
    folder.mkdir(exist_ok=True)
    remarks = []
    problem = "" if copy else _link_problem(folder)
    if problem:
        copy = True
        remarks.append(f"images are copied, since links cannot be made here ({problem})")
    names = {image["file_name"] for part in splits.values() for image in part["images"]}
    for name in sorted(names & imported.frames.keys()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as unfinished:
            imported.frames[name]().save(unfinished)
    for name in sorted(names & imported.files.keys()):
        source = Path(os.path.realpath(imported.files[name]))
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            _copy(source, target)
        else:
            _link(source, target)
    return remarks


def _link_problem(folder: Path) -> str:
    """Why symbolic links cannot be made in a folder, as on Windows without the right to; "" if they can."""
    probe = folder / f"{UNFINISHED}probe"
    try:
        probe.symlink_to("nothing")
    except (OSError, NotImplementedError) as error:
        return getattr(error, "strerror", "") or str(error)
    finally:
        probe.unlink(missing_ok=True)
    return ""


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() and os.readlink(target) == str(source):
        return
    if not os.path.lexists(target):
        target.symlink_to(source)
        return
    new = target.with_name(f"{UNFINISHED}{target.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(source)
    os.replace(new, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its time of modification, unless the copy is there."""
    if target.is_file() and not target.is_symlink():
        old, new = target.stat(), source.stat()
        if (old.st_size, int(old.st_mtime)) == (new.st_size, int(new.st_mtime)):
            return
    with atomic_write(target) as unfinished:
        shutil.copy2(source, unfinished)


def _describe(imported: Imported, splits: Mapping[str, Part], output: Path) -> list[str]:
    lines = []
    for name, part in splits.items():
        objects = part["annotations"]
        labelled = sum(map(_count_labelled, objects))
        lines.append(
            f"{output / name}.json: {len(part['images'])} images, {len(objects)} objects, {labelled} keypoints"
        )
    for category in imported.categories:
        names = keypoint_names(category)
        pairs = ", ".join("/".join(pair) for pair in flip_pairs_of(category))
        lines.append(
            f"{category['name']}: {len(names)} keypoints: {join_names(names, 20)}".rstrip(" :")
        )
        if names:
            lines.append(f"{category['name']}: mirroring swaps {pairs or 'no keypoints'}")
    for title, counts in (("left out", imported.left_out), ("assumed", imported.assumed)):
        lines += [f"{title} ({count}): {what}" for what, count in counts.most_common()]
    return lines


def _count_labelled(annotation: Mapping[str, Any]) -> int:
    values = annotation.get("keypoints")
    flags = values[2::3] if isinstance(values, list) else []
    return sum(isinstance(v, int | float) and v > 0 for v in flags)
