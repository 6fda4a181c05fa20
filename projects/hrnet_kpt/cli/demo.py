"""Train a small model on synthetic people, evaluate it and draw its predictions: output/demo."""

from __future__ import annotations

from . import train
from .parser import Parser

PROG = "hrnet-kpt demo"
CONFIG = "hrnet_w18_small_kpt_synthetic.py"
EXAMPLES = f"""
It needs no files and no network: it generates the images, in the folder of the variable DETECTRON2_DATASETS, by default
datasets. The same command continues an interrupted run. It is short for
  hrnet-kpt train --config-file {CONFIG} --resume train.output_dir=output/demo

examples:
  %(prog)s
  %(prog)s --output output/short_demo train.max_iter=800
"""


def parser(prog: str = PROG) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--output", default="output/demo", metavar="FOLDER", help="run folder (%(default)s)")
    add("overrides", nargs="*", metavar="key=value", help="override; +key=value adds, ~key deletes")
    return parser


def main(argv: list[str] | None = None, prog: str = PROG) -> int:
    args = parser(prog).parse_intermixed_args(argv)
    words = ["--config-file", CONFIG, "--resume", f"train.output_dir={args.output}"]
    return train.main([*words, *args.overrides, *["--debug"] * args.debug], prog)
