"""Evaluate a checkpoint on the test images of a LazyConfig file."""

from . import train
from .parser import Parser, run_command

PROG = "hrnet-kpt evaluate"
EXAMPLES = """
The same as `hrnet-kpt train --eval-only`.

examples:
  %(prog)s --config-file output/w18/config.yaml --resume
  %(prog)s --config-file hrnet_w18_kpt.py train.init_checkpoint=output/w18/model_final.pth
"""


def parser(prog: str = PROG) -> Parser:
    parser = train.parser(prog, __doc__, EXAMPLES)
    parser.set_defaults(eval_only=True)
    return parser


def main(argv: list[str] | None = None, prog: str = PROG) -> int:
    return run_command(parser(prog), argv, train.run)
