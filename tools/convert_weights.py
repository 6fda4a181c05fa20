#!/usr/bin/env python
"""Convert HRNet weights of other codebases into a file that train.init_checkpoint takes, and join several."""

import sys

from hrnet_kpt.command_line import Parser, run_tool

EXAMPLES = """
Layouts: torchvision, detectron2, hrnet_kpt, maskrcnn-benchmark, hrnet-object-detection, mmdet, mmpose, pose, timm
(HRNet-Image-Classification's files too). docs/weights.md tells where to get them. Training converts by itself; this is
for looking at a file and for joining files.

examples:
  tools/convert_weights.py --input hrnetv2_w18.pth --output w18.safetensors
  tools/convert_weights.py --input mask_rcnn_hrnetv2p_w18.pth --output w18.pth --config-file configs/hrnet_w18_kpt.py
  tools/convert_weights.py --input hrnetv2_w18.pth model_final_a6e10b.pkl --output start.safetensors
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="CKPT", help="files, URLs; the first counts")
    add("--output", required=True, metavar="FILE", help="a .safetensors or .pth file")
    add("--layout", default="auto", metavar="NAME", help="of the input (default: recognised)")
    add("--config-file", default="", metavar="FILE", help="fit the classes and parts of its model")
    add("--to", default="hrnet_kpt", metavar="NAME", help="timm: the trunk alone, as timm names it")
    add("--allow-pickle", action="store_true", help="accepted as before: arrays need no word")
    add("--add-hash", action="store_true", help="NAME-0123abcd.pth, verified when it is loaded")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_intermixed_args(argv)

    def work() -> None:
        import logging

        from hrnet_kpt.engine.conversion import convert_files

        logging.basicConfig(format="warning: %(message)s")
        options = {"target": args.to, "add_hash": args.add_hash}
        config = {"config_file": args.config_file, "overrides": args.overrides}
        lines = convert_files(args.input, args.output, layout=args.layout, **config, **options)
        print(*lines, sep="\n")

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
