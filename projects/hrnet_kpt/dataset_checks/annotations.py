"""What is wrong with a COCO-format json, and with a set for a run: all that can be said without opening an image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
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
from .finding import Finding
from .keypoints import check_keypoints, labelled_counts, labelled_points
from .table import AnnotationTable

# Of a set that is only evaluated on these are warnings.
OF_TRAINING = {"nothing-to-learn", "no-usable-box", "iscrowd-everywhere"}
Labels = tuple[KeypointSchema, Classes]


def check_annotations(
    table: AnnotationTable,
    images: str | None = None,
    max_detections: int | None = None,
    reported: int | None = None,
) -> list[Finding]:
    """Everything that is wrong with a COCO-format json, errors first; empty if nothing is.

    Args:
        table: of the json.
        images: the folder of the images; their files are looked for there, not opened.
        max_detections, reported: as for check_limits.
    """
    points = labelled_points(table)
    # What is said of boxes and keypoints is said of the converted ones.
    converted, of_another_convention = check_conventions(table, points)
    if converted is not table:
        table, points = converted, labelled_points(converted)
    found = [
        *_images(table),
        *(_files(table, images) if images is not None else ()),
        *check_categories(table),
        *_ids(table),
        *of_another_convention,
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
    forgiven: Collection[str] = (),
    ignored: Collection[str] = (),
    **limits: int | None,
) -> list[Finding]:
    """Everything that is wrong with a set for a run, errors first: one verdict for all tools.

    Args:
        table, images: as for check_annotations.
        trained_on: whether it is trained on, or only evaluated.
        labels: the keypoints and the classes of the model; None if they are not known.
        forgiven: names of findings that are warnings this time.
        ignored: names of findings that are left out.
        limits: `max_detections` and `reported` of check_limits.
    """
    forgiven = {*forgiven, *(() if trained_on else OF_TRAINING)}
    if labels is not None:
        for category in table.categories:
            # The model may name keypoints where the json does not.
            if not category.get("keypoints") and labels[1].get(str(category.get("name"))):
                forgiven |= {"names-missing", "no-keypoints"}
    found = [
        replace(finding, level="warning") if finding.name in forgiven else finding
        for finding in check_annotations(table, images, **limits)
        if finding.name not in ignored
    ]
    if labels is not None and not any(_of_categories(finding) for finding in found):
        found += _labels_differ(table, labels)
    return errors_first(found)


def labels_of(content: Mapping[str, Any], where: str) -> Labels | None:
    """The keypoints by name and the classes of a json, as `auto` has them; None if its categories are wrong."""
    try:
        classes = {c["name"]: keypoint_names(c) for c in checked_categories(content, where)}
        names = dict.fromkeys(name for own in classes.values() for name in own)
        return KeypointSchema(list(names)), classes
    except UserError:
        return None


def errors_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.level != "error")


def refuse_errors(findings: Iterable[Finding]) -> list[str]:
    """Return the warnings among findings; raise UserError with all errors, a line each."""
    found = list(findings)
    errors = [str(finding) for finding in found if finding.level == "error"]
    if errors:
        raise UserError("\n".join(errors))
    return [str(finding) for finding in found]


def check_limits(
    table: AnnotationTable, max_detections: int | None = None, reported: int | None = None
) -> Iterator[Finding]:
    """Warnings about images with more instances than detections that count for AP, or that the model reports.

    Args:
        table: of the json.
        max_detections: how many count of an image and a category, for boxes and keypoints; None for COCO's 100 and 20.
        reported: how many the model reports of an image, of all classes together; None if that is not known.
    """
    instances = (table.image >= 0) & ~table.crowd & (table.category >= 0)
    for task, chosen in (
        ("keypoints", instances & (labelled_counts(table) > 0)),
        ("bbox", instances),
    ):
        counts = [
            np.bincount(
                table.image[chosen & (table.category == category)], minlength=len(table.images)
            )
            for category in range(len(table.categories))
        ]
        counts = [own for own in counts if own.any()]
        sentence = describe_limits(counts, task, max_detections)
        if sentence:
            limit = max_detections or COCO_DETECTIONS[task]
            over = np.flatnonzero(np.max(counts, axis=0) > limit)
            yield from table.image_finding("warning", "limits-exceeded", sentence, over)
    total = np.bincount(table.image[instances], minlength=len(table.images))
    if reported is not None and total.max(initial=0) > reported:
        yield from table.image_finding(
            "warning",
            "limits-exceeded",
            f"{{}} with more objects, up to {total.max()}, than the {reported} that the model reports of an image: "
            f"set model.roi_heads.box_predictor.test_topk_per_image={total.max()}",
            np.flatnonzero(total > reported),
        )


def _images(table: AnnotationTable) -> Iterator[Finding]:
    entries = table.images
    incomplete = [
        row
        for row, image in enumerate(entries)
        if not isinstance(image.get("id"), (int, float, str))
        or not isinstance(image.get("file_name"), str)
    ]
    yield from table.image_finding(
        "error", "image-incomplete", "{} without an `id` or a `file_name`: add it", incomplete
    )
    times = Counter(_key(image["id"]) for image in entries if "id" in image)
    yield from table.image_finding(
        "error",
        "image-id-repeated",
        "{} with an `id` that another image has too: both would get the annotations of either; give each its own",
        [row for row, image in enumerate(entries) if times[_key(image.get("id"))] > 1],
    )
    yield from mixed_ids(table, "images", "image-ids-mixed")
    unsized = np.array([annotated_size(image) is None for image in entries], dtype=bool)
    yield from table.image_finding(
        "warning",
        "image-size-missing",
        "{} without `width` or `height`: taken from the files, so that nothing is compared with their borders here",
        np.flatnonzero(unsized),
    )
    yield from table.image_finding(
        "error",
        "image-size-not-positive",
        "{} whose `width` and `height` are not positive numbers: correct or remove them",
        np.flatnonzero(np.isnan(table.sizes[:, 0]) & ~unsized),
    )


def _files(table: AnnotationTable, folder: str) -> Iterator[Finding]:
    names = [image.get("file_name") for image in table.images]
    found = find_images(names, folder)
    missing, again, seen = [], [], set[str]()
    for row, (name, path) in enumerate(zip(names, found.paths, strict=True)):
        if path is None:
            if isinstance(name, str):
                missing.append(row)
            continue
        path = os.path.normpath(path)
        if path in seen:
            again.append(row)
        seen.add(path)
    if missing:
        first = os.path.join(folder, str(names[missing[0]]))
        all_missing = len(missing) == len(names)
        sentence = "{}, all that there are, that" if all_missing else "{} that"
        sentence += f" cannot be found, the first one at {first}"
        if found.searched:
            sentence += (
                f" (nor, by another spelling of its name or path, among the {found.searched} files in "
                f"{folder})"
            )
        if found.several:
            sentence += (
                f"; {len(found.several)} of the names fit several files, or share one, such as "
                f"{names[found.several[0]]!r}"
            )
        sentence += (
            ": name their folder"
            if all_missing
            else ": correct `file_name`, or set data.on_bad_image=skip"
        )
        yield from table.image_finding("error", "image-missing", sentence, missing)
    yield from table.image_finding(
        "warning",
        "file-name-respelled",
        f"{{}} whose `file_name` is spelt in another way than the only file that fits ({found.describe()}): that is "
        "read",
        found.respelled,
    )
    yield from table.image_finding(
        "warning",
        "file-listed-again",
        "{} of a file that an earlier image has too: it counts several times",
        again,
    )


def _ids(table: AnnotationTable) -> Iterator[Finding]:
    """Training reads no ids of annotations, and evaluation numbers them itself; other tools need them."""
    annotations = table.annotations
    lacking = {
        key: [row for row, annotation in enumerate(annotations) if key not in annotation]
        for key in ("image_id", "category_id", "id")
    }
    first = {
        key: f"the first one entry {rows[0]} of `annotations`, from 0"
        for key, rows in lacking.items()
        if rows
    }
    for key in ("image_id", "category_id"):
        name = key.replace("_", "-")
        yield from table.finding(
            "error",
            f"annotation-without-{name}",
            f"{{}} without `{key}`, {first.get(key)}: add it, or remove them",
            lacking[key],
        )
        yield from table.finding(
            "warning",
            f"{name}-of-another-type",
            f"{{}} whose `{key}` is a string where the id is a number, or the reverse: matched by value",
            table.references.by_value[key],
        )
    yield from table.finding(
        "warning",
        "annotation-without-id",
        f"{{}} without `id`, {first.get('id')}: pycocotools and other tools need it",
        lacking["id"],
    )
    ids = {row: entry["id"] for row, entry in enumerate(annotations) if "id" in entry}
    times = Counter(map(_key, ids.values()))
    yield from table.finding(
        "warning",
        "annotation-id-repeated",
        "{} with an `id` that another annotation has too: pycocotools would take one for the other; numbered anew "
        "here; were files merged?",
        [row for row, value in ids.items() if times[_key(value)] > 1],
    )
    yield from table.finding(
        "warning",
        "annotation-id-no-number",
        "{} with an `id` that is not an integer, which pycocotools needs: numbered anew here",
        [row for row, value in ids.items() if not is_integer(value)],
    )
    yield from table.finding(
        "warning",
        "annotation-id-zero",
        "{} with the `id` 0, which pycocotools takes for none and counts as missed: numbered anew here",
        [row for row, value in ids.items() if type(value) in (int, float) and value == 0],
    )
    listed = np.array(["image_id" in annotation for annotation in annotations], dtype=bool)
    yield from table.finding(
        "warning",
        "image-unknown",
        "{} of an image that is not listed: left out",
        listed & (table.image < 0),
    )
    listed = np.array(["category_id" in annotation for annotation in annotations], dtype=bool)
    yield from table.finding(
        "error",
        "category-unknown",
        "{} of a category that is not listed: add the category, or remove them",
        listed & (table.category < 0),
    )


def _key(value: Any) -> Any:
    """What stands for an id in a set: itself, or the text of what cannot stand there."""
    return value if isinstance(value, (int, float, str, type(None))) else str(value)


def _of_categories(finding: Finding) -> bool:
    return finding.level == "error" and finding.name.startswith(("category-", "names-"))


def _labels_differ(table: AnnotationTable, labels: Labels) -> Iterator[Finding]:
    for category in table.categories:
        try:
            keypoint_indices(category, *labels, table.where)
        except UserError as error:
            sentence = str(error).removeprefix(f"{table.where}: ")
            yield Finding("error", table.where, "labels-differ", sentence)
