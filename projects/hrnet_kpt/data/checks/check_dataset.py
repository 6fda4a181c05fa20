"""Every check of a data set, one after the other: the work of tools/check_dataset.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...errors import UserError
from ..coco import read_json
from ..image_range import ImageRange, find_image_range
from .check_annotations import check_annotations
from .check_images import Opened, check_images, check_leaks
from .check_set import Labels, check_set, labels_of
from .findings import Finding, counted
from .label_statistics import describe
from .mirror_pairs import check_flip_pairs
from .repair import REPAIRED, repair, write_json
from .sample_sheet import write_sample_sheet
from .swapped_sides import check_sides
from .tight_boxes import Margin, read_margin

# Errors in spite of which samples can be drawn: of other images.
OF_SOME_IMAGES = {
    "image-missing",
    "image-unreadable",
    "image-size-wrong",
    "image-alpha-only",
    "image-range-unclear",
}


def check_dataset(
    sets: Sequence[tuple[str, str]],
    open_images: bool = True,
    fix: str | None = None,
    draw: str | None = None,
    grow: str | None = None,
    image_range: ImageRange = "auto",
) -> None:
    """Print the statistics of data sets and what is wrong with them; repair and draw the first one.

    sets: path of the json and folder of the images, of the training set and then, if there is one, of the test set.
    open_images: whether to open every image; else only the names of the files are looked for.
    fix: where to write the repaired json. draw: folder for the sheet of samples.
    grow: how far boxes grow there that are only the extent of their keypoints, as of read_margin.
    image_range: data.image_range of the training; "auto" reads it from the images of the first set.

    Raises UserError with all errors, a line each; of a json that was repaired, those that are left.
    """
    if grow is not None and fix is None:
        raise UserError(f"--grow-boxes {grow} changes nothing without --fix OUT.json")
    margin = None if grow is None else read_margin(grow)
    contents = [read_json(where, labelled=n == 0) for n, (where, _) in enumerate(sets)]
    labels = labels_of(contents[-1], sets[-1][0])  # a model has the classes of the test set
    for where, _ in sets:
        if fix is not None and os.path.realpath(fix) == os.path.realpath(where):
            raise UserError(f"--fix {fix} would overwrite annotations: give another file")
    found: list[Finding] = []
    opened: list[list[Opened]] = []
    for number, (content, (where, images)) in enumerate(zip(contents, sets, strict=True)):
        print(f"{describe(content, where)}\n")
        if fix is not None and number == 0:
            found += _repair(content, where, images, fix, labels, margin)
        else:
            found += check_set(content, where, images, number == 0, labels)
        found += check_sides(content, where)
        found += check_flip_pairs(content, where)
        if open_images:
            if opened and image_range == "auto":  # the test set is scaled as the training set
                image_range, _ = find_image_range([image.path for image in opened[0]])
            findings, readable = check_images(content, where, images, image_range)
            found += findings
            opened.append(readable)
    if len(opened) == 2:
        found += check_leaks(opened[1], sets[1][0], opened[0], sets[0][0])

    errors = [finding for finding in found if finding.level == "error"]
    warnings = [finding for finding in found if finding.level != "error"]
    for finding in warnings:
        print(f"warning: {finding}")
    repairable = sorted({finding.name for finding in found if finding.name in REPAIRED})
    if repairable and fix is None:
        print(f"--fix OUT.json repairs: {', '.join(repairable)}")
    if draw is not None:
        if {finding.name for finding in errors} <= OF_SOME_IMAGES:
            path = write_sample_sheet(fix or sets[0][0], sets[0][1], draw, image_range)
            print(f"samples, as annotated and mirrored, orange on the left of the body: {path}")
        else:
            print("no samples are drawn until the errors are mended")
    if errors:
        raise UserError("\n".join(map(str, errors)))
    print(f"{counted(len(warnings), 'warning')}, no errors: training can go on")


def _repair(
    content: dict[str, Any],
    where: str,
    images: str,
    fix: str,
    labels: Labels | None,
    margin: Margin | None,
) -> list[Finding]:
    """Write the repaired json and say what was done; return what is wrong with it still."""
    before = check_annotations(content, where, images)
    repaired, done = repair(content, images, margin)
    write_json(repaired, fix)
    left = check_set(repaired, fix, images, True, labels)
    for finding in before:
        if finding.name not in {other.name for other in left}:
            print(f"repaired: {finding}")
    for line in done or ["nothing to repair: an unchanged copy"]:
        print(f"{fix}: {line}")
    return left
