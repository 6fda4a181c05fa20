#!/usr/bin/env python
"""Write a LazyConfig file that builds what a YAML of detectron2, maskrcnn-benchmark or its HRNet copy does."""

import sys

from hrnet_kpt.command_line import Parser, run_tool

EXAMPLES = """
Faster, Mask and Keypoint R-CNN with ResNet and FPN, or HRNet and HRFPN. The file builds on a page of configs/ and
changes what differs; comments at its end tell what replaces keys that have no equivalent, and name unknown keys.
docs/migration.md has all keys.

examples:
  tools/from_yacs.py --input e2e_faster_rcnn_hrnet_w18_1x.yaml --output configs/faster_w18.py
  tools/from_yacs.py --input keypoint_rcnn_R_50_FPN_3x.yaml --output configs/keypoint_r50.py
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE.yaml", help="the YAML; files in its _BASE_ too")
    add("--output", required=True, metavar="FILE.py", help="the config, in configs/ or elsewhere")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> None:
        from hrnet_kpt.config.yacs.convert import convert_yaml

        print(*convert_yaml(args.input, args.output), sep="\n")

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
