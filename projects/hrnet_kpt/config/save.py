"""Config to a file that another process can load."""

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
from .keys import child_of, escape, written
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
    """Write `cfg` as plain yaml or as Python, by the suffix, interpolations unresolved; `load_config` reads it back.

    Raises:
        UserError: Before anything is written, for what another process could not load, for a suffix other than .yaml,
            .yml and .py, and for a file that cannot be written.
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
    # PyYAML writes these line ends as they are, but reads spaces; as escapes they survive.
    return dump(allow_unicode=False) if any(end in text for end in "\x85\u2028\u2029") else text


def refuse_unsavable(cfg: DictConfig) -> None:
    """Raise UserError where `save_config` would, as yaml or as Python."""
    refuse_lost_names(plain_config(cfg))


def absolute_paths(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` that means the same from any folder and in any environment.

    The paths of the data, the output and the weights are absolute; interpolations that read the environment are
    replaced by what they give, others stay.
    """
    cfg = copy.deepcopy(cfg)
    for parent, key, text in list(_strings(cfg)):
        _resolve_environment(parent, key, text)
    for path in PATHS:
        folder, _, key = path.rpartition(".")
        parent = OmegaConf.select(cfg, folder, throw_on_resolution_failure=False)
        value = OmegaConf.select(cfg, path, throw_on_resolution_failure=False)
        if isinstance(value, str | Path):
            _make_absolute(parent, key, str(value))
    return cfg


def expand_home(cfg: DictConfig) -> None:
    """Replace, in place, `~` at the beginning of paths, which a shell leaves alone behind a `=`."""
    for path in PATHS:
        value = OmegaConf.select(cfg, path, throw_on_resolution_failure=False)
        if isinstance(value, str) and value.startswith("~"):
            OmegaConf.update(cfg, path, os.path.expanduser(value))


def _strings(node: DictConfig | ListConfig) -> Iterator[tuple[Any, Any, str]]:
    """Container, key and text of each string, interpolations as they are written."""
    content = written(node)
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            child = content[key]
            if isinstance(child, DictConfig | ListConfig):
                yield from _strings(child)
            if isinstance(written(child), str):
                yield node, key, written(child)


def _resolve_environment(parent: Any, key: Any, text: str) -> None:
    """Replace each interpolation in `text` that reads the environment, unless that fails."""

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
                # A text that is nothing but one interpolation may stand for a number.
                whole = INTERPOLATION.fullmatch(text)
                parent[key] = value_of(text) if whole else INTERPOLATION.sub(text_of, text)
            except OmegaConfBaseException:
                parent[key] = text


def _make_absolute(parent: Any, key: str, path: str) -> None:
    if path and "://" not in path and not os.path.isabs(path):
        text = str(written(child_of(parent, key)))
        with read_write(parent):
            # An interpolation may have dots between slashes, which are none of the path's.
            here = escape(os.getcwd())
            parent[key] = (
                os.path.join(here, text)
                if "${" in text
                else os.path.normpath(os.path.join(here, text))
            )
