"""Rank unlabelled images by what their labels would teach: doubtful keypoints and boxes, mirror images that differ."""

from argparse import Namespace

from .parser import SKIPPED_SOME, Parser, run_command

TOOL = "tools/rank_images.py"
EXAMPLES = """
writes OUT/ranking.csv, OUT/images.txt (the paths in this order) and OUT/ranking.jpg, a sheet of the first ones; see
docs/labelling.md
exit status: 0 done; 2 invalid input; 3 done, but some images could not be read

examples:
  %(prog)s --run output/demo --input photos --output output/ranking
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--run", required=True, metavar="FOLDER", help="a run, whose model is in doubt")
    inputs = "images, folders with their subfolders, patterns, @FILE with a list of paths"
    add("--input", dest="inputs", required=True, nargs="+", metavar="PATH", help=inputs)
    add("--output", required=True, metavar="OUT", help="a folder for the ranking")
    add("--device", default="", help="cuda, cpu, ... (default: the config's)")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    import logging
    import sys
    from pathlib import Path

    from ..analysis.ranking.run import rank_images
    from ..inference.predict.inputs import split_overrides

    logging.basicConfig(format="warning: %(message)s")
    # --input takes all words that follow, overrides too.
    words, overrides = split_overrides(args.inputs)
    problems = rank_images(
        args.run, words, Path(args.output), args.device, [*overrides, *args.overrides]
    )
    if problems:
        print("skipped:", *problems, sep="\n  ", file=sys.stderr)
    return SKIPPED_SOME if problems else 0
