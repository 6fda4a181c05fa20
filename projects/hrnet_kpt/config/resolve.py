"""Resolves `auto` in data.keypoints and data.classes, and compares a config's settings with those of weights."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyCall, instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..data.categories import name_classes, read_labels
from ..data.coco import read_coco
from ..data.schema import COCO_PERSON, KeypointSchema
from ..errors import UserError, one_line
from ..weights.labels import Labels
from .keys import escape, value_at

logger = logging.getLogger(__name__)

FIELDS = tuple(field.name for field in dataclasses.fields(KeypointSchema))


def resolve_labels(cfg: DictConfig) -> None:
    """Replace `auto` in data.keypoints and data.classes, in place, by the keypoints and classes of the data.

    A mapping in data.keypoints sets some fields of a KeypointSchema; the others are read from the data or, if it sets
    the names, derived from these. Nothing is read if both keys are resolved already.

    Raises:
        UserError: If one of the two is neither `auto` nor a mapping, or they contradict each other or the data.
    """
    try:
        _resolve(cfg)
    except UserError:
        raise
    except (TypeError, AttributeError, ValueError, OSError, OmegaConfBaseException) as error:
        raise UserError(
            f"data.keypoints and data.classes cannot be resolved ({one_line(error)}): check both, and "
            "data.test.annotations and data.train.annotations"
        ) from error


def _resolve(cfg: DictConfig) -> None:
    if "classes" not in cfg.data:
        cfg.data.classes = "auto"
    for key in ("keypoints", "classes"):
        if not isinstance(cfg.data[key], DictConfig) and cfg.data[key] != "auto":
            raise UserError(f"data.{key}={cfg.data[key]!r}: write auto or a mapping")
    resolved = isinstance(cfg.data.keypoints, DictConfig) and "_target_" in cfg.data.keypoints
    path = "" if resolved and cfg.data.classes != "auto" else annotations_that_exist(cfg)
    content = read_coco(path) if path else None
    if not resolved:
        fields: Any = {}
        if cfg.data.keypoints != "auto":
            fields = OmegaConf.to_container(cfg.data.keypoints, resolve=True)
        schema = _complete(cfg, fields, content, path)
        _refuse_broken_names(schema.names)
        cfg.data.keypoints = LazyCall(KeypointSchema)(
            names=[*map(escape, schema.names)],
            flip_pairs=[[escape(name) for name in pair] for pair in schema.flip_pairs],
            skeleton=[[escape(name) for name in pair] for pair in schema.skeleton],
            sigmas=list(schema.sigmas),
            reference=[*map(escape, schema.reference)],
        )
    try:
        schema = instantiate(cfg.data.keypoints)
    except UserError as error:
        raise UserError(f"data.keypoints: {error}; or set data.keypoints=auto") from error
    if cfg.data.classes == "auto":
        if content:
            classes = name_classes(content, path, schema)
        else:
            classes = _classes_without_data(cfg, schema)
        cfg.data.classes = {name: [*map(escape, names)] for name, names in classes.items()}
    for name, names in cfg.data.classes.items():
        if not isinstance(names, ListConfig):
            raise UserError(f"data.classes: {name} has {names!r}: write a list of keypoints, or []")
        unknown = [keypoint for keypoint in names if keypoint not in schema.names]
        if unknown:
            raise UserError(
                f"data.classes: {name} has the keypoints {', '.join(unknown)}, which are not in "
                "data.keypoints.names"
            )


def _refuse_broken_names(names: Sequence[str]) -> None:
    """Refuse a name that looks like an incomplete interpolation, which OmegaConf cannot hold."""
    for name in names:
        try:
            OmegaConf.create([name])
        except OmegaConfBaseException as error:
            raise UserError(
                f"keypoint {name!r}: a config cannot hold an incomplete ${{: rename it in the json"
            ) from error


def _classes_without_data(cfg: DictConfig, schema: KeypointSchema) -> dict[str, list[str]]:
    if schema.names:
        return {"person": list(schema.names)}
    if is_generated(cfg, cfg.data.test.annotations):
        return {"person": []}
    _warn_of_no_data(cfg, "classes", "COCO's 80 classes")
    return {category["name"]: [] for category in COCO_CATEGORIES if category["isthing"]}


def _warn_of_no_data(cfg: DictConfig, key: str, used: str) -> None:
    paths = (cfg.data[split].annotations for split in ("test", "train"))
    logger.warning("data.%s=auto: neither %s nor %s exists: using %s", key, *paths, used)


def is_generated(cfg: DictConfig, annotations: str) -> bool:
    """Whether `data.generate` of the config writes this annotation file."""
    if "generate" not in cfg.data:
        return False
    root = Path(cfg.data.generate.root).resolve()
    return root in Path(annotations).resolve().parents


def annotations_that_exist(cfg: DictConfig) -> str:
    """The path of the test annotations if they exist, otherwise of the training annotations, otherwise ""."""
    paths = [cfg.data[split].annotations for split in ("test", "train")]
    return next((path for path in paths if Path(path).is_file()), "")


def _complete(
    cfg: DictConfig, fields: dict[str, Any], content: dict[str, Any] | None, path: str
) -> KeypointSchema:
    """The schema with these fields, the others from the data or, if the names are among the fields, from these."""
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise UserError(f"data.keypoints has no {', '.join(unknown)}: it has {', '.join(FIELDS)}")
    names = fields.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"data.keypoints.names={names} must be a list of their names, as strings")
    if "names" in fields:
        category = {"id": 1, "name": "the data", "keypoints": names, "sigmas": fields.get("sigmas")}
        schema, _ = read_labels({"categories": [category]}, "data.keypoints")
    elif content:
        schema, _ = read_labels(content, path, cfg.data.share_keypoints)
    else:
        schema = COCO_PERSON
        if not is_generated(cfg, cfg.data.test.annotations):
            _warn_of_no_data(cfg, "keypoints", "COCO's 17 keypoints")
    try:
        return dataclasses.replace(schema, **fields)
    except TypeError as error:
        raise UserError(f"data.keypoints={fields}: each field must be a list ({error})") from error
    except UserError as error:
        raise UserError(f"data.keypoints: {error}") from error


def labels_of_config(cfg: DictConfig) -> Labels:
    """The config's keypoints and classes as checkpoints hold them; empty if they are not resolved."""
    classes, keypoints = value_at(cfg, "data.classes"), value_at(cfg, "data.keypoints.names")
    return Labels(
        list(keypoints) if isinstance(keypoints, ListConfig | tuple) else [],
        {str(name): list(names) for name, names in classes.items()}
        if isinstance(classes, DictConfig)
        else {},
    )


def label_names(cfg: DictConfig) -> dict[str, Any]:
    """The names of the config's classes and keypoints, as arguments of `load_weights`; empty if not resolved."""
    labels = labels_of_config(cfg)
    return {"classes": list(labels.classes), "keypoints": list(labels.keypoints)}


def differing_settings(cfg: DictConfig, settings: Mapping[str, Any]) -> list[str]:
    """Overrides for the settings that differ from the config's.

    Args:
        settings: Values by dotted key. Keys below nodes that the config does not have, or has as lists, are left out.
    """
    overrides = []
    for key, value in settings.items():
        parent, _, name = key.rpartition(".")
        node = value_at(cfg, parent)
        if isinstance(node, DictConfig) and not _equal(value_at(cfg, key), value):
            overrides.append(("" if name in node else "+") + override(key, value))
    return overrides


def override(key: str, value: Any) -> str:
    """`key=value` as typed on a command line."""
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
