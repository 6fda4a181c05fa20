"""Convert a YACS config to a LazyConfig file: detectron2, maskrcnn-benchmark, HRNet-MaskRCNN-Benchmark."""

from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/from_yacs.py"
EXAMPLES = """
Faster, Mask and Keypoint R-CNN with ResNet and FPN, or HRNet and HRFPN. The file imports a config of configs/ and sets
what differs; comments at its end list keys without an equivalent, and unknown keys. docs/migration.md has all keys.

examples:
  %(prog)s --input e2e_faster_rcnn_hrnet_w18_1x.yaml --output faster_w18.py
  %(prog)s --input keypoint_rcnn_R_50_FPN_3x.yaml --output keypoint_r50.py
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE.yaml", help="the YAML; _BASE_ files are read, too")
    add("--output", required=True, metavar="FILE.py", help="the config to write")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> None:
    from ..config.yacs.convert import convert_yaml

    print(*convert_yaml(args.input, args.output), sep="\n")
