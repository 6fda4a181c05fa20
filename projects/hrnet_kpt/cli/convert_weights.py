"""Convert HRNet weights of other codebases, and join several files: one checkpoint for train.init_checkpoint."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Parser, run_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

TOOL = "tools/convert_weights.py"
EXAMPLES = """
Layouts: torchvision, detectron2, hrnet_kpt, maskrcnn-benchmark, hrnet-object-detection, mmdet, mmpose, pose, timm
(also files of HRNet-Image-Classification). docs/weights.md has their addresses. Training converts by itself; this
command describes a file, and joins files.

examples:
  %(prog)s --input hrnetv2_w18.pth --output w18.safetensors
  %(prog)s --input mask_rcnn_hrnetv2p_w18.pth --output w18.pth --config-file hrnet_w18_kpt.py
  %(prog)s --input hrnetv2_w18.pth model_final_a6e10b.pkl --output start.safetensors
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="CKPT", help="files, URLs; the first counts")
    add("--output", required=True, metavar="FILE", help="a .safetensors or .pth file")
    add("--layout", default="auto", metavar="NAME", help="layout of the input (default: auto)")
    add("--config-file", default="", metavar="FILE", help="keep what fits this config's model")
    add("--to", default="hrnet_kpt", metavar="NAME", help="timm: bottom_up alone, in timm's layout")
    add("--allow-pickle", action="store_true", help="ignored: arrays are always read")
    add("--add-hash", action="store_true", help="write NAME-0123abcd.pth, which loading verifies")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    logging.basicConfig(format="warning: %(message)s")
    names = ("layout", "config_file", "overrides", "to", "add_hash")
    options = {name: getattr(args, name) for name in names}
    print(*convert_files(args.input, args.output, **options), sep="\n")


def convert_files(
    inputs: Sequence[str],
    output: str,
    *,
    layout: str = "auto",
    config_file: str = "",
    overrides: Sequence[str] = (),
    to: str = "hrnet_kpt",
    add_hash: bool = False,
) -> list[str]:
    """Convert the weights of `inputs` and write them to `output`.

    Args:
        inputs: Paths or URLs. Tensors that several have are taken from the first of them.
        output: A .safetensors or .pth file.
        layout: Layout of the inputs, see `layouts.LAYOUTS`; `auto` detects it for each file.
        config_file: A config. Only tensors that its model has, for its classes and keypoints, are written. Without a
            config, an HRNet must be complete, heads are not changed, and other backbones are refused.
        overrides: Overrides of the config.
        to: Layout of the output; `timm` is for the bottom_up alone.
        add_hash: Add the first 8 digits of the file's SHA-256 to its name.

    Returns:
        Lines of text that describe the tensors, the settings that they need, and the file.

    Raises:
        UserError: If a file cannot be read or written, or does not fit the config.
    """
    from ..config import load_config
    from ..config.checks.build import build_or_refuse
    from ..config.resolve import labels_of_config
    from ..weights.convert import convert_state_dict
    from ..weights.join import join_files
    from ..weights.layouts import find_layout
    from ..weights.write import check_output, write_weights

    check_output(Path(output))
    if layout != "auto":
        find_layout(layout)
    cfg = load_config(config_file, overrides) if config_file else None
    model = build_or_refuse(cfg).state_dict() if cfg is not None else {}
    joined = join_files(inputs, model, layout, labels_of_config(cfg) if cfg is not None else None)
    tensors = joined.tensors
    if to != "hrnet_kpt":
        tensors = convert_state_dict(tensors, "hrnet_kpt", to)
    path = write_weights(tensors, Path(output), add_hash, joined.labels)
    return [
        *joined.lines,
        *_settings_lines(cfg, config_file, joined.settings),
        *(f"note: {remark}" for remark in joined.remarks),
        f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1e6:.1f} MB",
    ]


def _settings_lines(
    cfg: DictConfig | None, config_file: str, settings: Mapping[str, Any]
) -> list[str]:
    from ..config.resolve import differing_settings, override
    from ..weights.layouts import BOUNDARY_THRESH

    if cfg is None:
        plus = {BOUNDARY_THRESH: "+"}
        lines = [f"  {plus.get(key, '')}{override(key, value)}" for key, value in settings.items()]
        return ["settings that these weights need:", *lines] if lines else []
    differing = differing_settings(cfg, settings)
    if not differing:
        return [f"settings: {config_file} has those that these weights need"]
    title = f"settings that these weights need, but {config_file} has others:"
    return [title, *(f"  {text}" for text in differing)]
