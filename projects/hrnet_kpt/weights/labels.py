"""What the rows of a detector's last layers stand for, and their selection by the names of classes and keypoints."""

from __future__ import annotations

import json
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

LABELS = "labels"  # the key of a checkpoint, and of a .safetensors file's metadata
SHOWN = 10  # names in a message


@dataclass(frozen=True)
class Labels:
    """What the rows of a detector's last layers stand for, each in order; empty where it is not known.

    Attributes:
        keypoints: Names of keypoints.
        classes: Names of classes, each with the names of its keypoints.
    """

    keypoints: Sequence[str]
    classes: Mapping[str, Sequence[str]]

    def to_dict(self) -> dict[str, Any]:
        """The form that checkpoints hold; plain enough for torch.load(weights_only=True)."""
        classes = {name: list(keypoints) for name, keypoints in self.classes.items()}
        return {"keypoints": list(self.keypoints), "classes": classes}


def labels_of(content: Any) -> Labels | None:
    """The labels of what torch.load has returned; None where it has none, or something else by that name."""
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


def labels_of_text(text: str) -> Labels | None:
    """The same of the metadata of a .safetensors file."""
    try:
        return labels_of({LABELS: json.loads(text)})
    except ValueError:
        return None


def labels_beside(path: Path) -> Labels | None:
    """What the config.yaml in the folder of a run's checkpoint says; None where there is none, or not of a run."""
    try:
        data = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))["data"]
        schema = data["keypoints"]
        names = {"keypoints": schema["names"], "classes": data["classes"]}
        # In a config `\${` stands for `${`.
        return labels_of({LABELS: OmegaConf.to_container(OmegaConf.create(names), resolve=True)})
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, OmegaConfBaseException):
        return None


def match_rows(
    what: str,
    theirs: Sequence[str],
    ours: Sequence[str],
    *,
    strict: bool = True,
    whole: bool = False,
) -> tuple[list[int | None] | None, str]:
    """For each name of the model's, the row of the file that stands for it, None for one that the file does not have.

    Args:
        what: "keypoints" or "classes".
        theirs, ours: Names of the file's rows and of the model's.
        strict, whole: As in `load_weights`. A file for a new training may have more names than the model. Where no name
            is common and there are as many, they are taken row by row.

    Returns:
        None in place of rows where the file's stay as they are, and what is to be said.

    Raises:
        UserError: Where the names differ, and neither of these allows it.
    """
    if list(theirs) == list(ours):
        return None, ""
    rows = [theirs.index(name) if name in theirs else None for name in ours]
    new = [name for name in ours if name not in theirs]
    if not new and len(theirs) == len(ours):
        return list(rows), f"{what} put into the model's order by name"
    if not whole:
        if not new:
            return list(rows), f"{len(ours)} of {len(theirs)} {what} ({', '.join(ours)})"
        if len(new) == len(ours):
            if len(theirs) == len(ours):
                return None, f"{what} of other names, row by row ({_arrows(theirs, ours)})"
            if not strict:
                return None, ""
        elif not strict:
            return list(rows), f"{what} by name; as the model begins: {', '.join(new)}"
    left = [name for name in theirs if name not in ours]
    differences = [
        *([f"the model has no {join_names(left, SHOWN)}"] if left else []),
        *([f"the file has no {join_names(new, SHOWN)}"] if new else []),
    ]
    raise UserError(f"its {what} are not the model's: {'; '.join(differences)}")


def _arrows(theirs: Sequence[str], ours: Sequence[str]) -> str:
    return join_names([f"{a} as {b}" for a, b in zip(theirs, ours, strict=True)], SHOWN)


SCORES = re.compile(r"roi_heads\.box_predictor\.(\d\.)?cls_score\.")
DELTAS = re.compile(r"roi_heads\.box_predictor\.(\d\.)?bbox_pred\.")
MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.")
KEYPOINTS = "roi_heads.keypoint_head.score_lowres."
COCO_CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]
COCO_KEYPOINTS = list(COCO_PERSON_KEYPOINT_NAMES)

# For each row of the model, the row of the file; None: the model's own stays.
Rows = Sequence[int | None]


def background_last(tensors: dict[str, Tensor]) -> None:
    """Move, in place, the background from the first row of the class scores to the last; elsewhere drop it.

    Class scores are (1 + classes, channels), masks (1 + classes, ...), and box deltas (4 * (1 + classes), channels), or
    (4, channels) where all classes share them, as in a cascade.
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
    """How many classes the box head scores, without the background; 0 where there is no box head."""
    found = (value for name, value in tensors.items() if SCORES.match(name))
    scores = next(found, None)
    return len(scores) - 1 if scores is not None and scores.dim() else 0


def count_keypoints(tensors: Mapping[str, Tensor]) -> int:
    """How many keypoints the keypoint head has maps of; 0 where there is none, or its layers differ in that."""
    weight, bias = tensors.get(KEYPOINTS + "weight"), tensors.get(KEYPOINTS + "bias")
    if weight is None or bias is None or weight.dim() != 4 or bias.dim() != 1:
        return 0
    return len(bias) if weight.shape[1] == len(bias) else 0


def select_classes(
    tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor], count: int
) -> None:
    """Put, in place, the rows of classes into another order; the background stays the last.

    Args:
        rows: See `Rows`.
        expected: The model's tensors.
        count: How many classes the tensors have.
    """
    corners = [None if row is None else 4 * row + i for row in rows for i in range(4)]
    for name, value in tensors.items():
        if not value.dim():
            continue
        own = expected.get(name)
        if SCORES.match(name) and len(value) == count + 1:
            tensors[name] = _select(value, [*rows, count], own)
        # The deltas and masks that all classes of a model share are those of one class.
        elif DELTAS.match(name) and len(value) == 4 * count and _fits(own, len(corners)):
            tensors[name] = _select(value, corners, own)
        elif MASKS.match(name) and len(value) == count and _fits(own, len(rows)):
            tensors[name] = _select(value, rows, own)


def select_keypoints(
    tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor]
) -> None:
    """Put, in place, the maps of keypoints into another order: weights are (channels, keypoints, 4, 4)."""
    for name, dim in (("weight", 1), ("bias", 0)):
        key = KEYPOINTS + name
        tensors[key] = _select(tensors[key], rows, expected.get(key), dim)


def _fits(own: Tensor | None, count: int) -> bool:
    return own is None or len(own) == count


def _select(value: Tensor, rows: Rows, own: Tensor | None, dim: int = 0) -> Tensor:
    selected = value.index_select(dim, torch.tensor([row or 0 for row in rows]))
    kept = [i for i, row in enumerate(rows) if row is None]
    if kept and own is not None and not own.is_meta:
        at = torch.tensor(kept)
        begun = own.detach().cpu().to(value.dtype).index_select(dim, at)
        selected = selected.index_copy(dim, at, begun)
    return selected


def take_coco_classes(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], classes: Sequence[str] = ()
) -> str:
    """Leave, in place, those of COCO's 80 classes that the model has; say so.

    Other numbers of classes, and names that COCO does not have, are left as they are.

    Args:
        classes: Names of the model's classes; without them a single class is person, the first.
    """
    count, wanted = count_classes(tensors), count_classes(expected)
    classes = classes or (["person"] if wanted == 1 else [])
    if count != len(COCO_CLASSES) or not wanted or wanted != len(classes):
        return ""
    if list(classes) == COCO_CLASSES or not set(classes) <= set(COCO_CLASSES):
        return ""
    select_classes(tensors, [COCO_CLASSES.index(name) for name in classes], expected, count)
    return f"{wanted} of {count} classes ({', '.join(classes)})"


def take_coco_keypoints(tensors: dict[str, Tensor], keypoints: Sequence[str]) -> str:
    """Leave, in place, those of COCO's 17 keypoints that the model has, in its order; say so.

    Args:
        keypoints: Names of the model's keypoints. Where COCO does not have all of them, nothing changes.
    """
    if count_keypoints(tensors) != len(COCO_KEYPOINTS) or list(keypoints) == COCO_KEYPOINTS:
        return ""
    if not keypoints or not set(keypoints) <= set(COCO_KEYPOINTS):
        return ""
    select_keypoints(tensors, [COCO_KEYPOINTS.index(name) for name in keypoints], {})
    return f"{len(keypoints)} of {len(COCO_KEYPOINTS)} keypoints ({', '.join(keypoints)})"
