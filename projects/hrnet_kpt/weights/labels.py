"""The names of a detector's classes and keypoints, and the selection of the last layers' rows by these names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, COCO_PERSON_KEYPOINT_NAMES
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from ..errors import UserError, join_names

LABELS = "labels"  # the key in a checkpoint, and in the metadata of a .safetensors file
SHOWN = 10  # names in a message
NOT_STRICT = "train.init_strict=False loads what fits"

SCORES = re.compile(r"roi_heads\.box_predictor\.(\d\.)?cls_score\.")
DELTAS = re.compile(r"roi_heads\.box_predictor\.(\d\.)?bbox_pred\.")
MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.")
KEYPOINTS = "roi_heads.keypoint_head.score_lowres."
COCO_CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]
COCO_KEYPOINTS = list(COCO_PERSON_KEYPOINT_NAMES)

# For each row of the model, the row of the file; None keeps the model's own.
Rows = Sequence[int | None]


@dataclass(frozen=True)
class Labels:
    """The names of the rows of a detector's last layers, in order; empty if unknown.

    Attributes:
        keypoints: Names of keypoints.
        classes: Names of classes, each with the names of its keypoints.
    """

    keypoints: Sequence[str]
    classes: Mapping[str, Sequence[str]]

    def to_dict(self) -> dict[str, Any]:
        """The form in checkpoints, which torch.load(weights_only=True) accepts."""
        classes = {name: list(keypoints) for name, keypoints in self.classes.items()}
        return {"keypoints": list(self.keypoints), "classes": classes}


def labels_of(content: Any) -> Labels | None:
    """The labels of a loaded checkpoint; None if it has none, or something else under that key."""
    found = content.get(LABELS) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    keypoints, classes = found.get("keypoints") or [], found.get("classes") or {}
    if not isinstance(keypoints, list) or not isinstance(classes, Mapping):
        return None
    if not all(isinstance(name, str) for name in [*keypoints, *classes]):
        return None
    if not all(isinstance(names, list) for names in classes.values()):
        return None
    return Labels(keypoints, classes) if keypoints or classes else None


def labels_beside(path: Path) -> Labels | None:
    """The labels in the config.yaml beside a run's checkpoint; None if there is no such file."""
    try:
        data = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))["data"]
        names = {"keypoints": data["keypoints"]["names"], "classes": data["classes"]}
        # In a config `\${` stands for `${`.
        return labels_of({LABELS: OmegaConf.to_container(OmegaConf.create(names), resolve=True)})
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, OmegaConfBaseException):
        return None


def known_labels(tensors: Mapping[str, Tensor], labels: Labels | None, foreign: bool) -> Labels:
    """The names of the rows of a file's last layers: its own, or COCO's for files of other codebases.

    Args:
        tensors: The file's tensors, under this project's names.
        labels: The labels of the file, or of the model that it was fitted to.
        foreign: The file was written by another codebase.
    """
    keypoints: Sequence[str] = labels.keypoints if labels else []
    classes: Mapping[str, Sequence[str]] = labels.classes if labels else {}
    if foreign and not keypoints and count_keypoints(tensors) == len(COCO_KEYPOINTS):
        keypoints = COCO_KEYPOINTS
    if foreign and not classes and count_classes(tensors) == len(COCO_CLASSES):
        classes = {name: [] for name in COCO_CLASSES}
    return Labels(keypoints, classes)


def select_rows(
    tensors: dict[str, Tensor],
    expected: Mapping[str, Tensor],
    labels: Labels | None,
    classes: Sequence[str] = (),
    keypoints: Sequence[str] = (),
    *,
    foreign: bool,
    strict: bool = True,
    whole: bool = False,
) -> list[str]:
    """Put the rows of classes and keypoints, in place, into the model's order.

    Files without labels that have COCO's number of classes or keypoints are taken to have COCO's. If COCO does not have
    all of the model's names, the rows stay as they are. The other arguments are those of `load_weights`.

    Args:
        tensors: The file's tensors, under the model's names.
        expected: The model's tensors by name.
        labels: The file's labels.
        classes: The model's names of classes; without them a single class is COCO's person.
        foreign: The file was written by another codebase.

    Returns:
        Clauses for the log.

    Raises:
        UserError: If the names differ in a way that `strict` and `whole` do not allow.
    """
    clauses = []
    for what, theirs, ours, coco, count_rows, select in (
        ("classes", labels and list(labels.classes), classes, COCO_CLASSES, count_classes, select_classes),
        ("keypoints", labels and labels.keypoints, keypoints, COCO_KEYPOINTS, count_keypoints, select_keypoints),
    ):  # fmt: skip
        count, num_expected = count_rows(tensors), count_rows(expected)
        rows, clause = None, ""
        if theirs and len(theirs) == count and len(ours) == num_expected > 0:
            rows, clause = match_rows(what, theirs, ours, strict=strict, whole=whole)
        elif count == len(coco) and (foreign or (what == "classes" and count != num_expected)):
            if what == "classes" and num_expected == 1:
                ours = ours or ["person"]
            if len(ours) == num_expected > 0 and set(ours) <= set(coco):
                rows, clause = match_rows(what, coco, ours)
        if rows:
            select(tensors, rows, expected)
        clauses += [clause] if clause else []
    return clauses


def match_rows(
    what: str,
    theirs: Sequence[str],
    ours: Sequence[str],
    *,
    strict: bool = True,
    whole: bool = False,
) -> tuple[Rows | None, str]:
    """Find, for each name of the model, the row of the file; None for a name that the file does not have.

    Args:
        what: "keypoints" or "classes".
        theirs: Names of the file's rows.
        ours: Names of the model's rows.
        strict: See `load_weights`.
        whole: See `load_weights`. If False, the file may have more names than the model, and a file with as many names
            and none in common is taken row by row.

    Returns:
        The rows, or None if the file's rows stay as they are; and a clause for the log, which may be empty.

    Raises:
        UserError: If the names differ in a way that `strict` and `whole` do not allow.
    """
    if list(theirs) == list(ours):
        return None, ""
    rows = [theirs.index(name) if name in theirs else None for name in ours]
    new = [name for name in ours if name not in theirs]
    if not new and len(theirs) == len(ours):
        return rows, f"{what} put into the model's order by name"
    if not whole:
        if not new:
            return rows, f"{len(ours)} of {len(theirs)} {what} ({', '.join(ours)})"
        if len(new) == len(ours):
            if len(theirs) == len(ours):
                pairs = [f"{a} as {b}" for a, b in zip(theirs, ours, strict=True)]
                return None, f"{what} of other names, row by row ({join_names(pairs, SHOWN)})"
            if not strict:
                return None, ""
        elif not strict:
            return rows, f"{what} by name; newly initialized: {', '.join(new)}"
    extra = [name for name in theirs if name not in ours]
    differences = [
        f"the {owner} has no {join_names(names, SHOWN)}"
        for owner, names in (("model", extra), ("file", new))
        if names
    ]
    remedy = f"{NOT_STRICT}, by name"
    if whole:
        remedy = "rename them in the data, or take weights of these names"
    raise UserError(f"its {what} are not the model's: {'; '.join([*differences, remedy])}")


def background_last(tensors: dict[str, Tensor]) -> None:
    """Move, in place, the background from the first row of the class scores to the last; elsewhere drop it.

    Class scores are (1 + classes, channels), masks (1 + classes, ...), and box deltas (4 * (1 + classes), channels), or
    (4, channels) if all classes share them, as in a cascade.
    """
    for name, value in tensors.items():
        if not value.dim():
            continue
        if SCORES.match(name):
            tensors[name] = torch.cat([value[1:], value[:1]])
        elif DELTAS.match(name) and len(value) > 4:
            tensors[name] = value[4:]
        elif MASKS.match(name):
            tensors[name] = value[1:]


def count_classes(tensors: Mapping[str, Tensor]) -> int:
    """The number of classes of the box head, without the background; 0 if there is no box head."""
    scores = next((value for name, value in tensors.items() if SCORES.match(name)), None)
    return len(scores) - 1 if scores is not None and scores.dim() else 0


def count_keypoints(tensors: Mapping[str, Tensor]) -> int:
    """The number of keypoints of the keypoint head; 0 if there is none, or its weight and bias disagree."""
    weight, bias = tensors.get(KEYPOINTS + "weight"), tensors.get(KEYPOINTS + "bias")
    if weight is None or bias is None or weight.dim() != 4 or bias.dim() != 1:
        return 0
    return len(bias) if weight.shape[1] == len(bias) else 0


def select_classes(tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor]) -> None:
    """Select, in place, the rows of classes; the background stays the last.

    Args:
        tensors: The file's tensors, under the model's names.
        rows: See `Rows`.
        expected: The model's tensors by name.
    """
    count = count_classes(tensors)
    corners = [None if row is None else 4 * row + i for row in rows for i in range(4)]
    for name, value in tensors.items():
        if not value.dim():
            continue
        own = expected.get(name)
        if SCORES.match(name) and len(value) == count + 1:
            tensors[name] = _select(value, [*rows, count], own)
        # Deltas and masks that all classes of a model share are those of one class.
        elif DELTAS.match(name) and len(value) == 4 * count and _fits(own, len(corners)):
            tensors[name] = _select(value, corners, own)
        elif MASKS.match(name) and len(value) == count and _fits(own, len(rows)):
            tensors[name] = _select(value, rows, own)


def select_keypoints(
    tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor]
) -> None:
    """Select, in place, the heatmaps of keypoints; the weight is (channels, keypoints, 4, 4)."""
    for name, dim in (("weight", 1), ("bias", 0)):
        key = KEYPOINTS + name
        tensors[key] = _select(tensors[key], rows, expected.get(key), dim)


def _fits(own: Tensor | None, count: int) -> bool:
    return own is None or len(own) == count


def _select(value: Tensor, rows: Rows, own: Tensor | None, dim: int = 0) -> Tensor:
    selected = value.index_select(dim, torch.tensor([row or 0 for row in rows]))
    kept = torch.tensor([i for i, row in enumerate(rows) if row is None], dtype=torch.long)
    if len(kept) and own is not None and not own.is_meta:
        initial = own.detach().cpu().to(value.dtype).index_select(dim, kept)
        selected = selected.index_copy(dim, kept, initial)
    return selected
