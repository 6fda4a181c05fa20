"""What a config says to weights from elsewhere: which classes and keypoints it has, and which settings differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig

from ..weights.labels import Labels
from .keys import value_at


def labels_of_config(cfg: DictConfig) -> Labels:
    """The config's keypoints and classes, as its checkpoints hold them; empty where they are not resolved."""
    classes, keypoints = value_at(cfg, "data.classes"), value_at(cfg, "data.keypoints.names")
    return Labels(
        list(keypoints) if isinstance(keypoints, ListConfig | tuple) else [],
        {str(name): list(names) for name, names in classes.items()}
        if isinstance(classes, DictConfig)
        else {},
    )


def label_names(cfg: DictConfig) -> dict[str, Any]:
    """The config's classes and keypoints by name, as `load_weights` takes them; none where they are not resolved."""
    labels = labels_of_config(cfg)
    return {"classes": list(labels.classes), "keypoints": list(labels.keypoints)}


def differing_settings(cfg: DictConfig, settings: Mapping[str, Any]) -> list[str]:
    """The overrides that give the config these settings, where it has others.

    settings: values by dotted key. Those of nodes that the config does not have, or has as a list, are left out.
    """
    overrides = []
    for key, value in settings.items():
        parent, _, name = key.rpartition(".")
        node = value_at(cfg, parent)
        if isinstance(node, DictConfig) and not _equal(value_at(cfg, key), value):
            overrides.append(("" if name in node else "+") + override(key, value))
    return overrides


def override(key: str, value: Any) -> str:
    """`key=value` as it is typed on a command line."""
    text = f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return f"{key}={text}"


def _equal(here: Any, there: Any) -> bool:
    if isinstance(there, Sequence) and not isinstance(there, str):
        return (
            isinstance(here, ListConfig | list | tuple)
            and len(here) == len(there)
            and all(map(_equal, here, there))
        )
    if isinstance(here, int | float) and isinstance(there, int | float):
        return math.isclose(here, there)
    return bool(here == there)
