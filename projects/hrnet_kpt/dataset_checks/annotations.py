"""Check a COCO-format json, and a data set for a run: everything that needs no image to be opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.categories import (
    Classes,
    checked_categories,
    is_integer,
    keypoint_indices,
    keypoint_names,
)
from ..data.images import annotated_size, find_images
from ..data.schema import KeypointSchema
from ..errors import UserError
from ..evaluation.ground_truth import COCO_DETECTIONS
from ..evaluation.scoring import describe_limits
from .boxes import check_areas, check_boxes, check_tight_boxes
from .categories import check_categories, mixed_ids
from .conventions import check_conventions
from .duplicates import check_duplicates
from .finding import Finding, unique
from .keypoints import check_keypoints, labelled_counts, labelled_points
from .table import AnnotationTable

# Errors of a training set that are only warnings of a set for evaluation.
OF_TRAINING = {"nothing-to-learn", "no-usable-box", "iscrowd-everywhere"}
Labels = tuple[KeypointSchema, Classes]


def check_annotations(
    table: AnnotationTable,
    images: str | None = None,
    max_detections: int | None = None,
    reported: int | None = None,
) -> list[Finding]:
    """All findings about a COCO-format json, errors first.

    Args:
        table: Of the json.
        images: Folder of the images; the files are searched there, but not opened.
        max_detections, reported: As for check_limits.
    """
    points = labelled_points(table)
    # Boxes and keypoints are checked after conversion.
    converted, convention_findings = check_conventions(table, points)
    if converted is not table:
        table, points = converted, labelled_points(converted)
    found = [
        *_check_images(table),
        *(_check_files(table, images) if images is not None else ()),
        *check_categories(table),
        *_check_ids(table),
        *convention_findings,
        *check_boxes(table),
        *check_tight_boxes(table, points),
        *check_areas(table),
        *check_keypoints(table),
        *check_duplicates(table, points),
        *check_limits(table, max_detections, reported),
    ]
    return errors_first(found)


def check_set(
    table: AnnotationTable,
    images: str | None,
    trained_on: bool,
    labels: Labels | None,
    downgraded: Collection[str] = (),
    ignored: Collection[str] = (),
    **limits: int | None,
) -> list[Finding]:
    """All findings about a data set for a run, errors first; the same for every tool.

    Args:
        table, images: As for check_annotations.
        trained_on: Whether a model is trained on the set; else it is only evaluated on it.
        labels: Keypoints and classes of the model; None if they are not known.
        downgraded: Names of errors that become warnings.
        ignored: Names of findings that are left out.
        limits: `max_detections` and `reported` of check_limits.
    """
    downgraded = {*downgraded, *(() if trained_on else OF_TRAINING)}
    if labels is not None:
        for category in table.categories:
            # The model may name keypoints where the json does not.
            if not category.get("keypoints") and labels[1].get(str(category.get("name"))):
                downgraded |= {"names-missing", "no-keypoints"}
    found = [
        replace(finding, level="warning") if finding.name in downgraded else finding
        for finding in check_annotations(table, images, **limits)
        if finding.name not in ignored
    ]
    of_categories = ("category-", "names-")
    if labels is not None and not any(
        finding.level == "error" and finding.name.startswith(of_categories) for finding in found
    ):
        found += _check_labels(table, labels)
    return errors_first(found)


def labels_of(content: Mapping[str, Any], where: str) -> Labels | None:
    """Keypoint names and classes of a json, as `auto` resolves to them; None if its categories are wrong."""
    try:
        classes = {c["name"]: keypoint_names(c) for c in checked_categories(content, where)}
        names = dict.fromkeys(name for own in classes.values() for name in own)
        return KeypointSchema(list(names)), classes
    except UserError:
        return None


def errors_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.level != "error")


def check_limits(
    table: AnnotationTable, max_detections: int | None = None, reported: int | None = None
) -> Iterator[Finding]:
    """Warn about images with more instances than AP counts detections, or than the model reports.

    Args:
        table: The annotations.
        max_detections: How many detections of an image and a category count, for boxes and keypoints; None for
            COCO's 100 and 20.
        reported: How many detections the model reports per image, all classes together; None if that is not known.
    """
    instances = table.instances & (table.category >= 0)
    num_images = len(table.images)
    for task, chosen in (
        ("keypoints", instances & (labelled_counts(table) > 0)),
        ("bbox", instances),
    ):
        of_category = [chosen & (table.category == i) for i in range(len(table.categories))]
        counts = [
            np.bincount(table.image[own], minlength=num_images) for own in of_category if own.any()
        ]
        sentence = describe_limits(counts, task, max_detections)
        if sentence:
            over = np.max(counts, axis=0) > (max_detections or COCO_DETECTIONS[task])
            ids = unique(table.images[row].get("id") for row in np.flatnonzero(over).tolist())
            yield Finding("warning", table.where, "limits-exceeded", sentence, (), ids)
    total = np.bincount(table.image[instances], minlength=num_images)
    if reported is not None:
        yield from table.image_findings(
            "limits-exceeded",
            np.flatnonzero(total > reported),
            largest=total.max(initial=0),
            reported=reported,
        )


def _check_images(table: AnnotationTable) -> Iterator[Finding]:
    entries = table.images
    incomplete = [
        row
        for row, image in enumerate(entries)
        if not isinstance(image.get("id"), (int, float, str))
        or not isinstance(image.get("file_name"), str)
    ]
    yield from table.image_findings("image-incomplete", incomplete)
    yield from table.image_findings("image-id-repeated", _repeated(entries))
    yield from mixed_ids(table, "images", "image-ids-mixed")
    unsized = np.array([annotated_size(image) is None for image in entries], dtype=bool)
    yield from table.image_findings("image-size-missing", np.flatnonzero(unsized))
    wrong = np.flatnonzero(np.isnan(table.sizes[:, 0]) & ~unsized)
    yield from table.image_findings("image-size-not-positive", wrong)


def _check_files(table: AnnotationTable, folder: str) -> Iterator[Finding]:
    names = [image.get("file_name") for image in table.images]
    found = find_images(names, folder)
    paths = [path and os.path.normpath(path) for path in found.paths]
    missing = [row for row, path in enumerate(paths) if not path and isinstance(names[row], str)]
    first: dict[str, int] = {}
    again = [row for row, path in enumerate(paths) if path and first.setdefault(path, row) != row]
    if missing:
        all_missing = len(missing) == len(names)
        searched = several = ""
        if found.searched:
            searched = (
                f" (nor, with another spelling or path, in the {found.searched} files of {folder})"
            )
        if found.several:
            several = (
                f"; {len(found.several)} of the names match several files, or share one, such as "
                f"{names[found.several[0]]!r}"
            )
        yield from table.image_findings(
            "image-missing",
            missing,
            all=", all of them," if all_missing else "",
            first=os.path.join(folder, str(names[missing[0]])),
            searched=searched,
            several=several,
            remedy="give the folder that contains them"
            if all_missing
            else "correct `file_name`, or set data.on_bad_image=skip",
        )
    differences = found.describe()
    yield from table.image_findings("file-name-respelled", found.respelled, differences=differences)
    yield from table.image_findings("file-listed-again", again)


def _check_ids(table: AnnotationTable) -> Iterator[Finding]:
    """Training reads no annotation ids, and evaluation renumbers annotations; other tools need the ids."""
    lacks = {}
    for key in ("image_id", "category_id", "id"):
        lacking = np.array([key not in entry for entry in table.annotations], dtype=bool)
        lacks[key] = lacking
        name = f"annotation-without-{key.replace('_', '-')}"
        yield from table.findings(name, lacking, first=lacking.argmax() if len(lacking) else None)
    for key, rows in table.references.by_value.items():
        yield from table.findings(f"{key.replace('_', '-')}-of-another-type", rows)
    yield from table.findings("annotation-id-repeated", _repeated(table.annotations))
    no_integer = table.which(lambda a: "id" in a and not is_integer(a["id"]))
    yield from table.findings("annotation-id-no-number", no_integer)
    zero = table.which(lambda a: type(a.get("id")) in (int, float) and a["id"] == 0)
    yield from table.findings("annotation-id-zero", zero)
    yield from table.findings("image-unknown", ~lacks["image_id"] & (table.image < 0))
    yield from table.findings("category-unknown", ~lacks["category_id"] & (table.category < 0))


def _repeated(entries: Iterable[Mapping[str, Any]]) -> list[int]:
    """Indices of the entries with an `id` that another entry has too."""
    ids = [entry.get("id") for entry in entries]
    keys = [id_ if isinstance(id_, Hashable) else str(id_) for id_ in ids]
    times = Counter(keys)
    return [row for row, key in enumerate(keys) if key is not None and times[key] > 1]


def _check_labels(table: AnnotationTable, labels: Labels) -> Iterator[Finding]:
    for category in table.categories:
        try:
            keypoint_indices(category, *labels, table.where)
        except UserError as error:
            sentence = str(error).removeprefix(f"{table.where}: ")
            yield Finding("error", table.where, "labels-differ", sentence)
