"""Write a config for a data set of your own: sizes, anchors, iterations, each with the reason in a comment."""

from __future__ import annotations

import logging
from argparse import Namespace

from .parser import Parser, run_command

TOOL = "tools/new_config.py"
EXAMPLES = """
The data are checked first: errors end the command, with exit status 2. The times of iterations are kept in
~/.cache/hrnet_kpt/step_times.json, so that the same data give the same file.

examples:
  %(prog)s --data photographs --minutes 30 --output configs/mine.py
  %(prog)s --data train.json --test test.json --output configs/mine.py
  %(prog)s --data photographs --minutes 30 --output configs/mine.py --train
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    data = "a folder with train.json and test.json, a COCO-format json, or a data set in another layout"
    add("--data", required=True, metavar="PATH", help=data)
    add("--test", metavar="PATH", help="the json of the test set, if --data is a json")
    add("--images", metavar="DIR", help="the folder of the images (default: where they are found)")
    add(
        "--format",
        metavar="NAME",
        help="the layout, as of import-data (default: recognized)",
    )
    add("--output", required=True, metavar="FILE.py", help="the config to write")
    add("--minutes", type=float, metavar="M", help="time of a training, from its start to its end")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    add("--base", metavar="PAGE", help="the config to change (default: by the machine)")
    add("--overwrite", action="store_true", help="replace a file that was changed by hand")
    add("--time-again", action="store_true", help="measure the time of iterations again")
    add("--train", action="store_true", help="go on with the training")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..analysis.new_config import new_config
    from . import train

    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    options = {name: value for name, value in vars(args).items() if name not in ("debug", "train")}
    path = new_config(options.pop("data"), options.pop("output"), **options)
    if args.train:
        return train.run(train.parser().parse_args(["--config-file", str(path)]))
    print(f"train it: hrnet-kpt train --config-file {path}")
    return 0
