"""Inspect a model: modules and parameters, outputs of each part, and multiply-accumulates."""

import json
import logging
import sys
from argparse import Namespace
from contextlib import redirect_stdout

from .parser import Parser, run_command

TOOL = "tools/inspect_model.py"
EXAMPLES = """
Without --structure, --outputs and --flops, all three are printed.

examples:
  %(prog)s --config-file hrnet_w18_kpt.py
  %(prog)s --config-file hrnet_w18_kpt.py --flops --size 800x1333 model.backbone.out_channels=128
  %(prog)s --config-file output/w18/config.yaml --outputs --weights output/w18/model_final.pth --json
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--structure", action="store_true", help="modules, with their numbers of parameters")
    add("--outputs", action="store_true", help="outputs of each part for a synthetic image")
    add("--flops", action="store_true", help="multiply-accumulates of each part")
    add("--depth", type=int, default=3, metavar="N", help="levels of modules (default: 3)")
    add("--size", default="480x640", metavar="HxW", help="of the image (default: %(default)s)")
    add("--weights", default="", metavar="FILE", help="a checkpoint (default: random weights)")
    add("--json", action="store_true", help="print one JSON document instead of text")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..analysis.inspect.inspection import SECTIONS, inspect_model, inspection_text
    from ..config import load_config

    logging.basicConfig(format="warning: %(message)s")
    sections = [name for name in SECTIONS if getattr(args, name)] or SECTIONS
    with redirect_stdout(sys.stderr):  # what a user's config or model prints
        cfg = load_config(args.config_file, args.overrides)
        document, failures = inspect_model(cfg, sections, args.depth, args.size, args.weights)
    text = (
        json.dumps(document, indent=1, allow_nan=False) if args.json else inspection_text(document)
    )
    print(text)
    if failures:
        raise failures[0]
