#!/usr/bin/env python
"""Draw data.png, images as annotated and as the model gets them, and predictions.png, truth and results."""

import sys
from pathlib import Path

from hrnet_kpt.command_line import SKIPPED_SOME, Parser, run_tool

EXAMPLES = """
examples:
  tools/visualize_data.py --config-file configs/hrnet_w18_kpt.py
  tools/visualize_data.py --config-file output/w18/config.yaml \\
      --results output/w18/inference/coco_instances_results.json
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--split", choices=("train", "test"), default="train", help="(default: train)")
    add("--num", type=int, default=6, metavar="N", help="images (default: 6)")
    add("--seed", type=int, default=0, metavar="S", help="another one: other images (default: 0)")
    add("--results", type=Path, metavar="FILE", help="COCO-format results of test images")
    default = "output/pictures"
    add("--output", type=Path, default=default, metavar="FOLDER", help=f"(default: {default})")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_intermixed_args(argv)

    from hrnet_kpt.config import load_config
    from hrnet_kpt.engine.setup import check_data_files, generate_data, set_up_logging
    from hrnet_kpt.visualization.data_sheets import draw_comparison, draw_data

    def work() -> int:
        set_up_logging()
        cfg = load_config(args.config_file, args.overrides)
        splits = sorted({args.split, "test"} if args.results else {args.split})
        check_data_files(cfg, *splits)
        generate_data(cfg, *splits)
        skipped, choice = [], (args.num, args.seed)
        if args.results:
            skipped += draw_comparison(cfg, args.results, *choice, args.output / "predictions.png")
            print(f"truth and prediction: {args.output / 'predictions.png'}")
        skipped += draw_data(cfg, args.split, *choice, args.output / "data.png")
        print(f"original and what the model gets: {args.output / 'data.png'}")
        return SKIPPED_SOME if skipped else 0

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
