#!/usr/bin/env python
"""Tell which errors a model's keypoints have, and what each kind of error costs in AP."""

import sys

from hrnet_kpt.command_line import SKIPPED_SOME, Parser, run_tool

EXAMPLES = """
examples:
  tools/analyze_errors.py --run output/demo
  tools/analyze_errors.py --annotations person_keypoints_val2017.json --images val2017 \\
      --results coco_instances_results.json --output output/errors
"""


def parser() -> Parser:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--run", metavar="FOLDER", help="a run folder that was evaluated; instead of the next two")
    add("--annotations", metavar="FILE", help="COCO-format json with keypoints")
    add(
        "--results", metavar="FILE", help="COCO-format results, such as coco_instances_results.json"
    )
    add("--images", metavar="FOLDER", help="for pictures of worst and best (default: the run's)")
    add("--output", metavar="FOLDER", help="for errors.json and pictures (default: RUN/errors)")
    counted = (
        "with --annotations: detections of an image and a class that count (default: COCO's 20)"
    )
    add("--max-detections", type=int, metavar="N", help=counted)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    from hrnet_kpt.analysis.errors.report import write_error_report
    from hrnet_kpt.engine.setup import set_up_logging

    def work() -> int:
        set_up_logging()
        skipped = write_error_report(
            args.run, args.annotations, args.results, args.images, args.output, args.max_detections
        )
        return SKIPPED_SOME if skipped else 0

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
