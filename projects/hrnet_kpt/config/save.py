"""Saves a config as yaml or Python that another process can load."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from ..io import replace_text
from .keys import child_of, escape, value_at, written
from .python_source import python_source, refuse_lost_names
from .serialize import plain_config

PATHS = (
    "data.root",
    *(f"data.{split}.{key}" for split in ("train", "test") for key in ("annotations", "images")),
    "data.generate.root",
    "train.output_dir",
    "train.init_checkpoint",
)
# `${...}` with further braces, up to two deep, in it.
INTERPOLATION = re.compile(r"(?<!\\)\$\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}")


def save_config(cfg: DictConfig, path: str | Path) -> None:
    """Write `cfg` as plain yaml or as Python, by the suffix, with interpolations unresolved, for `load_config`.

    Raises:
        UserError: If another process could not load an object in the config, the suffix is not .yaml, .yml or .py, or
            the file cannot be written. Nothing is written then.
    """
    path = Path(path)
    if path.suffix == ".py":
        text = python_source(cfg)
    elif path.suffix in (".yaml", ".yml"):
        text = _yaml(plain_config(cfg))
    else:
        raise UserError(f"config file {path} cannot be written: its name must end in .yaml or .py")
    try:
        replace_text(path, text)
    except OSError as error:
        raise UserError(f"config file {path} cannot be written: {error.strerror}") from error


def _yaml(content: dict[Any, Any]) -> str:
    def dump(allow_unicode: bool) -> str:
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=allow_unicode, width=9999)

    text = dump(allow_unicode=True)
    # PyYAML writes these line ends unescaped, and reads them as spaces.
    return dump(allow_unicode=False) if any(end in text for end in "\x85\u2028\u2029") else text


def refuse_unsavable(cfg: DictConfig) -> None:
    """Raise UserError if `save_config` would, for yaml or for Python."""
    refuse_lost_names(plain_config(cfg))


def absolute_paths(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` that does not depend on the current folder and the environment.

    Paths of data, output and weights are made absolute; interpolations that read the environment are resolved, others
    stay.
    """
    cfg = copy.deepcopy(cfg)
    for parent, key, text in list(_strings(cfg)):
        _resolve_environment(parent, key, text)
    for path in PATHS:
        parent, _, key = path.rpartition(".")
        value = value_at(cfg, path)
        if isinstance(value, str | Path):
            _make_absolute(value_at(cfg, parent), key, str(value))
    return cfg


def expand_home(cfg: DictConfig) -> None:
    """Expand `~` at the beginning of paths, in place; a shell does not expand it after `=`."""
    for path in PATHS:
        value = value_at(cfg, path)
        if isinstance(value, str) and value.startswith("~"):
            OmegaConf.update(cfg, path, os.path.expanduser(value))


def _strings(node: DictConfig | ListConfig) -> Iterator[tuple[Any, Any, str]]:
    """Container, key and value of each string, interpolations as they are written."""
    content = written(node)
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            child = content[key]
            if isinstance(child, DictConfig | ListConfig):
                yield from _strings(child)
            if isinstance(written(child), str):
                yield node, key, written(child)


def _resolve_environment(parent: Any, key: Any, text: str) -> None:
    """Resolve the interpolations in `text` that read the environment, unless that fails."""

    def value_of(interpolation: str) -> Any:
        parent[key] = interpolation
        value = parent[key]
        return escape(value) if isinstance(value, str) else value

    def text_of(match: re.Match[str]) -> str:
        part = match.group()
        return str(value_of(part)) if "oc.env:" in part else part

    if "oc.env:" in text:
        with read_write(parent):
            try:
                # A single interpolation may be a number.
                whole = INTERPOLATION.fullmatch(text)
                parent[key] = value_of(text) if whole else INTERPOLATION.sub(text_of, text)
            except OmegaConfBaseException:
                parent[key] = text


def _make_absolute(parent: Any, key: str, path: str) -> None:
    if path and "://" not in path and not os.path.isabs(path):
        text = os.path.join(escape(os.getcwd()), str(written(child_of(parent, key))))
        with read_write(parent):
            # normpath could change the dots in an interpolation.
            parent[key] = text if "${" in text else os.path.normpath(text)
