"""From a config file's name and overrides to the config of a run."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path

import yaml
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .overrides import apply_overrides
from .settling import settle_labels


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Load a config file, apply overrides, and settle which keypoints the data have.

    name: a file that exists, else the name of a file in this repository's `configs/`, else in the
        installed package's. Python (detectron2's LazyConfig) or yaml, which is read as plain data.
    overrides: "key=value" replaces, "+key=value" adds. The last one wins.

    `auto` in data.keypoints and data.classes becomes what the categories of `data.test.annotations` have, else those
    of `data.train.annotations`, else COCO's person with 17 keypoints, with a warning.

    Raises UserError, a ValueError with a one-line message, for whatever is wrong with any of these.
    """
    path = find_config(name)
    cfg = _load_yaml(path) if path.suffix in (".yaml", ".yml") else _load_python(path)
    apply_overrides(cfg, overrides)
    if "keypoints" in cfg.get("data", {}):
        settle_labels(cfg)
    return cfg


def find_config(name: str | Path) -> Path:
    """The path of a config file given by path or by its name in `configs/`."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parents[1]
    folders = [repository / "configs", package / "configs"]
    for path in (Path(name), *(folder / name for folder in folders)):
        if path.is_file():
            return path
    shipped = sorted(path.name for folder in folders for path in folder.glob("*.py"))
    raise UserError(
        f"config file {str(name)!r} is neither a path that exists nor one of {', '.join(shipped)}"
    )


def _load_python(path: Path) -> DictConfig:
    import_function = builtins.__import__
    try:
        cfg = LazyConfig.load(str(path))
    except Exception as error:
        raise UserError(f"config file {path} does not load: {_one_line(error)}") from error
    finally:
        # detectron2's loader patches it, and leaves it patched after an error.
        builtins.__import__ = import_function
    return cfg


def _load_yaml(path: Path) -> DictConfig:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"config file {path} does not load: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"config file {path} holds no config: its top level must be a mapping")
    return OmegaConf.create(content, flags={"allow_objects": True})


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
