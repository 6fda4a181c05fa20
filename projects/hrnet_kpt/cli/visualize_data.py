"""Draw a data set: annotated and augmented images (data.png), predictions beside ground truth (predictions.png)."""

from argparse import Namespace
from pathlib import Path

from .parser import SKIPPED_SOME, Parser, run_command

TOOL = "tools/visualize_data.py"
EXAMPLES = """
examples:
  %(prog)s --config-file hrnet_w18_kpt.py
  %(prog)s --config-file output/w18/config.yaml \\
      --results output/w18/inference/coco_instances_results.json
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--split", choices=("train", "test"), default="train", help="(default: train)")
    add("--num", type=int, default=6, metavar="N", help="images (default: 6)")
    add("--seed", type=int, default=0, metavar="S", help="of the choice of images (default: 0)")
    add("--results", type=Path, metavar="FILE", help="COCO-format results on the test set")
    default = "output/drawings"
    add("--output", type=Path, default=default, metavar="FOLDER", help=f"(default: {default})")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..config import load_config
    from ..engine.setup import check_data_files, generate_data, set_up_logging
    from ..visualization.data_sheets import draw_comparison, draw_data

    set_up_logging()
    cfg = load_config(args.config_file, args.overrides)
    splits = sorted({args.split, "test"} if args.results else {args.split})
    check_data_files(cfg, *splits)
    generate_data(cfg, *splits)
    skipped, choice = [], (args.num, args.seed)
    if args.results:
        skipped += draw_comparison(cfg, args.results, *choice, args.output / "predictions.png")
        print(f"ground truth and predictions: {args.output / 'predictions.png'}")
    skipped += draw_data(cfg, args.split, *choice, args.output / "data.png")
    print(f"original and augmented images: {args.output / 'data.png'}")
    return SKIPPED_SOME if skipped else 0
