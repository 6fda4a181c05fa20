"""Loads a config file, applies overrides, and reads the keypoints and classes of the data."""

from __future__ import annotations

import ast
import builtins
import copy
import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, one_line, refuse_errors
from .diff import Difference, differences
from .overrides import apply_overrides
from .resolve import resolve_labels
from .save import expand_home
from .structure import check_structure

logger = logging.getLogger(__name__)

# The right side of an assignment that is not a dict or a node.
PLAIN = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.UnaryOp, ast.BinOp, ast.JoinedStr)

PAGE_NODES = ("data", "dataloader", "inference", "lr_multiplier", "model", "optimizer", "train")


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Load a config file, apply overrides, and resolve the keypoints and classes of the data.

    If data.keypoints or data.classes is `auto`, the categories of `data.test.annotations` are read, or those of
    `data.train.annotations`. If neither file exists, COCO's person with 17 keypoints is used, with a warning.

    Args:
        name: A file that exists, otherwise the name of a file in this repository's `configs/`, otherwise in the
            installed package's. Python (LazyConfig) or yaml, which is read as plain data.
        overrides: "key=value" replaces, "+key=value" adds, "~key" deletes. The last one wins.

    Raises:
        UserError: If the file cannot be loaded, an override cannot be applied, the annotations cannot be read, or a
            node has arguments that its callable does not have. A ValueError with a one-line message.
    """
    cfg, _ = load_with_changes(name, overrides)
    if "keypoints" in (cfg.get("data") or {}):
        resolve_labels(cfg)
    return cfg


def load_page(name: str | Path) -> tuple[Any, ...]:
    """Load a config file for another one, in any folder, that changes some of its values.

    Args:
        name: The name of a file in `configs/`, otherwise a path.

    Returns:
        data, dataloader, inference, lr_multiplier, model, optimizer and train, in this order.
    """
    page = LazyConfig.load(str(find_page(name)))
    return tuple(page[node] for node in PAGE_NODES)


def load_with_changes(
    name: str | Path, overrides: Sequence[str] = ()
) -> tuple[DictConfig, list[Difference]]:
    """Load a config as `load_config` does, without resolving `auto`, which a run does itself.

    Returns:
        The config, and what the overrides changed in it.
    """
    path = find_config(name)
    original = _read_yaml(path) if path.suffix in (".yaml", ".yml") else _read_python(path)
    cfg = copy.deepcopy(original)
    apply_overrides(cfg, overrides)
    changes = differences(original, cfg)
    refuse_errors(check_structure(cfg))
    expand_home(cfg)
    return cfg, changes


def config_folders() -> list[Path]:
    """The folders of configs: this repository's `configs/`, then the installed package's."""
    package = Path(__file__).resolve().parents[1]
    return [package.parents[1] / "configs", package / "configs"]


def find_config(name: str | Path) -> Path:
    """The path of a config file given by path or by its name in `configs/`."""
    folders = config_folders()
    for path in (Path(os.path.expanduser(name)), *(folder / name for folder in folders)):
        if path.is_file():
            return path
    shipped = sorted({path.name for folder in folders for path in folder.glob("*.py")})
    close = difflib.get_close_matches(Path(name).name, shipped, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    known = ", ".join(shipped)
    raise UserError(
        f"config file {str(name)!r} does not exist{meant}: give a path, or one of {known}"
    )


def find_page(name: str | Path) -> Path:
    """As find_config, but a file in `configs/` comes before one of the same name in the current folder."""
    shipped = (folder / name for folder in config_folders())
    return next((path for path in shipped if path.is_file()), None) or find_config(name)


def _read_python(path: Path) -> DictConfig:
    import_function = builtins.__import__
    try:
        alias_moved_modules(path.read_text(encoding="utf-8"))
        cfg: DictConfig = LazyConfig.load(str(path))
    except Exception as error:
        # detectron2's SyntaxError, perhaps of an imported file, has neither line nor reason.
        mistake = error.__cause__ if isinstance(error, SyntaxError) else None
        reason = f" ({mistake.msg})" if isinstance(mistake, SyntaxError) else ""
        where = f"{path}{_line(mistake or error)}"
        raise UserError(f"config file {where} does not load: {one_line(error)}{reason}") from error
    finally:
        # detectron2 patches it, and leaves it patched after an error.
        builtins.__import__ = import_function
    ignored = [name for name in dict.fromkeys(_plain_names(path)) if name not in cfg]
    if ignored:
        logger.warning(
            "%s: values at the top level are ignored, as only dicts and nodes are part of a config: %s; set a key, "
            "as in train.max_iter = 100, or rename a helper to _%s",
            path,
            ", ".join(ignored),
            ignored[0],
        )
    return cfg


def _plain_names(path: Path) -> Iterator[str]:
    """Names at the top level of a config file that have plain values, or come from other config files."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        names: list[str] = []
        if isinstance(statement, ast.ImportFrom) and statement.level:
            names = [alias.asname or alias.name for alias in statement.names]
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, PLAIN):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0] not in "_*")


def _read_yaml(path: Path) -> DictConfig:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise UserError(f"config file {path} is not a config: its top level must be a mapping")
        return OmegaConf.create(with_moved_targets(content), flags={"allow_objects": True})
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"config file {path} does not load: {one_line(error)}") from error


def _line(error: BaseException) -> str:
    """The innermost line of a config file in an error's traceback."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if f.name == "<module>" and f.filename.endswith(".py")]
    return f", line {lines[-1].lineno}" if lines else ""


# Modules of older versions, which saved configs name.
MOVED = {
    "hrnet_kpt.data.keypoints": "hrnet_kpt.data.schema",
    "hrnet_kpt.data.labels": "hrnet_kpt.data.categories",
    "hrnet_kpt.engine.evaluator": "hrnet_kpt.evaluation.evaluator",
    "hrnet_kpt.engine.parameters": "hrnet_kpt.engine.optim",
    "hrnet_kpt.engine.schedule": "hrnet_kpt.engine.optim",
    "hrnet_kpt.inference.augmentation": "hrnet_kpt.inference.tta",
    "hrnet_kpt.modeling.poolers": "hrnet_kpt.modeling.layers",
}


def with_moved_targets(node: Any) -> Any:
    """Plain content of a config, with each `_target_` in its present module."""
    if isinstance(node, dict):
        content = {key: with_moved_targets(child) for key, child in node.items()}
        if isinstance(content.get("_target_"), str):
            module, _, name = content["_target_"].rpartition(".")
            content["_target_"] = f"{MOVED.get(module, module)}.{name}"
        return content
    return [with_moved_targets(child) for child in node] if isinstance(node, list) else node


def alias_moved_modules(source: str) -> None:
    """Let the source of a config import names from the modules of older versions."""
    for old, new in MOVED.items():
        if f"from {old} import" in source:
            sys.modules[old] = importlib.import_module(new)
