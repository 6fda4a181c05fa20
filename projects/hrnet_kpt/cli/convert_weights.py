"""Convert HRNet weights of other codebases: one file that train.init_checkpoint takes, of one or of several."""

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
(HRNet-Image-Classification's files too). docs/weights.md tells where to get them. Training converts by itself; this is
for looking at a file and for joining files.

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
    add("--layout", default="auto", metavar="NAME", help="of the input (default: recognised)")
    add("--config-file", default="", metavar="FILE", help="fit the classes and parts of its model")
    add(
        "--to",
        default="hrnet_kpt",
        metavar="NAME",
        help="timm: the bottom_up alone, as timm names it",
    )
    add("--allow-pickle", action="store_true", help="accepted as before: arrays need no word")
    add("--add-hash", action="store_true", help="NAME-0123abcd.pth, verified when it is loaded")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    logging.basicConfig(format="warning: %(message)s")
    lines = convert_files(
        args.input,
        args.output,
        layout=args.layout,
        config_file=args.config_file,
        overrides=args.overrides,
        target=args.to,
        add_hash=args.add_hash,
    )
    print(*lines, sep="\n")


def convert_files(
    inputs: Sequence[str],
    output: str,
    *,
    layout: str = "auto",
    config_file: str = "",
    overrides: Sequence[str] = (),
    target: str = "hrnet_kpt",
    add_hash: bool = False,
) -> list[str]:
    """Write the weights of `inputs` to `output`, and return what is to be said of them, a line each.

    Args:
        inputs: paths or URLs. A tensor that several have is taken from the first of them.
        output: a .safetensors or .pth file.
        layout: of the inputs, see `layouts.LAYOUTS`; `auto` recognises it file by file.
        config_file, overrides: a config. What is written fits its model, with its classes and keypoints, and has
            nothing more. Without one an HRNet must be whole, and heads are taken as they are. Weights of other
            backbones need it.
        target: `timm` writes the bottom_up alone, under timm's names.
        add_hash: put the beginning of the file's SHA-256 into its name.

    Raises:
        UserError: something cannot be read, does not fit, or cannot be written.
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
    if target != "hrnet_kpt":
        tensors = convert_state_dict(tensors, "hrnet_kpt", target)
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
        return ["settings that go with these weights:", *lines] if lines else []
    differing = differing_settings(cfg, settings)
    if not differing:
        return [f"settings: {config_file} has those that go with these weights"]
    return [f"settings that go with these weights, and {config_file} has others:"] + [
        f"  {text}" for text in differing
    ]
