"""The check of a training or a test set, with the levels that findings have for a run: one verdict for all tools."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...errors import UserError
from ..keypoints import KeypointSchema
from ..labels import Classes, keypoint_slots
from .annotation_table import listed_names
from .check_annotations import check_annotations
from .check_categories import checked_categories
from .findings import Finding

# Of a set that is only evaluated on these are warnings.
OF_TRAINING = {"nothing-to-learn", "no-usable-box", "iscrowd-everywhere"}
Labels = tuple[KeypointSchema, Classes]


def check_set(
    content: Mapping[str, Any],
    where: str,
    images: str | None,
    trained_on: bool,
    labels: Labels | None,
    forgiven: Collection[str] = (),
    ignored: Collection[str] = (),
    **limits: int | None,
) -> list[Finding]:
    """Everything that is wrong with a set for a run, errors first.

    content, where, images: as for check_annotations. trained_on: whether it is trained on, or only evaluated.
    labels: the keypoints and the classes of the model; None if they cannot be told.
    forgiven: names of findings that are warnings this time. ignored: of those that are nothing.
    limits: `max_detections` and `reported` of check_limits.
    """
    forgiven = {*forgiven, *(() if trained_on else OF_TRAINING)}
    if labels is not None:
        for category in content["categories"]:
            # The model may name keypoints where the json does not.
            if not category.get("keypoints") and labels[1].get(str(category.get("name"))):
                forgiven |= {"names-missing", "no-keypoints"}
    found = [
        replace(finding, level="warning") if finding.name in forgiven else finding
        for finding in check_annotations(content, where, images, **limits)
        if finding.name not in ignored
    ]
    if labels is not None and not any(_of_categories(finding) for finding in found):
        found += _labels_differ(content, where, labels)
    return sorted(found, key=lambda finding: finding.level != "error")


def labels_of(content: Mapping[str, Any], where: str) -> Labels | None:
    """The keypoints by name and the classes of a json, as `auto` has them; None if its categories are wrong."""
    try:
        classes = {c["name"]: listed_names(c) for c in checked_categories(content, where)}
        return KeypointSchema(
            list(dict.fromkeys(n for own in classes.values() for n in own))
        ), classes
    except UserError:
        return None


def _of_categories(finding: Finding) -> bool:
    return finding.level == "error" and finding.name.startswith(("category-", "names-"))


def _labels_differ(content: Mapping[str, Any], where: str, labels: Labels) -> Iterator[Finding]:
    for category in checked_categories(content, where):
        try:
            keypoint_slots(category, *labels, where)
        except UserError as error:
            sentence = str(error).removeprefix(f"{where}: ")
            yield Finding("error", where, "labels-differ", sentence)
