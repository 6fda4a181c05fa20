"""From a YAML of YACS to a LazyConfig file: the work of tools/from_yacs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UserError
from ...io import replace_text
from . import (
    detectron2_keys,
    detectron2_rules,
    maskrcnn_benchmark_keys,
    maskrcnn_benchmark_rules,
)
from .reading import closest, read_flat
from .translation import Translation
from .writing import changes, python_file

DIALECTS = ("detectron2", "maskrcnn-benchmark")


def convert_yaml(source: str, output: str) -> list[str]:
    """Write the LazyConfig file that builds what a YAML of YACS does; return lines that tell what became of its keys.

    Raises UserError where the YAML cannot be read, is of neither codebase, or asks for what has no equivalent.
    """
    target = Path(output)
    if target.suffix != ".py":
        raise UserError(f"--output {output}: a LazyConfig file is called NAME.py")
    given = read_flat(Path(source))
    dialect, keys, rules, known = _dialect(given, source)
    elsewhere = [key for key in given if keys.is_of_another_model(key)]
    unknown = {k: value for k, value in given.items() if k not in known and k not in elsewhere}
    result: Translation = rules.translate({**known, **{k: given[k] for k in given if k in known}})
    notes = _notes(given, result, keys)
    for key in elsewhere:
        notes[key] = "of another model"
    changed = changes(result)
    comments = []
    if notes:
        comments.append("Without an equivalent of its own:")
        comments += [f"{key}={given[key]!r}: {text}" for key, text in notes.items()]
    if unknown:
        comments.append(f"Unknown to {dialect}, and not translated:")
        for key, value in unknown.items():
            near = closest(key, known)
            comments.append(f"{key}={value!r}{f' (is it {near}?)' if near else ''}")
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_text(target, python_file(result, changed, Path(source), target, comments))
    lines = [
        f"{source}: {len(given)} keys of {dialect}; {output}: {result.page} and {len(changed)} settings"
    ]
    lines += [f"no equivalent: {key}: {text}" for key, text in notes.items()]
    lines += [f"unknown, not translated: {key}={value!r}" for key, value in unknown.items()]
    return lines


def _dialect(given: dict[str, Any], source: str) -> tuple[str, Any, Any, dict[str, Any]]:
    """The codebase that knows most of the keys, its tables, its rules, and its keys with their defaults."""
    keys: tuple[Any, ...] = (detectron2_keys, maskrcnn_benchmark_keys)
    rules: tuple[Any, ...] = (detectron2_rules, maskrcnn_benchmark_rules)
    tables = [module.defaults() for module in keys]
    counts = [sum(key in table for key in given) for table in tables]
    best = counts.index(max(counts))
    if not given or 2 * counts[best] < len(given):
        raise UserError(
            f"{source}: {counts[best]} of its {len(given)} keys are known to {' or '.join(DIALECTS)}: give a YAML of "
            "one of them"
        )
    return DIALECTS[best], keys[best], rules[best], tables[best]


def _notes(given: dict[str, Any], result: Translation, keys: Any) -> dict[str, str]:
    """For the keys that the YAML sets and nothing here takes, what replaces them."""
    said = {**keys.NOTES, **result.notes}
    return {key: said[key] for key in given if key in said}
