"""Converts a YAML of YACS to a LazyConfig file, for tools/from_yacs.py."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ...errors import UserError
from ...io import replace_text
from ..keys import child_of, written
from ..load import PAGE_NODES, find_config
from ..signatures import annotation_and_default, target_of
from . import detectron2_yaml, maskrcnn_benchmark_yaml
from .translation import Code, Translation, read_flat

CODEBASES: dict[str, Any] = {
    "detectron2": detectron2_yaml,
    "maskrcnn-benchmark": maskrcnn_benchmark_yaml,
}
WIDTH = 100


def convert_yaml(source: str, output: str) -> list[str]:
    """Write the LazyConfig file that builds what a YAML of YACS does.

    Returns:
        Lines that report what became of the YAML's keys.

    Raises:
        UserError: If the YAML cannot be read, is of neither codebase, or has values without an equivalent.
    """
    target = Path(output)
    if target.suffix != ".py":
        raise UserError(f"--output {output}: the name of a LazyConfig file must end in .py")
    given = read_flat(Path(source))
    name = _codebase(given, source)
    codebase = CODEBASES[name]
    known = {key: value for key, value in given.items() if key in codebase.DEFAULTS}
    translation: Translation = codebase.translate({**codebase.DEFAULTS, **known})
    replaced = {**codebase.NOTES, **translation.notes}
    notes = {key: replaced[key] for key in given if key in replaced}
    others = [key for key in given if key.startswith(codebase.OTHER_MODELS)]
    notes |= dict.fromkeys(others, "only for other models")
    unknown = {k: value for k, value in given.items() if k not in known and k not in others}
    comments = []
    if notes:
        comments.append("Without an equivalent:")
        comments += [f"{key}={given[key]!r}: {text}" for key, text in notes.items()]
    if unknown:
        comments.append(f"Unknown to {name}, not translated:")
        for key, value in unknown.items():
            close = difflib.get_close_matches(key, codebase.DEFAULTS, n=1, cutoff=0.8)
            meant = f" (did you mean {close[0]}?)" if close else ""
            comments.append(f"{key}={value!r}{meant}")
    page = find_config(translation.page)
    cfg = LazyConfig.load(str(page))
    changed = {k: v for k, v in translation.settings.items() if not _has(cfg, k, v)}
    target.parent.mkdir(parents=True, exist_ok=True)
    docstring = f'"""The settings of {Path(source).name}, on {page.name}."""'
    replace_text(
        target, _python_file(docstring, page, target, changed, translation.reasons, comments)
    )
    return [
        f"{source}: {len(given)} keys of {name}; {output}: {page.name} and {len(changed)} settings",
        *(f"no equivalent: {key}: {text}" for key, text in notes.items()),
        *(f"unknown, not translated: {key}={value!r}" for key, value in unknown.items()),
    ]


def _codebase(given: Mapping[str, Any], source: str) -> str:
    """The codebase that knows most of the keys."""
    counts = {name: len(given.keys() & module.DEFAULTS) for name, module in CODEBASES.items()}
    best = max(counts, key=counts.__getitem__)
    if not given or 2 * counts[best] < len(given):
        raise UserError(
            f"{source}: {counts[best]} of its {len(given)} keys are known to {' or '.join(CODEBASES)}: use a YAML of "
            "one of them"
        )
    return best


def _python_file(
    docstring: str,
    page: Path,
    output: Path,
    changed: Mapping[str, Any],
    reasons: Mapping[str, str],
    comments: Sequence[str],
) -> str:
    """The source of the config file, which imports the page if it lies beside it, and loads it otherwise."""
    import black

    codes = [value for value in changed.values() if isinstance(value, Code)]
    imports = {line for code in codes for line in code.imports}
    if output.resolve().parent == page.resolve().parent:
        load = f"from .{page.stem} import {', '.join(PAGE_NODES)}"
    else:
        imports.add("from hrnet_kpt.config import load_page")
        load = f'{", ".join(PAGE_NODES)} = load_page("{page.name}")'
    assignments = []
    for key, value in changed.items():
        first, *parts = key.split(".")
        target = first + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
        if key in reasons:
            assignments.append(f"# {reasons[key]}")
        assignments.append(f"{target} = {value.text if isinstance(value, Code) else repr(value)}")
    body = [
        docstring,
        "\n".join(sorted(imports, key=lambda line: ("hrnet_kpt" in line, line))),
        load,
        "\n".join(assignments),
        "\n".join(f"# {line}" for text in comments for line in textwrap.wrap(text, WIDTH - 2)),
    ]
    source = "\n\n".join(part for part in body if part) + "\n"
    return black.format_str(source, mode=black.Mode(line_length=WIDTH))


def _has(page: DictConfig, key: str, value: Any) -> bool:
    """Whether the page has this value, or leaves the key to an equal default of the callee."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(page, parent)
    if isinstance(value, Code) or not OmegaConf.is_config(node):
        return False
    present = OmegaConf.select(page, key)
    if present is None and isinstance(node, DictConfig):
        _, present = annotation_and_default(target_of(node), name)
    if isinstance(present, DictConfig) and "_target_" in present:
        return bool(_without_data(name, present) == value)
    if OmegaConf.is_config(present):
        present = OmegaConf.to_container(present, resolve=True)
    elif isinstance(present, tuple):
        present = list(present)
    return bool(present == value or written(child_of(node, name)) == value)


def _without_data(name: str, node: DictConfig) -> Any:
    """The count that a node computes if there are no data to read: COCO's."""
    if name == "num_classes":
        return node.get("unresolved", 1)
    return 17 if name == "num_keypoints" else None
