"""Look inside a model: its modules and their parameters, what each part puts out, and what it costs."""

import logging
import sys
from argparse import Namespace
from contextlib import redirect_stdout

from .parser import Parser, run_command

TOOL = "tools/inspect_model.py"
EXAMPLES = """
Without --structure, --outputs and --flops, all three are shown.

examples:
  %(prog)s --config-file hrnet_w18_kpt.py
  %(prog)s --config-file hrnet_w18_kpt.py --flops --size 800x1333 model.backbone.out_channels=128
  %(prog)s --config-file output/w18/config.yaml --outputs --weights output/w18/model_final.pth --json
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--structure", action="store_true", help="modules, with the numbers of their parameters")
    add("--outputs", action="store_true", help="what the parts put out for a drawn picture")
    add("--flops", action="store_true", help="multiply-accumulates of each part")
    add("--depth", type=int, default=3, metavar="N", help="levels of modules (default: 3)")
    add("--size", default="480x640", metavar="HxW", help="of the picture (default: %(default)s)")
    add("--weights", default="", metavar="FILE", help="weights to load (default: random ones)")
    add("--json", action="store_true", help="print one JSON document instead of text")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..analysis.inspect.inspection import SECTIONS, inspect_model, print_inspection
    from ..config import load_config

    logging.basicConfig(format="warning: %(message)s")
    sections = [name for name in SECTIONS if getattr(args, name)] or SECTIONS
    with redirect_stdout(sys.stderr):  # what a config or a model of one's own prints
        cfg = load_config(args.config_file, args.overrides)
        inspection = inspect_model(cfg, sections, args.depth, args.size, args.weights)
    print_inspection(*inspection, args.json)
