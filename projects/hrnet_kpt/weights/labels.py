"""The names of keypoints and classes that a checkpoint was trained with, and the rows of a model of other names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, join_names

LABELS = "labels"  # the key of a checkpoint, and of a .safetensors file's metadata
SHOWN = 10  # names in a message


@dataclass(frozen=True)
class Labels:
    """What the rows of a detector's last layers stand for, each in order; empty where it is not known.

    keypoints: names of keypoints.
    classes: names of classes, each with the names of its keypoints.
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

    what: "keypoints" or "classes". theirs, ours: names of the file's rows and of the model's.
    strict, whole: as in `load_weights`. A file for a new training may have more names than the model. Where no name is
        common and there are as many, they are taken row by row.

    Returns None in place of rows where the file's stay as they are, and what is to be said. Raises UserError where the
    names differ, and neither of these allows it.
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
