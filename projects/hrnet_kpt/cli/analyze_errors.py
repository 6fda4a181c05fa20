"""Analyze keypoint errors: jitter, inversion, swap, miss, and the AP that each kind costs."""

from argparse import Namespace

from .parser import SKIPPED_SOME, Parser, run_command

TOOL = "tools/analyze_errors.py"
EXAMPLES = """
examples:
  %(prog)s --run output/demo
  %(prog)s --annotations person_keypoints_val2017.json --images val2017 \\
      --results coco_instances_results.json --output output/errors
"""


def parser(prog: str = TOOL) -> Parser:
    parser = Parser(__doc__, EXAMPLES, prog)
    add = parser.add_argument
    add("--run", metavar="FOLDER", help="an evaluated run; replaces --annotations and --results")
    add("--annotations", metavar="FILE", help="COCO-format json, or a folder with test.json")
    add("--results", metavar="FILE", help="COCO-format results: coco_instances_results.json")
    add("--images", metavar="FOLDER", help="for worst.png and best.png (default: the run's)")
    add("--output", metavar="FOLDER", help="for errors.json and plots (default: RUN/errors)")
    limit = "with --annotations: max detections of an image and a class (default: COCO's 20)"
    add("--max-detections", type=int, metavar="N", help=limit)
    return parser


def main(argv: list[str] | None = None, prog: str = TOOL) -> int:
    return run_command(parser(prog), argv, run)


def run(args: Namespace) -> int:
    from ..analysis.errors.report import write_error_report
    from ..data.formats.recognize import annotation_file
    from ..engine.setup import set_up_logging

    set_up_logging()
    truth = args.annotations and annotation_file(args.annotations, "test")
    skipped = write_error_report(
        args.run, truth, args.results, args.images, args.output, args.max_detections
    )
    return SKIPPED_SOME if skipped else 0
