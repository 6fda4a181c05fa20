"""Check, repair and draw data sets for tools/check_dataset.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
from PIL import Image
from tabulate import tabulate

from ..data.boxes import Margin, read_margin
from ..data.categories import flip_pairs_of, keypoint_names, read_labels
from ..data.coco import load_keypoint_dataset, read_json
from ..data.image_range import ImageRange, find_image_range
from ..data.images import BadImageError, annotated_size, open_image
from ..data.mapper import KeypointMapper
from ..errors import UserError, refuse_errors
from ..visualization.adapters import drawable_record
from ..visualization.draw import captioned, contact_sheet, draw_image
from ..visualization.run_images import draw_usable
from .annotations import Labels, check_annotations, check_set, labels_of
from .finding import Finding, format_count
from .images import Opened, check_images, check_leaks
from .mirror_pairs import check_flip_pairs
from .repair import REPAIRED, repair, write_json
from .swapped_sides import check_sides
from .table import AnnotationTable, annotation_table

SIDE = 420  # of a drawing, the longer one, in pixels
SAMPLES = 16
COLUMNS = 4
# Errors of some images: samples of the others can still be drawn.
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
    """Print the statistics and the findings of data sets; repair and draw the first one.

    Args:
        sets: Path of the json and folder of the images, of the training set and optionally of the test set.
        open_images: Open every image; else only the file names are searched.
        fix: Path for the repaired json.
        draw: Folder for the sheet of samples.
        grow: How far `fix` grows boxes that are only the extent of their keypoints, as of read_margin.
        image_range: data.image_range of the training; "auto" reads it from the images of the first set.

    Raises:
        UserError: If there are errors, a line each; those of the repaired json where `fix` is given.
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
        table = annotation_table(content, where)
        print(f"{describe(table)}\n")
        if fix is not None and number == 0:
            found += _repair(content, table, images, fix, labels, margin)
        else:
            found += check_set(table, images, number == 0, labels)
        found += check_sides(table)
        found += check_flip_pairs(table)
        if open_images:
            if opened and image_range == "auto":  # the test set is scaled as the training set
                image_range, _ = find_image_range([image.path for image in opened[0]])
            findings, readable = check_images(table, images, image_range)
            found += findings
            opened.append(readable)
    if len(opened) == 2:
        found += check_leaks(opened[1], sets[1][0], opened[0], sets[0][0])

    warnings = [finding for finding in found if finding.level == "warning"]
    for finding in warnings:
        print(f"warning: {finding}")
    repairable = sorted({finding.name for finding in found} & set(REPAIRED))
    if repairable and fix is None:
        print(f"--fix OUT.json repairs: {', '.join(repairable)}")
    if draw is not None:
        if {finding.name for finding in found if finding.level == "error"} <= OF_SOME_IMAGES:
            path = write_sample_sheet(fix or sets[0][0], sets[0][1], draw, image_range)
            print(f"samples, as annotated and mirrored, orange on the left of the body: {path}")
        else:
            print("no samples are drawn until the errors are corrected")
    refuse_errors(found)
    print(f"{format_count(len(warnings), 'warning')}, no errors: training can go on")


def _repair(
    content: dict[str, Any],
    table: AnnotationTable,
    images: str,
    fix: str,
    labels: Labels | None,
    margin: Margin | None,
) -> list[Finding]:
    """Write the repaired json and print what was done; return the findings that are left."""
    before = check_annotations(table, images)
    repaired, done = repair(content, images, margin)
    write_json(repaired, fix)
    left = check_set(annotation_table(repaired, fix), images, True, labels)
    for finding in before:
        if finding.name not in {other.name for other in left}:
            print(f"repaired: {finding}")
    for line in done or ["nothing to repair: an unchanged copy"]:
        print(f"{fix}: {line}")
    return left


def describe(table: AnnotationTable) -> str:
    """Tables of the categories, and of the keypoints of each, for the terminal."""
    empty = len(table.images) - len(np.unique(table.image[table.image >= 0]))
    lines = [
        f"{table.where}: {format_count(len(table.images), 'image')} ({empty} without annotations), "
        f"{format_count(len(table.annotations), 'annotation')} ({table.crowd.sum()} of crowds)",
        "",
        _text([_category_row(table, i) for i in range(len(table.categories))]),
    ]
    for i, category in enumerate(table.categories):
        rows = _keypoint_rows(table, i)
        if rows:
            pairs = len(flip_pairs_of(category))
            lines += [
                "",
                f"{category.get('name')}: {format_count(len(rows), 'keypoint')}, {format_count(pairs, 'flip pair')}. "
                "Percent of its instances that are not crowds; x and y: mean position in the box, from 0 to 1.",
                _text(rows),
            ]
    return "\n".join(lines)


def _category_row(table: AnnotationTable, category: int) -> dict[str, Any]:
    own = table.category == category
    instances = own & ~table.crowd
    rows, points = table.keypoints[category]
    labelled = (points[~table.crowd[rows], :, 2] > 0).sum(axis=1)
    sides = table.boxes[instances & table.boxed, 2:]
    return {
        "category": table.categories[category].get("name"),
        "instances": int(instances.sum()),
        "crowds": int((own & table.crowd).sum()),
        "images": len(np.unique(table.image[own & (table.image >= 0)])),
        "with keypoints": int((labelled > 0).sum()),
        "keypoints each": float(labelled[labelled > 0].mean()) if labelled.any() else 0.0,
        "box, median px": np.median(np.sqrt(sides.prod(axis=1))) if len(sides) else np.nan,
    }


def _keypoint_rows(table: AnnotationTable, category: int) -> list[dict[str, Any]]:
    """For each keypoint of a category: its partner in a flip, how often it is labelled, and where."""
    names = keypoint_names(table.categories[category])
    rows, points = table.keypoints[category]
    if not names or len(names) != points.shape[1]:
        return []
    pairs = flip_pairs_of(table.categories[category])
    partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    instances = max(1, int(((table.category == category) & ~table.crowd).sum()))
    alone = ~table.crowd[rows]
    boxes, points = table.boxes[rows[alone]][:, None], points[alone]
    with np.errstate(all="ignore"):
        positions = (points[..., :2] - boxes[..., :2]) / boxes[..., 2:]
    found = []
    for k, name in enumerate(names):
        v = points[:, k, 2]
        inside = positions[(v > 0) & np.isfinite(positions[:, k]).all(axis=-1), k]
        x, y = inside.mean(axis=0) if len(inside) else (np.nan, np.nan)
        labelled, visible = (100 * shown.sum() / instances for shown in (v > 0, v == 2))
        mirrored = partner.get(name, "")
        row = {"keypoint": name, "mirrored": mirrored, "labelled": labelled, "visible": visible}
        found.append({**row, "x": x, "y": y})
    return found


def _text(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0]) if rows else []
    formats = [".2f" if name in ("x", "y") else ".1f" for name in columns]
    return tabulate(rows, headers="keys", tablefmt="simple", floatfmt=formats)


def write_sample_sheet(
    annotations: str, images: str, folder: str, image_range: ImageRange = "auto"
) -> Path:
    """Write folder/samples.png: the images with the most labelled keypoints, each beside its mirror image.

    A mirrored sample is the output of the training mapper with a flip probability of 1: the colour of the left side
    must be on the left side of the body in both drawings. Images that cannot be read are skipped.

    Returns:
        The path of the sheet.

    Raises:
        UserError: If the json cannot be loaded, or no image can be read.
    """
    schema, classes = read_labels(read_json(annotations), annotations)
    records = load_keypoint_dataset(annotations, images, schema, classes)
    records.sort(
        key=lambda record: -sum(v > 0 for a in record["annotations"] for v in a["keypoints"][2::3])
    )
    if image_range == "auto":
        image_range, _ = find_image_range([record["file_name"] for record in records])
    flip = KeypointMapper(
        is_train=True,
        augmentations=[T.RandomFlip(prob=1.0)],
        image_format="RGB",
        keypoint_hflip_indices=schema.flip_indices,
        image_range=image_range,
    )

    def draw(record: dict[str, Any]) -> list[Image.Image]:
        image = open_image(record["file_name"], annotated_size(record), image_range)
        sample = flip(record)
        mirrored = Image.fromarray(sample["image"].permute(1, 2, 0).numpy())
        of_mirrored = "left is orange again" if schema.flip_pairs else "no left and right"
        return [
            captioned(draw_image(shown, drawable_record(of, list(classes)), schema, SIDE), caption)
            for shown, of, caption in (
                (image, record, f"{os.path.basename(record['file_name'])}, as annotated"),
                (mirrored, sample, f"mirrored; {of_mirrored}"),
            )
        ]

    drawings, _ = draw_usable(records, draw, 2 * SAMPLES)
    if not drawings:
        raise BadImageError(f"{annotations}: none of its images can be read from {images}")
    path = Path(folder) / "samples.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(drawings, COLUMNS if len(drawings) > 2 else 2).save(path)
    return path
