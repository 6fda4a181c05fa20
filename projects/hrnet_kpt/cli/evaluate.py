"""Evaluate a checkpoint on the test set of a config."""

from . import train
from .parser import Parser, run_command

PROG = "hrnet-kpt evaluate"
EXAMPLES = """
The same as `hrnet-kpt train --eval-only`. The results are written to inference/ in the run folder:
coco_instances_results.json has detections in COCO's format, and evaluation.json has AP, PCK and NME.

exit status: 0 done; 2 invalid input; 3 done, but some images could not be read

examples:
  %(prog)s --config-file output/w18/config.yaml --resume
  %(prog)s --config-file hrnet_w18_kpt.py train.init_checkpoint=output/w18/model_final.pth
  %(prog)s --config-file hrnet_w18_kpt.py train.init_checkpoint=output/w18/model_final.pth \\
      inference.tta.enabled=true train.output_dir=output/w18_tta
  %(prog)s --config-file hrnet_w18_kpt.py train.init_checkpoint=output/w18/model_final.pth \\
      data.test.annotations=mine.json data.test.images=photos train.output_dir=output/w18_mine
"""


def parser(prog: str = PROG) -> Parser:
    parser = train.parser(prog, __doc__, EXAMPLES)
    parser.set_defaults(eval_only=True)
    return parser


def main(argv: list[str] | None = None, prog: str = PROG) -> int:
    return run_command(parser(prog), argv, train.run)
