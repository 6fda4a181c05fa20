"""From a YAML of YACS to a LazyConfig file: the work of tools/from_yacs.py."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ...errors import UserError
from ...io import replace_text
from ..load import find_config
from . import (
    detectron2_keys,
    detectron2_rules,
    maskrcnn_benchmark_keys,
    maskrcnn_benchmark_rules,
)
from .translation import Code, Translation, closest, read_flat

DIALECTS = ("detectron2", "maskrcnn-benchmark")
WIDTH = 100
NODES = ("data", "dataloader", "inference", "lr_multiplier", "model", "optimizer", "train")
# What is so where a page does not say: defaults of the callee.
ABSENT: dict[str, Any] = {
    "model.backbone.norm": "",
    "model.backbone.fuse_type": "sum",
    "model.proposal_generator.min_box_size": 0,
    "model.proposal_generator.anchor_boundary_thresh": -1,
    "model.proposal_generator.box_reg_loss_type": "smooth_l1",
    "model.proposal_generator.smooth_l1_beta": 0.0,
    "model.proposal_generator.loss_weight": 1.0,
    "model.proposal_generator.head.conv_dims": [-1],
    "model.roi_heads.proposal_append_gt": True,
    "model.roi_heads.train_on_pred_boxes": False,
    "model.roi_heads.box_predictor.test_nms_thresh": 0.5,
    "model.roi_heads.box_predictor.test_topk_per_image": 100,
    "model.roi_heads.box_predictor.box_reg_loss_type": "smooth_l1",
    "model.roi_heads.box_predictor.cls_agnostic_bbox_reg": False,
    "model.roi_heads.box_predictor.use_sigmoid_ce": False,
    "model.roi_heads.box_predictor.loss_weight": 1.0,
    "model.roi_heads.box_head.conv_norm": "",
    "model.roi_heads.mask_head.conv_norm": "",
    "model.roi_heads.keypoint_head.loss_weight": 1.0,
    "optimizer.nesterov": False,
    "optimizer.params.bias_lr_factor": 1.0,
    "optimizer.params.weight_decay_bias": None,
}


def convert_yaml(source: str, output: str) -> list[str]:
    """Write the LazyConfig file that builds what a YAML of YACS does; return lines that tell what became of its keys.

    Raises:
        UserError: Where the YAML cannot be read, is of neither codebase, or asks for what has no equivalent.
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
    changed = _changes(result)
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
    replace_text(target, _python_file(result, changed, Path(source), target, comments))
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


def _changes(translation: Translation) -> dict[str, Any]:
    """Those settings that the page does not have so already."""
    page = LazyConfig.load(str(find_config(translation.page)))
    return {p: v for p, v in translation.settings.items() if not _has(page, p, v)}


def _python_file(
    translation: Translation,
    changed: Mapping[str, Any],
    source: Path,
    output: Path,
    notes: Sequence[str],
) -> str:
    """The source text.

    Args:
        changed: The settings to write.
        source: The YAML.
        output: Where the text will be; beside the pages it imports them.
        notes: Comments for its end.
    """
    imports = {
        line for value in changed.values() if isinstance(value, Code) for line in value.imports
    }
    page = find_config(translation.page)
    stem = page.stem
    if output.resolve().parent == page.resolve().parent:
        load = f"from .{stem} import {', '.join(NODES)}"
        if len(load) > WIDTH:
            load = f"from .{stem} import (\n" + "".join(f"    {name},\n" for name in NODES) + ")"
        bindings = ""
    else:
        imports |= {
            "from detectron2.config import LazyConfig",
            "from hrnet_kpt.config.load import find_config",
        }
        load = ""
        bindings = f'_page = LazyConfig.load(str(find_config("{page.name}")))\n'
        bindings += "\n".join(f"{name} = _page.{name}" for name in NODES)
    lines = _assignments(changed, translation.reasons)
    body = [
        f'"""What {source.name} sets, on {page.name}."""',
        "\n".join(_sorted_imports(imports)),
        load,
        bindings,
        "\n".join(lines),
        "\n".join(f"# {line}" for note in notes for line in textwrap.wrap(note, WIDTH - 2)),
    ]
    return "\n\n".join(part for part in body if part) + "\n"


def _sorted_imports(imports: Iterable[str]) -> list[str]:
    return sorted(imports, key=lambda line: ("hrnet_kpt" in line, line))


def _assignments(changed: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    lines = []
    for path, value in changed.items():
        reason = f"  # {reasons[path]}" if path in reasons else ""
        text = value.text if isinstance(value, Code) else _literal(value)
        lines.append(f"{_target(path)} = {text}{reason}")
    return lines


def _target(path: str) -> str:
    """A path as Python has it: numbers are indices of lists."""
    parts = path.split(".")
    return parts[0] + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts[1:])


def _literal(value: Any) -> str:
    """A plain value with double quotes."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _has(page: DictConfig, path: str, value: Any) -> bool:
    """Whether the page has this value at this path, or leaves it to a default that is the same."""
    if isinstance(value, Code):
        return False
    present = OmegaConf.select(page, path)
    if isinstance(present, DictConfig) and "_target_" in present:
        return bool(_computed(path, present) == value)
    if OmegaConf.is_config(present):
        present = OmegaConf.to_container(present, resolve=True)
    elif present is None:
        return bool(value == ABSENT.get(path))
    raw = _raw(page, path)
    return bool(present == value or raw == value)


def _raw(page: DictConfig, path: str) -> Any:
    parent, _, name = path.rpartition(".")
    node = OmegaConf.to_container(OmegaConf.select(page, parent) or OmegaConf.create())
    return node.get(name) if isinstance(node, dict) else None


def _computed(path: str, node: DictConfig) -> Any:
    """What a node that counts comes to where no data are there to read: COCO's."""
    if path.endswith(".num_classes"):
        return node.get("unresolved", 1)
    return 17 if path.endswith(".num_keypoints") else None
