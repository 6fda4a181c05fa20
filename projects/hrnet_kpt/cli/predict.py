"""Predict keypoints in images and videos: images with skeletons, numbers as json, or both."""

import logging
from argparse import Namespace

from .parser import SKIPPED_SOME, Parser, run_command

TOOL = "tools/predict.py"
EXAMPLES = """
The same command again goes on where it was stopped; a complete .json is left as it is. See docs/prediction.md.
exit status: 0 done; 2 wrong input; 3 done, but some inputs could not be read; 130, 143 stopped by a signal

examples:
  %(prog)s --run output/demo --input photos --output output/images
  %(prog)s --config-file hrnet_w18_kpt.py --weights w18.pth --input "*.jpg" clip.mp4 --json found.jsonl
  %(prog)s --run output/demo --input val2017 --json results.json --annotations val2017.json
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a path, or a name in configs/")
    add("--weights", default="", metavar="FILE", help="a checkpoint of the whole model")
    add("--run", default="", metavar="FOLDER", help="a run folder, instead of these two")
    inputs = "images, videos, folders with their subfolders, patterns, @LIST of paths"
    add("--input", dest="inputs", required=True, nargs="+", metavar="PATH", help=inputs)
    add(
        "--output", default="", metavar="FOLDER", help="for images and videos, called as the inputs"
    )
    formats = ".json: COCO's results; .jsonl: a line for each image or frame"
    add("--json", default="", metavar="FILE", help=formats)
    ids = "COCO-format json with the ids of images and classes for --json FILE.json"
    add("--annotations", default="", metavar="FILE", help=ids)
    lowest = "lowest score (default: 0.5 in images, in json all that the config lets through)"
    add("--score-thresh", dest="threshold", type=float, metavar="S", help=lowest)
    sizes = "images at a time (default: 1 on the CPU, 4 on a GPU)"
    add("--batch-size", type=int, metavar="N", help=sizes)
    add("--device", default="", help="cuda, cpu, ... (default: the config's)")
    add(
        "--restart", action="store_true", help="do anew what is there already, a complete .json too"
    )
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..inference.predict.app import predict

    logging.basicConfig(format="warning: %(message)s")
    return SKIPPED_SOME if predict(args) else 0
